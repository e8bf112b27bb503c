package cosign_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
)

const bundleLayer = "application/vnd.dev.sigstore.bundle.v0.3+json"

// hostile is a source whose blobs are made while they are read, so that it holds none of what it
// makes others hold.
type hostile struct {
	// texts, one after the other; a text that begins with "*" is the rest a thousand times
	blobs map[digest.Digest][]string
	found []ocispec.Descriptor
	reads int
}

func (h *hostile) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	h.reads++
	texts, ok := h.blobs[d.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	var readers []io.Reader
	for _, text := range texts {
		if rest, many := strings.CutPrefix(text, "*"); many {
			for range 1000 {
				readers = append(readers, strings.NewReader(rest))
			}
			continue
		}
		readers = append(readers, strings.NewReader(text))
	}
	return io.NopCloser(io.MultiReader(readers...)), nil
}

func (h *hostile) Signatures(context.Context, ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return h.found, nil
}

// add stores a blob.
func (h *hostile) add(t testing.TB, mediaType string, texts ...string) ocispec.Descriptor {
	t.Helper()
	d := digest.FromString(strings.Join(texts, "|"))
	h.blobs[d] = texts
	r, err := h.Blob(t.Context(), ocispec.Descriptor{Digest: d})
	require.NoError(t, err)
	sum := digest.SHA256.Digester()
	n, err := io.Copy(sum.Hash(), r)
	require.NoError(t, err)
	delete(h.blobs, d)
	h.blobs[sum.Digest()] = texts
	return ocispec.Descriptor{MediaType: mediaType, Digest: sum.Digest(), Size: n}
}

// refer stores a manifest that refers to an artifact.
func (h *hostile) refer(t testing.TB, artifact ocispec.Descriptor, layers ...ocispec.Descriptor) {
	t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: layers, Subject: &artifact}
	m.SchemaVersion = 2
	b, err := json.Marshal(m)
	require.NoError(t, err)
	h.found = append(h.found, h.add(t, ocispec.MediaTypeImageManifest, string(b)))
}

// peak is how many bytes of the heap f needs at once when memory is tight.
func peak(f func()) uint64 {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(before.Sys-before.HeapReleased) + 16<<20))
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	var most uint64
	done, group := make(chan struct{}), sync.WaitGroup{}
	group.Go(func() {
		for {
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	f()
	close(done)
	group.Wait()
	return most - min(most, before.HeapAlloc)
}

// Whatever a source offers, less than 64 MiB are held, and it ends.
func TestMemory(t *testing.T) {
	text := func(before, filling, after string) []string {
		return []string{before, "*" + strings.Repeat(filling, 42<<20/1000/len(filling)), after}
	}
	messageSignature := func(n int) string {
		return fmt.Sprintf(`{"mediaType":"%s","verificationMaterial":{"publicKey":{"hint":"x"}},"messageSignature":{"signature":"%s"}}`,
			bundleLayer, base64.StdEncoding.EncodeToString(fmt.Append(nil, n)))
	}
	large := func(before, filling, after string) func(*testing.T, *hostile, ocispec.Descriptor) {
		return func(t *testing.T, h *hostile, artifact ocispec.Descriptor) {
			for i := range 2 {
				h.refer(t, artifact, h.add(t, bundleLayer, text(strings.Replace(before, "N", fmt.Sprint(i), 1), filling, after)...))
			}
		}
	}
	envelope := `{"mediaType":"` + bundleLayer + `","dsseEnvelope":{"payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AAAN"}],"payload":"`
	for name, prepare := range map[string]func(*testing.T, *hostile, ocispec.Descriptor){
		"signatures of a large artifact": func(t *testing.T, h *hostile, artifact ocispec.Descriptor) {
			for n := range 8 {
				var layers []ocispec.Descriptor
				for i := range 256 {
					layers = append(layers, h.add(t, bundleLayer, messageSignature(n*256+i)))
				}
				h.refer(t, artifact, layers...)
			}
		},
		"one payload often": func(t *testing.T, h *hostile, artifact ocispec.Descriptor) {
			payload := h.add(t, "application/vnd.dev.cosign.simplesigning.v1+json", "{", "*"+strings.Repeat(" ", 1000))
			for n := range 8 {
				var layers []ocispec.Descriptor
				for i := range 256 {
					layer := payload
					layer.Annotations = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(fmt.Append(nil, n*256+i))}
					layers = append(layers, layer)
				}
				h.refer(t, artifact, layers...)
			}
		},
		"large envelopes": large(envelope, "AAAA", `"}}`),
		"escapes":         large(envelope, `\/\/`, `"}}`),
		"media type":      large(`{"mediaType":"N`, "x", `"}`),
		"hint":            large(`{"mediaType":"`+bundleLayer+`","verificationMaterial":{"publicKey":{"hint":"N`, "x", `"}}}`),
		"certificate":     large(`{"mediaType":"`+bundleLayer+`","verificationMaterial":{"certificate":{"rawBytes":"N`, "x", `"}}}`),
		"key":             large(`{"N`, "x", `":1}`),
		"values":          large(`{"a":[N`, ",{}", `]}`),
		"nothing":         large(`N`, " ", `{}`),
		"manifests": func(t *testing.T, h *hostile, artifact ocispec.Descriptor) {
			for i := range 3 {
				h.found = append(h.found,
					h.add(t, ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"layers":[{"size":%d}`, i), "*"+strings.Repeat(",{}", 1300), "]}"),
					h.add(t, ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"layers":[{"mediaType":"%s","size":%d,"annotations":{"a":"`, bundleLayer, i), "*"+strings.Repeat("x", 4000), `"}}]}`))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hostile{blobs: map[digest.Digest][]string{}}
			artifact := h.add(t, ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"a":"`, "*"+strings.Repeat("x", 4000), `"}`)
			prepare(t, h, artifact)
			h.reads = 0
			var err error
			most := peak(func() {
				_, err = cosign.Verify(t.Context(), h, artifact, cosign.Policy{Keys: public("p256", "ed25519")})
			})
			t.Logf("%d KiB, %d reads: %.200v", most>>10, h.reads, err)
			require.ErrorIs(t, err, cosign.ErrUntrusted)
			require.Less(t, most, uint64(64<<20))
			require.LessOrEqual(t, h.reads, 1100)
			if name == "signatures of a large artifact" {
				require.Less(t, h.reads, 200, "each is work in proportion to the artifact")
			}
		})
	}
}

// Large attestations by a trusted key are kept as far as memory goes, and the next is not read.
func TestMemoryTrusted(t *testing.T) {
	for _, name := range []string{"p256", "ed25519"} {
		h := &hostile{blobs: map[digest.Digest][]string{}}
		artifact := h.add(t, ocispec.MediaTypeImageManifest, `{"schemaVersion":2}`)
		store := new(cosign.Memory)
		require.NoError(t, cosign.Sign(t.Context(), store, artifact, testKeys()[name], cosign.SignOptions{}))
		for i := range 2 {
			document := fmt.Appendf(nil, `{"a":["%d"%s]}`, i, append(bytes.Repeat([]byte(`,{"b":[1,2,3,4,5,6,7]}`), 50000), `,"`+strings.Repeat("x", 30<<20)+`"`...))
			require.NoError(t, cosign.Attest(t.Context(), store, artifact, cosign.PredicateSPDX, document, testKeys()[name], cosign.SignOptions{}))
		}
		src := beside{store, h}
		var result *cosign.Result
		var err error
		most := peak(func() { result, err = cosign.Verify(t.Context(), src, artifact, cosign.Policy{Keys: public(name)}) })
		require.NoError(t, err)
		t.Logf("%s: %d KiB", name, most>>10)
		require.Less(t, most, uint64(64<<20))
		require.Len(t, result.Attestations, 1)
		require.Len(t, result.Signatures, 2)
		require.Len(t, result.Rejected, 1)
		require.ErrorIs(t, result.Rejected[0].Err, cosign.ErrTooLarge)
		require.Less(t, len(result.Attestations[0].Predicate), 32<<20)
	}
}

// beside has the artifact elsewhere.
type beside struct {
	*cosign.Memory
	artifact *hostile
}

func (b beside) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if r, err := b.artifact.Blob(ctx, d); err == nil {
		return r, nil
	}
	return b.Memory.Blob(ctx, d)
}

// A satisfied policy is the end, but for a few more; each limit is one.
func TestBudget(t *testing.T) {
	_, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(t.Context(), dir, artifact, testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}}))
	for i := range 100 {
		addBundle(t, dir, artifact, strings.Replace(bundleText(t, fmt.Sprintf(`{"n":%d}`, i)), "any", fmt.Sprint(i), 1))
	}
	policy := cosign.Policy{Keys: public("p256")}
	result, err := cosign.Verify(t.Context(), dir, artifact, policy)
	require.NoError(t, err)
	require.Equal(t, 65, len(result.Rejected))
	require.ErrorIs(t, result.Rejected[64].Err, cosign.ErrNotRead)
	policy.Limits.More = -1
	result, err = cosign.Verify(t.Context(), dir, artifact, policy)
	require.NoError(t, err)
	require.Len(t, result.Rejected, 1)
	require.ErrorContains(t, result.Rejected[0].Err, "the policy is satisfied")

	for name, limits := range map[string]cosign.Limits{"manifests": {Manifests: 5}, "signatures": {Signatures: 5}, "bytes": {Bytes: 6000}, "kept": {Held: 300}} {
		_, err := cosign.Verify(t.Context(), dir, artifact, cosign.Policy{Keys: public("rsa"), Limits: limits})
		var untrusted *cosign.UntrustedError
		require.ErrorAs(t, err, &untrusted, name)
		if name == "kept" {
			require.ErrorIs(t, untrusted.Rejected[50].Err, cosign.ErrTooLarge)
			continue
		}
		last := untrusted.Rejected[len(untrusted.Rejected)-1]
		require.ErrorIs(t, last.Err, cosign.ErrNotRead)
		require.ErrorContains(t, last.Err, name)
		require.Less(t, len(untrusted.Rejected), 10, name)
	}
}

// What was believed is copied, and no junk beside it.
func TestCopyVerified(t *testing.T) {
	_, dir, artifact := newArtifact(t)
	for _, format := range []cosign.Format{cosign.FormatBundle, cosign.FormatDSSE} {
		require.NoError(t, cosign.Attest(t.Context(), dir, artifact, cosign.PredicateSPDX, []byte(predicate), testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{format}}))
	}
	require.NoError(t, cosign.Sign(t.Context(), dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	require.NoError(t, cosign.Sign(t.Context(), dir, artifact, testKeys()["rsa"], cosign.SignOptions{}))
	for i := range 20 {
		addBundle(t, dir, artifact, strings.Repeat(fmt.Sprint(i%10), 100000))
	}
	policy := cosign.Policy{Keys: public("p256")}
	result, err := cosign.Verify(t.Context(), dir, artifact, policy)
	require.NoError(t, err)
	path, to, same := newArtifact(t)
	require.Equal(t, artifact.Digest, same.Digest)
	n, err := cosign.CopyVerified(t.Context(), to, dir, result)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	again, err := cosign.Verify(t.Context(), to, artifact, policy)
	require.NoError(t, err)
	require.Len(t, again.Signatures, 2)
	require.Len(t, again.Attestations, 1)
	require.Empty(t, again.Rejected)
	require.Less(t, sizeOf(t, path), int64(20000))
	_, err = cosign.CopyVerified(t.Context(), to, dir, &cosign.Result{Signatures: []cosign.Signature{{}}})
	require.ErrorContains(t, err, "copy: the result was not returned by Verify")
}

func sizeOf(t testing.TB, path string) (size int64) {
	t.Helper()
	require.NoError(t, fs.WalkDir(os.DirFS(path), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		size += info.Size()
		return err
	}))
	return size
}

// A source that could not look everywhere is enough if what it found is, and nothing found is not
// "unsigned".
func TestIncomplete(t *testing.T) {
	_, dir, artifact := newArtifact(t)
	src := incomplete{dir}
	_, err := cosign.Verify(t.Context(), src, artifact, cosign.Policy{Keys: public("p256")})
	require.ErrorIs(t, err, cosign.ErrIncomplete)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.NotErrorIs(t, err, cosign.ErrUnsigned)
	require.NoError(t, cosign.Sign(t.Context(), dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	result, err := cosign.Verify(t.Context(), src, artifact, cosign.Policy{Keys: public("p256")})
	require.NoError(t, err)
	require.Len(t, result.Rejected, 1)
	require.ErrorIs(t, result.Rejected[0].Err, cosign.ErrIncomplete)
	_, err = cosign.Verify(t.Context(), src, artifact, cosign.Policy{Keys: public("rsa")})
	require.ErrorIs(t, err, cosign.ErrUntrusted)
	require.ErrorIs(t, err, cosign.ErrIncomplete)
	require.ErrorContains(t, err, "permission")
}

type incomplete struct{ *cosign.Dir }

func (i incomplete) Signatures(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	found, err := i.Dir.Signatures(ctx, d)
	if err != nil {
		return nil, err
	}
	return found, fmt.Errorf("source: %w", &cosign.IncompleteError{Errs: []error{fs.ErrPermission}})
}

// Bundles as protobuf's JSON has them: other alphabets of base64, without padding, null for what is
// absent, patches of the format.
func TestBundleForms(t *testing.T) {
	loose := func(s string) string { return strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(s) }
	for name, change := range map[string]func(map[string]any){
		"other alphabet": func(b map[string]any) {
			e := b["dsseEnvelope"].(map[string]any)
			e["payload"] = loose(e["payload"].(string))
			s := e["signatures"].([]any)[0].(map[string]any)
			s["sig"] = loose(s["sig"].(string))
		},
		"null":  func(b map[string]any) { b["messageSignature"], b["verificationMaterial"] = nil, nil },
		"none":  func(b map[string]any) { delete(b, "verificationMaterial") },
		"patch": func(b map[string]any) { b["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.3.1+json" },
		"nulls": func(b map[string]any) {
			b["verificationMaterial"] = map[string]any{"publicKey": nil, "certificate": nil, "tlogEntries": nil}
		},
	} {
		_, dir, artifact := newArtifact(t)
		var b map[string]any
		require.NoError(t, json.Unmarshal([]byte(bundleText(t, statementText(artifact.Digest.Encoded()))), &b))
		change(b)
		text, err := json.Marshal(b)
		require.NoError(t, err)
		addBundle(t, dir, artifact, string(text))
		addBundle(t, dir, artifact, strings.ReplaceAll(string(text), "=", `\u003d`))
		_, err = cosign.Verify(t.Context(), dir, artifact, cosign.Policy{Keys: public("p256")})
		require.NoError(t, err, name)
	}
	for _, sig := range []string{"AAA", "AAAA\\n", "A===", "AA=", "AAA\\u00e4", "AAAA=", "AAAA====", "AA==AA==", "AAB"} {
		_, dir, artifact := newArtifact(t)
		addBundle(t, dir, artifact, `{"mediaType":"`+bundleLayer+`","dsseEnvelope":{"payloadType":"application/vnd.in-toto+json","payload":"e30","signatures":[{"sig":"`+sig+`"}]}}`)
		err := rejection(t, dir, artifact)
		if sig == "AAA" {
			require.ErrorIs(t, err, cosign.ErrOtherKey)
			continue
		}
		require.ErrorContains(t, err, "not base64", sig)
	}
}
