package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/osmith-dev/osmith/internal/httpblob"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// Limits of lists of what refers to one artifact.
const (
	maxReferrers = 1024    // manifests that are looked at
	maxPages     = 64      // of a list by the API
	maxPage      = 1 << 20 // bytes of a page
)

// ErrNotFound says that the repository has nothing of a name or digest. It is [fs.ErrNotExist].
var ErrNotFound = fs.ErrNotExist

// Credentials are what a registry asks for. The zero value is anonymous.
type Credentials struct {
	Username, Password string
	RefreshToken       string // of OAuth 2, instead of a password
	AccessToken        string // ready to be used
}

// OpenOptions are the choices of [Open].
type OpenOptions struct {
	// Client sends the requests, with whatever proxies and certificates they need. It must be
	// given: no connection is made by default.
	Client *http.Client

	// Credentials, if not nil, is asked for what to say to a registry that wants to know, by the
	// host name.
	Credentials func(ctx context.Context, host string) (Credentials, error)

	// PlainHTTP speaks to the registry without encryption. What is fetched is checked all the same,
	// but passwords are not safe.
	PlainHTTP bool

	// Attempts, Wait and OnRetry are about requests that may work when they are repeated; see
	// package weblayout.
	Attempts int
	Wait     func(attempt int) time.Duration
	OnRetry  func(attempt int, wait time.Duration, err error)

	// Stall is how long the registry may send nothing of a blob before it is asked for the rest; 0:
	// a minute.
	Stall time.Duration
}

// A Repository is one repository of a registry. It may be used by several goroutines.
type Repository struct {
	repo   *remote.Repository // pushes as the registry's answers suggest
	byAPI  *remote.Repository // asks the referrers API
	byTag  *remote.Repository // reads the list of referrers under its tag
	client httpblob.Client

	slowest atomic.Int64 // write of a tag, in nanoseconds from the look at it
}

var (
	_ cosign.ArtifactSource = (*Repository)(nil)
	_ release.RangeSource   = (*Repository)(nil)
)

// Open describes the repository of a name such as registry.example/os/acme, without a tag and
// without a digest. Nothing is read yet.
func Open(name string, o OpenOptions) (r *Repository, err error) {
	defer prefix.Add("registry", &err)
	if o.Client == nil {
		return nil, errors.New("no HTTP client is given")
	}
	client := &auth.Client{Client: o.Client, Cache: auth.NewCache()}
	if o.Credentials != nil {
		client.Credential = func(ctx context.Context, host string) (auth.Credential, error) {
			c, err := o.Credentials(ctx, host)
			return auth.Credential{Username: c.Username, Password: c.Password, RefreshToken: c.RefreshToken, AccessToken: c.AccessToken}, err
		}
	}
	r = &Repository{client: httpblob.Client{Do: client, Retry: httpblob.Retry{Attempts: o.Attempts, Wait: o.Wait, Notify: o.OnRetry},
		Stall: o.Stall, NoRanges: release.ErrNoRanges, TooLarge: release.ErrTooLarge}}
	for _, to := range []**remote.Repository{&r.repo, &r.byAPI, &r.byTag} {
		repo, err := remote.NewRepository(name)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if repo.Reference.Reference != "" {
			return nil, fmt.Errorf("%q: want a repository name without %q", name, repo.Reference.Reference)
		}
		repo.Client, repo.PlainHTTP = client, o.PlainHTTP
		// The list under the tag is rewritten when a manifest is pushed; what it was before is not
		// ours to delete.
		repo.SkipReferrersGC = true
		*to = repo
	}
	for _, repo := range []*remote.Repository{r.byAPI, r.byTag} {
		repo.ReferrerListMaxPages, repo.MaxMetadataBytes = maxPages, maxPage
	}
	if err := errors.Join(r.byAPI.SetReferrersCapability(true), r.byTag.SetReferrersCapability(false)); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return r, nil
}

// Name is that of the repository, for the rules of a policy.
func (r *Repository) Name() string {
	return r.repo.Reference.Registry + "/" + r.repo.Reference.Repository
}

// again repeats what goes through the library; it has no retries of its own here, so that they
// show.
func (r *Repository) again(ctx context.Context, what string, do func() error) error {
	err := r.client.Again(ctx, func() error {
		err := do()
		if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, errdef.ErrUnsupported) {
			return httpblob.Permanent(fmt.Errorf("%w (%w)", ErrNotFound, err))
		}
		if errors.Is(err, errdef.ErrTooManyPages) || errors.Is(err, errdef.ErrSizeExceedsLimit) {
			return httpblob.Permanent(err)
		}
		if errors.Is(err, errdef.ErrInvalidReference) || errors.Is(err, errdef.ErrInvalidDigest) {
			return httpblob.Permanent(err)
		}
		if status, ok := statusOf(err); ok {
			return fmt.Errorf("%w (%w)", &httpblob.StatusError{URL: r.Name(), Status: status, Passing: missesBlob(err)}, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %s: %w", r.Name(), what, err)
	}
	return nil
}

// Resolve returns the descriptor of a tag or digest. It is a hint where to look: what it leads to
// is for cosign.Verify to judge.
func (r *Repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	d, err := r.resolve(ctx, reference)
	return d, prefix.Error("registry", err)
}

func (r *Repository) resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	var d ocispec.Descriptor
	err := r.brief(ctx, reference, func(ctx context.Context) (err error) {
		d, err = r.repo.Resolve(ctx, reference)
		return err
	})
	return d, err
}

// Signatures lists what may hold signatures and attestations of an artifact: what cosign's tags
// name, and all that refers to it by the API or the list under the referrers tag. If one of them
// cannot be asked, the others are, and the error is a *cosign.IncompleteError.
func (r *Repository) Signatures(ctx context.Context, subject ocispec.Descriptor) (found []ocispec.Descriptor, err error) {
	defer prefix.Add("registry", &err)
	if err := ocilayout.CheckDescriptor(subject); err != nil {
		return nil, err
	}
	var failed []error // of one place, which says nothing of the others
	for _, suffix := range []string{".sig", ".att"} {
		d, err := r.resolve(ctx, "sha256-"+subject.Digest.Encoded()+suffix)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		} else if err != nil {
			failed = append(failed, err)
			continue
		}
		found = append(found, d)
	}
	// Both ways, always: a client that took the registry for one without an API has written a list
	// that the API does not show in full, and one that did not has added to what the list does not
	// show.
	for _, repo := range []*remote.Repository{r.byAPI, r.byTag} {
		referrers, err := r.referrers(ctx, repo, subject)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			failed = append(failed, err)
		}
		for _, d := range referrers {
			if !slices.ContainsFunc(found, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
				found = append(found, d)
			}
		}
	}
	if len(failed) > 0 {
		return found, &cosign.IncompleteError{Errs: failed}
	}
	return found, nil
}

// errEnough ends a list that is as long as is looked at.
var errEnough = errors.New("enough")

// referrers lists what refers to a manifest. With an error, it is what was listed until then.
func (r *Repository) referrers(ctx context.Context, repo *remote.Repository, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	err := r.brief(ctx, "referrers of "+subject.Digest.String(), func(ctx context.Context) error {
		list = nil
		return repo.Referrers(ctx, subject, "", func(page []ocispec.Descriptor) error {
			if list = append(list, page...); len(list) >= maxReferrers {
				return httpblob.Permanent(errEnough)
			}
			return nil
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list[:min(len(list), maxReferrers)], err
}

// maxDocument bounds a manifest, in bytes.
const maxDocument = 4 << 20

// brief is again for requests about documents of a few megabytes at most: each attempt, whatever
// pages it has, ends in time.
func (r *Repository) brief(ctx context.Context, what string, do func(context.Context) error) error {
	return r.again(ctx, what, func() error {
		patience := r.client.Patience()
		limited, cancel := context.WithTimeoutCause(ctx, patience, httpblob.ErrSlow)
		defer cancel()
		err := do(limited)
		if err != nil && ctx.Err() == nil && limited.Err() != nil {
			err = fmt.Errorf("%w: no answer in %v (%v)", httpblob.ErrSlow, patience, err)
		}
		return err
	})
}

// Blob opens a blob or a manifest. The transfer of a blob that breaks goes on by a range request.
func (r *Repository) Blob(ctx context.Context, d ocispec.Descriptor) (body io.ReadCloser, err error) {
	// When only a digest is known, it is that of a manifest most likely.
	unsure := d.Size < 0 || d.MediaType == ""
	if isManifest(d) || unsure {
		if body, err = r.manifest(ctx, d); err == nil || !unsure || !errors.Is(err, ErrNotFound) {
			return body, prefix.Error("registry", err)
		}
	}
	return r.BlobRange(ctx, d, 0, d.Size)
}

func isManifest(d ocispec.Descriptor) bool {
	return d.MediaType == ocispec.MediaTypeImageManifest || d.MediaType == ocispec.MediaTypeImageIndex ||
		d.MediaType == "application/vnd.docker.distribution.manifest.v2+json" || d.MediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// manifest opens what the registry keeps apart from blobs.
func (r *Repository) manifest(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	var b []byte
	err := r.brief(ctx, d.Digest.String(), func(ctx context.Context) error {
		_, body, err := r.repo.Manifests().FetchReference(ctx, d.Digest.String())
		if err != nil {
			return err
		}
		b, err = io.ReadAll(io.LimitReader(body, maxDocument+1))
		return errors.Join(err, body.Close())
	})
	if err == nil && len(b) > maxDocument {
		err = fmt.Errorf("%s: %s: a manifest of more than %d bytes", r.Name(), d.Digest, maxDocument)
	}
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// BlobRange opens n bytes of a blob, not of a manifest, from an offset on.
func (r *Repository) BlobRange(ctx context.Context, d ocispec.Descriptor, off, n int64) (body io.ReadCloser, err error) {
	defer prefix.Add("registry", &err)
	if err := ocilayout.CheckDescriptor(d); err != nil {
		return nil, err
	}
	scheme := "https"
	if r.repo.PlainHTTP {
		scheme = "http"
	}
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", scheme, r.repo.Reference.Host(), r.repo.Reference.Repository, d.Digest)
	ctx = auth.AppendRepositoryScope(ctx, r.repo.Reference, auth.ActionPull)
	if body, err = r.client.Open(ctx, url, off, n, d.Size); err != nil {
		return nil, fmt.Errorf("%s: %w", r.Name(), err)
	}
	return prefix.Reader("registry", body), nil
}
