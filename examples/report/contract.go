package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade"
)

// ask adds a claim with its evidence; missing says what would settle it, and counts unless the
// answer is yes.
func (w *commitment) ask(text string, a answer, missing string, evidence ...string) {
	c := claim{Claim: text, Answer: a, Evidence: texts(evidence)}
	if a != yes {
		c.Missing = missing
	}
	w.Claims = append(w.Claims, c)
}

// worst is the answer to all claims.
func worst(claims []claim) answer {
	out := yes
	for _, c := range claims {
		if c.Answer == no || c.Answer == unknown && out == yes {
			out = c.Answer
		}
	}
	return out
}

// contract asks what the three words stand for, of the last release.
func (r *report) contract(o *opened, m *machine) {
	for _, w := range []*commitment{r.replaceable(o, m), r.measurable(o), r.rollbackSafe(o)} {
		w.Answer = worst(w.Claims)
		r.Contract = append(r.Contract, *w)
	}
}

func (r *report) replaceable(o *opened, m *machine) *commitment {
	w := &commitment{Word: "replaceable", Promise: "The set is one unit with one version: it is signed, its parts belong together, and it is written only where nothing that boots depends on it."}
	s := o.facts
	if o.checkErr == nil {
		evidence := []string{"every blob has its digest; ID, version and architecture are those of the UKI"}
		if s.RootHash != "" {
			evidence = append(evidence, "every block of the root file system is what the hash tree says", "the command line and the tree have the root hash "+s.RootHash)
		}
		w.ask("the parts belong together", yes, "", evidence...)
	} else {
		w.ask("the parts belong together", no, "a release whose parts were made together (build.System)", o.checkErr.Error())
	}
	w.releaseSigned(s)
	w.images(o, m)
	w.rootHash(s)
	r.verdicts(w, upgrade.ProofFits, upgrade.ProofFollows)
	return w
}

// releaseSigned is about the signatures of the artifact.
func (w *commitment) releaseSigned(s *system) {
	const text = "the release is signed by whom the call trusts"
	err := s.Signatures.verifyErr
	switch {
	case len(s.Signatures.Release) == 0:
		w.ask(text, no, "a signature (release sign, cosign sign)", "nothing that lies beside the release signs it")
	case errors.Is(err, errNoTrust):
		w.ask(text, unknown, "whom to trust: -key or -policy", fmt.Sprintf("%d manifests beside it may hold signatures", len(s.Signatures.Release)))
	case errors.Is(err, cosign.ErrNoIdentityVerifier):
		w.ask(text, unknown, "release verify, which verifies identities", err.Error())
	case err != nil:
		w.ask(text, no, "a signature by one of them", err.Error())
	default:
		w.ask(text, yes, "", s.Signatures.ReleaseBy...)
	}
}

// images is about Secure Boot.
func (w *commitment) images(o *opened, m *machine) {
	bad := map[string]string{}
	count := map[string]int{}
	for _, x := range o.facts.Signatures.Secure {
		count[x.What]++
		if x.Answer != yes {
			bad[x.What] = x.Error
		}
	}
	for _, x := range []struct {
		what string
		is   bool
	}{{"UKI", true}, {"boot loader", o.Loader != nil}} {
		if !x.is {
			continue
		}
		src := o.UKI
		if x.what != "UKI" {
			src = o.Loader
		}
		switch claim := "the " + x.what + " has a signature for Secure Boot"; {
		case count[x.what] == 0:
			w.ask(claim, no, "a signature (uki sign)", "it has no signature")
		case bad[x.what] != "":
			w.ask(claim, no, "a signature over the image as it is", bad[x.what])
		default:
			w.ask(claim, yes, "", fmt.Sprintf("%d over the image as it is", count[x.what]))
		}
		a, reason := m.starts(src)
		missing := "the machine's variables: -vars"
		if a == no {
			missing = "a signature that leads to a certificate in db"
		}
		w.ask("firmware starts the "+x.what, a, missing, reason)
	}
}

// rootHash is about the signature of the root hash, which the kernel or systemd asks for.
func (w *commitment) rootHash(s *system) {
	if s.RootHash == "" {
		return // the system is its UKI
	}
	const text = "the root hash has a signature of its own"
	switch x := s.Signatures.RootHash; {
	case x == nil:
		w.ask(text, no, "a PKCS #7 (verity sign); without one, the root file system is vouched for by the UKI's command line alone", "the release has none")
	default:
		w.ask(text, x.Answer, "a signature whose certificate is known", x.Error)
	}
	if c := &w.Claims[len(w.Claims)-1]; c.Answer == yes {
		c.Evidence = texts([]string{"PKCS #7 by " + s.Signatures.RootHash.by()})
	}
}

// by is who has signed.
func (s *signed) by() string {
	if len(s.Certificates) == 0 {
		return "a signer whose certificate is not there"
	}
	return s.Certificates[0].Subject
}

func (r *report) measurable(o *opened) *commitment {
	w := &commitment{Word: "measurable", Promise: "Before a boot, anyone can compute what it will measure; after it, the log says which event made a PCR differ."}
	s := o.facts
	if s.PCR11Error != "" {
		w.ask("PCR 11 is known before the boot", unknown, "a stub that osmith knows", s.PCR11Error)
	} else {
		w.ask("PCR 11 is known before the boot", yes, "", fmt.Sprintf("%d values: of profiles, hardware and points of the boot", len(s.PCR11)))
	}
	a, evidence := o.statedPCRs()
	w.ask("the release states its PCRs", a, "reference values for attestation (build.Release)", evidence)
	if len(s.Signatures.PCRKeys) == 0 {
		w.ask("policies over PCR 11 are signed", no, "a key for PCR policies (uki build -pcr-private-key); without one, no secret can be sealed to what later versions measure", "the UKI has no .pcrsig")
	}
	for _, k := range s.Signatures.PCRKeys {
		w.ask(fmt.Sprintf("policies over PCR 11 are signed by %.8s", k.Fingerprint), k.Answer, "signatures at each point that is signed for by default", append([]string{fmt.Sprintf("%d policies in %s", k.Policies, strings.Join(k.Banks, ", "))}, k.Missing...)...)
	}
	for _, n := range []int{4, 7} {
		p := r.PCRs[n]
		if len(p.New) > 0 {
			w.ask(fmt.Sprintf("PCR %d is known before the boot", n), yes, "", strings.Join(p.New, " or "))
			continue
		}
		missing := "the boot loader of the machine: -loader"
		if n == 7 {
			missing += ", and its Secure Boot variables: -vars"
		}
		w.ask(fmt.Sprintf("PCR %d is known before the boot", n), unknown, missing, p.Note)
	}
	for _, t := range r.Tokens {
		claim := "the TPM opens " + t.File
		if t.Token >= 0 {
			claim += fmt.Sprintf(", token %d", t.Token)
		}
		w.ask(claim, t.New, "a token for the new release, or what its boot measures", t.Reasons...)
	}
	if len(r.Tokens) == 0 {
		w.ask("the TPM opens what is sealed", unknown, "the tokens: -token", "no token was given")
	}
	r.verdicts(w, upgrade.ProofUnlocks)
	return w
}

func (r *report) rollbackSafe(o *opened) *commitment {
	w := &commitment{Word: "rollback-safe", Promise: "Until the new set is found good, the old one boots, unlocks and understands the data; a power cut at any write leaves a bootable machine."}
	d := r.Disk
	switch {
	case d == nil:
		w.ask("there is a slot for the next version", unknown, "the disk, or its layout: -disk", "no disk was given")
	case len(d.Slots) >= 2:
		w.ask("there is a slot for the next version", yes, "", fmt.Sprintf("%d slots", len(d.Slots)))
	case o.Root == nil:
		w.ask("there is a slot for the next version", yes, "", "the release is a UKI alone, which needs none")
	default:
		w.ask("there is a slot for the next version", no, "a second slot for the root file system", fmt.Sprintf("the disk has %d slots", len(d.Slots)))
	}
	r.verdicts(w, upgrade.ProofBoots, upgrade.ProofReturns)
	if r.Change != nil {
		r.keysKept(w)
	}
	const cuts = "a power cut at any step leaves a machine that boots"
	switch {
	case d == nil || d.Plan == nil:
		w.ask(cuts, unknown, "the disk that is upgraded: -disk", "no upgrade was planned")
	case d.Plan.Installed:
		w.ask(cuts, yes, "", "the release is installed already: nothing is written")
	case d.Plan.Refused() != nil:
		w.ask(cuts, no, "the verdicts", "the plan is refused: nothing is written")
	default:
		w.ask(cuts, yes, "", fmt.Sprintf("%d steps, each with what a cut leaves; the new version boots from the last one on", len(d.Plan.Steps)))
	}
	return w
}

// keysKept is about what was sealed to the keys of the old release.
func (r *report) keysKept(w *commitment) {
	if len(r.Change.Comparison.Unlocks) == 0 {
		w.ask("secrets of the old release open in the new one", unknown, "signed PCR policies in the old release", "the old release has none: nothing is sealed to its key")
	}
	for _, k := range r.Change.Comparison.Unlocks {
		claim := fmt.Sprintf("what is sealed to key %.8s opens in both releases", k.Fingerprint)
		if k.Signed {
			w.ask(claim, yes, "", "the new UKI has signatures by this key at each point that is signed for by default")
			continue
		}
		w.ask(claim, no, "signatures by this key in the new UKI, until every machine is sealed to the next key", k.Missing...)
	}
}

// verdicts are those of an upgrade of the disk.
func (r *report) verdicts(w *commitment, proofs ...upgrade.Proof) {
	claims := map[upgrade.Proof]string{
		upgrade.ProofFits: "it fits, at the worst moment of the upgrade", upgrade.ProofFollows: "it may follow what runs",
		upgrade.ProofBoots: "firmware, loader and kernel take it", upgrade.ProofUnlocks: "the TPM unlocks for it", upgrade.ProofReturns: "the machine returns to the old set",
	}
	for _, proof := range proofs {
		if r.Disk == nil || r.Disk.Plan == nil {
			evidence := "no disk was given"
			if r.Disk != nil {
				evidence = r.Disk.Error
			}
			if r.Disk != nil && r.Disk.Layout {
				evidence = "a layout was given, which no machine runs from"
			}
			w.ask(claims[proof], unknown, "an image of the disk that is upgraded: -disk", evidence)
			continue
		}
		for _, v := range r.Disk.Plan.Verdicts {
			if v.Proof == proof {
				w.verdict(claims[proof], v)
			}
		}
	}
}

// verdict is one of the plan's. A restriction is something that is not known.
func (w *commitment) verdict(claim string, v upgrade.Verdict) {
	a := map[upgrade.Outcome]answer{upgrade.OutcomePass: yes, upgrade.OutcomeFail: no, upgrade.OutcomeWarn: unknown}[v.Outcome]
	if a == "" {
		a = unknown
	}
	var proven, missing []string
	for _, reason := range v.Reasons {
		if reason.Outcome == upgrade.OutcomePass {
			proven = append(proven, reason.Text)
		} else {
			missing = append(missing, reason.Text)
		}
	}
	w.ask(claim, a, text(strings.Join(missing, "; ")), proven...)
}
