package luks

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// seeds are the JSON areas of the vectors and of the mutants.
func seeds(t testing.TB) (docs [][]byte) {
	t.Helper()
	names, err := filepath.Glob("testdata/*.gz")
	require.NoError(t, err)
	for _, name := range names {
		if strings.Contains(name, "luks1") {
			continue
		}
		b := testtools.Gunzip(t, name)
		size := binary.BigEndian.Uint64(b[8:])
		docs = append(docs, bytes.TrimRight(b[binarySize:size], "\x00"))
	}
	base := mutantBase(t)
	for _, m := range mutants {
		if m.doc != nil {
			b := content(t, m.make(t, base))
			docs = append(docs, bytes.TrimRight(b[binarySize:16<<10], "\x00"))
		}
	}
	require.Greater(t, len(docs), 60)
	return docs
}

// FuzzMetadata reads any metadata: no panic, a result exactly without an error, and what it reads
// it writes so that it reads the same.
func FuzzMetadata(f *testing.F) {
	for _, doc := range seeds(f) {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		m, h, err := parseMetadata(doc, binarySize, 16<<10)
		require.Equal(t, err == nil, m != nil && h != nil)
		if err != nil {
			return
		}
		people, all := h.people(nil)
		require.LessOrEqual(t, len(people), len(all))
		written := m.marshal()
		again, h2, err := parseMetadata(written, binarySize, 16<<10)
		require.NoError(t, err)
		require.Equal(t, string(written), string(again.marshal()))
		require.Equal(t, len(h.Slots), len(h2.Slots))
		for i := range h.Tokens {
			require.Equal(t, string(h.Tokens[i].JSON), string(h2.Tokens[i].JSON))
		}
		if _, err := h.freeArea(areaSize(64)); err == nil {
			slot, err := h.freeSlot(nil)
			if err != nil {
				return
			}
			m.keyslots.set(string(rune('0'+slot%10)), []byte(`{}`)) // an edit of what was read
			require.NoError(t, m.unbind(slot))
		}
	})
}

// FuzzOpen reads any header behind a right checksum, with a passphrase: no panic, and nothing is
// written.
func FuzzOpen(f *testing.F) {
	base := mutantBase(f)
	header := content(f, base)[:binarySize]
	for _, doc := range seeds(f) {
		f.Add(header[:512], doc, byte(0))
		f.Add(header[:512], doc, byte(3))
	}
	f.Fuzz(func(t *testing.T, bin, doc []byte, flags byte) {
		b := make([]byte, 16<<10)
		copy(b[:binarySize], bin)
		copy(b[binarySize:], doc)
		if flags&1 == 0 { // else as it is
			copy(b[72:104], append([]byte("sha256"), make([]byte, 26)...))
			sum, err := checksum(b, "sha256")
			require.NoError(t, err)
			copy(b[checksumAt:], sum)
		}
		d := base.Clone()
		_, err := d.WriteAt(b, int64(flags>>1&1)*(16<<10))
		require.NoError(t, err)
		d.Record()
		v, err := Open(d)
		require.Equal(t, err == nil, v != nil)
		if err == nil {
			_, err = v.Unlock(correctHorse, UnlockOptions{Limits: Limits{Memory: 1 << 20, Iterations: 2000, Work: 8 << 20}})
			if err != nil && v.Header().Unsupported == nil {
				require.ErrorIs(t, err, ErrNoKey)
			}
		}
		require.Empty(t, d.Writes())
	})
}

// FuzzRecoveryKey: what is taken for a recovery key is one, in its one form.
func FuzzRecoveryKey(f *testing.F) {
	f.Add(recovery)
	f.Add(strings.ToUpper(strings.ReplaceAll(recovery, "-", "")))
	f.Fuzz(func(t *testing.T, typed string) {
		key, ok := ParseRecoveryKey(typed)
		if !ok {
			require.Empty(t, key)
			return
		}
		require.Len(t, key, 71)
		again, ok := ParseRecoveryKey(key)
		require.True(t, ok)
		require.Equal(t, key, again)
		require.Equal(t, strings.ReplaceAll(key, "-", ""), strings.ToLower(strings.ReplaceAll(typed, "-", "")))
	})
}

// Headers of 4 MiB that are full of what costs most are read, or refused, within bounded memory.
func TestMemoryIsBounded(t *testing.T) {
	for name, fill := range map[string]string{
		"members": `"%d":0,`, "arrays": `[`, "slots": `"1":{},`, "numbers": `1,`, "strings": `"a",`,
	} {
		t.Run(name, func(t *testing.T) {
			const size = 4 << 20
			doc := &bytes.Buffer{}
			switch name {
			case "members":
				doc.WriteString(`{"x":{`)
				for i := 0; doc.Len() < size-binarySize-100; i++ {
					doc.WriteString(`"` + string(rune('a'+i%26)) + strings.Repeat("b", i%7) + hexNumber(i) + `":0,`)
				}
				doc.WriteString(`"":0}}`)
			case "slots":
				doc.WriteString(`{"keyslots":{`)
				for i := 0; doc.Len() < size-binarySize-100; i++ {
					doc.WriteString(`"` + hexNumber(i) + `":{},`)
				}
				doc.WriteString(`"":0},"tokens":{},"segments":{},"digests":{},"config":{}}`)
			default:
				doc.WriteString(`{"x":[`)
				doc.WriteString(strings.Repeat(fill, (size-binarySize-100)/len(fill)))
				doc.WriteString(`0]}`)
			}
			d := faultio.NewDisk(3 * size)
			raw := rawHeader{Version: 2, Size: size, SeqID: 1}
			require.NoError(t, putText(raw.ChecksumAlg[:], "hash", "sha256"))
			v := &Volume{raw: raw}
			for i := range 2 {
				whole, err := v.copyOf(raw, i, doc.Bytes())
				require.NoError(t, err)
				_, err = d.WriteAt(whole, int64(i)*size)
				require.NoError(t, err)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := Read(d)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, ErrNotLUKS)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(600<<20), "all that was allocated, most of it garbage soon")
		})
	}
}

func hexNumber(n int) string {
	const digits = "0123456789abcdef"
	b := []byte{}
	for ; n > 0; n /= 16 {
		b = append(b, digits[n%16])
	}
	return string(b)
}
