package build

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/luks"
)

// UnmadeError is a content that a layout asks for and [Disk] does not make.
type UnmadeError struct {
	Partition string // its Definition, or else its Name
	What      string // as [partition.Fill] has it in words
	Reason    string
}

func (e *UnmadeError) Error() string {
	return fmt.Sprintf("disk: partition %q is to have %s: %s: make the content elsewhere and give it as DiskOptions.Contents[%q], or leave it to the first boot", e.Partition, e.What, e.Reason, e.Partition)
}

// ErrNoVolumeKey says that a layout asks for an encrypted volume, and that nothing would open it.
var ErrNoVolumeKey = errors.New("no passphrase, key file or Keys, so nothing could unlock the volume")

// late is a content that is made when place and size of its partition are known. Until then it has
// a size, the least that it may have.
type late struct {
	least int64
	make  func(im *partition.Image, i int) (osmith.Source, error)
}

func (l *late) Size() int64 { return l.least }

func (l *late) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the content has not been made")
}

// fill makes the contents that do not depend on the place of a partition.
func (b *diskBuilder) fill() error {
	for i := range b.layout.Partitions {
		s := &b.layout.Partitions[i]
		if err := b.fillOne(i, s); err != nil {
			if unmade, ok := errors.AsType[*UnmadeError](err); ok {
				return unmade
			}
			return fmt.Errorf("disk: partition %q: %w", key(s), prefix.Bare(err))
		}
	}
	if err := b.fillVerity(); err != nil {
		return err
	}
	for i := range b.layout.Partitions {
		if s := &b.layout.Partitions[i]; s.Fill != nil && s.Fill.Encrypt != nil {
			if err := b.encrypt(i, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *diskBuilder) fillOne(i int, s *partition.Spec) error {
	f := s.Fill
	if f == nil {
		f = new(partition.Fill)
	}
	content := b.o.Contents[key(s)]
	refuse := func(reason string) error { return &UnmadeError{key(s), f.String(), reason} }
	switch {
	case content != nil:
		s.Content = content
		if s.Fill != nil { // of it, that is all that is left to be done
			s.Fill = &partition.Fill{Encrypt: f.Encrypt, Verity: f.Verity, SectorSize: f.SectorSize}
		}
	case s.Type == partition.ESP && s.Content == nil:
		if f.Encrypt != nil || f.Verity != nil || f.FileSystem != nil || f.File != "" {
			return refuse("an EFI system partition has a FAT file system")
		}
		return b.fillESP(s, f)
	case f.Running:
		return refuse("no system runs from this disk yet")
	case f.File != "":
		var err error
		s.Content, err = b.hostFile(f.File)
		return err
	case f.FAT != nil:
		files, err := b.fatFiles(f.FAT)
		if err != nil {
			return err
		}
		return b.planFAT(s, f, f.FAT.Label, files)
	case f.FileSystem != nil:
		return b.fillFileSystem(i, s, f)
	}
	return nil
}

// sectorSize is that of a file system.
func (b *diskBuilder) sectorSize(f *partition.Fill) int {
	n := b.layout.FileSystemSectorSize
	if f.SectorSize != 0 {
		n = f.SectorSize
	}
	return max(n, b.layout.SectorSize, 512)
}

// fillESP makes the ESP, of what the layout has for it and what the system needs.
func (b *diskBuilder) fillESP(s *partition.Spec, f *partition.Fill) error {
	label := "ESP"
	files := b.files
	if f.FAT != nil {
		more, err := b.fatFiles(f.FAT)
		if err != nil {
			return err
		}
		for _, a := range more {
			if a.Content != nil && slices.ContainsFunc(b.files, func(c osmith.ESPFile) bool { return fat.SameName(strings.Trim(a.Path, "/"), strings.Trim(c.Path, "/")) }) {
				return fmt.Errorf("the layout and the system both have the file %s: want one of them", a.Path)
			}
		}
		files = slices.Concat(more, b.files)
		if f.FAT.Label != "" {
			label = f.FAT.Label
		}
	}
	return b.planFAT(s, f, label, files)
}

// planFAT has a FAT made as large as its partition will be.
func (b *diskBuilder) planFAT(s *partition.Spec, f *partition.Fill, label string, files []osmith.ESPFile) error {
	sector := b.sectorSize(f)
	o := fat.BuildOptions{SectorSize: sector, Label: label, Time: b.o.Time}
	if b.o.Layout != nil && (b.layout.Repart || s.Size > 0 || s.MinSize > 0 || s.MaxSize > 0 || s.Weight > 0) {
		o.Kind = fat.AnyKind // its size is decided elsewhere
	}
	least, err := fat.MinSize(files, o)
	if err != nil {
		return err
	}
	o.Kind = 0
	s.Content = &late{least, func(im *partition.Image, i int) (osmith.Source, error) {
		off, size := im.Table.Extent(i)
		o.Size, o.VolumeID, o.HiddenSectors = size, partition.FATVolumeID(im.Table.Partitions[i].ID), uint32(off/int64(sector))
		return fat.Plan(files, o)
	}}
	return nil
}

// fillLate makes what depends on the plan.
func (b *diskBuilder) fillLate() error {
	for i, p := range b.out.Table.Partitions {
		l, ok := b.out.Content(i).(*late)
		if merged := b.merged(i); merged != nil {
			var err error
			if l, err = b.fillMerged(p, merged); err != nil {
				return err
			}
		} else if !ok {
			continue
		}
		content, err := l.make(b.out.Image, i)
		if err != nil {
			return fmt.Errorf("disk: partition %q: %w", p.Name, prefix.Bare(err))
		}
		if err := b.out.SetContent(i, content); err != nil {
			return err
		}
	}
	return nil
}

// merged is what a partition is to be filled with that two of the layout were merged into; nil: it
// is one of them.
func (b *diskBuilder) merged(i int) *partition.Fill {
	f := b.out.Fill(i)
	if f == nil || f.FAT == nil && f.FileSystem == nil && f.File == "" {
		return nil
	}
	own := slices.ContainsFunc(b.layout.Partitions, func(s partition.Spec) bool { return s.Fill == f })
	if _, ok := b.out.Content(i).(*late); own && (ok || f.FAT == nil) {
		return nil
	}
	return f
}

// fillMerged has a FAT made of the files of both.
func (b *diskBuilder) fillMerged(p partition.Partition, f *partition.Fill) (*late, error) {
	s := &partition.Spec{Type: p.Type, Name: p.Name, Size: 1} // its size is decided
	if f.FAT == nil || f.Encrypt != nil || f.Verity != nil {
		return nil, &UnmadeError{p.Name, f.String(), "only FAT file systems are made for merged partitions"}
	}
	if p.Type == partition.ESP {
		if err := b.fillESP(s, f); err != nil {
			return nil, err
		}
	} else {
		files, err := b.fatFiles(f.FAT)
		if err != nil {
			return nil, err
		}
		if err := b.planFAT(s, f, f.FAT.Label, files); err != nil {
			return nil, err
		}
	}
	return s.Content.(*late), nil
}

// fillFileSystem makes a file system that is not a FAT.
func (b *diskBuilder) fillFileSystem(i int, s *partition.Spec, f *partition.Fill) error {
	fill := f.FileSystem
	switch {
	case fill.Format == "erofs" && fill.Compression != "":
		return &UnmadeError{key(s), f.String(), "EROFS is made only without compression"}
	case fill.Format == "erofs":
		return b.erofs(i, s, fill)
	case fill.Format == "squashfs":
		return b.squashfs(i, s, f)
	case fill.Format == "ext4":
		return b.ext4(i, s, fill)
	case fill.Format == "swap":
		id := b.partitionID(i)
		s.Content = &late{swapLeast, func(im *partition.Image, n int) (osmith.Source, error) {
			_, size := im.Table.Extent(n)
			if f.Encrypt != nil {
				size -= partition.LUKSOverhead
			}
			return swapArea(size, partition.FileSystemID(id), im.Table.Partitions[n].Name), nil
		}}
		return nil
	}
	return &UnmadeError{key(s), f.String(), "want FAT, EROFS, squashfs, ext4 or swap: no other file systems are made"}
}

// partitionID is the ID that the plan derives for a partition of the layout, before a root hash
// gives it another one.
func (b *diskBuilder) partitionID(i int) osmith.GUID {
	s := &b.layout.Partitions[i]
	if !s.ID.IsZero() {
		return s.ID
	}
	n := 0
	for _, other := range b.layout.Partitions[:i] {
		if other.Type == s.Type {
			n++
		}
	}
	return partition.SeedPartitionID(b.layout.Seed, s.Type, n)
}

// maxKeyFile is the longest key file that cryptsetup and systemd read, in bytes.
const maxKeyFile = 8 << 20

// encrypt puts the content of a partition into a LUKS2 volume.
func (b *diskBuilder) encrypt(i int, s *partition.Spec) error {
	f := s.Fill
	volume, given := b.o.Volumes[key(s)]
	refuse := func(reason string) error { return &UnmadeError{key(s), f.String(), reason} }
	e := f.Encrypt
	switch {
	case e.Inline || e.IntegrityAlgorithm != "":
		return refuse("volumes with authenticated encryption are not made")
	case !given:
		return fmt.Errorf("disk: partition %q is to have %s: give its secrets as DiskOptions.Volumes[%q]", key(s), f, key(s))
	case volume.Format.Rand == nil:
		return fmt.Errorf("disk: partition %q: Volumes[%q].Format.Rand is needed, crypto/rand.Reader as a rule", key(s), key(s))
	case strings.Contains(e.Key, "tpm2") && volume.Keys == nil:
		return refuse("a key for a TPM is added by Keys in DiskOptions.Volumes, and there is none")
	}
	passphrase := volume.Passphrase
	if passphrase == nil && e.KeyFile != "" {
		file, err := b.hostFile(e.KeyFile)
		if err != nil {
			return fmt.Errorf("disk: partition %q: the key file: %w", key(s), err)
		}
		if file.Size() > maxKeyFile {
			return fmt.Errorf("disk: partition %q: the key file has %d bytes: want at most %d", key(s), file.Size(), maxKeyFile)
		}
		if passphrase, err = readAll(file); err != nil {
			return fmt.Errorf("disk: partition %q: the key file: %w", key(s), err)
		}
	}
	if passphrase == nil && volume.Keys == nil {
		return fmt.Errorf("disk: partition %q: %w", key(s), ErrNoVolumeKey)
	}
	o := volume.Format
	o.Flags = slices.Clone(o.Flags)
	if e.Discard != nil && *e.Discard && !slices.Contains(o.Flags, "allow-discards") {
		o.Flags = append(o.Flags, "allow-discards")
	}
	if o.SectorSize == 0 {
		o.SectorSize = b.sectorSize(f)
	}
	id := b.partitionID(i)
	if o.UUID.IsZero() {
		o.UUID = partition.LUKSID(id)
	}
	inside := s.Content
	least := int64(partition.LUKSOverhead)
	if inside != nil {
		least += inside.Size()
	}
	s.Content = &late{least, func(im *partition.Image, n int) (osmith.Source, error) {
		_, size := im.Table.Extent(n)
		content := inside
		if l, ok := inside.(*late); ok {
			made, err := l.make(im, n)
			if err != nil {
				return nil, err
			}
			content = made
		}
		if o.Label == "" {
			o.Label = e.Label
		}
		if o.Label == "" {
			o.Label = "luks-" + im.Table.Partitions[n].Name
		}
		if content == nil {
			content = nothing{}
		}
		return luks.NewImage(content, size, passphrase, o, volume.Keys)
	}}
	return nil
}

// nothing is the content of a volume that has none.
type nothing struct{}

func (nothing) Size() int64 { return 0 }

func (nothing) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("no files were given")
}
