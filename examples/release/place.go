package main

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// access is what flags say about registries.
type access struct {
	user      string
	plainHTTP bool
}

func accessFlags(set *flag.FlagSet) *access {
	a := new(access)
	set.StringVar(&a.user, "user", "", "`name` to tell a registry; the password is in REGISTRY_PASSWORD")
	set.BoolVar(&a.plainHTTP, "plain-http", false, "speak to a registry without encryption")
	return a
}

// A source is where verify, inspect and pull read from.
type source interface {
	cosign.ArtifactSource
	release.RangeSource
}

// A place is where a release is: a layout, or a repository of a registry.
type place struct {
	source
	ref        string // the name or digest to be found there
	repository string // what rules of a policy can be about; "" for files
	resolve    func(ctx context.Context, ref string) (ocispec.Descriptor, error)
	registry   *registry.Repository // nil for a layout
	dir        string               // "" for what is not a directory
}

// openPlace opens what the operands LAYOUT REF name, or REGISTRY/REPO:TAG.
func openPlace(c *cli.Call, operands []string, a *access) (*place, error) {
	if len(operands) == 1 {
		return openRegistry(c, operands[0], a)
	}
	name, ref := operands[0], operands[1]
	if scheme, rest, ok := strings.Cut(name, "://"); ok && (scheme == "http" || scheme == "https") {
		web, err := weblayout.Open(name, weblayout.OpenOptions{Client: http.DefaultClient, OnRetry: retry(c)})
		if err != nil {
			return nil, cli.Usagef("%v", err)
		}
		return &place{source: web, ref: ref, repository: strings.TrimSuffix(withoutUser(rest), "/"), resolve: web.Resolve}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	var local *cosign.Layout
	dir := ""
	if info.IsDir() {
		dir = name
		local, err = cosign.OpenLayout(os.DirFS(name))
	} else {
		file, openErr := c.Open(name)
		if openErr != nil {
			return nil, openErr
		}
		if local, err = cosign.OpenTar(file, file.Size()); errors.Is(err, tar.ErrHeader) {
			err = cli.No{Err: err}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &place{source: local, ref: ref, resolve: resolveLocal(local), dir: dir}, nil
}

func resolveLocal(l *cosign.Layout) func(context.Context, string) (ocispec.Descriptor, error) {
	return func(_ context.Context, ref string) (ocispec.Descriptor, error) { return l.Resolve(ref) }
}

// openRegistry opens REGISTRY/REPO:TAG or REGISTRY/REPO@DIGEST.
func openRegistry(c *cli.Call, name string, a *access) (*place, error) {
	base, ref, ok := strings.Cut(name, "@")
	if !ok {
		colon := strings.LastIndex(name, ":")
		if colon <= strings.LastIndex(name, "/") {
			return nil, cli.Usagef("%q: want REGISTRY/REPO:TAG or REGISTRY/REPO@DIGEST, or LAYOUT REF", name)
		}
		base, ref = name[:max(colon, 0)], name[colon+1:]
	}
	o := registry.OpenOptions{Client: http.DefaultClient, PlainHTTP: a.plainHTTP, OnRetry: retry(c)}
	if a.user != "" {
		o.Credentials = func(context.Context, string) (registry.Credentials, error) {
			return registry.Credentials{Username: a.user, Password: os.Getenv("REGISTRY_PASSWORD")}, nil
		}
	}
	repo, err := registry.Open(base, o)
	if err != nil {
		return nil, cli.Usagef("%v", err)
	}
	return &place{source: repo, ref: ref, repository: repo.Name(), resolve: repo.Resolve, registry: repo}, nil
}

// retry says what is wrong with the server, and that it will be asked again.
func retry(c *cli.Call) func(attempt int, wait time.Duration, err error) {
	return func(attempt int, wait time.Duration, err error) {
		fmt.Fprintf(c.Stderr, "release: attempt %d: %v; the next in %v\n", attempt, err, wait.Round(100*time.Millisecond))
	}
}

// find opens a place and resolves what is asked for there, which is only a hint.
func find(c *cli.Call, operands []string, a *access) (*place, ocispec.Descriptor, error) {
	p, err := openPlace(c, operands, a)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	d, err := p.resolve(c, p.ref)
	if err != nil {
		return nil, ocispec.Descriptor{}, fmt.Errorf("%s: %w", shownPlace(operands[0]), err)
	}
	return p, d, nil
}

// withoutUser is an address without scheme, and without a name and password.
func withoutUser(rest string) string {
	host, path, slash := strings.Cut(rest, "/")
	host = host[strings.LastIndex(host, "@")+1:]
	if slash {
		host += "/"
	}
	return host + path
}

// shownPlace is an operand as it may be printed.
func shownPlace(operand string) string {
	if scheme, rest, ok := strings.Cut(operand, "://"); ok {
		return scheme + "://" + withoutUser(rest)
	}
	return operand
}

// name is the reference, unless it is a digest, under which a layout lists what was fetched.
func (p *place) name() string {
	if strings.Contains(p.ref, ":") {
		return ""
	}
	return p.ref
}

// openStore opens a place to add to it. name is what signatures say the release is called, if not
// what the registry does.
func openStore(c *cli.Call, operands []string, a *access, name string) (*place, cosign.Store, string, error) {
	if len(operands) == 1 {
		p, err := openRegistry(c, operands[0], a)
		if err != nil {
			return nil, nil, "", err
		}
		return p, p.registry.Writer(c), cmp.Or(name, p.repository), nil
	}
	dir, err := existing(operands[0])
	if err != nil {
		return nil, nil, "", err
	}
	return &place{source: dir, ref: operands[1], resolve: resolveLocal(dir.Layout)}, dir, name, nil
}

// existing opens a layout to add to it. Unlike cosign.OpenDir, it makes none where there is none.
func existing(name string) (*cosign.Dir, error) {
	if _, err := os.Stat(filepath.Join(name, ocispec.ImageLayoutFile)); err != nil {
		return nil, fmt.Errorf("%s is not the directory of a layout: %w", name, err)
	}
	return cosign.OpenDir(name)
}

// temporary makes a file in a directory, or where the system has such files, that is removed when
// the call ends.
func temporary(c *cli.Call) (*os.File, error) {
	file, err := os.CreateTemp("", ".release-")
	if err != nil {
		return nil, err
	}
	c.AtEnd(func() {
		_ = file.Close() // whatever is in it was used already
		_ = os.Remove(file.Name())
	})
	return file, nil
}
