//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/firmwaregrid"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/internal/varstore"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
)

var (
	recordAnswers = flag.String("record-answers", "", "write what firmware did with the grid of images to this `FILE`")
	recordShim    = flag.String("record-shim", "", "write what shim did with its grid of images to this `FILE`")
	askOnly       = flag.String("ask", "", "ask about the images of the grid whose names match this `REGEXP`")
	recordUpdates = flag.String("record-updates", "", "write what firmware did with the grid of updates to this `FILE`")
)

// firmwareMachines are machines with the builds of edk2 that are asked, each under the name of its
// row: Debian's of 2022.11 is that of a host with Debian 12.
func firmwareMachines(t *testing.T) map[secureboot.Firmware]*Machine {
	r := testtools.Forky(t)
	return map[secureboot.Firmware]*Machine{
		secureboot.FirmwareEDK2Stable202608: {Code: r.Path("usr/share/OVMF/OVMF_CODE_4M.secboot.fd"), Vars: r.Part(t, "ovmf-vars")},
		secureboot.FirmwareEDK2Stable202211: {},
	}
}

// nothingLeft is what firmware says once it has tried every boot entry.
const nothingLeft = "BdsDxe: No bootable option or device was found"

// secureBootCases are images that were judged wrongly once, by store: what each store's db and dbx
// have goes together with that of others.
var secureBootCases = map[string][]string{
	"firmware/VARS.fd.gz":         {"firmware/*.efi"},
	"dbx/budget/VARS.fd.gz":       {"dbx/budget/*.efi"},
	"dbx/twin/VARS.fd.gz":         {"dbx/twin/*.efi"},
	"certificates/v-grid.fd.gz":   {"certificates/l_unk.efi", "certificates/unkcrit.efi", "certificates/l_caunk.efi", "certificates/l_nc.efi"},
	"certificates/v-dbxneg.fd.gz": {"certificates/lneg.efi"},
}

// TestFirmwareImages asks both builds about images of the grid and about those that were judged
// wrongly once, in one boot each: package secureboot has to give the same answer, or say that it
// cannot tell. With OSMITH_LONG=1 it is the whole grid in two boots each, otherwise every fourth
// image: firmware tries each certificate in db for each image, so that time grows with the square.
func TestFirmwareImages(t *testing.T) {
	requireVM(t)
	t.Parallel()
	all := firmwaregrid.Images()
	var parts []*firmwaregrid.Grid
	part := func(keep func(i int, name string) bool) { parts = append(parts, all.Select(keep)) }
	switch {
	case *askOnly != "":
		re := regexp.MustCompile(*askOnly)
		part(func(_ int, name string) bool { return re.MatchString(name) })
	case os.Getenv("OSMITH_LONG") != "1":
		part(func(i int, _ string) bool { return i%4 == 2 })
	default: // the variables of all of them fill the store, and 2022.11 does not start then
		part(func(i int, _ string) bool { return i%2 == 0 })
		part(func(i int, _ string) bool { return i%2 == 1 })
	}
	recorded, err := all.Answers()
	require.NoError(t, err)
	answers := map[string]map[string]Outcome{}
	for i, g := range parts {
		for row, outcomes := range askImages(t, fmt.Sprint("firmware-images-", i+1), g) {
			if answers[row] == nil {
				answers[row] = map[string]Outcome{}
			}
			maps.Copy(answers[row], outcomes)
		}
	}
	if *recordAnswers != "" {
		var text strings.Builder
		for _, c := range all.Cases {
			fmt.Fprintf(&text, "%s %s", c.Name, c.Digest())
			for _, b := range firmwaregrid.Builds {
				answer := recorded[b][c.Name]
				if o, ok := answers[b][c.Name]; ok {
					answer = firmwaregrid.Answer(o.Started)
				}
				fmt.Fprintf(&text, " %v", answer)
			}
			text.WriteByte('\n')
		}
		require.NoError(t, os.WriteFile(*recordAnswers, []byte(text.String()), 0o644))
		return
	}
	for build, byName := range recorded {
		for name, answer := range byName {
			if o, ok := answers[build][name]; ok {
				require.Equal(t, bool(answer), o.Started, "%s: %s", build, name)
			}
		}
	}
}

// askImages boots each build once with the images of a grid and those that were judged wrongly
// once.
func askImages(t *testing.T, name string, g *firmwaregrid.Grid) map[string]map[string]Outcome {
	v := osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: g.Root, KEK: g.Root, DB: bytes.Clone(g.DB), DBX: bytes.Clone(g.DBX)}
	images := map[string][]byte{}
	var files []osmith.ESPFile
	var attempts []Attempt
	ask := func(name string, image []byte) {
		path := fmt.Sprintf("g/%03d.efi", len(files))
		files = append(files, osmith.ESPFile{Path: path, Content: bytes.NewReader(image)})
		attempts = append(attempts, Attempt{Name: name, Path: path})
		images[name] = image
	}
	for _, c := range g.Cases {
		ask(c.Name, c.Image)
	}
	const data = "../signing/secureboot/testdata"
	for store, patterns := range secureBootCases {
		s, err := secureboot.ParseStore(testtools.Gunzip(t, filepath.Join(data, store)))
		require.NoError(t, err)
		v.DB, v.DBX = append(v.DB, s.DB...), append(v.DBX, s.DBX...)
		for _, pattern := range patterns {
			found, err := filepath.Glob(filepath.Join(data, pattern))
			require.NoError(t, err)
			require.NotEmpty(t, found, pattern)
			for _, file := range found {
				b, err := os.ReadFile(file)
				require.NoError(t, err)
				name, err := filepath.Rel(data, file)
				require.NoError(t, err)
				ask(name, b)
			}
		}
	}
	answers := map[string]map[string]Outcome{}
	for row, m := range firmwareMachines(t) {
		m.Dir, m.Logs, m.StopAt, m.Deadline = t.TempDir(), logs(t), []string{nothingLeft}, 10*time.Minute
		require.NoError(t, m.Attempts(v, files, attempts))
		outcomes := boot(t, m, name+"-"+string(row), Stopped).Outcomes(attempts)
		answers[string(row)] = outcomes
		open := 0
		for name, image := range images {
			o, ok := outcomes[name]
			require.True(t, ok, "%s: no answer about %s", row, name)
			im, err := secureboot.ReadImage(bytes.NewReader(image))
			require.NoError(t, err, name)
			verdict := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Firmware: row})
			switch {
			case verdict.Unknown:
				open++
			case verdict.Allowed != o.Started && len(verdict.Warnings) == 0:
				// a warning says that firmware may start what dbx revokes
				t.Errorf("%s: %s: started %v (%s), verdict %v: %s", row, name, o.Started, o.Status, verdict.Allowed, verdict.Reason)
			}
		}
		t.Logf("%s: %d images, %d of which cannot be told", row, len(images), open)
	}
	return answers
}

// TestFirmwareUpdates hands both builds the updates of the grid, one after the other, from a
// running system: package secureboot has to say the same of each, and to know what is in the
// variables afterwards.
func TestFirmwareUpdates(t *testing.T) {
	requireVM(t)
	t.Parallel()
	u := firmwaregrid.VariableUpdates()
	recorded, err := u.Answers()
	require.NoError(t, err)
	answers := map[string][]firmwaregrid.Answer{}
	for row, m := range firmwareMachines(t) {
		s := newSystem(t, testtools.Forky(t))
		s.Machine.Code, s.Machine.Vars = m.Code, m.Vars
		image, err := s.UKI("1", uki.Image{Cmdline: "osmith.writes=writes"})
		require.NoError(t, err)
		files := []osmith.ESPFile{{Path: "EFI/Linux/acme_1.efi", Content: bytes.NewReader(image)}}
		for i, w := range u.Writes {
			data := append(binary.LittleEndian.AppendUint32(nil, w.Attributes), w.Data...)
			files = append(files, osmith.ESPFile{Path: fmt.Sprintf("writes/%03d-%s", i, w.Variable), Content: bytes.NewReader(data)})
		}
		require.NoError(t, s.WriteESP(bootloader.Config{}, files...))
		db, err := secureboot.AppendSignatureLists(nil, secureboot.CertificateList(osmith.GUID{}, s.Builder.Keys.SecureBoot.DB.Cert))
		require.NoError(t, err)
		v := osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: u.PK, KEK: u.KEK, DB: append(db, u.DB...)}
		require.NoError(t, s.Machine.SetVariables(v))
		store, err := os.ReadFile(s.Machine.varsFile())
		require.NoError(t, err)
		v, err = secureboot.ParseStore(store) // with times
		require.NoError(t, err)
		b := boot(t, s.Machine, "firmware-updates-"+string(row), Reported)
		require.Len(t, b.Report.Writes, len(u.Writes))
		now := variableSums(v)
		for i, w := range u.Writes {
			got := b.Report.Writes[i]
			answers[string(row)] = append(answers[string(row)], firmwaregrid.Answer(got.Error == ""))
			for name, sum := range got.Changed {
				switch {
				case name == "SecureBoot":
				case sum == "":
					delete(now, name)
				default:
					now[name] = sum
				}
			}
			if w.Attributes&^0x40 != 0x27 {
				// which Pending cannot say: it always asks for what key variables have
				require.NotEmpty(t, got.Error, "%s: %s", row, w.Name)
				require.Empty(t, got.Changed)
				continue
			}
			a, err := secureboot.ApplyWith(v, secureboot.Pending{Variable: w.Variable, Auth: w.Data, Append: w.Attributes&0x40 != 0}, secureboot.ApplyOptions{Firmware: row})
			var refused *secureboot.RefusedError
			switch {
			case errors.As(err, &refused) && refused.Unknown:
				t.Logf("%s: %s: cannot be told; firmware: %q", row, w.Name, got.Error)
				require.NotEmpty(t, got.Error, "what cannot be told, and is taken, ends the comparison")
				continue
			case (err == nil) != (got.Error == ""):
				t.Errorf("%s: write %d, %s: %v; firmware: %q %v", row, i, w.Name, err, got.Error, slices.Sorted(maps.Keys(got.Changed)))
				continue
			case err == nil:
				v = a.Variables
			}
			if want := variableSums(v); !maps.Equal(want, now) {
				t.Errorf("%s: write %d, %s: the variables are\n%v, want\n%v", row, i, w.Name, now, want)
			}
		}
	}
	if *recordUpdates != "" {
		var text strings.Builder
		for i, w := range u.Writes {
			fmt.Fprintf(&text, "%s %s", strings.ReplaceAll(w.Name, " ", "-"), u.Digest(i))
			for _, b := range firmwaregrid.Builds {
				fmt.Fprintf(&text, " %s", map[firmwaregrid.Answer]string{true: "taken", false: "refused"}[answers[b][i]])
			}
			text.WriteByte('\n')
		}
		require.NoError(t, os.WriteFile(*recordUpdates, []byte(text.String()), 0o644))
		return
	}
	require.Equal(t, recorded, answers)
}

// perShimBoot is how many images one boot has shim start: firmware was seen to reset after the
// sixteenth.
const perShimBoot = 14

// TestShim has Debian's shim start images, one after the other, each by a boot entry with the image
// as load options: package secureboot has to give the same answer, or say that it cannot tell. A
// refusal takes shim some seconds, so that there is one boot of them without OSMITH_LONG=1.
func TestShim(t *testing.T) {
	requireVM(t)
	t.Parallel()
	r := testtools.Trixie(t)
	file, err := os.ReadFile(r.Path("opt/signed/usr/lib/shim/shimx64.efi.signed"))
	require.NoError(t, err)
	shim, err := secureboot.ReadShim(bytes.NewReader(file))
	require.NoError(t, err)
	g := firmwaregrid.Shim()
	allowed, err := secureboot.DigestList(osmith.GUID{}, crypto.SHA256, shim.Image.Digests[crypto.SHA256])
	require.NoError(t, err)
	db, err := secureboot.AppendSignatureLists(bytes.Clone(g.DB), allowed)
	require.NoError(t, err)
	root := firmwaregrid.Images().Root
	v := osmith.FirmwareVariables{
		SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: root, KEK: root, DB: db, DBX: g.DBX, MokList: g.MokList, MokListX: g.MokListX, SbatLevel: []byte(g.Level),
		SbatPolicy: []byte{}, MokSBState: []byte{}, MokDBState: []byte{}, MokPolicy: []byte{}, MokListTrustedRT: []byte{},
	}
	only := regexp.MustCompile(*askOnly)
	var ask []firmwaregrid.Case
	for i, c := range g.Cases {
		sampled := *askOnly != "" || os.Getenv("OSMITH_LONG") == "1" || i%(len(g.Cases)/perShimBoot+1) == 0
		if sampled && only.MatchString(c.Name) {
			ask = append(ask, c)
		}
	}
	recorded, err := g.Answers()
	require.NoError(t, err)
	text := "state " + g.State() + "\n"
	open := 0
	for cases := range slices.Chunk(ask, perShimBoot) {
		m := &Machine{
			Code: r.Path("usr/share/OVMF/OVMF_CODE_4M.secboot.fd"), Vars: r.Part(t, "ovmf-vars"), Dir: t.TempDir(), Logs: logs(t),
			StopAt: []string{nothingLeft}, EnterAt: " OK ", Deadline: 5 * time.Minute,
		}
		outcomes := throughShim(t, m, file, v, cases)
		for _, c := range cases {
			o, ok := outcomes[c.Name]
			require.True(t, ok, "no answer about %s", c.Name)
			im, err := secureboot.ReadImage(bytes.NewReader(c.Image))
			require.NoError(t, err, c.Name)
			verdict := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Shim: shim})
			ran := o.Status == "Aborted" // what the images say
			text += fmt.Sprintf("%s %s %v\n", c.Name, c.Digest(), firmwaregrid.Answer(ran))
			if answer, ok := recorded[c.Name]; *recordShim == "" {
				require.True(t, ok, "no answer about %s is recorded", c.Name)
				require.Equal(t, bool(answer), ran, "%s: %s", c.Name, o.Status)
			}
			switch {
			case verdict.Unknown:
				open++
				t.Logf("%s: %s; shim: %s", c.Name, verdict.Reason, o.Status)
			case verdict.Allowed != ran && len(verdict.Warnings) == 0:
				t.Errorf("%s: %s, verdict %v: %s", c.Name, o.Status, verdict.Allowed, verdict.Reason)
			}
		}
	}
	t.Logf("%d images, %d of which cannot be told", len(ask), open)
	if *recordShim != "" {
		require.NoError(t, os.WriteFile(*recordShim, []byte(text), 0o644))
	}
}

// throughShim boots a machine that has shim start each of these images.
func throughShim(t *testing.T, m *Machine, shim []byte, v osmith.FirmwareVariables, cases []firmwaregrid.Case) map[string]Outcome {
	const dir = "EFI/acme/"
	files := []osmith.ESPFile{{Path: dir + "shimx64.efi", Content: bytes.NewReader(shim)}}
	var attempts []Attempt
	for i, c := range cases {
		path := fmt.Sprintf("%s%03d.efi", dir, i)
		files = append(files, osmith.ESPFile{Path: path, Content: bytes.NewReader(c.Image)})
		attempts = append(attempts, Attempt{Name: c.Name, Path: dir + "shimx64.efi", Options: ucs2(`\` + strings.ReplaceAll(path, "/", `\`))})
	}
	var private []varstore.Variable
	for name, data := range map[string][]byte{"MokList": v.MokList, "MokListX": v.MokListX, "SbatLevel": v.SbatLevel} {
		private = append(private, varstore.Variable{Name: name, Vendor: efi.ShimLock, Attributes: 3, Data: data})
	}
	require.NoError(t, m.Attempts(v, files, attempts, private...))
	return boot(t, m, "shim-"+strings.TrimPrefix(cases[0].Name, "shim-"), Stopped).Outcomes(attempts)
}

// variableSums are what the guest reports of variables that exist, but for SecureBoot, which
// follows at the next start.
func variableSums(v osmith.FirmwareVariables) map[string]string {
	out := map[string]string{}
	for name, data := range map[string][]byte{"SetupMode": v.SetupMode, "PK": v.PK, "KEK": v.KEK, "db": v.DB, "dbx": v.DBX, "dbt": v.DBT, "dbr": v.DBR} {
		if len(data) > 0 {
			sum := sha256.Sum256(data)
			out[name] = hex.EncodeToString(sum[:])
		}
	}
	return out
}
