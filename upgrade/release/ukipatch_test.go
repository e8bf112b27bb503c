package release_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	dpe "debug/pe"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// noise are n bytes of which no two pieces are the same.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// large is a UKI with an initrd of many pieces.
func large(cmdline string, initrd []byte) []byte {
	im := uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), Initrd: []osmith.Source{bytes.NewReader(initrd)},
		OSRelease: []byte(osRelease), Cmdline: cmdline}
	return bytesOf(im.Assemble())
}

// offer packs a UKI as a release that is a UKI alone.
func offer(t testing.TB, image []byte) (*server, *release.Artifact) {
	t.Helper()
	s := &server{dir: t.TempDir()}
	d, err := release.Pack(s.dir, "v2", &release.Release{ID: "acme", Version: "2", UKI: bytes.NewReader(image)})
	require.NoError(t, err)
	a, err := release.Read(t.Context(), s, d)
	require.NoError(t, err)
	s.requests, s.served = nil, 0
	return s, a
}

type indexDocument struct {
	Schema   string           `json:"schema"`
	Size     int64            `json:"size"`
	Sections []indexedSection `json:"sections"`
}

type indexedSection struct {
	Name   string   `json:"name"`
	Offset int64    `json:"offset"`
	Size   int64    `json:"size"`
	Pieces []string `json:"pieces"`
}

// The index says what another reader of PE images sees.
func TestPackIndexesSections(t *testing.T) {
	image := large("quiet", noise(1, 3<<18+5000))
	image = append(image, "certificates"...)
	s, a := offer(t, image)
	d, there := a.Layer(release.MediaTypeUKISections)
	require.True(t, there)
	require.Equal(t, "acme_2.efi.sections.json", d.Annotations[ocispec.AnnotationTitle])
	r, err := s.Blob(t.Context(), d)
	require.NoError(t, err)
	var got indexDocument
	require.NoError(t, json.NewDecoder(r).Decode(&got))

	f, err := dpe.NewFile(bytes.NewReader(image))
	require.NoError(t, err)
	want := indexDocument{Schema: "osmith.uki-sections/1", Size: int64(len(image))}
	for _, section := range f.Sections {
		if section.Size == 0 {
			continue
		}
		e := indexedSection{section.Name, int64(section.Offset), int64(section.Size), nil}
		data := image[section.Offset : section.Offset+section.Size]
		for len(data) > 0 {
			n := min(256<<10, len(data))
			sum := sha256.Sum256(data[:n])
			e.Pieces, data = append(e.Pieces, hex.EncodeToString(sum[:])), data[n:]
		}
		want.Sections = append(want.Sections, e)
	}
	require.Equal(t, want, got)

	// What is packed again has the same index, and it is no part of the opened release.
	dir := t.TempDir()
	require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{Ref: "v2"}))
	opened := open(t, dir, a)
	require.Empty(t, opened.SBOMs)
	again, err := release.Pack(t.TempDir(), "v2", opened)
	require.NoError(t, err)
	require.Equal(t, a.Descriptor.Digest, again.Digest)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()), []byte("{}"), 0o644))
	_, err = release.Open(t.Context(), os.DirFS(dir), a.Descriptor)
	require.ErrorContains(t, err, d.Digest.String(), "verified like each layer")
}

func TestPatchUKI(t *testing.T) {
	base := noise(1, 16<<18)
	changed := bytes.Clone(base)
	changed[5<<18+7]++
	old := large("quiet", base)
	for name, tt := range map[string]struct {
		old, new []byte
		fetched  int64 // at most
		requests int64 // at most
	}{
		"the same":                            {old, old, 16 << 10, 4},
		"another command line":                {old, large("quiet splash", base), 16 << 10, 4},
		"a byte in the initrd":                {old, large("quiet", changed), 256<<10 + 16<<10, 5},
		"more before the initrd: moved":       {old, large(strings.Repeat("quiet ", 3000), base), 64 << 10, 4},
		"a longer initrd":                     {old, large("quiet", append(bytes.Clone(base), noise(2, 1000)...)), 32 << 10, 4},
		"nothing in common but what is small": {large("", noise(3, 16<<18)), old, 17 << 18, 1},
		"an old one that is signed":           {append(bytes.Clone(old), noise(4, 3000)...), old, 16 << 10, 4},
		"pieces in another order":             {old, large("quiet", append(bytes.Clone(base[1<<20:]), base[:1<<20]...)), 16 << 10, 4},
		"one piece again and again":           {large("quiet", base[:1<<18]), large("quiet", bytes.Repeat(base[:1<<18], 16)), 16 << 10, 4},
		"an old one of a kernel and more":     {petest.Kernel("6.12.0"), old, 17 << 18, 4},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := offer(t, tt.new)
			dir := t.TempDir()
			p, err := release.PatchUKI(t.Context(), s, a, dir, bytes.NewReader(tt.old))
			require.NoError(t, err)
			assert.LessOrEqual(t, p.Fetched, tt.fetched)
			assert.LessOrEqual(t, p.Requests, tt.requests)
			require.Equal(t, int64(len(tt.new)), p.Fetched+p.Reused)
			index, _ := a.Layer(release.MediaTypeUKISections)
			require.Equal(t, p.Fetched+index.Size, s.served, "what is said to have been fetched")
			require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{Ref: "v2"}))
			require.Equal(t, p.Fetched+index.Size+a.Config.Size, s.served, "Pull takes what is there")
			require.Equal(t, string(tt.new), text(t, open(t, dir, a).UKI))

			s.served = 0
			p, err = release.PatchUKI(t.Context(), s, a, dir, bytes.NewReader(tt.old))
			require.NoError(t, err)
			require.Equal(t, &release.UKIPatch{}, p, "what is there is not put together again")
			require.Zero(t, s.served)
		})
	}
}

// What an interrupted call, or Pull, has left is gone on with, wherever it was cut.
func TestPatchUKIInterrupted(t *testing.T) {
	base := noise(1, 4<<18)
	changed := bytes.Clone(base)
	for _, at := range []int{0, 3 << 18} {
		changed[at]++
	}
	image := large("quiet", changed)
	s, a := offer(t, image)
	old := bytes.NewReader(large("loud", base))
	layer, _ := a.Layer(release.MediaTypeUKI)
	for cut := 0; cut <= len(image)+512; cut += 37 << 10 {
		dir := t.TempDir()
		// makes the layout
		_, err := release.PullLayer(t.Context(), s, a, dir, release.MediaTypeUKISections)
		require.NoError(t, err)
		f, err := release.Partial(dir, layer)
		require.NoError(t, err)
		_, err = f.Write(append(bytes.Clone(image), make([]byte, 1024)...)[:cut])
		require.NoError(t, errors.Join(err, f.Close()))
		s.served = 0
		p, err := release.PatchUKI(t.Context(), s, a, dir, old)
		require.NoError(t, err)
		require.Equal(t, s.served, p.Fetched)
		require.Equal(t, int64(max(len(image)-cut, 0)), p.Fetched+p.Reused)
		require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{Ref: "v2"}))
		require.Equal(t, string(image), text(t, open(t, dir, a).UKI))
	}
	// The line is cut in each request, and the next call goes on.
	dir := t.TempDir()
	s.cut = 100 << 10
	tries := 0
	for ; ; tries++ {
		require.Less(t, tries, 20)
		_, err := release.PatchUKI(t.Context(), s, a, dir, old)
		if err == nil {
			break
		}
		require.ErrorIs(t, err, errCut)
		require.ErrorContains(t, err, "release: blob sha256:")
	}
	require.Greater(t, tries, 2)
	s.cut = 0
	require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{Ref: "v2"}))
	require.Equal(t, string(image), text(t, open(t, dir, a).UKI))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := release.PatchUKI(canceled, s, a, t.TempDir(), old)
	require.ErrorIs(t, err, context.Canceled)
}

// reindexed is a release whose index is another document.
func reindexed(t testing.TB, image, index []byte) (*memory, *release.Artifact) {
	t.Helper()
	m := memory{}
	layer := func(mediaType string, b []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
		m[d.Digest] = b
		return d
	}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: release.ArtifactType,
		Config: layer(release.MediaTypeConfig, []byte(`{"schema":"osmith.release/1","id":"acme","version":"2","rootHash":""}`)),
		Layers: []ocispec.Descriptor{layer(release.MediaTypeUKI, image), layer(release.MediaTypeUKISections, index)}}
	manifest.SchemaVersion = 2
	b, err := json.Marshal(manifest)
	require.NoError(t, err)
	a, err := release.Read(t.Context(), &m, layer("", b))
	require.NoError(t, err)
	return &m, a
}

// memory are blobs, of which ranges can be had.
type memory map[digest.Digest][]byte

func (m *memory) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return m.BlobRange(ctx, d, 0, int64(len((*m)[d.Digest])))
}

func (m *memory) BlobRange(_ context.Context, d ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	b, there := (*m)[d.Digest]
	if !there {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(b), off, n)), nil
}

func indexOf(t testing.TB, image []byte) indexDocument {
	t.Helper()
	s, a := offer(t, image)
	d, _ := a.Layer(release.MediaTypeUKISections)
	r, err := s.Blob(t.Context(), d)
	require.NoError(t, err)
	var x indexDocument
	require.NoError(t, json.NewDecoder(r).Decode(&x))
	return x
}

// An index that lies costs a download, and one that cannot be is an error with its field.
func TestPatchUKIRefuses(t *testing.T) {
	image, old := large("quiet", noise(1, 5<<18)), large("quiet", noise(2, 5<<18))
	initrd := func(x *indexDocument) *indexedSection { // the largest
		return slices.MaxFunc(pointers(x.Sections), func(a, b *indexedSection) int { return cmp.Compare(a.Size, b.Size) })
	}
	have := indexOf(t, old)
	for name, tt := range map[string]struct {
		change func(x *indexDocument)
		want   string // "": a lie
	}{
		"pieces of the old one": {func(x *indexDocument) { initrd(x).Pieces = initrd(&have).Pieces }, ""},
		"no sections":           {func(x *indexDocument) { x.Sections = nil }, ""},
		"one section of all":    {func(x *indexDocument) { x.Sections = have.Sections[:1] }, ""},
		"other schema":          {func(x *indexDocument) { x.Schema = "osmith.uki-sections/2" }, `schema: "osmith.uki-sections/2", want "osmith.uki-sections/1"`},
		"other size":            {func(x *indexDocument) { x.Size++ }, "the UKI has"},
		"overlap":               {func(x *indexDocument) { x.Sections[1].Offset = x.Sections[0].Offset }, "sections[1]"},
		"negative offset":       {func(x *indexDocument) { x.Sections[0].Offset = -512 }, "sections[0]"},
		"negative size":         {func(x *indexDocument) { x.Sections[0].Size = -1 }, "sections[0]"},
		"behind the end":        {func(x *indexDocument) { initrd(x).Size = 1 << 62 }, "sections["},
		"sum over 63 bits":      {func(x *indexDocument) { s := initrd(x); s.Offset, s.Size = 1<<62, 1<<62 }, "sections["},
		"too few pieces":        {func(x *indexDocument) { s := initrd(x); s.Pieces = s.Pieces[1:] }, "want 5 for"},
		"no digest":             {func(x *indexDocument) { initrd(x).Pieces[0] = "ab" }, "a piece is not a SHA-256 digest in hexadecimal"},
		"no hexadecimal":        {func(x *indexDocument) { initrd(x).Pieces[0] = strings.Repeat("x", 64) }, "a piece is not a SHA-256 digest in hexadecimal"},
	} {
		t.Run(name, func(t *testing.T) {
			x := indexOf(t, image)
			tt.change(&x)
			b, err := json.Marshal(x)
			require.NoError(t, err)
			src, a := reindexed(t, image, b)
			dir := t.TempDir()
			_, err = release.PatchUKI(t.Context(), src, a, dir, bytes.NewReader(old))
			if tt.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.want)
				require.ErrorContains(t, err, "release: index of the UKI's sections: ")
				require.ErrorAs(t, err, new(*osmith.FormatError))
			}
			require.NoError(t, release.Pull(t.Context(), src, a, dir, release.PullOptions{Ref: "v2"}))
			require.Equal(t, string(image), text(t, open(t, dir, a).UKI))
		})
	}

	s, a := offer(t, image)
	_, err := release.PatchUKI(t.Context(), s, a, t.TempDir(), strings.NewReader("no UKI"))
	require.ErrorAs(t, err, new(*osmith.FormatError))
	require.ErrorContains(t, err, "old UKI")
	_, err = release.PatchUKI(t.Context(), rangeless{s}, a, t.TempDir(), bytes.NewReader(old))
	require.ErrorIs(t, err, release.ErrNoRanges)
	s, a = serve(t) // whose UKI is no PE image
	_, err = release.PatchUKI(t.Context(), s, a, t.TempDir(), bytes.NewReader(old))
	require.ErrorIs(t, err, fs.ErrNotExist)
	src, a := reindexed(t, image, append(bytes.Repeat([]byte(" "), 4<<20), "{}"...))
	_, err = release.PatchUKI(t.Context(), src, a, t.TempDir(), bytes.NewReader(old))
	require.ErrorIs(t, err, release.ErrTooLarge)

	// An old UKI that becomes shorter, or cannot be read, is found out.
	s, a = offer(t, image)
	dir := t.TempDir()
	_, err = release.PatchUKI(t.Context(), s, a, dir, &shrinking{Reader: bytes.NewReader(image), after: int64(len(image)) * 3 / 2})
	require.ErrorContains(t, err, "release: old UKI: ")
	layer, _ := a.Layer(release.MediaTypeUKI)
	info, err := os.Stat(filepath.Join(dir, ".partial-"+layer.Digest.Encoded()))
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(100<<10), "it failed while it was copied")
	require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{Ref: "v2"}))
	require.Equal(t, string(image), text(t, open(t, dir, a).UKI))
	_, err = release.Pack(t.TempDir(), "v2", &release.Release{ID: "acme", Version: "2", UKI: &shrinking{Reader: bytes.NewReader(image)}})
	require.ErrorIs(t, err, errGone)
}

func pointers(list []indexedSection) (p []*indexedSection) {
	for i := range list {
		p = append(p, &list[i])
	}
	return p
}

var errGone = errors.New("gone")

// shrinking fails once so many bytes were read.
type shrinking struct {
	*bytes.Reader
	after, read int64
}

func (s *shrinking) ReadAt(b []byte, off int64) (int, error) {
	if s.read >= s.after {
		return 0, errGone
	}
	n, err := s.Reader.ReadAt(b, off)
	s.read += int64(n)
	return n, err
}

// Whatever the index says, what Pull has in the end is the UKI.
func FuzzPatchUKI(f *testing.F) {
	image := large("quiet", noise(1, 1<<18))
	old := large("loud", noise(1, 1<<18))
	for _, x := range []indexDocument{indexOf(f, image), indexOf(f, old)} {
		b, err := json.Marshal(x)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, index []byte) {
		src, a := reindexed(t, image, index)
		dir := t.TempDir()
		p, err := release.PatchUKI(t.Context(), src, a, dir, bytes.NewReader(old))
		require.Equal(t, p == nil, err != nil)
		if err == nil {
			require.Equal(t, int64(len(image)), p.Reused+p.Fetched)
		}
		require.NoError(t, release.Pull(t.Context(), src, a, dir, release.PullOptions{}))
	})
}
