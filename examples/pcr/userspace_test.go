package main

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The image of testdata/mkosi verifies /usr, by this root hash.
const usrHash = "385048b825adefa3480635865a88d48107b5f26a7d39783b8bc27aff3883ca0e"

// predicted is the object of predict.
type predicted struct {
	Boots []struct {
		Coverage []struct {
			PCR                          int
			State, Note, BeforeUserspace string
		}
	}
	PCRs    map[string]map[int][]string
	Moments []struct {
		Phases []string
		NVPCRs []nvpcr
	}
}

func predict(t testing.TB, args ...string) (p predicted) {
	t.Helper()
	out, _ := pcr(t, 0, append([]string{"predict", "-json"}, args...)...)
	require.NoError(t, json.Unmarshal([]byte(out), &p))
	return p
}

// A moment of userspace from an earlier log: what the firmware leaves, extended by what the log
// has.
func TestPredictUserspace(t *testing.T) {
	log := abs(t, "../../tpm/testdata/mkosi/b1/tpm2-measure.log")
	boot := machineWith(t, "quiet usrhash="+usrHash)
	start := predict(t, "boot.json").PCRs["sha256"]
	require.Len(t, start, 15)
	u, err := readUserspaceLog(log)
	require.NoError(t, err)

	// after extends what the kernel starts with, up to a word.
	after := func(word string) map[int][]string {
		cut, err := u.Until(word)
		require.NoError(t, err)
		out := map[int][]string{}
		for n, v := range start {
			out[n] = v
		}
		for _, e := range cut.Events() {
			before, err := hex.DecodeString(out[e.PCR][0])
			require.NoError(t, err)
			sum := crypto.SHA256.New()
			sum.Write(append(before, e.Digests[crypto.SHA256]...))
			out[e.PCR] = []string{hex.EncodeToString(sum.Sum(nil))}
		}
		return out
	}
	for _, word := range []string{"nvpcr-separator", "leave-initrd", "sysinit", "ready"} {
		p := predict(t, "boot.json", "-userspace", log, "-until", word)
		require.Equal(t, after(word), p.PCRs["sha256"], word)
	}
	unlock := predict(t, "boot.json", "-userspace", log, "-until", "nvpcr-separator")
	require.Equal(t, []string{"enter-initrd"}, unlock.Moments[0].Phases)
	require.Len(t, unlock.Moments[0].NVPCRs, 4)
	require.Equal(t, []nvWord{}, unlock.Moments[0].NVPCRs[0].Words)
	whole := predict(t, "boot.json", "-userspace", log)
	require.Equal(t, after("ready"), whole.PCRs["sha256"])
	require.Equal(t, "d23269449d837924059a04e19d3e0336563e77e10ce998ba1efd82c03a9b5103", whole.Moments[0].NVPCRs[0].Value, "as the TPM of that machine had it")

	// At enter-initrd the order is not fixed, and without anything known there is nothing but PCR
	// 11.
	known := func(p predicted) (out []int) {
		for _, c := range p.Boots[0].Coverage {
			if c.State != "not predicted" {
				out = append(out, c.PCR)
			}
		}
		return out
	}
	require.Equal(t, []int{8, 11, 15}, known(predict(t, "boot.json", "-userspace", log, "-until", "enter-initrd")))
	boot["phases"] = []string{"enter-initrd", "leave-initrd"}
	write(t, "phases.json", boot)
	require.Equal(t, []int{8, 11}, known(predict(t, "phases.json")))
	out, _ := pcr(t, 0, "predict", "phases.json")
	require.True(t, strings.HasPrefix(out, "after enter-initrd:leave-initrd; what else userspace measures is not known\n"), out)
	require.Contains(t, out, "PCR 15: not predicted: machine ID, file systems and volume keys that userspace measured by then are not said: want them in Userspace")
	require.Equal(t, after("leave-initrd"), predict(t, "phases.json", "-userspace", log).PCRs["sha256"])
	out, _ = pcr(t, 0, "predict", "phases.json", "-userspace", log)
	require.True(t, strings.HasPrefix(out, "after enter-initrd:leave-initrd; userspace as in "+log+"\n"), out)
	require.Contains(t, out, "PCR 15: exact given the baseline (booted): userspace as in its earlier log\n")
	require.Contains(t, out, "NvPCR verity 0x1d10202: sha256 d23269449d837924059a04e19d3e0336563e77e10ce998ba1efd82c03a9b5103\n  extended with verity:usr:"+usrHash+":\n")
	require.Contains(t, out, "NvPCR login 0x1d10203: sha256 f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b, initialised and nothing more\n")

	// The same from BOOT.json, by its log and by its words.
	boot["userspace"] = map[string]any{"log": log, "until": "leave-initrd"}
	write(t, "log.json", boot)
	require.Equal(t, after("leave-initrd"), predict(t, "log.json").PCRs["sha256"])
	out, _ = pcr(t, 0, "predict", "log.json")
	require.Contains(t, out, "tpm2-measure.log up to \"leave-initrd\"\n")
	delete(boot, "phases")
	boot["userspace"] = map[string]any{"log": log}
	write(t, "log.json", boot)
	require.Equal(t, after("sysinit"), predict(t, "log.json", "-until", "sysinit").PCRs["sha256"])
	boot["phases"] = []string{}
	write(t, "log.json", boot)
	require.Equal(t, start, predict(t, "log.json").PCRs["sha256"], "no phases: when the kernel starts")
	words := map[string]any{"separator": true, "nvSeparator": true, "nvpcrs": []string{}, "identity": []any{}, "nvWords": map[string]any{"login": []string{}}}
	for _, r := range u.Records {
		switch {
		case r.EventType == "nvpcr-init":
			words["nvpcrs"] = append(words["nvpcrs"].([]string), r.Word)
		case r.EventType == "volume-key":
			words["identity"] = append(words["identity"].([]any), map[string]any{"word": r.Word, "digests": hexes(r.Digests)})
		}
	}
	boot["phases"], boot["userspace"] = []string{"enter-initrd", "leave-initrd"}, words
	write(t, "words.json", boot)
	p := predict(t, "words.json")
	require.Equal(t, after("leave-initrd"), p.PCRs["sha256"])
	require.Equal(t, "d23269449d837924059a04e19d3e0336563e77e10ce998ba1efd82c03a9b5103", p.Moments[0].NVPCRs[0].Value, "by the root hash on the command line")
	require.Equal(t, "what extends it is unknown", p.Moments[0].NVPCRs[1].Note[len("tpm: NvPCR hardware: "):])
	require.Empty(t, p.Moments[0].NVPCRs[1].Value)
	require.Nil(t, p.Moments[0].NVPCRs[1].Words)
	out, _ = pcr(t, 0, "predict", "words.json")
	require.Contains(t, out, "; userspace as described\n")
	require.Contains(t, out, "NvPCR hardware 0x1d10200: not predicted: ")

	words["identity"] = []any{"machine-id:0", "cryptsetup:root:u"}
	write(t, "words.json", boot)
	require.NotContains(t, predict(t, "words.json").PCRs["sha256"], 15)
	boot["userspace"] = map[string]any{"phasesAlone": true}
	write(t, "words.json", boot)
	require.Len(t, known(predict(t, "words.json")), 15)
	boot["userspace"] = map[string]any{"systemd": "257.9"}
	write(t, "words.json", boot)
	require.Len(t, known(predict(t, "words.json")), 14)
	boot["userspace"] = map[string]any{"separator": false}
	write(t, "words.json", boot)
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14}, known(predict(t, "words.json")))
}

// What the NvPCR of dm-verity is extended with is known of a command line that is, with the volumes
// and without signers of another root hash.
func TestPredictVerityWords(t *testing.T) {
	log := abs(t, "../../tpm/testdata/mkosi/b1/tpm2-measure.log")
	raw, err := os.ReadFile(log)
	require.NoError(t, err)
	signed := strings.Replace(string(raw), usrHash+":", usrHash+":01/AA==", 1)
	other := strings.Repeat("ab", 32)
	words := func(nv any) map[string]any {
		return map[string]any{"nvpcrs": []string{"nvpcr-init:verity:0x1d10202:00"}, "nvWords": nv}
	}
	for _, c := range []struct {
		name, cmdline string
		userspace     map[string]any
		want          []string // nil: not known
	}{
		{"the same image", "usrhash=" + usrHash, nil, []string{"verity:usr:" + usrHash + ":"}},
		{"another image", "usrhash=" + other, nil, []string{"verity:usr:" + other + ":"}},
		{"another volume", "roothash=" + other, nil, nil},
		{"a volume more", "roothash=" + other + " usrhash=" + usrHash, nil, nil},
		{"no volume", "quiet", nil, nil},
		{"switched off", "systemd.verity=0 usrhash=" + usrHash, nil, nil},
		{"a line that systemd refuses", "usrhash=xy", nil, nil},
		{"the same image, now with a signature", "systemd.verity_usr_options=root-hash-signature=auto usrhash=" + usrHash, nil, []string{"verity:usr:" + usrHash + ":"}},
		{"another image, with a signature", "systemd.verity_usr_options=root-hash-signature=auto usrhash=" + other, nil, nil},
		{"the same image, signed", "usrhash=" + usrHash, map[string]any{"log": "signed.log"}, []string{"verity:usr:" + usrHash + ":01/AA=="}},
		{"another image, signed", "usrhash=" + other, map[string]any{"log": "signed.log"}, nil},
		{"given", "usrhash=" + other, map[string]any{"log": "signed.log", "nvWords": map[string]any{"verity": []string{"x"}}}, []string{"x"}},
		{"said to be unknown", "usrhash=" + usrHash, map[string]any{"log": log, "nvWords": map[string]any{"verity": nil}}, nil},
		{"by words", "usrhash=" + other, words(nil), []string{"verity:usr:" + other + ":"}},
		{"by words, root", "roothash=" + other, words(nil), []string{"verity:root:" + other + ":"}},
		{"by words, two volumes", "roothash=" + other + " usrhash=" + other, words(nil), nil},
		{"by words, signed", "systemd.verity_usr_options=root-hash-signature=auto usrhash=" + other, words(nil), nil},
		{"by words, given", "usrhash=" + other, words(map[string]any{"verity": []string{}}), []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			boot := machineWith(t, c.cmdline)
			require.NoError(t, os.WriteFile("signed.log", []byte(signed), 0o644))
			if c.userspace == nil {
				c.userspace = map[string]any{"log": log}
			}
			boot["userspace"] = c.userspace
			if c.userspace["log"] == nil {
				boot["phases"] = []string{"enter-initrd"}
			}
			write(t, "boot.json", boot)
			for _, n := range predict(t, "boot.json").Moments[0].NVPCRs {
				if n.Name == "verity" {
					require.Equal(t, c.want == nil, n.Words == nil)
					var got []string
					for _, w := range n.Words {
						got = append(got, w.Word)
					}
					require.ElementsMatch(t, c.want, got)
				}
			}
		})
	}
	// What the kernel gets is not known without consoles, and then neither is its root hash.
	boot := machineWith(t, "usrhash="+usrHash)
	delete(boot, "consoles")
	boot["userspace"] = map[string]any{"log": log}
	write(t, "boot.json", boot)
	require.Nil(t, predict(t, "boot.json").Moments[0].NVPCRs[0].Words)
}

// Two boots of a machine, up to a moment.
func TestDiffUserspace(t *testing.T) {
	dir, third := abs(t, "../../tpm/testdata/mkosi"), abs(t, "../../tpm/testdata/userspace/tpm2-measure.log")
	firmware, log := func(b string) string { return dir + "/" + b + "/binary_bios_measurements" }, func(b string) string { return dir + "/" + b + "/tpm2-measure.log" }
	out, _ := pcr(t, 0, "diff", firmware("b1"), firmware("b1"), "-userspace", log("b2"), "-expected-userspace", log("b1"))
	require.Equal(t, "the boot is the expected one in PCRs 0-9, 11-23\nnot compared: PCR 10: the kernel's IMA\n", out)
	pcr(t, 0, "diff", firmware("b1"), firmware("b1"), "-userspace", log("b2"), "-expected-userspace", log("b1"), "-until", "leave-initrd")
	out, _ = pcr(t, 1, "diff", firmware("b1"), firmware("b1"), "-userspace", log("b2"), "-expected-userspace", third)
	require.Contains(t, out, "machine-id:12860c5da9ca4f80b9e0d4282ac5e405")

	// An expectation by BOOT.json, with a log and with words.
	boot := machineWith(t, "usrhash="+usrHash)
	write(t, "boot.json", boot)
	pcr(t, 0, "predict", "boot.json", "-log", "kernel.bin")
	pcr(t, 0, "diff", "boot.json", "kernel.bin", "-expected-userspace", log("b1"), "-userspace", log("b2"), "-until", "nvpcr-separator")
	boot["phases"], boot["userspace"] = []string{"enter-initrd"}, map[string]any{"separator": true}
	write(t, "words.json", boot)
	out, _ = pcr(t, 0, "diff", "words.json", "kernel.bin", "-userspace", log("b2"), "-until", "nvpcr-separator")
	require.Contains(t, out, "not compared: PCR 9 of userspace: not predicted: which NvPCRs userspace initialised")
	delete(boot, "userspace")
	write(t, "unknown.json", boot)
	out, _ = pcr(t, 0, "diff", "unknown.json", "kernel.bin")
	require.Contains(t, out, "the boot is the expected one in PCRs 0-9, 11-15\n", "as far as it was compared")
	out, _ = pcr(t, 0, "diff", "unknown.json", "kernel.bin", "-json")
	require.Len(t, object(t, out)["notCompared"], 15)
	require.Equal(t, "exact given the baseline", predict(t, "unknown.json").Boots[0].Coverage[4].BeforeUserspace)
	boot["phases"], boot["userspace"] = nil, map[string]any{"log": log("b1")}
	write(t, "log.json", boot)
	pcr(t, 0, "diff", "log.json", "kernel.bin", "-userspace", log("b2"), "-until", "sysinit")
	pcr(t, 1, "diff", "log.json", "kernel.bin", "-userspace", third)

	for _, c := range []struct {
		want string
		args []string
	}{
		{"-until needs -userspace", []string{firmware("b1"), firmware("b2"), "-until", "ready"}},
		{"is a prediction, which says itself what userspace measures", []string{"kernel.bin", firmware("b2"), "-expected-userspace", log("b1")}},
		{`no record of the word "x"`, []string{firmware("b1"), firmware("b2"), "-userspace", log("b1"), "-until", "x"}},
		{"nowhere", []string{firmware("b1"), firmware("b2"), "-expected-userspace", "nowhere"}},
		{"is systemd's log of userspace: want the firmware's, with the other as -userspace", []string{firmware("b1"), log("b2")}},
	} {
		_, text := pcr(t, 2, append([]string{"diff"}, c.args...)...)
		require.Contains(t, text, c.want)
	}
}

func TestLogNVPCRs(t *testing.T) {
	dir := "../../tpm/testdata/mkosi/b2/"
	out, _ := pcr(t, 0, "log", dir+"binary_bios_measurements", "-userspace", dir+"tpm2-measure.log")
	require.Contains(t, out, "  extended with cryptsetup-keyslot:root:980ca3f9-933c-4ce7-8032-ba95ef3636b2:tpm2:0 (0acd3b9d7b24d70d…)\n")
	require.NotContains(t, out, "finding:")
	out, _ = pcr(t, 0, "log", dir+"binary_bios_measurements", "-userspace", dir+"tpm2-measure.log", "-json")
	nvpcrs := object(t, out)["nvpcrs"].([]any)
	require.Len(t, nvpcrs, 4)
	require.Equal(t, []any{map[string]any{"word": "product-id:missing", "digests": map[string]any{"sha256": "4fdc4d4dfea787c1b43813094d1164188fc30ebcac268df97a4d425dc919b2c3"}}},
		nvpcrs[1].(map[string]any)["words"])
	out, _ = pcr(t, 0, "log", dir+"binary_bios_measurements", "-json")
	require.Empty(t, object(t, out)["nvpcrs"])
	require.NotNil(t, object(t, out)["nvpcrs"])
}

func TestUserspaceErrors(t *testing.T) {
	log := abs(t, "../../tpm/testdata/mkosi/b1/tpm2-measure.log")
	for _, c := range []struct{ name, json, want string }{
		{"key", `{"x": 1}`, `unknown field "x"`},
		{"word's key", `{"identity": [{"text": "x"}]}`, `unknown field "text"`},
		{"word's bank", `{"identity": [{"word": "x", "digests": {"md5": "00"}}]}`, `word "x": tpm: bank "md5"`},
		{"word's digest", `{"identity": [{"word": "x", "digests": {"sha256": "00"}}]}`, `word "x": "00" is no sha256 digest`},
		{"no word", `{"identity": [3]}`, "a word of userspace: "},
		{"empty word", `{"identity": [""]}`, "PCR 15: an empty word"},
		{"until", `{"until": "ready"}`, `"until" needs "log"`},
		{"log", `{"log": "nowhere"}`, "nowhere"},
		{"no log", `{"log": "boot.json"}`, "no record separator"},
		{"no such word", `{"log": "` + log + `", "until": "x"}`, `no record of the word "x"`},
		{"log and words", `{"log": "` + log + `", "separator": true}`, "both the log of an earlier boot and words are given: want one of them"},
		{"nothing and something", `{"phasesAlone": true, "separator": true}`, `"phasesAlone" says that there is nothing else, and there is something else beside it`},
		{"version", `{"systemd": "x"}`, `systemd version "x"`},
		{"too old", `{"systemd": "257", "separator": true}`, `systemd 257 does not measure "os-separator": systemd does since 261`},
	} {
		t.Run(c.name, func(t *testing.T) {
			boot := machine(t)
			boot["userspace"] = json.RawMessage(c.json)
			write(t, "bad.json", boot)
			status := 2
			if c.name == "no log" {
				status = 1 // a file of another format
			}
			_, text := pcr(t, status, "predict", "bad.json")
			require.Contains(t, text, c.want)
		})
	}
	boot := machine(t)
	_, text := pcr(t, 2, "predict", "boot.json", "-until", "ready")
	require.Contains(t, text, "-until needs a log of userspace")
	boot["phases"] = []string{"leave-initrd"}
	write(t, "phases.json", boot)
	_, text = pcr(t, 2, "predict", "phases.json", "-userspace", log)
	require.Contains(t, text, `the earlier log has the phases "enter-initrd:leave-initrd:sysinit:ready", want those of the boot, "leave-initrd"`)
}

// Lines that say the same of several PCRs are one, and others stay apart and in their order.
func TestPCRLines(t *testing.T) {
	var l pcrLines
	for _, line := range []struct {
		pcr  int
		text string
	}{{1, "PCR 1: a"}, {11, "PCR 11: a"}, {2, "PCR 2: b"}, {3, "of PCR 3: a"}, {12, "PCR 12: a"}, {13, "PCR 13: c PCR 13"}} {
		l.add(line.pcr, line.text)
	}
	var b strings.Builder
	l.write(&b)
	require.Equal(t, "PCRs 1, 11-12: a\nPCR 2: b\nof PCR 3: a\nPCR 13: c PCR 13\n", b.String())
}
