package uki_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

const pcrKey = `-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALtUlNS31SzxwqMzMR9jKOJYDhHj8zZt
LUYHi3s1pzGT7cVjiaUaymCXHhMZFL8W4W/fI0YjDOM5xkBQmuSLLn0CAwEAAQ==
-----END PUBLIC KEY-----
`

// A tool case is one set of parts, for us as values and for ukify as files and options.
type toolCase struct {
	image uki.Image
	args  []string
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// newToolCase draws a set of parts. Every optional part is there in about half of the cases; sizes fall on, below and
// above alignment boundaries.
func newToolCase(t *testing.T, r *rand.Rand, dir string, stub, kernel []byte, release int) toolCase {
	var c toolCase
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, b, 0o644))
		return p
	}
	has := func() bool { return r.IntN(2) == 0 }
	size := func() int {
		return []int{1, 3, 4, 511, 512, 513, 4095, 4096, 4097, 100_003}[r.IntN(10)]
	}
	if has() {
		stub = withSymbolTable(stub)
	}
	c.image.Stub = bytes.NewReader(stub)
	c.image.Linux = bytes.NewReader(kernel)
	c.args = []string{"build", "--stub=" + file("stub", stub), "--linux=" + file("linux", kernel), "--output=" + filepath.Join(dir, "theirs.efi")}
	if release > 257 { // 257 takes an empty value for a directory; without the option it adds no .hwids
		c.args = append(c.args, "--hwids=")
	}
	if has() {
		c.image.OSRelease = []byte("ID=test\nVERSION_ID=" + strings.Repeat("1", size()) + "\n")
		c.args = append(c.args, "--os-release=@"+file("osrel", c.image.OSRelease))
	} else {
		c.args = append(c.args, "--os-release=")
	}
	if has() {
		c.image.Cmdline = "quiet  ro\troothash=" + strings.Repeat("a", size()) + "\n"
		c.args = append(c.args, "--cmdline=@"+file("cmdline", []byte(c.image.Cmdline)))
	}
	for i := range r.IntN(4) {
		b := randomBytes(r, size())
		c.image.Initrd = append(c.image.Initrd, bytes.NewReader(b))
		c.args = append(c.args, "--initrd="+file(fmt.Sprintf("initrd%d", i), b))
	}
	if has() {
		c.image.Uname = "6.12.0-given"
		c.args = append(c.args, "--uname=6.12.0-given")
	}
	if has() {
		b := append([]byte("BM"), randomBytes(r, size())...)
		c.image.Splash = bytes.NewReader(b)
		c.args = append(c.args, "--splash="+file("splash", b))
	}
	if has() && release > 257 { // 257 wants --pcr-private-key= with it
		c.image.PCRPublicKey = []byte(pcrKey)
		c.args = append(c.args, "--pcr-public-key="+file("key.pem", []byte(pcrKey)))
	}
	if has() {
		c.image.SBAT = []byte("sbat,1,SBAT Version,sbat,1,https://example.org\nours,1,We,ours,2,https://example.org\n")
		c.args = append(c.args, "--sbat=@"+file("sbat", c.image.SBAT))
	}
	if has() {
		b := randomBytes(r, size())
		c.image.Sections = append(c.image.Sections, uki.Section{Name: ".extra1", Content: bytes.NewReader(b)})
		c.args = append(c.args, "--section=.extra1:@"+file("extra1", b))
	}
	if has() {
		// ukify makes .pcrsig itself when it signs; as a section of one's own it lands in the same place.
		c.image.PCRSignature = []byte(`{"sha256": []}` + strings.Repeat(" ", size()))
		c.args = append(c.args, "--section=.pcrsig:@"+file("pcrsig", c.image.PCRSignature))
	}
	return c
}

// withSymbolTable appends what stubs up to 252 still have: a COFF symbol table, here of one symbol, and its strings.
func withSymbolTable(stub []byte) []byte {
	le := binary.LittleEndian
	b := bytes.Clone(stub)
	le.PutUint32(b[64+12:], uint32(len(b))) // PointerToSymbolTable
	le.PutUint32(b[64+16:], 1)
	b = append(b, make([]byte, 18)...)
	return append(le.AppendUint32(b, 9), "name\x00"...)
}

func TestUkifyWritesTheSameBytes(t *testing.T) {
	for _, root := range []struct {
		name    string
		open    func(testing.TB) testtools.Root
		release int
	}{{"forky", testtools.Forky, 262}, {"trixie", testtools.Trixie, 257}} {
		t.Run(root.name, func(t *testing.T) {
			r := root.open(t)
			stub, err := os.ReadFile(r.Part(t, "stub"))
			require.NoError(t, err)
			kernel, err := os.ReadFile(r.Part(t, "kernel"))
			require.NoError(t, err)
			random := rand.New(rand.NewPCG(1, 2))
			for i := range 12 {
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					dir := t.TempDir()
					k := petest.Kernel("6.12.0-stand-in")
					switch {
					case i == 0:
						k = kernel
					case i%3 == 1: // with SBAT of its own
						k = petest.Kernel("6.12.0-stand-in", petest.Section{Name: ".sbat", Content: []byte("sbat,1,SBAT Version,sbat,1,https://example.org\nlinux,1,Example,linux,6.12,https://example.org\n")})
					case i%3 == 2: // not NX-compatible: DllCharacteristics of the optional header at 88
						k[88+70], k[88+71] = 0, 0
					}
					c := newToolCase(t, random, dir, stub, k, root.release)
					out := r.Run(t, dir, "ukify", c.args...)
					theirs, err := os.ReadFile(filepath.Join(dir, "theirs.efi"))
					require.NoError(t, err)
					if root.release == 257 {
						endSBATWithNewline(t, theirs)
					}
					ours := assemble(t, &c.image)
					if !bytes.Equal(theirs, ours) {
						t.Fatalf("%d bytes, ukify wrote %d; first difference at %#x\n%v\n%s", len(ours), len(theirs), firstDifference(ours, theirs), c.args, out)
					}
				})
			}
		})
	}
}

// endSBATWithNewline undoes the one difference between images of ukify 257 and 262: the former ends .sbat with a NUL
// byte behind the last newline.
func endSBATWithNewline(t *testing.T, b []byte) {
	f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	for i, s := range f.Sections {
		if s.Name == ".sbat" {
			require.Equal(t, "\n\x00", string(b[s.Offset+s.VirtualSize-2:][:2]))
			binary.LittleEndian.PutUint32(b[f.Fields.SectionTable+int64(i)*40+8:], s.VirtualSize-1)
		}
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// systemd-measure is given the sections of the finished image one by one and computes PCR 11.
func TestSystemdMeasureAgrees(t *testing.T) {
	r := testtools.Forky(t)
	stub, err := os.ReadFile(r.Part(t, "stub"))
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(3, 4))
	names := map[crypto.Hash]string{crypto.SHA1: "sha1", crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"}
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir := t.TempDir()
			c := newToolCase(t, random, dir, stub, petest.Kernel("6.12.0-stand-in"), 262)
			f, err := uki.Open(bytes.NewReader(assemble(t, &c.image)))
			require.NoError(t, err)
			args := []string{"calculate", "--json=short", "--phase=:"}
			for _, s := range f.Sections() {
				switch name := strings.TrimPrefix(s.Name, "."); name {
				case "linux", "osrel", "cmdline", "initrd", "splash", "uname", "sbat", "pcrpkey":
					sec, _ := f.Section(s.Name)
					b := make([]byte, sec.Size())
					_, err := sec.ReadAt(b, 0)
					require.NoError(t, err)
					p := filepath.Join(dir, "sec-"+name)
					require.NoError(t, os.WriteFile(p, b, 0o644))
					args = append(args, "--"+name+"="+p)
				}
			}
			hashes := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
			for _, h := range hashes {
				args = append(args, "--bank="+names[h])
			}
			var got map[string][]struct {
				Hash string `json:"hash"`
			}
			out := r.Output(t, dir, "/usr/lib/systemd/systemd-measure", args...)
			require.NoError(t, json.Unmarshal([]byte(out), &got), out)

			ofImage, err := c.image.Measurements(hashes...)
			require.NoError(t, err)
			ofFile, err := f.Measurements(hashes...)
			require.NoError(t, err)
			require.Equal(t, ofImage, ofFile)
			for _, h := range hashes {
				require.Len(t, got[names[h]], 1, out)
				assert.Equal(t, got[names[h]][0].Hash, hex.EncodeToString(pcr11(h, ofFile)), names[h])
			}
		})
	}
}

func TestRealParts(t *testing.T) {
	for name, open := range map[string]func(testing.TB) testtools.Root{"forky": testtools.Forky, "trixie": testtools.Trixie} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			kernel, err := os.ReadFile(r.Part(t, "kernel"))
			require.NoError(t, err)
			uname, err := uki.ProbeUname(bytes.NewReader(kernel))
			require.NoError(t, err)
			assert.Regexp(t, `^\d+\.\d+\.\d+\+deb\d+-cloud-amd64$`, uname)

			stub, err := os.ReadFile(r.Part(t, "stub"))
			require.NoError(t, err)
			im := uki.Image{Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), OSRelease: []byte("ID=test\n")}
			f, err := uki.Open(bytes.NewReader(assemble(t, &im)))
			require.NoError(t, err)
			version, err := f.StubVersion()
			require.NoError(t, err)
			t.Logf("stub %s, kernel %s", version, f.Uname())
		})
	}
}
