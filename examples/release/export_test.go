package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// manifest reads SHA256SUMS, and checks every file that it lists against it.
func (w workshop) manifest(t *testing.T, dir string) *sysupdate.Manifest {
	t.Helper()
	m, err := readManifest(w.path(dir + "/SHA256SUMS"))
	require.NoError(t, err)
	for _, name := range m.Names() {
		sum, _ := m.Sum(name)
		assert.Equal(t, sha256.Sum256(read(t, w.path(dir+"/"+name))), sum, name)
	}
	return m
}

// A release becomes files that systemd-sysupdate updates from, beside those of the version before,
// and the definitions that a machine needs for that.
func TestExport(t *testing.T) {
	w := newWorkshop(t)
	one := w.pack(t, "1", "-arch", "amd64", "-ref", "1")
	w.pack(t, "2", "-arch", "amd64", "-loader", w.path("uki1"), "-addon", w.path("debug.addon.efi"), "-sbom", w.path("sbom.json"))
	export := func(ref string, more ...string) (r exportResult) {
		object(t, &r, append([]string{"export", w.path("layout"), ref, "-arch", "amd64", "-o", w.path("www")}, more...)...)
		return r
	}
	r := export("1", "-best-before", "2030-12-31")
	assert.Equal(t, []string{one.Digest, "acme", "1", "2030-12-31"}, []string{r.Digest, r.ID, r.Version, r.BestBefore})
	assert.Len(t, r.Files, 3)
	assert.Empty(t, r.Definitions)
	assert.Equal(t, w.path("www/SHA256SUMS"), r.ToSign)

	r = export("2", "-definitions", w.path("root/usr/lib/sysupdate.d"), "-url", "https://updates.example/acme")
	hash, err := hex.DecodeString(string(read(t, w.path("hash2"))))
	require.NoError(t, err)
	data, tree, err := partition.VerityIDs(hash)
	require.NoError(t, err)
	var written []string
	for _, f := range r.Files {
		written = append(written, f.Name)
	}
	assert.Equal(t, []string{"acme_2_" + tree.String() + ".verity.raw", "acme_2_" + data.String() + ".root.raw", "acme_2.debug.addon.efi.raw", "acme_2.efi"}, written)
	assert.Equal(t, []string{release.MediaTypeLoader, release.MediaTypeSPDX}, r.Left)
	assert.Equal(t, "2030-12-31", r.BestBefore, "as it was")
	assert.Equal(t, read(t, w.path("root2")), read(t, w.path("www/"+written[1])))
	m := w.manifest(t, "www")
	assert.Len(t, m.Names(), 3+4+1)
	assert.ElementsMatch(t, append(m.Names(), "SHA256SUMS"), names(t, w.path("www")), "nothing is left behind")

	d, err := sysupdate.ReadDefinitions(os.DirFS(w.path("root")), sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': "1"}})
	require.NoError(t, err)
	assert.Empty(t, d.Findings)
	require.Len(t, d.Transfers, 4)
	for i, tr := range d.Transfers {
		assert.Equal(t, r.Definitions[i], tr.Name+".transfer")
		assert.Equal(t, "https://updates.example/acme", tr.Source.Path)
		assert.True(t, tr.Verify)
		for _, version := range []string{"1", "2"} {
			// each takes one part of each version, but for what the first does not have
			n := 0
			for _, name := range m.Names() {
				if f, ok := tr.Source.Patterns[0].Match(name); ok && f.Version == version {
					n++
				}
			}
			assert.Equal(t, map[bool]int{true: 0, false: 1}[version == "1" && strings.Contains(tr.Name, "addon")], n, "%s %s", tr.Name, version)
		}
	}

	// The same again changes nothing; another day does, and takes the first one off the list.
	before := read(t, w.path("www/SHA256SUMS"))
	export("2")
	assert.Equal(t, before, read(t, w.path("www/SHA256SUMS")))
	assert.Equal(t, "2031-06-30", export("2", "-best-before", "2031-06-30").BestBefore)
	assert.Len(t, w.manifest(t, "www").Names(), 3+4+1)
	assert.Contains(t, ok(t, "export", w.path("layout"), "2", "-arch", "amd64", "-o", w.path("www")), "left out: "+release.MediaTypeLoader)

	// From a server, for machines that have the directory.
	server := httptest.NewServer(http.FileServer(http.Dir(w.path("layout"))))
	defer server.Close()
	var far exportResult
	object(t, &far, "export", server.URL, "2", "-arch", "amd64", "-o", w.path("far"), "-definitions", w.path("far.d"), "-path", "/releases", "-disk", "/dev/vda", "-boot", "boot", "-tries", "5", "-instances", "3", "-unsigned")
	assert.Equal(t, r.Files, far.Files)
	text := string(read(t, w.path("far.d/"+far.Definitions[3])))
	for _, want := range []string{"Type=regular-file\nPath=/releases\n", "PathRelativeTo=boot\n", "TriesLeft=5\n", "InstancesMax=3\n", "Verify=no\n"} {
		assert.Contains(t, text, want)
	}
	assert.Contains(t, string(read(t, w.path("far.d/"+far.Definitions[0]))), "Path=/dev/vda\n")
}

// A version that machines may have never gets another content, and a call that fails leaves
// nothing.
func TestExportRefuses(t *testing.T) {
	w := newWorkshop(t)
	w.pack(t, "2", "-arch", "amd64")
	export := []string{"export", w.path("layout"), "2", "-arch", "amd64", "-o", w.path("www")}
	ok(t, export...)
	before := names(t, w.path("www"))
	refused := func(status int, want string, more ...string) {
		t.Helper()
		got, _, stderr := call3(t, append(export, more...)...)
		assert.Equal(t, status, got, stderr)
		assert.Contains(t, stderr, want)
		assert.Equal(t, before, names(t, w.path("www")))
	}
	refused(2, "want a date", "-best-before", "tomorrow")
	refused(2, "-definitions needs -url or -path", "-definitions", w.path("d"))
	refused(2, "-definitions needs -url or -path", "-url", "https://x")
	refused(2, "say one of them", "-url", "https://x", "-path", "/x", "-definitions", w.path("d"))
	refused(1, `source "ftp://x"`, "-url", "ftp://x", "-definitions", w.path("d"))
	refused(1, `UKIs on "root"`, "-boot", "root")
	refused(1, "1 instances", "-instances", "1")
	assert.NoFileExists(t, w.path("d"))
	status, _, stderr := call3(t, export[:5]...)
	assert.Equal(t, 2, status)
	assert.Contains(t, stderr, "-o")
	refused(1, "want", "-version", "3")

	sums := read(t, w.path("www/SHA256SUMS"))
	w.write(t, "www/SHA256SUMS", []byte(strings.Replace(string(sums), string(sums[:4]), "ffff", 1)))
	refused(1, "publish changed content under a new version")
	w.write(t, "www/SHA256SUMS", append(sums, strings.Repeat("0", 64)+" *acme_2_00000000-0000-0000-0000-000000000001.root.raw\n"...))
	refused(1, "another part of version 2")
	w.write(t, "www/SHA256SUMS", []byte("junk"))
	refused(1, "SHA256SUMS at 0x0")
	w.write(t, "www/SHA256SUMS", sums)
	ok(t, export...)
}
