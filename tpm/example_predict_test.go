package tpm_test

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"slices"
	"unicode/utf16"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// digest stands for the Authenticode digest of a program, or for that of other contents.
func digest(contents string) map[crypto.Hash][]byte {
	d := sha256.Sum256([]byte(contents))
	return map[crypto.Hash][]byte{crypto.SHA256: d[:]}
}

// section measures small contents. Package uki does this for real ones, without holding them in
// memory.
func section(name, contents string) osmith.Measurement {
	return osmith.Measurement{Section: name, Size: int64(len(contents)), Digests: digest(contents)}
}

func sections() []osmith.Measurement {
	return []osmith.Measurement{
		section(".linux", "kernel"),
		section(".osrel", "ID=test\nVERSION_ID=1\n"),
		section(".cmdline", "quiet ro"),
		section(".initrd", "\x00\x00\x00"),
	}
}

// handOver is what the stub passes to the kernel with that command line. Package uki predicts it.
func handOver(cmdline string) *osmith.Handover {
	h := &osmith.Handover{Initrd: digest("initrds")}
	for _, c := range utf16.Encode([]rune(cmdline + "\x00")) {
		h.LoadOptions = binary.LittleEndian.AppendUint16(h.LoadOptions, c)
	}
	return h
}

// nextBoot is what a machine starts next. Its firmware does what it did in an earlier boot, which
// has left a log.
func nextBoot() tpm.Boot {
	return tpm.Boot{
		Firmware:  must(tpm.ParseLog(must(os.ReadFile("testdata/boot/b-setupmode-262/binary_bios_measurements")))),
		Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}},
		Chain: []tpm.Program{&tpm.SystemdBoot{
			Application: tpm.Application{Path: `\EFI\BOOT\BOOTX64.EFI`, Digests: digest("loader")},
			Conf:        []byte("timeout 0\n"),
		}},
		UKI:      tpm.Application{Path: `\EFI\Linux\os_2.efi`, Digests: digest("uki")},
		Sections: sections(),
		Handover: handOver("quiet ro console=tty0"),
		Stub:     "262",
	}
}

func ExamplePCR11() {
	pcr, err := tpm.PCR11(crypto.SHA256, sections(), tpm.PhaseEnterInitrd)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", pcr)
	// Output: c4c1982ae36e0f8f758f5cf2b25ffe7f33c23af1ef8d20e4f08f361cf4588922
}

func ExamplePredict() {
	predicted, err := tpm.Predict(tpm.Boot{
		Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}}, // setup mode: no keys
		Chain:     []tpm.Program{&tpm.SystemdBoot{Application: tpm.Application{Path: `\EFI\systemd\systemd-bootx64.efi`, Digests: digest("loader")}}},
		UKI:       tpm.Application{Path: `\EFI\Linux\os-1.efi`, Digests: digest("uki")},
		Sections:  sections(),
		Stub:      "262",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(predicted)
	for _, c := range predicted.Coverage[4:8] {
		fmt.Println(c)
	}
	banks, err := predicted.Replay()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("PCR 11: %x\n", banks[crypto.SHA256].PCR(11))
	// Output:
	//   0  EV_NO_ACTION                      -                  TCG event log with sha256
	//   7  EV_EFI_VARIABLE_DRIVER_CONFIG     115aa827dbccfb44…  SecureBoot = 0
	//   7  EV_EFI_VARIABLE_DRIVER_CONFIG     dea7b80ab53a3daa…  PK is absent
	//   7  EV_EFI_VARIABLE_DRIVER_CONFIG     e670e121fcebd473…  KEK is absent
	//   7  EV_EFI_VARIABLE_DRIVER_CONFIG     baf89a3ccace5275…  db is absent
	//   7  EV_EFI_VARIABLE_DRIVER_CONFIG     9f75b6823bff6af1…  dbx is absent
	//   7  EV_SEPARATOR                      df3f619804a92fdb…  separator
	//   4  EV_EFI_ACTION                     3d6772b4f84ed475…  Calling EFI Application from Boot Option
	//   4  EV_SEPARATOR                      df3f619804a92fdb…  separator
	//   4  EV_EFI_BOOT_SERVICES_APPLICATION  d47712cceb4c7806…  \EFI\systemd\systemd-bootx64.efi
	//   4  EV_EFI_BOOT_SERVICES_APPLICATION  80fb8ca44e023de8…  \EFI\Linux\os-1.efi
	//  11  EV_IPL                            0da293e37ad5511c…  .linux (name)
	//  11  EV_IPL                            6923dd1bc0460082…  .linux
	//  11  EV_IPL                            3fb9e4e3cc810d43…  .osrel (name)
	//  11  EV_IPL                            3e777bfa407c4802…  .osrel
	//  11  EV_IPL                            461203a89f23e36c…  .cmdline (name)
	//  11  EV_IPL                            5a022afe48ef3f38…  .cmdline
	//  11  EV_IPL                            15ee37e75f1e8d42…  .initrd (name)
	//  11  EV_IPL                            709e80c88487a241…  .initrd
	// PCR 4: exact (booted): holds for firmware that measures as edk2 does, if no other boot option was tried before
	// PCR 5: not predicted: partition table, loader.conf and how often ExitBootServices was tried
	// PCR 6: not predicted: firmware configuration and vendor: usually the separator alone
	// PCR 7: exact (booted): holds for firmware that measures as edk2 does
	// PCR 11: fb4dd6f2bdfbc05d84696032fe26c4676a69437887306463f6179ef930b55d8c
}

func ExampleDiff() {
	boot := tpm.Boot{
		Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}},
		UKI:       tpm.Application{Path: `\EFI\Linux\os-1.efi`, Digests: digest("uki")}, Sections: sections(), Stub: "262",
	}
	expected, err := tpm.Predict(boot)
	if err != nil {
		log.Fatal(err)
	}
	boot.Sections[2] = section(".cmdline", "quiet rw")
	actual, err := tpm.Predict(boot) // stands for the log of a machine
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range tpm.Diff(expected, actual) {
		fmt.Println(d)
	}
	// Output: PCR 11: UKI section .cmdline differs (b67cc0bce44e5d0e…, expected 5a022afe48ef3f38…)
}

// The next boot of a machine: its firmware as it was, and what is to be installed.
func ExampleBoot() {
	predicted := must(tpm.Predict(nextBoot()))
	for _, c := range predicted.Coverage {
		if c.PCR == 0 || c.PCR == 4 || c.PCR == 9 || c.PCR == 10 {
			fmt.Println(c)
		}
	}
	values := must(predicted.Values(crypto.SHA256))
	fmt.Printf("%d PCRs, PCR 9 will be %x…\n", len(values), values[9][:8])
	// Output:
	// PCR 0: exact given the baseline (booted): as in the earlier boot
	// PCR 4: exact given the baseline (booted): holds for firmware that measures as in the earlier boot, if no other boot option was tried before
	// PCR 9: exact (booted): holds for kernels that measure command line and initrds, as Linux 7.2 does, the boot secret among them
	// PCR 10: not predicted: the kernel's IMA
	// 15 PCRs, PCR 9 will be d922db28941f98c7…
}

// A log has the digests of what was measured. Where the contents are known, too, a difference says
// which words of them differ.
func ExampleLog_WithContents() {
	expected := must(tpm.Predict(nextBoot()))
	b := nextBoot()
	b.Sections[2] = section(".cmdline", "quiet ro debug")
	b.UKI.Digests = digest("another uki")
	actual := must(tpm.Predict(b)) // stands for the log of a machine
	known := [][]byte{[]byte("quiet ro"), []byte("quiet ro debug"), []byte("something else")}
	for _, d := range tpm.Causes(tpm.Diff(expected.WithContents(known...), actual.WithContents(known...))) {
		fmt.Println(d)
	}
	// Output: PCR 4: the UKI \EFI\Linux\os_2.efi differs (Authenticode b03fc7d99a1c7b3d…, expected 80fb8ca44e023de8…): .cmdline: 'debug' was not expected
}

// A UKI was built with another command line: what differs, and which of it is the reason.
func ExampleCauses() {
	expected := must(tpm.Predict(nextBoot()))
	b := nextBoot()
	b.Handover = handOver("quiet ro debug console=tty0")
	b.Sections[2] = section(".cmdline", "quiet ro debug")
	b.UKI.Digests = digest("another uki")
	differences := tpm.Diff(expected, must(tpm.Predict(b)))
	for _, d := range differences {
		fmt.Println(d)
	}
	fmt.Println("because of")
	for _, d := range tpm.Causes(differences) {
		fmt.Println(d)
	}
	// Output:
	// PCR 4: the UKI \EFI\Linux\os_2.efi differs (Authenticode b03fc7d99a1c7b3d…, expected 80fb8ca44e023de8…)
	// PCR 9: the kernel's command line: 'debug' was not expected
	// PCR 11: UKI section .cmdline differs (e47fb600fbab67cf…, expected 5a022afe48ef3f38…)
	// because of
	// PCR 4: the UKI \EFI\Linux\os_2.efi differs (Authenticode b03fc7d99a1c7b3d…, expected 80fb8ca44e023de8…): .cmdline differs
}

// Two UKIs are installed, and either may boot.
func ExamplePredictAll() {
	other := nextBoot()
	other.UKI.Digests = digest("the previous uki")
	all := must(tpm.PredictAll(nextBoot(), other))
	values := must(all.Values(crypto.SHA256))
	fmt.Println("values of PCR 4 and PCR 7:", len(values[4]), len(values[7]))
	tree := must(policy.AnyState(policy.Digest{}, crypto.SHA256, must(all.States(crypto.SHA256, 4, 7))))
	fmt.Println("one PolicyOR deep:", tree.Depth() == 1)
	lock := must(policy.PCRLockDigest(crypto.SHA256, map[int][][]byte{4: values[4], 7: values[7]}))
	fmt.Println("as systemd-pcrlock has it:", len(lock.String()))
	// Output:
	// values of PCR 4 and PCR 7: 2 1
	// one PolicyOR deep: true
	// as systemd-pcrlock has it: 64
}

// A prediction is kept in a file, with what it claims.
func ExampleParsePrediction() {
	raw := must(must(tpm.Predict(nextBoot())).MarshalPrediction())
	predicted := must(tpm.ParsePrediction(raw))
	fmt.Println(predicted.Coverage[10])
	_, err := tpm.ParsePrediction(must(nextBoot().Firmware.MarshalBinary()))
	fmt.Println(err)
	// Output:
	// PCR 10: not predicted: the kernel's IMA
	// tpm: reading a prediction: the log has no coverage: want a predicted log
}

// Files for /var/lib/pcrlock.d.
func ExampleAlternatives_Components() {
	all := must(tpm.PredictAll(nextBoot()))
	for _, c := range must(all.Components()) {
		files := must(c.Files())
		if c.ID == "640-loader-conf" {
			fmt.Printf("%s", files["640-loader-conf.pcrlock.d/generated.pcrlock"])
		}
	}
	// Output:
	// {"records":[{"pcr":5,"digests":[{"hashAlg":"sha256","digest":"d5806e53425536a75edf4c1fd65a5493d771212cc12cc5def3804794c426969e"}]}]}
}

// What an upgrade changes, before it is made.
func ExampleCompareBoots() {
	next := nextBoot()
	next.UKI.Digests = digest("another")
	changes := must(tpm.CompareBoots(must(tpm.PredictAll(nextBoot())), must(tpm.PredictAll(next))))
	for _, p := range changes.PCRs {
		if p.Effect == tpm.EffectChanges {
			fmt.Println(p)
		}
	}
	fmt.Println(len(changes.Causes), "cause")
	// Output:
	// PCR 4: changes
	// 1 cause
}

// A boot through shim: firmware starts shim, shim the boot loader, and all that comes behind asks
// shim. The values are those of package secureboot.
func ExampleShim() {
	b := nextBoot()
	b.Chain = append([]tpm.Program{&tpm.Shim{
		Application: tpm.Application{Path: `\EFI\BOOT\BOOTX64.EFI`, Digests: digest("shim")},
		Variables: osmith.ShimVariables{
			MokList: []byte("lists"), MokListX: []byte("lists"), SbatLevel: []byte("sbat,1,2025021800\n"), MokSBState: []byte{}, MokListTrusted: []byte{1}, MokPolicy: []byte{},
		},
	}}, b.Chain...)
	predicted := must(tpm.Predict(b))
	for _, e := range predicted.Events {
		if e.PCR == 14 {
			fmt.Println(e.Describe())
		}
	}
	fmt.Println(predicted.Coverage[14])
	// Output:
	// MokList
	// MokListX
	// MokListTrusted
	// PCR 14: exact (booted): holds for shims that measure as 15.8 to 16.1 do
}

// The moment at which the next boot unlocks its volumes, from what systemd measured in the last
// one. Without that, firmware's PCRs are not claimed once the initrd runs, since systemd 261 and
// later measure a word into them there.
func ExampleUserspace() {
	earlier := must(tpm.ParseUserspaceLog(must(os.ReadFile("testdata/mkosi/b1/tpm2-measure.log"))))
	for _, userspace := range []*tpm.Userspace{
		nil,
		{Earlier: must(earlier.Until("nvpcr-separator"))},
		{Systemd: "257.9", Identity: []tpm.Word{}}, // an older initrd that has unlocked nothing yet
	} {
		b := nextBoot()
		b.Phases, b.Userspace = []string{tpm.PhaseEnterInitrd}, userspace
		predicted := must(tpm.Predict(b))
		fmt.Printf("%d PCRs; PCR 7: %v\n", len(must(predicted.Values(crypto.SHA256))), predicted.Coverage[7].Prediction)
	}
	// Output:
	// 2 PCRs; PCR 7: not predicted
	// 15 PCRs; PCR 7: exact given the baseline
	// 15 PCRs; PCR 7: exact given the baseline
}

// The record of a volume key has a digest of its own: by its word alone PCR 15 is not known.
func ExampleWord() {
	earlier := must(tpm.ParseUserspaceLog(must(os.ReadFile("testdata/mkosi/b1/tpm2-measure.log"))))
	i := slices.IndexFunc(earlier.Records, func(r tpm.Record) bool { return r.EventType == "volume-key" })
	volume := earlier.Records[i]
	b := nextBoot()
	b.Phases = []string{tpm.PhaseEnterInitrd, tpm.PhaseLeaveInitrd}
	b.Userspace = tpm.PhasesAlone()
	for _, w := range []tpm.Word{{Text: volume.Word}, {Text: volume.Word, Digests: volume.Digests}} {
		b.Userspace.Identity = []tpm.Word{w}
		fmt.Println(must(tpm.Predict(b)).Coverage[15].Prediction)
	}
	// Output:
	// not predicted
	// exact
}

// An initrd of one's own that measures phases and nothing else.
func ExamplePhasesAlone() {
	b := nextBoot()
	b.Phases, b.Userspace = []string{tpm.PhaseEnterInitrd}, tpm.PhasesAlone()
	fmt.Println(len(must(must(tpm.Predict(b)).Values(crypto.SHA256))), "PCRs")
	// Output: 15 PCRs
}
