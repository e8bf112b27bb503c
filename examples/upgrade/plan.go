package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/diagram"
	"github.com/osmith-dev/osmith/examples/internal/erofsfs"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// planning are the flags of plan and apply.
type planning struct {
	common
	from    source
	options upgrade.PlanOptions
	loader  bool
	shims   cli.List
}

func newPlanning(set *flag.FlagSet) *planning {
	p := new(planning)
	p.common.flags(set)
	p.from.flags(set)
	set.Func("override", fmt.Sprintf("`verdict` whose failure is ignored: one of %v; may be repeated", upgrade.Proofs()), func(name string) error {
		proof, err := upgrade.ParseProof(name)
		p.options.Override = append(p.options.Override, proof)
		return err
	})
	set.IntVar(&p.options.Tries, "tries", upgrade.DefaultTries, "`starts` that the new version has to be found good in, 1 to 99")
	set.StringVar(&p.options.Floor, "floor", "", "least `version` that is accepted")
	set.BoolVar(&p.loader, "loader", false, "install the boot loader of the release before its set")
	set.Var(&p.shims, "shim", "`file` of a shim in front of that boot loader; of several, the first that the machine's firmware starts")
	set.BoolVar(&p.options.TrustFallbackWithoutReadingIt, "trust-fallback-without-reading-it", false, "do not read the file system to return to")
	return p
}

// plan opens everything and makes the plan.
func (p *planning) plan(c *cli.Call, write bool) (result planResult, err error) {
	if p.options.Tries < 1 || p.options.Tries > 99 {
		return result, cli.Usagef("-tries %d: want 1 to 99", p.options.Tries)
	}
	if err := p.from.check(); err != nil {
		return result, err
	}
	if p.shims != nil && !p.loader {
		return result, cli.Usagef("-shim is for -loader")
	}
	s, err := p.open(c, write)
	if err != nil {
		return result, err
	}
	r, signers, err := p.from.open(c, p.pulled(s))
	if err != nil {
		return result, err
	}
	o := p.options
	o.At, o.Progress, o.Delta = time.Now(), c.Progress(), p.from.remote()
	if p.loader {
		o.Loader = new(bootloader.Installation)
	}
	for _, name := range p.shims {
		shim, err := c.Open(name)
		if err != nil {
			return result, err
		}
		o.LoaderOptions.Shims = append(o.LoaderOptions.Shims, shim)
	}
	o.ExtensionFileSystem = erofsfs.Open
	made, err := upgrade.NewPlan(c, s.disk, r, s.machine, o)
	if err != nil {
		return result, err
	}
	if result.before, err = upgrade.Inspect(s.disk, s.machine); err != nil {
		return result, err
	}
	return planResult{head: s.head, before: result.before, Release: releaseObject{r.Descriptor.Digest.String(), r.Version, signers}, Plan: made}, nil
}

// pulled says what of a release from the web need not be fetched: what the UKI has that runs, or
// that the loader would start. Why there is none, the plan says.
func (p *planning) pulled(s *subject) release.PullOptions {
	o := release.PullOptions{Hashes: s.machine.UKIHashes()}
	if !p.from.remote() {
		return o
	}
	state, err := upgrade.Inspect(s.disk, s.machine)
	if err != nil {
		return o
	}
	if old := cmp.Or(state.Running, state.Next); old != nil {
		if src, err := state.OpenUKI(old); err == nil {
			o.OldUKI = src
		}
	}
	return o
}

func planFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	p := newPlanning(set)
	svg := set.String("svg", "", "`file` for a picture of the disk before, after each step, and after")
	return func(c *cli.Call, _ []string) error {
		result, err := p.plan(c, false)
		if err != nil {
			return err
		}
		drawing := diagram.OfUpgrade(result.before, result.Plan)
		if *svg != "" {
			if err := cli.WriteFile(*svg, []byte(drawing.SVG())); err != nil {
				return err
			}
		}
		text := planText(result.Plan)
		if len(result.Plan.Steps) > 0 {
			text += "\n" + drawing.String()
		}
		return errors.Join(c.Answer(result, text), result.Plan.Refused())
	}
}

func applyFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	p := newPlanning(set)
	return func(c *cli.Call, _ []string) error {
		result, err := p.plan(c, true)
		if err != nil {
			return err
		}
		made := result.Plan
		if !c.JSON { // what will be done, before it is done
			if err := c.Answer(nil, planText(made)); err != nil {
				return err
			}
		}
		err = p.apply(c, made)
		result.Applied = err == nil && !made.Done()
		switch {
		case c.JSON:
			return errors.Join(c.Answer(result, ""), err)
		case err != nil || made.Done():
			return err
		case made.Installed:
			return c.Answer(nil, "applied: the boot loader; the system stays as it is\n")
		}
		then := "when the machine runs it and has found it good, it commits it: upgrade commit"
		if !result.Offline {
			then = "when it runs and is found good: " + p.command("commit")
		}
		return c.Answer(nil, fmt.Sprintf("applied: the next start is one of %s; %s\n", made.Entry, then))
	}
}

// apply carries the plan out. The error of one that was begun says how to go on.
func (p *planning) apply(c *cli.Call, made *upgrade.Plan) error {
	show, begun, last := c.Progress(), false, int64(-1)
	err := made.Apply(c, func(_ int, done, total int64) {
		begun = true
		if show != nil && done != last { // the last steps have no bytes
			show(done, total)
		}
		last = done
	})
	if err == nil || !begun {
		return err
	}
	return p.begun(err)
}

// begun adds to an error how to go on.
func (p *planning) begun(err error) error {
	return fmt.Errorf("%w\nupgrade: what booted before still boots; to go on, give the same command again; to take back what was written: %s", err, p.command("cancel"))
}
