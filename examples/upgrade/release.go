package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/releaseflags"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// source are the flags that say which release it is, and by whom.
type source struct {
	releaseflags.Trust
	name, arch, cache string
	unsigned          bool
}

func (s *source) flags(set *flag.FlagSet) {
	set.StringVar(&s.name, "release", "", "directory or web address of an OCI image layout, and a tag or digest in it, as `LAYOUT:REF`; without one, the only release there")
	set.StringVar(&s.cache, "cache", "", "`directory` that keeps what was fetched of a release from the web, for a call that goes on; without one, a temporary one")
	set.StringVar(&s.File, "policy", "", "`file` with a policy, JSON, by which the release must be signed")
	set.StringVar(&s.Repository, "repository", "", "`name` by which the policy's rule is found")
	set.Var(&s.Keys, "key", "`file` with public keys, one of which must have signed the release; may be repeated")
	set.BoolVar(&s.unsigned, "accept-unsigned-release", false, "take the release whoever has made it")
	set.StringVar(&s.arch, "arch", runtime.GOARCH, "`architecture` whose release is taken from an index")
}

// check refuses a call that does not say which release, or whom to believe. It comes before
// anything is read.
func (s *source) check() error {
	if err := cli.Required("release", s.name); err != nil {
		return err
	}
	ways := 0
	for _, given := range []bool{s.File != "", s.Keys != nil, s.unsigned} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return cli.Usagef("want one of -policy, -key and -accept-unsigned-release: who must have signed the release")
	case s.Repository != "" && s.File == "":
		return cli.Usagef("-repository is for -policy")
	}
	return nil
}

// releaseSource is where releases are: a layout in a directory, or one that a web server has.
type releaseSource interface {
	cosign.ArtifactSource
	release.BlobSource
}

// remote reports whether the release is on a web server.
func (s *source) remote() bool {
	return strings.HasPrefix(s.name, "https://") || strings.HasPrefix(s.name, "http://")
}

// stream verifies a release on a web server and fetches all but its root file system and its UKI,
// which are read while they are written.
func (s *source) stream(c *cli.Call, o release.PullOptions) (*release.Release, []string, error) {
	base, ref := releaseflags.Split(s.name)
	web, err := weblayout.Open(base, weblayout.OpenOptions{Client: http.DefaultClient})
	if err != nil {
		return nil, nil, fmt.Errorf("-release %s: %w", s.name, err)
	}
	d, err := web.Resolve(c, ref)
	if errors.Is(err, weblayout.ErrNotFound) {
		return nil, nil, cli.No{Err: fmt.Errorf("-release %s: %w", s.name, err)}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("-release %s: %w", s.name, err)
	}
	d, signers, err := s.choose(c, web, d)
	if err != nil {
		return nil, nil, err
	}
	a, err := release.Read(c, web, d)
	if err != nil {
		return nil, nil, fmt.Errorf("-release %s: %w", s.name, err)
	}
	dir := s.cache
	if dir == "" {
		if dir, err = os.MkdirTemp("", "osmith-upgrade-"); err != nil {
			return nil, nil, err
		}
		c.AtEnd(func() { _ = os.RemoveAll(dir) })
	}
	r, err := release.Stream(c, web, a, dir, o)
	if err != nil {
		return nil, nil, fmt.Errorf("-release %s: %w", s.name, err)
	}
	c.AtEnd(func() { _ = r.Close() }) // it was only read
	return r, signers, nil
}

// choose verifies who has signed the release, and picks the one for the architecture from an index.
func (s *source) choose(c *cli.Call, from releaseSource, d ocispec.Descriptor) (chosen ocispec.Descriptor, signers []string, err error) {
	signers = []string{}
	if !s.unsigned {
		if d, signers, err = s.verify(c, from, d); err != nil {
			return d, nil, err
		}
	}
	if d, err = release.Select(c, from, d, s.arch); err != nil {
		return d, nil, fmt.Errorf("-release %s: %w", s.name, err)
	}
	return d, signers, nil
}

// open verifies the release and opens it; the options are for one from the web. It is closed when
// the call ends.
func (s *source) open(c *cli.Call, o release.PullOptions) (*release.Release, []string, error) {
	if s.remote() {
		return s.stream(c, o)
	}
	dir, ref := releaseflags.Split(s.name)
	layout, err := cosign.OpenLayout(os.DirFS(dir))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	d, err := layout.Resolve(ref)
	if errors.Is(err, cosign.ErrNotFound) {
		return nil, nil, cli.No{Err: fmt.Errorf("-release %s: %w", s.name, err)}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("-release %s: %w", s.name, err)
	}
	d, signers, err := s.choose(c, layout, d)
	if err != nil {
		return nil, nil, err
	}
	r, err := release.Open(c, os.DirFS(dir), d)
	if err != nil {
		return nil, nil, fmt.Errorf("-release %s: %w", s.name, err)
	}
	c.AtEnd(func() { _ = r.Close() }) // it was only read
	return r, signers, nil
}

// verify checks the artifact against the policy, and returns what was signed and by whom.
func (s *source) verify(c *cli.Call, from releaseSource, d ocispec.Descriptor) (signed ocispec.Descriptor, by []string, err error) {
	policy, err := s.Policy(time.Now())
	if err != nil {
		return signed, nil, err
	}
	result, err := cosign.Verify(c, from, d, policy)
	if errors.Is(err, cosign.ErrNoIdentityVerifier) {
		return signed, nil, fmt.Errorf("-policy %s: %w; this program verifies keys alone: have release pull verify and fetch it, and sign it with a key", s.File, err)
	}
	if err != nil {
		return signed, nil, fmt.Errorf("-release %s: %w", s.name, err)
	}
	for i := range result.Signatures {
		by = append(by, result.Signatures[i].Signer())
	}
	slices.Sort(by) // one who has signed in both formats is one
	return result.Subject, slices.Compact(by), nil
}
