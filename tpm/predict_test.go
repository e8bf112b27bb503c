package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// Every event that the real boots have in a predicted PCR must be in the prediction with the same
// digest, and the values must be those that the TPM had. The prediction is made before the log is
// looked at.
func TestPredictRealBoots(t *testing.T) {
	for _, v := range bootVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			log, err := Predict(v.boot)
			require.NoError(t, err)
			banks, err := log.Replay()
			require.NoError(t, err)
			require.Len(t, banks, 1)
			exact := make(map[int][]byte)
			for _, c := range log.Coverage {
				if c.Prediction == PredictionExact {
					exact[c.PCR] = v.pcrs[c.PCR]
				}
			}
			for _, n := range []int{4, 7, 8, 11, 12, 13, 14, 15} {
				require.Contains(t, exact, n)
			}
			assert.NoError(t, log.Verify(crypto.SHA256, exact))

			actual, err := ParseLog(v.log)
			require.NoError(t, err)
			for _, n := range []int{4, 7, 11, 12} {
				want, got := actual.of(n), log.of(n)
				require.Len(t, got, len(want), "PCR %d", n)
				for i := range want {
					assert.Equal(t, want[i].Type, got[i].Type, "PCR %d", n)
					assert.Equal(t, want[i].Digests, got[i].Digests, "PCR %d: %s", n, want[i].Describe())
					if !isImage(want[i].Type) {
						assert.Equal(t, want[i].Data, got[i].Data, "PCR %d", n)
					}
				}
			}
			assert.Empty(t, Diff(log, actual))
			evidence := EvidenceBooted
			assert.Equal(t, evidence, log.Coverage[11].Evidence)

			// A predicted log is a log: written and read back it stays the same.
			raw, err := log.MarshalBinary()
			require.NoError(t, err)
			again, err := ParseLog(raw)
			require.NoError(t, err)
			assert.Equal(t, withoutContents(log.Events), withoutContents(again.Events))
			assert.Empty(t, again.Findings)
		})
	}
}

// What ukify printed when it built the UKIs, for each phase. Of the UKI with profiles the vector
// holds profile 0.
func TestPredictPhases(t *testing.T) {
	compared := 0
	for _, v := range bootVectors(t) {
		for path, want := range v.phases {
			b := v.boot
			b.Phases, b.Handover, b.Sections = strings.Split(path, ":"), nil, v.first
			log, err := Predict(b)
			require.NoError(t, err)
			values, err := log.Values(crypto.SHA256)
			require.NoError(t, err)
			assert.Equal(t, want, hexOf(values[11]), "%s %s", v.name, path)
			compared++
		}
	}
	require.Greater(t, compared, 10)
}

func TestPredictErrors(t *testing.T) {
	good := bootVectors(t)[0].boot
	for _, c := range []struct {
		name   string
		change func(*Boot)
		want   string
	}{
		{"no version", func(b *Boot) { b.Stub = "" }, `tpm: predict: systemd stub "": want release 252 to 262`},
		{"newer", func(b *Boot) { b.Stub = "263~rc1" }, "tpm: predict: systemd stub 263~rc1 is newer than 262"},
		{"older", func(b *Boot) { b.Stub = "251" }, "want release 252 to 262"},
		{"older cannot be renamed", func(b *Boot) { b.Stub, b.AssumeStub = "251", 257 }, `systemd stub "251"`},
		{"newer as unknown", func(b *Boot) { b.Stub, b.AssumeStub = "263", 251 }, `systemd stub "251"`},
		{"SecureBoot of two bytes", func(b *Boot) { b.Variables.SecureBoot = []byte{1, 1} }, "want one byte, 0 or 1"},
		{"SecureBoot 2", func(b *Boot) { b.Variables.SecureBoot = []byte{2} }, "want one byte, 0 or 1"},
		{"foreign authority", func(b *Boot) { b.authorize(make([]byte, 40)) }, "is not an entry of db"},
		{"empty authority", func(b *Boot) { b.UKI.Authority = []byte{} }, "bytes) is not event data: want UEFI_VARIABLE_DATA with an entry of db or MokListRT"},
		{"authority of shim without shim", func(b *Boot) { b.UKI.Authority = variableData(efi.ShimLock, "MokListRT", make([]byte, 40)) }, "but without shim, firmware reads only db"},
		{"no program", func(b *Boot) { b.Chain = []Program{nil} }, "program 0 of the chain is nil"},
		{"shim in the middle", func(b *Boot) { b.Chain = append(b.Chain, &Shim{Application: b.UKI}) }, "want it first"},
		{"shim and no shim", func(b *Boot) { b.NoShim, b.Chain = true, []Program{&Shim{Application: b.UKI}} }, "the chain has a shim, but NoShim is set"},
		{"kernel that nothing starts", func(b *Boot) {
			b.Chain, b.Kernel, b.UKI, b.Sections = nil, &Application{Digests: b.UKI.Digests}, Application{}, nil
		}, "a kernel without a UKI, and no program that starts it"},
		{"kernel with add-ons", func(b *Boot) {
			b.loader().Version = "262"
			b.Addons, b.Kernel, b.UKI, b.Sections = []Application{b.UKI}, &Application{Digests: b.UKI.Digests}, Application{}, nil
		}, "add-ons or stub events are given without a UKI"},
		{"no sections", func(b *Boot) { b.Sections = nil }, "no .linux section"},
		{"no profile section", func(b *Boot) { b.handOver(profileEvent("1")) }, "no .profile section"},
		{".efifw before 258", func(b *Boot) {
			b.Stub, b.Sections = "257", append(b.Sections[:len(b.Sections):len(b.Sections)], measure(".efifw", "x")...)
		}, "stub 257 does not measure .efifw"},
		{"phase path as word", func(b *Boot) { b.Phases = []string{"a:b"} }, "want one word"},
		{"bank without digests", func(b *Boot) { b.Banks = []crypto.Hash{crypto.SHA384} }, "an Authenticode digest of 0 bytes, want 48 for sha384"},
		{"no PCR bank for which all programs and sections have digests: not", func(b *Boot) { b.Banks = []crypto.Hash{} }, "no PCR bank for which all programs and sections have digests: not"},
		{"bank twice", func(b *Boot) { b.Banks = []crypto.Hash{crypto.SHA256, crypto.SHA256} }, "named twice"},
		{"not a bank", func(b *Boot) { b.Banks = []crypto.Hash{crypto.MD5} }, "not a PCR bank"},
		{"UKI without digest", func(b *Boot) { b.UKI.Digests = nil }, "no PCR bank for which all programs and sections have digests: not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := good
			variables := *b.Variables
			b.Variables = &variables
			b.loader()
			c.change(&b)
			log, err := Predict(b)
			require.ErrorContains(t, err, c.want)
			assert.True(t, strings.HasPrefix(err.Error(), "tpm: "))
			assert.Nil(t, log)
		})
	}
	b := good
	b.Stub = "300"
	_, err := Predict(b)
	var version *StubVersionError
	require.True(t, errors.As(err, &version))
	assert.Equal(t, StubVersionError{Version: "300", Oldest: 252, Newest: 262}, *version)
}

func TestPredictAssumeStub(t *testing.T) {
	b := bootVectors(t)[0].boot
	want, err := Predict(b)
	require.NoError(t, err)
	b.Stub, b.AssumeStub = "263.1", 262
	got, err := Predict(b)
	require.NoError(t, err)
	assert.Equal(t, want.Events, got.Events)
	assert.Equal(t, EvidenceNone, got.Coverage[4].Evidence)
	assert.Contains(t, got.Coverage[4].Note, "not verified by such a boot with stub 263.1")

	b.Stub, b.AssumeStub = "260.2-1", 0
	got, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, EvidenceSource, got.Coverage[11].Evidence)
	assert.Equal(t, EvidenceNone, got.Coverage[0].Evidence)
	assert.Equal(t, PredictionNone, got.Coverage[0].Prediction)
}

// measured are the files of a boot that came out of it: no input.
var measured = []string{"binary_bios_measurements", "pcrs-initrd.json"}

// inputs reads files of a boot, and fails the test at one that came out of it.
type inputs struct {
	t    *testing.T
	dir  string
	seen []string
}

func (in *inputs) read(name string) []byte {
	in.t.Helper()
	require.NotContains(in.t, measured, name, "a prediction may not look at what it predicts")
	in.seen = append(in.seen, name)
	b, err := os.ReadFile(filepath.Join(in.dir, name))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(in.t, err)
	return b
}

// wholeBoot completes a boot with everything that its inputs tell. What fills PCR 0 is another
// boot's log.
func wholeBoot(t *testing.T, v bootVector, firmware *Log) Boot {
	t.Helper()
	in := &inputs{t: t, dir: filepath.Join("testdata/boot", v.name)}
	b := v.boot
	b.Firmware = firmware
	b.SMBIOS = in.read("DMI")
	b.GPT = &PartitionTable{Header: in.read("gpt-header.bin"), Entries: in.read("gpt-entries.bin")}
	if len(b.Chain) > 0 {
		b.loader().Conf = in.read("loader.conf")
	}
	b.handOver().LoadOptions = loadOptions(string(bytes.TrimSuffix(in.read("cmdline"), []byte{'\n'})))
	b.ExitBoot = ExitBootRetried // as OVMF 2026.08 has it done
	var variables map[string]struct{ Value any }
	require.NoError(t, json.Unmarshal(in.read("efivars.json"), &variables))
	variable := func(name string) []byte {
		value, ok := variables[name+"-"+globalVariable.String()]
		require.True(t, ok, name)
		data := unhex(t, value.Value.(string))
		b.BootVariables = append(b.BootVariables, BootVariable{name, data})
		return data
	}
	for order := variable("BootOrder"); len(order) > 0; order = order[2:] {
		variable(fmt.Sprintf("Boot%02X%02X", order[1], order[0]))
	}
	h := sha256.New()
	require.NoError(t, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(read(t, "testdata/boot/initrd.sha256state")))
	addArchive(h, "tpm2-pcr-signature.json", 0o444, in.read("tpm2-pcr-signature.json"))
	addArchive(h, "tpm2-pcr-public-key.pem", 0o444, in.read("tpm2-pcr-public-key.pem"))
	addArchive(h, "os-release", 0o444, in.read("os-release"))
	addArchive(h, "profile", 0o444, in.read("profile"))
	addArchive(h, "boot-secret", 0o400, in.read("boot-secret"))
	b.Handover.Initrd = map[crypto.Hash][]byte{crypto.SHA256: h.Sum(nil)}
	require.NotEmpty(t, in.seen)
	return b
}

// addArchive hashes the cpio archive that the stub makes of one file for /.extra.
func addArchive(w hash.Hash, name string, mode int, data []byte) {
	if data == nil {
		return
	}
	pad := func(n int) { w.Write(make([]byte, (4-n%4)%4)) }
	record := func(inode, mode, links int, path string, data []byte) {
		head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(path)+1, 0, path)
		w.Write([]byte(head))
		pad(len(head))
		w.Write(data)
		pad(len(data))
	}
	record(1, 0o40555, 1, ".extra", nil)
	record(2, 0o100000|mode, 1, ".extra/"+name, data)
	trailer := strings.ToUpper(fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08xTRAILER!!!", 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 0))
	w.Write(append([]byte(trailer), make([]byte, 124-len(trailer))...))
}

// All events of all PCRs up to the kernel, before the boot: from its inputs and, for PCRs 0 to 3
// and 6, the log of another boot of the machine. Every digest must be that of the real log, and so
// every value.
func TestPredictWholeBoots(t *testing.T) {
	vectors := bootVectors(t)
	for i, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			other := vectors[(i+1)%len(vectors)]
			firmware, err := ParseLog(other.log)
			require.NoError(t, err)
			log, err := Predict(wholeBoot(t, v, firmware))
			require.NoError(t, err)

			actual, err := ParseLog(v.log)
			require.NoError(t, err)
			for pcr := range 16 {
				if pcr == PCRIMA {
					continue
				}
				want, got := actual.of(pcr), log.of(pcr)
				require.Len(t, got, len(want), "PCR %d:\n%v", pcr, log)
				for _, e := range got {
					e.contents = nil // only the prediction knows them
				}
				for i := range want {
					assert.Equal(t, want[i].Type, got[i].Type, "PCR %d", pcr)
					assert.Equal(t, want[i].Digests, got[i].Digests, "PCR %d: %s", pcr, want[i].Describe())
					if !isImage(want[i].Type) {
						assert.Equal(t, want[i].Describe(), got[i].Describe(), "PCR %d", pcr)
					}
				}
				c := log.Coverage[pcr]
				assert.True(t, c.Prediction.known(), c.String())
				if pcr >= 4 && pcr != 6 && pcr != 7 {
					_ = c
				}
			}
			want := v.pcrs
			delete(want, PCRIMA)
			for n := 16; n < PCRCount; n++ {
				delete(want, n)
			}
			assert.NoError(t, log.Verify(crypto.SHA256, want))
			assert.Empty(t, Diff(log, actual))
			// The order is the real one too.
			var order, realOrder []string
			for _, e := range log.Events[1:] {
				order = append(order, fmt.Sprint(e.PCR, e.Type, e.Describe()))
			}
			for _, e := range actual.Events[1:] {
				realOrder = append(realOrder, fmt.Sprint(e.PCR, e.Type, e.Describe()))
			}
			if v.name != "o-systemd-257" {
				assert.Equal(t, len(realOrder), len(order))
			}
		})
	}
}

// Without another boot's log the PCRs that the OS controls are the same, and the events of PCR 1
// that it makes.
func TestPredictWithoutFirmware(t *testing.T) {
	for _, v := range bootVectors(t) {
		log, err := Predict(wholeBoot(t, v, nil))
		require.NoError(t, err)
		actual, err := ParseLog(v.log)
		require.NoError(t, err)
		for _, pcr := range []int{4, 5, 7, 9, 11, 12, 13} {
			assert.Equal(t, PredictionExact, log.Coverage[pcr].Prediction, log.Coverage[pcr])
			assert.NoError(t, log.Verify(crypto.SHA256, map[int][]byte{pcr: v.pcrs[pcr]}), "%s PCR %d", v.name, pcr)
		}
		for _, pcr := range []int{0, 1, 2, 3, 6} {
			assert.Equal(t, PredictionNone, log.Coverage[pcr].Prediction)
		}
		assert.Empty(t, Diff(log, actual))
		have := map[string]bool{}
		for _, e := range actual.of(1) {
			have[hexOf(e.Digests[crypto.SHA256])] = true
		}
		ours := log.of(1)
		require.GreaterOrEqual(t, len(ours), 5, v.name)
		for _, e := range ours {
			assert.True(t, have[hexOf(e.Digests[crypto.SHA256])], e.Describe())
		}
	}
}

// A UKI is planned for other people's machines: what their firmware did before is expected again,
// in all banks.
func TestPredictOnForeignFirmware(t *testing.T) {
	predicted := 0
	for name, raw := range foreignLogs(t) {
		firmware, err := ParseLog(raw)
		require.NoError(t, err)
		b := Boot{Firmware: firmware, Stub: "262", Banks: firmware.Banks()}
		digests := func(s string) map[crypto.Hash][]byte {
			out := map[crypto.Hash][]byte{}
			for _, h := range Banks() {
				out[h] = pcrbank.Sum(h, []byte(s))
			}
			return out
		}
		b.UKI.Digests = digests("uki")
		b.Variables = new(osmith.FirmwareVariables)
		b.Sections = []osmith.Measurement{{Section: ".linux", Size: 1, Digests: digests("k")}}
		b.Handover = &osmith.Handover{Initrd: digests("initrd"), LoadOptions: loadOptions("console=ttyS0")}
		found := false
		for _, e := range firmware.of(7) {
			v, err := readVariable(e.Data)
			if err != nil || e.Type != EventEFIVariableDriverConfig {
				continue
			}
			switch v.Name {
			case "SecureBoot":
				b.Variables.SecureBoot, found = v.Data, true
			case "PK":
				b.Variables.PK = v.Data
			case "KEK":
				b.Variables.KEK = v.Data
			case "db":
				b.Variables.DB = v.Data
			case "dbx":
				b.Variables.DBX = v.Data
			}
		}
		if !found || len(b.Variables.SecureBoot) != 1 {
			continue // firmware without Secure Boot, or one that measures it as absent
		}
		if b.Variables.SecureBoot[0] == 1 {
			entries, ok := signatureEntries(b.Variables.DB)
			require.True(t, ok)
			b.authorize([]byte(entries[0].data))
		}
		log, err := Predict(b)
		require.NoError(t, err, name)
		predicted++
		for _, h := range firmware.Banks() {
			want, err := firmware.Replay(h)
			require.NoError(t, err)
			got, err := log.Values(h)
			require.NoError(t, err)
			for _, pcr := range []int{0, 2, 3, 6} {
				assert.Equal(t, want[h].PCR(pcr), got[pcr], "%s: PCR %d", name, pcr)
			}
			assert.Nil(t, got[4], "each of these machines started another chain of programs")
		}
		assert.Contains(t, log.Coverage[4].Note, "the earlier boot ")
		raw, err := log.MarshalBinary()
		require.NoError(t, err)
		again, err := ParseLog(raw)
		require.NoError(t, err)
		assert.Len(t, again.Events, len(log.Events))
		t.Log(name, log.Coverage[1], log.Coverage[5], log.Coverage[7])
	}
	require.GreaterOrEqual(t, predicted, 3)
}

// FuzzPredict: what a machine says of itself is no reason to panic: its log, its SMBIOS table, its
// partition table.
func FuzzPredict(f *testing.F) {
	const dir = "testdata/boot/a-sb-sdboot-262/"
	f.Add(read(f, dir+"binary_bios_measurements"), read(f, dir+"DMI"), read(f, dir+"gpt-header.bin"), read(f, dir+"gpt-entries.bin"))
	for _, raw := range foreignLogs(f) {
		f.Add(raw, []byte{11, 5, 0, 0, 1, 'x', 0, 0}, []byte{}, []byte{})
	}
	digests := map[crypto.Hash][]byte{crypto.SHA1: make([]byte, 20), crypto.SHA256: make([]byte, 32), crypto.SHA384: make([]byte, 48), crypto.SHA512: make([]byte, 64)}
	f.Fuzz(func(t *testing.T, raw, smbios, header, entries []byte) {
		b := Boot{Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}}, UKI: Application{Digests: digests}, Sections: []osmith.Measurement{{Section: ".linux", Size: 1, Digests: digests}},
			Handover: &osmith.Handover{Initrd: digests}, SMBIOS: smbios, Stub: "262"}
		if len(header) > 0 {
			b.GPT = &PartitionTable{header, entries}
		}
		b.Firmware, _ = ParseLog(raw) // nil if it is none
		log, err := Predict(b)
		require.Equal(t, err != nil, log == nil)
		if log == nil {
			return
		}
		if _, err := log.MarshalBinary(); err != nil {
			// of an event for a bank that the header lacks
			require.ErrorIs(t, err, ErrBank)
		}
		_, err = Alternatives{log}.Components()
		require.NoError(t, err)
		if b.Firmware != nil {
			Causes(Diff(b.Firmware, log))
			_ = lines(Diff(log, b.Firmware))
		}
	})
}

// A recovery database makes PCR 7 unknown, since no firmware that has one was seen.
func TestPredictDBR(t *testing.T) {
	b := bootVectors(t)[0].boot
	variables := *b.Variables
	variables.DBR = []byte{}
	b.Variables = &variables
	log, err := Predict(b)
	require.NoError(t, err)
	assert.Equal(t, PredictionNone, log.Coverage[7].Prediction)
	assert.Contains(t, log.Coverage[7].Note, "dbr")
}
