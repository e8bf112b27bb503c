//go:build linux

package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// What command lines say about the signature of the root hash.
const (
	asksForSignature     = "systemd.verity_root_options=root-hash-signature=auto"
	requiresSignatures   = "dm_verity.require_signatures=1"
	leavesKeyringOpen    = "dm_verity.keyring_unsealed=1"
	requiredKeyNotThere  = "required key not available"
	keyRejected          = "key was rejected by service"
	keyringMayNotBeAdded = "operation not permitted"
)

// TestSignedSlots boots a disk that systemd-repart has made, ESP, hash tree and signature of the
// root hash included, and boots it again after package upgrade has put version 2 into its other
// slot. Both root hashes are signed with the key of db, which the kernel finds in its platform
// keyring. In both boots the guest tries other signatures, too: what the kernel says to them is
// what the boots verdict says.
func TestSignedSlots(t *testing.T) {
	requireVM(t)
	t.Parallel()
	root := testtools.Forky(t)
	s := newSystem(t, root)
	s.Machine.Code, s.Machine.Vars = root.Part(t, "ovmf-code"), root.Part(t, "ovmf-vars")
	require.NoError(t, s.Machine.SetVariables(*s.Facts.Firmware))
	k := newVerityKeys(t, s)

	own := s.Builder.Cmdline
	said := func(options ...string) string { return strings.Join(append([]string{own}, options...), " ") }
	s.Builder.Cmdline = said(asksForSignature, "osmith.signatures=signatures/1")
	v1 := buildVersion(t, s, "1")
	s.Builder.Cmdline = said(asksForSignature, requiresSignatures, leavesKeyringOpen, "osmith.signatures=signatures/2")
	v2 := buildVersion(t, s, "2")
	repartDisk(t, s, root, v1, slices.Concat(k.files(t, "signatures/1", v1), k.files(t, "signatures/2", v2), veritysetup(t, root)))

	first := bootGood(t, s, "1-repart", v1)
	require.Contains(t, first.Verity.Table, "root_hash_sig_key_desc osmith:root")
	t.Logf("keyrings of %s: %q", first.Kernel, first.Signatures.Keyrings)
	require.Contains(t, strings.Join(first.Signatures.Keyrings[".platform"], "\n"), k.db.Cert.Subject.CommonName)
	require.Equal(t, keyringMayNotBeAdded, first.Signatures.AddKey, "nothing goes into a keyring that the kernel has sealed")

	// Plans for the disk as it is before the upgrade.
	judge := func(signer secureboot.KeyPair, keyrings []upgrade.Keyring, options ...string) upgrade.Outcome {
		t.Helper()
		return k.judge(t, s, k.release(t, k.variant(t, s, said(options...)), signer), keyrings)
	}
	platform := upgrade.Keyring{Name: upgrade.KeyringPlatform, Certificates: []*x509.Certificate{k.db.Cert}}
	added := []upgrade.Keyring{platform, {Name: upgrade.KeyringVerity, Certificates: []*x509.Certificate{k.extra.Cert}}}
	sealed := []upgrade.Keyring{platform, {Name: upgrade.KeyringVerity, Certificates: []*x509.Certificate{k.extra.Cert}, Sealed: true}}
	predicted := map[string]upgrade.Outcome{
		"right key":                          judge(k.db, []upgrade.Keyring{platform}, asksForSignature),
		"wrong key":                          judge(k.foreign, []upgrade.Keyring{platform}, asksForSignature),
		"nothing asks":                       judge(k.db, []upgrade.Keyring{platform}),
		"keyring of dm-verity, parameter":    judge(k.extra, sealed, asksForSignature, requiresSignatures, leavesKeyringOpen),
		"keyring of dm-verity, not sealed":   judge(k.extra, added, asksForSignature, requiresSignatures, leavesKeyringOpen),
		"keyring of dm-verity, no parameter": judge(k.extra, sealed, asksForSignature),
		"required, right key":                judge(k.db, []upgrade.Keyring{platform}, asksForSignature, requiresSignatures),
		"required, wrong key":                judge(k.foreign, []upgrade.Keyring{platform}, asksForSignature, requiresSignatures),
		"required, nothing asks":             judge(k.db, []upgrade.Keyring{platform}, requiresSignatures),
	}

	disk, err := s.OpenDisk()
	require.NoError(t, err)
	facts := s.Facts
	facts.VerityKeyrings = []upgrade.Keyring{platform}
	plan, err := upgrade.NewPlan(t.Context(), disk, k.release(t, v2, k.db), facts, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.Equal(t, "B", plan.Target.Name())
	require.NoError(t, plan.Apply(t.Context(), nil), "%s", plan)
	require.NoError(t, disk.Close())
	second := bootGood(t, s, "2-upgraded", v2)
	require.Equal(t, report.Blessed, second.Bless.Result)
	require.Contains(t, second.Verity.Table, "root_hash_sig_key_desc osmith:root")
	require.Empty(t, second.Signatures.AddKey)
	require.Empty(t, second.Signatures.Seal)

	// What the kernel does, by the kind of release that was judged.
	for name, c := range map[string]struct {
		boot       *report.Report
		when, sign string
		kernel     string // "": the device is set up
		verdict    upgrade.Outcome
	}{
		"right key":                          {first, report.AtFirst, "db", "", upgrade.OutcomePass},
		"wrong key":                          {first, report.AtFirst, "foreign", requiredKeyNotThere, upgrade.OutcomeFail},
		"nothing asks":                       {first, report.AtFirst, "", "", upgrade.OutcomeWarn},
		"keyring of dm-verity, parameter":    {second, report.Sealed, "extra", "", upgrade.OutcomePass},
		"keyring of dm-verity, not sealed":   {second, report.KeyAdded, "extra", requiredKeyNotThere, upgrade.OutcomeFail},
		"keyring of dm-verity, no parameter": {first, report.AtFirst, "extra", requiredKeyNotThere, upgrade.OutcomeFail},
		"required, right key":                {second, report.AtFirst, "db", "", upgrade.OutcomePass},
		"required, wrong key":                {second, report.Sealed, "foreign", requiredKeyNotThere, upgrade.OutcomeFail},
		"required, nothing asks":             {second, report.AtFirst, "", requiredKeyNotThere, upgrade.OutcomeFail},
	} {
		got, ok := c.boot.Signatures.Try(c.when, c.sign)
		require.True(t, ok, name)
		if c.kernel == "" {
			require.Empty(t, got.Error, name)
		} else {
			require.Contains(t, got.Error, c.kernel, name)
		}
		require.Equal(t, c.verdict, predicted[name], name)
	}
	got, ok := second.Signatures.Try(report.AtFirst, "other")
	require.True(t, ok)
	require.Contains(t, got.Error, keyRejected, "a signature of another root hash")

	// systemd's own program, told root-hash-signature=auto: it does without a signature that the
	// kernel refuses unless that requires one, and fails if there is none.
	for _, c := range []struct {
		boot     *report.Report
		name     string
		fails    string
		unsigned bool
	}{
		{first, "db", "", false}, {first, "foreign", "", true}, {first, "other", "", true}, {first, "", "cannot determine root hash signature", false},
		{second, "db", "", false}, {second, "foreign", "both with and without root hash signature", false}, {second, "", "cannot determine root hash signature", false},
	} {
		got, ok := c.boot.Signatures.Try(report.Systemd, c.name)
		require.True(t, ok, c.name)
		require.Equal(t, c.fails == "", got.Error == "", "version %s, %s: %s", c.boot.Version, c.name, got.Error)
		require.Contains(t, got.Error, c.fails)
		require.Equal(t, c.unsigned, got.Unsigned, "version %s, %s", c.boot.Version, c.name)
	}
}

// veritysetup are systemd's program that sets up dm-verity and the libraries that it loads, for the
// guest to run.
func veritysetup(t *testing.T, root testtools.Root) (out []osmith.ESPFile) {
	t.Helper()
	for _, f := range withLibraries(t, root, "/usr/lib/systemd/systemd-veritysetup", "/usr/lib/x86_64-linux-gnu/libcryptsetup.so.12") {
		// the latter as it runs
		out = append(out, osmith.ESPFile{Path: "veritysetup/" + f.Path, Content: f.Content})
	}
	return out
}

// withLibraries are programs and libraries of a tree, with all that these are linked with.
func withLibraries(t *testing.T, root testtools.Root, programs ...string) (out []osmith.ESPFile) {
	t.Helper()
	files := map[string]bool{}
	for _, of := range programs {
		files[of] = true
		for _, word := range strings.Fields(root.Output(t, t.TempDir(), "ldd", of)) {
			if strings.HasPrefix(word, "/") {
				files[word] = true
			}
		}
	}
	for file := range files {
		inside, err := os.OpenRoot(root.Path())
		require.NoError(t, err)
		b, err := inside.ReadFile(strings.TrimPrefix(file, "/"))
		require.NoError(t, err)
		require.NoError(t, inside.Close())
		out = append(out, osmith.ESPFile{Path: filepath.Base(file), Content: bytes.NewReader(b)})
	}
	return out
}

// verityKeys sign root hashes: db's, one that the guest puts into the keyring of dm-verity, and one
// that no keyring has.
type verityKeys struct {
	db, extra, foreign secureboot.KeyPair

	variants map[string]*acmeos.Set // of version 2, by command line
}

func newVerityKeys(t *testing.T, s *System) *verityKeys {
	t.Helper()
	k := &verityKeys{db: s.Builder.Keys.SecureBoot.DB, variants: map[string]*acmeos.Set{}}
	for name, to := range map[string]*secureboot.KeyPair{"Extra": &k.extra, "Foreign": &k.foreign} {
		h, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: name, Owner: acmeos.Owner, NotBefore: s.Builder.Time, NotAfter: s.Builder.Time.AddDate(20, 0, 0)})
		require.NoError(t, err)
		*to = h.DB
	}
	return k
}

// files are signatures of a version's root hash, for the guest to try, as PKCS #7.
func (k *verityKeys) files(t *testing.T, dir string, set *acmeos.Set) (out []osmith.ESPFile) {
	t.Helper()
	for name, by := range map[string]secureboot.KeyPair{"db": k.db, "extra": k.extra, "foreign": k.foreign} {
		out = append(out, osmith.ESPFile{Path: dir + "/" + name + ".p7s", Content: bytes.NewReader(signRootHash(t, set.RootHash, by).PKCS7)})
	}
	other := signRootHash(t, make([]byte, len(set.RootHash)), k.db)
	return append(out,
		osmith.ESPFile{Path: dir + "/other.p7s", Content: bytes.NewReader(other.PKCS7)},
		osmith.ESPFile{Path: dir + "/keyring.der", Content: bytes.NewReader(k.extra.Cert.Raw)})
}

func signRootHash(t *testing.T, rootHash []byte, by secureboot.KeyPair) *verity.Signature {
	t.Helper()
	signature, err := verity.SignRootHash(rootHash, by.Key, by.Cert)
	require.NoError(t, err)
	return signature
}

// release is a version with its signature.
func (k *verityKeys) release(t *testing.T, set *acmeos.Set, by secureboot.KeyPair) *release.Release {
	t.Helper()
	r := set.Release()
	content, err := signRootHash(t, set.RootHash, by).Partition(0)
	require.NoError(t, err)
	r.RootHashSignature = bytes.NewReader(content)
	return r
}

// variant is version 2 with another command line.
func (k *verityKeys) variant(t *testing.T, s *System, cmdline string) *acmeos.Set {
	t.Helper()
	if set := k.variants[cmdline]; set != nil {
		return set
	}
	builder := *s.Builder
	builder.Cmdline = cmdline
	set, err := builder.Build(t.Context(), t.TempDir(), "2", filepath.Join(s.dir, acmeos.ID+"_2.root.raw"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, set.Close()) })
	k.variants[cmdline] = set
	return set
}

// judge is the outcome of the boots verdict on a release, by the keyrings of its kernel.
func (k *verityKeys) judge(t *testing.T, s *System, r *release.Release, keyrings []upgrade.Keyring) upgrade.Outcome {
	t.Helper()
	disk, err := s.OpenDisk()
	require.NoError(t, err)
	defer disk.Close()
	facts := s.Facts
	facts.VerityKeyrings = keyrings
	plan, err := upgrade.NewPlan(t.Context(), disk, r, facts, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
	require.NoError(t, err)
	for _, j := range plan.Verdicts {
		if j.Proof == upgrade.ProofBoots {
			return j.Outcome
		}
	}
	t.Fatal("no boots verdict")
	return 0
}

// repartDisk makes the machine's disk with systemd-repart: an ESP of files, a slot with a version
// whose tree and signature are repart's, and an empty slot.
func repartDisk(t *testing.T, s *System, root testtools.Root, set *acmeos.Set, more []osmith.ESPFile) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		t.Helper()
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, content, 0o600))
	}
	loader, err := s.Builder.SignedLoader()
	require.NoError(t, err)
	installed, err := (&bootloader.Installation{Loader: loader, Config: &bootloader.Config{Timeout: "0"}}).Files()
	require.NoError(t, err)
	files := append([]osmith.ESPFile{{Path: "EFI/Linux/acme_1.efi", Content: set.UKI}}, more...)
	for _, f := range append(files, installed...) {
		write("esp/"+f.Path, content(t, f.Content))
	}
	write("root", content(t, set.Root))
	key, err := x509.MarshalPKCS8PrivateKey(s.Builder.Keys.SecureBoot.DB.Key)
	require.NoError(t, err)
	write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	write("cert.pem", pemCertificate(s.Builder.Keys.SecureBoot.DB.Cert))

	// The tree of systemd-repart covers the whole partition, and that of the builder the file
	// system.
	slot := set.Root.Size()
	sized := func(size int64) string { return fmt.Sprintf("SizeMinBytes=%d\nSizeMaxBytes=%d\n", size, size) }
	for i, text := range []string{
		"Type=esp\nFormat=vfat\nCopyFiles=" + dir + "/esp:/\n" + sized(256<<20),
		"Type=root\nLabel=acme_1\nVerity=data\nVerityMatchKey=a\nCopyBlocks=" + dir + "/root\n" + sized(slot),
		"Type=root-verity\nLabel=acme_1_verity\nVerity=hash\nVerityMatchKey=a\n" + sized(1<<20),
		"Type=root-verity-sig\nLabel=acme_1_verity_sig\nVerity=signature\nVerityMatchKey=a\n",
		"Type=root\nLabel=_empty\n" + sized(slot),
		"Type=root-verity\nLabel=_empty\n" + sized(1<<20),
		"Type=root-verity-sig\nLabel=_empty\n",
	} {
		write(fmt.Sprintf("repart.d/%02d.conf", 10*i), []byte("[Partition]\n"+text))
	}
	image := filepath.Join(dir, "disk.img")
	out := root.Output(t, dir, "systemd-repart", "--empty=create", "--size=auto", "--dry-run=no", "--offline=yes", "--architecture=x86-64", "--json=short",
		"--seed="+osmith.GUID(s.Builder.Seed).String(), "--definitions="+filepath.Join(dir, "repart.d"), "--private-key="+filepath.Join(dir, "key.pem"), "--certificate="+filepath.Join(dir, "cert.pem"), image)
	var made []struct {
		RootHash string `json:"roothash"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &made), out)
	require.Equal(t, hexOf(set.RootHash), made[1].RootHash, "the hash that the UKI names")
	require.NoError(t, os.Rename(image, s.Machine.Disk))
	disk, err := s.OpenDisk()
	require.NoError(t, err)
	defer disk.Close()
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	require.Len(t, table.Partitions, 7)
}

func content(t *testing.T, src osmith.Source) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(src, 0, src.Size()))
	require.NoError(t, err)
	return b
}
