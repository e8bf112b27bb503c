package release

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Stream opens a release whose root file system and UKI stay where they are: everything else is
// fetched into the OCI layout in dir, as by [Pull], and these two are read in ranges while they are
// written to a slot and the ESP, so that they are written once and take no other room.
//
// The UKI is read once by Stream, which checks it against its digest and takes
// [Release].UKIDigests. Whatever is read of it later must be the same bytes: if the server has
// others by then, it is a [*ChangedUKIError]. With PullOptions.OldUKI, what an older UKI has is
// read there both times. A UKI that is in dir already, as [PullLayer] fetches it, is taken from
// there, and from a source that has whole blobs only it is fetched into dir.
//
// Of the root file system nothing is verified by this package. Package upgrade checks every block
// against the hash tree before it is written, and reads only those that the running set does not
// have, if it is asked to (PlanOptions.Delta). Anything else that reads Root must do the same. A
// source that has whole blobs only is [ErrNoRanges] when Root is read.
//
// The context is that of reading Root and UKI, too. Close the release after use. [Open] refuses the
// layout in dir, as it lacks layers; a later Pull adds them.
func Stream(ctx context.Context, src RangeSource, a *Artifact, dir string, o PullOptions) (*Release, error) {
	r, err := stream(ctx, src, a, dir, o)
	return r, prefix.Error("release", err)
}

func stream(ctx context.Context, src RangeSource, a *Artifact, dir string, o PullOptions) (*Release, error) {
	s := &streamer{ctx: ctx, src: src, a: a, dir: dir, options: o, fsys: os.DirFS(dir), into: new(Release)}
	uki, _ := a.Layer(MediaTypeUKI)
	o.Skip = append(slices.Clone(o.Skip), MediaTypeRoot, MediaTypeUKI)
	o.Progress = func(done, total int64) {
		s.done, s.total = done, total+uki.Size
		s.report(0)
	}
	if err := pull(ctx, src, a, dir, o); err != nil {
		return nil, err
	}
	if err := s.into.openLayers(a, s.open); err != nil {
		return nil, errors.Join(err, s.into.Close())
	}
	return s.into, nil
}

type streamer struct {
	ctx         context.Context
	src         RangeSource
	a           *Artifact
	dir         string
	fsys        fs.FS // of dir
	options     PullOptions
	into        *Release
	done, total int64
}

func (s *streamer) report(n int64) {
	s.done += n
	if s.options.Progress != nil {
		s.options.Progress(s.done, s.total)
	}
}

// open opens a layer where it is.
func (s *streamer) open(l ocispec.Descriptor) (osmith.Source, error) {
	switch l.MediaType {
	case MediaTypeUKI:
		return s.uki(l)
	case MediaTypeRoot:
		remote, err := NewBlobReader(s.ctx, s.src, l)
		if err != nil {
			return nil, err
		}
		return io.NewSectionReader(remote, 0, l.Size), nil
	}
	return s.into.layer(s.ctx, s.fsys, l)
}

// uki opens the UKI where it is.
func (s *streamer) uki(d ocispec.Descriptor) (osmith.Source, error) {
	if err := ocilayout.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if info, err := os.Stat(blobName(s.dir, d)); err == nil && info.Size() == d.Size {
		src, err := s.into.layerOfUKI(s.ctx, s.fsys, d, s.options.Hashes)
		if err == nil || s.ctx.Err() != nil {
			s.report(d.Size)
			return src, err
		}
	}
	remote := newRemoteUKI(s.ctx, s.src, d)
	s.into.files = append(s.into.files, remote)
	if err := s.reuse(remote); err != nil {
		return nil, err
	}
	src, err := s.hash(remote)
	if _, wrong := errors.AsType[*osmith.DigestError](err); wrong && remote.forget() {
		// the index of the sections is a hint
		src, err = s.hash(remote)
	}
	if !remote.reuses() {
		s.into.UKIPatch = nil
	}
	if errors.Is(err, ErrNoRanges) {
		s.into.UKIPatch = nil
		p := &puller{ctx: s.ctx, src: s.src, dir: s.dir}
		if err := p.pull(d); err != nil {
			return nil, err
		}
		src, err := s.into.layerOfUKI(s.ctx, s.fsys, d, s.options.Hashes)
		s.report(d.Size)
		return src, err
	}
	return src, err
}

// reuse has what an older UKI has read from there. What cannot be used for that is not: all is
// fetched then.
func (s *streamer) reuse(remote *remoteUKI) error {
	index, there := s.a.Layer(MediaTypeUKISections)
	if s.options.OldUKI == nil || !there || index.Size > maxDocument {
		return nil
	}
	runs, err := runsOf(s.ctx, blobName(s.dir, index), remote.desc, s.options.OldUKI)
	if err != nil {
		return s.ctx.Err()
	}
	s.into.UKIPatch = remote.reuse(s.options.OldUKI, runs)
	return nil
}

// hash reads the UKI once, against its digest.
func (s *streamer) hash(remote *remoteUKI) (osmith.Source, error) {
	before := s.done
	src := pinUKI(remote)
	found, err := hashUKI(s.ctx, src, s.options.Hashes, func(n int) { s.report(int64(n)) })
	if err == nil {
		err = found.verify(remote.desc)
	}
	if err != nil {
		s.done = before
		return nil, err
	}
	src.Elsewhere = remote.forget
	s.into.UKIDigests = found
	return src, nil
}
