package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/testtools"
)

const (
	testUUID = "00112233-4455-6677-8899-aabbccddeeff"
	testSize = 300 * 4096
	keyFile  = "../../verity/testdata/signature/key.pem"
	certFile = "../../verity/testdata/signature/cert.pem"
)

func call3(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = program.Run(t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

// ok runs what must work and returns what it prints.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := call3(t, args...)
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	return stdout
}

// object decodes the one object that -json prints.
func object(t *testing.T, text string, into any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(into), text)
	require.False(t, dec.More(), "one object")
}

// image is a directory with data of 300 different blocks.
func image(t *testing.T) (dir, data string) {
	t.Helper()
	dir = t.TempDir()
	data = filepath.Join(dir, "data")
	b := make([]byte, testSize)
	for i := range b {
		b[i] = byte(i / 4096 * (i%251 + 1))
	}
	require.NoError(t, os.WriteFile(data, b, 0o600))
	return dir, data
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

// damage overwrites bytes with others.
func damage(t *testing.T, name string, off int64, n int) {
	t.Helper()
	b := read(t, name)
	for i := range n {
		b[off+int64(i)] ^= 0x5a
	}
	require.NoError(t, os.WriteFile(name, b, 0o600))
}

// names lists a directory, to find what was left behind.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestFormatAsVeritysetup compares files and output with those of veritysetup 2.8.
func TestFormatAsVeritysetup(t *testing.T) {
	root := testtools.Forky(t)
	for name, flags := range map[string][]string{
		"plain":         {"-salt", "0102"},
		"no-salt":       {"--salt=-"},
		"fec":           {"-salt", "00", "-fec", "F"},
		"fec-24":        {"-salt", "00", "-fec", "F", "-fec-roots=24"},
		"sha512":        {"-salt", "00", "-hash", "sha512", "-format=0"},
		"blocks":        {"-salt", "00", "-data-block-size", "1024", "-hash-block-size", "512"},
		"no-superblock": {"-salt", "00", "-no-superblock"},
		"offset":        {"-salt", "00", "-hash-offset", "8192"},
		"fec-offset":    {"-salt", "00", "-hash-offset", "8192", "-fec", "F"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, data := image(t)
			tree := filepath.Join(dir, "tree")
			replace := strings.NewReplacer("F", filepath.Join(dir, "fec"))
			ours := []string{"format", "-data", data, "-tree", tree, "-uuid", testUUID}
			theirs := []string{"format", data, tree, "--uuid=" + testUUID}
			long := map[string]string{"-fec": "--fec-device"}
			for i := 0; i < len(flags); i++ {
				ours = append(ours, replace.Replace(flags[i]))
				switch f := flags[i]; {
				case long[f] != "":
					theirs = append(theirs, long[f])
				case strings.HasPrefix(f, "-") && !strings.HasPrefix(f, "--"):
					theirs = append(theirs, "-"+f)
				default:
					theirs = append(theirs, replace.Replace(f))
				}
			}
			got := ok(t, ours...)
			gotTree := read(t, tree)
			require.NoError(t, os.Remove(tree))
			var gotParity []byte
			if strings.HasPrefix(name, "fec") {
				gotParity = read(t, filepath.Join(dir, "fec"))
				require.NoError(t, os.Remove(filepath.Join(dir, "fec")))
			}
			want := root.Run(t, dir, "veritysetup", theirs...)
			assert.Equal(t, want, got)
			require.True(t, bytes.Equal(read(t, tree), gotTree), "trees differ")
			if gotParity != nil {
				require.True(t, bytes.Equal(read(t, filepath.Join(dir, "fec")), gotParity), "parity differs")
			}
		})
	}
}

// TestShared has data and tree in one file, with and without a superblock.
func TestShared(t *testing.T) {
	for _, extra := range [][]string{nil, {"-no-superblock", "-salt", "00"}} {
		dir, data := image(t)
		before := read(t, data)
		var r formatResult
		object(t, ok(t, append([]string{"format", "-json", "-data", data, "-tree", data, "-hash-offset", "1228800"}, extra...)...), &r)
		require.Equal(t, before, read(t, data)[:testSize])
		require.Len(t, read(t, data), testSize+int(r.TreeSize))
		verify := append([]string{"verify", "-data", data, "-tree", data, "-hash-offset", "1228800", "-root", r.RootHash}, extra...)
		require.Empty(t, ok(t, verify...))
		require.Equal(t, []string{"data"}, names(t, dir))

		// A failure leaves the file as it was.
		require.NoError(t, os.Truncate(data, testSize))
		status, _, stderr := call3(t, "format", "-data", data, "-tree", data, "-hash-offset", "1228800", "-fec", filepath.Join(dir, "x/y"))
		require.Equal(t, 2, status, stderr)
		require.Equal(t, before, read(t, data))
	}
}

func TestRandomSaltAndUUID(t *testing.T) {
	dir, data := image(t)
	var a, b formatResult
	for _, r := range []*formatResult{&a, &b} {
		object(t, ok(t, "format", "-data", data, "--json", "-tree", filepath.Join(dir, "t")), r)
	}
	require.Len(t, a.Salt, 64)
	require.NotEqual(t, a.Salt, b.Salt)
	require.NotEqual(t, a.UUID, b.UUID)
	require.Equal(t, "4", a.UUID[14:15])
	object(t, ok(t, "format", "-data", data, "-json", "-tree", filepath.Join(dir, "t"), "-salt", ""), &a)
	require.Empty(t, a.Salt)
}

func TestVerifyAndRepair(t *testing.T) {
	dir, data := image(t)
	tree, parity, fixed := filepath.Join(dir, "tree"), filepath.Join(dir, "fec"), filepath.Join(dir, "fixed")
	before := read(t, data)
	var f formatResult
	object(t, ok(t, "format", "-data", data, "-tree", tree, "-fec", parity, "-json"), &f)
	beforeTree := read(t, tree)
	files := []string{"-data", data, "-tree", tree, "-root", f.RootHash, "-fec", parity}
	verify, repair := append([]string{"verify", "-json"}, files...), append([]string{"repair", "-json"}, files...)

	var v verifyResult
	object(t, ok(t, verify...), &v)
	require.True(t, v.Verified)
	require.Equal(t, cli.Header{Schema: schema, Verb: "verify"}, v.Header)

	damage(t, data, 5*4096+7, 3)
	damage(t, tree, 4096, 1)
	status, stdout, stderr := call3(t, verify...)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "verity: image: ")
	object(t, stdout, &v)
	require.False(t, v.Verified)
	require.Equal(t, []string{"tree", "data"}, v.Findings)
	require.Equal(t, []blocks{{0, 5, 1}, {2, 0, 1}}, v.Ranges)

	var r repairResult
	object(t, ok(t, append(repair, "-o", fixed)...), &r)
	require.Equal(t, before, read(t, fixed))
	require.NotEqual(t, before, read(t, data), "only the copy is repaired")
	require.Equal(t, []blocks{{0, 5, 1}}, r.Repaired)
	require.Equal(t, []blocks{{2, 0, 1}}, r.TreeLeft)

	object(t, ok(t, repair...), &r)
	require.Equal(t, before, read(t, data))
	require.Equal(t, beforeTree, read(t, tree))
	require.Equal(t, []blocks{{0, 5, 1}, {2, 0, 1}}, r.Repaired)

	// More than the code can carry: no file, exit 1.
	require.NoError(t, os.Remove(fixed))
	damage(t, data, 0, 20*4096)
	status, stdout, _ = call3(t, append(repair, "-o", fixed)...)
	require.Equal(t, 1, status)
	object(t, stdout, &r)
	require.False(t, r.Intact)
	require.Positive(t, r.UnrepairedBlocks)
	require.Equal(t, []string{"data", "fec", "tree"}, names(t, dir))

	require.NoError(t, os.WriteFile(data, before, 0o600))
	damage(t, parity, 0, 1)
	status, stdout, _ = call3(t, verify...)
	require.Equal(t, 1, status)
	object(t, stdout, &v)
	require.Equal(t, []string{"fec"}, v.Findings)
}

func TestDiff(t *testing.T) {
	dir, data := image(t)
	old, fresh := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	ok(t, "format", "-data", data, "-tree", old, "-salt", "00")
	damage(t, data, 10*4096, 1)
	ok(t, "format", "-data", data, "-tree", fresh, "-salt", "00")
	var d diffResult
	object(t, ok(t, "diff", old, "-json", fresh), &d)
	require.Equal(t, int64(300), d.Blocks)
	require.Equal(t, int64(1), d.Totals["fetch"])
	require.Contains(t, ok(t, "diff", old, fresh), "10 fetch")
	ok(t, "format", "-data", data, "-tree", fresh, "-salt", "01")
	status, _, stderr := call3(t, "diff", old, fresh)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "salt")
}

func TestSign(t *testing.T) {
	dir := t.TempDir()
	partition, der := filepath.Join(dir, "partition"), filepath.Join(dir, "der")
	root := strings.Repeat("ab", 32)
	sign := []string{"sign", "-root", root, "-key", keyFile, "-cert", certFile, "-o"}
	var r signResult
	object(t, ok(t, append(sign, partition, "-json")...), &r)
	require.Equal(t, int64(4096), r.Size)
	require.True(t, bytes.HasPrefix(read(t, partition), []byte(`{"rootHash":"`+root+`"`)))
	require.Empty(t, ok(t, append(sign, der, "-der")...))
	testtools.Require(t, "openssl")
	content := filepath.Join(dir, "content")
	require.NoError(t, os.WriteFile(content, []byte(root), 0o600))
	testtools.Run(t, "openssl", "smime", "-verify", "-binary", "-inform", "der", "-in", der, "-content", content,
		"-CAfile", certFile, "-no_check_time", "-purpose", "any")
}

func TestProgress(t *testing.T) {
	dir, data := image(t)
	status, _, stderr := call3(t, "format", "-data", data, "-tree", filepath.Join(dir, "t"), "-progress", "json")
	require.Zero(t, status)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	require.JSONEq(t, `{"verb": "format", "done": 1228800, "total": 1228800}`, lines[len(lines)-1])
	_, _, stderr = call3(t, "format", "-data", data, "-tree", filepath.Join(dir, "t"), "-progress", "bar")
	require.Contains(t, stderr, "1 / 1 MiB")
}
