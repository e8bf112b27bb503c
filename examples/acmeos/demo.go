package acmeos

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// A Demo is a machine that is switched off, with version 1 of the system on its disk, and the next
// version as its vendor has built it: what examples and tests need to show an upgrade. It is made
// of [StandIns]. Close it after use.
type Demo struct {
	Builder  *Builder
	Old, New *Set       // versions 1 and 2
	Disk     *ImageFile // with version 1
	Machine  upgrade.Machine

	dir string
}

// demoTime is the start of what the certificates of a demo are valid for.
var demoTime = time.Unix(1_767_225_600, 0)

// demoKeys are made once, since that takes longer than all the rest of a demo.
var demoKeys = sync.OnceValues(func() (*Keys, error) { return GenerateKeys(demoTime) })

// NewDemo builds both versions and installs the first one, in a temporary directory.
func NewDemo(ctx context.Context) (d *Demo, err error) {
	keys, err := demoKeys()
	if err != nil {
		return nil, err
	}
	d = &Demo{Builder: &Builder{Keys: keys, Parts: StandIns(), Seed: osmith.GUID{1}, Time: demoTime}}
	defer func() {
		if err != nil {
			d, err = nil, errors.Join(err, d.Close())
		}
	}()
	if d.dir, err = os.MkdirTemp("", "acmeos"); err != nil {
		return d, err
	}
	if d.Old, err = d.build(ctx, "1"); err != nil {
		return d, err
	}
	if d.New, err = d.build(ctx, "2"); err != nil {
		return d, err
	}
	if d.Machine, err = d.Builder.Machine(); err != nil {
		return d, err
	}
	image, err := d.Builder.Disk(d.Old, DiskOptions{})
	if err != nil {
		return d, err
	}
	if d.Disk, err = CreateImage(filepath.Join(d.dir, "disk.img"), image.Size); err != nil {
		return d, err
	}
	return d, partition.WriteImage(d.Disk, image, partition.WriteOptions{TargetIsZero: true})
}

func (d *Demo) build(ctx context.Context, version string) (*Set, error) {
	root := filepath.Join(d.dir, version+".raw")
	if err := WriteRoot(root, version, nil); err != nil {
		return nil, err
	}
	return d.Builder.Build(ctx, d.dir, version, root)
}

// EmptyDisk makes one more disk, which has nothing on it. The caller closes it.
func (d *Demo) EmptyDisk(size int64) (*ImageFile, error) {
	return CreateImage(filepath.Join(d.dir, "empty.img"), size)
}

// Close closes the files and removes the directory.
func (d *Demo) Close() error {
	var errs []error
	if d.Disk != nil {
		errs = append(errs, d.Disk.Close())
	}
	for _, set := range []*Set{d.Old, d.New} {
		if set != nil {
			errs = append(errs, set.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}
