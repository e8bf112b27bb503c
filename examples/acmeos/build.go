package acmeos

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// ID is the system's name in os-release, file names and labels.
const ID = "acme"

// Builder builds versions of Acme OS. The same builder and inputs give the same bytes.
type Builder struct {
	Keys  *Keys
	Parts *Parts
	Seed  osmith.GUID // every UUID and salt is derived from it, as systemd-repart does
	Time  time.Time   // goes into signatures and the ESP; the examples take it from SOURCE_DATE_EPOCH

	// Kernel command line besides roothash=.
	Cmdline string
	// Foreign signs the UKI in place of our db key, if set: to show what happens to a stranger's signature.
	Foreign *Keys
}

// Set is one version: the unit that is released, installed and rolled back.
type Set struct {
	Version         string
	UKI, Root, Tree *osmith.Device
	RootHash        []byte
}

// Close closes the files.
func (s *Set) Close() error {
	return errors.Join(s.UKI.Close(), s.Root.Close(), s.Tree.Close())
}

// OSRelease is the identity of a version, the same text in the root file system and in the UKI.
func OSRelease(version string) []byte {
	return fmt.Appendf(nil, "NAME=\"Acme OS\"\nID=%s\nIMAGE_ID=%s\nIMAGE_VERSION=%s\nPRETTY_NAME=\"Acme OS %s\"\n", ID, ID, version, version)
}

// Build makes a version around a root file system image and leaves its files in dir, beside root. The set holds open
// files; close it after use.
func (b *Builder) Build(ctx context.Context, dir, version string, root string) (*Set, error) {
	set := &Set{Version: version}
	var err error
	if set.Root, err = osmith.OpenFile(root); err != nil {
		return nil, err
	}
	// 1. The hash tree binds the root file system to one hash.
	set.Tree, err = create(filepath.Join(dir, ID+"_"+version+".verity.raw"), func(f *os.File) error {
		set.RootHash, err = verity.Format(ctx, f, set.Root, verity.Params{
			Salt: partition.SeedVeritySalt(b.Seed),
			UUID: partition.SeedVerityUUID(b.Seed),
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("hash tree of version %s: %w", version, err)
	}
	// 2. The UKI carries the hash in its command line, and signatures for the PCR 11 values that it will itself cause.
	image, err := b.image(version, set.RootHash)
	if err != nil {
		return nil, fmt.Errorf("UKI of version %s: %w", version, err)
	}
	// 3. The Secure Boot signature covers all of that.
	set.UKI, err = create(filepath.Join(dir, ID+"_"+version+".efi"), func(f *os.File) error {
		signer := b.Keys.SecureBoot.DB
		if b.Foreign != nil {
			signer = b.Foreign.SecureBoot.DB
		}
		return authenticode.Sign(f, image, signer.Key, signer.Cert, authenticode.SignOptions{Time: b.Time})
	})
	if err != nil {
		return nil, fmt.Errorf("UKI of version %s: %w", version, err)
	}
	return set, nil
}

func (b *Builder) image(version string, rootHash []byte) (*uki.Assembled, error) {
	cmdline, err := dm.Cmdline{Root: dm.Volume{RootHash: rootHash}}.Encode()
	if err != nil {
		return nil, err
	}
	if b.Cmdline != "" {
		cmdline += " " + b.Cmdline
	}
	key, err := b.Keys.PCRPublicKey()
	if err != nil {
		return nil, err
	}
	im := uki.Image{
		Stub:         b.Parts.Stub,
		Linux:        b.Parts.Linux,
		Initrd:       []osmith.Source{b.Parts.Initrd},
		Cmdline:      cmdline,
		OSRelease:    OSRelease(version),
		PCRPublicKey: key,
	}
	measured, err := im.Measurements(tpm.Banks()...)
	if err != nil {
		return nil, err
	}
	states, err := tpm.PCR11States(measured, nil, nil)
	if err != nil {
		return nil, err
	}
	signatures, err := policy.Sign(b.Keys.PCR, states, "")
	if err != nil {
		return nil, err
	}
	if im.PCRSignature, err = signatures.MarshalJSON(); err != nil {
		return nil, err
	}
	return im.Assemble()
}

// SignedLoader is systemd-boot with our signature.
func (b *Builder) SignedLoader() (osmith.Source, error) {
	var out bytes.Buffer
	db := b.Keys.SecureBoot.DB
	if err := authenticode.Sign(&out, b.Parts.Loader, db.Key, db.Cert, authenticode.SignOptions{Time: b.Time}); err != nil {
		return nil, fmt.Errorf("boot loader: %w", err)
	}
	return bytes.NewReader(out.Bytes()), nil
}

// Enroll signs our keys into a machine, and nothing else: it is a virtual one, without cards that bring firmware. The signed boot loader and the images given
// have to boot with these keys.
func (b *Builder) Enroll(images ...osmith.Source) (*secureboot.Enrollment, error) {
	o := secureboot.EnrollOptions{Time: b.Time, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}}
	loader, err := b.SignedLoader()
	if err != nil {
		return nil, err
	}
	for i, src := range append([]osmith.Source{loader}, images...) {
		im, err := secureboot.ReadImage(src)
		if err != nil {
			return nil, fmt.Errorf("image %d that has to boot: %w", i, err)
		}
		if im.Name = "boot loader"; i > 0 {
			im.Name = fmt.Sprintf("UKI %d", i)
		}
		o.MustBoot = append(o.MustBoot, im)
	}
	return b.Keys.SecureBoot.Enroll(o)
}

// Machine is a machine of ours after enrolment, as upgrade plans want it: switched off, firmware starts the loader itself, the loader's variables are not set,
// and the boot options are those of the firmware.
func (b *Builder) Machine() (upgrade.Machine, error) {
	e, err := b.Enroll()
	if err != nil {
		return upgrade.Machine{}, err
	}
	return upgrade.Machine{
		Offline:     true,
		Firmware:    &e.Variables,
		Loader:      &bootloader.Variables{},
		LoaderPaths: []string{},
		PCRKeys:     []*rsa.PublicKey{&b.Keys.PCR.PublicKey},
	}, nil
}

// Release is the set as release.Pack packs it, and as upgrade.NewPlan takes it.
func (s *Set) Release() *release.Release {
	return &release.Release{
		ID: ID, Version: s.Version,
		UKI: s.UKI, Root: s.Root, Tree: s.Tree, RootHash: s.RootHash,
	}
}

// create writes a file beside its name and renames it, so that a failure leaves no half file, and opens the result.
func create(name string, write func(*os.File) error) (*osmith.Device, error) {
	f, err := os.Create(name + ".new")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return nil, err
	}
	return osmith.OpenFile(name)
}
