package uki

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf16"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// SkippedAddonError says why a stub skips an add-on that firmware has loaded.
type SkippedAddonError struct {
	// Want and Got are .uname of the image and of the add-on, if the add-on is for a different
	// kernel.
	Want, Got string

	Text string
}

func (e *SkippedAddonError) Error() string { return e.Text }

// A FoundAddon is an add-on in a directory where the stub of an image looks for add-ons.
type FoundAddon struct {
	CompanionFile
	Global bool  // from loader/addons
	File   *File // nil if Err says that it is malformed

	// Cmdline is what the stub appends to the command line: what it drops of the section .cmdline
	// is not in it.
	Cmdline string

	// Err is why the stub does not apply it: a [*SkippedAddonError], an [*osmith.FormatError] if
	// firmware cannot load it, [ErrUnknownStub] if the stub's behaviour is unknown. Nil: the stub
	// applies the add-on, if firmware loads it.
	Err error
}

// FindAddons lists the add-ons among the companions of a boot, in the order in which the stub loads
// them: those for all images first, and by name in each directory. Package signing/secureboot
// answers whether firmware accepts their signatures.
func (f *File) FindAddons(b Boot) (_ []FoundAddon, err error) {
	defer prefix.Add("uki", &err)
	h, err := f.handover(b)
	if err != nil || b.Companions == nil {
		return nil, err
	}
	var found []FoundAddon
	for _, dir := range []struct {
		files  []CompanionFile
		global bool
	}{{b.Companions.GlobalAddons, true}, {b.Companions.Addons, false}} {
		for _, file := range mergeFiles(dir.files, nil) {
			a := FoundAddon{CompanionFile: file, Global: dir.global}
			h.judgeAddon(&a, f)
			found = append(found, a)
		}
	}
	return found, nil
}

// judgeAddon opens an add-on and says what becomes of it.
func (h *handover) judgeAddon(a *FoundAddon, image *File) {
	a.File, a.Err = open(a.Content, kindAddon)
	switch {
	case a.Err != nil:
		return
	case h.release < 254:
		a.Err = &SkippedAddonError{Text: fmt.Sprintf("stubs of systemd %d take no add-ons, those of 254 and later do", h.release)}
		return
	case a.File.pe.Machine != image.pe.Machine:
		a.Err = &SkippedAddonError{Text: fmt.Sprintf("the add-on is for machine type %#04x, and the image for %#04x: firmware does not load it", a.File.pe.Machine, image.pe.Machine)}
		return
	}
	applied, err := h.applyAddon(a.Name, a.File)
	if err != nil {
		a.Err = err
		return
	}
	if applied.Cmdline != "" {
		a.Cmdline = string(utf16.Decode(sdstub.Mangle(sdstub.JoinAddons([]string{applied.Cmdline}, h.release), h.release)))
	}
}

// AddonDirectory is where the stub of the image at a path of a partition looks for its add-ons and
// other companions; a boot counter in the image's name is ignored. "" stands for add-ons of all
// images.
func AddonDirectory(image string) string {
	if image == "" {
		return "loader/addons"
	}
	return withoutCounter(image) + ".extra.d"
}

// CheckAddonName says why the stub would ignore an add-on with this file name.
func CheckAddonName(name string) error {
	const suffix = ".addon.efi"
	switch {
	case path.Base(name) != name || strings.ContainsAny(name, `\:*?"<>|`):
		return fmt.Errorf("uki: add-on %q: want a plain file name", name)
	case !strings.HasSuffix(strings.ToLower(name), suffix) || len(name) == len(suffix):
		return fmt.Errorf("uki: add-on %q: the stub takes files whose names end with %s", name, suffix)
	case !stubTakes(name):
		return fmt.Errorf("uki: add-on %q: the stub takes names of at most 255 ASCII characters that do not begin with a dot", name)
	}
	return nil
}
