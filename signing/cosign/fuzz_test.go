package cosign

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
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
		if e, err := parseBundle(content, nil); err == nil {
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
		e, err := parseBundle(b, []byte("{}"))
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
	for _, c := range []claim{{}, {predicateType: PredicateSPDX, predicate: json.RawMessage(`{"spdxVersion":"SPDX-2.3"}`)}} {
		payload, err := newStatement(subject, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		other := digest.FromString("another artifact")
		for _, read := range []func([]byte, digest.Digest) (*claim, error){readPayload, readStatement} {
			c, err := read(b, subject)
			nilIffError(t, c, err)
			if err != nil {
				continue
			}
			// A statement may have several subjects, and all of them are in it.
			if _, err := read(b, other); err == nil && !bytes.Contains(b, []byte(other.Encoded())) {
				t.Fatal("a payload for an artifact that it does not name")
			}
		}
	})
}

// What becomes of annotations is a bundle, whatever they say, or a refusal.
func FuzzAnnotations(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		`{"SignedEntryTimestamp":"AA==","Payload":{"body":"eyJraW5kIjoiaGFzaGVkcmVrb3JkIiwiYXBpVmVyc2lvbiI6IjAuMC4xIn0=","integratedTime":1,"logIndex":2,"logID":"00"}}`,
		`{"SignedRFC3161Timestamp":"AA=="}`)
	f.Fuzz(func(t *testing.T, certificate, entry, stamp string) {
		e := &envelope{format: FormatSimpleSigning, message: []byte("m"), signature: []byte("s")}
		b, err := bundleOf(e, map[string]string{annotationCertificate: certificate, annotationLogEntry: entry, annotationTimestamp: stamp})
		if (b == nil) != (err != nil) {
			t.Fatalf("result %q with error %v", b, err)
		}
		if err != nil {
			return
		}
		again, err := parseBundle(b, []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		if string(again.signature) != "s" || again.bundle == nil {
			t.Fatal("the bundle does not hold the signature")
		}
	})
}

// Rules that can be read can be written, and are the same when read again.
func FuzzRules(f *testing.F) {
	key := "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n-----END PUBLIC KEY-----\\n"
	f.Add([]byte(`{"schema":"osmith.policy/1","rules":[{"repository":"a/*","threshold":2,"authorities":[{"name":"a","keys":["` + key + `"],"notBefore":"2026-01-01T00:00:00Z"},` +
		`{"name":"b","identities":[{"issuer":"i","subjectRegexp":".*"}]}],"attestations":[{"predicateTypes":["t"],"authorities":["a"],"threshold":1}]}]}`))
	f.Add([]byte(`{"schema":"osmith.policy/1","rules":[{"repository":"**","references":["a/*"],"authorities":[],"attestations":[{"predicateTypes":["t"],` +
		`"contents":[{"pointer":"/a~1b/0","values":["x"]},{"pointer":"/c","regexp":"y+"}]}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rules, err := ParseRules(b, nil)
		if (rules == nil) != (err != nil) {
			t.Fatalf("rules %v with error %v", rules, err)
		}
		if err != nil {
			return
		}
		text, err := json.Marshal(rules)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRules(text, nil); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// Whatever a predicate is, a demand on it is met or not, and a value that is found is one that the
// policy has.
func FuzzContents(f *testing.F) {
	f.Add([]byte(`{"a":{"b":["x",1,true]}}`), "/a/b/0")
	f.Add([]byte(`{"a/b":"x","m~n":"x"}`), "/a~1b")
	f.Add([]byte(`[["x"]]`), "/0/0")
	f.Add([]byte(`{"":{"":"x"}}`), "//")
	f.Fuzz(func(t *testing.T, b []byte, pointer string) {
		c := Content{Pointer: pointer, Values: []string{"x"}}
		if c.check() != nil {
			return
		}
		if err := c.holds(b); err == nil && !strings.Contains(string(b), "x") && !strings.Contains(string(b), "\\u") {
			t.Fatalf("%s holds %s", b, pointer)
		}
	})
}
