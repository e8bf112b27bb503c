package acmeos

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// ID is the system's name in os-release, file names and labels.
const ID = "acme"

// Builder builds versions of Acme OS. The same builder and inputs give the same bytes.
type Builder struct {
	Keys  *Keys
	Parts *Parts
	Seed  osmith.GUID // every UUID and salt is derived from it, as systemd-repart does
	// goes into signatures and the ESP; the examples take it from SOURCE_DATE_EPOCH
	Time time.Time

	// Kernel command line besides roothash=.
	Cmdline string
	// Foreign signs the UKI in place of our db key, if set: to show what happens to a stranger's
	// signature.
	Foreign *Keys
}

// Set is one version: the unit that is released, installed and rolled back.
type Set struct {
	*build.Set
	root *osmith.Device
}

// Close closes the files.
func (s *Set) Close() error { return errors.Join(s.Set.Close(), s.root.Close()) }

// OSRelease is the identity of a version, the same text in the root file system and in the UKI.
func OSRelease(version string) []byte {
	return fmt.Appendf(nil, "NAME=\"Acme OS\"\nID=%s\nIMAGE_ID=%s\nIMAGE_VERSION=%s\nPRETTY_NAME=\"Acme OS %s\"\n", ID, ID, version, version)
}

// Build makes a version around a root file system image and leaves its files in dir. The set holds
// open files; close it after use.
func (b *Builder) Build(ctx context.Context, dir, version string, root string) (*Set, error) {
	src, err := osmith.OpenFile(root)
	if err != nil {
		return nil, err
	}
	set, err := build.System(ctx, dir, build.Parts{
		Root: src, Seed: b.Seed,
		UKI: build.UKIParts{Image: uki.Image{
			Stub: b.Parts.Stub, Linux: b.Parts.Linux, Initrd: []osmith.Source{b.Parts.Initrd}, Cmdline: b.Cmdline, OSRelease: OSRelease(version),
		}},
	}, b.keys())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("version %s: %w", version, err), src.Close())
	}
	return &Set{set, src}, nil
}

// keys are who signs what.
func (b *Builder) keys() build.Keys {
	k := build.Keys{SecureBoot: b.Keys.SecureBoot.DB, SignOptions: authenticode.SignOptions{Time: b.Time}, PCR: []build.PCRKey{{Signer: b.Keys.PCR}}}
	if b.Foreign != nil {
		k.SecureBoot = b.Foreign.SecureBoot.DB
	}
	return k
}

// SignedLoader is systemd-boot with our signature.
func (b *Builder) SignedLoader() (osmith.Source, error) {
	own := *b
	own.Foreign = nil
	return build.SignLoader(b.Parts.Loader, own.keys())
}

func (b *Builder) enrollOptions() secureboot.EnrollOptions {
	return secureboot.EnrollOptions{Time: b.Time, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}}
}

// Enroll signs our keys into a machine, and nothing else: it is a virtual one, without cards that
// bring firmware. The signed boot loader and the images given have to boot with these keys.
func (b *Builder) Enroll(images ...osmith.Source) (*secureboot.Enrollment, error) {
	o := b.enrollOptions()
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

// Machine is a machine of ours after enrolment, as upgrade plans want it: switched off, firmware
// starts the loader itself, the loader's variables are not set, and the boot options are those of
// the firmware.
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
