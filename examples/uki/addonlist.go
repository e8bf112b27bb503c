package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/uki"
)

// imageDir is where boot loaders look for unified kernel images.
const imageDir = "EFI/Linux"

// A target is an image on a boot partition.
type target struct {
	volume   espvolume.Volume
	xbootldr bool
	path     string
	file     *uki.File
}

// images finds the images of an entry, or all of them if it is "". What is not an image is none.
func images(c *cli.Call, v *espvolume.Volumes, entry string, assume int) (found []target, err error) {
	for i, volume := range v.Each() {
		list, err := fs.ReadDir(volume, imageDir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			name := path.Join(imageDir, d.Name())
			if d.IsDir() || !strings.EqualFold(path.Ext(name), ".efi") || entry != "" && !isEntry(name, entry) {
				continue
			}
			src, err := openOn(c, volume, name)
			if err != nil {
				return nil, err
			}
			f, err := uki.Open(src)
			if err != nil && entry == "" {
				fmt.Fprintf(c.Stderr, "uki: %s: %v\n", name, prefix.Bare(err))
				continue
			}
			if err != nil {
				return nil, about{name, err}
			}
			found = append(found, target{volume, i == 1, name, f.AssumeStub(assume)})
		}
	}
	switch {
	case entry != "" && len(found) == 0:
		return nil, cli.No{Err: fmt.Errorf("%s: no such image in %s", entry, imageDir)}
	case entry != "" && len(found) > 1:
		return nil, cli.No{Err: fmt.Errorf("%s: %s and %s both have that name", entry, found[0].path, found[1].path)}
	}
	return found, nil
}

// isEntry compares an image with what a person calls it: its path or its name, with or without the
// boot counter.
func isEntry(image, entry string) bool {
	if !strings.Contains(entry, "/") {
		entry = path.Join(imageDir, entry)
	}
	return strings.EqualFold(image, entry) || strings.EqualFold(uki.AddonDirectory(image), uki.AddonDirectory(entry))
}

// openOn opens a file of a boot partition until the call ends.
func openOn(c *cli.Call, volume espvolume.Volume, name string) (osmith.Source, error) {
	f, err := volume.Open(name)
	if err != nil {
		return nil, err
	}
	c.AtEnd(func() { _ = f.Close() }) // opened for reading
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		return nil, fmt.Errorf("%s: cannot be read at an offset", name)
	}
	return io.NewSectionReader(r, 0, info.Size()), nil
}

func addonListFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	var p espvolume.Place
	p.Flags(set)
	j := new(judging)
	j.firmware.flags(set)
	j.assume = addAssume(set)
	return func(c *cli.Call, operands []string) error {
		v, err := p.Open(c, false)
		if err != nil {
			return err
		}
		if err := j.firmware.read(); err != nil {
			return err
		}
		entry := ""
		if len(operands) > 0 {
			entry = operands[0]
		}
		found, err := images(c, v, entry, *j.assume)
		if err != nil {
			return err
		}
		r := &addonList{header: newHeader(c, p.ESP), Images: []addonImage{}}
		for _, t := range found {
			one, _, err := j.list(t)
			if err != nil {
				return about{t.path, err}
			}
			r.Images = append(r.Images, *one)
		}
		return c.Answer(r, r.text())
	}
}

// list describes the add-ons of an image, and returns its companions with those add-ons alone that
// have an effect.
func (j *judging) list(t target) (*addonImage, *uki.Companions, error) {
	beside, err := uki.ReadCompanions(t.volume, t.path)
	if err != nil {
		return nil, nil, err
	}
	r := &addonImage{Path: t.path, XBOOTLDR: t.xbootldr, Uname: t.file.Uname(), Addons: []addon{}}
	found, err := t.file.FindAddons(uki.Boot{Companions: beside})
	if err != nil {
		r.Error = prefix.Bare(err).Error()
		return r, beside, nil
	}
	taken := *beside
	taken.Addons, taken.GlobalAddons = nil, nil
	for _, f := range found {
		one, err := j.describe(t.path, f)
		if err != nil {
			return nil, nil, err
		}
		if one.Verdict == verdictUnknown {
			r.Error = "whether the stub takes every add-on is not known"
		}
		if one.Verdict == verdictAccepted {
			list := &taken.Addons
			if f.Global {
				list = &taken.GlobalAddons
			}
			*list = append(*list, f.CompanionFile)
		}
		r.Addons = append(r.Addons, *one)
	}
	if r.Error != "" {
		return r, &taken, nil
	}
	h, err := t.file.Handover(uki.Boot{Companions: &taken, NoBootSecret: true, Consoles: []string{}})
	if err != nil {
		r.Error = prefix.Bare(err).Error()
		return r, &taken, nil
	}
	r.KernelCmdline = h.Cmdline
	r.PCR12, err = configPCR(h)
	return r, &taken, err
}

// The verdicts on an add-on that is there.
const (
	verdictAccepted = "accepted"
	verdictSkipped  = "skipped"
	verdictUnknown  = "unknown"
)

// describe says what becomes of an add-on that is there.
func (j *judging) describe(image string, f uki.FoundAddon) (*addon, error) {
	dir := uki.AddonDirectory(image)
	if f.Global {
		dir = uki.AddonDirectory("")
	}
	content := make([]byte, f.Content.Size())
	if _, err := f.Content.ReadAt(content, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	a := &addon{Path: path.Join(dir, f.Name), Global: f.Global, Cmdline: f.Cmdline, Signers: signers(content), Verdict: verdictAccepted}
	if f.File != nil {
		a.Uname = f.File.Uname()
	}
	a.Signature, a.Reason = j.firmware.judge(content)
	skipped, isSkipped := errors.AsType[*uki.SkippedAddonError](f.Err)
	format, isFormat := errors.AsType[*osmith.FormatError](f.Err)
	switch {
	case isSkipped:
		a.Verdict, a.Reason = verdictSkipped, skipped.Error()
	case isFormat:
		a.Verdict, a.Reason = verdictSkipped, format.Error()
	case a.Signature == signatureRefused:
		a.Verdict, a.Reason = verdictSkipped, "firmware refuses it: "+a.Reason
	case f.Err != nil:
		a.Verdict, a.Reason = verdictUnknown, prefix.Bare(f.Err).Error()
	case a.Signature == signatureUnknown:
		a.Verdict, a.Reason = verdictUnknown, "the stub takes it if firmware loads it: "+a.Reason
	default:
		a.Reason = ""
	}
	return a, nil
}

func (r *addonList) text() string {
	var b strings.Builder
	for _, im := range r.Images {
		fmt.Fprintf(&b, "%s", printable(im.Path))
		if im.Uname != "" {
			fmt.Fprintf(&b, "  kernel %s", printable(im.Uname))
		}
		b.WriteString("\n")
		for i, a := range im.Addons {
			fmt.Fprintf(&b, "  %d. %-8s %s\n", i+1, a.Verdict, printable(a.Path))
			if a.Reason != "" {
				fmt.Fprintf(&b, "       %s\n", printable(a.Reason))
			}
			if a.Cmdline != "" {
				fmt.Fprintf(&b, "       appends: %s\n", printable(a.Cmdline))
			}
			if a.Uname != "" {
				fmt.Fprintf(&b, "       for kernel %s\n", printable(a.Uname))
			}
			signed := "not signed"
			if len(a.Signers) > 0 {
				signed = "signed by " + strings.Join(a.Signers, "; ") + ", as it says"
			}
			fmt.Fprintf(&b, "       %s: %s\n", printable(signed), a.Signature)
		}
		switch {
		case im.Error != "":
			fmt.Fprintf(&b, "  what the kernel gets is not known: %s\n", printable(im.Error))
		default:
			fmt.Fprintf(&b, "  command line: %s\n  PCR 12: sha256 %s\n", printable(im.KernelCmdline), im.PCR12)
		}
	}
	return b.String()
}
