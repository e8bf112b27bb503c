package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/stretchr/testify/require"
)

// authorize gives all programs of a boot that entry of db as what lets them start.
func (b *Boot) authorize(entry []byte) {
	for _, a := range b.applications() {
		a.Authority = variableData(imageSecurityDatabase, "db", entry)
	}
}

// loader is the systemd-boot of a boot, a copy that can be changed.
func (b *Boot) loader() *SystemdBoot {
	s := *b.systemdBoot()
	b.Chain = []Program{&s}
	return &s
}

// chainVector is a real boot of testdata/boot-shim: what went into it, and what came out.
type chainVector struct {
	name string
	log  *Log
	pcrs map[int][]byte // sha256, at the start of the initrd
	boot Boot           // as the inputs tell
}

type chainInputs struct {
	Chain []struct {
		Kind, Authenticode, File string
		Size                     int64
	}
	Initrd   string
	Sections [][]any
}

func sumOf(t *testing.T, s string) map[crypto.Hash][]byte {
	t.Helper()
	return map[crypto.Hash][]byte{crypto.SHA256: unhex(t, s)}
}

// chainVectors loads the boots through shim, and one on 64-bit ARM without.
func chainVectors(t *testing.T) []chainVector {
	t.Helper()
	dirs, err := filepath.Glob("testdata/boot-shim/[as][0-9]-*")
	require.NoError(t, err)
	require.Len(t, dirs, 8)
	var out []chainVector
	for _, dir := range dirs {
		v := chainVector{name: filepath.Base(dir), pcrs: map[int][]byte{}}
		v.log, err = ParseLog(read(t, dir, "binary_bios_measurements"))
		require.NoError(t, err)
		var pcrs map[string]map[string]string
		require.NoError(t, json.Unmarshal(read(t, dir, "pcrs-initrd.json"), &pcrs))
		for n, value := range pcrs["sha256"] {
			i, err := strconv.Atoi(n)
			require.NoError(t, err)
			v.pcrs[i] = unhex(t, value)
		}
		v.boot = chainBoot(t, dir)
		out = append(out, v)
	}
	return out
}

func chainBoot(t *testing.T, dir string) Boot {
	t.Helper()
	var in chainInputs
	require.NoError(t, json.Unmarshal(read(t, dir, "inputs.json"), &in))
	b := Boot{
		Banks: []crypto.Hash{crypto.SHA256}, Variables: sigdb(t, dir), SMBIOS: read(t, dir, "DMI"), ExitBoot: ExitBootRetried, Stub: "262",
		GPT: &PartitionTable{Header: read(t, dir, "gpt-header.bin"), Entries: read(t, dir, "gpt-entries.bin")},
	}
	variable := func(name string) []byte { return read(t, dir, "sigdb", name+"-"+globalVariable.String())[4:] }
	order := variable("BootOrder")
	b.BootVariables = []BootVariable{{"BootOrder", order}}
	for i := 0; i < len(order); i += 2 {
		name := fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(order[i:]))
		b.BootVariables = append(b.BootVariables, BootVariable{name, variable(name)})
	}
	cmdline := strings.TrimSuffix(string(read(t, dir, "cmdline")), "\n")
	b.Handover = &osmith.Handover{LoadOptions: loadOptions(cmdline)}
	for _, p := range in.Chain {
		a := Application{Path: p.Kind, Size: p.Size, Digests: sumOf(t, p.Authenticode)}
		switch p.Kind {
		case "shim":
			b.Chain = append(b.Chain, &Shim{a, shimVariables(t, dir)})
		case "systemd-boot":
			b.Chain = append(b.Chain, &SystemdBoot{Application: a, Conf: read(t, dir, "inputs/loader.conf"), Version: "262"})
		case "grub":
			files := []GRUBFile{{"/vmlinuz", sumOf(t, in.Chain[2].File)}, {"/initrd.img", sumOf(t, in.Initrd)}}
			for _, name := range []string{"EFI/debian/grub.cfg", "boot/grub/grub.cfg", "boot/grub/custom.cfg"} {
				if content, err := os.ReadFile(filepath.Join(dir, "inputs", name)); err == nil {
					files = append(files, GRUBFile{"(hd0,gpt1)/" + name, map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, content)}})
				}
			}
			b.Chain = append(b.Chain, &GRUB{Application: a, Files: files})
		case "kernel":
			b.Kernel = &a
			b.Handover.Passed, b.Handover.Initrd = cmdline, sumOf(t, in.Initrd)
		case "uki":
			b.UKI = a
			b.Sections = chainSections(t, in.Sections)
		}
	}
	chainAuthorities(t, dir, &b)
	return b
}

func chainSections(t *testing.T, in [][]any) (out []osmith.Measurement) {
	t.Helper()
	for _, s := range sdstub.Sections() {
		for _, have := range in {
			if have[0] == s.Name {
				out = append(out, osmith.Measurement{Section: s.Name, Size: int64(have[1].(float64)), Digests: sumOf(t, have[2].(string))})
			}
		}
	}
	return out
}

// shimVariables works out what shim measures, from its own sections.
func shimVariables(t *testing.T, dir string) osmith.ShimVariables {
	t.Helper()
	section := read(t, dir, "inputs/shim.vendor_cert")
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(section[4*i:]) }
	certificate, denied := section[word(2):word(2)+word(0)], section[word(3):word(3)+word(1)]
	list := append(efi.AppendGUID(nil, osmith.MustParseGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")), make([]byte, 12)...)
	binary.LittleEndian.PutUint32(list[16:], uint32(28+16+len(certificate)))
	binary.LittleEndian.PutUint32(list[24:], uint32(16+len(certificate)))
	list = append(efi.AppendGUID(list, efi.ShimLock), certificate...)
	if mok, err := os.ReadFile(filepath.Join(dir, "inputs/MokList")); err == nil {
		list = append(list, mok...)
	}
	levels := read(t, dir, "inputs/shim.sbatlevel")
	level, _, _ := bytes.Cut(levels[4+binary.LittleEndian.Uint32(levels[4:]):], []byte{0})
	return osmith.ShimVariables{MokList: list, MokListX: denied, SbatLevel: level, MokSBState: []byte{}, MokListTrusted: []byte{1}, MokPolicy: []byte{}}
}

// chainAuthorities says which certificate lets each program start: Microsoft's shim, the
// laboratory's what it signed, and shim's own what Debian signed. With s4 the laboratory's is not
// in db, but the owner's in MokList.
func chainAuthorities(t *testing.T, dir string, b *Boot) {
	t.Helper()
	db := func(subject string) []byte {
		entries, ok := signatureEntries(b.Variables.DB)
		require.True(t, ok)
		for _, e := range entries {
			if strings.Contains(e.data, subject) {
				return variableData(imageSecurityDatabase, "db", []byte(e.data))
			}
		}
		return nil
	}
	lab := db("bootlab db")
	if mok, err := os.ReadFile(filepath.Join(dir, "inputs/MokList")); err == nil {
		require.Nil(t, lab)
		lab = variableData(efi.ShimLock, "MokListRT", mok[28:])
	}
	debian := variableData(efi.ShimLock, "MokListRT", append(efi.AppendGUID(nil, efi.ShimLock), read(t, "testdata/boot-shim/debian-secure-boot-ca.der")...))
	for _, a := range b.applications() {
		switch {
		case a.Path == "shim":
			a.Authority = db("Microsoft Corporation UEFI CA 2011")
		case a.Path == "grub" || a.Path == "kernel":
			a.Authority = debian
		default:
			a.Authority = lab
		}
		require.NotNil(t, a.Authority, a.Path)
	}
}

// Each boot is predicted from its inputs alone, and with the log of each other boot of such a
// machine: what is claimed is what the TPM had.
func TestPredictChains(t *testing.T) {
	vectors := chainVectors(t)
	arm := func(v chainVector) bool { return strings.HasPrefix(v.name, "a1") }
	for _, v := range vectors {
		shim := v.boot.shim() != nil
		_, err := Predict(v.boot)
		require.NoError(t, err, v.name)
		for _, other := range append([]chainVector{{}}, vectors...) {
			if other.log != nil && arm(other) != arm(v) {
				continue
			}
			b := v.boot
			b.Firmware = other.log
			name := fmt.Sprintf("%s after %q", v.name, other.name)
			log, err := Predict(b)
			require.NoError(t, err, name)
			claimed := map[int][]byte{}
			for _, c := range log.Coverage {
				if c.Prediction.known() {
					claimed[c.PCR] = v.pcrs[c.PCR]
				}
			}
			require.NoError(t, log.Verify(crypto.SHA256, claimed), name)

			// And these are claimed: all of them if the earlier boot went through GRUB as this one,
			// or neither did.
			grub := other.boot.grub() != nil
			want := []int{11, 13, 15}
			if other.log != nil {
				want = append(want, 0, 1, 2, 3, 6)
			}
			if grub == (b.grub() != nil) || other.log == nil {
				want = append(want, 5, 12)
				if !other.boot.bareKernel() || len(other.boot.Chain) == len(b.Chain) {
					// without a stub, its log does not tell a boot loader from a kernel
					want = append(want, 4, 7)
				}
				if b.grub() == nil {
					want = append(want, 8)
				}
				if shim {
					want = append(want, 14)
				}
			}
			if b.bareKernel() && b.grub() == nil && !grub || b.grub() != nil && other.name == v.name {
				want = append(want, 8, 9)
			}
			for _, n := range want {
				require.Contains(t, claimed, n, "%s: %v", name, log.Coverage[n])
			}
		}
	}
}

// GRUB's part is expected again only if it reads the same files.
func TestPredictGRUBFiles(t *testing.T) {
	for _, v := range chainVectors(t) {
		g := v.boot.grub()
		if g == nil {
			continue
		}
		b := v.boot
		b.Firmware = v.log
		predict := func(files []GRUBFile) *Log {
			changed := *g
			changed.Files = files
			b.Chain = []Program{b.Chain[0], &changed}
			log, err := Predict(b)
			require.NoError(t, err)
			return log
		}
		for i := range g.Files {
			other := slices.Clone(g.Files)
			other[i].Digests = sumOf(t, strings.Repeat("00", 32))
			log := predict(other)
			for _, n := range []int{8, 9} {
				require.Equal(t, PredictionNone, log.Coverage[n].Prediction, "%s %s", v.name, g.Files[i].Name)
				require.Contains(t, log.Coverage[n].Note, g.Files[i].Name)
			}
			require.True(t, log.Coverage[4].Prediction.known())
			other[i].Digests = nil
			require.Equal(t, PredictionNone, predict(other).Coverage[8].Prediction)
			require.Equal(t, PredictionNone, predict(slices.Delete(slices.Clone(g.Files), i, i+1)).Coverage[9].Prediction)
		}
		image := bootVectors(t)[0].boot // the same files, and not the kernel among them is started
		kernel, handover := b.Kernel, b.Handover
		b.Kernel, b.Handover, b.UKI, b.Sections = nil, image.Handover, image.UKI, image.Sections
		b.UKI.Authority = kernel.Authority
		other := predict(g.Files)
		require.Contains(t, other.Coverage[8].Note, "started a kernel in one of the two boots")
		require.Equal(t, []Prediction{PredictionNone, PredictionNone}, []Prediction{other.Coverage[8].Prediction, other.Coverage[9].Prediction})
		b.Kernel, b.Handover, b.UKI, b.Sections = kernel, handover, Application{}, nil

		b.Firmware = nil
		log := predict(g.Files)
		require.Equal(t, PredictionNone, log.Coverage[8].Prediction)
		require.Contains(t, log.Coverage[8].Note, "whose log is not given")
		v.log.Events = slices.DeleteFunc(v.log.Events, func(e Event) bool { return e.PCR == 9 && e.Type == EventIPL })
		b.Firmware = v.log
		require.Contains(t, predict(g.Files).Coverage[8].Note, "measured no file")
	}
}

// What shim measures and is not known takes its PCR out of the claim; MokSBState decides whether
// anything is verified behind shim.
func TestPredictShimVariables(t *testing.T) {
	v := chainVectors(t)
	i := slices.IndexFunc(v, func(v chainVector) bool { return v.name == "s1-shim-sdboot" })
	for name, c := range map[string]struct {
		change func(s *osmith.ShimVariables)
		want   []int
	}{
		"all known":             {func(*osmith.ShimVariables) {}, nil},
		"MokList":               {func(s *osmith.ShimVariables) { s.MokList = nil }, []int{14}},
		"MokListX":              {func(s *osmith.ShimVariables) { s.MokListX = nil }, []int{14}},
		"MokSBState":            {func(s *osmith.ShimVariables) { s.MokSBState = nil }, []int{7, 14}},
		"SbatLevel":             {func(s *osmith.ShimVariables) { s.SbatLevel = nil }, []int{7}},
		"MokListTrusted":        {func(s *osmith.ShimVariables) { s.MokListTrusted = nil }, []int{14}},
		"MokPolicy":             {func(s *osmith.ShimVariables) { s.MokPolicy = nil }, []int{14}},
		"empty MokList":         {func(s *osmith.ShimVariables) { s.MokList = []byte{} }, []int{14}},
		"empty MokListX":        {func(s *osmith.ShimVariables) { s.MokListX = []byte{} }, []int{14}},
		"empty SbatLevel":       {func(s *osmith.ShimVariables) { s.SbatLevel = []byte{} }, []int{7}},
		"MokSBState that is 0":  {func(s *osmith.ShimVariables) { s.MokSBState = []byte{0} }, nil},
		"MokSBState that is 1":  {func(s *osmith.ShimVariables) { s.MokSBState = []byte{1} }, nil},
		"with a MokPolicy":      {func(s *osmith.ShimVariables) { s.MokPolicy = []byte{1} }, nil},
		"with a MokListTrusted": {func(s *osmith.ShimVariables) { s.MokListTrusted = []byte{} }, nil},
	} {
		b := v[i].boot
		shim := *b.shim()
		c.change(&shim.Variables)
		b.Chain = append([]Program{&shim}, b.Chain[1:]...)
		log, err := Predict(b)
		require.NoError(t, err)
		var got []int
		for _, n := range []int{4, 5, 7, 8, 11, 12, 13, 14, 15} {
			if !log.Coverage[n].Prediction.known() {
				got = append(got, n)
			}
		}
		require.Equal(t, c.want, got, name)
		var sevens, fourteens []string
		for _, e := range log.Events {
			switch {
			case e.PCR == 7 && e.Type == EventEFIVariableAuthority:
				sevens = append(sevens, e.Subject.Name)
			case e.PCR == 14:
				fourteens = append(fourteens, e.Subject.Name)
			}
		}
		switch name {
		case "MokSBState that is 0":
			require.Equal(t, []string{"db", "MokSBState", "SbatLevel", "db"}, sevens)
			require.Equal(t, []string{"MokList", "MokListX", "MokSBState", "MokListTrusted"}, fourteens)
		case "MokSBState that is 1":
			require.Equal(t, []string{"db", "MokSBState", "SbatLevel"}, sevens)
		case "with a MokPolicy":
			require.Equal(t, []string{"MokList", "MokListX", "MokListTrusted", "MokPolicy"}, fourteens)
		case "with a MokListTrusted":
			require.Equal(t, []string{"MokList", "MokListX"}, fourteens)
		}
	}
	// Shim does not know what firmware has measured: the same certificate is measured by both.
	b := v[i].boot
	shim := *b.shim()
	shim.Authority = b.UKI.Authority
	b.Chain = append([]Program{&shim}, b.Chain[1:]...)
	log, err := Predict(b)
	require.NoError(t, err)
	require.Len(t, slices.DeleteFunc(log.of(7), func(e *Event) bool { return !bytes.Equal(e.Data, b.UKI.Authority) }), 2)

	// An authority that is not given is not guessed.
	b = v[i].boot
	b.UKI.Authority = nil
	log, err = Predict(b)
	require.NoError(t, err)
	require.Contains(t, log.Coverage[7].Note, "what lets uki start")
}

// A program of which nothing is known takes with it what it may measure into.
func TestPredictOtherProgram(t *testing.T) {
	b := bootVectors(t)[0].boot
	other := &OtherProgram{Application: b.UKI}
	b.Chain = []Program{other}
	log, err := Predict(b)
	require.NoError(t, err)
	for _, c := range log.Coverage {
		require.Equal(t, PredictionNone, c.Prediction, c)
	}
	other.Extends = []int{12, 8}
	log, err = Predict(b)
	require.NoError(t, err)
	for _, n := range []int{4, 7, 11, 13, 14} {
		require.True(t, log.Coverage[n].Prediction.known(), log.Coverage[n])
	}
	require.Contains(t, log.Coverage[12].Note, "measures into this PCR")
	require.Equal(t, PredictionNone, log.Coverage[8].Prediction)
	other.Extends = []int{}
	log, err = Predict(b)
	require.NoError(t, err)
	require.True(t, log.Coverage[12].Prediction.known())
}

// What package bootloader/grub works out takes the place of what an earlier boot had.
func TestPredictGRUBEvents(t *testing.T) {
	for _, v := range chainVectors(t) {
		g := v.boot.grub()
		if g == nil {
			continue
		}
		base, err := readBaseline(v.log, []crypto.Hash{crypto.SHA256})
		require.NoError(t, err)
		event := func(e Event) osmith.GRUBEvent { return osmith.GRUBEvent{PCR: e.PCR, Data: e.Data, Digests: e.Digests} }
		worked := &GRUB{Application: g.Application}
		for _, e := range base.grub {
			worked.Before = append(worked.Before, event(e))
		}
		h := *v.boot.Handover
		for _, e := range base.grubEnd {
			if e.Type == EventIPL {
				worked.After = append(worked.After, event(e))
			}
		}
		b := v.boot
		b.Chain, b.Handover = []Program{b.Chain[0], worked}, &h
		log, err := Predict(b)
		require.NoError(t, err)
		claimed := map[int][]byte{}
		for _, n := range []int{4, 5, 7, 8, 9, 14} {
			require.Equal(t, PredictionExact, log.Coverage[n].Prediction, log.Coverage[n])
			claimed[n] = v.pcrs[n]
		}
		require.NoError(t, log.Verify(crypto.SHA256, claimed), v.name)

		h.Initrd = nil
		log, err = Predict(b)
		require.NoError(t, err)
		require.Equal(t, PredictionNone, log.Coverage[9].Prediction)
		worked.Before[0].PCR = 7
		_, err = Predict(b)
		require.ErrorContains(t, err, "into PCR 7: want 8 or 9")
		worked.Before[0].PCR, worked.Before[0].Digests = 8, nil
		_, err = Predict(b)
		require.ErrorIs(t, err, ErrBank)
		worked.Before = nil
		_, err = Predict(b)
		require.ErrorContains(t, err, "what GRUB measures after it starts the kernel is given, but not what it measures before")
	}
}

// What GRUB measures behind the load of a UKI counts, too: the command boot.
func TestPredictGRUBStartsUKI(t *testing.T) {
	b := bootVectors(t)[0].boot
	event := func(text string) osmith.GRUBEvent {
		return osmith.GRUBEvent{PCR: 8, Data: []byte("grub_cmd: " + text), Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte(text))}}
	}
	b.Chain = []Program{&GRUB{Application: b.UKI, Before: []osmith.GRUBEvent{event("chainloader /uki.efi")}, After: []osmith.GRUBEvent{event("boot")}}}
	log, err := Predict(b)
	require.NoError(t, err)
	require.Equal(t, PredictionExact, log.Coverage[8].Prediction)
	got, err := log.Values(crypto.SHA256)
	require.NoError(t, err)
	want := NewBank(crypto.SHA256)
	require.NoError(t, want.Measure(8, []byte("chainloader /uki.efi")))
	require.NoError(t, want.Measure(8, []byte("boot")))
	require.Equal(t, want.PCR(8), got[8])
}
