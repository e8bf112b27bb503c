package sysupdate_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"math/big"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
	"github.com/osmith-dev/osmith/verity"
)

// newRelease is a version with a file system of 16 blocks. hash= is the parameter of its command
// line.
func newRelease(t testing.TB, id, version, parameter string) *release.Release {
	t.Helper()
	root := bytes.Repeat([]byte(version), 16*4096)[:16*4096]
	tree := faultio.NewDisk(1 << 20)
	size, err := verity.TreeSize(int64(len(root)), verity.Params{})
	require.NoError(t, err)
	hash, err := verity.Format(t.Context(), tree, bytes.NewReader(root), verity.Params{Salt: []byte{1}, UUID: [16]byte{2}})
	require.NoError(t, err)
	image := uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), Cmdline: parameter + "=" + hex.EncodeToString(hash),
		OSRelease: []byte("ID=debian\nIMAGE_ID=" + id + "\nIMAGE_VERSION=" + version + "\n")}
	a, err := image.Assemble()
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = a.WriteTo(&b)
	require.NoError(t, err)
	return &release.Release{UKI: bytes.NewReader(b.Bytes()), Root: bytes.NewReader(root), Tree: io.NewSectionReader(tree, 0, size), RootHash: hash}
}

// signatureOf signs a root hash.
func signatureOf(t testing.TB, rootHash []byte) osmith.Source {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "acme"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	s, err := verity.SignRootHash(rootHash, key, cert)
	require.NoError(t, err)
	content, err := s.Partition(4096)
	require.NoError(t, err)
	return bytes.NewReader(content)
}

func TestExport(t *testing.T) {
	r := newRelease(t, "acme", "2", "roothash")
	r.RootHashSignature = signatureOf(t, r.RootHash)
	r.Addons = []release.Addon{{Name: "debug.addon.efi", Content: bytes.NewReader([]byte("debug"))}}
	r.Extensions = []extension.File{{Name: "tools.sysext.raw", Content: bytes.NewReader([]byte("tools"))}}
	r.Loader = bytes.NewReader([]byte("loader"))
	r.SBOMs = []release.SBOM{{MediaType: release.MediaTypeSPDX, Name: "a.json", Content: bytes.NewReader([]byte("{}"))}}
	x, err := sysupdate.Export(r, sysupdate.ExportOptions{Source: "https://acme.example/updates"})
	require.NoError(t, err)
	data, tree, err := partition.VerityIDs(r.RootHash)
	require.NoError(t, err)
	var names []string
	for _, f := range x.Files {
		names = append(names, f.Name)
	}
	require.Equal(t, []string{"acme_2_" + tree.String() + ".verity.raw", "acme_2.verity-sig.raw", "acme_2_" + data.String() + ".root.raw", "acme_2.debug.addon.efi.raw", "acme_2.tools.sysext.raw", "acme_2.efi"}, names)
	require.Equal(t, []string{release.MediaTypeLoader, release.MediaTypeSPDX}, x.Left)
	require.EqualValues(t, 16384, x.Files[1].Content.Size(), "nothing of a longer signature stays behind it")
	signature, err := verity.ReadSignature(x.Files[1].Content)
	require.NoError(t, err)
	require.Equal(t, r.RootHash, signature.RootHash)
	fsys := fstest.MapFS{}
	for _, d := range x.Transfers {
		fsys["usr/lib/sysupdate.d/"+d.Name] = &fstest.MapFile{Data: []byte(d.Text)}
	}
	d, err := sysupdate.ReadDefinitions(fsys, sysupdate.DefinitionOptions{Specifiers: specifiers})
	require.NoError(t, err)
	require.Empty(t, d.Findings)
	var got []string
	for _, tr := range d.Transfers {
		require.True(t, tr.Enabled)
		require.True(t, tr.Verify)
		require.Equal(t, []string{"1"}, tr.ProtectVersions)
		require.EqualValues(t, 2, tr.Target.InstancesMax)
		got = append(got, tr.Name+" "+string(tr.Target.Type)+" "+tr.Target.Path+" "+tr.Target.Patterns[0].String()+" "+partition.TypeName(tr.Target.PartitionType))
		if tr.Target.Type == sysupdate.Partition {
			require.Equal(t, partition.AttrReadOnly, *tr.Target.PartitionFlags)
		} else {
			require.Equal(t, sysupdate.BaseESP, tr.Target.Base)
		}
	}
	require.Equal(t, []string{
		"010-verity partition auto acme_@v_verity root-x86-64-verity", "020-verity-sig partition auto acme_@v_verity_sig root-x86-64-verity-sig", "030-root partition auto acme_@v root-x86-64",
		"040-addon-debug.addon.efi regular-file /EFI/Linux acme_@v.efi.extra.d/debug.addon.efi linux-generic",
		"050-extension-tools.sysext.raw regular-file /EFI/Linux acme_@v.efi.extra.d/tools.sysext.raw linux-generic", "060-uki regular-file /EFI/Linux acme_@v+@l-@d.efi linux-generic",
	}, got)
	require.EqualValues(t, 3, *d.Transfers[5].Target.TriesLeft)

	// Every file is one of its own transfer alone.
	for _, f := range x.Files {
		n := 0
		for _, tr := range d.Transfers {
			for _, p := range tr.Source.Patterns {
				if fields, ok := p.Match(f.Name); ok {
					n++
					require.Equal(t, "2", fields.Version)
				}
			}
		}
		require.Equal(t, 1, n, f.Name)
	}
}

func TestExportOptions(t *testing.T) {
	r := newRelease(t, "acme", "2", "usrhash")
	x, err := sysupdate.Export(r, sysupdate.ExportOptions{Source: "/releases", SourceType: sysupdate.RegularFile, Unsigned: true, Disk: "/dev/sda", Boot: sysupdate.BaseBoot, Tries: 5, InstancesMax: 3})
	require.NoError(t, err)
	require.Len(t, x.Transfers, 3)
	require.Contains(t, x.Transfers[1].Text, "MatchPartitionType=usr-x86-64\n")
	require.Contains(t, x.Transfers[1].Text, "Path=/dev/sda\n")
	require.Contains(t, x.Transfers[1].Text, "Verify=no\n")
	require.Contains(t, x.Transfers[1].Text, "InstancesMax=3\n")
	require.Contains(t, x.Transfers[2].Text, "TriesLeft=5\n")
	require.Contains(t, x.Transfers[2].Text, "PathRelativeTo=boot\n")
	x, err = sysupdate.Export(r, sysupdate.ExportOptions{DataType: partition.RootARM64})
	require.NoError(t, err)
	require.Empty(t, x.Transfers, "nothing says where the files will be")
	require.Len(t, x.Files, 3)
	x, err = sysupdate.Export(&release.Release{UKI: r.UKI}, sysupdate.ExportOptions{Source: "https://acme.example/"})
	require.NoError(t, err)
	require.Len(t, x.Files, 1)

	other := signatureOf(t, make([]byte, 32))
	for text, c := range map[string]struct {
		change func(r *release.Release)
		o      sysupdate.ExportOptions
	}{
		`version "2,1"`:                                       {change: func(r *release.Release) { r.Version = "2,1" }},
		"would be read as a different version":                {change: func(r *release.Release) { r.Version = "2_1" }},
		"would be read as a different version ":               {change: func(r *release.Release) { r.Version = "2.efi" }},
		"+3-0.efi\" would be read as a different version":     {change: func(r *release.Release) { r.Root, r.Tree, r.RootHash, r.Version = nil, nil, nil, "2+1" }},
		"UTF-16 units":                                        {change: func(r *release.Release) { r.Version = strings.Repeat("1", 30) }},
		`ID "a@v"`:                                            {change: func(r *release.Release) { r.ID = "a@v" }},
		"root hash of the signature of the root hash is 0000": {change: func(r *release.Release) { r.RootHashSignature = other }},
		"signature of the root hash: signature partition":     {change: func(r *release.Release) { r.RootHashSignature = bytes.NewReader([]byte("x")) }},
		"needs a root file system":                            {change: func(r *release.Release) { r.Root = nil }},
		`architecture "pdp11"`:                                {change: func(r *release.Release) { r.Architecture = "pdp11" }},
		"two parts": {change: func(r *release.Release) {
			r.Addons = []release.Addon{{Name: "a.addon.efi", Content: r.UKI}, {Name: "a.addon.efi", Content: r.UKI}}
		}},
		"would be mistaken for a version of": {change: func(r *release.Release) {
			r.RootHashSignature = signatureOf(t, r.RootHash)
			r.Addons = []release.Addon{{Name: "root", Content: r.UKI}}
		}},
		`extension "a@.sysext.raw"`: {change: func(r *release.Release) {
			r.Extensions = []extension.File{{Name: "a@.sysext.raw", Content: r.UKI}}
		}},
		"a release needs a UKI":   {change: func(r *release.Release) { r.UKI = nil }},
		"source type":             {o: sysupdate.ExportOptions{SourceType: sysupdate.Tar}},
		`source "/x"`:             {o: sysupdate.ExportOptions{Source: "/x"}},
		`source "x"`:              {o: sysupdate.ExportOptions{SourceType: sysupdate.RegularFile, Source: "x"}},
		"neither %":               {o: sysupdate.ExportOptions{Source: "https://x/%41"}},
		`disk "sda"`:              {o: sysupdate.ExportOptions{Disk: "sda"}},
		`UKIs on "root"`:          {o: sysupdate.ExportOptions{Boot: sysupdate.BaseRoot}},
		"1 instances":             {o: sysupdate.ExportOptions{InstancesMax: 1}},
		"partition of 5000 bytes": {o: sysupdate.ExportOptions{SignatureSize: 5000}},
		"partition type var":      {o: sysupdate.ExportOptions{DataType: partition.Var}},
		"of 8388608 bytes":        {o: sysupdate.ExportOptions{SignatureSize: 8 << 20}},
	} {
		changed := *r
		if c.change != nil {
			c.change(&changed)
		}
		x, err := sysupdate.Export(&changed, c.o)
		require.Nil(t, x, text)
		require.ErrorContains(t, err, strings.TrimSpace(text))
	}
}

func TestManifest(t *testing.T) {
	m := &sysupdate.Manifest{}
	require.NoError(t, m.Set("b", [32]byte{1}))
	require.NoError(t, m.Set("a/c d", [32]byte{2}))
	require.NoError(t, m.Set("b", [32]byte{1}))
	var other *sysupdate.OtherContentError
	require.ErrorAs(t, m.Set("b", [32]byte{3}), &other)
	require.Equal(t, sysupdate.OtherContentError{Name: "b", Want: [32]byte{1}, Got: [32]byte{3}}, *other)
	require.Empty(t, m.BestBefore())
	name, err := m.SetBestBefore("2030-12-31")
	require.NoError(t, err)
	require.Equal(t, "BEST-BEFORE-2030-12-31", name)
	name, err = m.SetBestBefore("2031-01-31")
	require.NoError(t, err)
	require.Equal(t, "2031-01-31", m.BestBefore())
	_, err = m.SetBestBefore("2031-02-31")
	require.ErrorContains(t, err, "want a date")
	require.NoError(t, m.Set("BEST-BEFORE-soon", [32]byte{}))
	require.Equal(t, "2031-01-31", m.BestBefore())
	m.Remove("BEST-BEFORE-soon")
	var b bytes.Buffer
	_, err = m.WriteTo(&b)
	require.NoError(t, err)
	want := "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 *" + name + "\n02" + strings.Repeat("00", 31) + " *a/c d\n01" + strings.Repeat("00", 31) + " *b\n"
	require.Equal(t, want, b.String())
	again, err := sysupdate.ReadManifest(&b)
	require.NoError(t, err)
	require.Equal(t, m, again)
	require.Equal(t, []string{name, "a/c d", "b"}, again.Names())
	sum, ok := again.Sum("b")
	require.True(t, ok)
	require.Equal(t, [32]byte{1}, sum)

	// As sha256sum(1) writes it for text, and without a line feed at the end.
	again, err = sysupdate.ReadManifest(strings.NewReader(strings.Repeat("AB", 32) + "  x\n" + strings.Repeat("ab", 32) + " *x"))
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, again.Names())
	sum64 := strings.Repeat("0", 64)
	for text, offset := range map[string]int64{
		"\\" + sum64 + "  a\n": 0, sum64 + " a\n": 0, sum64 + "\n": 0, sum64 + "  \n": 0, sum64 + "   a\n" + sum64[1:] + "   b\n": 69, sum64 + "  ../a": 0, sum64 + "  /a": 0, sum64 + "  a\tb": 0, sum64 + "  a\x00": 67, sum64 + "  \xff": 0,
		"\n": 0, strings.Repeat("g", 64) + "  a": 0, sum64 + "  a\n" + strings.Repeat("1", 64) + "  a\n": 68, sum64 + " ?a": 0, strings.Repeat(sum64+"  a\n", 1<<18): 16 << 20,
	} {
		m, err := sysupdate.ReadManifest(strings.NewReader(text))
		require.Nil(t, m)
		var e *osmith.FormatError
		require.ErrorAs(t, err, &e, "%.100q", text)
		require.Equal(t, offset, e.Offset, "%.100q", text)
	}
	_, err = sysupdate.ReadManifest(strings.NewReader("\\" + sum64 + "  a\n"))
	require.ErrorContains(t, err, "a name with escapes")
	for _, name := range []string{"", "..", "a//b", "a/./b", "a\n", strings.Repeat("a", 5000)} {
		require.ErrorContains(t, (&sysupdate.Manifest{}).Set(name, [32]byte{}), "sysupdate: the name")
	}
}

// FuzzManifest: what is read is written and read again as the same.
func FuzzManifest(f *testing.F) {
	f.Add([]byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 *BEST-BEFORE-2030-12-31\n" + strings.Repeat("AB", 32) + "  x/y"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := sysupdate.ReadManifest(bytes.NewReader(b))
		require.Equal(t, err == nil, m != nil)
		if err != nil {
			return
		}
		var out bytes.Buffer
		_, err = m.WriteTo(&out)
		require.NoError(t, err)
		again, err := sysupdate.ReadManifest(&out)
		require.NoError(t, err)
		require.Equal(t, m, again)
		_ = m.BestBefore()
	})
}
