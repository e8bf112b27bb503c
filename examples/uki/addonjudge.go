package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/uki"
)

// judging are the flags by which an add-on is judged before a boot.
type judging struct {
	firmware  firmware
	overrides cli.List
	assume    *int
}

func (j *judging) flags(set *flag.FlagSet) {
	j.firmware.flags(set)
	set.Var(&j.overrides, "override", "`name` of a refusal that is not to count, such as root or .initrd; signature for one that is not known; may be repeated")
	j.assume = addAssume(set)
}

// overridden reports whether a refusal is not to count.
func (j *judging) overridden(name string) bool {
	return slices.ContainsFunc(j.overrides, func(o string) bool { return uki.SameArgument(o, name) })
}

// parts that make an add-on more than arguments for the kernel.
var refusedParts = map[string]string{
	".initrd": "its files are put over those of the image's initrd, which runs before the root file system is verified",
	".ucode":  "the kernel unpacks it as a part of the initrd, which runs before the root file system is verified",
}

// A candidate is an add-on that may come to an image, by its content, which is what is judged and
// what is written.
type candidate struct {
	name    string // that its file has, or will have
	content []byte
}

// readAddon reads one whole: what is judged is then what is written.
func readAddon(c *cli.Call, file, name string) (*candidate, error) {
	const most = 256 << 20
	src, err := c.Open(file)
	if err != nil {
		return nil, err
	}
	if src.Size() > most {
		return nil, cli.No{Err: about{file, fmt.Errorf("%d bytes, at most %d are read of an add-on", src.Size(), most)}}
	}
	b := make([]byte, src.Size())
	if _, err := io.ReadFull(io.NewSectionReader(src, 0, src.Size()), b); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &candidate{name, b}, nil
}

// judge says what becomes of an add-on beside an image that has others already.
func (j *judging) judge(r *addonResult, image *uki.File, beside *uki.Companions, global bool, add *candidate) error {
	note := func(severity uki.Severity, code, text string) {
		r.add(add.name, uki.Finding{Severity: severity, Code: code, Profile: -1, Text: text})
	}
	if err := uki.CheckAddonName(add.name); err != nil {
		note(uki.SeverityError, "addon-name", prefix.Bare(err).Error())
	}
	with := withAddon(beside, global, add)
	boot := uki.Boot{SecureBoot: j.firmware.known, Companions: with, NoBootSecret: true, Consoles: []string{}}
	found, err := image.FindAddons(boot)
	if errors.Is(err, uki.ErrUnknownStub) {
		note(uki.SeverityUnknown, "stub-unknown", prefix.Bare(err).Error())
		return nil
	}
	if err != nil {
		return err
	}
	at := slices.IndexFunc(found, func(a uki.FoundAddon) bool { return a.Name == add.name && a.Global == global })
	own := found[at]
	if own.File != nil {
		for _, f := range own.File.Check() {
			r.add(add.name, f)
		}
	}
	var skipped *uki.SkippedAddonError
	var format *osmith.FormatError
	switch {
	case own.Err == nil:
	case errors.As(own.Err, &skipped):
		code := "addon-skipped"
		if skipped.Got != "" {
			code = "addon-uname"
		}
		note(uki.SeverityError, code, skipped.Text+": the stub passes over it")
	case errors.As(own.Err, &format):
		note(uki.SeverityError, "malformed", format.Error())
		return nil
	default:
		note(uki.SeverityUnknown, "addon-unknown", own.Err.Error())
	}
	r.Signature, r.SignatureReason = j.firmware.judge(add.content)
	switch {
	case r.Signature == signatureRefused:
		note(uki.SeverityError, "signature", "firmware refuses it: "+r.SignatureReason)
	case r.Signature == signatureUnknown && !j.overridden("signature"):
		note(uki.SeverityUnknown, "signature", "whether firmware loads it is not known: "+r.SignatureReason)
	}
	j.refuse(r, image, found[:at], own, add)
	if own.Err != nil {
		return nil
	}
	return j.together(r, image, boot, beside, add)
}

// refuse adds what the refusal list has.
func (j *judging) refuse(r *addonResult, image *uki.File, before []uki.FoundAddon, own uki.FoundAddon, add *candidate) {
	r.Cmdline, r.Uname = own.Cmdline, own.File.Uname()
	line, _ := image.Cmdline()
	for _, a := range before {
		if a.Err == nil {
			line += " " + a.Cmdline
		}
	}
	refused := uki.RefusedArguments(line, own.Cmdline)
	for _, name := range []string{".initrd", ".ucode"} {
		if slices.ContainsFunc(own.File.Sections(), func(s uki.SectionInfo) bool { return s.Name == name }) {
			refused = append(refused, uki.RefusedArgument{Name: name, Text: "section " + name, Reason: refusedParts[name]})
		}
	}
	for _, f := range refused {
		over := j.overridden(f.Name)
		r.Refusals = append(r.Refusals, refusal{f.Name, f.Text, f.Reason, over})
		if !over {
			r.add(add.name, uki.Finding{Severity: uki.SeverityError, Code: "refused", Profile: -1,
				Text: fmt.Sprintf("%s: %s; -override '%s' takes it all the same", f.Text, f.Reason, f.Name)})
		}
	}
}

// together adds what the kernel gets with the add-on and without, and what is wrong with that.
func (j *judging) together(r *addonResult, image *uki.File, boot uki.Boot, beside *uki.Companions, add *candidate) error {
	with, err := image.Handover(boot)
	if err != nil {
		r.add(add.name, uki.Finding{Severity: uki.SeverityUnknown, Code: "addon-cmdline", Profile: -1, Text: fmt.Sprintf("what the kernel gets with it is not known: %v", prefix.Bare(err))})
		return nil
	}
	boot.Companions = beside
	without, err := image.Handover(boot)
	if err != nil {
		return err
	}
	for _, f := range with.Findings {
		r.add(add.name, f)
	}
	r.KernelCmdline = with.Cmdline
	for i, h := range []*uki.Handover{without, with} {
		sum, err := configPCR(h)
		if err != nil {
			return err
		}
		*[]*string{&r.PCR12Before, &r.PCR12}[i] = sum
	}
	return nil
}

// withAddon are companions with one add-on more, or with another content of one.
func withAddon(beside *uki.Companions, global bool, add *candidate) *uki.Companions {
	c := uki.Companions{}
	if beside != nil {
		c = *beside
	}
	list := &c.Addons
	if global {
		list = &c.GlobalAddons
	}
	*list = slices.DeleteFunc(slices.Clone(*list), func(f uki.CompanionFile) bool { return strings.EqualFold(f.Name, add.name) })
	*list = append(*list, uki.CompanionFile{Name: add.name, Content: bytes.NewReader(add.content)})
	return &c
}

// configPCR is PCR 12 in the SHA-256 bank after what the stub measures into it.
func configPCR(h *uki.Handover) (string, error) {
	measured, err := h.Measure(crypto.SHA256)
	if err != nil {
		return "", err
	}
	value := make([]byte, sha256.Size)
	for _, e := range measured.Events {
		if e.PCR == sdstub.PCRConfig {
			sum := sha256.Sum256(slices.Concat(value, e.Digests[crypto.SHA256]))
			value = sum[:]
		}
	}
	return hex.EncodeToString(value), nil
}
