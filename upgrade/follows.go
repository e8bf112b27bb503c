package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
)

// ProductError is a reason of the follows verdict: the release belongs to a different product than
// the running one.
type ProductError struct {
	What      string // "product", "variant", "machine type"
	Want, Got string
}

func (e *ProductError) Error() string {
	return fmt.Sprintf("the release has %s %q, want %q as the running version", e.What, e.Got, e.Want)
}

// OlderError is a reason of the follows verdict: the release is older than the lowest accepted
// version.
type OlderError struct {
	Version string
	Than    string // version
	Whose   string // "the version that runs", "PlanOptions.Floor", "Machine.Floor"
}

func (e *OlderError) Error() string {
	return fmt.Sprintf("version %s is older than %s, %s", e.Version, e.Than, e.Whose)
}

// productOfEntry is the product of an installed set; an error if its entry starts no UKI that can
// be read.
func (s *State) productOfEntry(e *Entry) (p osset.Product, err error) {
	if e.Type != bootloader.EntryType2 && e.Type != bootloader.EntryType1UKI {
		return p, fmt.Errorf("%s has the kind %q, which has no os-release", e.Path, e.Type)
	}
	src, err := openFile(s.esp, e.Loader)
	if err != nil {
		return p, err
	}
	f, err := uki.Open(src)
	if err != nil {
		return p, err
	}
	return osset.ProductOf(f)
}

// judgeFollows asks whether the release may take the place of what runs: the same product, not
// older, and not one that has failed here.
func (p *Plan) judgeFollows() Verdict {
	j := Verdict{Proof: ProofFollows}
	own := p.identity.Product
	switch have, err := p.state.productOfEntry(p.from); {
	case err != nil:
		j.warn("whether the release is for the running product is unknown: %v", err)
	default:
		before := j.Outcome
		for _, c := range []struct {
			what, want, got string
		}{
			{"product", have.ID, own.ID},
			{"variant", have.Variant, own.Variant},
			{"machine type", fmt.Sprintf("%#x", have.Machine), fmt.Sprintf("%#x", own.Machine)},
		} {
			if c.want != c.got {
				j.fail(&ProductError{c.what, c.want, c.got})
			}
		}
		if j.Outcome == before {
			j.pass("the release is of product %s, as is the running version", strings.Join(nonEmpty(own.ID, own.Variant), " "))
		}
		p.judgeAge(&j, have.Version, "the version that runs")
	}
	p.judgeAge(&j, p.floor, "PlanOptions.Floor")
	p.judgeAge(&j, p.machine.Floor, "Machine.Floor")
	p.judgeMemory(&j)
	return j
}

// judgeAge compares the release's version with one that it must not be older than.
func (p *Plan) judgeAge(j *Verdict, than, whose string) {
	if than == "" {
		return
	}
	if bootloader.CompareVersions(p.Version, than) < 0 {
		j.fail(&OlderError{p.Version, than, whose})
		return
	}
	j.pass("version %s is not older than %s, %s", p.Version, than, whose)
}

// judgeMemory asks whether the release has failed on this machine before.
func (p *Plan) judgeMemory(j *Verdict) {
	failed, err := p.failedBefore()
	switch {
	case errors.Is(err, errMemory):
		j.warn("%v", err)
	case err != nil:
		j.fail(err)
	case failed != nil:
		j.fail(failed)
	default:
		j.pass("nothing on the ESP says that the release has failed here")
	}
}

func nonEmpty(list ...string) (out []string) {
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// isDowngrade reports whether the release is older than what runs, and that is overridden.
func (p *Plan) isDowngrade() bool {
	have, err := p.state.productOfEntry(p.from)
	return err == nil && cmp.Or(have.Version, p.Version) != p.Version && bootloader.CompareVersions(p.Version, have.Version) < 0 && p.overrides(ProofFollows)
}
