package upgrade

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// ShimChoice says which of several shims a plan puts in front of the loader.
type ShimChoice struct {
	Index   int     // index in LoaderOptions.Shims
	Refused []error // why each shim before it was not taken

	content *bytes.Reader
}

// is reports whether that is the chosen shim.
func (c *ShimChoice) is(src osmith.Source) bool {
	if src.Size() != c.content.Size() {
		return false
	}
	got, err := digest(src)
	want, _ := digest(c.content) // of memory
	return err == nil && got == want
}

// NoShimError says that no shim works on this machine: firmware refuses it, or it refuses the
// loader.
type NoShimError struct {
	Refused []error // one error for each shim
}

func (e *NoShimError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "none of %d shims starts the boot loader on this machine", len(e.Refused))
	for i, err := range e.Refused {
		fmt.Fprintf(&b, "; shim %d: %v", i+1, err)
	}
	return b.String()
}

// Unwrap is why.
func (e *NoShimError) Unwrap() []error { return e.Refused }

// ErrShimUnknown says that there are several shims, and which of them firmware starts is unknown.
var ErrShimUnknown = errors.New("which of several shims firmware starts is unknown: set Machine.Firmware, or give one shim")

// maxShim is as much of a shim as is read, in bytes. Shims have about 1 MiB.
const maxShim = 16 << 20

// chooseShim takes the first shim that firmware starts and that starts the loader. Where Secure
// Boot is off, the choice is the one that would be right when it is turned on, if there is one.
func (p *LoaderPlan) chooseShim(want *bootloader.Installation, shims []osmith.Source) (*bootloader.Installation, error) {
	if len(shims) == 0 {
		if want.Shim == nil {
			return want, nil
		}
		shims = []osmith.Source{want.Shim}
	}
	if want.Loader == nil {
		return nil, bootloader.ErrMissingLoader
	}
	variables, known := p.machine.variables()
	if !known && len(shims) > 1 {
		return nil, ErrShimUnknown
	}
	loader, err := secureboot.ReadImage(want.Loader, p.machine.hashes()...)
	if err != nil {
		return nil, fmt.Errorf("boot loader: %w", err)
	}
	verifies := variables
	verifies.SecureBoot = []byte{1}
	var candidates []shimCandidate
	take := func(c ShimChoice) *bootloader.Installation {
		c.content = candidates[c.Index].content
		in := *want
		p.Shim, in.Shim = &c, c.content
		return &in
	}
	var refused []error
	for _, v := range []osmith.FirmwareVariables{verifies, variables} {
		refused = nil
		for i, src := range shims {
			if i == len(candidates) {
				c, err := p.readCandidate(src)
				if err != nil {
					return nil, fmt.Errorf("shim %d: %w", i+1, err)
				}
				candidates = append(candidates, c)
			}
			why := p.startsThrough(v, candidates[i].shim, loader)
			if why == nil || !known {
				return take(ShimChoice{Index: i, Refused: refused}), nil
			}
			refused = append(refused, why)
		}
	}
	if len(shims) > 1 {
		return nil, &NoShimError{refused}
	}
	return take(ShimChoice{}), nil // its verdict says why it does not do
}

// A shimCandidate is a shim that may be chosen.
type shimCandidate struct {
	content *bytes.Reader
	shim    *secureboot.Shim
}

func (p *LoaderPlan) readCandidate(src osmith.Source) (c shimCandidate, err error) {
	if c.content, err = readShimFile(src); err == nil {
		c.shim, err = secureboot.ReadShim(c.content, p.machine.hashes()...)
	}
	return c, err
}

// readShimFile reads a shim once: what is judged is what is written.
func readShimFile(src osmith.Source) (*bytes.Reader, error) {
	if src.Size() > maxShim {
		return nil, fmt.Errorf("%d bytes, want at most %d", src.Size(), maxShim)
	}
	b, err := io.ReadAll(io.NewSectionReader(src, 0, src.Size()))
	return bytes.NewReader(b), err
}

// startsThrough is why firmware does not start shim, or shim not the loader.
func (p *LoaderPlan) startsThrough(v osmith.FirmwareVariables, shim *secureboot.Shim, loader secureboot.Image) error {
	if _, err := p.machine.startsShim(shim, v); err != nil {
		return err
	}
	judged := secureboot.Evaluate(v, loader, secureboot.EvaluateOptions{Firmware: p.machine.firmwareKind(), Shim: shim})
	if !judged.Allowed {
		return &SecureBootError{Path: "the boot loader", Reason: judged.Reason, Shim: true}
	}
	return nil
}

// shims are those on the ESP that firmware starts.
func (s *State) shims() (list []osmith.Source) {
	for _, l := range s.loaders {
		if l.shim && !l.perhaps {
			list = append(list, l.src)
		}
	}
	return list
}

// judgeShim says which shim it is, and asks what a power cut behind each change leaves.
func (p *LoaderPlan) judgeShim(j *Verdict) {
	for i, why := range p.Shim.Refused {
		j.pass("shim %d is not for this machine: %v", i+1, why)
	}
	for _, src := range p.after.shims() {
		if !p.Shim.is(src) {
			j.warn("a shim on the ESP differs from that of the installation: the programs that it starts were judged by that shim")
			break
		}
	}
	if c, err := p.stuckBehind(); err != nil {
		j.fail(fmt.Errorf("a power cut after the change of %s would leave no program that firmware starts: %w", c, err))
	}
}

// stuckBehind names the change behind which a cut would leave no place from which firmware comes to
// the loader. Between the two parts of one place, shim and loader are of two versions.
func (p *LoaderPlan) stuckBehind() (name string, err error) {
	var places []arch.LoaderPlace
	for i := range arch.Table {
		if a := &arch.Table[i]; a.EFI != "" {
			all := a.LoaderPlaces()
			places = append(places, all[:]...)
		}
	}
	starts := func(n int, at arch.LoaderPlace) error {
		m := *p.after.machine
		shim, err := p.contentAt(n, at.Shim)
		if err != nil {
			return err
		}
		loader, err := p.contentAt(n, at.Loader)
		if err != nil {
			return err
		}
		if shim == nil {
			m.Shim, m.NoShim = nil, true
			if isShim(loader) {
				return fs.ErrNotExist
			}
		} else if m.Shim = shim; !isShim(shim) {
			return fs.ErrNotExist // that is a place without a shim
		}
		im, err := m.examine(at.Loader, loader)
		if err != nil {
			return err
		}
		return im.refused()
	}
	for n := 1; n < len(p.Changes); n++ {
		var reasons []error
		if !slices.ContainsFunc(places, func(at arch.LoaderPlace) bool {
			err := starts(n, at)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				reasons = append(reasons, err)
			}
			return err == nil
		}) && len(reasons) > 0 {
			return p.Changes[n-1].Path, errors.Join(reasons...)
		}
	}
	return "", nil
}

// contentAt is the content of a file behind the first n changes; nil for no name.
func (p *LoaderPlan) contentAt(n int, name string) (osmith.Source, error) {
	if name == "" {
		return nil, nil
	}
	for _, c := range slices.Backward(p.Changes[:n]) {
		switch {
		case !fat.SameName(c.Path, name):
		case c.Kind == bootloader.ChangeRemove:
			return nil, fs.ErrNotExist
		default:
			return c.Content, nil
		}
	}
	return openFile(p.state.esp, name)
}
