package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// wanted is what flags say about the release that is asked for, besides its name.
type wanted struct {
	release.Wanted
	anyVersion bool
}

func wantedFlags(set *flag.FlagSet) *wanted {
	w := new(wanted)
	set.StringVar(&w.ID, "id", "", "`name` of the system that the release must be of")
	set.StringVar(&w.Variant, "variant", "", "`variant` of the system that the release must be of")
	set.StringVar(&w.Version, "version", "", "`version` that the release must be of (default: what REF says)")
	set.StringVar(&w.Architecture, "arch", "", "`architecture` that the release must be for, and that is taken from an index (default: "+runtime.GOARCH+", which a release that says none may be for, too)")
	set.BoolVar(&w.anyVersion, "accept-any-version", false, "let REF be a name that says no version, such as latest, and accept whatever version has it")
	return w
}

// of is what a release must be that was asked for by a name, which is empty if that was a digest.
func (w *wanted) of(name string) release.Wanted {
	r := w.Wanted
	if r.Version == "" && !w.anyVersion {
		r.Name = name
	}
	return r
}

// matches compares, and says which flag helps.
func (w *wanted) matches(a *release.Artifact, name string) error {
	want := w.of(name)
	if want.Architecture == "" && a.Architecture != "" {
		want.Architecture = runtime.GOARCH
	}
	err := a.Matches(want)
	if other, ok := errors.AsType[*release.WantedError](err); ok && other.What == "name" {
		return fmt.Errorf("%w: if that is what you want, say -version %s", err, shown(a.Version))
	}
	return err
}

// choose reads the release for the architecture that is wanted.
func (w *wanted) choose(ctx context.Context, p *place, subject ocispec.Descriptor) (*release.Artifact, error) {
	chosen, err := release.Select(ctx, p, subject, cmp.Or(w.Architecture, runtime.GOARCH))
	if err != nil {
		return nil, err
	}
	a, err := release.Read(ctx, p, chosen)
	if err != nil {
		return nil, err
	}
	return a, w.matches(a, p.name())
}

// maxIndex bounds how many releases of an index are looked at.
const maxIndex = 100

func isIndex(document *ocispec.Index) bool {
	return document.MediaType == ocispec.MediaTypeImageIndex || document.Manifests != nil
}

// releasesOf are the releases of an index, or the subject that is none itself. An index of nothing
// is no release of any version.
func releasesOf(subject ocispec.Descriptor, index *ocispec.Index) ([]ocispec.Descriptor, error) {
	if !isIndex(index) {
		return []ocispec.Descriptor{subject}, nil
	}
	if n := len(index.Manifests); n == 0 || n > maxIndex {
		return nil, cli.No{Err: fmt.Errorf("%s: an index of %d releases, want 1 to %d", subject.Digest, n, maxIndex)}
	}
	return index.Manifests, nil
}

// check compares what was verified: a release, or all of an index unless an architecture is asked
// for. Anything else that is signed has no version.
func (w *wanted) check(c *cli.Call, p *place, subject ocispec.Descriptor) error {
	var index ocispec.Index
	if err := readDocument(c, p, subject, &index); err != nil {
		return err
	}
	if index.ArtifactType != release.ArtifactType {
		if w.Wanted != (release.Wanted{}) {
			return cli.No{Err: fmt.Errorf("%s is a %q, not a release (%s)", subject.Digest, shown(index.ArtifactType), release.ArtifactType)}
		}
		return nil
	}
	all, err := releasesOf(subject, &index)
	if err != nil {
		return err
	}
	if isIndex(&index) && w.Architecture != "" {
		d, err := release.Select(c, p, subject, w.Architecture)
		if err != nil {
			return err
		}
		all = []ocispec.Descriptor{d}
	}
	var missing error
	found := 0
	for _, d := range all {
		a, err := release.Read(c, p, d)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, cosign.ErrNotFound) {
			missing = err // what was pulled for one architecture has no others
			continue
		}
		if err != nil {
			return err
		}
		if err := a.Matches(w.of(p.name())); err != nil {
			return err
		}
		found++
	}
	if found == 0 {
		return missing
	}
	return nil
}
