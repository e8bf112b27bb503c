package upgrade

import (
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pinned"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// pin pins a source: what is read of it again and is something else is a [*ChangedError]. None stays none.
func pin(src osmith.Source, what string) osmith.Source {
	if src == nil {
		return nil
	}
	return pinned.New(src, func(int64, int64) error { return &ChangedError{what} })
}

// pinRelease is a release whose files for the ESP are pinned. Of the rest the root hash is the pin.
func pinRelease(r *release.Release) release.Release {
	own := *r
	own.UKI = pin(r.UKI, "the release")
	own.Addons = slices.Clone(r.Addons)
	for i := range own.Addons {
		own.Addons[i].Content = pin(own.Addons[i].Content, "the release")
	}
	own.Extensions = slices.Clone(r.Extensions)
	for i := range own.Extensions {
		own.Extensions[i].Content = pin(own.Extensions[i].Content, "the release")
	}
	return own
}
