package osmith_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// TestCompatFormats freezes what TestCompat's system has no use for: images with everything,
// add-ons, enrolments, rotations, policies of artifacts, predicted logs, releases with everything.
func TestCompatFormats(t *testing.T) {
	keys := readKeys(t)
	when := time.Unix(1_767_225_600, 0).UTC()
	got := map[string]string{}
	text := func(s string) *strings.Reader { return strings.NewReader(s) }
	digest := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	read := func(w io.WriterTo, err error) []byte {
		t.Helper()
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = w.WriteTo(&b)
		require.NoError(t, err)
		return b.Bytes()
	}

	image := uki.Image{
		Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), Initrd: []osmith.Source{text("one"), text("three")},
		Cmdline: "quiet", OSRelease: []byte("ID=acme\nVERSION_ID=1\n"), Microcode: text("microcode"), Splash: text("BM"),
		DeviceTree: text("tree"), DeviceTreeAuto: []osmith.Source{text("tree of one"), text("tree of two")},
		HWIDs:    []hwid.Record{{Type: hwid.TypeDeviceTree, CHID: secureboot.GlobalVariable, Name: "one", Match: "acme,one"}},
		Firmware: []uki.Firmware{{ID: "acme", Payload: text("firmware")}},
		Profile:  []byte("ID=main\n"), PCRSignatureReserve: 64,
		Profiles: []uki.Profile{{Profile: []byte("ID=reset\n"), Cmdline: "reset", PCRSignatureReserve: 64}},
	}
	got["uki-with-everything"] = digest(read(image.Assemble()))
	got["addon"] = digest(read((&uki.Addon{Stub: bytes.NewReader(petest.AddonStub("262")), Cmdline: "debug", Uname: "6.12.0"}).Assemble()))
	variants, err := image.MeasureVariants(crypto.SHA256)
	require.NoError(t, err)
	var values []byte
	for _, v := range variants {
		value, err := tpm.PCR11(crypto.SHA256, v.Sections)
		require.NoError(t, err)
		values = append(values, value...)
	}
	got["pcr-11-of-its-variants"] = fmt.Sprintf("%d: %s", len(variants), digest(values))

	nothingElse := secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}
	enrolment, err := keys.SecureBoot.Enroll(secureboot.EnrollOptions{Time: when, OptionROMs: nothingElse, NothingMustBoot: true})
	require.NoError(t, err)
	got["enrolment"] = digest(append(append(append([]byte{}, enrolment.PK...), enrolment.KEK...), enrolment.DB...))
	rotation, err := secureboot.PlanRotation(secureboot.RotationOptions{Machine: enrolment.Variables, Old: keys.SecureBoot,
		New: &secureboot.Hierarchy{DB: keys.SecureBoot.KEK, Owner: keys.SecureBoot.Owner}, Time: when.Add(time.Hour),
		OptionROMs: nothingElse, RevokeOld: true, NothingMustBoot: true})
	require.NoError(t, err)
	rotationJSON, err := json.Marshal(rotation)
	require.NoError(t, err)
	got["rotation-json"] = digest(rotationJSON)

	rules, err := json.Marshal(cosign.Rules{{Repository: "registry.example/os/*", Policy: cosign.Policy{Threshold: 2,
		Authorities: []cosign.Authority{{Name: "release", Keys: []crypto.PublicKey{keys.Release.Public()}, NotBefore: when},
			{Name: "ci", Identities: []cosign.Identity{{Issuer: "https://ci.example", SubjectRegexp: "https://ci[.]example/.*"}}}},
		Attestations: []cosign.AttestationRule{{PredicateTypes: []string{cosign.PredicateSPDX}, Authorities: []string{"ci"}}}}}})
	require.NoError(t, err)
	got["cosign-policy-json"] = digest(rules)

	log, err := tpm.Predict(tpm.Boot{Stub: "262", Banks: []crypto.Hash{crypto.SHA256}, Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}},
		UKI:      tpm.Application{Path: `\EFI\Linux\acme.efi`, Digests: map[crypto.Hash][]byte{crypto.SHA256: make([]byte, 32)}},
		Sections: []osmith.Measurement{{Section: ".linux", Size: 1, Digests: map[crypto.Hash][]byte{crypto.SHA256: make([]byte, 32)}}}})
	require.NoError(t, err)
	raw, err := log.MarshalBinary()
	require.NoError(t, err)
	got["predicted-log"] = digest(raw)
	cel, err := log.CEL()
	require.NoError(t, err)
	got["predicted-log-cel"] = digest(cel)

	dir := filepath.Join(t.TempDir(), "layout")
	d, err := release.Pack(dir, "1", &release.Release{ID: "acme", Version: "1", Architecture: "amd64", UKI: text("uki"), Root: text("root"), Tree: text("tree"),
		RootHash: make([]byte, 32), RootHashSignature: text("signature"), Loader: text("loader"), PCRs: text("{}"),
		Addons: []release.Addon{{Name: "a.addon.efi", Content: text("addon")}},
		SBOMs:  []release.SBOM{{MediaType: release.MediaTypeSPDX, Name: "a.spdx.json", Content: text("{}")}}})
	require.NoError(t, err)
	got["release-with-everything"] = d.Digest.String()
	stated, err := release.Pack(dir, "2", &release.Release{ID: "acme", Version: "2", UKI: text("uki"), SupportedUntil: "2031-12-31", Fixes: []string{"CVE-2026-1234"}})
	require.NoError(t, err)
	got["release-with-support"] = stated.Digest.String()
	index, err := release.PackIndex(dir, "all", map[string]ocispec.Descriptor{"amd64": d, "arm64": d})
	require.NoError(t, err)
	got["release-index"] = index.Digest.String()

	disk := faultio.NewDisk(2 << 20)
	random := rand.NewChaCha8([32]byte{0xac, 0x3e})
	volume, key, err := luks.Format(disk, []byte("passphrase"), luks.FormatOptions{Rand: random, KeyslotsSize: 3 * 258048, Label: "state", Flags: []string{"allow-discards"},
		Key: luks.KeyOptions{KDF: luks.KDF{Iterations: 4, Memory: 1 << 20, Threads: 2}}})
	require.NoError(t, err)
	_, _, err = volume.AddRecoveryKey(key, luks.KeyOptions{Rand: random, Priority: luks.PriorityPrefer})
	require.NoError(t, err)
	_, err = volume.AddToken([]byte(`{"type":"acme","note":1}`), []int{1}, luks.TokenOptions{})
	require.NoError(t, err)
	w, err := volume.NewWriter(key)
	require.NoError(t, err)
	_, err = w.Write([]byte("state"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	got["luks-volume"] = sum(t, disk)

	b, err := json.MarshalIndent(got, "", "  ")
	require.NoError(t, err)
	compare(t, "formats.json", b)
}
