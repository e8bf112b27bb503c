package build

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity"
)

// ErrNoVerityKey says that a layout asks for the signature of a root hash, and that there is no
// key.
var ErrNoVerityKey = errors.New("give a key (DiskOptions.Verity)")

// verityVolume are the partitions of one volume, as specs of the layout.
type verityVolume struct{ data, hash, signature *partition.Spec }

// fillVerity makes the hash trees and signatures that the layout asks for.
func (b *diskBuilder) fillVerity() error {
	var order []string
	volumes := map[string]*verityVolume{}
	for i := range b.layout.Partitions {
		s := &b.layout.Partitions[i]
		if s.Fill == nil || s.Fill.Verity == nil {
			continue
		}
		match := s.Fill.Verity.MatchKey
		v := volumes[match]
		if v == nil {
			v = new(verityVolume)
			volumes[match], order = v, append(order, match)
		}
		part := map[partition.VerityRole]**partition.Spec{partition.VerityData: &v.data, partition.VerityHash: &v.hash, partition.VeritySignature: &v.signature}[s.Fill.Verity.Role]
		switch {
		case part == nil:
			return fmt.Errorf("disk: partition %q: the part %q of a dm-verity volume is unknown", key(s), s.Fill.Verity.Role)
		case *part != nil:
			return fmt.Errorf("disk: partitions %q and %q are both the %s of the volume %q", key(*part), key(s), s.Fill.Verity.Role, match)
		}
		*part = s
	}
	for _, match := range order {
		if err := b.makeVerity(match, volumes[match]); err != nil {
			return fmt.Errorf("disk: the dm-verity volume %q: %w", match, prefix.Bare(err))
		}
	}
	return nil
}

func (b *diskBuilder) makeVerity(match string, v *verityVolume) error {
	switch {
	case v.data == nil || v.hash == nil:
		return errors.New("needs a partition for data and one for the hash tree")
	case v.data.Content == nil:
		return fmt.Errorf("%q is empty", key(v.data))
	case v.data.Fill.Encrypt != nil || v.hash.Fill.Encrypt != nil:
		return errors.New("encrypted: a dm-verity volume over encrypted data is not made here")
	}
	if _, ok := v.data.Content.(*late); ok {
		return fmt.Errorf("%q has a file system that is as large as its partition, which has no size yet: use EROFS, squashfs or ext4, or DiskOptions.Contents", key(v.data))
	}
	p := verity.Params{Salt: partition.SeedVeritySalt(b.layout.Seed), UUID: partition.SeedVerityUUID(b.layout.Seed),
		DataBlockSize: v.hash.Fill.Verity.DataBlockSize, HashBlockSize: v.hash.Fill.Verity.HashBlockSize}
	for _, n := range []*int{&p.DataBlockSize, &p.HashBlockSize} {
		if *n == 0 {
			*n = max(b.sectorSize(v.hash.Fill), 512)
		}
	}
	content := padded(v.data.Content)
	v.data.Content = content
	size, err := verity.TreeSize(content.Size(), p)
	if err != nil {
		return err
	}
	tree, err := b.scratch()
	if err != nil {
		return err
	}
	root, err := verity.Format(b.ctx, tree, content, p)
	if err != nil {
		return err
	}
	b.out.RootHashes[match] = root
	v.hash.Content = source(tree, size)
	data, hash, err := partition.VerityIDs(root)
	if err != nil {
		return err
	}
	if v.data.ID.IsZero() {
		v.data.ID = data
	}
	if v.hash.ID.IsZero() {
		v.hash.ID = hash
	}
	if v.signature == nil {
		return nil
	}
	if err := checkPair("verity", b.o.Verity); err != nil {
		return err
	}
	if b.o.Verity.Key == nil {
		return fmt.Errorf("%q is to have the signature of the root hash: %w", key(v.signature), ErrNoVerityKey)
	}
	s, err := verity.SignRootHash(root, b.o.Verity.Key, b.o.Verity.Cert)
	if err != nil {
		return err
	}
	text, err := s.Partition(signatureSize)
	if err != nil {
		return err
	}
	v.signature.Content = bytes.NewReader(text)
	return nil
}

// scratch is a place for what is made now and read when the disk is written.
func (b *diskBuilder) scratch() (Scratch, error) {
	if b.o.Scratch != nil {
		return b.o.Scratch()
	}
	return &pages{budget: b.memory, of: map[int64][]byte{}}, nil
}
