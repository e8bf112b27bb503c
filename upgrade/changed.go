package upgrade

import (
	"crypto/sha256"
	"fmt"
	"maps"

	"github.com/osmith-dev/osmith/upgrade/release"
)

// ChangedError says that something is not what it was when the plan was made.
type ChangedError struct {
	What string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s has changed since the plan was made: make a new one", e.What)
}

// releaseDigests are SHA-256 digests of what a release puts on the ESP. The root hash stands for the rest.
type releaseDigests struct {
	uki    [sha256.Size]byte
	addons map[string][sha256.Size]byte // by name
}

func (d releaseDigests) equal(other releaseDigests) bool {
	return d.uki == other.uki && maps.Equal(d.addons, other.addons)
}

func digestRelease(r *release.Release) (d releaseDigests, err error) {
	if d.uki, err = digest(r.UKI); err != nil {
		return d, err
	}
	d.addons = map[string][sha256.Size]byte{}
	for _, a := range r.Addons {
		if d.addons[a.Name], err = digest(a.Content); err != nil {
			return d, err
		}
	}
	return d, nil
}
