package uki_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/decompress"
)

const banner = "Linux version 6.12.1-arm (build@host) (gcc) #1 SMP\n"

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	require.NoError(t, err)
	_, err = w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// zboot is the header of an EFI zboot kernel (Linux, drivers/firmware/efi/libstub/zboot-header.S)
// before the payload.
func zboot(compression string, payload []byte) []byte {
	b := make([]byte, 0x1000)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	copy(b[24:56], compression)
	return append(b, payload...)
}

// withBanner puts the banner at an offset of a kernel's data.
func withBanner(at int) []byte {
	b := bytes.Repeat([]byte("Linux version "), at/14+1)[:at]
	return append(append(b, banner...), make([]byte, 5000)...)
}

func TestProbeUname(t *testing.T) {
	image := withBanner(1000)
	for name, kernel := range map[string][]byte{
		"image":          image,
		"gzip":           gzipped(t, image),
		"zboot":          zboot("gzip", gzipped(t, image)),
		"at the end":     withBanner(100)[:100+len("Linux version 6.12.1-arm (")],
		"other texts":    append([]byte("Linux version %s (%s)\x00Linux version x (y)\x00Linux version 6.12 \x00"), image...),
		"two gzip parts": append(gzipped(t, image[:1005]), gzipped(t, image[1005:])...),
	} {
		t.Run(name, func(t *testing.T) {
			uname, err := uki.ProbeUname(source(kernel))
			require.NoError(t, err)
			assert.Equal(t, "6.12.1-arm", uname)
		})
	}
	// Wherever it lies against the pieces in which the kernel is read.
	for at := 256<<10 - 160; at < 256<<10+20; at++ {
		uname, err := uki.ProbeUname(source(withBanner(at)))
		require.NoError(t, err, at)
		require.Equal(t, "6.12.1-arm", uname, at)
	}
}

func TestProbeUnameRefuses(t *testing.T) {
	z := gzipped(t, withBanner(100_000))
	beyond := zboot("gzip", z)
	for name, c := range map[string]struct {
		kernel     []byte
		compressed string
		text       string
	}{
		"empty":           {nil, "", "no banner"},
		"no banner":       {make([]byte, 600_000), "", "no banner"},
		"nothing in gzip": {gzipped(t, make([]byte, 1000)), "", "no banner"},
		"gzip cut":        {gzipped(t, []byte("x"))[:12], "", "unexpected EOF"},
		"gzip damaged":    {append(bytes.Clone(z[:200]), make([]byte, 200)...), "", "gzip: "},
		"gzip header":     {[]byte{0x1f, 0x8b, 7}, "", "gzip: "},
		"zstd":            {[]byte("\x28\xb5\x2f\xfd...."), "zstd", "not a PE image: compressed with zstd: decompress it first (package uki/decompress does)"},
		"lz4":             {[]byte("\x02\x21\x4c\x18...."), "lz4", "not a PE image: compressed with lz4: decompress it first"},
		"zboot zstd":      {zboot("zstd22", []byte("\x28\xb5\x2f\xfd....")), "zstd", "the payload is compressed with zstd: decompress.Uname of package uki/decompress finds the version"},
		"zboot lzma":      {zboot("lzma", []byte("x")), "lzma", "the payload is compressed with lzma: give the version"},
		"zboot beyond":    {beyond[:len(beyond)-1], "", "zboot payload ends at"},
		"no pointer":      {setupHeader(0, ""), "", "no version string"},
		"pointer beyond":  {setupHeader(0xffff, ""), "", "no version string"},
		"no builder":      {setupHeader(0x200, "6.12"), "", "not VERSION (BUILDER)"},
		"odd version":     {setupHeader(0x200, "6.12/3 (x)"), "", "not VERSION (BUILDER)"},
	} {
		t.Run(name, func(t *testing.T) {
			uname, err := uki.ProbeUname(source(c.kernel))
			assert.Empty(t, uname)
			var p *uki.PartError
			require.ErrorAs(t, err, &p)
			assert.Equal(t, "Linux", p.Part)
			assert.ErrorIs(t, err, uki.ErrUnknownUname)
			assert.Contains(t, err.Error(), c.text)
			assert.Equal(t, 1, strings.Count(err.Error(), "uki: "), err)
			var z *uki.CompressedError
			if assert.Equal(t, c.compressed != "", errors.As(err, &z)) && z != nil {
				assert.Equal(t, c.compressed, z.Format)
				assert.Equal(t, strings.HasPrefix(name, "zboot"), z.Payload)
				assert.Equal(t, !z.Payload, errors.Is(err, uki.ErrNotPE))
			}
		})
	}
	_, err := uki.ProbeUname(nil)
	assert.ErrorIs(t, err, uki.ErrMissing)
}

// setupHeader is the x86 setup header with a version string 0x400 bytes into the file.
func setupHeader(pointer uint16, version string) []byte {
	b := make([]byte, 0x500)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], pointer)
	copy(b[0x400:], version)
	return b
}

// ukify decompresses a kernel that is compressed as a whole, leaves an EFI zboot kernel as it is,
// and finds the version in either.
func TestUkifyKernelsOfArm64(t *testing.T) {
	parts := testtools.Trixie(t)
	files, err := filepath.Glob(parts.Path("opt/arm64/boot/vmlinuz-*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	image, err := os.ReadFile(files[0])
	require.NoError(t, err)
	stub, err := os.ReadFile(parts.Path("opt/arm64/usr/lib/systemd/boot/efi/linuxaa64.efi.stub"))
	require.NoError(t, err)
	addonStub, err := os.ReadFile(parts.Path("opt/arm64/usr/lib/systemd/boot/efi/addonaa64.efi.stub"))
	require.NoError(t, err)
	z := gzipped(t, image)
	boot := zbootImage(image, z)
	roots := ukifies[:1]
	if os.Getenv("OSMITH_LONG") == "1" {
		roots = ukifies
	}
	for _, root := range roots {
		t.Run(root.name, func(t *testing.T) {
			r, dir := root.open(t), t.TempDir()
			ukify := "ukify build --efi-arch=aa64 --os-release="
			if root.release > 257 {
				ukify += " --hwids="
			}
			script := "set -e\n" + ukify + " --stub=addon-stub --cmdline=x --output=addon.efi\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, "addon-stub"), addonStub, 0o644))
			for name, b := range map[string][]byte{"stub": stub, "plain": image, "gzip": z, "zboot": boot} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
				if name != "stub" {
					script += ukify + " --stub=stub --linux=" + name + " --output=" + name + ".efi\n"
				}
			}
			r.Run(t, dir, "sh", "-c", script)
			theirs, err := os.ReadFile(filepath.Join(dir, "addon.efi"))
			require.NoError(t, err)
			if root.release == 257 {
				theirs = withoutNUL(t, theirs)
			}
			a, err := (&uki.Addon{Stub: source(addonStub), Cmdline: "x"}).Assemble()
			require.NoError(t, err)
			assert.True(t, bytes.Equal(theirs, written(t, a)), "add-on")
			for name, kernel := range map[string][]byte{"plain": image, "gzip": z, "zboot": boot} {
				theirs, err := os.ReadFile(filepath.Join(dir, name+".efi"))
				require.NoError(t, err)
				if root.release == 257 {
					theirs = withoutNUL(t, theirs)
				}
				var plain bytes.Buffer
				_, err = decompress.Kernel(&plain, source(kernel), decompress.Options{})
				require.NoError(t, err)
				uname, err := uki.ProbeUname(source(kernel))
				require.NoError(t, err)
				assert.Regexp(t, `^\d+\.\d+\.\d+\+deb\d+-cloud-arm64$`, uname)
				im := uki.Image{Stub: source(stub), Linux: source(plain.Bytes())}
				assert.True(t, bytes.Equal(theirs, assemble(t, &im)), name)
			}
		})
	}
}

// zbootImage makes a zboot kernel with the PE headers of an arm64 image, of which one section holds
// all.
func zbootImage(image, payload []byte) []byte {
	le := binary.LittleEndian
	b := zboot("gzip", payload)
	b = append(b, make([]byte, -len(b)&4095)...)
	at := int(le.Uint32(image[60:]))
	optional := int(le.Uint16(image[at+20:]))
	const header = 64
	le.PutUint32(b[60:], header)
	copy(b[header:0x1000], image[at:at+24+optional])
	le.PutUint16(b[header+6:], 1)                  // NumberOfSections
	le.PutUint32(b[header+24+16:], 0x1000)         // AddressOfEntryPoint
	le.PutUint32(b[header+24+56:], uint32(len(b))) // SizeOfImage
	le.PutUint32(b[header+24+60:], 0x1000)         // SizeOfHeaders
	clear(b[header+24+112+4*8:][:8])               // the image's own signature
	row := b[header+24+optional:]
	copy(row, ".text\x00\x00\x00")
	for i, v := range []int{len(b) - 0x1000, 0x1000, len(b) - 0x1000, 0x1000} {
		le.PutUint32(row[8+4*i:], uint32(v))
	}
	return b
}
