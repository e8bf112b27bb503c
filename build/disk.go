package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// DiskOptions are the choices of [Disk]. The zero value, except for Seed, makes a disk of 512-byte
// sectors with an ESP and two slots, with room for releases half as large again as the first.
type DiskOptions struct {
	// Seed is what identifiers are derived from, as by systemd-repart --seed: the same one gives
	// the same disk. It must be given.
	Seed osmith.GUID

	// Layout is what is on the disk. Nil: an ESP, Slots slots, and nothing else. The ESP gets the
	// boot loader and the UKI, the first slot the root file system, further ones are labelled
	// [partition.EmptyName]; what else partitions are to be filled with is Content or Fill of each.
	// [partition.ReadRepart] makes a layout of definition files of systemd-repart.
	Layout *partition.Layout

	// Of the layout that is made here: how many slots, 0 being two; bytes of the partition for a
	// file system and of the ESP, which are for ever, 0 being one and a half times what the first
	// release needs; and what comes behind the slots.
	Slots             int
	SlotSize, ESPSize int64
	More              []partition.Spec

	// Loader is the boot loader with its settings, and a shim in front of it. Nil: the loader of
	// the set, without settings. Without a Loader of its own it is the one of the set, too.
	Loader *bootloader.Installation

	// Enroll puts Secure Boot keys onto the ESP, where systemd-boot finds them and, in a machine in
	// setup mode, enrols them without being asked. EnrollOptions are the decisions about that: boot
	// loader and UKI of the disk are added to what must boot with these keys, so that keys that
	// would refuse them are an error. Nil: there are none.
	Enroll        *secureboot.Hierarchy
	EnrollOptions secureboot.EnrollOptions

	// Files are further files of the ESP, such as credentials or a recovery UKI.
	Files []osmith.ESPFile

	// Tries is how often the first version may be started without having been found good, 1 to 99.
	// 0: it is not counted, since there is nothing to fall back to.
	Tries int

	// Older are sets for the slots behind the first, newest first: what a disk falls back to from
	// its first start on. Each is of the same product and architecture as the first, has the same
	// kind of file system, and is older than the one before it by the order of the loader, which
	// starts the newest.
	Older []*release.Release

	// Contents are those of partitions, by the Definition in the layout or else the Name, in place
	// of what it says ([partition.Spec].Fill): for what is made elsewhere, such as a file system
	// that [Disk] does not make. In a partition that is encrypted they are what is inside.
	Contents map[string]osmith.Source

	// Host is where the paths in the layout's Fill begin, "/" being its root, as CopyFiles= begins
	// at the directory of systemd-repart --copy-source; here CopyBlocks= does, too. Nil: there are
	// no such files, and a layout that names some is an error.
	Host fs.FS
	// Tree is about the files that go into file systems.
	Tree osmith.TreeOptions

	// Volumes are the secrets of encrypted volumes, by the Definition in the layout or else the
	// Name.
	Volumes map[string]Volume

	// Verity signs the root hashes of volumes that the layout has and no set, of partitions with
	// the part "signature".
	Verity secureboot.KeyPair

	// Scratch makes a place for what has to be made before the disk is written, such as a hash
	// tree. It must be empty, and stay until the disk is written. Nil: memory, up to 64 MiB in all.
	Scratch func() (Scratch, error)
	// TempDir is a directory for files that are only needed while the plan is made. It is needed
	// for file systems alone.
	TempDir string

	// Time is given to the files of the ESP. The zero value is 1980-01-01.
	Time time.Time
}

// Volume is what opens an encrypted volume.
type Volume struct {
	// Passphrase opens the first key slot. Nil: that which is in the KeyFile of the layout; if it
	// names none, Keys must add one.
	Passphrase []byte
	// Format are the choices of [luks.Format]. Rand must be given. Label and UUID that are not
	// given are those that systemd-repart gives.
	Format luks.FormatOptions
	// Keys adds keys and tokens, such as a recovery key and a token for a TPM.
	Keys func(v *luks.Volume, key *luks.Key) error
}

// DiskImage is a planned disk, for [partition.WriteImage].
type DiskImage struct {
	*partition.Image

	Entry  string        // path of the UKI on the ESP; "" without a set
	ESP    int           // index of its partition; -1: there is none
	Loader osmith.Source // what the ESP has of systemd-boot; nil: none

	// Enrollment is what is enrolled, and the variables that a machine then has. Nil without
	// DiskOptions.Enroll.
	Enrollment *secureboot.Enrollment

	// RootHashes are those of the volumes that the layout has and no set, by their match key.
	RootHashes map[string][]byte

	installation bootloader.Installation
}

// Disk plans a disk that boots a set: a partition table with identifiers of the seed, an ESP with
// boot loader, keys and UKI, the file system in the first slot, those of Older in the next ones,
// and what the layout asks for beside them. Its result is written with [partition.WriteImage], and
// reads from the set then, which must stay open.
//
// r may be nil, for a disk without a system; for a set it is &set.Release. Of what a layout
// asks for ([partition.Fill]) are made: copies of files; FAT and EROFS file systems; swap areas;
// hash trees and signatures of root hashes; LUKS2 volumes with a key from a file. Everything else
// is an [*UnmadeError], unless Contents has it; what lacks a key is [ErrNoVerityKey] or
// [ErrNoVolumeKey], and what does not fit a *partition.SpaceError or *fat.SpaceError. Partitions of
// a layout from definition files have the place and the identifiers that systemd-repart 262 gives
// them; the bytes of file systems are those of this module.
func Disk(ctx context.Context, r *release.Release, o DiskOptions) (d *DiskImage, err error) {
	defer prefix.Add("build", &err)
	b := &diskBuilder{ctx: ctx, release: r, o: o, out: &DiskImage{ESP: -1, RootHashes: map[string][]byte{}}, memory: new(budget)}
	for _, step := range []func() error{b.prepare, b.espFiles, b.lay, b.fillSlots, b.fill, b.plan, b.finish} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step(); err != nil {
			return nil, prefix.Bare(err)
		}
	}
	return b.out, nil
}

// diskBuilder makes one disk.
type diskBuilder struct {
	ctx     context.Context
	release *release.Release   // the first of sets; nil: there is none
	sets    []*release.Release // in the order of the slots
	o       DiskOptions
	out     *DiskImage
	memory  *budget

	usr    bool             // the set's file system is that of /usr
	files  []osmith.ESPFile // of the ESP
	layout partition.Layout
}

func (b *diskBuilder) prepare() (err error) {
	if b.o.Seed.IsZero() {
		return errors.New("disk: no Seed: without a seed, all disks would have the same identifiers")
	}
	if b.o.Tries < 0 || b.o.Tries > 99 {
		return fmt.Errorf("disk: %d tries: want 1 to 99, or 0 not to count them", b.o.Tries)
	}
	if b.release == nil {
		if len(b.o.Older) > 0 {
			return errors.New("disk: Older without a first set")
		}
		return nil
	}
	for _, set := range append([]*release.Release{b.release}, b.o.Older...) {
		if set == nil {
			return errors.New("disk: Older has a set that is nil")
		}
		r := *set
		if err := r.Identify(); err != nil {
			return err
		}
		if len(r.RootHash) > 0 && (r.Root == nil || r.Tree == nil) {
			return errors.New("disk: the release has a root hash without its root file system or hash tree: want all three, or none for a UKI alone")
		}
		b.sets = append(b.sets, &r)
	}
	b.release = b.sets[0]
	if b.usr, err = b.release.Usr(); err != nil {
		return err
	}
	for i, r := range b.sets[1:] {
		if err := b.older(b.sets[i], r); err != nil {
			return err
		}
	}
	return nil
}

// older checks that a set can be what a disk falls back to from the one before it.
func (b *diskBuilder) older(newer, r *release.Release) error {
	usr, err := r.Usr()
	switch {
	case err != nil:
		return err
	case r.ID != newer.ID || r.Architecture != newer.Architecture:
		return fmt.Errorf("disk: Older has %s for %s, want the product and architecture of the first set, %s for %s", r.ID, r.Architecture, newer.ID, newer.Architecture)
	case bootloader.CompareVersions(r.Version, newer.Version) >= 0:
		return fmt.Errorf("disk: Older has version %s after version %s: want the newest first, which the loader starts", r.Version, newer.Version)
	case len(r.RootHash) > 0 != b.hasRoot() || b.hasRoot() && usr != b.usr:
		return fmt.Errorf("disk: Older has version %s with a different kind of file system from the first set's: want all for /, all for /usr, or all without", r.Version)
	}
	return nil
}

// hasRoot reports whether the set has a file system for a slot.
func (b *diskBuilder) hasRoot() bool { return b.release != nil && len(b.release.RootHash) > 0 }

// role is that of the partitions for the set's file system.
func (b *diskBuilder) role() arch.Role {
	if b.usr {
		return arch.Usr
	}
	return arch.Root
}

// label is the name of a set's partition and file.
func label(r *release.Release) string { return r.ID + "_" + r.Version }

// loader is the boot loader with its settings; nil: there is none.
func (b *diskBuilder) loader() *bootloader.Installation {
	in := new(bootloader.Installation)
	if b.o.Loader != nil {
		*in = *b.o.Loader
	}
	if in.Loader == nil && b.release != nil {
		in.Loader = b.release.Loader
	}
	if in.Loader == nil {
		return nil
	}
	return in
}

// espFiles are what the ESP has: boot loader and keys, the UKI and what lies beside it.
func (b *diskBuilder) espFiles() error {
	for i, r := range b.sets {
		name := label(r) + ".efi"
		if i == 0 && b.o.Tries != 0 {
			var err error
			if name, err = bootloader.CountedName(label(r), b.o.Tries); err != nil {
				return err
			}
		}
		entry := path.Join("EFI/Linux", name)
		if i == 0 {
			b.out.Entry = entry
		}
		beside := path.Join("EFI/Linux", label(r)+".efi.extra.d")
		for _, a := range r.Addons {
			b.files = append(b.files, osmith.ESPFile{Path: path.Join(beside, a.Name), Content: a.Content})
		}
		for _, x := range r.Extensions {
			b.files = append(b.files, osmith.ESPFile{Path: path.Join(beside, x.Name), Content: x.Content})
		}
		b.files = append(b.files, osmith.ESPFile{Path: entry, Content: r.UKI})
	}
	if b.release == nil && b.o.Tries != 0 {
		return errors.New("disk: Tries without a set")
	}
	in := b.loader()
	if in == nil {
		if b.o.Enroll != nil {
			return errors.New("disk: Enroll without a boot loader: systemd-boot enrols the keys")
		}
		if b.release != nil {
			return errors.New("disk: no boot loader: give one with the set (Parts.Loader), or DiskOptions.Loader")
		}
		b.files = append(b.files, b.o.Files...)
		return nil
	}
	if err := b.enroll(in); err != nil {
		return err
	}
	b.out.Loader, b.out.installation = in.Loader, *in
	installed, err := in.Files()
	if err != nil {
		return err
	}
	b.files = slices.Concat(b.files, installed, b.o.Files)
	return nil
}

// enroll adds the keys, if all that is on the disk boots with them.
func (b *diskBuilder) enroll(in *bootloader.Installation) error {
	if b.o.Enroll == nil {
		return nil
	}
	o := b.o.EnrollOptions
	add := func(name string, src osmith.Source) error {
		im, err := secureboot.ReadImage(src)
		if err != nil {
			return fmt.Errorf("%s: %w", name, prefix.Bare(err))
		}
		im.Name = name
		o.MustBoot = append(o.MustBoot, im)
		return nil
	}
	if in.Shim != nil {
		return errors.New("disk: Enroll with a shim, whose own keys decide what it starts: enrol keys on the machine")
	}
	if err := add("boot loader", in.Loader); err != nil {
		return err
	}
	for _, r := range b.sets {
		name := "UKI"
		if len(b.sets) > 1 {
			name = "UKI of version " + r.Version
		}
		if err := add(name, r.UKI); err != nil {
			return err
		}
	}
	e, err := b.o.Enroll.Enroll(o)
	if err != nil {
		return err
	}
	keys, err := e.LoaderKeys("auto")
	if err != nil {
		return err
	}
	in.Keys = append(slices.Clone(in.Keys), keys...)
	config := bootloader.Config{}
	if in.Config != nil {
		config = *in.Config
	}
	if config.SecureBootEnroll == "" {
		config.SecureBootEnroll = "force" // keys to enrol were given
	}
	in.Config, b.out.Enrollment = &config, e
	return nil
}

const mib = 1 << 20

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// lay takes the layout, or makes one.
func (b *diskBuilder) lay() error {
	if b.o.Layout == nil {
		return b.usual()
	}
	if b.o.Slots != 0 || b.o.SlotSize != 0 || b.o.ESPSize != 0 || b.o.More != nil {
		return errors.New("disk: Slots, SlotSize, ESPSize and More are given together with Layout: want one or the other")
	}
	b.layout = *b.o.Layout
	b.layout.Partitions = slices.Clone(b.layout.Partitions)
	switch {
	case b.layout.Seed.IsZero():
		b.layout.Seed = b.o.Seed
	case b.layout.Seed != b.o.Seed:
		return fmt.Errorf("disk: the layout has the seed %s, DiskOptions %s: want the same, or none in the layout", b.layout.Seed, b.o.Seed)
	}
	b.layout.LayoutOnly = true
	return nil
}

// usual is a layout for the set.
func (b *diskBuilder) usual() error {
	if b.release == nil {
		return errors.New("disk: neither a set nor a Layout")
	}
	esp := b.o.ESPSize
	if esp == 0 {
		need, err := fat.MinSize(b.files, fat.BuildOptions{Kind: 32})
		if err != nil {
			return fmt.Errorf("disk: the ESP: %w", prefix.Bare(err))
		}
		esp = roundUp(need+b.release.UKI.Size()*5/2, mib)
	}
	l := partition.Layout{Seed: b.o.Seed, Partitions: []partition.Spec{{Type: partition.ESP, Name: "esp", Size: esp}}}
	if b.hasRoot() {
		a, ok := arch.ByGo(b.release.Architecture)
		role := b.role()
		if !ok || a.Types[role].IsZero() {
			return fmt.Errorf("disk: architecture %q has no partition types: give a Layout", b.release.Architecture)
		}
		var largest, trees int64
		signed := false
		for _, r := range b.sets {
			largest, trees, signed = max(largest, r.Root.Size()), max(trees, r.Tree.Size()), signed || r.RootHashSignature != nil
		}
		data := b.o.SlotSize
		if data == 0 {
			data = roundUp(largest*3/2, mib)
		}
		tree := roundUp(max(trees*2, data/100), mib)
		slots := b.o.Slots
		if slots == 0 {
			slots = max(2, len(b.sets))
		}
		if slots < len(b.sets) {
			return fmt.Errorf("disk: %d slots: want at least %d, one for each set", slots, len(b.sets))
		}
		for n := range slots {
			for i, size := range []int64{data, tree, signatureSize} {
				if i == 2 && !signed {
					continue
				}
				name := partition.EmptyName
				if n < len(b.sets) {
					name = label(b.sets[n]) // until all parts of the slot get theirs
				}
				l.Partitions = append(l.Partitions, partition.Spec{Type: a.Types[role+arch.Role(i)], Name: name, Size: size})
			}
		}
	}
	l.Partitions = append(l.Partitions, b.o.More...)
	b.layout = l
	return nil
}

// slotRoles are the parts of a slot, in the order of partition types behind that of the data.
const slotRoles = 3

// slotContents are those of the partitions of a set's slot.
func slotContents(r *release.Release) (contents [slotRoles]osmith.Source, err error) {
	contents = [slotRoles]osmith.Source{r.Root, r.Tree, r.RootHashSignature}
	signature, err := r.Signature()
	if err != nil {
		return contents, prefix.Bare(err)
	}
	if signature != nil {
		content, err := signature.Partition(signatureSize)
		if err != nil {
			return contents, err
		}
		contents[2] = bytes.NewReader(content)
	}
	return contents, nil
}

// fillSlots gives the first slots their contents: the n-th partition of a type is of slot n.
func (b *diskBuilder) fillSlots() error {
	if !b.hasRoot() {
		return nil
	}
	role := b.role()
	contents := make([][slotRoles]osmith.Source, len(b.sets))
	for i, r := range b.sets {
		var err error
		if contents[i], err = slotContents(r); err != nil {
			return err
		}
	}
	a, ok := arch.ByGo(b.release.Architecture)
	if !ok {
		return fmt.Errorf("disk: architecture %q has no partition types", b.release.Architecture)
	}
	types := a.Types[role : role+slotRoles]
	var found [slotRoles]int
	for i := range b.layout.Partitions {
		s := &b.layout.Partitions[i]
		n := slices.Index(types, s.Type)
		if n < 0 || s.SupplementFor != "" {
			continue
		}
		if s.Content != nil || b.o.Contents[key(s)] != nil {
			return fmt.Errorf("disk: partition %q has a content, but its slot is filled from the set: drop the content, or give no set", key(s))
		}
		s.Fill = nil // of slots it says how the set's own content is made
		if found[n] < len(contents) {
			s.Content = contents[found[n]][n]
		}
		found[n]++
	}
	for n, what := range []string{"the root file system", "its hash tree"} {
		switch {
		case found[n] == 0:
			return fmt.Errorf("disk: the layout has no partition for %s (%s)", what, partition.TypeName(types[n]))
		case found[n] < len(b.sets):
			return fmt.Errorf("disk: the layout has %d partitions for %s (%s), want %d, one for each set", found[n], what, partition.TypeName(types[n]), len(b.sets))
		}
	}
	return nil
}

// key is what options call a partition of the layout.
func key(s *partition.Spec) string {
	if s.Definition != "" {
		return s.Definition
	}
	return s.Name
}

// plan lays everything out.
func (b *diskBuilder) plan() (err error) {
	for name := range b.o.Contents {
		if !slices.ContainsFunc(b.layout.Partitions, func(s partition.Spec) bool { return key(&s) == name }) {
			return fmt.Errorf("disk: Contents has %q, but the layout has no such partition", name)
		}
	}
	b.out.Image, err = partition.Plan(b.layout)
	return err
}

// finish makes what depends on the plan, and names the slots.
func (b *diskBuilder) finish() error {
	t := b.out.Table
	b.out.ESP = slices.IndexFunc(t.Partitions, func(p partition.Partition) bool { return p.Type == partition.ESP })
	if b.hasRoot() {
		slots, err := partition.FindSlots(t, partition.SlotOptions{})
		if err != nil {
			return fmt.Errorf("disk: the layout: %w", prefix.Bare(err))
		}
		if len(slots.Slots) < len(b.sets) {
			return fmt.Errorf("disk: the layout has %d slots, want %d, one for each set", len(slots.Slots), len(b.sets))
		}
		for _, other := range slots.Slots[len(b.sets):] {
			slots.Vacate(other)
		}
		for i, r := range b.sets {
			if err := slots.Install(slots.Slots[i], partition.Labels{Data: label(r)}, r.RootHash); err != nil {
				return err
			}
		}
	}
	switch {
	case b.out.ESP < 0 && b.release != nil:
		return errors.New("disk: the layout has no EFI system partition, from which firmware starts the system")
	case b.out.ESP < 0 && len(b.files) > 0:
		return errors.New("disk: files for an EFI system partition are given, but the layout has none")
	}
	if err := b.fillLate(); err != nil {
		return err
	}
	return t.Check()
}
