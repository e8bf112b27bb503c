package main

import (
	"bytes"
	"crypto"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

// vectors are the real boots of package tpm.
const vectors = "../../tpm/testdata/boot/"

// pcr runs the program as from a shell.
func pcr(t testing.TB, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	got := program.Run(t.Context(), args, &out, &err)
	require.Equal(t, want, got, "pcr %s\n%s%s", strings.Join(args, " "), out.String(), err.String())
	return out.String(), err.String()
}

// object decodes what a verb prints with -json.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &v))
	require.Equal(t, "osmith.pcr/1", v["schema"])
	return v
}

func abs(t testing.TB, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	require.NoError(t, err)
	return p
}

// machine makes a directory with a loader, a UKI, an ESP with a credential and a BOOT.json that has
// everything.
func machine(t testing.TB) map[string]any { return machineWith(t, "quiet") }

// machineWith is one whose UKI has that command line.
func machineWith(t testing.TB, cmdline string) map[string]any {
	t.Helper()
	boot := map[string]any{
		"firmware": abs(t, vectors+"b-setupmode-262/binary_bios_measurements"), "smbios": abs(t, vectors+"b-setupmode-262/DMI"),
		"loader": "loader.efi", "loaderConf": "esp/loader/loader.conf", "uki": "linux.efi", "ukiPath": "EFI/Linux/os_1.efi",
		"esp": "esp", "consoles": []string{"console=tty0"}, "noBootSecret": true,
	}
	stub := petest.Stub("262")
	image := &uki.Image{Stub: bytes.NewReader(stub), Linux: bytes.NewReader(petest.Kernel("6.1.0")), Initrd: []osmith.Source{bytes.NewReader([]byte("initrd"))},
		OSRelease: []byte("ID=test\nVERSION_ID=1\n"), Cmdline: cmdline}
	assembled, err := image.Assemble()
	require.NoError(t, err)
	var raw bytes.Buffer
	_, err = assembled.WriteTo(&raw)
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	for name, content := range map[string][]byte{
		"linux.efi": raw.Bytes(), "loader.efi": petest.Loader("262"), "esp/loader/loader.conf": []byte("timeout 0\n"),
		"esp/EFI/Linux/os_1.efi.extra.d/a.cred": []byte("secret"),
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, content, 0o644))
	}
	write(t, "boot.json", boot)
	return boot
}

func write(t testing.TB, name string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, b, 0o644))
}

func TestLog(t *testing.T) {
	file := vectors + "a-sb-sdboot-262/binary_bios_measurements"
	out, _ := pcr(t, 0, "log", file)
	require.Contains(t, out, "partition table b0071ab0-")
	out, _ = pcr(t, 0, "log", file, "--json")
	require.Len(t, object(t, out)["events"], 53)
	out, _ = pcr(t, 0, "log", file, "-userspace", "../../tpm/testdata/userspace/tpm2-measure.log", "-json")
	require.Len(t, object(t, out)["events"], 53+23)
	pcr(t, 1, "log", "main.go")
	pcr(t, 2, "log")
	pcr(t, 2, "log", "nowhere")
	pcr(t, 1, "log", file, "-userspace", "main.go")
	_, text := pcr(t, 0, "log", "-h")
	require.Contains(t, text, "example: pcr log")
}

// Of a log that is cut, what can be read is shown, and nothing else is done with it.
func TestLogCut(t *testing.T) {
	raw, err := os.ReadFile(vectors + "a-sb-sdboot-262/binary_bios_measurements")
	require.NoError(t, err)
	file, whole := filepath.Join(t.TempDir(), "cut"), abs(t, vectors+"a-sb-sdboot-262/binary_bios_measurements")
	require.NoError(t, os.WriteFile(file, raw[:5000], 0o644))
	out, text := pcr(t, 1, "log", file)
	require.Equal(t, 27, strings.Count(out, "\n"))
	require.Contains(t, text, "cut can be read up to here only: tpm: event log: event 27: data size at 0x12d7: 835 bytes, 173 left: the log ends inside it")
	out, _ = pcr(t, 1, "log", file, "-json")
	v := object(t, out)
	require.Len(t, v["events"], 27)
	require.Contains(t, v["partial"], "the log ends inside it")
	for _, args := range [][]string{{"replay", file}, {"diff", whole, file}, {"diff", file, whole}} {
		out, text := pcr(t, 1, args...)
		require.Empty(t, out)
		require.Contains(t, text, "the log ends inside it")
	}
}

// A log of RTMRs is one in every verb.
func TestRTMRs(t *testing.T) {
	file, pcrs := abs(t, "../../tpm/testdata/tdx/ccel.bin"), abs(t, vectors+"a-sb-sdboot-262/binary_bios_measurements")
	out, _ := pcr(t, 0, "log", file)
	require.Contains(t, out, "RTMR 0  EV_EFI_VARIABLE_DRIVER_CONFIG     cfa4e2c606f57262…  SecureBoot = 0\n")
	require.NotContains(t, out, "the header is for")
	out, _ = pcr(t, 0, "log", file, "-json")
	require.Equal(t, "RTMR 0", object(t, out)["events"].([]any)[1].(map[string]any)["register"])
	out, _ = pcr(t, 0, "replay", file)
	require.Equal(t, 4, strings.Count(out, "\n"), out)
	require.Contains(t, out, "sha384 RTMR 0 ")
	require.NotContains(t, out, "MRTD")
	out, _ = pcr(t, 0, "replay", file, "-json")
	require.Equal(t, "RTMRs", object(t, out)["registers"])
	out, _ = pcr(t, 0, "diff", file, file)
	require.Equal(t, "the boot is the expected one in RTMR 0, RTMR 1, RTMR 2, RTMR 3\n", out)
	_, text := pcr(t, 2, "diff", pcrs, file)
	require.Contains(t, text, "the expected log is of PCRs, the boot's of RTMRs")
	values := filepath.Join(t.TempDir(), "pcrs.json")
	write(t, values, map[string]any{"sha384": map[string]string{"1": strings.Repeat("00", 48)}})
	_, text = pcr(t, 2, "replay", file, "-pcrs", values)
	require.Contains(t, text, "PCR values of a log of RTMRs")
}

// What BOOT.json names and -contents gives is told in words.
func TestDiffContents(t *testing.T) {
	boot := machine(t)
	out, _ := pcr(t, 0, "predict", "boot.json", "-log", "old.bin")
	require.NotEmpty(t, out)
	image := &uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.1.0")), Initrd: []osmith.Source{bytes.NewReader([]byte("initrd"))},
		OSRelease: []byte("ID=test\nVERSION_ID=2\n"), Cmdline: "quiet debug"}
	assembled, err := image.Assemble()
	require.NoError(t, err)
	var raw bytes.Buffer
	_, err = assembled.WriteTo(&raw)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("new.efi", raw.Bytes(), 0o644))
	require.NoError(t, os.WriteFile("loader.conf", []byte("timeout 3\n"), 0o644))
	boot["uki"], boot["loaderConf"] = "new.efi", "loader.conf"
	write(t, "new.json", boot)
	pcr(t, 0, "predict", "new.json", "-log", "new.bin") // stands for the log of a machine
	out, _ = pcr(t, 1, "diff", "boot.json", "new.bin")
	require.Contains(t, out, "\n  PCR 11: UKI section .cmdline differs (")
	out, _ = pcr(t, 1, "diff", "boot.json", "new.bin", "-contents", "new.efi", "-contents", "loader.conf")
	require.Contains(t, out, "): .osrel: 'VERSION_ID=1' missing, 'VERSION_ID=2' not expected; .cmdline: 'debug' was not expected\n"+
		"  PCR 11: UKI section .osrel: 'VERSION_ID=1' missing, 'VERSION_ID=2' not expected\n  PCR 11: UKI section .cmdline: 'debug' was not expected\n")
	require.Contains(t, out, "PCR 5: loader.conf: 'timeout 0' missing, 'timeout 3' not expected\n")
	out, _ = pcr(t, 1, "diff", "boot.json", "new.bin", "-contents", "new.efi", "-json")
	causes := object(t, out)["causes"].([]any)
	require.Len(t, causes[0].(map[string]any)["parts"], 2)
	pcr(t, 2, "diff", "boot.json", "new.bin", "-contents", "nowhere")
}

func TestReplay(t *testing.T) {
	dir := vectors + "a-sb-sdboot-262/"
	out, _ := pcr(t, 0, "replay", dir+"binary_bios_measurements", "-pcrs", dir+"pcrs-initrd.json")
	require.Contains(t, out, "sha256  4 349201d4eb4ba746")

	pcr(t, 2, "-json", "replay") // the verb comes first
}

func TestReplayWrong(t *testing.T) {
	log, pcrs := vectors+"a-sb-sdboot-262/binary_bios_measurements", vectors+"b-setupmode-262/pcrs-initrd.json"
	out, text := pcr(t, 1, "replay", log, "-pcrs", pcrs, "-json")
	v := object(t, out)
	require.Equal(t, false, v["verified"])
	require.Equal(t, []any{7.0, 9.0}, v["wrong"])
	require.Contains(t, text, "PCR 7 is 65caf8dd")
	pcr(t, 2, "replay", log, "-pcrs", "main.go")
	pcr(t, 2, "replay", log, "-bank", "md5")
	pcr(t, 2, "replay", log, "-bank", "sha1")
}

func TestPredictAndDiff(t *testing.T) {
	boot := machine(t)
	out, _ := pcr(t, 0, "predict", "boot.json", "-log", "expected.bin", "-json")
	v := object(t, out)
	values := v["pcrs"].(map[string]any)["sha256"].(map[string]any)
	for _, n := range []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "11", "12", "13", "14", "15"} {
		require.Len(t, values[n], 1, "PCR %s", n)
	}
	require.NotContains(t, values, "10")
	out, _ = pcr(t, 0, "predict", "boot.json")
	require.Contains(t, out, "PCR 10: not predicted: the kernel's IMA\n")

	// The boot as it was expected, whichever way the expectation is given.
	for _, expected := range []string{"boot.json", "expected.bin"} {
		out, _ = pcr(t, 0, "diff", expected, "expected.bin")
		require.Equal(t, "the boot is the expected one in PCRs 0-9, 11-15\nnot compared: PCR 10: not predicted: the kernel's IMA\n", out)
	}
	// Another credential: that is named, and not the initrd that holds it.
	require.NoError(t, os.WriteFile("esp/EFI/Linux/os_1.efi.extra.d/a.cred", []byte("other"), 0o644))
	out, text := pcr(t, 1, "diff", "boot.json", "expected.bin")
	require.Contains(t, out, "PCR 12: companion files 'Credentials initrd' differs (")
	require.Contains(t, out, "and 1 that follow from that\n")
	require.Contains(t, text, "the boot differs in 2 events")
	out, _ = pcr(t, 1, "diff", "boot.json", "expected.bin", "-json")
	require.Len(t, object(t, out)["causes"], 1)
	require.Len(t, object(t, out)["differences"], 2)

	// Two boots, either of which may happen: the old credential is gone, so it is neither.
	boot["exitBoot"] = "once"
	write(t, "two.json", map[string]any{"schema": "osmith.boot/1", "boots": []any{boot, boot}})
	pcr(t, 2, "predict", "two.json", "-log", "out.bin")
	out, _ = pcr(t, 1, "diff", "two.json", "expected.bin", "-json")
	require.Equal(t, false, object(t, out)["equal"])
}

// A PCR for which the expectation has no events is compared; what is not compared is said.
func TestDiffCoverage(t *testing.T) {
	dir := abs(t, "../../tpm/testdata")
	machine(t)
	expected := dir + "/boot/a-sb-sdboot-262/binary_bios_measurements"
	out, _ := pcr(t, 0, "diff", expected, expected)
	require.Equal(t, "the boot is the expected one in PCRs 0-9, 11-23\nnot compared: PCR 10: the kernel's IMA\n", out)
	out, text := pcr(t, 1, "diff", expected, dir+"/tampered/extra-pcr12.bin")
	require.Contains(t, out, "PCR 12: command line 'systemd.debug_shell=1 init=/bin/sh' was not expected (")
	require.NotContains(t, out, "is the expected one")
	require.Contains(t, text, "the boot differs in 1 event\n")
	pcr(t, 1, "diff", expected, dir+"/tampered/extra-pcr13-14-8.bin")
	pcr(t, 1, "diff", dir+"/boot/b-setupmode-262/binary_bios_measurements", dir+"/tampered/b-extra-pcr12.bin")

	// A command line is named beside what does not explain it.
	for name, want := range map[string]string{"other-serial-and-injected-cmdline.bin": "PCR 1: SMBIOS type 1 differs", "addons-and-injected-cmdline.bin": "PCR 4: add-on "} {
		out, _ = pcr(t, 1, "diff", expected, dir+"/tampered/"+name)
		require.Contains(t, out, want)
		require.Contains(t, out, "PCR 12: command line 'systemd.debug_shell=1 init=/bin/sh' was not expected (")
	}

	// What a prediction does not claim is not compared, and it is no difference; what it predicts
	// as zero is.
	pcr(t, 0, "predict", "boot.json", "-log", "expected.bin")
	boot := map[string]any{"loader": "loader.efi", "uki": "linux.efi", "exitBoot": "once"}
	write(t, "less.json", boot)
	pcr(t, 0, "predict", "less.json", "-log", "less.bin")
	for _, name := range []string{"less.json", "less.bin"} {
		out, _ = pcr(t, 1, "diff", name, "expected.bin", "-json")
		v := object(t, out)
		require.Equal(t, []any{4.0, 8.0, 11.0, 12.0, 13.0, 14.0, 15.0}, v["compared"], name)
		require.Len(t, v["notCompared"], 9, "PCR 7 too, without variables")
		require.Len(t, v["differences"], 1, "the credential, in PCR 12")
		first := v["notCompared"].([]any)[0].(map[string]any)
		require.Equal(t, "not predicted: firmware and option ROMs: not a value that the OS controls", first["reason"])
	}

	// Phases are compared if userspace's log is there.
	boot["phases"] = []string{"enter-initrd"}
	write(t, "phase.json", boot)
	out, _ = pcr(t, 1, "diff", "phase.json", expected)
	require.Contains(t, out, "not compared: PCR 11 of userspace: its log is not given (events in the expected log: 1, in the boot's: 0)\n")
	out, _ = pcr(t, 1, "diff", "phase.json", expected, "-userspace", dir+"/userspace/tpm2-measure.log")
	require.NotContains(t, out, "its log is not given")
	require.Contains(t, out, "not compared: PCRs 4, 12-14 of userspace: not predicted: whether userspace measured \"os-separator\" by then")

	require.NoError(t, os.WriteFile("sha1.bin", sha1Log(t), 0o644))
	_, text = pcr(t, 2, "diff", expected, "sha1.bin")
	require.Contains(t, text, "no common bank: the expected log has sha256, the boot's has sha1")

	raw, err := os.ReadFile("less.bin")
	require.NoError(t, err)
	l, err := tpm.ParsePrediction(raw)
	require.NoError(t, err)
	l.Coverage = []tpm.Coverage{}
	raw, err = l.MarshalPrediction()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("nothing.bin", raw, 0o644))
	_, text = pcr(t, 2, "diff", "nothing.bin", expected)
	require.Contains(t, text, "there is nothing to compare")
	// As the boot's log its word counts for nothing.
	pcr(t, 1, "diff", expected, "nothing.bin")
}

// sha1Log is a log of one event in one bank.
func sha1Log(t testing.TB) []byte {
	t.Helper()
	l := &tpm.Log{Events: []tpm.Event{{PCR: 4, Type: tpm.EventIPL, Digests: map[crypto.Hash][]byte{crypto.SHA1: make([]byte, 20)}}}}
	raw, err := l.MarshalBinary()
	require.NoError(t, err)
	return raw
}

func TestPCRLock(t *testing.T) {
	machine(t)
	out, _ := pcr(t, 0, "pcrlock", "boot.json", "-o", "locks")
	files := strings.Fields(out)
	require.Contains(t, files, "650-uki.pcrlock.d/generated.pcrlock")
	require.Contains(t, files, "240-secureboot-policy.pcrlock.d/generated.pcrlock")
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join("locks", f))
		require.NoError(t, err)
		_, err = tpm.ParseLockVariant(f, raw)
		require.NoError(t, err)
	}
	pcr(t, 2, "pcrlock", "boot.json")
}

func TestSign(t *testing.T) {
	key := abs(t, "../../tpm/testdata/example-key.pem")
	machine(t)
	out, _ := pcr(t, 0, "sign", "linux.efi", "-key", key, "-o", "a.json", "-json")
	require.Equal(t, 16.0, object(t, out)["policies"], "four banks, four phases")
	pcr(t, 0, "sign", "linux.efi", "-key", key, "-o", "b.json", "-banks", "sha256", "-phases", "enter-initrd,:", "-ref", "initrd", "-profile", "0")
	raw, err := os.ReadFile("b.json")
	require.NoError(t, err)
	signed, err := policy.ParseSignatures(raw)
	require.NoError(t, err)
	require.Len(t, signed, 2)
	require.Equal(t, "initrd", signed[0].Ref)
	pcr(t, 2, "sign", "linux.efi", "-key", key)
	pcr(t, 2, "sign", "linux.efi", "-key", key, "-o", "c.json", "-profile", "3")
	pcr(t, 1, "sign", "boot.json", "-key", key, "-o", "c.json")
	require.NoFileExists(t, "c.json")
}

func TestBootErrors(t *testing.T) {
	for _, c := range []struct{ name, json, want string }{
		{"no JSON", `x`, "invalid character"},
		{"unknown key", `{"ukii": "x"}`, `unknown field "ukii"`},
		{"schema", `{"schema": "osmith.boot/2"}`, "want osmith.boot/1"},
		{"nothing", `{}`, `no boot: want "uki", "kernel" or "boots"`},
		{"no uki", `{"boots": [{}]}`, `boot 0: want one of "uki" and "kernel"`},
		{"exit", `{"uki": "linux.efi", "exitBoot": "twice"}`, `exitBoot "twice"`},
		{"bank", `{"uki": "linux.efi", "banks": ["md5"]}`, `bank "md5"`},
		{"no file", `{"uki": "other.efi"}`, "other.efi"},
		{"no path", `{"uki": "linux.efi", "esp": "esp"}`, `"esp" needs "ukiPath"`},
		{"disk", `{"uki": "linux.efi", "disk": "boot.json"}`, "no GPT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			machine(t)
			require.NoError(t, os.WriteFile("bad.json", []byte(c.json), 0o644))
			_, text := pcr(t, 2, "predict", "bad.json")
			require.Contains(t, text, c.want)
		})
	}
}

func TestMachine(t *testing.T) {
	out, _ := pcr(t, 0, "machine", "../../tpm/testdata/machines/linux_tpm12.bin")
	require.Contains(t, out, "PCR 5: predicted: boot variables, partition table")
	require.Contains(t, out, "PCR 9: not: the kernel measured no initrd")
	out, _ = pcr(t, 0, "machine", vectors+"a-sb-sdboot-262/binary_bios_measurements", "-json")
	pcrs := object(t, out)["pcrs"].([]any)
	require.Len(t, pcrs, 16)
	require.Equal(t, "as in this boot", pcrs[0].(map[string]any)["reliance"])
	pcr(t, 1, "machine", "main.go")
	pcr(t, 2, "machine")
}
