// This program demonstrates packages build, upgrade, tpm and signing: it writes one page about a
// release, or about two and what becomes of a machine that goes from the one to the other.
//
//	report RELEASE [OTHER] [-o HTML] [-key F... | -policy P.json [-repository NAME]] [-disk IMG|LAYOUT.json|REPART.d]
//	       [-token T.json]... [-pin] [-loader F] [-baseline LOG] [-phases-alone] [-date DATE] [-arch A] [-strict]
//	       [what is known of the machine: -vars, -pcr-key, ... as upgrade -offline takes them]
//
//	report -o acme.html /var/cache/acme:1 /var/cache/acme:2 -key release.pub
//
// RELEASE is the directory of an OCI image layout, and a tag or digest in it, as LAYOUT:REF; the
// REF may be left out if there is one release. With OTHER, RELEASE is the old one and OTHER the new
// one.
//
// The page is one file of HTML without scripts, which loads nothing: for a phone, for a screen in
// light or dark, for a printer. It shows the UKI, what each PCR will be and why it changes,
// signatures with their certificates, SBOMs, the disk and each step of its upgrade; and under the
// three words of the contract, replaceable, measurable and rollback-safe, what this image has to
// show for each. An answer is yes, no or unknown, with what is missing. What was not given is not
// known, and unknown is never a yes. A release that does not say until when it is supported is
// shown as one that does not.
//
// -disk is the image of a disk that will be upgraded to the release, or a layout for a picture of
// it. -token is a token or the JSON of a LUKS2 header, of which the TPM is asked in the initrd;
// PCRs that systemd measures more than phases into are not known there, unless -phases-alone says
// that it does not. -baseline is the event log of an earlier boot, by which the firmware's own PCRs
// are known. -date is the day that the validity of certificates is checked against; the program
// does not look at the clock.
//
// Without -o the page goes to stdout, or with -json the same facts as one object:
// docs/schema/report.json. -json with -o writes both. -progress is of no use here.
//
// Exit status: 0 nothing in the report is a no, with -strict nothing unknown either; 1 something
// is, and the page is written nevertheless, or the release is not what it says; 2 usage or I/O.
package main

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/machineflags"
	"github.com/osmith-dev/osmith/examples/internal/releaseflags"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func main() { program.Main() }

var program = cli.Program{Name: "report", Schema: schema, IsNo: isNo, Verbs: []cli.Verb{
	{Usage: "RELEASE [OTHER] [-o HTML] [flags]", Example: "report /var/cache/acme:1 /var/cache/acme:2 -disk disk.img -key release.pub -vars OVMF_VARS.fd -o report.html",
		Least: 1, Most: 2, Flags: flags},
}}

// isNo tells answers of the packages that are negative ones.
func isNo(err error) bool {
	for _, is := range []func(error) bool{is[*osmith.FormatError], is[*osmith.DigestError], is[*release.InconsistentError]} {
		if is(err) {
			return true
		}
	}
	return errors.Is(err, release.ErrNoArchitecture)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// options are the values of the flags.
type options struct {
	out, disk, loader, baseline, date, arch string
	trust                                   releaseflags.Trust
	known                                   machineflags.Known
	tokens                                  cli.List
	pin, phasesAlone, strict                bool
}

func flags(set *flag.FlagSet) func(*cli.Call, []string) error {
	o := new(options)
	set.StringVar(&o.out, "o", "", "`file` for the page (default: stdout)")
	set.StringVar(&o.disk, "disk", "", "image `file` of a disk that will be upgraded, or a layout (LAYOUT.json, REPART.d)")
	set.StringVar(&o.trust.File, "policy", "", "`file` with a policy, JSON, by which the release must be signed")
	set.StringVar(&o.trust.Repository, "repository", "", "`name` by which the policy's rule is found")
	set.Var(&o.trust.Keys, "key", "`file` with public keys, one of which must have signed the release; may be repeated")
	set.StringVar(&o.arch, "arch", runtime.GOARCH, "`architecture` whose release is taken from an index")
	set.Var(&o.tokens, "token", "`file` with a token, or a LUKS2 header in JSON with several; may be repeated")
	set.BoolVar(&o.pin, "pin", false, "the right PIN is entered")
	set.StringVar(&o.loader, "loader", "", "`file` of the boot loader that the machine has (default: that of the release)")
	set.StringVar(&o.baseline, "baseline", "", "`log` of an earlier boot of the machine")
	set.BoolVar(&o.phasesAlone, "phases-alone", false, "until secrets are unlocked, systemd measures phases and nothing else")
	set.StringVar(&o.date, "date", "", "`day` of the report, such as 2026-01-31")
	set.BoolVar(&o.strict, "strict", false, "what is unknown is a no, too")
	o.known.Flags(set)
	return o.report
}

func (o *options) report(c *cli.Call, operands []string) error {
	var day time.Time
	if o.date != "" {
		var err error
		if day, err = time.Parse(time.DateOnly, o.date); err != nil {
			return cli.Usagef("-date %s: want a day, such as 2026-01-31", o.date)
		}
	}
	switch {
	case o.trust.File != "" && o.trust.Keys != nil:
		return cli.Usagef("-policy and -key: one of them")
	case o.trust.Repository != "" && o.trust.File == "":
		return cli.Usagef("-repository is for -policy")
	}
	m, err := o.machine(c)
	if err != nil {
		return err
	}
	m.day = day
	r, err := o.gather(c, operands, m)
	if err != nil {
		return err
	}
	page, err := r.page()
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := cli.WriteFile(o.out, page); err != nil {
			return err
		}
		page = nil
	}
	if err := c.Answer(r, string(page)); err != nil {
		return err
	}
	return r.refused(o.strict)
}

// machine reads what is known of the machine that boots the release.
func (o *options) machine(c *cli.Call) (*machine, error) {
	if err := o.known.Check(); err != nil {
		return nil, err
	}
	off, err := o.known.Off()
	if err != nil {
		return nil, err
	}
	m := &machine{Machine: off, phasesAlone: o.phasesAlone, pin: o.pin}
	if m.baseline, err = readBaseline(o.baseline); err != nil {
		return nil, err
	}
	if o.loader == "" {
		return m, nil
	}
	loader, err := c.Open(o.loader)
	if err != nil {
		return nil, err
	}
	m.loader = loader
	return m, nil
}

// gather makes the report.
func (o *options) gather(c *cli.Call, operands []string, m *machine) (*report, error) {
	r := &report{Header: c.Header(), Date: o.date, PCRs: []register{}, Tokens: []secret{}, Contract: []commitment{}}
	var all []*opened
	for _, operand := range operands {
		one, err := openRelease(c, operand, o.arch)
		if err != nil {
			return nil, err
		}
		if err := one.gather(c, operand, &o.trust, m.day); err != nil {
			return nil, fmt.Errorf("%s: %w", operand, err)
		}
		all, r.Releases = append(all, one), append(r.Releases, one.facts)
	}
	last := all[len(all)-1]
	next, why := m.boots(c, last)
	var old tpm.Alternatives
	if len(all) == 2 {
		comparison, err := build.Compare(c, all[0].Release, last.Release)
		if err != nil {
			return nil, err
		}
		r.Change = &change{Comparison: comparison, Causes: []string{}}
		if old, err = m.boots(c, all[0]); err != nil {
			r.Change.Error = text(err.Error())
		}
	}
	if c.Err() != nil {
		return nil, c.Err()
	}
	if err := r.pcrs(old, next, why); err != nil {
		return nil, err
	}
	if err := r.tokens(c, o.tokens, m, all); err != nil {
		return nil, err
	}
	if o.disk != "" {
		if err := r.readDisk(c, o.disk, m, last.Release); err != nil {
			return nil, err
		}
	}
	r.contract(last, m)
	return r, nil
}

// refused is the answer of the whole report.
func (r *report) refused(strict bool) error {
	counts := r.counts()
	if counts[no] == 0 && (!strict || counts[unknown] == 0) {
		return nil
	}
	return cli.No{Err: fmt.Errorf("of %d claims %d are a no, and %d are unknown", counts[yes]+counts[no]+counts[unknown], counts[no], counts[unknown])}
}

// counts are how many claims have which answer.
func (r *report) counts() map[answer]int {
	out := map[answer]int{}
	for _, w := range r.Contract {
		for _, c := range w.Claims {
			out[c.Answer]++
		}
	}
	return out
}
