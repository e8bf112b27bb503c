package release

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// PullOptions are the choices of [Pull]; the zero value is usable.
type PullOptions struct {
	// Wanted is what was asked for: nothing is fetched of a release that is something else, and the
	// error is a [*WantedError].
	Wanted Wanted

	// Ref is the name under which the layout lists the release; it lists it without one if this is
	// empty.
	Ref string

	// Index, if not nil, is what Select has chosen the release from. It is stored, too, and has Ref
	// instead of the release, so that signatures of the index can be verified again; the releases
	// for other architectures that it lists are not there.
	Index *ocispec.Descriptor

	// Skip leaves layers of some types out, by media type: the root file system of a release that
	// verity.Patch puts together from the old one. [Open] refuses a layout that lacks a layer.
	Skip []string

	// OldUKI is a UKI of which [Stream] takes the pieces of sections that the new one has, too, by
	// the index that a release carries, as [PatchUKI] does; the others are fetched. It is read as
	// long as the release is in use; what it does not have any more is fetched. Nil: all is. Pull
	// does not look at it.
	OldUKI osmith.Source

	// Hashes are those under which [Stream] takes [UKIDigests] beside SHA-256: what
	// upgrade.Machine.UKIHashes says. Pull does not look at it.
	Hashes []crypto.Hash

	// Progress, if not nil, is told how many bytes of the release are there; of a UKI that Stream
	// leaves on the server, how many were read once.
	Progress func(done, total int64)
}

// Pull copies the release that a describes from a source into the OCI layout in dir, which is made
// if absent. Every blob is checked against its digest and size before it gets the name of its
// digest; a blob that is there is not fetched again. An interrupted transfer is taken up where it
// stopped, by the same call, if the source is a [RangeSource]; what had arrived is read once for
// its digest. The manifest is written last, so a layout that lists a release has all of it but what
// was skipped.
//
// The error for content that is not what was promised is a [*osmith.DigestError].
func Pull(ctx context.Context, src BlobSource, a *Artifact, dir string, o PullOptions) error {
	return prefix.Error("release", pull(ctx, src, a, dir, o))
}

func pull(ctx context.Context, src BlobSource, a *Artifact, dir string, o PullOptions) error {
	if err := a.Matches(o.Wanted); err != nil {
		return err
	}
	w, err := ocilayout.Create(dir)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	p := &puller{ctx: ctx, src: src, dir: dir, progress: o.Progress, total: a.Config.Size}
	blobs := []ocispec.Descriptor{a.Config}
	seen := map[digest.Digest]bool{a.Config.Digest: true}
	for _, l := range a.Layers {
		skip := seen[l.Digest]
		for _, t := range o.Skip {
			skip = skip || t == l.MediaType
		}
		seen[l.Digest] = true
		if !skip {
			blobs = append(blobs, l)
			p.total += l.Size
		}
	}
	for _, b := range blobs {
		if err := ocilayout.CheckDescriptor(b); err != nil {
			return err
		}
		if err := p.pull(b); err != nil {
			return err
		}
	}
	ref := o.Ref
	if o.Index != nil {
		ref = ""
	}
	if err := w.WriteRaw(a.Descriptor, a.manifest, ref); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if o.Index == nil {
		return nil
	}
	b, err := document(ctx, src, *o.Index)
	if err != nil {
		return err
	}
	index := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, ArtifactType: ArtifactType, Digest: o.Index.Digest, Size: int64(len(b))}
	if err := w.WriteRaw(index, b, o.Ref); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	return nil
}

// PullLayer fetches the first layer of a media type, as [Pull] does, which then finds it there. It
// returns the name of the file: the hash tree of a release is needed to know what to fetch of the
// rest. The error for a release without such a layer is an [fs.ErrNotExist].
func PullLayer(ctx context.Context, src BlobSource, a *Artifact, dir, mediaType string) (name string, err error) {
	defer prefix.Add("release", &err)
	d, there := a.Layer(mediaType)
	if !there {
		return "", fmt.Errorf("%w: the release has no layer of type %q", fs.ErrNotExist, mediaType)
	}
	if err := ocilayout.CheckDescriptor(d); err != nil {
		return "", err
	}
	if _, err := ocilayout.Create(dir); err != nil {
		return "", fmt.Errorf("pull: %w", err)
	}
	p := &puller{ctx: ctx, src: src, dir: dir, total: d.Size}
	if err := p.pull(d); err != nil {
		return "", err
	}
	return blobName(dir, d), nil
}

// Partial opens the file in which [Pull] has a blob until all of it is there, and makes it if it is
// not. What was put into it in full by other means, such as verity.Patch, Pull checks against the
// digest and does not fetch; what has another digest it fetches from the beginning. The layout in
// dir must be there.
func Partial(dir string, d ocispec.Descriptor) (*os.File, error) {
	if err := ocilayout.CheckDescriptor(d); err != nil {
		return nil, prefix.Error("release", err)
	}
	f, err := openPartial(partialName(dir, d))
	return f, prefix.Error("release", err)
}

type puller struct {
	ctx         context.Context
	src         BlobSource
	dir         string
	progress    func(done, total int64)
	done, total int64
}

func (p *puller) report(n int64) {
	p.done += n
	if p.progress != nil {
		p.progress(p.done, p.total)
	}
}

func blobName(dir string, d ocispec.Descriptor) string {
	return filepath.Join(dir, filepath.FromSlash(blobPath(d.Digest)))
}

// partialName is that of a blob's file until all of it is there.
func partialName(dir string, d ocispec.Descriptor) string {
	return filepath.Join(dir, ".partial-"+d.Digest.Encoded())
}

// pull fetches one blob into a file of its own and renames that when all of it is right.
func (p *puller) pull(d ocispec.Descriptor) error {
	name := blobName(p.dir, d)
	if info, err := os.Stat(name); err == nil && info.Size() == d.Size {
		if err := p.check(name, d); err == nil {
			p.report(d.Size)
			return nil
		} else if p.ctx.Err() != nil {
			return p.ctx.Err()
		}
	}
	partial := partialName(p.dir, d)
	f, err := openPartial(partial)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	err = p.fill(f, d)
	var wrong *osmith.DigestError
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if errors.As(err, &wrong) {
		// What was taken up again may be at fault, and would be next time.
		return errors.Join(err, os.Remove(partial))
	}
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if err := os.Rename(partial, name); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	return nil
}

// openPartial opens what an earlier attempt has left, or a new file. Anything but a regular file of
// that name, a link that leads elsewhere above all, is removed.
func openPartial(name string) (*os.File, error) {
	there, err := os.Lstat(name)
	if err == nil && there.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		// It could have been replaced in between.
		if opened, err := f.Stat(); err != nil || !os.SameFile(there, opened) {
			return nil, errors.Join(fmt.Errorf("%s: the file was replaced while it was being opened", name), err, f.Close())
		}
		return f, nil
	}
	if err == nil {
		err = os.Remove(name)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
}

// check reads a blob that is there already.
func (p *puller) check(name string, d ocispec.Descriptor) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, ocilayout.CheckedReader(p.ctx, f, d))
	return err
}

// fill completes a file that may have the beginning of the blob.
func (p *puller) fill(f *os.File, d ocispec.Descriptor) error {
	h := sha256.New()
	have, err := p.resume(f, d, h)
	if err != nil {
		return err
	}
	p.report(have)
	if have == d.Size && have > 0 && ocilayout.CheckDigest(d, digest.NewDigest(digest.SHA256, h), have) != nil {
		return p.again(f, d, have) // put together by other means, and not to the end perhaps
	}
	if have < d.Size {
		var r io.ReadCloser
		if have > 0 {
			r, err = p.src.(RangeSource).BlobRange(p.ctx, d, have, d.Size-have)
			if errors.Is(err, ErrNoRanges) {
				return p.again(f, d, have)
			}
		} else {
			r, err = p.src.Blob(p.ctx, d)
		}
		if err != nil {
			return fmt.Errorf("blob %s: %w", d.Digest, err)
		}
		// One byte more than promised is as wrong as one less.
		n, err := p.copy(f, have, h, io.LimitReader(&cancelReader{p.ctx, r}, d.Size-have+1))
		have += n
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("blob %s: after %d of %d bytes: %w", d.Digest, have, d.Size, err)
		}
	}
	return ocilayout.CheckDigest(d, digest.NewDigest(digest.SHA256, h), have)
}

// again fetches a blob from its beginning, as its source cannot go on where it was.
func (p *puller) again(f *os.File, d ocispec.Descriptor, have int64) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	p.report(-have)
	return p.fill(f, d)
}

// resume hashes what an earlier attempt has left, as far as it can be of use.
func (p *puller) resume(f *os.File, d ocispec.Descriptor, h hash.Hash) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	_, ranges := p.src.(RangeSource)
	if !ranges || size > d.Size {
		size = 0
	}
	if err := f.Truncate(size); err != nil {
		return 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if _, err := io.CopyN(h, &cancelReader{p.ctx, f}, size); err != nil {
		return 0, err
	}
	return size, nil
}

const (
	copyBlock = 256 << 10
	writeback = 8 << 20 // written so far before the kernel is asked to begin with the disk
)

// copy writes what it reads to a file, which ends at off, and has it hashed while the next comes
// in. What was read before an error is written.
func (p *puller) copy(f *os.File, off int64, h hash.Hash, r io.Reader) (n int64, err error) {
	free, full := make(chan []byte, 3), make(chan []byte, 3)
	for range cap(free) {
		free <- make([]byte, copyBlock)
	}
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		for b := range full {
			h.Write(b)
			free <- b[:copyBlock]
		}
	}()
	defer func() {
		close(full)
		<-hashed
	}()
	begun := int64(0)
	for {
		b := <-free
		k, err := 0, error(nil)
		for m := 0; k < len(b) && err == nil; k += m {
			m, err = r.Read(b[k:])
		}
		if k > 0 {
			if _, err := f.Write(b[:k]); err != nil {
				return n, err
			}
			n += int64(k)
			p.report(int64(k))
			full <- b[:k]
		}
		if n-begun >= writeback {
			sparse.StartWriteback(f, off+begun, n-begun)
			begun = n
		}
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// cancelReader ends a long read when the context does.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
