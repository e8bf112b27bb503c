package build

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// Parts are one version of a system before anything binds them together. What it is called is in
// UKI.Image.OSRelease: IMAGE_ID or ID, and IMAGE_VERSION.
type Parts struct {
	// Root is the image of a read-only file system, of / or with Usr of /usr. Nil: the system runs
	// from its initrd.
	Root osmith.Source
	Usr  bool

	// Verity are the parameters of the hash tree. Salt and UUID that are not given are derived from
	// Seed.
	Verity verity.Params

	// Seed is what identifiers are derived from, as by systemd-repart --seed. Zero: the salt and
	// the UUID of the hash tree must be given.
	Seed osmith.GUID

	// UKI are stub, kernel, initrds and the rest. RootHash and Usr are filled in.
	UKI UKIParts

	// Loader is systemd-boot for the architecture of the UKI. It is signed unless it is already.
	// Nil: the version comes without one, and disks need it from elsewhere.
	Loader osmith.Source

	Addons     []release.Addon  // signed
	Extensions []extension.File // signed: see [WriteExtension]
	SBOMs      []release.SBOM
}

// Set is one version of a system: UKI, root file system, hash tree, and what belongs to them. It is
// what a disk is made with ([Disk]), what is released ([Release]) and upgraded to.
type Set struct {
	release.Release

	Image *UKIImage // what is known of the UKI since it was written

	files []*osmith.Device
}

// Close closes the files that [System] made.
func (s *Set) Close() error {
	errs := []error{s.Release.Close()}
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return prefix.Error("build", errors.Join(errs...))
}

// System makes one version: the hash tree of the root file system, the signature of its root hash,
// a UKI that starts that root and no other, and a signed boot loader. Hash tree and UKI become
// files in the directory, ID_VERSION.verity.raw and ID_VERSION.efi, each written beside and
// renamed: those that are there are replaced, and an error leaves none of this call. The root file
// system is read once and stays where it is. The set has files open; close it after use.
//
// A part that is missing or of the wrong kind is a *uki.PartError, a file system of no whole number
// of blocks a *verity.AlignmentError. The same parts and RSA keys give the same bytes.
func System(ctx context.Context, dir string, p Parts, k Keys) (set *Set, err error) {
	defer prefix.Add("build", &err)
	s := &systemBuilder{dir: dir, parts: p, keys: k, set: new(Set)}
	defer func() {
		if err != nil {
			err, set = errors.Join(err, s.drop()), nil
		}
	}()
	if err := s.root(ctx); err != nil {
		return nil, err
	}
	if err := s.uki(ctx); err != nil {
		return nil, err
	}
	if p.Loader != nil {
		if s.set.Loader, err = SignLoader(p.Loader, k); err != nil {
			return nil, prefix.Bare(err)
		}
	}
	s.set.Addons, s.set.Extensions, s.set.SBOMs = p.Addons, p.Extensions, p.SBOMs
	if err := s.set.Identify(); err != nil {
		return nil, prefix.Bare(err)
	}
	if s.set.ID == "" || s.set.Version == "" {
		return nil, fmt.Errorf("system: the os-release in UKI.Image has the name %q and the version %q: want ID or IMAGE_ID, and IMAGE_VERSION", s.set.ID, s.set.Version)
	}
	return s.set, s.rename()
}

// systemBuilder makes one set.
type systemBuilder struct {
	dir   string
	parts Parts
	keys  Keys
	set   *Set
	made  []madeFile
}

// madeFile is a file that has no name yet.
type madeFile struct{ name, suffix string }

// create makes a file that is going to be called ID_VERSION and a suffix.
func (s *systemBuilder) create(suffix string, write func(*os.File) error) (*osmith.Device, error) {
	f, err := os.CreateTemp(s.dir, ".osmith-*"+suffix)
	if err != nil {
		return nil, err
	}
	s.made = append(s.made, madeFile{f.Name(), suffix})
	if err := errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	device, err := osmith.OpenFile(f.Name())
	if err != nil {
		return nil, err
	}
	s.set.files = append(s.set.files, device)
	return device, nil
}

// rename gives the files their names.
func (s *systemBuilder) rename() error {
	for i, f := range s.made {
		name := filepath.Join(s.dir, s.set.ID+"_"+s.set.Version+f.suffix)
		if err := os.Rename(f.name, name); err != nil {
			return err
		}
		s.made[i].name = name
	}
	return nil
}

// drop takes everything back.
func (s *systemBuilder) drop() error {
	errs := []error{s.set.Close()}
	for _, f := range s.made {
		errs = append(errs, os.Remove(f.name))
	}
	return errors.Join(errs...)
}

// root binds the root file system to one hash.
func (s *systemBuilder) root(ctx context.Context) error {
	p := &s.parts
	if p.Root == nil {
		if p.Usr {
			return errors.New("system: Usr without a Root")
		}
		return nil
	}
	params := p.Verity
	if params.Salt == nil && params.UUID == [16]byte{} {
		if p.Seed.IsZero() {
			return errors.New("system: neither a Seed nor a salt and UUID of the hash tree (Verity)")
		}
		params.Salt, params.UUID = partition.SeedVeritySalt(p.Seed), partition.SeedVerityUUID(p.Seed)
	}
	if params.NoSuperblock || params.HashOffset != 0 {
		return errors.New("system: Verity.NoSuperblock and HashOffset: a partition for the hash tree begins with its superblock")
	}
	var err error
	s.set.Root = p.Root
	tree, err := s.create(".verity.raw", func(f *os.File) (err error) {
		s.set.RootHash, err = verity.Format(ctx, f, p.Root, params)
		return prefix.Bare(err)
	})
	if err != nil {
		return fmt.Errorf("hash tree: %w", err)
	}
	s.set.Tree = tree
	if err := checkPair("verity", s.keys.Verity); err != nil || s.keys.Verity.Key == nil {
		return err
	}
	signature, err := verity.SignRootHash(s.set.RootHash, s.keys.Verity.Key, s.keys.Verity.Cert)
	if err != nil {
		return prefix.Bare(err)
	}
	content, err := signature.Partition(signatureSize)
	if err != nil {
		return prefix.Bare(err)
	}
	s.set.RootHashSignature = bytes.NewReader(content)
	return nil
}

// uki binds all of it to one file.
func (s *systemBuilder) uki(ctx context.Context) error {
	p := s.parts.UKI
	p.RootHash, p.Usr = s.set.RootHash, s.parts.Usr
	image, err := s.create(".efi", func(f *os.File) (err error) {
		s.set.Image, err = UKI(ctx, f, p, s.keys)
		return prefix.Bare(err)
	})
	if err != nil {
		return fmt.Errorf("UKI: %w", err)
	}
	s.set.UKI = image
	return nil
}

// maxLoader bounds what is signed in memory. Boot loaders have a few hundred KiB.
const maxLoader = 16 << 20

// SignLoader is a boot loader, or another program of up to 16 MiB, with a signature by the Secure
// Boot key. A program that has such a signature stays as it is; without a key, every program does.
// Other signatures are kept.
func SignLoader(src osmith.Source, k Keys) (signed osmith.Source, err error) {
	defer prefix.Add("build", &err)
	if src.Size() > maxLoader {
		return nil, fmt.Errorf("boot loader of %d bytes: want at most %d", src.Size(), int64(maxLoader))
	}
	if k.SecureBoot.Key == nil {
		return src, nil
	}
	if _, err := authenticode.Verify(src, []*x509.Certificate{k.SecureBoot.Cert}); err == nil {
		return src, nil
	}
	var b bytes.Buffer
	if err := authenticode.Sign(&b, src, k.SecureBoot.Key, k.SecureBoot.Cert, k.SignOptions); err != nil {
		return nil, fmt.Errorf("boot loader: %w", prefix.Bare(err))
	}
	return bytes.NewReader(b.Bytes()), nil
}
