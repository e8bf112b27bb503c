package extension

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/superblock"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
	"github.com/osmith-dev/osmith/verity"
)

// MaxSize is the largest extension, in bytes: the stub hands extensions over in a cpio archive,
// whose sizes have 32 bits (systemd 262, src/boot/cpio.c).
const MaxSize = sdstub.MaxCompanion

// Protection is how an image is protected against changes.
type Protection uint8

// The kinds of protection. The zero value claims nothing.
const (
	// there is a signature of the root hash without a certificate to check it by: ask
	// [Image.Trusted]
	ProtectionUnknown Protection = iota
	ProtectionNone               // there is a file system alone
	// there is a hash tree, and nothing vouches for its root hash: an attacker who changes the
	// image makes a new one
	ProtectionVerity
	// there is a signature of the root hash, by the certificate that it carries
	ProtectionSigned
)

// String is the protection in words.
func (p Protection) String() string {
	switch p {
	case ProtectionNone:
		return "unprotected"
	case ProtectionVerity:
		return "verity without a signature"
	case ProtectionSigned:
		return "signed"
	}
	return "unknown"
}

// Image is an extension image that was read.
type Image struct {
	// of the partition types, as Go names it; "" of a file system without partitions
	Architecture string
	Usr          bool // the file system is that of /usr, not of /
	Protection   Protection
	RootHash     []byte            // nil: there is no hash tree
	Signature    *verity.Signature // nil: there is none
	Signer       *x509.Certificate // that the signature carries; nil: none

	fileSystem, tree osmith.Source
}

// RootHashError says that the signature of an image is not one over the root hash that its
// partitions have.
type RootHashError struct {
	Where     string // which partition
	Want, Got osmith.GUID
}

func (e *RootHashError) Error() string {
	return fmt.Sprintf("partition ID of the %s: want %s from the signed root hash, got %s", e.Where, e.Want, e.Got)
}

// ErrUnprotected says that an image has no hash tree, so that there is nothing to check it against.
var ErrUnprotected = errors.New("the image has no hash tree")

// Read reads an image as systemd does (Discoverable Partitions Specification; systemd-dissect
// --validate is the judge in the tests), but takes nothing in more than one way: of the partitions
// that count there may be one each, and the table must be whole. It reads the table, the signature
// and the superblock of the hash tree; [Image.Verify] does the rest. An image is refused, with a
// [*osmith.FormatError] where it is its form, that has a signature and no hash tree; a signature
// that is damaged, wrong, or over another root hash than that of the partitions ([*RootHashError]).
// A file system without a partition table, which systemd takes too, is an image without protection.
func Read(src osmith.Source) (im *Image, err error) {
	defer prefix.Add("extension", &err)
	return read(src)
}

func formatError(field, format string, args ...any) error {
	return &osmith.FormatError{Offset: -1, Field: "extension image: " + field, Err: fmt.Errorf(format, args...)}
}

// fileSystems are those that systemd finds in extensions without a table.
var fileSystems = []string{superblock.EROFS, superblock.SquashFS, superblock.Ext}

func read(src osmith.Source) (*Image, error) {
	if src == nil {
		return nil, errors.New("no image")
	}
	if n := src.Size(); n < 0 || n > MaxSize {
		return nil, formatError("size", "%d bytes, at most %d are handed over", n, int64(MaxSize))
	}
	table, err := partition.Read(src, partition.ReadOptions{})
	if errors.Is(err, partition.ErrNoTable) {
		return readBare(src, prefix.Bare(err))
	}
	if err != nil {
		return nil, fmt.Errorf("extension image: %w", prefix.Bare(err))
	}
	if list := table.Findings(); len(list) > 0 {
		return nil, formatError("partition table", "%s", list[0])
	}
	return readTable(src, table)
}

func readBare(src osmith.Source, why error) (*Image, error) {
	for _, row := range superblock.Rows() {
		if !slices.Contains(fileSystems, row.What) {
			continue
		}
		b := make([]byte, len(row.Magic))
		if _, err := src.ReadAt(b, row.Offset); err != nil && err != io.EOF {
			return nil, err
		}
		if string(b) == row.Magic {
			return &Image{Protection: ProtectionNone, fileSystem: src}, nil
		}
	}
	return nil, formatError("partition table", "%w, and the image does not begin with EROFS, squashfs or ext4 either", why)
}

// readTable picks the partitions.
func readTable(src osmith.Source, table *partition.Table) (*Image, error) {
	im := new(Image)
	var own *arch.Architecture
	var found [3]osmith.Source // data, tree, signature
	var ids [3]osmith.GUID
	for i, p := range table.Partitions {
		a, role, ok := arch.ByType(p.Type)
		if !ok {
			continue // systemd's policies for extensions use root and usr alone
		}
		usr := role >= arch.Usr
		part := int(role) % 3
		field := fmt.Sprintf("partition %d (%s)", p.Number, partition.TypeName(p.Type))
		switch {
		case own == nil:
			own, im.Usr = a, usr
		case own != a:
			return nil, formatError(field, "there are partitions for %s, too: want one architecture", own.Name)
		case im.Usr != usr:
			return nil, formatError(field, "there are partitions for root and for usr: want one file system")
		}
		switch {
		case found[part] != nil:
			return nil, formatError(field, "the type is present twice: want one partition")
		case p.Attributes&partition.AttrNoAuto != 0:
			return nil, formatError(field, "has the flag no-auto, so systemd ignores it")
		case p.Name == partition.EmptyName:
			return nil, formatError(field, "is named %s, so systemd ignores it", partition.EmptyName)
		}
		found[part], ids[part] = table.Section(src, i), p.ID
	}
	switch {
	case own == nil:
		return nil, formatError("partition table", "there is no root partition and no usr partition")
	case own.Go == "":
		return nil, formatError("partition table", "architecture %s is unknown to Go", own.Name)
	case found[0] == nil:
		return nil, formatError("partition table", "there is no partition with the file system")
	case found[1] == nil && found[2] != nil:
		return nil, formatError("partition table", "there is a signature and no hash tree")
	}
	im.Architecture = own.Go
	im.fileSystem, im.tree = found[0], found[1]
	if im.tree == nil {
		im.Protection = ProtectionNone
		return im, nil
	}
	if err := im.readHash(ids, found[2]); err != nil {
		return nil, err
	}
	sb, err := verity.ReadSuperblock(im.tree, 0)
	if err != nil {
		return nil, fmt.Errorf("hash tree: %w", prefix.Bare(err))
	}
	if n := sb.DataSize(); n > im.fileSystem.Size() {
		return nil, formatError("hash tree", "covers %d bytes, want the %d of the file system's partition", n, im.fileSystem.Size())
	}
	im.fileSystem = io.NewSectionReader(im.fileSystem, 0, sb.DataSize())
	return im, nil
}

// readHash finds the root hash: in the signature, if there is one, else in the IDs of the
// partitions.
func (im *Image) readHash(ids [3]osmith.GUID, signature osmith.Source) error {
	if signature == nil {
		im.Protection = ProtectionVerity
		im.RootHash = append(append([]byte(nil), ids[0][:]...), ids[1][:]...)
		return nil
	}
	// A signature that cannot be read is no reason to go on without: that is how an unsigned image
	// is taken for a signed one.
	s, err := verity.ReadSignature(signature)
	if err != nil {
		return fmt.Errorf("signature of the root hash: %w", prefix.Bare(err))
	}
	if len(s.RootHash) != osset.RootHashSize {
		return formatError("signature of the root hash", "root hash of %d bytes, want %d", len(s.RootHash), osset.RootHashSize)
	}
	data, tree, err := partition.VerityIDs(s.RootHash)
	if err != nil {
		return prefix.Bare(err)
	}
	for _, x := range []struct {
		where     string
		want, got osmith.GUID
	}{{"file system", data, ids[0]}, {"hash tree", tree, ids[1]}} {
		if x.want != x.got {
			return &RootHashError{x.where, x.want, x.got}
		}
	}
	im.RootHash, im.Signature = s.RootHash, s
	switch _, signer, err := osset.RootHashSignature("signature of the root hash", signature, s.RootHash); {
	case errors.Is(err, osset.ErrNoCertificate):
		im.Protection = ProtectionUnknown
	case err != nil:
		return err
	default:
		im.Protection, im.Signer = ProtectionSigned, signer
	}
	return nil
}

// FileSystem is the file system, as much of its partition as the hash tree covers.
func (im *Image) FileSystem() osmith.Source { return im.fileSystem }

// Verify holds every block of the file system and of the hash tree against the root hash; an image
// without a tree is [ErrUnprotected]. That the root hash itself is vouched for is said by
// Protection, and by [Image.Trusted].
func (im *Image) Verify(ctx context.Context) error { return prefix.Error("extension", im.verify(ctx)) }

func (im *Image) verify(ctx context.Context) error {
	if im.tree == nil {
		return ErrUnprotected
	}
	if err := verity.Verify(ctx, im.fileSystem, im.tree, im.RootHash); err != nil {
		return prefix.Bare(err)
	}
	return nil
}

// Trusted checks the signature by certificates, as the kernel does by those of its keyrings, and
// returns the certificate of the signer. An image without a signature is [ErrUnsigned].
func (im *Image) Trusted(certificates []*x509.Certificate) (signer *x509.Certificate, err error) {
	defer prefix.Add("extension", &err)
	if im.Signature == nil {
		return nil, ErrUnsigned
	}
	if signer, err = im.Signature.Verify(certificates); err != nil {
		return nil, prefix.Bare(err)
	}
	return signer, nil
}

// String is the image in one line.
func (im *Image) String() string {
	what := "root"
	if im.Usr {
		what = "usr"
	}
	if im.Architecture == "" {
		return fmt.Sprintf("a file system without partitions, %s", im.Protection)
	}
	text := fmt.Sprintf("%s file system for %s, %s", what, im.Architecture, im.Protection)
	if im.RootHash != nil {
		text += ", root hash " + hex.EncodeToString(im.RootHash)
	}
	return text
}
