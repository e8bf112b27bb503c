//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/varstore"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// An Attempt is a program that firmware is asked to start, by a boot entry with load options.
type Attempt struct {
	Name    string // for the test; in the variables, where room is short, the entry has its number
	Path    string // on the ESP
	Options []byte
}

// attemptsSeed is for what has to be some number, and the same each time.
var attemptsSeed = osmith.MustParseGUID("6f736d69-7468-4669-8c6d-776172650001")

// Attempts makes a machine that tries programs one after the other, whether they start or not, with these Secure Boot variables: its disk has the
// files, its variables a boot entry for each attempt. The programs return an error when they run. Machine.Vars is the store to begin with.
func (m *Machine) Attempts(v osmith.FirmwareVariables, files []osmith.ESPFile, attempts []Attempt) error {
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return err
	}
	image, err := planESP(files)
	if err != nil {
		return err
	}
	m.Disk, m.BootVariables = filepath.Join(m.Dir, "attempts.img"), true
	disk, err := acmeos.CreateImage(m.Disk, image.Size)
	if err != nil {
		return err
	}
	err = partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true})
	if err := errors.Join(err, disk.Close()); err != nil {
		return err
	}
	blank, err := os.ReadFile(or(m.Vars, hostVars))
	if err != nil {
		return err
	}
	store, err := secureboot.WriteStore(blank, v, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		return err
	}
	s, err := varstore.Parse(store)
	if err != nil {
		return err
	}
	all := append(slices.Clone(s.Variables), m.Private...)
	var order []byte
	const attributes = 0x07 // non-volatile, in boot services and at runtime
	for i, a := range attempts {
		option := loadOption(i, a, image.Table.Partitions[0])
		all = append(all, varstore.Variable{Name: fmt.Sprintf("Boot%04X", i+1), Vendor: efi.GlobalVariable, Attributes: attributes, Data: option})
		order = binary.LittleEndian.AppendUint16(order, uint16(i+1))
	}
	all = append(all, varstore.Variable{Name: "BootOrder", Vendor: efi.GlobalVariable, Attributes: attributes, Data: order})
	if store, err = s.Replace(all); err != nil {
		return err
	}
	return os.WriteFile(m.varsFile(), store, 0o600)
}

// planESP is a disk with nothing but an ESP of these files.
func planESP(files []osmith.ESPFile) (*partition.Image, error) {
	options := fat.BuildOptions{Kind: 32, Label: "ESP", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	need, err := fat.MinSize(files, options)
	if err != nil {
		return nil, err
	}
	options.Size = (need>>20 + 2) << 20
	esp, err := fat.Plan(files, options)
	if err != nil {
		return nil, err
	}
	return partition.Plan(partition.Layout{DiskID: partition.SeedDiskID(attemptsSeed), Partitions: []partition.Spec{
		{Type: partition.ESP, ID: partition.SeedPartitionID(attemptsSeed, partition.ESP, 0), Name: "esp", Content: esp},
	}})
}

// loadOption is EFI_LOAD_OPTION (UEFI Specification 2.10, section 3.1.3) with the short form of a path: hard drive and file.
func loadOption(number int, a Attempt, p partition.Partition) []byte {
	le := binary.LittleEndian
	drive := []byte{4, 1, 42, 0}
	drive = le.AppendUint32(drive, 1)
	drive = le.AppendUint64(drive, p.FirstLBA)
	drive = le.AppendUint64(drive, p.LastLBA-p.FirstLBA+1)
	drive = append(efi.AppendGUID(drive, p.ID), 2, 2)
	name := ucs2(`\` + strings.ReplaceAll(a.Path, "/", `\`))
	file := append(le.AppendUint16([]byte{4, 4}, uint16(4+len(name))), name...)
	path := slices.Concat(drive, file, []byte{0x7f, 0xff, 4, 0})
	b := le.AppendUint32(nil, 1)
	b = le.AppendUint16(b, uint16(len(path)))
	b = append(b, ucs2(title(number))...)
	return slices.Concat(b, path, a.Options)
}

func title(number int) string { return fmt.Sprintf("%03d", number) }

// ucs2 is text with its NUL.
func ucs2(s string) (b []byte) {
	for _, c := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

// attemptRE finds what BDS says of an entry: it could not load it, or it could not start it, since it returned.
var attemptRE = regexp.MustCompile(`BdsDxe: failed to (load|start) Boot[0-9A-F]{4} "([^"]*)" from [^\n]*?: ([A-Za-z ]+)`)

// Outcome is what became of an attempt.
type Outcome struct {
	Started bool
	Status  string // EFI_STATUS in words
}

// Outcomes reads what became of the attempts of a boot, by name. One that firmware did not come to is not there.
func (b *Boot) Outcomes(attempts []Attempt) map[string]Outcome {
	text := controlRE.ReplaceAll(bytes.ReplaceAll([]byte(b.Serial), []byte("\r"), nil), nil)
	out := map[string]Outcome{}
	names := map[string]string{}
	for i, a := range attempts {
		names[title(i)] = a.Name
	}
	for _, f := range attemptRE.FindAllSubmatch(text, -1) {
		out[names[string(f[2])]] = Outcome{string(f[1]) == "start", strings.TrimSpace(string(f[3]))}
	}
	return out
}
