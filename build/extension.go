package build

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity"
)

// Extension is an extension image to be made, of systemd: what [WriteExtension] writes is a system
// extension, a configuration extension or a portable service, depending on the contents of the file
// system.
type Extension struct {
	// EROFS, squashfs or another that is read-only; a multiple of 4096 bytes, or zeros are added
	FileSystem osmith.Source
	// the file system is that of /usr itself, and not of / with /usr or /etc in it
	Usr          bool
	Architecture string // as Go names it: amd64
	// that IDs, salt and UUID are derived from, as by systemd-repart --seed
	Seed osmith.GUID

	// Key and Certificate sign the root hash; Chain are further certificates for the signature to
	// carry. With Signature they are not needed.
	Key         crypto.Signer
	Certificate *x509.Certificate
	Chain       []*x509.Certificate

	// Signature is one that was made elsewhere, over [ExtensionRootHash].
	Signature *verity.Signature

	// UnsignedSoThatAnyoneCanReplaceIt makes an image without a signature: no initrd of systemd 254
	// and later takes it from beside a UKI, and no upgrade installs it.
	UnsignedSoThatAnyoneCanReplaceIt bool
}

// ExtensionImage describes the image that was written.
type ExtensionImage struct {
	Size     int64 // bytes
	RootHash []byte
}

const (
	blockSize     = 4096     // of the hash tree, as systemd-repart has it for image files
	signatureSize = 16 << 10 // of the partition for the signature, as systemd-repart has it
	tableStart    = 1 << 20  // where systemd-repart begins on disks of more than 4 MiB
	shareWeight   = 1000     // of the partitions in what is free, the default of repart.d(5)
)

// maxExtension is the largest image that the stub hands over. It bounds the hash tree, which is
// kept in memory: 33 MiB.
const maxExtension = sdstub.MaxCompanion

// ExtensionRootHash is the root hash that [WriteExtension] is going to write, for a remote key:
// verity.PrepareSignature turns it into what is to be signed. It reads the file system once.
func ExtensionRootHash(ctx context.Context, x Extension) (rootHash []byte, err error) {
	defer prefix.Add("build", &err)
	_, _, rootHash, err = x.format(ctx)
	return rootHash, err
}

// WriteExtension writes an extension image to w, which must read as zeros where nothing is written,
// as a new file does: a GPT with a root or usr partition, its dm-verity hash tree and a signature
// of the root hash. The bytes are those of systemd-repart 262 --make-ddi=sysext or confext --seed,
// for the same file system, key and certificate, but for three in the protective MBR that nothing
// reads (the end of the disk in cylinders). It reads the file system twice, and the tree is in
// memory meanwhile, 1/128 of it.
//
// An image of more than 4 GiB is refused, since the stub does not hand over such a file. The
// signature must be one over the root hash. After an error w has a part of the image, without a
// partition table.
func WriteExtension(ctx context.Context, w io.WriterAt, x Extension) (im *ExtensionImage, err error) {
	defer prefix.Add("build", &err)
	content, tree, rootHash, err := x.format(ctx)
	if err != nil {
		return nil, err
	}
	signature, err := x.sign(rootHash)
	if err != nil {
		return nil, err
	}
	layout, err := x.layout(content, tree, signature, rootHash)
	if err != nil {
		return nil, err
	}
	plan, err := partition.Plan(layout)
	if err != nil {
		return nil, prefix.Bare(err)
	}
	if plan.Size > maxExtension {
		return nil, tooLarge(plan.Size)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := partition.WriteImage(w, plan, partition.WriteOptions{TargetIsZero: true}); err != nil {
		return nil, prefix.Bare(err)
	}
	return &ExtensionImage{Size: plan.Size, RootHash: rootHash}, nil
}

func tooLarge(n int64) error {
	return fmt.Errorf("extension of %d bytes: want at most %d, which the stub hands over", n, int64(maxExtension))
}

// format makes the hash tree in memory.
func (x *Extension) format(ctx context.Context) (content osmith.Source, tree *bytes.Reader, rootHash []byte, err error) {
	switch {
	case x.FileSystem == nil || x.FileSystem.Size() <= 0:
		return nil, nil, nil, errors.New("extension: no file system, or an empty one")
	case x.FileSystem.Size() > maxExtension:
		return nil, nil, nil, tooLarge(x.FileSystem.Size())
	case x.Seed.IsZero():
		return nil, nil, nil, errors.New("extension: no Seed: without a seed, all extensions would have the same IDs and salt")
	}
	content = padded(x.FileSystem)
	params := verity.Params{Salt: partition.SeedVeritySalt(x.Seed), UUID: partition.SeedVerityUUID(x.Seed)}
	size, err := verity.TreeSize(content.Size(), params)
	if err != nil {
		return nil, nil, nil, prefix.Bare(err)
	}
	b := make(memory, size)
	if rootHash, err = verity.Format(ctx, b, content, params); err != nil {
		return nil, nil, nil, prefix.Bare(err)
	}
	return content, bytes.NewReader(b), rootHash, nil
}

// memory is written to at offsets within it.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], p), nil
}

// sign makes or checks the signature; nil if there is to be none.
func (x *Extension) sign(rootHash []byte) (*verity.Signature, error) {
	switch {
	case x.UnsignedSoThatAnyoneCanReplaceIt:
		if x.Signature != nil || x.Key != nil || x.Certificate != nil {
			return nil, errors.New("extension: Unsigned is set together with a key or a signature")
		}
		return nil, nil
	case x.Signature != nil:
		if !bytes.Equal(x.Signature.RootHash, rootHash) {
			return nil, fmt.Errorf("extension: signature of root hash %s, the root hash is %s: sign that of ExtensionRootHash",
				hex.EncodeToString(x.Signature.RootHash), hex.EncodeToString(rootHash))
		}
		if x.Certificate != nil {
			if _, err := x.Signature.Verify([]*x509.Certificate{x.Certificate}); err != nil {
				return nil, prefix.Bare(err)
			}
		}
		return x.Signature, nil
	case x.Key == nil || x.Certificate == nil:
		return nil, errors.New("extension: no Key and Certificate, and no Signature: systemd rejects an unsigned extension beside a UKI")
	}
	s, err := verity.SignRootHash(rootHash, x.Key, x.Certificate, x.Chain...)
	if err != nil {
		return nil, prefix.Bare(err)
	}
	return s, nil
}

// layout is that of the definitions in repart/definitions/sysext.repart.d of systemd 262.
func (x *Extension) layout(content, tree osmith.Source, signature *verity.Signature, rootHash []byte) (l partition.Layout, err error) {
	a, ok := arch.ByGo(x.Architecture)
	first := arch.Root
	if x.Usr {
		first = arch.Usr
	}
	if !ok || a.Types[first].IsZero() {
		return l, fmt.Errorf("extension: architecture %q: want one that Go names and that has partition types, such as amd64 or arm64", x.Architecture)
	}
	data, hash, err := partition.VerityIDs(rootHash)
	if err != nil {
		return l, prefix.Bare(err)
	}
	spec := func(role arch.Role, id osmith.GUID, content osmith.Source) {
		l.Partitions = append(l.Partitions, partition.Spec{Type: a.Types[role], ID: id, DefaultName: true, Content: content, MinSize: content.Size(), Weight: shareWeight, Attributes: partition.AttrReadOnly})
	}
	l = partition.Layout{Seed: x.Seed, Repart: true, Align: blockSize, Start: tableStart}
	spec(first, data, content)
	spec(first+1, hash, tree)
	if signature == nil {
		return l, nil
	}
	b, err := signature.Partition(signatureSize)
	if err != nil {
		return l, prefix.Bare(err)
	}
	spec(first+2, osmith.GUID{}, bytes.NewReader(b))
	return l, nil
}

// padded adds zeros up to a whole block.
func padded(src osmith.Source) osmith.Source {
	if src.Size()%blockSize == 0 {
		return src
	}
	return &padding{src, (src.Size() + blockSize - 1) / blockSize * blockSize}
}

type padding struct {
	src  osmith.Source
	size int64
}

func (p *padding) Size() int64 { return p.size }

func (p *padding) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("extension: negative offset")
	}
	if off >= p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-off))
	clear(b[:n])
	if have := p.src.Size() - off; have > 0 {
		if err := sparse.ReadFull(p.src, b[:min(int64(n), have)], off); err != nil {
			return 0, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
