package extension

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/uki"
)

// Kind is what an extension adds to.
type Kind string

// The kinds.
const (
	KindSysext  Kind = "sysext"  // /usr and /opt
	KindConfext Kind = "confext" // /etc
)

// suffix ends the file names of a kind.
func (k Kind) suffix() string { return "." + string(k) + ".raw" }

// ParseName tells the kind of an extension by its file name, NAME.sysext.raw or NAME.confext.raw,
// and the name of the extension. The stub takes every other *.raw for a system extension
// (systemd-stub(7), "Companion Files"); one that is a part of a release has to say what it is.
func ParseName(file string) (name string, kind Kind, err error) {
	for _, k := range []Kind{KindSysext, KindConfext} {
		if name, ok := strings.CutSuffix(file, k.suffix()); ok && name != "" && !strings.HasPrefix(name, ".") && !strings.ContainsAny(name, `/\`) {
			return name, k, nil
		}
	}
	return "", "", prefix.Error("extension", fmt.Errorf("file name %q: want NAME%s or NAME%s", file, KindSysext.suffix(), KindConfext.suffix()))
}

// File is an extension as a part of a release.
type File struct {
	Name    string // of the file: NAME.sysext.raw or NAME.confext.raw
	Content osmith.Source

	// Release is the text of the extension-release file within the image, as the vendor states it.
	// Empty: it is not stated.
	Release []byte
}

// OS is what an extension is to go with.
type OS struct {
	Release      uki.OSRelease
	Architecture string // as Go names it: amd64
}

// OSOf is the OS of a UKI, by its os-release and its machine type. An architecture that Go has no
// name for is empty, and no extension goes with it.
func OSOf(f *uki.File) (os OS, err error) {
	defer prefix.Add("extension", &err)
	if os.Release, err = f.OSRelease(); err != nil {
		return OS{}, prefix.Bare(err)
	}
	if a, known := arch.ByMachine(f.Machine()); known {
		os.Architecture = a.Go
	}
	return os, nil
}

// JudgeOptions say what is known besides the image.
type JudgeOptions struct {
	// FileSystem opens the file system of an image, so that its extension-release file is read.
	// Nil: it is not read, and the vendor's statement is all that is known of it.
	FileSystem func(osmith.Source) (fs.FS, error)
}

// Judgement is what is known of an extension that can go with an OS, as far as that is known.
type Judgement struct {
	Kind    Kind
	Image   *Image
	Release *Release // nil: neither stated nor read

	// Compared says that the extension-release file was read from the file system of the image.
	// Else Release is what the vendor states.
	Compared bool
}

// ErrUnsigned says that an extension has no signature of its root hash.
var ErrUnsigned = errors.New("its root hash has no signature, so any program that can write to the boot partition could replace it")

// Judge asks all that can be asked without the machine: the image is one that systemd reads; it has
// a signature of its root hash, else it is [ErrUnsigned]; every block is what the root hash stands
// for; it is made for the architecture; and its extension-release, read or stated, goes with the
// OS, else it is a [*MismatchError]. A statement that is not what the file says is an error. Whose
// signature it is, is not asked.
func (f *File) Judge(ctx context.Context, os OS, o JudgeOptions) (j *Judgement, err error) {
	defer prefix.Add("extension", &err)
	name, kind, err := ParseName(f.Name)
	if err != nil {
		return nil, prefix.Bare(err)
	}
	if f.Content == nil {
		return nil, errors.New("no content")
	}
	im, err := read(f.Content)
	if err != nil {
		return nil, err
	}
	j = &Judgement{Kind: kind, Image: im}
	switch {
	case im.Protection == ProtectionNone || im.Protection == ProtectionVerity:
		return nil, ErrUnsigned
	case os.Architecture == "" || im.Architecture != os.Architecture:
		return nil, &MismatchError{Field: "architecture of the partitions", Want: os.Architecture, Got: im.Architecture}
	case im.Usr && kind == KindConfext:
		return nil, errors.New("a configuration extension has a usr partition: want its files in a root partition")
	}
	if err := im.verify(ctx); err != nil {
		return nil, err
	}
	if len(f.Release) > 0 {
		if j.Release, err = parseRelease(kind, f.Release); err != nil {
			return nil, err
		}
	}
	if o.FileSystem != nil {
		fsys, err := o.FileSystem(im.FileSystem())
		if err != nil {
			return nil, fmt.Errorf("file system: %w", err)
		}
		own, err := readRelease(fsys, kind, name, im.Usr)
		if err != nil {
			return nil, err
		}
		if j.Release != nil && !reflect.DeepEqual(j.Release, own) {
			return nil, fmt.Errorf("extension-release in the image is not the one that is stated: want %+v, got %+v", *j.Release, *own)
		}
		j.Release, j.Compared = own, true
	}
	if j.Release != nil {
		if err := j.Release.matches(os); err != nil {
			return nil, err
		}
	}
	return j, nil
}
