// Package osset is the one judge of whether the parts of a set belong together: UKI, add-ons, root
// file system and hash tree, and what a release says about them. The vendor's side asks before a
// release is packed, the machine's side before it is installed, and both get the same answer.
package osset

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// RootHashSize is the size of SHA-256 digests, the only ones whose halves are partition IDs of 16
// bytes each.
const RootHashSize = 32

// AddonSuffix ends the names of add-ons: the stub passes over others.
const AddonSuffix = ".addon.efi"

// A Product is what a UKI says that its system is, and what it runs on.
type Product struct {
	ID, Variant, Version string
	SupportEnd           string // os-release SUPPORT_END; "" if it does not say
	Machine              uint16 // of the PE header
}

// ProductOf reads what a UKI says about itself.
func ProductOf(f *uki.File) (p Product, err error) {
	osrel, err := f.OSRelease()
	if err != nil {
		return p, err
	}
	return Product{ID: first(osrel, "IMAGE_ID", "ID"), Variant: osrel["VARIANT_ID"], Version: first(osrel, "IMAGE_VERSION", "VERSION_ID"),
		SupportEnd: osrel["SUPPORT_END"], Machine: f.Machine()}, nil
}

// Architecture is the name that Go and OCI have for the machine type, "unknown" for one that they
// have none for.
func (p Product) Architecture() string {
	if a, known := arch.ByMachine(p.Machine); known && a.Go != "" {
		return a.Go
	}
	return "unknown"
}

func first(m map[string]string, keys ...string) string {
	for _, k := range keys {
		if v := m[k]; v != "" {
			return v
		}
	}
	return ""
}

// A Set is what belongs together, and what is said about it. What is not said is empty. Without
// Root, Tree and RootHash the UKI is all of it: the system runs from its initrd.
type Set struct {
	UKI, Root, Tree                    osmith.Source
	RootHash                           []byte
	ID, Version, Variant, Architecture string
	Addons                             []uki.CompanionFile
}

// A RootHashError says that a root hash has the wrong length, or differs from that of a part of the
// set.
type RootHashError struct {
	Where     string
	Want, Got []byte
}

func (e *RootHashError) Error() string {
	if len(e.Got) != RootHashSize && e.Want == nil {
		return fmt.Sprintf("root hash of %s: %d bytes, want %d", e.Where, len(e.Got), RootHashSize)
	}
	return fmt.Sprintf("root hash of %s is %s, the release's is %s", e.Where, hash(e.Got), hash(e.Want))
}

func hash(b []byte) string {
	if len(b) == 0 {
		return "absent"
	}
	return hex.EncodeToString(b)
}

// alone reports whether the UKI is all of the set.
func (s *Set) alone() bool { return s.Root == nil && s.Tree == nil && len(s.RootHash) == 0 }

// Identify opens the UKI and checks its own names against those of the release. They decide about
// the label of the slot and the name of the entry.
func (s *Set) Identify() (p Product, f *uki.File, err error) {
	if s.UKI == nil || !s.alone() && (s.Root == nil || s.Tree == nil) {
		return p, nil, errors.New("a release needs a UKI, and a root file system with its hash tree unless the UKI is all of it")
	}
	if !s.alone() && len(s.RootHash) != RootHashSize {
		return p, nil, &RootHashError{Where: "the release", Got: s.RootHash}
	}
	if f, err = uki.Open(s.UKI); err != nil {
		return p, nil, err
	}
	if p, err = ProductOf(f); err != nil {
		return p, nil, err
	}
	if p.ID == "" || p.Version == "" {
		return p, nil, errors.New("the UKI's os-release names no IMAGE_ID or no IMAGE_VERSION")
	}
	for _, name := range []string{p.ID, p.Version} {
		if strings.ContainsAny(name, "/\\+:*?\"<>|") {
			return p, nil, fmt.Errorf("%q of the UKI's os-release cannot be part of a file name", name)
		}
	}
	for _, c := range []struct{ what, says, own string }{
		{"version", s.Version, p.Version},
		{"product", s.ID, p.ID},
		{"variant", s.Variant, p.Variant},
		{"architecture", s.Architecture, p.Architecture()},
	} {
		if c.says != "" && c.says != c.own {
			return p, nil, fmt.Errorf("the release has %s %q, but its UKI has %q", c.what, c.says, c.own)
		}
	}
	for _, a := range s.Addons {
		if !strings.HasSuffix(strings.ToLower(a.Name), AddonSuffix) || strings.Contains(a.Name, "/") {
			return p, nil, fmt.Errorf("add-on %q: want a name that ends with %s, or the stub ignores it", a.Name, AddonSuffix)
		}
	}
	return p, f, nil
}

// ErrUnbound says that a UKI has no command line, and no add-ons that could have one.
var ErrUnbound = errors.New("the UKI has no command line, so nothing binds it to a root file system")

// Bind holds the command line that the kernel gets, which where names, against a root hash.
func Bind(where, cmdline string, rootHash []byte) error {
	bound, err := boundRootHash(cmdline)
	if err != nil {
		return err
	}
	if !bytes.Equal(bound, rootHash) {
		return &RootHashError{Where: where, Want: rootHash, Got: bound}
	}
	return nil
}

// BindNone is Bind for a UKI that is all of its set: no root hash may be on the command line.
func BindNone(where, cmdline string) error {
	c, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return err
	}
	for _, v := range []dm.Volume{c.Usr, c.Root} {
		if v.RootHash != nil {
			return &RootHashError{Where: where, Got: v.RootHash}
		}
	}
	return nil
}

// boundRootHash returns the root hash that binds what boots with a command line to one root file
// system: it boots verified, by this root hash alone, and from the partitions that the root hash
// names.
func boundRootHash(cmdline string) ([]byte, error) {
	c, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return nil, err
	}
	volumes, err := c.Verified()
	if err != nil {
		return nil, err
	}
	root := volumes[0].RootHash
	for _, v := range volumes {
		if !bytes.Equal(v.RootHash, root) {
			return nil, fmt.Errorf("the command line names two root hashes, roothash=%x and usrhash=%x: a release has one", root, v.RootHash)
		}
		data, tree := v.Devices()
		if wantData, wantTree := (dm.Volume{RootHash: root}).Devices(); data != wantData || tree != wantTree {
			return nil, fmt.Errorf("the command line takes the file system from %s and %s, not from the partitions that the root hash names, %s and %s",
				data, tree, wantData, wantTree)
		}
	}
	return root, nil
}

// Judge asks all that can be asked without a machine: the names, what the command line of UKI and
// add-ons binds the set to, and every block of the root file system, which it reads once.
func (s *Set) Judge(ctx context.Context) error {
	_, f, err := s.Identify()
	if err != nil {
		return err
	}
	where, cmdline, err := s.cmdline(f)
	if s.alone() && (err == nil || errors.Is(err, ErrUnbound)) {
		return BindNone(where, cmdline)
	}
	if err != nil {
		return err
	}
	if err := Bind(where, cmdline, s.RootHash); err != nil {
		return err
	}
	return verity.Verify(ctx, s.Root, s.Tree, s.RootHash)
}

// cmdline is what the stub makes of the UKI's own command line and the add-ons'. Firmware that
// refuses an add-on, and what a machine's SMBIOS adds, is not known here.
func (s *Set) cmdline(f *uki.File) (where, cmdline string, err error) {
	own, has := f.Cmdline()
	if len(s.Addons) == 0 {
		if !has {
			err = ErrUnbound
		}
		return "the UKI's command line", own, err
	}
	h, err := f.Handover(uki.Boot{Companions: &uki.Companions{Addons: s.Addons}})
	if err != nil {
		return "", "", fmt.Errorf("the command line that the stub puts together is unknown: %w", err)
	}
	return "the command line of UKI and add-ons", h.Cmdline, nil
}
