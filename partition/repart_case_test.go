package partition

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// repartCase is a set of definition files and the disk that they are for.
type repartCase struct {
	Name  string            `json:"name"`
	Files map[string]string `json:"files"` // by path; "-> X" is a symbolic link to X
	// SectorSize is --sector-size; 0: not given, which is a disk with sectors of 512 bytes.
	SectorSize int      `json:"sectorSize,omitempty"`
	Size       int64    `json:"size"`
	Force      string   `json:"forceArchitecture,omitempty"`
	Disk       *oldDisk `json:"disk,omitempty"` // nil: a new one
}

// oldDisk is a disk in use.
type oldDisk struct {
	FirstUsableLBA uint64         `json:"firstUsableLBA,omitempty"`
	Partitions     []oldPartition `json:"partitions"`
}

type oldPartition struct {
	Number   int         `json:"number,omitempty"` // 0: its place in the list
	Type     osmith.GUID `json:"type"`
	ID       osmith.GUID `json:"id"`
	Name     string      `json:"name,omitempty"`
	FirstLBA uint64      `json:"firstLBA"`
	LastLBA  uint64      `json:"lastLBA"`
}

// placed is where a partition is, in the order of the disk.
type placed struct {
	Number int    `json:"number"`
	Type   string `json:"type"`
	ID     string `json:"id"` // "": it comes from a root hash
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// repartAnswer is what becomes of the disk. Refused: nothing, and Crashed: systemd-repart fails an
// assertion of its own.
type repartAnswer struct {
	Refused bool     `json:"refused,omitempty"`
	Crashed bool     `json:"crashed,omitempty"`
	Placed  []placed `json:"placed,omitempty"`

	output string
}

var usedDiskID = osmith.MustParseGUID("99999999-2222-4333-8444-555555555555")

func (c *repartCase) sectors() int { return max(c.SectorSize, 512) }

func (c *repartCase) table() *Table {
	t := &Table{DiskID: usedDiskID, SectorSize: c.sectors(), Size: c.Size, FirstUsableLBA: c.Disk.FirstUsableLBA, AllowUnaligned: true}
	for i, p := range c.Disk.Partitions {
		t.Partitions = append(t.Partitions, Partition{Number: cmp.Or(p.Number, i+1), Type: p.Type, ID: p.ID, Name: p.Name, FirstLBA: p.FirstLBA, LastLBA: p.LastLBA})
	}
	// as it is read
	slices.SortFunc(t.Partitions, func(a, b Partition) int { return a.Number - b.Number })
	return t
}

func (c *repartCase) fs() fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range c.Files {
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			out[name] = &fstest.MapFile{Data: []byte(target), Mode: 0o777 | os.ModeSymlink}
			continue
		}
		out[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return out
}

func (c *repartCase) String() string {
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// ours is what this package makes of a case. Other programs make the file systems.
func (c *repartCase) ours() (repartAnswer, error) {
	r, err := ReadRepart(c.fs(), RepartOptions{ForceArchitecture: c.Force})
	if err != nil {
		return repartAnswer{Refused: true}, err
	}
	l := r.Layout
	l.Seed, l.LayoutOnly, l.SectorSize = repartSeed, true, c.sectors()
	if c.SectorSize == 0 {
		l.FileSystemSectorSize = 4096
	}
	for i := range l.Partitions {
		if f := l.Partitions[i].Fill; f != nil && f.File != "" {
			// a path such as /sparse/N has N bytes
			var n int64
			if _, err := fmt.Sscanf(path.Base(f.File), "%d", &n); err != nil {
				return repartAnswer{}, err
			}
			if f.Encrypt != nil {
				n += LUKSOverhead
			}
			l.Partitions[i].Content = faultio.NewDisk(n)
		}
	}
	var im *Image
	if c.Disk == nil {
		l.Size = c.Size
		im, err = Plan(l)
	} else {
		im, err = PlanOnto(c.table(), l)
	}
	if err != nil {
		return repartAnswer{Refused: true}, err
	}
	var out repartAnswer
	for i, p := range im.Table.Partitions {
		off, size := im.Table.Extent(i)
		name, ok := systemTypeName(p.Type)
		if !ok {
			name = p.Type.String()
		}
		one := placed{Number: p.Number, Type: name, ID: p.ID.String(), Name: p.Name, Offset: off, Size: size}
		if f := im.Fill(i); f != nil && f.Verity != nil && f.Verity.Role != VeritySignature {
			one.ID = ""
		}
		out.Placed = append(out.Placed, one)
	}
	slices.SortFunc(out.Placed, func(a, b placed) int { return int(a.Offset>>9) - int(b.Offset>>9) })
	return out, nil
}

// repartTool runs systemd-repart in a directory, without making any file system.
type repartTool struct {
	root testtools.Root
	dir  string
}

func newRepartTool(t testing.TB) *repartTool {
	root := testtools.Forky(t)
	r := &repartTool{root, t.TempDir()}
	// It asks for the programs of file systems before it plans, but in a dry run it does not call
	// them.
	bin := filepath.Join(r.dir, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	for _, name := range []string{"mkfs.ext2", "mkfs.ext4", "mkfs.btrfs", "mkfs.xfs", "mkfs.erofs", "mksquashfs", "mkfs.f2fs"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nexit 1\n"), 0o755))
	}
	return r
}

// theirs is what systemd-repart makes of a case.
func (r *repartTool) theirs(t testing.TB, c *repartCase) repartAnswer {
	t.Helper()
	definitions, image := filepath.Join(r.dir, "repart.d"), filepath.Join(r.dir, "disk.img")
	require.NoError(t, os.RemoveAll(definitions))
	for name, text := range c.Files {
		name = filepath.Join(definitions, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			require.NoError(t, os.Symlink(target, name))
			continue
		}
		for at := range strings.SplitSeq(text, "CopyBlocks=/sparse/") {
			if n, _, ok := strings.Cut(at, "\n"); ok && len(n) > 0 && n[0] >= '0' && n[0] <= '9' {
				file := filepath.Join(r.dir, n)
				require.NoError(t, os.WriteFile(file, nil, 0o644))
				var size int64
				_, err := fmt.Sscan(n, &size)
				require.NoError(t, err)
				require.NoError(t, os.Truncate(file, size))
			}
		}
		text = strings.ReplaceAll(text, "CopyBlocks=/sparse/", "CopyBlocks="+r.dir+"/")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	require.NoError(t, os.RemoveAll(image))
	f, err := os.Create(image)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(c.Size))
	args := []string{"PATH=/usr/sbin:/usr/bin:" + r.dir + "/bin", "systemd-repart", "--dry-run=yes", "--seed=" + repartSeed.String(),
		"--definitions=" + definitions, "--offline=yes", "--json=short"}
	if c.SectorSize != 0 {
		args = append(args, fmt.Sprintf("--sector-size=%d", c.SectorSize))
	}
	if c.Force != "" {
		args = append(args, "--architecture="+c.Force)
	}
	if c.Disk == nil {
		args = append(args, "--empty=force", image)
	} else {
		require.NoError(t, c.table().Write(f), c.String())
		args = append(args, "--empty=refuse", image)
	}
	out, err := r.root.Try(t, r.dir, "env", args...)
	if err != nil {
		return repartAnswer{Refused: true, Crashed: strings.Contains(err.Error(), "Assertion"), output: err.Error()}
	}
	var list []struct {
		Number int    `json:"partno"`
		Type   string `json:"type"`
		Label  string `json:"label"`
		UUID   string `json:"uuid"`
		Offset int64  `json:"offset"`
		Size   int64  `json:"raw_size"`
		File   string `json:"file"`
	}
	for line := range strings.Lines(out) {
		if line[0] == '[' {
			require.NoError(t, json.Unmarshal([]byte(line), &list), out)
		}
	}
	require.NotNil(t, list, "%s\n%s", c, out)
	answer := repartAnswer{output: out}
	for _, p := range list {
		if p.Label == "-" {
			p.Label = ""
		}
		if p.UUID == (osmith.GUID{}).String() {
			p.UUID = ""
		}
		if p.File == "" { // not in the definitions: what it shows is not what is on the disk
			for _, old := range c.Disk.Partitions {
				if int64(old.FirstLBA)*int64(c.sectors()) == p.Offset {
					p.Label = old.Name
				}
			}
		}
		answer.Placed = append(answer.Placed, placed{p.Number + 1, p.Type, p.UUID, p.Label, p.Offset, p.Size})
	}
	return answer
}

// compare fails the test where the two answers differ.
func (c *repartCase) compare(t testing.TB, theirs repartAnswer) {
	t.Helper()
	if theirs.Crashed {
		return
	}
	ours, err := c.ours()
	if theirs.Refused {
		require.Error(t, err, "systemd-repart refuses %s\n%s", c, theirs.output)
		return
	}
	require.NoError(t, err, "%s\n%s", c, theirs.output)
	require.Equal(t, lines(theirs.Placed), lines(ours.Placed), "%s\n%s", c, theirs.output)
}

func lines(all []placed) string {
	var out strings.Builder
	for _, p := range all {
		fmt.Fprintf(&out, "%12d %12d  %2d %s  %s  %q\n", p.Offset, p.Size, p.Number, p.Type, p.ID, p.Name)
	}
	return out.String()
}
