package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// A UKIPatch says where the bytes of a UKI came from.
type UKIPatch struct {
	Reused   int64 // bytes of the old UKI
	Fetched  int64 // bytes of the source, the index of the sections not counted
	Requests int64 // for them
}

// ukiGap is the most that is fetched although the old UKI has it, to join two requests.
const ukiGap = 64 << 10

// PatchUKI puts the UKI of a release together from an older one and what that lacks, where [Pull]
// finds it, which is to be called next. Pieces of sections that both have, by the index that the
// release carries, are not fetched; they may have moved. It fetches that index, and makes the
// layout in dir if there is none.
//
// Neither the old UKI nor the index is trusted: Pull checks the digest of the result, and fetches
// the whole UKI if it differs. What an interrupted call has put together, or an interrupted Pull
// fetched, is kept, and gone on with.
//
// The error for a release without an index, which some other program has packed, is an
// [fs.ErrNotExist], and for a source without ranges [ErrNoRanges]; if old is not a PE image or the
// index not one of the UKI, it is a [*osmith.FormatError]. Pull fetches all of the UKI then.
func PatchUKI(ctx context.Context, src RangeSource, a *Artifact, dir string, old osmith.Source) (*UKIPatch, error) {
	p, err := patchUKI(ctx, src, a, dir, old)
	return p, prefix.Error("release", err)
}

func patchUKI(ctx context.Context, src RangeSource, a *Artifact, dir string, old osmith.Source) (*UKIPatch, error) {
	if x, there := a.Layer(MediaTypeUKISections); there && x.Size > maxDocument {
		return nil, fmt.Errorf("index of the UKI's sections: %w: %d bytes, want at most %d", ErrTooLarge, x.Size, maxDocument)
	}
	name, err := PullLayer(ctx, src, a, dir, MediaTypeUKISections)
	if err != nil {
		return nil, err
	}
	d, _ := a.Layer(MediaTypeUKI) // without one it would not have been read
	if info, err := os.Stat(blobName(dir, d)); err == nil && info.Size() == d.Size {
		return &UKIPatch{}, nil
	}
	runs, err := runsOf(ctx, name, d, old)
	if err != nil {
		return nil, err
	}
	f, err := openPartial(partialName(dir, d))
	if err != nil {
		return nil, err
	}
	result, err := assemble(ctx, f, src, d, old, runs)
	return result, errors.Join(err, f.Close())
}

// runsOf divides a UKI by what an older one has of it. name is that of the file with the index.
func runsOf(ctx context.Context, name string, d ocispec.Descriptor, old osmith.Source) ([]run, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	index, err := parseSections(b, d.Size)
	if err != nil {
		return nil, fmt.Errorf("index of the UKI's sections: %w", err)
	}
	have, err := piecesOf(ctx, old)
	if err != nil {
		return nil, fmt.Errorf("old UKI: %w", err)
	}
	return plan(index, have), nil
}

// piecesOf is where the pieces of a UKI are, by their digests.
func piecesOf(ctx context.Context, src osmith.Source) (map[string]int64, error) {
	h, err := newSectionHasher(src)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(h, &cancelReader{ctx, io.NewSectionReader(src, 0, src.Size())}); err != nil {
		return nil, err
	}
	found := map[string]int64{}
	for i := range h.index.Sections {
		s := &h.index.Sections[i]
		for n, p := range s.pieces()[:len(s.Pieces)] {
			found[s.Pieces[n]] = p.off
		}
	}
	return found, nil
}

// A run is a part of the new UKI that comes from one place.
type run struct {
	off, size int64
	old       int64 // where the old UKI has it; fetched if negative
}

const fetched = -1

// plan divides the new UKI into runs, in its order and without gaps.
func plan(x *sectionIndex, have map[string]int64) []run {
	var runs []run
	end := int64(0)
	add := func(r run) {
		end = r.off + r.size
		if n := len(runs); n > 0 {
			last := &runs[n-1]
			if last.old == fetched && r.old == fetched || last.old != fetched && r.old == last.old+last.size {
				last.size += r.size
				return
			}
			// What is small and lies between two that are fetched is fetched with them.
			if n > 1 && r.old == fetched && last.size <= ukiGap {
				before := &runs[n-2]
				if before.old == fetched {
					before.size += last.size + r.size
					runs = runs[:n-1]
					return
				}
			}
		}
		runs = append(runs, r)
	}
	for i := range x.Sections {
		s := &x.Sections[i]
		for n, p := range s.pieces() {
			if p.off > end {
				add(run{end, p.off - end, fetched})
			}
			r := run{p.off, p.size, fetched}
			if off, ok := have[s.Pieces[n]]; ok { // of the same size, as its digest is the same
				r.old = off
			}
			add(r)
		}
	}
	if end < x.Size {
		add(run{end, x.Size - end, fetched})
	}
	return runs
}

// assemble appends to a file what it lacks.
func assemble(ctx context.Context, f *os.File, src RangeSource, d ocispec.Descriptor, old osmith.Source, runs []run) (*UKIPatch, error) {
	there, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	result := new(UKIPatch)
	for _, r := range runs {
		if done := min(there-r.off, r.size); done > 0 {
			r.off, r.size = r.off+done, r.size-done
			if r.old != fetched {
				r.old += done
			}
		}
		if r.size == 0 {
			continue
		}
		if r.old != fetched {
			n, err := io.Copy(f, &cancelReader{ctx, io.NewSectionReader(old, r.old, r.size)})
			if err == nil && n < r.size {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return nil, fmt.Errorf("old UKI: %w", err)
			}
			result.Reused += n
			continue
		}
		result.Requests++
		n, err := fetchRun(ctx, f, src, d, r)
		result.Fetched += n
		if err != nil {
			return nil, fmt.Errorf("blob %s: %d bytes at %d: %w", d.Digest, r.size, r.off, err)
		}
	}
	return result, nil
}

// fetchRun appends a part of a blob to a file.
func fetchRun(ctx context.Context, f *os.File, src RangeSource, d ocispec.Descriptor, r run) (int64, error) {
	body, err := src.BlobRange(ctx, d, r.off, r.size)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, io.LimitReader(&cancelReader{ctx, body}, r.size))
	if err == nil && n < r.size {
		err = io.ErrUnexpectedEOF
	}
	return n, errors.Join(err, body.Close())
}
