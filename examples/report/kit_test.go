package main

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/schematest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

var when = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var keys = sync.OnceValues(func() (*acmeos.Keys, error) { return acmeos.GenerateKeys(when) })

// A kit is a directory with a layout of releases, a disk, keys and variables.
type kit struct {
	t     *testing.T
	dir   string
	keys  *acmeos.Keys
	parts *acmeos.Parts
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k, err := keys()
	require.NoError(t, err)
	b := &kit{t: t, dir: t.TempDir(), keys: k, parts: acmeos.StandIns()}
	der, err := x509.MarshalPKIXPublicKey(&k.Release.PublicKey)
	require.NoError(t, err)
	b.file("release.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	der, err = x509.MarshalPKIXPublicKey(&k.PCR.PublicKey)
	require.NoError(t, err)
	b.file("pcr.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	m, err := (&acmeos.Builder{Keys: k, Parts: b.parts, Time: when}).Machine()
	require.NoError(t, err)
	require.NoError(t, acmeos.WriteVariables(b.path("vars"), m.Firmware, nil))
	return b
}

func (b *kit) path(name string) string { return filepath.Join(b.dir, name) }

func (b *kit) file(name, content string) {
	b.t.Helper()
	require.NoError(b.t, os.WriteFile(b.path(name), []byte(content), 0o600))
}

// recipe is what a version is made of.
type recipe struct {
	version, cmdline, osRelease string
	data                        []byte // of the root file system
	bare                        bool   // unsigned, without loader, SBOM and policies
	unsigned                    bool   // the artifact
	profiles                    []uki.Profile
	until                       release.Date
	fixes                       []string
}

// build makes a version, packs it as LAYOUT:VERSION and signs it.
func (b *kit) build(r recipe) *build.Set {
	b.t.Helper()
	root := b.path(r.version + ".root.raw")
	require.NoError(b.t, acmeos.WriteRoot(root, r.version, map[string][]byte{"/usr/share/acme/data": r.data}))
	src, err := osmith.OpenFile(root)
	require.NoError(b.t, err)
	if r.osRelease == "" {
		r.osRelease = string(acmeos.OSRelease(r.version))
	}
	parts := build.Parts{Root: src, Seed: osmith.GUID{0xac}, UKI: build.UKIParts{Image: uki.Image{
		Stub: b.parts.Stub, Linux: b.parts.Linux, Initrd: []osmith.Source{b.parts.Initrd}, Cmdline: r.cmdline, OSRelease: []byte(r.osRelease), Profiles: r.profiles,
	}}}
	var k build.Keys
	if !r.bare {
		k = build.Keys{SecureBoot: b.keys.SecureBoot.DB, SignOptions: authenticode.SignOptions{Time: when}, PCR: []build.PCRKey{{Signer: b.keys.PCR}}, Verity: b.keys.SecureBoot.DB}
		parts.Loader = b.parts.Loader
		parts.SBOMs = []release.SBOM{
			{MediaType: release.MediaTypeSPDX, Name: "acme.spdx.json", Content: strings.NewReader(`{"spdxVersion":"SPDX-2.3","packages":[{"name":"linux"},{"name":"systemd"},{"name":"acme"}]}`)},
			{MediaType: release.MediaTypeCycloneDX, Name: "acme.cdx.json", Content: strings.NewReader(`{"bomFormat":"CycloneDX","components":[{"name":"openssl"}]}`)},
		}
	}
	dir := b.path("out-" + r.version)
	require.NoError(b.t, os.MkdirAll(dir, 0o755))
	set, err := build.System(b.t.Context(), dir, parts, k)
	require.NoError(b.t, err)
	b.t.Cleanup(func() {
		require.NoError(b.t, set.Close())
		require.NoError(b.t, src.Close())
	})
	packed, err := build.Release(b.t.Context(), b.path("layout"), &set.Release, build.ReleaseOptions{Ref: r.version, SupportedUntil: r.until, Fixes: r.fixes})
	require.NoError(b.t, err)
	if !r.bare && !r.unsigned {
		store, err := cosign.OpenDir(b.path("layout"))
		require.NoError(b.t, err)
		require.NoError(b.t, cosign.Sign(b.t.Context(), store, packed, b.keys.Release, cosign.SignOptions{}))
	}
	return set
}

// disk writes the disk of a set.
func (b *kit) disk(set *build.Set) {
	b.t.Helper()
	image, err := build.Disk(b.t.Context(), &set.Release, build.DiskOptions{Seed: osmith.GUID{0xac, 1}, SlotSize: 64 << 20})
	require.NoError(b.t, err)
	disk, err := acmeos.CreateImage(b.path("disk.img"), image.Size)
	require.NoError(b.t, err)
	require.NoError(b.t, partition.WriteImage(disk, image.Image, partition.WriteOptions{TargetIsZero: true}))
	require.NoError(b.t, disk.Close())
}

// call runs the program; @ stands for the directory.
func (b *kit) call(line string) (status int, stdout, stderr string) {
	b.t.Helper()
	args := strings.Fields(line)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "@", b.dir+string(filepath.Separator))
	}
	var out, err bytes.Buffer
	status = program.Run(b.t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

// facts runs the program for its object, which is as its schema says.
func (b *kit) facts(status int, line string) *report {
	b.t.Helper()
	got, stdout, stderr := b.call(line + " -json")
	require.Equal(b.t, status, got, stderr)
	schematest.Require(b.t, filepath.Join("..", "..", "docs", "schema", "report.json"), []byte(stdout))
	var r struct {
		report
		Disk json.RawMessage `json:"disk"` // a plan can be written, not read
	}
	require.NoError(b.t, json.Unmarshal([]byte(stdout), &r), stdout)
	return &r.report
}

// page runs the program for its page, which a strict reader can read.
func (b *kit) page(status int, line string) *document {
	b.t.Helper()
	got, stdout, stderr := b.call(line)
	require.Equal(b.t, status, got, stderr)
	return parse(b.t, stdout)
}

// token is one that is sealed to the policies that a key signs for PCR 11.
func (b *kit) token(name string, key *rsa.PublicKey) {
	b.t.Helper()
	digest, err := policy.PolicyAuthorize(key, nil)
	require.NoError(b.t, err)
	text, err := upgradetest.SealedToken(sealing.Token{Bank: crypto.SHA256, PublicKey: key, PublicKeyPCRs: []int{tpm.PCRKernel}}, digest).MarshalJSON()
	require.NoError(b.t, err)
	b.file(name, string(text))
}

// claims are the answers by claim.
func (r *report) claims() map[string]claim {
	out := map[string]claim{}
	for _, w := range r.Contract {
		for _, c := range w.Claims {
			out[c.Claim] = c
		}
	}
	return out
}

// two makes versions 1 and 2 and the disk of the first.
func (b *kit) two() {
	b.t.Helper()
	data := slices.Repeat([]byte("data of every version "), 1<<14)
	b.disk(b.build(recipe{version: "1", cmdline: "quiet", data: data}))
	b.build(recipe{version: "2", cmdline: "quiet console=ttyS0", data: append([]byte("new "), data...)})
}

const whole = "@layout:1 @layout:2 -disk @disk.img -key @release.pub -vars @vars -pcr-key @pcr.pub -no-shim -date 2026-06-01"
