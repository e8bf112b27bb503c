package release

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Wanted is the release that was asked for. A signature says that a release is the vendor's, not
// that it is the one that was asked for: a server can hand out an older one, or that of another
// product, under any name. An empty field asks for nothing; a release that does not say what a
// field asks for is not what is wanted.
type Wanted struct {
	ID           string // os-release IMAGE_ID or ID of the system
	Variant      string // os-release VARIANT_ID
	Architecture string // as Go and OCI name it
	Version      string // os-release IMAGE_VERSION

	// Name is the tag, or the name in a layout, under which the release was asked for. It must be
	// the version, which may have "v" in front of it, and "-ARCHITECTURE" behind it. A name that
	// says no version, such as "latest", is that of no release: what such a name is to mean needs a
	// signature of its own, that of a channel.
	Name string
}

// A WantedError says that a release is not the one that was asked for.
type WantedError struct {
	What      string // "product", "variant", "architecture", "version", "name"
	Want, Got string // Got is of the release, and may be empty; of a name it is the version
}

func (e *WantedError) Error() string {
	switch {
	case e.What == "name":
		return fmt.Sprintf("the release named %q has version %q, want the same", e.Want, e.Got)
	case e.Got == "":
		return fmt.Sprintf("%s: got none, want %q", e.What, e.Want)
	}
	return fmt.Sprintf("%s: want %q, got %q", e.What, e.Want, e.Got)
}

// Matches compares the release with what was asked for. The error is a [*WantedError].
func (a *Artifact) Matches(w Wanted) error {
	return prefix.Error("release", matches(w, Wanted{ID: a.ID, Variant: a.Variant, Architecture: a.Architecture, Version: a.Version}))
}

// Matches compares the release with what was asked for, as [Artifact.Matches] does.
func (r *Release) Matches(w Wanted) error {
	return prefix.Error("release", matches(w, Wanted{ID: r.ID, Variant: r.Variant, Architecture: r.Architecture, Version: r.Version}))
}

func matches(want, got Wanted) error {
	for _, c := range []WantedError{
		{"product", want.ID, got.ID},
		{"variant", want.Variant, got.Variant},
		{"architecture", want.Architecture, got.Architecture},
		{"version", want.Version, got.Version},
	} {
		if c.Want != "" && c.Want != c.Got {
			return &c
		}
	}
	if want.Name != "" && !names(want.Name, got.Version, got.Architecture) {
		return &WantedError{"name", want.Name, got.Version}
	}
	return nil
}

// names reports whether a name says the version. A tag of a registry has no "+", so "_" may stand
// for it there.
func names(name, version, architecture string) bool {
	for _, v := range []string{version, strings.ReplaceAll(version, "+", "_")} {
		for _, n := range []string{name, strings.TrimPrefix(name, "v")} {
			if n == v || architecture != "" && n == v+"-"+architecture {
				return true
			}
		}
	}
	return false
}
