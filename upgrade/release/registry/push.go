package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/httpblob"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// statusOf finds the HTTP status in an error of the library.
func statusOf(err error) (int, bool) {
	var response *errcode.ErrorResponse
	if errors.As(err, &response) && response.StatusCode >= http.StatusBadRequest {
		return response.StatusCode, true
	}
	return 0, false
}

// missesBlob reports whether the registry refuses a manifest since it lacks one of its blobs. They
// were uploaded before, so the same request may be answered later: docker-registry does not see a
// blob while another client uploads the same one (it writes the link to it anew, in place), and a
// registry's copies may be behind.
func missesBlob(err error) bool {
	response, ok := errors.AsType[*errcode.ErrorResponse](err)
	return ok && slices.ContainsFunc(response.Errors, func(e errcode.Error) bool { return e.Code == errcode.ErrorCodeManifestBlobUnknown })
}

// A Writer puts what it is given into a repository: signatures by cosign.Sign, releases by
// release.PackInto. Blobs of which the digest is not known beforehand wait in a temporary file,
// since a registry wants to be told before it takes them.
type Writer struct {
	*Repository
	ctx context.Context
}

var (
	_ cosign.Store   = (*Writer)(nil)
	_ cosign.Settler = (*Writer)(nil)
	_ release.Store  = (*Writer)(nil)
)

// Writer returns a store of the repository whose requests end with the context.
func (r *Repository) Writer(ctx context.Context) *Writer { return &Writer{r, ctx} }

// ResolveTag returns the descriptor of what a tag names now, ErrNotFound for nothing.
func (w *Writer) ResolveTag(ctx context.Context, tag string) (d ocispec.Descriptor, err error) {
	defer prefix.Add("registry", &err)
	if strings.Contains(tag, ":") {
		return d, fmt.Errorf("%q is not a tag", tag)
	}
	return w.resolve(ctx, tag)
}

// settling is how long another client may need from its look at a tag to its write, at least. One
// that is as far from the registry as this one needs as long as this one did.
const settling = 100 * time.Millisecond

// Settle waits for twice as long as the slowest write of a tag until now took from the look to the
// answer, a little more or less by chance.
func (w *Writer) Settle(ctx context.Context) error {
	long := max(settling, 2*time.Duration(w.slowest.Load()))
	timer := time.NewTimer(long/2 + rand.N(long))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return prefix.Error("registry", ctx.Err())
	case <-timer.C:
		return nil
	}
}

// WriteBlob uploads a blob unless the repository has it.
func (w *Writer) WriteBlob(mediaType string, content io.Reader) (d ocispec.Descriptor, err error) {
	defer prefix.Add("registry", &err)
	f, err := os.CreateTemp("", "osmith-blob-*")
	if err != nil {
		return d, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), content)
	if err != nil {
		return d, fmt.Errorf("blob: %w", err)
	}
	d = ocispec.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, h), Size: n}
	return d, w.push(w.ctx, d, io.NewSectionReader(f, 0, n))
}

// push uploads a blob, from its beginning at every attempt.
func (r *Repository) push(ctx context.Context, d ocispec.Descriptor, content *io.SectionReader) error {
	return r.again(ctx, d.Digest.String(), func() error {
		there, err := r.repo.Blobs().Exists(ctx, d)
		if err != nil || there {
			return err
		}
		return r.repo.Blobs().Push(ctx, d, io.NewSectionReader(content, 0, content.Size()))
	})
}

// WriteManifest stores a manifest, under a tag if that is not empty. If the registry has no
// referrers API, the list of those that refer to the same artifact is brought up to date.
func (w *Writer) WriteManifest(m ocispec.Manifest, tag string) (ocispec.Descriptor, error) {
	d, err := w.write(m, func(d ocispec.Descriptor, b []byte) error { return w.pushManifest(w.ctx, d, b, tag) })
	return d, prefix.Error("registry", err)
}

// ReplaceManifest stores a manifest under a tag that names the manifest of a digest, or nothing if
// that is empty; the error for anything else wraps cosign.ErrBusy.
func (w *Writer) ReplaceManifest(ctx context.Context, m ocispec.Manifest, tag string, before digest.Digest) (ocispec.Descriptor, error) {
	d, err := w.write(m, func(d ocispec.Descriptor, b []byte) error { return w.replace(ctx, d, b, tag, before) })
	return d, prefix.Error("registry", err)
}

// write stores a manifest by put, and sees to it that it is listed if it refers to something.
func (w *Writer) write(m ocispec.Manifest, put func(ocispec.Descriptor, []byte) error) (d ocispec.Descriptor, err error) {
	m.Versioned = specs.Versioned{SchemaVersion: 2}
	m.MediaType = ocispec.MediaTypeImageManifest
	b, err := json.Marshal(m)
	if err != nil {
		return d, fmt.Errorf("manifest: %w", err)
	}
	d = ocispec.Descriptor{MediaType: m.MediaType, ArtifactType: m.ArtifactType, Digest: digest.SHA256.FromBytes(b), Size: int64(len(b))}
	if m.Subject != nil {
		if err := ocilayout.CheckDescriptor(*m.Subject); err != nil {
			return d, err
		}
		if err := w.checkList(*m.Subject); err != nil {
			return d, err
		}
	}
	for range attempts {
		if err := put(d, b); err != nil || m.Subject == nil {
			return d, err
		}
		// the tag may be another's by now
		put = func(d ocispec.Descriptor, b []byte) error { return w.pushManifest(w.ctx, d, b, "") }
		if listed, err := w.listed(*m.Subject, d); listed || err != nil {
			return d, err
		}
	}
	return d, fmt.Errorf("%s: other writers keep changing the list of what refers to %s", w.Name(), m.Subject.Digest)
}

const (
	attempts = 32 // to get a manifest into a list that others write
	looks    = 3  // at the list after it was written
)

// listed reports whether a manifest is and stays in a list of what refers to its subject. A list
// under a tag is written by every client that adds to it, and one of two at the same time takes the
// other's entry away; what a registry lists by itself is not lost.
func (w *Writer) listed(subject, d ocispec.Descriptor) (bool, error) {
	has := func(list []ocispec.Descriptor) bool {
		return slices.ContainsFunc(list, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest })
	}
	list, err := w.referrers(w.ctx, w.byAPI, subject)
	if has(list) {
		return true, nil
	}
	api := err == nil
	for range looks {
		if err := w.Settle(w.ctx); err != nil {
			return false, err
		}
		// Without a list, whatever refers to the subject has been taken by the API.
		list, err := w.referrers(w.ctx, w.byTag, subject)
		if err != nil {
			return false, err
		}
		if !has(list) {
			return api && len(list) == 0, nil
		}
	}
	return true, nil
}

// checkList makes sure that what has the tag of the list of referrers is one: the library would
// replace anything else.
func (w *Writer) checkList(subject ocispec.Descriptor) error {
	tag := "sha256-" + subject.Digest.Encoded()
	d, err := w.resolve(w.ctx, tag)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && d.MediaType != ocispec.MediaTypeImageIndex {
		err = fmt.Errorf("%s: tag %s: names a %q, want %q: the signature is not added", w.Name(), tag, d.MediaType, ocispec.MediaTypeImageIndex)
	}
	return err
}

// pushManifest uploads a manifest, as often as it takes, and gives it a tag if that is not empty.
func (r *Repository) pushManifest(ctx context.Context, d ocispec.Descriptor, b []byte, tag string) error {
	return r.again(ctx, d.Digest.String(), func() error { return r.putManifest(ctx, d, b, tag) })
}

// replace uploads a manifest under a tag, and looks at each attempt whether the tag still names
// what it is to take the place of.
func (r *Repository) replace(ctx context.Context, d ocispec.Descriptor, b []byte, tag string, before digest.Digest) error {
	return r.again(ctx, tag, func() error {
		start := time.Now()
		now, err := r.repo.Resolve(ctx, tag)
		switch {
		case errors.Is(err, errdef.ErrNotFound):
			now.Digest = ""
		case err != nil:
			return err
		case now.Digest == d.Digest:
			return nil // by an attempt whose answer was lost
		}
		if now.Digest != before {
			return httpblob.Permanent(cosign.ErrBusy)
		}
		err = r.putManifest(ctx, d, b, tag)
		r.took(time.Since(start))
		return err
	})
}

// took notes how long it is from a look to the write behind it.
func (r *Repository) took(d time.Duration) {
	for {
		if most := r.slowest.Load(); int64(d) <= most || r.slowest.CompareAndSwap(most, int64(d)) {
			return
		}
	}
}

func (r *Repository) putManifest(ctx context.Context, d ocispec.Descriptor, b []byte, tag string) (err error) {
	if tag == "" {
		err = r.repo.Manifests().Push(ctx, d, bytes.NewReader(b))
	} else {
		err = r.repo.Manifests().PushReference(ctx, d, bytes.NewReader(b), tag)
	}
	if errors.Is(err, errdef.ErrAlreadyExists) {
		return nil
	}
	return err
}

// PushOptions are the choices of [Repository.Push].
type PushOptions struct {
	Tag      string                  // for the release; none if empty
	Progress func(done, total int64) // bytes of blobs, if not nil
}

// Push uploads a release with everything that is known to refer to it: from, such as a
// cosign.Layout, is asked for both. Blobs that the repository has are not sent again. Manifests
// come last, the release before its signatures, so that nothing is listed that is not whole.
// Signatures under cosign's tags are added to those that the repository has there. A source that
// could not look everywhere has what it found pushed, and the error is its *cosign.IncompleteError
// then: pushing again adds what was missing.
func (r *Repository) Push(ctx context.Context, from cosign.ArtifactSource, artifact ocispec.Descriptor, o PushOptions) (err error) {
	defer prefix.Add("registry", &err)
	signatures, err := from.Signatures(ctx, artifact)
	incomplete, some := errors.AsType[*cosign.IncompleteError](err)
	if err != nil && !some {
		return fmt.Errorf("push: %w", err)
	}
	p := &pusher{to: r, from: from, progress: o.Progress}
	if err := p.manifest(ctx, artifact, o.Tag); err != nil {
		return err
	}
	for _, s := range signatures {
		if err := p.signature(ctx, s, artifact); err != nil {
			return err
		}
	}
	if some {
		return fmt.Errorf("push: the release and the signatures found are pushed, but some are missing: %w", incomplete)
	}
	return nil
}

type pusher struct {
	to          *Repository
	from        cosign.ArtifactSource
	progress    func(done, total int64)
	done, total int64
}

// document reads a manifest, checked. Its media type is what it says itself.
func (p *pusher) document(ctx context.Context, d *ocispec.Descriptor) (b []byte, n node, err error) {
	if d.Size > maxDocument {
		return nil, n, fmt.Errorf("push: %s: %d bytes, want at most %d for a manifest", d.Digest, d.Size, maxDocument)
	}
	blob, err := cosign.OpenBlob(ctx, p.from, *d)
	if err != nil {
		return nil, n, err
	}
	defer blob.Close()
	if b, err = io.ReadAll(blob); err != nil {
		return nil, n, err
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return nil, n, &osmith.FormatError{Offset: -1, Field: "manifest " + string(d.Digest), Err: err}
	}
	if d.MediaType = n.MediaType; !isManifest(*d) {
		return nil, n, fmt.Errorf("push: %s: media type %q is not that of a manifest", d.Digest, n.MediaType)
	}
	return b, n, nil
}

// node is what a manifest or an index refers to.
type node struct {
	MediaType string               `json:"mediaType"`
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
	Subject   *ocispec.Descriptor  `json:"subject"`
}

// manifest uploads a manifest after everything that it refers to.
func (p *pusher) manifest(ctx context.Context, d ocispec.Descriptor, tag string) error {
	b, n, err := p.document(ctx, &d)
	if err != nil {
		return err
	}
	if err := p.contents(ctx, n); err != nil {
		return err
	}
	return p.to.pushManifest(ctx, d, b, tag)
}

// contents uploads what a manifest refers to.
func (p *pusher) contents(ctx context.Context, n node) error {
	for _, m := range n.Manifests {
		if err := p.manifest(ctx, m, ""); err != nil {
			return err
		}
	}
	blobs := n.Layers
	if n.Config != nil {
		blobs = append(blobs, *n.Config)
	}
	for _, blob := range blobs {
		p.total += blob.Size
	}
	for _, blob := range blobs {
		if err := p.blob(ctx, blob); err != nil {
			return err
		}
	}
	return nil
}

// blob uploads a blob straight from the source, which is checked on the way: the registry compares
// the digest, too.
func (p *pusher) blob(ctx context.Context, d ocispec.Descriptor) error {
	err := p.to.again(ctx, d.Digest.String(), func() error {
		there, err := p.to.repo.Blobs().Exists(ctx, d)
		if err != nil || there {
			return err
		}
		r, err := cosign.OpenBlob(ctx, p.from, d)
		if err != nil {
			return err
		}
		// The HTTP client closes what it can, and would be the first.
		return errors.Join(p.to.repo.Blobs().Push(ctx, d, io.NopCloser(r)), r.Close())
	})
	if err == nil {
		p.done += d.Size
		if p.progress != nil {
			p.progress(p.done, p.total)
		}
	}
	return err
}

// signature uploads a manifest that refers to the release. What has one of cosign's tags is added
// to what has it in the repository.
func (p *pusher) signature(ctx context.Context, d, artifact ocispec.Descriptor) error {
	b, n, err := p.document(ctx, &d)
	if err != nil {
		return err
	}
	if err := p.contents(ctx, n); err != nil {
		return err
	}
	name := "sha256-" + artifact.Digest.Encoded()
	tag := d.Annotations[ocispec.AnnotationRefName]
	if n.Subject == nil { // then there is no other way to it
		tag = name + ".sig"
		if slices.ContainsFunc(n.Layers, func(l ocispec.Descriptor) bool { return l.MediaType == "application/vnd.dsse.envelope.v1+json" }) {
			tag = name + ".att"
		}
	}
	if tag != name+".sig" && tag != name+".att" {
		return p.to.pushManifest(ctx, d, b, tag)
	}
	now, err := p.to.resolve(ctx, tag)
	switch {
	case errors.Is(err, ErrNotFound):
		err = p.to.replace(ctx, d, b, tag, "")
	case err == nil && now.Digest == d.Digest:
		return nil
	}
	if err != nil && !errors.Is(err, cosign.ErrBusy) {
		return err
	}
	if err := cosign.MergeTag(ctx, p.to.Writer(ctx), tag, n.Layers); err != nil {
		return fmt.Errorf("push: %w", prefix.Bare(err))
	}
	return nil
}
