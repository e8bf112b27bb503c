package tpm_test

import (
	"crypto"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/tpm"
)

// readUserspaceLog reads what systemd has in /run/log/systemd/tpm2-measure.log.
func readUserspaceLog(name string) *tpm.UserspaceLog {
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		log.Fatal(err)
	}
	records, err := tpm.ParseUserspaceLog(raw)
	if err != nil {
		log.Fatal(err)
	}
	return records
}

// What systemd measured after the kernel had started.
func ExampleParseUserspaceLog() {
	raw, err := os.ReadFile("testdata/userspace/tpm2-measure.log")
	if err != nil {
		log.Fatal(err)
	}
	u, err := tpm.ParseUserspaceLog(raw)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range u.Records[len(u.Records)-3:] {
		fmt.Printf("PCR %d: %s: %s\n", r.PCR, r.EventType, r.Word)
	}
	// Output:
	// PCR 11: phase: ready
	// PCR 15: machine-id: machine-id:0123456789abcdef0123456789abcdef
	// PCR 15: filesystem: file-system:/sysroot:erofs:00000000-0000-0000-0000-000000000002::::
}

// The log up to the moment at which a TPM gives out a volume's key.
func ExampleUserspaceLog_Until() {
	cut, err := readUserspaceLog("mkosi/b1/tpm2-measure.log").Until("nvpcr-separator")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(cut.Records), "records,", cut.Phases())
	// Output: 18 records, [enter-initrd]
}

// The NvPCRs of the next boot, whose image has another root hash.
func ExampleBoot_NVPCRs() {
	earlier := readUserspaceLog("mkosi/b1/tpm2-measure.log")
	b := tpm.Boot{Phases: earlier.Phases(), Userspace: &tpm.Userspace{Earlier: earlier, NVWords: map[string][]tpm.Word{
		"verity":   {{Text: tpm.VerityWord("usr", make([]byte, 32))}},
		"hardware": nil, // another machine's
	}}}
	all, err := b.NVPCRs()
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range all {
		value, err := n.Value(crypto.SHA256, nil)
		if errors.Is(err, tpm.ErrNVPCRUnknown) {
			fmt.Printf("%s: not known\n", n.Name)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %x…, of %d words\n", n.Name, value[:8], len(n.Words))
	}
	// Output:
	// verity: 9a5909d6feba9813…, of 1 words
	// hardware: not known
	// cryptsetup: 1fb8c40915460124…, of 1 words
	// login: f5a5fd42d16a2030…, of 0 words
}

// What systemd wrote of NvPCRs, as `systemd-analyze nvpcrs` shows them.
func ExampleUserspaceLog_NVPCRs() {
	for _, n := range readUserspaceLog("mkosi/b1/tpm2-measure.log").NVPCRs() {
		value, err := n.Value(crypto.SHA256, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s 0x%x %x…\n", n.Name, n.Index, value[:8])
	}
	// Output:
	// verity 0x1d10202 d23269449d837924…
	// hardware 0x1d10200 39dfb0afedbf938e…
	// cryptsetup 0x1d10201 1fb8c40915460124…
	// login 0x1d10203 f5a5fd42d16a2030…
}

func ExampleKeyslotWord() {
	fmt.Println(tpm.KeyslotWord("root", "980ca3f9-933c-4ce7-8032-ba95ef3636b2", "tpm2", 0))
	// Output: cryptsetup-keyslot:root:980ca3f9-933c-4ce7-8032-ba95ef3636b2:tpm2:0
}
