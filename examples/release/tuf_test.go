package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	tufconfig "github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

// tufSource is a channel.DocumentSource whose documents are targets of a TUF repository,
// CHANNEL.json. Who must have signed what is in the repository's roots, so that signers that a
// document names are not looked at.
type tufSource struct {
	config *tufconfig.UpdaterConfig
	now    time.Time
}

func (s tufSource) Document(_ context.Context, name string, _ json.RawMessage) ([]byte, error) {
	u, err := updater.New(s.config)
	if err != nil {
		return nil, err
	}
	u.UnsafeSetRefTime(s.now)
	if err := u.Refresh(); err != nil {
		return nil, err
	}
	target, err := u.GetTargetInfo(name + ".json")
	if err != nil {
		return nil, err
	}
	_, b, err := u.DownloadTarget(target, "", "")
	return b, err
}

// A tufRepository is one whose roles have one key each; a publisher would keep that of the root in
// a safe.
type tufRepository struct {
	dir    string
	root   *metadata.Metadata[metadata.RootType]
	keys   map[string]sigstore.Signer
	number int64
}

func newTUFRepository(t *testing.T, expires time.Time) *tufRepository {
	t.Helper()
	r := &tufRepository{dir: t.TempDir(), root: metadata.Root(expires), keys: map[string]sigstore.Signer{}}
	for _, role := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		key, err := metadata.KeyFromPublicKey(public)
		require.NoError(t, err)
		require.NoError(t, r.root.Signed.AddKey(key, role))
		r.keys[role], err = sigstore.LoadED25519Signer(private)
		require.NoError(t, err)
	}
	_, err := r.root.Sign(r.keys[metadata.ROOT])
	require.NoError(t, err)
	require.NoError(t, r.root.ToFile(filepath.Join(r.dir, "1.root.json"), false))
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, "targets"), 0o700))
	return r
}

// publish makes a document a target, in a way that clients of any repository understand.
func (r *tufRepository) publish(t *testing.T, name string, b []byte, expires time.Time) {
	t.Helper()
	r.number++
	target, err := metadata.TargetFile().FromBytes(name+".json", b)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "targets", digest.FromBytes(b).Encoded()+"."+name+".json"), b, 0o600))
	targets, snapshot, timestamp := metadata.Targets(expires), metadata.Snapshot(expires), metadata.Timestamp(expires)
	targets.Signed.Version, snapshot.Signed.Version, timestamp.Signed.Version = r.number, r.number, r.number
	targets.Signed.Targets[name+".json"] = target
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(r.number)
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(r.number)
	_, err = targets.Sign(r.keys[metadata.TARGETS])
	require.NoError(t, err)
	_, err = snapshot.Sign(r.keys[metadata.SNAPSHOT])
	require.NoError(t, err)
	_, err = timestamp.Sign(r.keys[metadata.TIMESTAMP])
	require.NoError(t, err)
	require.NoError(t, targets.ToFile(filepath.Join(r.dir, fmt.Sprintf("%d.targets.json", r.number)), false))
	require.NoError(t, snapshot.ToFile(filepath.Join(r.dir, fmt.Sprintf("%d.snapshot.json", r.number)), false))
	require.NoError(t, timestamp.ToFile(filepath.Join(r.dir, "timestamp.json"), false))
}

// A client of The Update Framework takes the place of cosign, through the one method of
// channel.DocumentSource: what it delivers is the same document, and judged the same.
func TestChannelFromTUF(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	repository := newTUFRepository(t, now.AddDate(1, 0, 0))
	server := httptest.NewServer(http.FileServer(http.Dir(repository.dir)))
	defer server.Close()
	root := read(t, filepath.Join(repository.dir, "1.root.json"))
	config, err := tufconfig.New(server.URL, root)
	require.NoError(t, err)
	config.LocalMetadataDir, config.LocalTargetsDir, config.RemoteTargetsURL = t.TempDir(), t.TempDir(), server.URL+"/targets"
	config.PrefixTargetsWithHash = true

	first := &channel.Document{Product: "acme", Channel: "stable", Sequence: 1, ValidUntil: now.AddDate(0, 0, 30)}
	require.NoError(t, first.Publish("1", digest.FromString("1"), channel.Cohorts))
	second := first.Next(first.ValidUntil)
	require.NoError(t, second.Publish("2", digest.FromString("2"), channel.Cohorts))
	marshal := func(d *channel.Document) []byte {
		b, err := d.Marshal()
		require.NoError(t, err)
		return b
	}
	var state channel.State
	fetch := func(at time.Time) (*channel.Document, error) {
		d, s, err := channel.Fetch(t.Context(), tufSource{config, at}, channel.Request{Product: "acme", Channel: "stable", Now: at, State: state})
		if err == nil {
			state = s
		}
		return d, err
	}
	for i, d := range []*channel.Document{first, second} {
		repository.publish(t, "stable", marshal(d), now.AddDate(0, 0, 7))
		got, err := fetch(now)
		require.NoError(t, err)
		assert.Equal(t, marshal(d), marshal(got))
		assert.EqualValues(t, i+1, state.Sequence)
	}
	// What TUF refuses is not looked at: its timestamp has expired before the document has.
	_, err = fetch(now.AddDate(0, 0, 8))
	require.ErrorContains(t, err, "expired")
	// What TUF accepts is judged all the same: its targets may be changed to an older document by
	// an attacker who has their key.
	repository.publish(t, "stable", marshal(first), now.AddDate(0, 0, 7))
	_, err = fetch(now)
	require.ErrorAs(t, err, new(*channel.OlderError))
	// And a target that was exchanged on the server is not what the metadata say.
	third := second.Next(second.ValidUntil)
	repository.publish(t, "stable", marshal(third), now.AddDate(0, 0, 7))
	name := filepath.Join(repository.dir, "targets", digest.FromBytes(marshal(third)).Encoded()+".stable.json")
	require.NoError(t, os.WriteFile(name, marshal(first), 0o600))
	_, err = fetch(now)
	require.Error(t, err)
	assert.NotErrorAs(t, err, new(*channel.OlderError), "it is refused before")
	assert.EqualValues(t, 2, state.Sequence)
}
