package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// Files with the names that mkosi and systemd-repart give them are found, and partitions that are
// larger than what is in them are packed without the rest.
func TestPackFrom(t *testing.T) {
	w := newWorkshop(t)
	want := w.pack(t, "2")
	for name, split := range map[string]map[string]string{
		"repart": {"disk.root-x86-64.raw": "root2", "disk.root-x86-64-verity.raw": "tree2", "acme_2.efi": "uki2"},
		"mkosi": {"acme_2_x86-64.root-x86-64.5c1f8d3e-0b0a-4b5e-9d1e-0123456789ab.raw": "root2", "acme_2_x86-64.root-x86-64-verity.5c1f8d3e0b0a4b5e9d1e0123456789ab.raw": "tree2",
			"acme_2_x86-64.efi": "uki2", "acme_2_x86-64.raw": "pcrs.json", "acme_2_x86-64.esp.raw": "pcrs.json", "acme_2_x86-64.manifest": "pcrs.json", "systemd-bootx64.efi": "pcrs.json"},
		"usr":    {"os.usr-x86-64.raw": "root2", "os.usr-x86-64-verity.raw": "tree2", "os.efi": "uki2"},
		"plain":  {"os.root.raw": "root2", "os.root-verity.raw": "tree2", "os.efi": "uki2"},
		"larger": {"os.root-arm64.raw": "root2", "os.root-arm64-verity.raw": "tree2", "os.efi": "uki2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.Mkdir(dir, 0o700))
			for to, from := range split {
				b := read(t, w.path(from))
				if name == "larger" && from != "uki2" {
					b = append(b, bytes.Repeat([]byte{0}, 1<<20)...)
				}
				require.NoError(t, os.WriteFile(filepath.Join(dir, to), b, 0o600))
			}
			var r packResult
			object(t, &r, "pack", "-o", filepath.Join(dir, "layout"), "-from", dir)
			assert.Equal(t, want.Digest, r.Digest, "the same parts, the same digest")
		})
	}
	dir := t.TempDir()
	status, _, stderr := call3(t, "pack", "-o", filepath.Join(dir, "layout"), "-from", dir)
	assert.Equal(t, 2, status)
	assert.Contains(t, stderr, "it has no file for -uki: want what mkosi writes with SplitArtifacts=uki,partitions")
	for _, name := range []string{"a.efi", "b.efi"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), read(t, w.path("uki2")), 0o600))
	}
	status, _, stderr = call3(t, "pack", "-o", filepath.Join(dir, "layout"), "-from", dir)
	assert.Equal(t, 2, status)
	assert.Contains(t, stderr, "a.efi or "+filepath.Join(dir, "b.efi")+"? say -uki")
	ok(t, "pack", "-o", filepath.Join(dir, "layout"), "-from", dir, "-uki", w.path("uki2"), "-root", w.path("root2"), "-tree", w.path("tree2"))
}

// repart has systemd-repart make an image of a root file system in a directory of its own, and
// returns that and the root hash.
func (w workshop) repart(t *testing.T, tools testtools.Root, root, seed string) (dir, hash string) {
	t.Helper()
	dir, err := os.MkdirTemp(string(w), "out")
	require.NoError(t, err)
	defs := filepath.Join(dir, "defs")
	require.NoError(t, os.Mkdir(defs, 0o700))
	for _, f := range []string{"key.pem", "cert.pem"} {
		w.write(t, f, read(t, filepath.Join("..", "..", "verity", "testdata", "signature", f)))
	}
	for name, text := range map[string]string{
		"10-root": "Type=root-x86-64\nCopyBlocks=" + w.path(root) + "\nVerity=data\nSizeMinBytes=8M\nSizeMaxBytes=8M\n",
		"20-tree": "Type=root-x86-64-verity\nVerity=hash\nSizeMinBytes=4M\n",
		"30-sig":  "Type=root-x86-64-verity-sig\nVerity=signature\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(defs, name+".conf"), []byte("[Partition]\nVerityMatchKey=root\nSplitName=%t.%U\n"+text), 0o600))
	}
	text := tools.Run(t, string(w), "systemd-repart", "--offline=yes", "--empty=create", "--size=auto", "--dry-run=no", "--split=yes", "--json=short", "--no-pager",
		"--seed="+seed, "--definitions="+defs, "--private-key="+w.path("key.pem"), "--certificate="+w.path("cert.pem"), filepath.Join(dir, "acme_2.raw"))
	var partitions []struct {
		RootHash string `json:"roothash"`
	}
	require.NoError(t, json.Unmarshal([]byte(text[strings.Index(text, "["):]), &partitions), text)
	for _, p := range partitions {
		if len(p.RootHash) == 64 {
			hash = p.RootHash
		}
	}
	require.NotEmpty(t, hash, text)
	return dir, hash
}

// systemd-repart splits off what pack takes as it is: root partition, tree and signature.
func TestPackFromRepart(t *testing.T) {
	const seed = "11111111-2222-3333-4444-555555555555"
	for name, debian := range map[string]func(testing.TB) testtools.Root{"trixie": testtools.Trixie, "forky": testtools.Forky} {
		t.Run(name, func(t *testing.T) {
			tools, w := debian(t), newWorkshop(t)
			out, hash := w.repart(t, tools, "root2", seed)
			image := uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), Cmdline: "roothash=" + hash,
				OSRelease: []byte("ID=debian\nIMAGE_ID=acme\nIMAGE_VERSION=2\n")}
			require.NoError(t, os.WriteFile(filepath.Join(out, "acme_2.efi"), assembled(t, &image), 0o600))
			var r packResult
			object(t, &r, "pack", "-o", w.path("layout"), "-from", out)
			assert.Equal(t, hash, r.RootHash)
			var i inspectResult
			object(t, &i, "inspect", w.path("layout"), "2", "-check")
			sizes := map[string]int64{}
			for _, l := range i.Layers {
				sizes[l.MediaType] = l.Size
			}
			assert.EqualValues(t, 8<<20, sizes[release.MediaTypeRoot])
			assert.EqualValues(t, 72<<10, sizes[release.MediaTypeTree], "of a partition of 4 MiB")
			assert.NotZero(t, sizes[release.MediaTypeRootHashSignature])

			// The salt comes from the seed, as docs/verity-diff.md says.
			salt := func(dir string) string {
				found, err := filepath.Glob(filepath.Join(dir, "*-verity.*.raw"))
				require.NoError(t, err)
				require.Len(t, found, 1)
				superblock, err := verity.ReadSuperblock(bytes.NewReader(read(t, found[0])), 0)
				require.NoError(t, err)
				return hex.EncodeToString(superblock.Salt)
			}
			same, _ := w.repart(t, tools, "root1", seed)
			other, _ := w.repart(t, tools, "root2", "21111111-2222-3333-4444-555555555555")
			assert.Equal(t, salt(out), salt(same))
			assert.NotEqual(t, salt(out), salt(other))
		})
	}
}

// salted makes version 2 anew with another salt, as an image builder without a fixed seed does.
func (w workshop) salted(t *testing.T, p verity.Params) {
	t.Helper()
	f, err := os.Create(w.path("tree2"))
	require.NoError(t, err)
	hash, err := verity.Format(t.Context(), f, bytes.NewReader(read(t, w.path("root2"))), p)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	w.write(t, "hash2", []byte(hex.EncodeToString(hash)))
	w.write(t, "uki2", assembled(t, &uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), Cmdline: "roothash=" + hex.EncodeToString(hash),
		OSRelease: []byte("ID=debian\nIMAGE_ID=acme\nIMAGE_VERSION=2\n")}))
}

// A new salt costs hashing the old root file system again, and nothing more is fetched than with
// the same one; other block sizes cost all of it.
func TestPullNewSalt(t *testing.T) {
	for name, tt := range map[string]struct {
		params verity.Params
		want   *patched
	}{
		"salt":            {verity.Params{Salt: []byte{9}, UUID: [16]byte{2}}, &patched{Reused: 63 * 4096, Fetched: 4096, Requests: 1, Rehashed: true}},
		"hash block size": {verity.Params{HashBlockSize: 8192, Salt: []byte{1}, UUID: [16]byte{2}}, &patched{Reused: 63 * 4096, Fetched: 4096, Requests: 1, Rehashed: true}},
		"data block size": {verity.Params{DataBlockSize: 8192, Salt: []byte{1}, UUID: [16]byte{2}}, &patched{Fetched: 64 * 4096, Requests: 1, Rehashed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkshop(t)
			w.salted(t, tt.params)
			w.pack(t, "2")
			w.sign(t, "2")
			server := httptest.NewServer(http.FileServer(http.Dir(w.path("layout"))))
			defer server.Close()
			status, stdout, stderr := call3(t, "pull", server.URL, "2", "-key", w.path("build.pub"), "-arch", "amd64", "-o", w.path("to"), "-old-root", w.path("root1"), "-old-tree", w.path("tree1"), "-json")
			require.Zero(t, status, stderr)
			assert.Contains(t, stderr, "the old root file system is hashed again")
			var r pullResult
			decode(t, stdout, &r)
			assert.Equal(t, tt.want, r.Patch)
			assert.Contains(t, ok(t, "inspect", w.path("to"), "2", "-check"), "belong together")
		})
	}
	// What cannot be compared is fetched whole, unless it was to go to a file of its own.
	w := newWorkshop(t)
	w.salted(t, verity.Params{Salt: []byte{9}, UUID: [16]byte{2}})
	w.pack(t, "2")
	w.sign(t, "2")
	w.write(t, "short", read(t, w.path("root1"))[:4096])
	pull := []string{"pull", w.path("layout"), "2", "-key", w.path("build.pub"), "-arch", "amd64", "-o", w.path("to"), "-old-root", w.path("short"), "-old-tree", w.path("tree1")}
	status, _, stderr := call3(t, append(pull, "-o-root", w.path("new-root"))...)
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "the old root file system cannot be compared with the new one: its tree is over 262144 bytes, it has 4096")
	assert.NoFileExists(t, w.path("new-root"))
	status, _, stderr = call3(t, pull...)
	assert.Zero(t, status, stderr)
	assert.Contains(t, stderr, "all of the root file system is fetched")
	ok(t, "inspect", w.path("to"), "2", "-check")
}

// A layer that is larger than its file system, as others pack them, comes with what is behind it,
// and is fetched only if that is something.
func TestPullLargerLayer(t *testing.T) {
	for name, behind := range map[string][]byte{"zeros": make([]byte, 1<<20), "something": bytes.Repeat([]byte{5}, 8192)} {
		t.Run(name, func(t *testing.T) {
			w := newWorkshop(t)
			hash, err := hex.DecodeString(string(read(t, w.path("hash2"))))
			require.NoError(t, err)
			part := func(name string) *bytes.Reader { return bytes.NewReader(read(t, w.path(name))) }
			_, err = release.Pack(w.path("layout"), "2", &release.Release{ID: "acme", Version: "2", Architecture: "amd64", UKI: part("uki2"), Tree: part("tree2"), RootHash: hash,
				Root: bytes.NewReader(append(read(t, w.path("root2")), behind...))})
			require.NoError(t, err)
			w.sign(t, "2")
			served := 0
			files := http.FileServer(http.Dir(w.path("layout")))
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					served++
				}
				files.ServeHTTP(rw, r)
			}))
			defer server.Close()
			pull := []string{"pull", server.URL, "2", "-key", w.path("build.pub"), "-arch", "amd64", "-o", w.path("to"), "-old-root", w.path("root1"), "-old-tree", w.path("tree1")}
			ok(t, pull...)
			assert.Equal(t, name != "zeros", served > 1, "%d ranges", served)
			ok(t, "inspect", w.path("to"), "2", "-check")
			ok(t, append(pull, "-o-root", w.path("new-root"))...)
			assert.Equal(t, read(t, w.path("root2")), read(t, w.path("new-root")), "what is installed is the file system")
		})
	}
}
