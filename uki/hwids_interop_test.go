package uki_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// writeHWIDs fills a directory with random descriptions: devices in several files, ids in several
// devices.
func writeHWIDs(t *testing.T, r *rand.Rand, dir string) {
	names := []string{"Alpha", "Beta", "", "Ünïcode", "联想", "zeta", "Z"}
	var pool [6]osmith.GUID
	for i := range pool {
		for j := range pool[i] {
			pool[i][j] = byte(r.Uint32())
		}
	}
	for i := range 1 + r.IntN(8) {
		d := map[string]any{"name": names[r.IntN(len(names))]}
		if r.IntN(2) == 0 {
			d["type"], d["compatible"] = "devicetree", fmt.Sprint("v,", r.IntN(3))
		} else {
			d["type"], d["fwid"] = "uefi-fw", names[r.IntN(len(names))]
		}
		ids := make([]osmith.GUID, 1+r.IntN(5))
		for j := range ids {
			ids[j] = pool[r.IntN(len(pool))]
		}
		d["hwids"] = ids
		b, err := json.Marshal(d)
		require.NoError(t, err)
		sub := filepath.Join(dir, []string{"", "a", "a-b", "a.json.d", "B/c"}[r.IntN(5)])
		require.NoError(t, os.MkdirAll(sub, 0o755))
		name := []string{"a", "B", ".hidden", "a-b", "ü"}[r.IntN(5)]
		require.NoError(t, os.WriteFile(filepath.Join(sub, fmt.Sprint(name, i, ".json")), b, 0o644))
	}
}

// ukify writes the same .hwids for the descriptions that systemd ships, and for random ones.
func TestHWIDsAgainstUkify(t *testing.T) {
	root := testtools.Forky(t)
	n, seed := gridSize(t)
	r := rand.New(rand.NewPCG(seed, 262))
	const shipped = "usr/lib/systemd/boot/hwids/aa64"
	work := t.TempDir()
	compare := func(dir, inTree string) {
		ids, err := hwid.Read(os.DirFS(dir))
		require.NoError(t, err)
		ours, err := hwid.Encode(ids)
		require.NoError(t, err)
		require.Equal(t, ukifySection(t, root, work, ".hwids", "--hwids="+inTree), ours, dir)
		back, err := hwid.Parse(ours)
		require.NoError(t, err)
		require.Equal(t, ids, back)
	}
	compare(root.Path(shipped), "/"+shipped)
	for i := range n / 2 {
		dir := filepath.Join(work, fmt.Sprint(i))
		writeHWIDs(t, r, dir)
		compare(dir, dir)
	}
}

// ukifySection is a section of the add-on that ukify builds with those options.
// dir is the one that ukify sees.
func ukifySection(t *testing.T, root testtools.Root, dir, name string, options ...string) []byte {
	out := filepath.Join(dir, "out.efi")
	root.Run(t, dir, "ukify", append([]string{"build", "--stub=/usr/lib/systemd/boot/efi/addonx64.efi.stub", "--cmdline=x", "--output=" + out}, options...)...)
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	s, ok := f.Section(name)
	require.True(t, ok, name)
	return b[s.Offset:][:s.VirtualSize]
}
