package weblayout_test

import (
	"net/http"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// FuzzIndex reads whatever a server calls its index.
func FuzzIndex(f *testing.F) {
	const digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest + `","size":2,"annotations":{"org.opencontainers.image.ref.name":"v2"}}]}`))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:../../x","size":-1,"annotations":{"org.opencontainers.image.ref.name":"v2"}}]}`))
	f.Fuzz(func(t *testing.T, index []byte) {
		server := &direct{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(index)
		})}
		src, err := weblayout.Open("http://updates.example", weblayout.OpenOptions{Client: &http.Client{Transport: server}, Attempts: 1})
		require.NoError(t, err)
		d, err := src.Resolve(t.Context(), "v2")
		if err == nil {
			require.NoError(t, d.Digest.Validate())
			require.GreaterOrEqual(t, d.Size, int64(0))
			_, err := src.Signatures(t.Context(), d)
			require.NoError(t, err)
		} else {
			require.Equal(t, ocispec.Descriptor{}, d)
		}
	})
}
