package main

import (
	"encoding/hex"
	"flag"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/tokens"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// compareResult is the object of compare.
type compareResult struct {
	cli.Header
	PCRs   []pcrChange     `json:"pcrs"`   // 0 to 15
	Causes []string        `json:"causes"` // what is another, in words
	Tokens []comparedToken `json:"tokens"`
}

type pcrChange struct {
	PCR int `json:"pcr"`
	// "none", "changes", "may change" or "not known"
	Effect string              `json:"effect"`
	Note   string              `json:"note,omitempty"` // why it is not known
	Old    map[string][]string `json:"old,omitempty"`  // values by bank, where they change
	New    map[string][]string `json:"new,omitempty"`
}

// comparedToken is a secret, and whether it is unlocked by each of the boots that may happen: the
// verdict is that of the worst.
type comparedToken struct {
	File string          `json:"file"`
	ID   *int            `json:"id,omitempty"` // in a LUKS2 header
	Old  sealing.Verdict `json:"old"`
	New  sealing.Verdict `json:"new"`
	// why it is not unlocked by the new boot, or why that is not known
	Reasons []string `json:"reasons"`
}

func (t *comparedToken) String() string {
	name := t.File
	if t.ID != nil {
		name += fmt.Sprintf(", token %d", *t.ID)
	}
	text := fmt.Sprintf("%s: %v", name, t.New)
	if t.Old != t.New {
		text += fmt.Sprintf(" (before: %v)", t.Old)
	}
	return text + "\n"
}

// files is a flag that may be given more than once.
type files []string

func (f *files) String() string { return strings.Join(*f, ",") }

func (f *files) Set(name string) error {
	*f = append(*f, name)
	return nil
}

func compareFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	var names files
	set.Var(&names, "token", "`file` with a token, or a LUKS2 header in JSON with several; may be given more than once")
	baseline := set.String("baseline", "", "`log` of an earlier boot of the machine, for both files in the place of their \"firmware\"")
	pin := set.Bool("pin", false, "the right PIN is entered")
	return func(c *cli.Call, operands []string) error {
		old, err := predictBoots(c, operands[0], *baseline)
		if err != nil {
			return err
		}
		next, err := predictBoots(c, operands[1], *baseline)
		if err != nil {
			return err
		}
		changes, err := tpm.CompareBoots(old.All, next.All)
		if err != nil {
			return err
		}
		r := compareResult{Header: c.Header(), Causes: []string{}, Tokens: []comparedToken{}}
		if r.PCRs, err = changeObjects(changes, old.All, next.All); err != nil {
			return err
		}
		var text strings.Builder
		for _, p := range changes.PCRs {
			fmt.Fprintln(&text, p)
		}
		for _, d := range changes.Causes {
			r.Causes = append(r.Causes, d.String())
			fmt.Fprintln(&text, "because", d)
		}
		locked := 0
		for _, name := range names {
			list, err := compareTokens(name, old, next, *pin)
			if err != nil {
				return err
			}
			for _, t := range list {
				text.WriteString(t.String())
				for _, reason := range t.Reasons {
					fmt.Fprintf(&text, "  %s\n", reason)
				}
				if t.New != sealing.VerdictOpens {
					locked++
				}
			}
			r.Tokens = append(r.Tokens, list...)
		}
		if err := c.Answer(r, text.String()); err != nil {
			return err
		}
		if locked > 0 {
			return cli.No{Err: fmt.Errorf("%d of %d tokens would not be unlocked, or it is not known", locked, len(r.Tokens))}
		}
		return nil
	}
}

func changeObjects(changes *tpm.Changes, old, next tpm.Alternatives) (out []pcrChange, err error) {
	values := func(of tpm.Alternatives, pcr int) (map[string][]string, error) {
		out := map[string][]string{}
		for _, h := range of[0].Banks() {
			all, err := of.Values(h)
			if err != nil {
				return nil, err
			}
			for _, v := range all[pcr] {
				out[tpm.BankName(h)] = append(out[tpm.BankName(h)], hex.EncodeToString(v))
			}
		}
		return out, nil
	}
	for _, p := range changes.PCRs {
		o := pcrChange{PCR: p.PCR, Effect: p.Effect.String(), Note: p.Note}
		if p.Effect == tpm.EffectChanges || p.Effect == tpm.EffectMay {
			if o.Old, err = values(old, p.PCR); err != nil {
				return nil, err
			}
			if o.New, err = values(next, p.PCR); err != nil {
				return nil, err
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// predictBoots predicts all boots of a BOOT.json.
func predictBoots(c *cli.Call, name, baseline string) (out tokens.Boots, err error) {
	described, err := readBoots(name)
	if err != nil {
		return out, err
	}
	for i, in := range described {
		if baseline != "" {
			in.Firmware = baseline
		}
		b, err := compose(c, in)
		if err != nil {
			return out, fmt.Errorf("%s: boot %d: %w", name, i, err)
		}
		ways, err := tpm.PredictAll(b)
		if err != nil {
			return out, fmt.Errorf("%s: boot %d: %w", name, i, err)
		}
		signatures := policy.Signatures{}
		if in.UKI != "" {
			if signatures, err = tokens.ReadSignatures(c, in.UKI); err != nil {
				return out, fmt.Errorf("%s: %w", in.UKI, err)
			}
		}
		out.Add(ways, signatures)
	}
	return out, nil
}

// compareTokens asks of each token of a file whether the boots unlock it.
func compareTokens(name string, old, next tokens.Boots, pin bool) (out []comparedToken, err error) {
	list, _, err := tokens.Read(name)
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		r := comparedToken{File: name, Reasons: []string{}}
		if t.ID >= 0 {
			r.ID = &t.ID
		}
		before, err := old.Worst(t.Token, pin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		after, err := next.Worst(t.Token, pin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		r.Old, r.New = before.Verdict, after.Verdict
		for _, reason := range after.Reasons {
			r.Reasons = append(r.Reasons, reason.String())
		}
		out = append(out, r)
	}
	return out, nil
}
