package bootloader

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pe"
)

// ErrNotShim is returned for a program in the place of shim that is not a shim, or does not start
// the loader.
var ErrNotShim = errors.New("this shim does not start the loader")

// places are those of an installation, the one that a Boot#### leads to first.
func (in *Installation) places(a *arch.Architecture) (list []arch.LoaderPlace) {
	for _, l := range a.LoaderPlaces() {
		if (l.Shim != "") == (in.Shim != nil) {
			list = append(list, l)
		}
	}
	if in.OmitFallback {
		list = list[:1]
	}
	return list
}

// parseShim parses a program that has the section that shims have and no other program; nil: it has
// not.
func parseShim(content []byte) *pe.File {
	f, err := pe.Parse(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil
	}
	if _, found, err := f.LongSection(bytes.NewReader(content), pe.ShimSection, maxLoader); err != nil || !found {
		return nil
	}
	return f
}

// readShim reads a shim that is to be installed. A shim whose DEFAULT_LOADER differs from the
// loader's name does not start it.
func readShim(content []byte) (*program, error) {
	f := parseShim(content)
	if f == nil {
		return nil, fmt.Errorf("%w: section %s is missing", ErrNotShim, pe.ShimSection)
	}
	p := &program{content: content}
	var ok bool
	if p.arch, ok = arch.ByMachine(f.Machine); !ok || p.arch.EFI == "" {
		return nil, fmt.Errorf("machine type %#04x, for which EFI defines no file name", f.Machine)
	}
	// The text with which shim begins: L"\\grubx64.efi", in some builds with two separators (shim,
	// shim.c, DEFAULT_LOADER).
	if name := `\` + p.arch.ShimLoader(); !bytes.Contains(content, efi.AppendUTF16(nil, name+"\x00")) {
		return nil, fmt.Errorf("%w: the shim does not contain the loader's file name %s: want a shim built with DEFAULT_LOADER=%s", ErrNotShim, name, p.arch.ShimLoader())
	}
	p.readSBAT(f)
	if p.sbatErr != nil {
		return nil, fmt.Errorf("%w: a newer shim, or the machine's SbatLevel, would stop it", p.sbatErr)
	}
	return p, nil
}

// chain plans one place of shim with the loader beside it. The loader changes first: shim is what
// the new one is judged by in either case, and it is never without one.
func (p *planner) chain(at arch.LoaderPlace, in *Installation, first bool, copies bool) (l loaderPlace, err error) {
	f, err := findFile(p.esp, at.Shim)
	if err != nil {
		return l, err
	}
	change, refused, foreign, err := p.shim(f, in.Shim, first)
	if err != nil || foreign {
		l.path = f.path
		return l, err
	}
	l, err = p.loader(osmith.ESPFile{Path: at.Loader, Content: in.Loader}, first, copies)
	if err != nil {
		return l, err
	}
	if l.foreign {
		p.keep(f.path, "", "what it starts is not systemd-boot")
		return l, nil
	}
	if refused != nil {
		p.find(f.path, refused)
		p.keep(f.path, "", "replacing it would be a step back")
		if _, ok := errors.AsType[*LoaderDowngradeError](refused); ok {
			// a newer systemd-boot is there, without a shim
			l.refused, l.running, l.changes = refused, true, nil
		}
		return l, nil
	}
	if change == nil {
		p.keep(f.path, "", "the same bytes")
		return l, nil
	}
	l.running = l.running || change.Before != ""
	l.changes = append(l.changes, *change)
	return l, nil
}

// shim plans a file that shim is to be. foreign says that something else is there, which stays.
func (p *planner) shim(f espFile, src osmith.Source, first bool) (change *FileChange, refused error, foreign bool, err error) {
	change = &FileChange{Path: f.path, Kind: ChangeCreate, Content: src, Reason: "missing"}
	if !f.there {
		return change, nil, false, nil
	}
	content, err := f.read(p.esp, maxLoader)
	if err != nil && !errors.Is(err, errTooLong) {
		return nil, nil, false, err
	}
	change.Kind = ChangeReplace
	if parsed := parseShim(content); parsed != nil {
		old := &program{content: content}
		if bytes.Equal(content, p.front.content) {
			return nil, nil, false, nil
		}
		old.readSBAT(parsed)
		if refused, err = p.lowers(old, p.front); err != nil {
			return nil, nil, false, fmt.Errorf("%s: %w", f.path, err)
		}
		change.Reason = "a shim with different content"
		return change, refused, false, nil
	}
	old, why := readProgram(content)
	switch {
	case why != nil && first:
		return nil, nil, false, fmt.Errorf("%s is not replaced, because it is neither shim nor systemd-boot (%w): remove the file if it is not needed", f.path, why)
	case why != nil:
		p.keep(f.path, "", "neither shim nor systemd-boot")
		p.find(f.path, &OtherLoaderError{Err: why})
		return nil, nil, true, nil
	}
	// Shim comes in front of what was started by firmware.
	if refused, err = p.refuses(old); err != nil {
		return nil, nil, false, fmt.Errorf("%s: %w", f.path, err)
	}
	change.Before, change.Reason = old.version, "systemd-boot, which shim now starts"
	return change, refused, false, nil
}
