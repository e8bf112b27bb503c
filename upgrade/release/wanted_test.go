package release_test

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release"
)

func TestMatches(t *testing.T) {
	is := release.Artifact{ID: "acme", Variant: "server", Architecture: "amd64", Version: "5"}
	silent := release.Artifact{ID: "acme", Version: "5"}
	for name, tt := range map[string]struct {
		artifact release.Artifact
		wanted   release.Wanted
		want     string
	}{
		"nothing":             {is, release.Wanted{}, ""},
		"all of it":           {is, release.Wanted{ID: "acme", Variant: "server", Architecture: "amd64", Version: "5", Name: "5"}, ""},
		"product":             {is, release.Wanted{ID: "other"}, `product: want "other", got "acme"`},
		"variant":             {is, release.Wanted{Variant: "debug"}, `variant: want "debug", got "server"`},
		"architecture":        {is, release.Wanted{Architecture: "arm64"}, `architecture: want "arm64", got "amd64"`},
		"version":             {is, release.Wanted{Version: "6"}, `version: want "6", got "5"`},
		"prefix of a version": {is, release.Wanted{Version: "5.1"}, `version: want "5.1", got "5"`},
		"no architecture":     {silent, release.Wanted{Architecture: "amd64"}, `architecture: got none, want "amd64"`},
		"no variant":          {silent, release.Wanted{Variant: "server"}, `variant: got none, want "server"`},
		"v":                   {is, release.Wanted{Name: "v5"}, ""},
		"name-arch":           {is, release.Wanted{Name: "5-amd64"}, ""},
		"other arch":          {is, release.Wanted{Name: "5-arm64"}, `the release named "5-arm64" has version "5", want the same`},
		"empty arch":          {silent, release.Wanted{Name: "5-"}, `the release named "5-" has version "5", want the same`},
		"latest":              {is, release.Wanted{Name: "latest"}, `the release named "latest" has version "5", want the same`},
		"newer":               {is, release.Wanted{Name: "6"}, `the release named "6" has version "5", want the same`},
		"tag of plus":         {release.Artifact{Version: "1+2"}, release.Wanted{Name: "1_2"}, ""},
		"v itself":            {release.Artifact{Version: "v5"}, release.Wanted{Name: "v5"}, ""},
	} {
		err := tt.artifact.Matches(tt.wanted)
		if tt.want == "" {
			assert.NoError(t, err, name)
			continue
		}
		var wanted *release.WantedError
		require.ErrorAs(t, err, &wanted, name)
		assert.EqualError(t, err, "release: "+tt.want, name)
	}
}

// A server that hands out an old release under a new name is refused before anything is fetched,
// and variant and architecture come along.
func TestPullWanted(t *testing.T) {
	s, a := serve(t)
	to := t.TempDir()
	requests := len(s.requests)
	err := release.Pull(context.Background(), s, a, to, release.PullOptions{Ref: "5", Wanted: release.Wanted{Name: "5"}})
	var wanted *release.WantedError
	require.ErrorAs(t, err, &wanted)
	assert.Equal(t, release.WantedError{What: "name", Want: "5", Got: "2"}, *wanted)
	assert.Len(t, s.requests, requests)
	assert.NoDirExists(t, to+"/blobs")
	require.NoError(t, release.Pull(context.Background(), s, a, to, release.PullOptions{Ref: "2", Wanted: release.Wanted{Name: "2"}}))

	c := contents()
	c.Variant = "server"
	dir := t.TempDir()
	d, err := release.Pack(dir, "2", c)
	require.NoError(t, err)
	r, err := release.Open(context.Background(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Matches(release.Wanted{ID: "acme", Variant: "server", Version: "2"}))
	assert.ErrorAs(t, r.Matches(release.Wanted{Variant: "debug"}), &wanted)
}
