package upgrade

import (
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pinned"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// pin pins a source: what is read of it again and is something else is a [*ChangedError]. None
// stays none.
func pin(src osmith.Source, what string) osmith.Source {
	if src == nil {
		return nil
	}
	return pinned.New(src, func(int64, int64) error { return &ChangedError{what} })
}

// pinRelease is a release whose files for the ESP are pinned, its UKI to what it was when its
// digests were taken if it brings them. Of the rest the root hash is the pin.
func pinRelease(r *release.Release) (release.Release, error) {
	own := *r
	switch {
	case r.UKI == nil || r.UKIDigests == nil:
		own.UKI = pin(r.UKI, "the release")
	case r.UKI.Size() != r.UKIDigests.Size():
		return own, &ChangedError{"the release"}
	default:
		own.UKI = boundUKI{r.UKIDigests.Bind(r.UKI)}
	}
	own.Addons = slices.Clone(r.Addons)
	for i := range own.Addons {
		own.Addons[i].Content = pin(own.Addons[i].Content, "the release")
	}
	own.Extensions = slices.Clone(r.Extensions)
	for i := range own.Extensions {
		own.Extensions[i].Content = pin(own.Extensions[i].Content, "the release")
	}
	return own, nil
}

// boundUKI is a UKI that is bound to digests which were taken before the plan was made.
type boundUKI struct{ osmith.Source }

// ReadAt gives the error for other bytes the type that it has where the plan has taken the digests
// itself.
func (s boundUKI) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.Source.ReadAt(b, off)
	if changed, ok := errors.AsType[*release.ChangedUKIError](err); ok {
		err = fmt.Errorf("%w: %w", &ChangedError{"the release"}, changed)
	}
	return n, err
}
