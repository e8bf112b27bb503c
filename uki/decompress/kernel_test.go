package decompress

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// kernel is the content of the files in testdata.
func kernel() []byte {
	var b []byte
	for i := range 200 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		b = append(append(b, sum[:]...), strings.Repeat("Linux version 6.12.1-arm (build@host) (gcc) #1 SMP\n", 3)...)
		b = append(b, make([]byte, 200)...)
	}
	return b
}

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return b
}

func source(b []byte) osmith.Source { return bytes.NewReader(b) }

// zbootOf is a zboot kernel with that payload.
func zbootOf(compression string, payload []byte) []byte {
	b := make([]byte, 0x1000)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	copy(b[24:56], compression)
	return append(append(b, payload...), "behind"...)
}

// sized has the size of the kernel behind it, as payloads of zboot kernels do.
func sized(b []byte, size int) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), uint32(size))
}

func TestVectors(t *testing.T) {
	want := kernel()
	sum := sha256.Sum256(want)
	require.Equal(t, "fbd1f0fb195ccf2126c52bd6505ccc68629b44ae1afa2092bbbe5dadc6636015", hex.EncodeToString(sum[:]))
	seen := 0
	for name, format := range map[string]string{"kernel.gz": "gzip", "ultra.zst": "zstd", "plain.zst": "zstd", "crc32.xz": "xz", "crc64.xz": "xz",
		"none.xz": "xz", "sha256-blocks.xz": "xz", "threads.xz": "xz", "streams.xz": "xz"} {
		seen++
		b := vector(t, name)
		got, err := Format(source(b))
		require.NoError(t, err)
		assert.Equal(t, format, got, name)
		var out bytes.Buffer
		n, err := Kernel(&out, source(b), Options{})
		require.NoError(t, err, name)
		assert.EqualValues(t, len(want), n, name)
		assert.True(t, bytes.Equal(want, out.Bytes()), name)
		uname, err := Uname(source(b))
		require.NoError(t, err, name)
		assert.Equal(t, "6.12.1-arm", uname, name)
	}
	require.Equal(t, 9, seen)
	_, err := Kernel(io.Discard, source(vector(t, "bcj.xz")), Options{})
	assert.EqualError(t, err, "decompress: xz: at 0 of the decompressed bytes: filter 0x4, of 2: only LZMA2 alone is known (decompress the kernel with xz)")
}

func TestPlain(t *testing.T) {
	want := kernel()
	for name, b := range map[string][]byte{"plain": want, "zboot, taken for plain": zbootOf("gzip", []byte("x"))} {
		var out bytes.Buffer
		n, err := Kernel(&out, source(b), Options{})
		require.NoError(t, err, name)
		assert.EqualValues(t, len(b), n)
		assert.True(t, bytes.Equal(b, out.Bytes()), name)
		format, err := Format(source(b))
		require.NoError(t, err)
		assert.Empty(t, format, name)
	}
	uname, err := Uname(source(want))
	require.NoError(t, err)
	assert.Equal(t, "6.12.1-arm", uname)
}

func TestZboot(t *testing.T) {
	want := kernel()
	for name, b := range map[string][]byte{
		"gzip": zbootOf("gzip", vector(t, "kernel.gz")),
		"zstd": zbootOf("zstd22", sized(vector(t, "ultra.zst"), len(want))),
		"xz":   zbootOf("xzkern", sized(vector(t, "crc32.xz"), len(want))),
	} {
		var out bytes.Buffer
		n, err := Kernel(&out, source(b), Options{Zboot: true})
		require.NoError(t, err, name)
		assert.EqualValues(t, len(want), n, name)
		assert.True(t, bytes.Equal(want, out.Bytes()), name)
		uname, err := Uname(source(b))
		require.NoError(t, err, name)
		assert.Equal(t, "6.12.1-arm", uname, name)
	}
	short := zbootOf("zstd22", vector(t, "plain.zst"))
	for name, c := range map[string]struct {
		kernel []byte
		text   string
	}{
		"another size":  {zbootOf("zstd22", sized(vector(t, "ultra.zst"), len(want)+1)), "77000 bytes, but the size after the zboot payload says 77001"},
		"no size":       {short, "zstd: "},
		"nothing":       {zbootOf("zstd22", []byte("abc")), "zboot payload of 3 bytes"},
		"lzma":          {zbootOf("lzma", []byte("abcd")), "the payload is compressed with lzma"},
		"beyond":        {zbootOf("gzip", vector(t, "kernel.gz"))[:0x1010], "zboot payload ends at"},
		"another magic": {zbootOf("xz", sized([]byte("no xz, but twelve bytes and more"), 3)), "xz: no header of a stream"},
	} {
		n, err := Kernel(io.Discard, source(c.kernel), Options{Zboot: true})
		require.ErrorContains(t, err, c.text, name)
		assert.LessOrEqual(t, n, int64(len(want)), name)
		assert.Equal(t, 1, strings.Count(err.Error(), "decompress: "), err)
		_, err = Uname(source(c.kernel))
		require.Error(t, err, name)
	}
}

// The output has a limit, whatever the format, and to the byte.
func TestLimit(t *testing.T) {
	want := kernel()
	for name, b := range map[string][]byte{"plain": want, "gzip": vector(t, "kernel.gz"), "zstd": vector(t, "ultra.zst"), "xz": vector(t, "sha256-blocks.xz")} {
		n, err := Kernel(io.Discard, source(b), Options{Limit: int64(len(want))})
		require.NoError(t, err, name)
		assert.EqualValues(t, len(want), n)
		_, err = Kernel(io.Discard, source(b), Options{Limit: int64(len(want)) - 1})
		var limit *LimitError
		require.ErrorAs(t, err, &limit, name)
		assert.EqualValues(t, len(want)-1, limit.Limit)
	}
	_, err := Kernel(io.Discard, source(want), Options{Limit: -1})
	assert.ErrorContains(t, err, "limit of -1 bytes")
	assert.Equal(t, int64(2<<30), int64(DefaultLimit))
}

// What is cut or changed is an error, never a kernel: xz and gzip and this zstd frame have
// checksums.
func TestDamaged(t *testing.T) {
	for _, name := range []string{"kernel.gz", "ultra.zst", "crc32.xz", "crc64.xz", "sha256-blocks.xz"} {
		b := vector(t, name)
		step := 97
		if testing.Short() {
			step = 397
		}
		for cut := 1; cut < len(b); cut += step {
			_, err := Kernel(io.Discard, source(b[:cut]), Options{})
			if cut >= 6 { // else it is not recognised, and copied
				require.Error(t, err, "%s cut to %d", name, cut)
			}
		}
		want := kernel()
		for at := 6; at < len(b); at += step {
			c := bytes.Clone(b)
			c[at] ^= 0x41
			var out bytes.Buffer
			if _, err := Kernel(&out, source(c), Options{}); err == nil {
				// a byte of which nothing depends, such as gzip's time
				require.True(t, bytes.Equal(want, out.Bytes()), "%s changed at %d", name, at)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	full := errors.New("full")
	for name, b := range map[string][]byte{"plain": kernel(), "zstd": vector(t, "ultra.zst")} {
		_, err := Kernel(failing{full}, source(b), Options{})
		require.ErrorIs(t, err, full, name)
		assert.ErrorContains(t, err, "decompress: writing the kernel at 0")
	}
	_, err := Kernel(io.Discard, nil, Options{})
	require.ErrorIs(t, err, uki.ErrMissing)
	_, err = Format(nil)
	require.ErrorIs(t, err, uki.ErrMissing)
	_, err = Uname(nil)
	require.ErrorIs(t, err, uki.ErrMissing)

	// A source that is shorter than it says.
	_, err = Kernel(io.Discard, longer{bytes.NewReader(kernel())}, Options{})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = Format(longer{bytes.NewReader(nil)})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	var compressed *uki.CompressedError
	_, err = Kernel(io.Discard, strings.NewReader("\x02\x21\x4c\x18 and more"), Options{})
	require.ErrorAs(t, err, &compressed)
	assert.Equal(t, "lz4", compressed.Format)
	_, err = Uname(strings.NewReader("no kernel"))
	require.ErrorIs(t, err, uki.ErrUnknownUname)
	var none bytes.Buffer
	z, err := zstd.NewWriter(&none)
	require.NoError(t, err)
	_, err = z.Write([]byte("nothing of a kernel"))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	_, err = Uname(source(none.Bytes()))
	require.ErrorIs(t, err, uki.ErrUnknownUname)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

type longer struct{ *bytes.Reader }

func (l longer) Size() int64 { return l.Reader.Size() + 100 }

// xzParts are the parts of an xz file with one block, for tests to change. The checksums of headers
// are put right.
func xzFile(t testing.TB, header func([]byte) []byte) []byte {
	var out bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 20}.NewWriter(&out)
	require.NoError(t, err)
	_, err = w.Write(kernel())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	b := out.Bytes()
	size := (int(b[12]) + 1) * 4
	h := header(bytes.Clone(b[12 : 12+size-4]))
	h[0] = byte((len(h)+4)/4 - 1)
	h = binary.LittleEndian.AppendUint32(h, crc32.ChecksumIEEE(h))
	return append(append(bytes.Clone(b[:12]), h...), b[12+size:]...)
}

// What a block asks for is checked against bounds before it gets it.
func TestXZDictionaries(t *testing.T) {
	var before, after runtime.MemStats
	for name, c := range map[string]struct {
		header func([]byte) []byte
		text   string
	}{
		"4 GiB":   {func(h []byte) []byte { h[4] = 40; return h }, "dictionary of 4294967295 bytes, more than 134217728"},
		"192 MiB": {func(h []byte) []byte { h[4] = 31; return h }, "dictionary of 201326592 bytes, more than 134217728"},
		"no such": {func(h []byte) []byte { h[4] = 41; return h }, "properties of LZMA2"},
		"flags":   {func(h []byte) []byte { h[1] |= 4; return h }, "block flags 0x04 are unknown"},
		"padding": {func(h []byte) []byte { h[7] = 1; return h }, "more than its fields"},
		"sizes": {func(h []byte) []byte {
			h[1] = 0x80
			return append([]byte{0, 0x80, 1}, append(h[2:], make([]byte, 3)...)...)
		}, "distance out of range"},
	} {
		runtime.ReadMemStats(&before)
		_, err := Kernel(io.Discard, source(xzFile(t, c.header)), Options{})
		runtime.ReadMemStats(&after)
		require.ErrorContains(t, err, c.text, name)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), name)
	}
	_, err := Kernel(io.Discard, source(xzFile(t, func(h []byte) []byte { return h })), Options{})
	require.NoError(t, err)

	// Many small blocks that do not say their sizes, each with the largest dictionary.
	b := xzFile(t, func(h []byte) []byte { h[4] = 30; return h }) // 128 MiB
	runtime.GC()
	runtime.ReadMemStats(&before)
	many := bytes.Repeat(b, 20)
	_, err = Kernel(io.Discard, source(many), Options{})
	require.ErrorContains(t, err, "dictionaries of ")
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(6*maxWindow))
}

// What the headers, the index and the footer say is checked against what is there. Their own
// checksums are right.
func TestXZLies(t *testing.T) {
	threads := vector(t, "threads.xz")
	le := binary.LittleEndian
	block := func(change func(h []byte)) func([]byte) {
		return func(b []byte) {
			h := b[12:][:(int(b[12])+1)*4]
			change(h)
			le.PutUint32(h[len(h)-4:], crc32.ChecksumIEEE(h[:len(h)-4]))
		}
	}
	stream := func(change func(h []byte)) func([]byte) {
		return func(b []byte) {
			change(b[6:8])
			le.PutUint32(b[8:], crc32.ChecksumIEEE(b[6:8]))
		}
	}
	footer := func(change func(f []byte)) func([]byte) {
		return func(b []byte) {
			f := b[len(b)-12:]
			change(f)
			le.PutUint32(f, crc32.ChecksumIEEE(f[4:10]))
		}
	}
	index := func(change func(i []byte)) func([]byte) {
		return func(b []byte) {
			size := (int(le.Uint32(b[len(b)-8:])) + 1) * 4
			i := b[len(b)-12-size:][:size]
			change(i)
			le.PutUint32(i[size-4:], crc32.ChecksumIEEE(i[:size-4]))
		}
	}
	// Sizes in the block's header stand behind the flags: of three bytes for 16,384 bytes, and of
	// two for what they are compressed to.
	h := threads[12:]
	require.Equal(t, byte(0xc0), h[1])
	require.Equal(t, []byte{0x80, 0x80, 1}, h[4:7])
	for name, c := range map[string]struct {
		change func([]byte)
		text   string
	}{
		"unchanged":          {func([]byte) {}, ""},
		"check 2":            {stream(func(f []byte) { f[1] = 2 }), "stream flags 0x00 0x02"},
		"stream flags":       {stream(func(f []byte) { f[0] = 1 }), "stream flags 0x01 0x01"},
		"stream checksum":    {func(b []byte) { b[8]++ }, "checksum of a header"},
		"block checksum":     {func(b []byte) { b[13] ^= 0x80 }, "checksum of a header"},
		"compressed size":    {block(func(h []byte) { h[2]++ }), "contradict"},
		"uncompressed size":  {block(func(h []byte) { h[4] = 0x81 }), "contradict"},
		"one filter, BCJ":    {block(func(h []byte) { h[7] = 4 }), "filter 0x4, of 1"},
		"two filters":        {block(func(h []byte) { h[1] |= 1 }), "of 2: only LZMA2"},
		"properties":         {block(func(h []byte) { h[8] = 2 }), "properties of LZMA2"},
		"integer of no use":  {block(func(h []byte) { h[6] = 0 }), "longer than it has to be"},
		"integer too long":   {block(func(h []byte) { copy(h[2:], bytes.Repeat([]byte{0xff}, 9)) }), "too long"},
		"footer size":        {footer(func(f []byte) { f[4]++ }), "contradict"},
		"footer flags":       {footer(func(f []byte) { f[8]++ }), "contradict"},
		"footer check":       {footer(func(f []byte) { f[9] = 4 }), "contradict"},
		"footer magic":       {func(b []byte) { b[len(b)-1]++ }, "contradict"},
		"footer checksum":    {func(b []byte) { b[len(b)-12]++ }, "checksum of a header"},
		"records":            {index(func(i []byte) { i[1]++ }), "contradict"},
		"record":             {index(func(i []byte) { i[2]++ }), "contradict"},
		"uncompressed":       {index(func(i []byte) { i[4]++ }), "contradict"},
		"index checksum":     {func(b []byte) { b[len(b)-13]++ }, "checksum of a header"},
		"bytes behind":       {nil, "no header of a stream"},
		"two bytes behind":   {nil, "unexpected EOF"},
		"padding and a rest": {nil, "no header of a stream"},
	} {
		b := bytes.Clone(threads)
		switch name {
		case "bytes behind":
			b = append(b, "and more text"...)
		case "two bytes behind":
			b = append(b, 0, 0)
		case "padding and a rest":
			b = append(b, "\x00\x00\x00\x00and more text"...)
		default:
			c.change(b)
		}
		_, err := Kernel(io.Discard, source(b), Options{})
		if c.text == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, c.text, name)
	}
}

// The tools of distributions, at hand.
func TestXZTool(t *testing.T) {
	dir := t.TempDir()
	want := bytes.Repeat(kernel(), 30)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kernel"), want, 0o644))
	for _, options := range []string{"-9", "-0 -T2 --block-size=100000", "-9e --check=crc32 -T0", "-6 --check=sha256", "--check=none --lzma2=lc=4,lp=0,pb=0"} {
		args := append(strings.Fields(options), "-k", "-f", filepath.Join(dir, "kernel"))
		testtools.Run(t, "xz", args...)
		b, err := os.ReadFile(filepath.Join(dir, "kernel.xz"))
		require.NoError(t, err)
		var out bytes.Buffer
		_, err = Kernel(&out, source(b), Options{})
		require.NoError(t, err, options)
		require.True(t, bytes.Equal(want, out.Bytes()), options)
	}
}

func FuzzKernel(f *testing.F) {
	for _, name := range []string{"kernel.gz", "ultra.zst", "plain.zst", "crc32.xz", "sha256-blocks.xz", "streams.xz", "bcj.xz"} {
		f.Add(vector(f, name))
	}
	f.Add(zbootOf("zstd22", sized(vector(f, "ultra.zst"), 77000)))
	f.Add(zbootOf("gzip", vector(f, "kernel.gz")))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 20
		var out bytes.Buffer
		n, err := Kernel(&out, source(b), Options{Limit: limit, Zboot: true})
		if int64(out.Len()) != n || n > limit {
			t.Fatal(n, out.Len(), err)
		}
		if uname, err := Uname(source(b)); (uname == "") != (err != nil) {
			t.Fatal(uname, err)
		}
		// The library's own reader, where it takes the file, takes it for the same.
		if err != nil || len(b) < 6 || string(b[:6]) != "\xfd7zXZ\x00" {
			return
		}
		r, err := xz.NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		theirs, err := io.ReadAll(io.LimitReader(r, limit+1))
		if err == nil && !bytes.Equal(theirs, out.Bytes()) {
			t.Fatal("another content")
		}
	})
}
