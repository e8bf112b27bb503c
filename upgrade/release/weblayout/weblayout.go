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

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/httpblob"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// maxIndex bounds index.json, in bytes.
const maxIndex = 4 << 20

// ErrNotFound says that the layout has nothing of a name.
var ErrNotFound = errors.New("not found")

// OpenOptions are the choices of [Open].
type OpenOptions struct {
	// Client sends the requests, with whatever proxies, certificates and headers they need. It must
	// be given: no connection is made by default.
	Client *http.Client

	// Attempts is how often a request is sent in all if the server cannot be reached, breaks off or
	// says that it is busy; 0: 5 without any progress, 1: once.
	Attempts int

	// Wait is how long to wait after the n-th attempt, from 1. nil: a second, and twice as long
	// each time up to half a minute, a quarter more or less by chance.
	Wait func(attempt int) time.Duration

	// OnRetry is told of every attempt that failed and will be repeated.
	OnRetry func(attempt int, wait time.Duration, err error)

	// Stall is how long the server may send nothing before the request counts as broken; 0: a
	// minute.
	Stall time.Duration
}

// A Layout is an OCI image layout behind a web server. It may be used by several goroutines.
type Layout struct {
	base   string
	client httpblob.Client
}

var _ release.RangeSource = (*Layout)(nil)

// Open describes the layout at a URL; a last slash does not matter. Nothing is read yet. A name and
// password in the URL are told to the server, and never shown in an error.
func Open(base string, o OpenOptions) (l *Layout, err error) {
	defer prefix.Add("weblayout", &err)
	if o.Client == nil {
		return nil, errors.New("no HTTP client is given")
	}
	u, err := url.Parse(base)
	if err != nil {
		// The error of package url has the URL in it, and that may have a password.
		return nil, errors.New("not a URL such as https://updates.example/acme")
	}
	user := u.User
	u.User = nil
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		u.RawQuery = ""
		return nil, fmt.Errorf("%q is not a URL such as https://updates.example/acme, without a query", u)
	}
	return &Layout{base: strings.TrimSuffix(u.String(), "/") + "/", client: httpblob.Client{Do: o.Client, User: user,
		Retry: httpblob.Retry{Attempts: o.Attempts, Wait: o.Wait, Notify: o.OnRetry}, Stall: o.Stall, NoRanges: release.ErrNoRanges, TooLarge: release.ErrTooLarge}}, nil
}

func (l *Layout) index(ctx context.Context) (*ocispec.Index, error) {
	b, err := l.client.Get(ctx, l.base+ocispec.ImageIndexFile, maxIndex)
	if err != nil {
		return nil, err
	}
	index := new(ocispec.Index)
	if err := ocilayout.CheckIndex(b); err != nil {
		return nil, &osmith.FormatError{Offset: -1, Field: l.base + ocispec.ImageIndexFile, Err: err}
	}
	if err := json.Unmarshal(b, index); err != nil {
		return nil, &osmith.FormatError{Offset: -1, Field: l.base + ocispec.ImageIndexFile, Err: err}
	}
	return index, nil
}

// Resolve returns the descriptor of what index.json lists under a name (the annotation
// org.opencontainers.image.ref.name) or a digest. It is a hint where to look: what it leads to is
// for cosign.Verify to judge.
func (l *Layout) Resolve(ctx context.Context, name string) (d ocispec.Descriptor, err error) {
	defer prefix.Add("weblayout", &err)
	index, err := l.index(ctx)
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
		return ocispec.Descriptor{}, fmt.Errorf("%s: %q: %w", l.base, name, ErrNotFound)
	case 1:
		if err := ocilayout.CheckDescriptor(found[0]); err != nil {
			return ocispec.Descriptor{}, err
		}
		return found[0], nil
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s: %d entries have the name %q", l.base, len(found), name)
}

// maxSignatures bounds the entries that are fetched to find the signatures of one artifact; there
// may be more of others.
const maxSignatures = 1024

// Signatures lists what may hold signatures of an artifact: the entries of the index that say so
// (by the name of cosign's tag, or the annotation dev.osmith.subject, which layouts that this
// project writes have), and those that say nothing and so may be about any.
func (l *Layout) Signatures(ctx context.Context, subject ocispec.Descriptor) (found []ocispec.Descriptor, err error) {
	defer prefix.Add("weblayout", &err)
	index, err := l.index(ctx)
	if err != nil {
		return nil, err
	}
	tag := "sha256-" + subject.Digest.Encoded() + "."
	var unsaid []ocispec.Descriptor
	for _, d := range index.Manifests {
		ref, about := d.Annotations[ocispec.AnnotationRefName], d.Annotations[ocilayout.AnnotationSubject]
		switch {
		case d.Digest == subject.Digest, d.ArtifactType == release.ArtifactType:
		case strings.HasPrefix(ref, tag), about == string(subject.Digest):
			found = append(found, d)
		case ref == "" && about == "":
			unsaid = append(unsaid, d)
		}
	}
	// What says that it is about the artifact comes first, whatever else has been put there.
	found = append(found, unsaid...)
	return found[:min(len(found), maxSignatures)], nil
}

// Blob opens a blob. A transfer that breaks goes on by a range request.
func (l *Layout) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return l.BlobRange(ctx, d, 0, d.Size)
}

// BlobRange opens n bytes of a blob from an offset on. A server without ranges is
// [release.ErrNoRanges] unless it is the whole blob.
func (l *Layout) BlobRange(ctx context.Context, d ocispec.Descriptor, off, n int64) (r io.ReadCloser, err error) {
	defer prefix.Add("weblayout", &err)
	if err := ocilayout.CheckDescriptor(d); err != nil {
		return nil, err
	}
	url := l.base + ocispec.ImageBlobsDir + "/sha256/" + d.Digest.Encoded()
	if r, err = l.client.Open(ctx, url, off, n, d.Size); err != nil {
		return nil, err
	}
	return prefix.Reader("weblayout", r), nil
}
