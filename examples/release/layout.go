package main

import (
	"context"
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
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// A source is where verify, inspect and pull read from.
type source interface {
	cosign.ArtifactSource
	release.RangeSource
}

// A layout is an operand LAYOUT.
type layout struct {
	source
	name       string
	repository string // what rules of a policy can be about; "" for files
	resolve    func(ctx context.Context, ref string) (ocispec.Descriptor, error)
}

// layout opens a directory, an archive, or what is behind an address.
func (c *call) layout(name string) (*layout, error) {
	if scheme, rest, ok := strings.Cut(name, "://"); ok && (scheme == "http" || scheme == "https") {
		web, err := weblayout.Open(name, weblayout.OpenOptions{Client: http.DefaultClient, OnRetry: c.retry})
		if err != nil {
			return nil, cli.Usagef("%v", err)
		}
		return &layout{web, name, strings.TrimSuffix(rest, "/"), web.Resolve}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	var local *cosign.Layout
	if info.IsDir() {
		local, err = cosign.OpenLayout(os.DirFS(name))
	} else {
		section, openErr := c.open(name)
		if openErr != nil {
			return nil, openErr
		}
		local, err = cosign.OpenTar(section, section.Size())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &layout{local, name, "", func(_ context.Context, ref string) (ocispec.Descriptor, error) { return local.Resolve(ref) }}, nil
}

// retry says what is wrong with the server, and that it will be asked again.
func (c *call) retry(attempt int, wait time.Duration, err error) {
	fmt.Fprintf(c.Stderr, "release: attempt %d: %v; the next in %v\n", attempt, err, wait.Round(100*time.Millisecond))
}

// find opens a layout and what it has under a name.
func (c *call) find(name, ref string) (*layout, ocispec.Descriptor, error) {
	l, err := c.layout(name)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	d, err := l.resolve(c, ref)
	if err != nil {
		return nil, ocispec.Descriptor{}, fmt.Errorf("%s: %w", name, err)
	}
	return l, d, nil
}

// existing opens a layout to add to it. Unlike cosign.OpenDir, it makes none where there is none.
func existing(name string) (*cosign.Dir, error) {
	if _, err := os.Stat(filepath.Join(name, ocispec.ImageLayoutFile)); err != nil {
		return nil, fmt.Errorf("%s is not the directory of a layout: %w", name, err)
	}
	return cosign.OpenDir(name)
}
