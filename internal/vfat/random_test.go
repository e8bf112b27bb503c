package vfat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/vfat"
)

// predicted is a map of what a volume has, which operations change as a file system should.
type predicted struct {
	contents
	rng     *rand.Rand
	cluster int64
	made    int
}

// fold compares names as the driver does.
func fold(name string) string { return strings.ToUpper(name) }

// stored is the path of a file or directory in its own case, "" if there is none.
func (p *predicted) stored(name string) string {
	for have := range p.contents {
		if fold(strings.TrimSuffix(have, "/")) == fold(name) {
			return have
		}
	}
	return ""
}

// below has the names in a directory, with all that is in them.
func (p *predicted) below(dir string) []string {
	var all []string
	for have := range p.contents {
		if have != dir && strings.HasPrefix(have, dir) {
			all = append(all, have)
		}
	}
	return all
}

// any is one of the names: of a file or of a directory.
func (p *predicted) any(dir bool) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(p.contents)) {
		if strings.HasSuffix(name, "/") == dir {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.TrimSuffix(all[p.rng.IntN(len(all))], "/")
}

// fresh is a name that there is not, in any directory.
func (p *predicted) fresh() string {
	p.made++
	form := []string{"os_%d.1+3-0.efi", "F%d.CNF", "lower%d.txt", "a rather long name, %d times [as such].conf", "Two.Dots.%d.x", ".hidden%d", "%d", "ü%d.efi"}
	name := fmt.Sprintf(form[p.rng.IntN(len(form))], p.made)
	if p.rng.IntN(12) == 0 {
		name = strings.Repeat("x", 205) + name
	}
	if p.rng.IntN(3) == 0 {
		return name
	}
	return path.Join(p.any(true), name)
}

// step does one operation, and returns what it was. It fails the test where the volume says
// something else than the map.
func (p *predicted) step(t *testing.T, v *vfat.Volume) string {
	name := p.any(p.rng.IntN(6) == 0)
	if p.rng.IntN(4) == 0 {
		name = strings.ToLower(name) // each name is one in any case
	}
	switch p.rng.IntN(10) {
	case 0, 1, 2, 3:
		content := make([]byte, p.rng.IntN(int(5*p.cluster)))
		if p.rng.IntN(4) == 0 {
			content = content[:len(content)/int(p.cluster)*int(p.cluster)]
		}
		for i := range content {
			content[i] = byte(p.rng.Uint32())
		}
		return p.create(t, v, p.fresh(), content)
	case 4:
		return p.create(t, v, name, []byte("there is one already"))
	case 5:
		return p.truncate(t, v, name)
	case 6:
		return p.rename(t, v, name, p.fresh())
	case 7:
		return p.rename(t, v, name, p.any(p.rng.IntN(6) == 0))
	case 8:
		return p.remove(t, v, name)
	case 9:
		return p.exchange(t, v, name, p.any(p.rng.IntN(6) == 0))
	}
	return p.mkdir(t, v, p.fresh())
}

func (p *predicted) create(t *testing.T, v *vfat.Volume, name string, content []byte) string {
	what := fmt.Sprintf("create %s of %d bytes", name, len(content))
	err := v.Create(name, bytes.NewReader(content))
	switch {
	case p.stored(name) != "":
		require.ErrorIs(t, err, fs.ErrExist, what)
	case errors.Is(err, vfat.ErrNoSpace):
		// What fitted is there, if its name is.
		d, err := vfat.ReadBack(v, name)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		require.NoError(t, err, what)
		require.Zero(t, int64(len(d))%p.cluster, what)
		require.Less(t, len(d), max(len(content), 1), what)
		p.contents[name] = content[:len(d)]
	default:
		require.NoError(t, err, what)
		p.contents[name] = content
	}
	return what
}

func (p *predicted) truncate(t *testing.T, v *vfat.Volume, name string) string {
	what := "truncate " + name
	err := v.Truncate(name)
	switch have := p.stored(name); {
	case have == "":
		require.ErrorIs(t, err, fs.ErrNotExist, what)
	case strings.HasSuffix(have, "/"):
		require.ErrorIs(t, err, vfat.ErrIsDirectory, what)
	default:
		require.NoError(t, err, what)
		p.contents[have] = []byte{}
	}
	return what
}

func (p *predicted) exchange(t *testing.T, v *vfat.Volume, a, b string) string {
	what := fmt.Sprintf("exchange %s and %s", a, b)
	err := v.Exchange(a, b)
	first, second := p.stored(a), p.stored(b)
	switch {
	case first == "" || second == "":
		require.ErrorIs(t, err, fs.ErrNotExist, what)
	case strings.HasSuffix(first, "/") || strings.HasSuffix(second, "/"):
		require.ErrorIs(t, err, vfat.ErrIsDirectory, what)
	default:
		require.NoError(t, err, what)
		p.contents[first], p.contents[second] = p.contents[second], p.contents[first]
	}
	return what
}

func (p *predicted) remove(t *testing.T, v *vfat.Volume, name string) string {
	what := "remove " + name
	err := v.Unlink(name)
	switch have := p.stored(name); {
	case have == "":
		require.ErrorIs(t, err, fs.ErrNotExist, what)
	case strings.HasSuffix(have, "/") && len(p.below(have)) > 0:
		require.ErrorIs(t, err, vfat.ErrNotEmpty, what)
	default:
		require.NoError(t, err, what)
		delete(p.contents, have)
	}
	return what
}

func (p *predicted) mkdir(t *testing.T, v *vfat.Volume, name string) string {
	what := "mkdir " + name
	if err := v.Mkdir(name); !errors.Is(err, vfat.ErrNoSpace) {
		require.NoError(t, err, what)
		p.contents[name+"/"] = nil
	}
	return what
}

func (p *predicted) rename(t *testing.T, v *vfat.Volume, from, to string) string {
	what := fmt.Sprintf("rename %s to %s", from, to)
	err := v.Rename(from, to)
	old, e := p.stored(from), p.stored(to)
	dir := strings.HasSuffix(old, "/")
	switch {
	case old == "":
		require.ErrorIs(t, err, fs.ErrNotExist, what)
	case old == e:
		require.NoError(t, err, what)
	case e == "" && dir && strings.HasPrefix(fold(to), fold(old)):
		require.ErrorIs(t, err, fs.ErrInvalid, what)
	case e == "" && errors.Is(err, vfat.ErrNoSpace):
	case e == "":
		require.NoError(t, err, what)
		for _, name := range p.below(old) {
			if dir {
				p.contents[to+"/"+name[len(old):]] = p.contents[name]
				delete(p.contents, name)
			}
		}
		if dir {
			to += "/"
		}
		p.contents[to] = p.contents[old]
		delete(p.contents, old)
	case dir && strings.HasSuffix(e, "/"):
		require.ErrorIs(t, err, fs.ErrExist, what)
	case dir:
		require.ErrorIs(t, err, vfat.ErrNotDirectory, what)
	case strings.HasSuffix(e, "/"):
		require.ErrorIs(t, err, vfat.ErrIsDirectory, what)
	default:
		require.NoError(t, err, what)
		p.contents[e] = p.contents[old]
		delete(p.contents, old)
	}
	return what
}

// After each of many operations every reader sees what a map predicts, and a volume with which
// nothing is wrong; and all writes were of whole sectors, none of the boot sector.
func TestRandomOperations(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.String(), func(t *testing.T) {
			d := build(t, k)
			requireContents(t, d, k, files, "as built")
			syncs := d.syncs
			steps := 150
			if k.fat == 32 {
				steps = 40
			}
			if testing.Short() {
				steps /= 4
			}
			v := mount(t, d)
			p := &predicted{contents: files.clone(), rng: rand.New(rand.NewPCG(1, uint64(k.cluster)+uint64(k.fat))), cluster: k.cluster}
			for i := range steps {
				if i%50 == 49 {
					v = mount(t, d)
				}
				what := p.step(t, v)
				requireContents(t, d, k, p.contents, fmt.Sprintf("step %d: %s", i, what))
			}
			require.Equal(t, syncs, d.syncs, "only Sync is one of the disk")
			require.NoError(t, v.Sync())
			require.Equal(t, syncs+1, d.syncs)
			require.Positive(t, d.writes)
			t.Run("fsck.fat", func(t *testing.T) { fsck(t, d.Disk) })
		})
	}
}
