package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

// of packs version 3 with another os-release, and signs it.
func (s *shop) of(t *testing.T, ref, osRelease string) packResult {
	t.Helper()
	s.write(t, "uki3", assembled(t, &uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")),
		Cmdline: "roothash=" + string(read(t, s.path("hash2"))), OSRelease: []byte(osRelease)}))
	var r packResult
	object(t, &r, "pack", "-o", s.path("layout"), "-uki", s.path("uki3"), "-root", s.path("root2"), "-tree", s.path("tree2"), "-ref", ref)
	s.sign(t, ref)
	return r
}

// An attacker with the vendor's layout gives releases other names, and the vendor publishes none of
// them under these.
func TestChannelPublishesWhatItSays(t *testing.T) {
	s := newShop(t)
	s.edit(t, "publish", "1", "-new")
	s.of(t, "3", "ID=acme\nVARIANT_ID=debug\nIMAGE_VERSION=3\n")
	s.of(t, "4", "ID=other\nIMAGE_VERSION=4\n")
	rename(t, s.path("layout"), "2", "5")
	rename(t, s.path("layout"), "stable", "beta")
	s.write(t, "copy", read(t, s.path("layout/index.json")))
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"old version":   {[]string{"5"}, `the release named "5" has version "2", want the same`},
		"variant":       {[]string{"3"}, `the channel is for "acme" "", and the release is of "acme" "debug"`},
		"product":       {[]string{"4"}, `the channel is for "acme" "", and the release is of "other" ""`},
		"other channel": {[]string{"1"}, `the document that is called "beta" is of channel "stable"`},
	} {
		if name != "other channel" {
			rename(t, s.path("layout"), "beta", "stable")
		}
		args := s.editing("publish", append(tt.args, "-key", s.path("build.key"))...)
		if name == "other channel" {
			args[3] = "beta"
		}
		status, stdout, stderr := call3(t, args...)
		assert.Equal(t, 1, status, name)
		assert.Contains(t, stderr, tt.want, name)
		assert.Empty(t, stdout, name)
		require.NoError(t, os.WriteFile(s.path("layout/index.json"), read(t, s.path("copy")), 0o600))
	}
}

// A document that is wrong about a release has nothing installed that is not what it says.
func TestChannelDocumentIsWrong(t *testing.T) {
	s := newShop(t)
	debug := s.of(t, "3", "ID=acme\nVARIANT_ID=debug\nIMAGE_VERSION=3\n")
	other := s.of(t, "4", "ID=other\nIMAGE_VERSION=4\n")
	var one inspectResult
	object(t, &one, "inspect", s.path("layout"), "1")
	store, err := cosign.OpenDir(s.path("layout"))
	require.NoError(t, err)
	signer, err := readSigner(s.path("build.key"))
	require.NoError(t, err)
	at, err := time.Parse(time.RFC3339, days(7))
	require.NoError(t, err)
	for version, tt := range map[string]struct{ digest, want string }{
		"9": {one.Digest, `version: want "9", got "1"`},
		"3": {debug.Digest, `variant: want "", got "debug"`},
		"4": {other.Digest, `product: want "acme", got "other"`},
	} {
		d := &channel.Document{Product: "acme", Channel: "stable", Sequence: 1, ValidUntil: at}
		require.NoError(t, d.Publish(version, digest.Digest(tt.digest), channel.Cohorts))
		artifact, err := channel.Write(store, "stable", d)
		require.NoError(t, err)
		require.NoError(t, cosign.Sign(t.Context(), store, artifact, signer, cosign.SignOptions{}))
		m := s.customer("machine"+version, s.path("layout"), "")
		status, _, stderr := call3(t, m.args(t, 1)...)
		assert.Equal(t, 1, status)
		assert.Contains(t, stderr, tt.want)
		assert.NoDirExists(t, s.path(m.name))
	}
}

// Of two that publish at the same time the later one is told, and nothing is lost.
func TestChannelPublishedMeanwhile(t *testing.T) {
	s := newShop(t)
	s.edit(t, "publish", "1", "-new")
	c := &cli.Call{Context: t.Context(), Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
	e := &editing{access: new(access), keys: cli.List{s.path("build.key")}, valid: time.Hour}
	late, err := e.open(c, []string{s.path("layout"), "stable"}, false)
	require.NoError(t, err)
	two := s.edit(t, "publish", "2")
	d, err := late.next()
	require.NoError(t, err)
	require.NoError(t, d.Hold("1", ""))
	artifact, err := channel.Write(late.store, "", d)
	require.NoError(t, err)
	signer, err := readSigner(s.path("build.key"))
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(t.Context(), late.store, artifact, signer, cosign.SignOptions{}))
	require.ErrorContains(t, late.publish(c, d, artifact), "was published by a different release process meanwhile: start again")
	assert.Contains(t, ok(t, "channel", "list", s.path("layout"), "stable", "-key", s.path("build.pub")), two.Digest)
}
