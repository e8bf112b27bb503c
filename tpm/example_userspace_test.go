package tpm_test

import (
	"crypto"
	"errors"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/tpm"
)

// mkosiLog is systemd's log of a real boot.
func mkosiLog() *tpm.UserspaceLog {
	return must(tpm.ParseUserspaceLog(must(os.ReadFile("testdata/mkosi/b1/tpm2-measure.log"))))
}

// The moment at which the next boot unlocks its volumes, from what systemd measured in the last
// one. Without that, firmware's PCRs are not claimed once the initrd runs, since systemd 261 and
// later measure a word into them there.
func ExampleUserspace() {
	b := plannedBoot()
	b.Phases = []string{tpm.PhaseEnterInitrd}
	show := func() {
		log := must(tpm.Predict(b))
		fmt.Printf("%d PCRs; PCR 7: %v\n", len(must(log.Values(crypto.SHA256))), log.Coverage[7].Prediction)
	}
	show()
	b.Userspace = &tpm.Userspace{Earlier: must(mkosiLog().Until("nvpcr-separator"))}
	show()
	// an older initrd that has unlocked nothing yet
	b.Userspace = &tpm.Userspace{Systemd: "257.9", Identity: []tpm.Word{}}
	show()
	// Output:
	// 2 PCRs; PCR 7: not predicted
	// 15 PCRs; PCR 7: exact given the baseline
	// 15 PCRs; PCR 7: exact given the baseline
}

// The record of a volume key has a digest of its own: by its word alone PCR 15 is not known.
func ExampleWord() {
	b := plannedBoot()
	b.Phases = []string{tpm.PhaseEnterInitrd, tpm.PhaseLeaveInitrd}
	b.Userspace = tpm.PhasesAlone()
	for _, r := range mkosiLog().Records {
		if r.EventType == "volume-key" {
			for _, w := range []tpm.Word{{Text: r.Word}, {Text: r.Word, Digests: r.Digests}} {
				b.Userspace.Identity = []tpm.Word{w}
				fmt.Println(must(tpm.Predict(b)).Coverage[15].Prediction)
			}
		}
	}
	// Output:
	// not predicted
	// exact
}

// An initrd of one's own that measures phases and nothing else.
func ExamplePhasesAlone() {
	b := plannedBoot()
	b.Phases, b.Userspace = []string{tpm.PhaseEnterInitrd}, tpm.PhasesAlone()
	fmt.Println(len(must(must(tpm.Predict(b)).Values(crypto.SHA256))), "PCRs")
	// Output: 15 PCRs
}

// The NvPCRs of the next boot, whose image has another root hash.
func ExampleBoot_NVPCRs() {
	log := mkosiLog()
	b := tpm.Boot{Phases: log.Phases(), Userspace: &tpm.Userspace{Earlier: log, NVWords: map[string][]tpm.Word{
		"verity":   {{Text: tpm.VerityWord("usr", make([]byte, 32))}},
		"hardware": nil, // another machine's
	}}}
	for _, n := range must(b.NVPCRs()) {
		value, err := n.Value(crypto.SHA256, nil)
		if errors.Is(err, tpm.ErrNVPCRUnknown) {
			fmt.Printf("%s: not known\n", n.Name)
			continue
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
	for _, n := range mkosiLog().NVPCRs() {
		fmt.Printf("%s 0x%x %x…\n", n.Name, n.Index, must(n.Value(crypto.SHA256, nil))[:8])
	}
	// Output:
	// verity 0x1d10202 d23269449d837924…
	// hardware 0x1d10200 39dfb0afedbf938e…
	// cryptsetup 0x1d10201 1fb8c40915460124…
	// login 0x1d10203 f5a5fd42d16a2030…
}

// The log up to the moment at which a TPM gives out a volume's key.
func ExampleUserspaceLog_Until() {
	cut := must(mkosiLog().Until("nvpcr-separator"))
	fmt.Println(len(cut.Records), "records,", cut.Phases())
	// Output: 18 records, [enter-initrd]
}

func ExampleKeyslotWord() {
	fmt.Println(tpm.KeyslotWord("root", "980ca3f9-933c-4ce7-8032-ba95ef3636b2", "tpm2", 0))
	// Output: cryptsetup-keyslot:root:980ca3f9-933c-4ce7-8032-ba95ef3636b2:tpm2:0
}
