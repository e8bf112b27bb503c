package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func digest(s string) map[crypto.Hash][]byte {
	d := sha256.Sum256([]byte(s))
	return map[crypto.Hash][]byte{crypto.SHA256: d[:]}
}

// machineLog is the log of a real boot.
func machineLog() *tpm.Log {
	return must(tpm.ParseLog(must(os.ReadFile("testdata/boot/b-setupmode-262/binary_bios_measurements"))))
}

// handOver is what the stub passes to the kernel with that command line.
func handOver(cmdline string) *osmith.Handover {
	return &osmith.Handover{LoadOptions: append(efi.AppendUTF16(nil, cmdline), 0, 0), Initrd: digest("initrds")}
}

// plannedBoot is the next boot of that machine.
func plannedBoot() tpm.Boot {
	return tpm.Boot{
		Firmware:  machineLog(),
		Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}},
		Chain: []tpm.Program{&tpm.SystemdBoot{
			Application: tpm.Application{Path: `\EFI\BOOT\BOOTX64.EFI`, Digests: digest("loader")},
			Conf:        []byte("timeout 0\n"),
		}},
		UKI:      tpm.Application{Path: `\EFI\Linux\os_2.efi`, Digests: digest("uki")},
		Sections: sections(),
		Handover: handOver("quiet ro console=tty0"), // as package uki predicts it
		Stub:     "262",
	}
}

// The next boot of a machine: its firmware as it was, and what is to be installed.
func ExampleBoot() {
	log := must(tpm.Predict(plannedBoot()))
	for _, c := range log.Coverage {
		if c.PCR == 0 || c.PCR == 4 || c.PCR == 9 || c.PCR == 10 {
			fmt.Println(c)
		}
	}
	values := must(log.Values(crypto.SHA256))
	fmt.Printf("%d PCRs, PCR 9 will be %x…\n", len(values), values[9][:8])
	// Output:
	// PCR 0: exact given the baseline (booted): as in the earlier boot
	// PCR 4: exact given the baseline (booted): holds for firmware that measures as in the earlier boot, if no other boot option was tried before
	// PCR 9: exact (booted): holds for kernels that measure command line and initrds, as Linux 7.2 does, the boot secret among them
	// PCR 10: not predicted: the kernel's IMA
	// 15 PCRs, PCR 9 will be d922db28941f98c7…
}

// A UKI was built with another command line: what differs, and which of it is the reason.
// What was measured is not in a log; where it is known, a difference says which words differ.
func ExampleLog_WithContents() {
	expected := must(tpm.Predict(plannedBoot()))
	b := plannedBoot()
	b.Sections[2] = section(".cmdline", "quiet ro debug")
	b.UKI.Digests = digest("another uki")
	actual := must(tpm.Predict(b)) // stands for the log of a machine
	known := [][]byte{[]byte("quiet ro"), []byte("quiet ro debug"), []byte("something else")}
	for _, d := range tpm.Causes(tpm.Diff(expected.WithContents(known...), actual.WithContents(known...))) {
		fmt.Println(d)
	}
	// Output: PCR 4: the UKI \EFI\Linux\os_2.efi differs (Authenticode b03fc7d99a1c7b3d…, expected 80fb8ca44e023de8…): .cmdline: 'debug' was not expected
}

func ExampleCauses() {
	expected := must(tpm.Predict(plannedBoot()))
	b := plannedBoot()
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
	other := plannedBoot()
	other.UKI.Digests = digest("the previous uki")
	all := must(tpm.PredictAll(plannedBoot(), other))
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

// A boot with a command line that was not expected, and what it was not compared in.
func ExampleCompare() {
	read := func(name string) *tpm.Log { return must(tpm.ParseLog(must(os.ReadFile("testdata/" + name)))) }
	c := must(tpm.Compare(read("boot/a-sb-sdboot-262/binary_bios_measurements"), read("tampered/extra-pcr12.bin")))
	for _, d := range c.Causes() {
		fmt.Println(d)
	}
	for _, u := range c.NotCompared {
		fmt.Println("not compared:", u)
	}
	// Output:
	// PCR 12: command line 'systemd.debug_shell=1 init=/bin/sh' was not expected (696e44b9e595fc49…)
	// not compared: PCR 10: the kernel's IMA
}

// A prediction is kept in a file, with what it claims.
func ExampleParsePrediction() {
	raw := must(must(tpm.Predict(plannedBoot())).MarshalPrediction())
	log := must(tpm.ParsePrediction(raw))
	fmt.Println(log.Coverage[10])
	_, err := tpm.ParsePrediction(must(machineLog().MarshalBinary()))
	fmt.Println(err)
	// Output:
	// PCR 10: not predicted: the kernel's IMA
	// tpm: reading a prediction: the log has no coverage: want a predicted log
}

// Files for /var/lib/pcrlock.d.
func ExampleAlternatives_Components() {
	all := must(tpm.PredictAll(plannedBoot()))
	for _, c := range must(all.Components()) {
		files := must(c.Files())
		if c.ID == "640-loader-conf" {
			fmt.Printf("%s", files["640-loader-conf.pcrlock.d/generated.pcrlock"])
		}
	}
	// Output:
	// {"records":[{"pcr":5,"digests":[{"hashAlg":"sha256","digest":"d5806e53425536a75edf4c1fd65a5493d771212cc12cc5def3804794c426969e"}]}]}
}

// What the events of a log say, and which of it the TPM vouches for.
func ExampleEvent_Payload() {
	log := machineLog()
	for i := range log.Events {
		e := &log.Events[i]
		p := must(e.Payload())
		switch p := p.(type) {
		case tpm.ImageLoad:
			fmt.Println(p.Path, e.Attested())
		case tpm.GPT:
			fmt.Println(p, e.Attested())
		}
	}
	// Output:
	// partition table b0071ab0-0000-4000-8000-000000000001 with 5 partitions true
	// PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,b0071ab0-0000-4000-8000-0000000000e5,0x800,0x3c000)/\EFI\BOOT\BOOTX64.EFI false
	// PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,b0071ab0-0000-4000-8000-0000000000e5,0x800,0x3c000)/\EFI\Linux\bootlab_2+2-1.efi false
}

// A remote service checks a quote, and that the log of the machine is the whole truth about it.
func ExampleVerifyQuote() {
	read := func(name string) []byte { return must(os.ReadFile("testdata/quote/" + name)) }
	block, _ := pem.Decode(read("ak.pem"))
	key := must(x509.ParsePKIXPublicKey(block.Bytes))
	nonce := must(hex.DecodeString("00112233445566778899aabbccddeeff"))
	quote, err := tpm.VerifyQuote(key, read("quote.attest"), read("quote.sig"), nonce)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("covers PCRs 4, 7 and 11:", quote.Has(crypto.SHA256, 4, 7, 11))
	machine := must(tpm.ParseLog(must(os.ReadFile("testdata/boot/a-sb-sdboot-262/binary_bios_measurements"))))
	fmt.Println("explained by the log:", machine.VerifyQuote(quote) == nil)
	fmt.Println("explained by another boot's log:", machineLog().VerifyQuote(quote) == nil)
	_, err = tpm.VerifyQuote(key, read("quote.attest"), read("quote.sig"), bytes.Repeat([]byte{1}, 16))
	fmt.Println(err)
	// Output:
	// covers PCRs 4, 7 and 11: true
	// explained by the log: true
	// explained by another boot's log: false
	// tpm: quote: nonce is 00112233445566778899aabbccddeeff, want 01010101010101010101010101010101
}

// What systemd measured after the kernel had started.
func ExampleParseUserspaceLog() {
	u := must(tpm.ParseUserspaceLog(must(os.ReadFile("testdata/userspace/tpm2-measure.log"))))
	for _, r := range u.Records[len(u.Records)-3:] {
		fmt.Printf("PCR %d: %s: %s\n", r.PCR, r.EventType, r.Word)
	}
	// Output:
	// PCR 11: phase: ready
	// PCR 15: machine-id: machine-id:0123456789abcdef0123456789abcdef
	// PCR 15: filesystem: file-system:/sysroot:erofs:00000000-0000-0000-0000-000000000002::::
}

// Before anything is sealed: which PCRs of the machine can be relied on?
func ExampleLog_Reliances() {
	for _, r := range must(machineLog().Reliances())[4:8] {
		fmt.Println(r)
	}
	// Output:
	// PCR 4: predicted: the programs of the chain: \EFI\BOOT\BOOTX64.EFI, \EFI\Linux\bootlab_2+2-1.efi; programs behind the separator, as on edk2
	// PCR 5: predicted: partition table, loader.conf and ExitBootServices
	// PCR 6: as in this boot: what the vendor measures
	// PCR 7: predicted: PK, KEK, db and dbx; Secure Boot is off
}

// What an upgrade changes, before it is made.
func ExampleCompareBoots() {
	next := plannedBoot()
	next.UKI.Digests = digest("another")
	changes := must(tpm.CompareBoots(must(tpm.PredictAll(plannedBoot())), must(tpm.PredictAll(next))))
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
	b := plannedBoot()
	b.Chain = append([]tpm.Program{&tpm.Shim{
		Application: tpm.Application{Path: `\EFI\BOOT\BOOTX64.EFI`, Digests: digest("shim")},
		Variables: osmith.ShimVariables{
			MokList: []byte("lists"), MokListX: []byte("lists"), SbatLevel: []byte("sbat,1,2025021800\n"), MokSBState: []byte{}, MokListTrusted: []byte{1}, MokPolicy: []byte{},
		},
	}}, b.Chain...)
	log := must(tpm.Predict(b))
	for _, e := range log.Events {
		if e.PCR == 14 {
			fmt.Println(e.Describe())
		}
	}
	fmt.Println(log.Coverage[14])
	// Output:
	// MokList
	// MokListX
	// MokListTrusted
	// PCR 14: exact (booted): holds for shims that measure as 15.8 to 16.1 do
}
