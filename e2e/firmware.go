//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/varstore"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// An Attempt is a program that firmware is asked to start, by a boot entry with load options.
type Attempt struct {
	Name    string // for the test; in the variables, where room is short, the entry has its number
	Path    string // on the ESP
	Options []byte
}

// attemptsSeed and attemptsTime are for what has to be some number, and the same each time.
var (
	attemptsSeed = [16]byte{'a', 't', 't', 'e', 'm', 'p', 't', 's'}
	attemptsTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Attempts makes a machine that tries programs one after the other, whether they start or not, with
// these Secure Boot variables, and others: its disk has the files, its variables a boot entry for
// each attempt. The programs return an error when they run.
func (m *Machine) Attempts(v osmith.FirmwareVariables, files []osmith.ESPFile, attempts []Attempt, more ...varstore.Variable) error {
	m.Disk, m.BootVariables = filepath.Join(m.Dir, "attempts.img"), true
	image, err := writeESP(m.Disk, files, attemptsSeed, attemptsTime)
	if err != nil {
		return err
	}
	var order []byte
	entry := func(name string, data []byte) {
		const attributes = 0x07 // non-volatile, in boot services and at runtime
		more = append(more, varstore.Variable{Name: name, Vendor: efi.GlobalVariable, Attributes: attributes, Data: data})
	}
	for i, a := range attempts {
		entry(fmt.Sprintf("Boot%04X", i+1), loadOption(i, a, image.Table.Partitions[0]))
		order = binary.LittleEndian.AppendUint16(order, uint16(i+1))
	}
	entry("BootOrder", order)
	return m.SetVariables(v, more...)
}

// SetVariables gives a machine that has not been booted these Secure Boot variables, and others
// beside them. Machine.Vars is the store to begin with.
func (m *Machine) SetVariables(v osmith.FirmwareVariables, more ...varstore.Variable) error {
	store, err := os.ReadFile(or(m.Vars, hostVars))
	if err != nil {
		return err
	}
	if store, err = secureboot.WriteStore(store, v, attemptsTime); err != nil {
		return err
	}
	s, err := varstore.Parse(store)
	if err != nil {
		return err
	}
	if store, err = s.Replace(append(slices.Clone(s.Variables), more...)); err != nil {
		return err
	}
	return os.WriteFile(m.varsFile(), store, 0o600)
}

// loadOption is EFI_LOAD_OPTION (UEFI Specification 2.10, section 3.1.3) with the short form of a
// path: hard drive and file.
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

// attemptRE finds what BDS says of an entry: it could not load it, or it could not start it, since
// it returned.
var attemptRE = regexp.MustCompile(`BdsDxe: failed to (load|start) Boot[0-9A-F]{4} "([^"]*)" from [^\n]*?: ([A-Za-z ]+)`)

// Outcome is what became of an attempt.
type Outcome struct {
	Started bool
	Status  string // EFI_STATUS in words
}

// Outcomes reads what became of the attempts of a boot, by name. One that firmware did not come to
// is not there.
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
