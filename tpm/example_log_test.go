package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith/tpm"
)

// readLog reads what a machine has in /sys/kernel/security/tpm0/binary_bios_measurements.
func readLog(name string) *tpm.Log {
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		log.Fatal(err)
	}
	l, err := tpm.ParseLog(raw)
	if err != nil {
		log.Fatal(err)
	}
	return l
}

func ExampleBank() {
	bank := tpm.NewBank(crypto.SHA256)
	if err := bank.Measure(11, []byte(tpm.PhaseEnterInitrd)); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", bank.PCR(11))
	// Output: d15b0e8e244e65c40f024e95773f2347ce4ef3ffe6b597c9a14b50bbab6df319
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
	machine := readLog("boot/a-sb-sdboot-262/binary_bios_measurements")
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

// What the events of a log say, and which of it the TPM vouches for.
func ExampleEvent_Payload() {
	machine := readLog("boot/b-setupmode-262/binary_bios_measurements")
	for i := range machine.Events {
		e := &machine.Events[i]
		p, err := e.Payload()
		if err != nil {
			log.Fatal(err)
		}
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

// A boot with a command line that was not expected, and what it was not compared in.
func ExampleCompare() {
	good, odd := readLog("boot/a-sb-sdboot-262/binary_bios_measurements"), readLog("tampered/extra-pcr12.bin")
	c, err := tpm.Compare(good, odd)
	if err != nil {
		log.Fatal(err)
	}
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

// Before anything is sealed: which PCRs of the machine can be relied on?
func ExampleLog_Reliances() {
	all, err := readLog("boot/b-setupmode-262/binary_bios_measurements").Reliances()
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range all[4:8] {
		fmt.Println(r)
	}
	// Output:
	// PCR 4: predicted: the programs of the chain: \EFI\BOOT\BOOTX64.EFI, \EFI\Linux\bootlab_2+2-1.efi; programs behind the separator, as on edk2
	// PCR 5: predicted: partition table, loader.conf and ExitBootServices
	// PCR 6: as in this boot: what the vendor measures
	// PCR 7: predicted: PK, KEK, db and dbx; Secure Boot is off
}

// A remote service checks a quote, and that the log of the machine is the whole truth about it.
func ExampleVerifyQuote() {
	public, err1 := os.ReadFile("testdata/quote/ak.pem") // of the attestation key
	attest, err2 := os.ReadFile("testdata/quote/quote.attest")
	signature, err3 := os.ReadFile("testdata/quote/quote.sig")
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}
	block, _ := pem.Decode(public)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	nonce, err := hex.DecodeString("00112233445566778899aabbccddeeff")
	if err != nil {
		log.Fatal(err)
	}
	quote, err := tpm.VerifyQuote(key, attest, signature, nonce)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("covers PCRs 4, 7 and 11:", quote.Has(crypto.SHA256, 4, 7, 11))
	machine := readLog("boot/a-sb-sdboot-262/binary_bios_measurements")
	fmt.Println("explained by the log:", machine.VerifyQuote(quote) == nil)
	fmt.Println("explained by another boot's log:", readLog("boot/b-setupmode-262/binary_bios_measurements").VerifyQuote(quote) == nil)
	_, err = tpm.VerifyQuote(key, attest, signature, bytes.Repeat([]byte{1}, 16))
	fmt.Println(err)
	// Output:
	// covers PCRs 4, 7 and 11: true
	// explained by the log: true
	// explained by another boot's log: false
	// tpm: quote: nonce is 00112233445566778899aabbccddeeff, want 01010101010101010101010101010101
}

// The log of a confidential virtual machine is about RTMRs.
func ExampleRegisters() {
	ccel := readLog("tdx/ccel.bin")
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
	l := readLog("tdx/ccel.bin")
	_, err := l.ReplaySM3()
	fmt.Println(errors.Is(err, tpm.ErrBank), len(l.Events[1].Digest(tpm.AlgorithmSM3)), len(l.Events[1].Digest(0x000c)))
	// Output: true 0 48
}
