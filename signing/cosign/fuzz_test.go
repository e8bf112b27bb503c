package cosign

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// addSeeds adds what the real cosign wrote.
func addSeeds(f *testing.F) {
	names, err := filepath.Glob(filepath.Join("testdata", "cosign", "*", "blobs", "sha256", "*"))
	if err != nil {
		f.Fatal(err)
	}
	if len(names) == 0 {
		f.Fatal("no seeds")
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
		if e, err := parseBundle(content); err == nil {
			f.Add(e.payload)
		}
	}
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte(`{"critical":{"Image":{}}}`))
}

func nilIffError[T any](t *testing.T, got *T, err error) {
	t.Helper()
	if (got == nil) != (err != nil) {
		t.Fatalf("result %v with error %v", got, err)
	}
}

func FuzzManifest(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		nilIffError(t, m, err)
		if err == nil {
			m.format()
			m.mayHoldSignatures(digest.FromString("x"), true)
		}
	})
}

func FuzzIndex(f *testing.F) {
	addSeeds(f)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:00"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := parseIndex(b)
		nilIffError(t, index, err)
	})
}

func FuzzBundle(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseBundle(b)
		nilIffError(t, e, err)
		if err == nil && len(e.signature) == 0 {
			t.Fatal("a bundle without a signature")
		}
	})
}

// A payload that counts must contain the digest; that is all it can claim.
func FuzzPayload(f *testing.F) {
	addSeeds(f)
	subject := digest.FromString("artifact")
	for _, o := range []SignOptions{{}, {Reference: "registry.example/os"}} {
		payload, err := newPayload(subject, o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	payload, err := newStatement(subject)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		other := digest.FromString("another artifact")
		for _, check := range []func([]byte, digest.Digest) error{checkPayload, checkStatement} {
			if check(b, subject) == nil && check(b, other) == nil {
				t.Fatal("one payload for two artifacts")
			}
		}
	})
}
