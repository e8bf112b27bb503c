package uki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// A toolCase is one set of parts, for us as values and for ukify as files and options.
type toolCase struct {
	image   uki.Image
	dir     string
	release int      // of the stub
	lines   []string // runs of ukify, the last one of which writes theirs.efi
	signed  bool     // ukify signs: the .pcrsig sections are its own
	joins   []string // profile images that ukify made, in the order of image.Profiles
}

// A drawer makes cases of one seed. Every optional part is there in some of them; sizes fall on,
// below and above alignment boundaries.
type drawer struct {
	*mathrand.Rand
	t        testing.TB
	dir      string
	release  int // of ukify
	stubs    map[int][]byte
	addon    string // stub of add-ons, and that profiles are carried on
	oldAddon string // that of systemd 254
	kernel   []byte // a real one
	private  string // key to sign with, and its other half
	public   []byte
	files    int
}

// signingKey is one for all tests: it is not what they are about, and takes its time.
var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newDrawer(t testing.TB, seed uint64, dir string, release int) *drawer {
	d := &drawer{Rand: mathrand.New(mathrand.NewPCG(seed, uint64(release))), t: t, dir: dir, release: release, stubs: make(map[int][]byte)}
	key, err := signingKey()
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	d.public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	d.private = filepath.Join(dir, "private.pem")
	require.NoError(t, os.WriteFile(d.private, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600))
	return d
}

func (d *drawer) has(oneIn int) bool { return d.IntN(oneIn) == 0 }

func (d *drawer) size() int {
	return []int{1, 3, 4, 511, 512, 513, 4095, 4096, 4097, 100_003}[d.IntN(10)]
}

func (d *drawer) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}

// file writes a file of the case and returns its path.
func (d *drawer) file(what string, b []byte) string {
	d.files++
	p := filepath.Join(d.dir, fmt.Sprintf("%s-%d", what, d.files))
	require.NoError(d.t, os.WriteFile(p, b, 0o644))
	return p
}

// draw makes a case of parts on the stub of that release.
func (d *drawer) draw(stubRelease int, real bool) toolCase {
	c := toolCase{dir: filepath.Join(d.dir, fmt.Sprintf("case-%d", d.files)), release: stubRelease}
	require.NoError(d.t, os.Mkdir(c.dir, 0o755))
	stub, kernel := d.stubs[stubRelease], d.drawKernel()
	if real {
		kernel = d.kernel
	}
	if stubRelease > 252 && d.has(4) {
		stub = withSymbolTable(stub)
	}
	base, args := d.parts(true)
	c.image = uki.Image{Stub: source(stub), Linux: source(kernel), OSRelease: base.OSRelease, Cmdline: base.Cmdline, DeviceTree: base.DeviceTree,
		Uname: base.Uname, Splash: base.Splash, Initrd: base.Initrd, Microcode: base.Microcode}
	args = append(args, "--stub="+d.file("stub", stub), "--linux="+d.file("linux", kernel), "--output="+filepath.Join(c.dir, "theirs.efi"))
	if c.image.OSRelease == nil {
		args = append(args, "--os-release=")
	}
	args = append(args, d.trees(&c.image)...)
	small := stubRelease == 252 // its .sbat has room for one short line
	if small || d.has(3) {
		c.image.SBAT = []byte("sbat,1,SBAT Version,sbat,1,https://example.org\nus,1,x,x,1,x\n")
		args = append(args, "--sbat=@"+d.file("sbat", c.image.SBAT))
	}
	for i := range d.IntN(3) {
		b := d.bytes(d.IntN(2) * d.size())
		name := fmt.Sprintf(".extra%d", i)
		c.image.Sections = append(c.image.Sections, uki.Section{Name: name, Content: source(b)})
		args = append(args, "--section="+name+":@"+d.file("extra", b))
	}
	if stubRelease > 254 && d.has(2) {
		args = append(args, d.profiles(&c)...)
	}
	switch n := d.IntN(6); {
	case n == 0:
		c.signed = true
		c.image.PCRPublicKey = d.public
		args = append(args, "--pcr-private-key="+d.private, "--pcr-public-key="+d.file("public", d.public), "--pcr-banks=sha256")
	case n == 1 && d.release > 257: // 257 wants --pcr-private-key= with it
		c.image.PCRPublicKey = d.public
		args = append(args, "--pcr-public-key="+d.file("public", d.public))
	case n == 2 && len(c.image.Profiles) == 0:
		// As a section of one's own it lands where ukify puts the one that it makes.
		c.image.PCRSignature = []byte(`{"sha256": []}` + strings.Repeat(" ", d.size()))
		args = append(args, "--section=.pcrsig:@"+d.file("pcrsig", c.image.PCRSignature))
	}
	c.lines = append(c.lines, d.ukify(args))
	return c
}

func (d *drawer) drawKernel() []byte {
	k := petest.Kernel("6.12.0-stand-in")
	switch d.IntN(4) {
	case 0: // with SBAT of its own
		return petest.Kernel("6.12.0-stand-in", petest.Section{Name: ".sbat", Content: []byte("sbat,1,SBAT Version,sbat,1,https://example.org\nlinux,1,x,x,1,x\n")})
	case 1: // not NX-compatible: DllCharacteristics of the optional header at 88
		k[88+70], k[88+71] = 0, 0
	}
	return k
}

// ukify is one command line. Without --hwids= 262 looks for a directory of its own; 257 takes an
// empty one for a path.
func (d *drawer) ukify(args []string) string {
	if d.release > 257 && !strings.Contains(strings.Join(args, " "), "--hwids=") {
		args = append(args, "--hwids=")
	}
	return "ukify build " + strings.Join(args, " ")
}

// parts draws what the base and the profiles of an image can have.
func (d *drawer) parts(osrel bool) (uki.Profile, []string) {
	var p uki.Profile
	var args []string
	if osrel && d.has(2) {
		p.OSRelease = []byte("ID=test\nVERSION_ID=" + strings.Repeat("1", d.size()) + "\n")
		args = append(args, "--os-release=@"+d.file("osrel", p.OSRelease))
	}
	if d.has(2) {
		p.Cmdline = "quiet  ro\troothash=" + strings.Repeat("a", d.size()) + "\n"
		args = append(args, "--cmdline=@"+d.file("cmdline", []byte(p.Cmdline)))
	}
	if d.has(3) {
		b := deviceTree("acme,every-machine", d.size())
		p.DeviceTree = source(b)
		args = append(args, "--devicetree="+d.file("dtb", b))
	}
	if d.has(2) {
		p.Uname = fmt.Sprintf("6.12.%d-given", d.IntN(100))
		args = append(args, "--uname="+p.Uname)
	}
	if d.has(3) {
		b := append([]byte("BM"), d.bytes(d.size())...)
		p.Splash = source(b)
		args = append(args, "--splash="+d.file("splash", b))
	}
	for range d.IntN(2) * d.IntN(7) {
		b := d.bytes(min(1, d.IntN(5)) * d.size())
		p.Initrd = append(p.Initrd, source(b))
		args = append(args, "--initrd="+d.file("initrd", b))
	}
	if d.has(3) {
		b := d.bytes(min(1, d.IntN(5)) * d.size())
		p.Microcode = source(b)
		args = append(args, "--microcode="+d.file("ucode", b))
	}
	return p, args
}

// trees draws device trees to be picked by hardware, and what they are picked by.
func (d *drawer) trees(im *uki.Image) (args []string) {
	if !d.has(4) {
		return nil
	}
	for i := range 1 + d.IntN(3) {
		b := deviceTree(fmt.Sprintf("acme,machine-%d", i), d.size())
		im.DeviceTreeAuto = append(im.DeviceTreeAuto, source(b))
		args = append(args, "--devicetree-auto="+d.file("dtbauto", b))
	}
	if d.release > 257 { // 257 reads another format
		d.files++
		dir := filepath.Join(d.dir, fmt.Sprintf("hwids-%d", d.files))
		require.NoError(d.t, os.Mkdir(dir, 0o755))
		for i := range 1 + d.IntN(3) {
			text := fmt.Sprintf(`{"type": "devicetree", "name": "Acme %d", "compatible": "acme,machine-%d", "hwids": ["f83b2743-4d7a-5fc5-ab29-8f7c3955ce9%d"]}`, i, i, i)
			require.NoError(d.t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("acme-%d.json", i)), []byte(text), 0o644))
		}
		ids, err := hwid.Read(os.DirFS(dir))
		require.NoError(d.t, err)
		im.HWIDs = ids
		args = append(args, "--hwids="+dir)
	}
	return args
}

// profiles draws profiles of what ukify keeps when it joins them; see TestUkifyDropsSections.
func (d *drawer) profiles(c *toolCase) (args []string) {
	if d.has(2) {
		c.image.Profile = []byte("ID=main\nTITLE=Main\n")
		args = append(args, "--profile=@"+d.file("profile", c.image.Profile))
	}
	for i := range 1 + d.IntN(2) {
		p, own := d.parts(c.image.OSRelease != nil) // without one in the base, ukify drops it
		p.Profile = fmt.Appendf(nil, "ID=other%d\nTITLE=%s\n", i, strings.Repeat("o", d.size()))
		if d.has(4) {
			k := petest.Kernel(fmt.Sprintf("6.13.%d-profile", i))
			if d.has(2) { // not NX-compatible
				k[88+70], k[88+71] = 0, 0
			}
			p.Linux = source(k)
			own = append(own, "--linux="+d.file("linux", k))
			if p.OSRelease == nil {
				own = append(own, "--os-release=")
			}
		}
		out := filepath.Join(c.dir, fmt.Sprintf("profile-%d.efi", i))
		c.lines = append(c.lines, d.ukify(append(own, "--profile=@"+d.file("profile", p.Profile), "--stub="+d.addon, "--output="+out)))
		c.image.Profiles = append(c.image.Profiles, p)
		c.joins = append(c.joins, out)
		args = append(args, "--join-profile="+out)
	}
	return args
}

// deviceTree is a flattened device tree (Devicetree Specification 0.4, chapter 5) of a root node
// with a compatible string and a property of that many bytes.
func deviceTree(compatible string, size int) []byte {
	be := binary.BigEndian
	names := "compatible\x00fill\x00"
	var s []byte
	property := func(name int, value []byte) {
		s = be.AppendUint32(s, 3) // FDT_PROP
		s = be.AppendUint32(s, uint32(len(value)))
		s = be.AppendUint32(s, uint32(name))
		s = append(s, value...)
		s = append(s, make([]byte, -len(value)&3)...)
	}
	s = be.AppendUint32(s, 1) // FDT_BEGIN_NODE with an empty name
	s = append(s, 0, 0, 0, 0)
	property(0, []byte(compatible+"\x00"))
	property(len("compatible")+1, bytes.Repeat([]byte{0xaa}, size))
	s = be.AppendUint32(s, 2) // FDT_END_NODE
	s = be.AppendUint32(s, 9) // FDT_END
	const header, reservations = 40, 16
	b := be.AppendUint32(nil, 0xd00dfeed)
	for _, v := range []int{header + reservations + len(s) + len(names), header + reservations, header + reservations + len(s),
		header, 17, 16, 0, len(names), len(s)} {
		b = be.AppendUint32(b, uint32(v))
	}
	b = append(b, make([]byte, reservations)...)
	return append(append(b, s...), names...)
}

// withSymbolTable appends what stubs up to 252 still have: a COFF symbol table, here of one symbol,
// and its strings.
func withSymbolTable(stub []byte) []byte {
	le := binary.LittleEndian
	b := bytes.Clone(stub)
	at := le.Uint32(b[60:]) // the PE header
	le.PutUint32(b[at+12:], uint32(len(b)))
	le.PutUint32(b[at+16:], 1)
	b = append(b, make([]byte, 18)...)
	return append(le.AppendUint32(b, 9), "name\x00"...)
}
