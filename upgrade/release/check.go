package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
)

// An InconsistentError says that the parts of a release do not belong together, so that no machine
// would install it.
type InconsistentError struct {
	Err error // a *RootHashError if it is about that
}

func (e *InconsistentError) Error() string {
	return fmt.Sprintf("the parts of the release do not belong together: %v", e.Err)
}

// Unwrap returns the reason.
func (e *InconsistentError) Unwrap() error { return e.Err }

// RootHashError is the reason of an [InconsistentError]: a part names another root hash than the
// release, or none.
type RootHashError struct {
	Where     string // such as "the UKI's command line"
	Want, Got []byte
}

func (e *RootHashError) Error() string { return (*osset.RootHashError)(e).Error() }

// Check judges whether the parts of a release belong together, by the same judge as
// upgrade.NewPlan, as far as no machine is needed for that: ID, version, variant and architecture
// are those of the UKI; the command line of UKI and add-ons boots the root file system of this root
// hash, verified, and no other; the hash tree has that root hash, and every block of the root file
// system is what the tree says; the root hash signature, if there is one, was made over it, by the
// key of a certificate that it carries; every extension is signed and whole, and what is stated of
// its extension-release goes with the UKI's os-release. It reads the root file system once.
//
// Pack packs what it is given. Call it before packing for others; the error for parts that
// do not fit is an [*InconsistentError].
func (r *Release) Check(ctx context.Context) error {
	return prefix.Error("release", r.check(ctx))
}

func (r *Release) check(ctx context.Context) error {
	set := osset.Set{UKI: r.UKI, Root: r.Root, Tree: r.Tree, RootHash: r.RootHash, ID: r.ID, Version: r.Version, Variant: r.Variant, Architecture: r.Architecture}
	for _, a := range r.Addons {
		set.Addons = append(set.Addons, uki.CompanionFile{Name: a.Name, Content: a.Content})
	}
	err := set.Judge(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil { // who signed it is for the kernel to judge
		_, _, err = osset.RootHashSignature("root hash signature", r.RootHashSignature, r.RootHash)
	}
	if err == nil {
		err = r.checkExtensions(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e, ok := errors.AsType[*osset.RootHashError](err); ok {
		err = (*RootHashError)(e)
	}
	if err != nil {
		return &InconsistentError{err}
	}
	return nil
}

// checkExtensions asks of each extension whether it is signed, whole, and goes with the OS of the
// UKI.
func (r *Release) checkExtensions(ctx context.Context) error {
	if len(r.Extensions) == 0 {
		return nil
	}
	f, err := uki.Open(r.UKI)
	if err != nil {
		return err
	}
	os, err := extension.OSOf(f)
	if err != nil {
		return err
	}
	for i := range r.Extensions {
		x := &r.Extensions[i]
		if len(x.Release) == 0 {
			return fmt.Errorf("extension %s: its extension-release is not stated, so machines cannot tell which OS version it is for", x.Name)
		}
		if _, err := x.Judge(ctx, os, extension.JudgeOptions{}); err != nil {
			return fmt.Errorf("extension %s: %w", x.Name, prefix.Bare(err))
		}
	}
	return nil
}

// Identify takes from the UKI what is not said yet of ID, version, variant and architecture, and
// the end of support (os-release SUPPORT_END). What is said already stays, right or wrong: Check
// compares all but the end of support, which a vendor may move after the UKI was signed.
func (r *Release) Identify() (err error) {
	defer prefix.Add("release", &err)
	if r.UKI == nil {
		return errors.New("a release needs a UKI")
	}
	f, err := uki.Open(r.UKI)
	if err != nil {
		return err
	}
	own, err := osset.ProductOf(f)
	if err != nil {
		return err
	}
	r.ID, r.Version, r.Variant = cmp.Or(r.ID, own.ID), cmp.Or(r.Version, own.Version), cmp.Or(r.Variant, own.Variant)
	if r.SupportedUntil == "" {
		until := Date(own.SupportEnd)
		if err := until.check(); err != nil {
			return fmt.Errorf("SUPPORT_END of the UKI's os-release: %w", err)
		}
		r.SupportedUntil = until
	}
	if a := own.Architecture(); r.Architecture == "" && a != "unknown" {
		r.Architecture = a
	}
	return nil
}
