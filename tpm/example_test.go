package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
)

// section measures small contents. Package uki does this for real ones, without holding them in
// memory.
func section(name, data string) osmith.Measurement {
	digest := sha256.Sum256([]byte(data))
	return osmith.Measurement{Section: name, Size: int64(len(data)), Digests: map[crypto.Hash][]byte{crypto.SHA256: digest[:]}}
}

func sections() []osmith.Measurement {
	return []osmith.Measurement{
		section(".linux", "kernel"),
		section(".osrel", "ID=test\nVERSION_ID=1\n"),
		section(".cmdline", "quiet ro"),
		section(".initrd", "\x00\x00\x00"),
	}
}

// program is an EFI program with a made-up Authenticode digest.
func program(path string) tpm.Application {
	digest := sha256.Sum256([]byte(path))
	return tpm.Application{Path: path, Digests: map[crypto.Hash][]byte{crypto.SHA256: digest[:]}}
}

func ExamplePCR11() {
	pcr, err := tpm.PCR11(crypto.SHA256, sections(), tpm.PhaseEnterInitrd)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", pcr)
	// Output: c4c1982ae36e0f8f758f5cf2b25ffe7f33c23af1ef8d20e4f08f361cf4588922
}

func ExampleBank() {
	bank := tpm.NewBank(crypto.SHA256)
	if err := bank.Measure(11, []byte(tpm.PhaseEnterInitrd)); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", bank.PCR(11))
	// Output: d15b0e8e244e65c40f024e95773f2347ce4ef3ffe6b597c9a14b50bbab6df319
}

func ExamplePredict() {
	predicted, err := tpm.Predict(tpm.Boot{
		Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}}, // setup mode: no keys
		Chain:     []tpm.Program{&tpm.SystemdBoot{Application: program(`\EFI\systemd\systemd-bootx64.efi`)}},
		UKI:       program(`\EFI\Linux\os-1.efi`),
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
	//   4  EV_EFI_BOOT_SERVICES_APPLICATION  b14ce8ba096d6649…  \EFI\systemd\systemd-bootx64.efi
	//   4  EV_EFI_BOOT_SERVICES_APPLICATION  fda79aeb1f2e2c8f…  \EFI\Linux\os-1.efi
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
		UKI:       program(`\EFI\Linux\os-1.efi`), Sections: sections(), Stub: "262",
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

func ExampleParseLog() {
	raw, err := os.ReadFile("testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	if err != nil {
		log.Fatal(err)
	}
	machine, err := tpm.ParseLog(raw)
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(machine.String()) {
		if strings.HasPrefix(line, "  4 ") {
			fmt.Print(line)
		}
	}
	fmt.Println(len(machine.Findings), "findings")
	// Output:
	//   4  EV_EFI_ACTION                     3d6772b4f84ed475…  Calling EFI Application from Boot Option
	//   4  EV_SEPARATOR                      df3f619804a92fdb…  separator
	//   4  EV_EFI_BOOT_SERVICES_APPLICATION  5da56c77af91c2fd…  \EFI\BOOT\BOOTX64.EFI (163744 bytes)
	//   4  EV_EFI_BOOT_SERVICES_APPLICATION  f95be491ee6ea2eb…  \EFI\Linux\bootlab_2+2-1.efi (19987872 bytes)
	// 0 findings
}

func ExampleLog_Verify() {
	raw, err := os.ReadFile("testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	if err != nil {
		log.Fatal(err)
	}
	machine, err := tpm.ParseLog(raw)
	if err != nil {
		log.Fatal(err)
	}
	quoted := map[int][]byte{14: make([]byte, 32), 15: bytes.Repeat([]byte{1}, 32)}
	var replay *tpm.ReplayError
	if errors.As(machine.Verify(crypto.SHA256, quoted), &replay) {
		fmt.Println("PCRs that the log does not explain:", replay.PCRs)
	}
	// Output: PCRs that the log does not explain: [15]
}

// A log that is cut is no log; what can be read of it can be shown.
func ExamplePartialError() {
	raw, err := os.ReadFile("testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	if err != nil {
		log.Fatal(err)
	}
	_, err = tpm.ParseLog(raw[:5000])
	fmt.Println(err)
	if partial, ok := errors.AsType[*tpm.PartialError](err); ok {
		fmt.Println(len(partial.Events), "events, the last one:", partial.Events[len(partial.Events)-1].Describe())
	}
	// Output:
	// tpm: event log: event 27: data size at 0x12d7: 835 bytes, 173 left: the log ends inside it
	// 27 events, the last one: tables SMBIOS
}

// The log of a confidential virtual machine is about RTMRs.
func ExampleRegisters() {
	raw, err := os.ReadFile("testdata/tdx/ccel.bin")
	if err != nil {
		log.Fatal(err)
	}
	ccel, err := tpm.ParseLog(raw)
	if err != nil {
		log.Fatal(err)
	}
	banks, err := ccel.Replay()
	if err != nil {
		log.Fatal(err)
	}
	for number := 1; number <= 3; number++ {
		fmt.Printf("%s %x…\n", ccel.Registers.Name(number), banks[crypto.SHA384].PCR(number)[:8])
	}
	_, err = ccel.Values(crypto.SHA384)
	fmt.Println(err)
	// Output:
	// RTMR 0 8083cd6898cc52a9…
	// RTMR 1 6484f0d72c03521c…
	// RTMR 2 c3e7ed9d7e909b29…
	// tpm: PCR values of a log of RTMRs: a log of other registers
}

// A bank of SM3 is asked for by name: no crypto.Hash stands for it.
func ExampleLog_ReplaySM3() {
	raw, err := os.ReadFile("testdata/tdx/ccel.bin")
	if err != nil {
		log.Fatal(err)
	}
	l, err := tpm.ParseLog(raw)
	if err != nil {
		log.Fatal(err)
	}
	_, err = l.ReplaySM3()
	fmt.Println(errors.Is(err, tpm.ErrBank), len(l.Events[1].Digest(tpm.AlgorithmSM3)), len(l.Events[1].Digest(0x000c)))
	// Output: true 0 48
}
