package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// Keys that cosign has made sign here, and are the policy.
func TestCosignKeys(t *testing.T) {
	for name, root := range map[string]func(testing.TB) testtools.Root{"2.5": testtools.Trixie, "3.1": testtools.Forky} {
		t.Run(name, func(t *testing.T) {
			r, w := root(t), newWorkshop(t)
			r.Run(t, string(w), "env", "COSIGN_PASSWORD=secret", "cosign", "generate-key-pair", "--output-key-prefix", "made")
			packed := w.pack(t, "2")
			t.Setenv("COSIGN_PASSWORD", "secret")
			ok(t, "sign", w.path("layout"), "2", "-key", w.path("made.key"))
			var v verifyResult
			object(t, &v, "verify", w.path("layout"), "2", "-key", w.path("made.pub"))
			assert.Equal(t, packed.Digest, v.Digest)
			assert.Len(t, v.Signatures, 2)
			t.Setenv("COSIGN_PASSWORD", "wrong")
			status, _, stderr := call3(t, "sign", w.path("layout"), "2", "-key", w.path("made.key"))
			assert.Equal(t, 2, status, stderr)
		})
	}
}

// skopeo packs a release into one file, which is a layout, too.
func TestSkopeoCopies(t *testing.T) {
	r, w := testtools.Trixie(t), newWorkshop(t)
	packed := w.pack(t, "2", "-sbom", w.path("sbom.json"))
	r.Run(t, string(w), "skopeo", "copy", "oci:layout:2", "oci-archive:release.tar:2")
	var i inspectResult
	object(t, &i, "inspect", w.path("release.tar"), "2", "-check")
	assert.Equal(t, packed.Digest, i.Digest)
	assert.Equal(t, packed.Size, i.Size)
}
