package uki

import (
	"bytes"
	"fmt"
	"io"
	"sort"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// AppliedAddon is what the stub takes from an add-on: the sections that its release applies, if they are for the machine.
type AppliedAddon struct {
	Name       string        // of the file
	Global     bool          // from loader/addons
	Cmdline    string        // content of .cmdline, "" for none
	DeviceTree osmith.Source // nil for none, and so the others
	Microcode  osmith.Source
	Initrd     osmith.Source
}

// mergeFiles sorts files as the stub takes them: by name, byte by byte.
func mergeFiles(a, b []CompanionFile) []CompanionFile {
	all := append(append([]CompanionFile(nil), a...), b...)
	sort.SliceStable(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// loadAddons opens the add-ons, global ones first. systemd 254, src/boot/efi/stub.c, cmdline_append_and_measure_addons;
// systemd 255, 257 and 262, load_addons.
func (h *handover) loadAddons() error {
	c := h.boot.Companions
	if c == nil || h.release < 254 {
		return nil
	}
	for _, dir := range []struct {
		files  []CompanionFile
		global bool
	}{{c.GlobalAddons, true}, {c.Addons, false}} {
		for _, file := range mergeFiles(dir.files, nil) {
			a, err := h.loadAddon(file)
			if err != nil {
				return fmt.Errorf("uki: add-on %s: %w", file.Name, err)
			}
			if a != nil {
				a.Global = dir.global
				h.out.Addons = append(h.out.Addons, *a)
			}
		}
	}
	return nil
}

// loadAddon reads an add-on; nil for one that the stub ignores.
func (h *handover) loadAddon(file CompanionFile) (*AppliedAddon, error) {
	f, err := OpenAddon(file.Content)
	if err != nil {
		return nil, err
	}
	list := make([]content, len(f.sections))
	for i, s := range f.sections {
		list[i] = content{s.Name, f.data(i), s.Size}
	}
	m, err := newMatcher(list, h.boot.Hardware, h.release)
	if err != nil {
		return nil, err
	}
	first := make(map[string]*content)
	for i := range list {
		c := &list[i]
		k := sdstub.SectionOf(c.name)
		if k == nil || h.release < k.Since || c.size == 0 || first[c.name] != nil {
			continue
		}
		if k.Repeats {
			if ok, err := m.takes(*c); err != nil {
				return nil, err
			} else if !ok {
				continue
			}
		}
		first[c.name] = c
	}
	if ok, err := h.forThisKernel(first[".uname"]); err != nil || !ok {
		return nil, err
	}
	return h.partsOf(file.Name, first)
}

// partsOf takes the sections that the release applies, nil if there are none.
func (h *handover) partsOf(name string, first map[string]*content) (*AppliedAddon, error) {
	a := &AppliedAddon{Name: name}
	if c := first[".cmdline"]; c != nil {
		text, err := readAll(c.src, c.size, maxText)
		if err != nil {
			return nil, &FormatError{0, "section .cmdline", err}
		}
		a.Cmdline = string(text)
	}
	source := func(name string) osmith.Source {
		c := first[name]
		if c == nil || h.release < sdstub.SectionOf(name).Addon {
			return nil
		}
		return io.NewSectionReader(c.src, 0, c.size)
	}
	a.Initrd, a.Microcode = source(".initrd"), source(".ucode")
	if a.DeviceTree = source(".dtbauto"); a.DeviceTree == nil {
		a.DeviceTree = source(".dtb")
	}
	if a.Cmdline == "" && a.DeviceTree == nil && a.Microcode == nil && a.Initrd == nil {
		return nil, nil
	}
	return a, nil
}

// forThisKernel compares .uname of the add-on, as far as it goes, with that of the image. Images and add-ons without one
// go with everything.
func (h *handover) forThisKernel(c *content) (bool, error) {
	own := h.section(".uname")
	if c == nil || own == nil {
		return true, nil
	}
	want, err := readAll(own.src, own.size, maxText)
	if err != nil {
		return false, &FormatError{0, "section .uname", err}
	}
	have, err := readAll(c.src, c.size, maxText)
	if err != nil {
		return false, &FormatError{0, "section .uname", err}
	}
	want, _, _ = bytes.Cut(want, []byte{0})
	prefix, _, ended := bytes.Cut(have, []byte{0})
	same := bytes.HasPrefix(want, prefix) && (!ended || len(prefix) == len(want))
	if !same && (h.release == 255 || h.release == 256) {
		return false, h.unknown("whether an add-on for kernel %q is ignored under kernel %q depends on the point release", prefix, want)
	}
	return same, nil
}

func (h *handover) countTrees() int {
	n := 0
	for _, a := range h.out.Addons {
		if a.DeviceTree != nil {
			n++
		}
	}
	return n
}

// measureTrees measures the device trees of add-ons.
func (h *handover) measureTrees() {
	for _, a := range h.out.Addons {
		if a.DeviceTree != nil {
			h.event(osmith.HandoverAddonDeviceTree, sdstub.PCRConfig, sdstub.TagAddonDeviceTree, a.Name, a.DeviceTree)
		}
	}
}
