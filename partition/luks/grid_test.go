package luks

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// A gridVolume is a volume in a file that cryptsetup and this package change in turn.
type gridVolume struct {
	t      *testing.T
	rng    *rand.Rand
	name   string // of the file
	run    func(dir string, args ...string) (string, error)
	keys   map[int]string // passphrases by slot
	volume string         // the key in hexadecimal
	log    []string
}

func (g *gridVolume) logf(format string, args ...any) {
	g.log = append(g.log, fmt.Sprintf(format, args...))
}

func (g *gridVolume) file(name, text string) string {
	path := filepath.Join(filepath.Dir(g.name), name)
	require.NoError(g.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (g *gridVolume) must(args ...string) string {
	g.t.Helper()
	g.logf("cryptsetup %s", strings.Join(args, " "))
	out, err := g.run(filepath.Dir(g.name), args...)
	require.NoError(g.t, err, strings.Join(g.log, "\n"))
	return out
}

func (g *gridVolume) open() (*Volume, *osmith.Device) {
	g.t.Helper()
	f, err := os.OpenFile(g.name, os.O_RDWR, 0)
	require.NoError(g.t, err)
	d, err := osmith.NewDevice(f)
	require.NoError(g.t, err)
	v, err := Open(d)
	require.NoError(g.t, err, strings.Join(g.log, "\n"))
	require.False(g.t, v.Header().NeedsRepair(), strings.Join(g.log, "\n"))
	return v, d
}

// anyKey is a slot whose passphrase is known.
func (g *gridVolume) anyKey() (slot int, passphrase string) {
	ids := []int{}
	for id := range g.keys {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	slot = ids[g.rng.IntN(len(ids))]
	return slot, g.keys[slot]
}

func (g *gridVolume) passphrase() string {
	b := make([]byte, 1+g.rng.IntN(40))
	for i := range b {
		b[i] = byte(g.rng.Uint32())
	}
	return string(b) // with newlines and NULs, as key files have them
}

// ours makes one change by this package.
func (g *gridVolume) ours() {
	g.t.Helper()
	v, d := g.open()
	defer d.Close()
	slot, passphrase := g.anyKey()
	key, err := v.Unlock([]byte(passphrase), UnlockOptions{Slot: &slot})
	require.NoError(g.t, err, strings.Join(g.log, "\n"))
	o := KeyOptions{Rand: random(g.rng.Uint64()), KDF: g.kdf()}
	next := g.passphrase()
	switch n := g.rng.IntN(5); {
	case n == 0 && len(g.keys) > 1:
		gone, _ := g.anyKey()
		g.logf("remove %d", gone)
		require.NoError(g.t, v.RemoveKey(gone, RemoveOptions{LeaveNoKeyForAPerson: true}))
		delete(g.keys, gone)
	case n == 1 && len(g.keys) < 4:
		g.logf("change %d to %x by %+v", slot, next, o.KDF)
		require.NoError(g.t, v.ChangeKey(key, slot, []byte(next), o), strings.Join(g.log, "\n"))
		g.keys[slot] = next
	case n == 2:
		g.logf("token")
		_, err := v.AddToken(fmt.Appendf(nil, `{"type":"osmith-test","number":%d,"deep":{"a":[1,2,"/é"]}}`, g.rng.IntN(100)), []int{slot}, TokenOptions{LeaveNoKeyForAPerson: true})
		require.NoError(g.t, err, strings.Join(g.log, "\n"))
	case n == 3:
		g.logf("priority %d", slot)
		require.NoError(g.t, v.SetPriority(slot, []Priority{PriorityNormal, PriorityPrefer, PriorityIgnore}[g.rng.IntN(3)], RemoveOptions{LeaveNoKeyForAPerson: true}))
	case len(g.keys) < 4:
		added, err := v.AddKey(key, []byte(next), o)
		require.NoError(g.t, err, strings.Join(g.log, "\n"))
		g.logf("add %d %x by %+v", added, next, o.KDF)
		g.keys[added] = next
	}
}

// theirs makes one change by cryptsetup.
func (g *gridVolume) theirs() {
	g.t.Helper()
	slot, passphrase := g.anyKey()
	old := g.file("old", passphrase)
	next := g.passphrase()
	switch n := g.rng.IntN(5); {
	case n == 0 && len(g.keys) > 1:
		g.must("luksKillSlot", "-q", g.name, strconv.Itoa(slot))
		delete(g.keys, slot)
	case n == 1:
		g.must("config", g.name, "--key-slot", strconv.Itoa(slot), "--priority", []string{"normal", "prefer", "ignore"}[g.rng.IntN(3)])
	case n == 2:
		g.must("token", "import", g.name, "--json-file", g.file("token", fmt.Sprintf(`{"type":"foreign","keyslots":["%d"],"x":1.5}`, slot)))
	default:
		free := 0
		for g.keys[free] != "" {
			free++
		}
		if free > 3 {
			return
		}
		g.must(append([]string{"luksAddKey", g.name, g.file("new", next), "--key-file", old, "--key-slot", strconv.Itoa(slot), "--new-key-slot", strconv.Itoa(free)}, g.kdfArgs()...)...)
		g.keys[free] = next
	}
}

func (g *gridVolume) kdf() KDF {
	switch g.rng.IntN(3) {
	case 0:
		return KDF{Type: PBKDF2, Hash: "sha512", Iterations: 1000 + g.rng.Int64N(1000)}
	case 1:
		return KDF{Iterations: 4 + g.rng.Int64N(2), Memory: (32 + g.rng.Int64N(2000)) << 10, Threads: 1 + g.rng.IntN(4)}
	}
	return fastKDF
}

func (g *gridVolume) kdfArgs() []string {
	if g.rng.IntN(2) == 0 {
		return []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", strconv.Itoa(1000 + g.rng.IntN(1000)), "--hash", []string{"sha256", "sha512", "sha384", "sha3-256", "sha1"}[g.rng.IntN(5)]}
	}
	return []string{"--pbkdf", []string{"argon2i", "argon2id"}[g.rng.IntN(2)], "--pbkdf-force-iterations", "4", "--pbkdf-memory", strconv.Itoa(64 + g.rng.IntN(4000)), "--pbkdf-parallel", strconv.Itoa(1 + g.rng.IntN(2))}
}

// check has both open every slot, with the same key.
func (g *gridVolume) check() {
	g.t.Helper()
	v, d := g.open()
	require.Len(g.t, v.Header().Slots, len(g.keys), strings.Join(g.log, "\n"))
	var doc map[string]any
	require.NoError(g.t, json.Unmarshal(v.Header().JSON, &doc))
	for slot, passphrase := range g.keys {
		key, err := v.Unlock([]byte(passphrase), UnlockOptions{Slot: &slot})
		require.NoError(g.t, err, strings.Join(g.log, "\n"))
		require.Equal(g.t, g.volume, hex.EncodeToString(key.Bytes()))
		_, err = v.Unlock([]byte(passphrase+"x"), UnlockOptions{Slot: &slot})
		require.ErrorIs(g.t, err, ErrNoKey)
	}
	require.NoError(g.t, d.Close())
	before, err := os.ReadFile(g.name)
	require.NoError(g.t, err)
	for slot, passphrase := range g.keys {
		keyFile := g.file("key", passphrase)
		g.must("open", "--test-passphrase", g.name, "--key-file", keyFile, "--key-slot", strconv.Itoa(slot))
		if s, _ := v.Header().Slot(slot); s.Priority == PriorityIgnore {
			continue // for luksDump even if it is named
		}
		out := filepath.Join(filepath.Dir(g.name), "volume-key")
		_ = os.Remove(out)
		g.must("luksDump", "-q", g.name, "--dump-volume-key", "--volume-key-file", out, "--key-file", keyFile, "--key-slot", strconv.Itoa(slot))
		key, err := os.ReadFile(out)
		require.NoError(g.t, err)
		require.Equal(g.t, g.volume, hex.EncodeToString(key))
	}
	var theirs map[string]any
	require.NoError(g.t, json.Unmarshal([]byte(g.must("luksDump", "--dump-json-metadata", g.name)), &theirs))
	require.Equal(g.t, doc, theirs, "the metadata is read the same")
	after, err := os.ReadFile(g.name)
	require.NoError(g.t, err)
	require.Equal(g.t, before, after, "cryptsetup has nothing to repair: %s", strings.Join(g.log, "\n"))
}

// Volumes of both, changed by each in turn, open the same way with both.
func TestGrid(t *testing.T) {
	tools := cryptsetups(t)
	rng, long := testtools.Seed(t)
	count := 60
	switch {
	case long:
		count = 200
	case testing.Short():
		count = 12
	}
	for i := range count {
		version := []string{"host", "forky", "trixie"}[i%3]
		g := &gridVolume{t: t, rng: rng, name: filepath.Join(t.TempDir(), "volume"), run: tools[version], keys: map[int]string{}}
		headerSize := headerSizes[rng.IntN(len(headerSizes))]
		keyslots := int64(6) * 258048
		sector := 512 << rng.IntN(4)
		bits := 256 << rng.IntN(2)
		data := (2*headerSize+keyslots+1<<20-1)/(1<<20)*(1<<20) + 1<<20
		require.NoError(t, os.WriteFile(g.name, nil, 0o600))
		require.NoError(t, os.Truncate(g.name, data))
		slot := rng.IntN(3)
		g.keys[slot] = g.passphrase()
		if i%2 == 0 {
			f, err := os.OpenFile(g.name, os.O_RDWR, 0)
			require.NoError(t, err)
			d, err := osmith.NewDevice(f)
			require.NoError(t, err)
			o := FormatOptions{Rand: random(rng.Uint64()), HeaderSize: headerSize, KeyslotsSize: keyslots, SectorSize: sector, KeyBits: bits,
				Label: []string{"", "state"}[rng.IntN(2)], Subsystem: []string{"", "osmith"}[rng.IntN(2)], DigestHash: []string{"", "sha512"}[rng.IntN(2)],
				Key: KeyOptions{Slot: &slot, KDF: g.kdf()}}
			if rng.IntN(2) == 0 {
				o.Flags = []string{"allow-discards"}
			}
			g.logf("format %+v for cryptsetup of %s", o, version)
			_, key, err := Format(d, []byte(g.keys[slot]), o)
			require.NoError(t, err)
			g.volume = hex.EncodeToString(key.Bytes())
			require.NoError(t, d.Close())
		} else {
			g.must(append([]string{"luksFormat", "-q", "--type", "luks2", g.name, g.file("key", g.keys[slot]), "--key-slot", strconv.Itoa(slot),
				"--luks2-metadata-size", fmt.Sprint(headerSize), "--luks2-keyslots-size", fmt.Sprint(keyslots), "--sector-size", fmt.Sprint(sector),
				"--key-size", fmt.Sprint(bits)}, g.kdfArgs()...)...)
			v, d := g.open()
			key, err := v.Unlock([]byte(g.keys[slot]), UnlockOptions{})
			require.NoError(t, err, strings.Join(g.log, "\n"))
			g.volume = hex.EncodeToString(key.Bytes())
			require.NoError(t, d.Close())
		}
		g.check()
		for range 2 {
			g.ours()
			g.theirs()
		}
		g.check()
	}
}

// What cryptsetup repairs of what we wrote, and what we repair, is the same header.
func TestRepairAgainstCryptsetup(t *testing.T) {
	for version, run := range cryptsetups(t) {
		for _, off := range []int64{0, 470, 5000, 16 << 10, 16<<10 + 5000} {
			d, _, _ := formatted(t, small(1))
			d = damage(t, d, off)
			name := dump(t, d)
			dir := filepath.Dir(name)
			writeFile(t, filepath.Join(dir, "key"), correctHorse)
			_, err := run(dir, "open", "--test-passphrase", "--key-file", filepath.Join(dir, "key"), name)
			require.NoError(t, err, version)
			v, err := Open(undump(t, name))
			require.NoError(t, err)
			require.False(t, v.Header().NeedsRepair(), "cryptsetup of %s has repaired it", version)

			ours, err := Open(d)
			require.NoError(t, err)
			require.True(t, ours.Header().NeedsRepair())
			require.NoError(t, ours.Repair(RepairOptions{}))
			require.False(t, ours.Header().NeedsRepair())
			require.Equal(t, v.Header().JSON, ours.Header().JSON)
			name = dump(t, d)
			before, err := os.ReadFile(name)
			require.NoError(t, err)
			_, err = run(filepath.Dir(name), "luksDump", name)
			require.NoError(t, err)
			after, err := os.ReadFile(name)
			require.NoError(t, err)
			require.Equal(t, before, after, "nothing is left to repair")
		}
	}
}
