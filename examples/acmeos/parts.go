package acmeos

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/petest"
)

// Parts are what we take from others and do not build: the boot chain of a distribution.
type Parts struct {
	Stub, Loader, Linux, Initrd osmith.Source
	Architecture                string // EFI name: "x64" or "aa64"
	Origin                      string // where they come from, for the reader
	StandIn                     bool   // none of them boots

	files []*osmith.Device
}

// Close closes the files.
func (p *Parts) Close() error {
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// MissingPartError names a part that is not there and how to get it.
type MissingPartError struct {
	Part   string
	Looked []string // file names or patterns
	Get    string
}

func (e *MissingPartError) Error() string {
	return fmt.Sprintf("no %s: looked for %s; %s", e.Part, strings.Join(e.Looked, ", "), e.Get)
}

// Unwrap makes it match [fs.ErrNotExist].
func (e *MissingPartError) Unwrap() error { return fs.ErrNotExist }

// architectures are the ones we build for, this machine's first.
func architectures() []*arch.Architecture {
	if runtime.GOARCH == arch.ARM64.Go {
		return []*arch.Architecture{arch.ARM64, arch.X8664}
	}
	return []*arch.Architecture{arch.X8664, arch.ARM64}
}

// FindParts opens the parts in dir (linux*.efi.stub, systemd-boot*.efi, vmlinuz*, initrd*), or with
// dir empty in the places where distributions install them. A part that is not there is a
// [*MissingPartError].
func FindParts(dir string) (*Parts, error) {
	boot := []string{"/usr/lib/systemd/boot/efi"}
	kernels := []string{"/boot/vmlinuz-*", "/usr/lib/modules/*/vmlinuz", "/boot/vmlinuz"}
	initrds := []string{"/boot/initrd.img-*", "/boot/initramfs-*", "/usr/lib/modules/*/initrd"}
	origin := "this system's own boot files"
	if dir != "" {
		boot = []string{dir}
		kernels = []string{filepath.Join(dir, "vmlinuz*")}
		initrds = []string{filepath.Join(dir, "initrd*")}
		origin = dir
	}
	own := architectures()[0]
	for _, other := range architectures() {
		// Parts of another architecture are welcome where they were asked for.
		if _, err := os.Stat(filepath.Join(boot[0], other.Stub())); err == nil && dir != "" {
			own = other
			break
		}
	}
	p := &Parts{Architecture: own.EFI, Origin: origin}
	for _, want := range []struct {
		part     string
		patterns []string
		get      string
		to       *osmith.Source
	}{
		{"boot stub", under(boot, own.Stub()), "install systemd-boot-efi (Debian) or systemd-boot-unsigned (Fedora)", &p.Stub},
		{"boot loader", under(boot, own.SystemdBoot()), "install systemd-boot-efi (Debian) or systemd-boot-unsigned (Fedora)", &p.Loader},
		{"kernel", kernels, "install linux-image-cloud-amd64 (Debian) or kernel-core (Fedora)", &p.Linux},
		{"initrd", initrds, "build one for that kernel, with dracut or mkinitramfs", &p.Initrd},
	} {
		src, err := p.open(want.patterns)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		if src == nil {
			return nil, errors.Join(&MissingPartError{want.part, want.patterns, want.get}, p.Close())
		}
		*want.to = src
	}
	return p, nil
}

func under(dirs []string, name string) []string {
	var all []string
	for _, d := range dirs {
		all = append(all, filepath.Join(d, name))
	}
	return all
}

// open opens the last file, by name, of the first pattern that matches any.
func (p *Parts) open(patterns []string) (osmith.Source, error) {
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
		if len(names) == 0 {
			continue
		}
		f, err := osmith.OpenFile(slices.Max(names))
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
		return f, nil
	}
	return nil, nil
}

// StandIns are small images that have the form of the real parts and boot nothing, so that the flow
// can be seen where no boot chain is installed.
func StandIns() *Parts {
	source := func(b []byte) osmith.Source { return bytes.NewReader(b) }
	return &Parts{
		Stub:         source(petest.Stub("262")),
		Loader:       source(petest.Loader("262")),
		Linux:        source(petest.Kernel("6.18.0-acme")),
		Initrd:       source([]byte("stand-in for an initrd")),
		Architecture: arch.X8664.EFI, // whatever this machine is: nothing runs them
		Origin:       "stand-ins made here",
		StandIn:      true,
	}
}
