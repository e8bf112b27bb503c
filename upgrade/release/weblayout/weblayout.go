package weblayout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/httpblob"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// maxIndex bounds index.json, in bytes.
const maxIndex = 4 << 20

// ErrNotFound says that the layout has nothing of a name.
var ErrNotFound = errors.New("not found")

// ErrNoRanges says that the server sends whole files only.
var ErrNoRanges = httpblob.ErrNoRanges

// Options are the choices of [Open].
type Options struct {
	// Client sends the requests, with whatever proxies, certificates and headers they need. It must be given: no
	// connection is made that nobody asked for.
	Client *http.Client

	// Attempts is how often a request is sent in all if the server cannot be reached, breaks off or says that it is busy;
	// 0: 5 without any progress, 1: once.
	Attempts int

	// Wait is how long to wait after the n-th attempt, from 1. nil: a second, and twice as long each time up to half a minute,
	// a quarter more or less by chance.
	Wait func(attempt int) time.Duration

	// OnRetry is told of every attempt that failed and will be repeated.
	OnRetry func(attempt int, wait time.Duration, err error)

	// Stall is how long the server may send nothing before the request counts as broken; 0: a minute.
	Stall time.Duration
}

// A Source is a layout behind a web server. It may be used by several goroutines.
type Source struct {
	base   string
	client httpblob.Client
}

var _ release.RangeSource = (*Source)(nil)

// Open describes the layout at a URL; a last slash does not matter. Nothing is read yet.
func Open(base string, o Options) (*Source, error) {
	if o.Client == nil {
		return nil, errors.New("weblayout: no HTTP client is given")
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("weblayout: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("weblayout: %q is not a URL such as https://updates.example/acme", base)
	}
	return &Source{base: strings.TrimSuffix(u.String(), "/") + "/",
		client: httpblob.Client{Do: o.Client, Retry: httpblob.Retry{Attempts: o.Attempts, Wait: o.Wait, Notify: o.OnRetry}, Stall: o.Stall}}, nil
}

func (s *Source) index(ctx context.Context) (*ocispec.Index, error) {
	b, err := s.client.Get(ctx, s.base+ocispec.ImageIndexFile, maxIndex)
	if err != nil {
		return nil, fmt.Errorf("weblayout: %w", err)
	}
	index := new(ocispec.Index)
	if err := json.Unmarshal(b, index); err != nil {
		return nil, fmt.Errorf("weblayout: %s: %w", s.base+ocispec.ImageIndexFile, err)
	}
	return index, nil
}

// Resolve returns the descriptor of what index.json lists under a name (the annotation org.opencontainers.image.ref.name) or a digest. It
// is a hint where to look: what it leads to is for cosign.Verify to judge.
func (s *Source) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	index, err := s.index(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var found []ocispec.Descriptor
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == name || string(d.Digest) == name {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return ocispec.Descriptor{}, fmt.Errorf("weblayout: %s: %q: %w", s.base, name, ErrNotFound)
	case 1:
		if err := ocilayout.CheckDescriptor("weblayout", found[0]); err != nil {
			return ocispec.Descriptor{}, err
		}
		return found[0], nil
	}
	return ocispec.Descriptor{}, fmt.Errorf("weblayout: %s: %d entries have the name %q", s.base, len(found), name)
}

// Signatures lists what may hold signatures of an artifact: every entry of the index that is not known to be something else.
func (s *Source) Signatures(ctx context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	index, err := s.index(ctx)
	if err != nil {
		return nil, err
	}
	tag := "sha256-" + subject.Digest.Encoded() + "."
	var found []ocispec.Descriptor
	for _, d := range index.Manifests {
		ref := d.Annotations[ocispec.AnnotationRefName]
		switch {
		case d.Digest == subject.Digest, d.ArtifactType == release.ArtifactType:
		case ref == "" || strings.HasPrefix(ref, tag):
			found = append(found, d)
		}
	}
	return found, nil
}

func (s *Source) url(d ocispec.Descriptor) (string, error) {
	if err := ocilayout.CheckDescriptor("weblayout", d); err != nil {
		return "", err
	}
	return s.base + ocispec.ImageBlobsDir + "/sha256/" + d.Digest.Encoded(), nil
}

// Blob opens a blob. A transfer that breaks goes on by a range request.
func (s *Source) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return s.BlobRange(ctx, d, 0, d.Size)
}

// BlobRange opens n bytes of a blob from an offset on. A server without ranges is [ErrNoRanges] unless it is the whole blob.
func (s *Source) BlobRange(ctx context.Context, d ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	u, err := s.url(d)
	if err != nil {
		return nil, err
	}
	r, err := s.client.Open(ctx, u, off, n, d.Size)
	if err != nil {
		return nil, fmt.Errorf("weblayout: %w", err)
	}
	return r, nil
}
