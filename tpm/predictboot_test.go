package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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

// wholeBoot completes a boot with everything that its inputs tell. What fills PCR 0 is another boot's log.
func wholeBoot(t *testing.T, v bootVector, firmware *Log) Boot {
	t.Helper()
	in := &inputs{t: t, dir: filepath.Join("testdata/boot", v.name)}
	b := v.boot
	b.Firmware = firmware
	b.SMBIOS = in.read("DMI")
	b.GPT = &PartitionTable{Header: in.read("gpt-header.bin"), Entries: in.read("gpt-entries.bin")}
	b.LoaderConf = in.read("loader.conf")
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

// All events of all PCRs up to the kernel, before the boot: from its inputs and, for PCRs 0 to 3 and 6, the log of another
// boot of the machine. Every digest must be that of the real log, and so every value.
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

// Without another boot's log the PCRs that the OS controls are the same, and the events of PCR 1 that it makes.
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
