package upgrade_test

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
	"github.com/osmith-dev/osmith/verity"
)

// signedDisk is a disk whose slots have a partition for the signature of the root hash.
func signedDisk(t *testing.T) (*system, *diskKind) {
	k := &diskKind{esp: fat.BuildOptions{Kind: 32}, sign: true, usr: true}
	return k.on(t), k
}

// signatureOf is a signature of a root hash by a key.
func signatureOf(t *testing.T, rootHash []byte, by secureboot.KeyPair) *verity.Signature {
	t.Helper()
	signature, err := verity.SignRootHash(rootHash, by.Key, by.Cert)
	require.NoError(t, err)
	return signature
}

func verityKeyring(cert *x509.Certificate, sealed bool) []upgrade.Keyring {
	return []upgrade.Keyring{{Name: upgrade.KeyringVerity, Certificates: []*x509.Certificate{cert}, Sealed: sealed}}
}

// Whether the kernel accepts a signature is told by its keyrings, and what is told is what the
// machine then does.
func TestSignatureIsJudged(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	stranger := other.SecureBoot.DB
	asks := "systemd.verity_usr_options=root-hash-signature=auto"
	for name, c := range map[string]struct {
		keyrings []upgrade.Keyring
		options  string
		outcome  upgrade.Outcome
		want     string
		up       upgradetest.Outcome // of what the machine does
	}{
		"platform":                {[]upgrade.Keyring{{Name: upgrade.KeyringPlatform, Certificates: []*x509.Certificate{stranger.Cert}}}, asks, upgrade.OutcomePass, "its keyring platform has the certificate", upgradetest.Up},
		"builtin, then another":   {[]upgrade.Keyring{{Name: upgrade.KeyringBuiltin}, {Name: upgrade.KeyringSecondary, Certificates: []*x509.Certificate{stranger.Cert}}}, asks, upgrade.OutcomePass, "its keyring secondary has the certificate", upgradetest.Up},
		"none":                    {[]upgrade.Keyring{{Name: upgrade.KeyringBuiltin}}, asks, upgrade.OutcomeFail, "none of the keyrings [builtin] has the certificate, and the command line asks for a signature", upgradetest.Failed},
		"no keyring":              {[]upgrade.Keyring{}, asks, upgrade.OutcomeFail, "none of the keyrings [] has the certificate", upgradetest.Failed},
		"none, and not asked":     {[]upgrade.Keyring{{Name: upgrade.KeyringBuiltin}}, "", upgrade.OutcomeWarn, "nothing asks for it", upgradetest.Up},
		"not asked":               {[]upgrade.Keyring{{Name: upgrade.KeyringPlatform, Certificates: []*x509.Certificate{stranger.Cert}}}, "", upgrade.OutcomeWarn, "the command line does not ask for the signature of the root hash, so systemd ignores it", upgradetest.Up},
		"not known":               {nil, asks, upgrade.OutcomeWarn, "whether the kernel accepts the signature of the root hash by CN=Acme OS Signature Database Key is unknown: set Machine.VerityKeyrings", ""},
		"dm-verity, no parameter": {verityKeyring(stranger.Cert, true), asks, upgrade.OutcomeFail, "dm_verity.keyring_unsealed=1 is not on the command line", ""},
		"dm-verity":               {verityKeyring(stranger.Cert, true), asks + " dm_verity.keyring_unsealed=1", upgrade.OutcomePass, "its keyring .dm-verity has the certificate", upgradetest.Up},
		"dm-verity, left open":    {verityKeyring(stranger.Cert, false), asks + " dm_verity.keyring_unsealed=1", upgrade.OutcomeFail, "until userspace has sealed it", upgradetest.Failed},
		"dm-verity, taken back":   {verityKeyring(stranger.Cert, true), asks + " dm_verity.keyring_unsealed=1 dm-verity.keyring_unsealed=0", upgrade.OutcomeFail, "dm_verity.keyring_unsealed=1 is not on the command line", ""},
		"required":                {verityKeyring(stranger.Cert, true), asks + " dm_verity.keyring_unsealed dm_verity.require_signatures=1", upgrade.OutcomePass, "its keyring .dm-verity has the certificate", upgradetest.Up},
		"required, and not asked": {verityKeyring(stranger.Cert, true), "dm_verity.keyring_unsealed dm_verity.require_signatures=1", upgrade.OutcomeFail, "dm_verity.require_signatures on the command line demands a signature", upgradetest.Failed},
		"its own":                 {verityKeyring(stranger.Cert, true), "dm_verity.keyring_unsealed=on systemd.verity_usr_options=root-hash-signature=/run/signature", upgrade.OutcomeWarn, "(root-hash-signature=), which is not judged", ""},
		"asked for another":       {verityKeyring(stranger.Cert, true), "dm_verity.keyring_unsealed=y systemd.verity_root_options=root-hash-signature=auto", upgrade.OutcomeWarn, "the command line does not ask for the signature", upgradetest.Up},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := signedDisk(t)
			s.machine.VerityKeyrings = c.keyrings
			set := s.build("2")
			r := s.withUKI(set, func(im *uki.Image) { im.Cmdline = "usrhash=" + hex.EncodeToString(set.RootHash) + " " + c.options }, 0)
			content, err := signatureOf(t, set.RootHash, stranger).Partition(0)
			require.NoError(t, err)
			r.RootHashSignature = source(content)
			p := s.planOf(r, upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofBoots}})
			j := verdict(t, p, upgrade.ProofBoots)
			require.Equal(t, c.outcome, j.Outcome, texts(j))
			require.Contains(t, texts(j), c.want)
			require.NoError(t, p.Apply(t.Context(), nil))
			if c.up != "" {
				b, err := s.machineUnderTest().Boot(t.Context())
				require.NoError(t, err)
				require.Equal(t, c.up, b.Outcome, "%s", b)
			}
		})
	}
}

func TestSignatureOfUnknownKeyring(t *testing.T) {
	s, k := signedDisk(t)
	s.machine.VerityKeyrings = nil
	require.Contains(t, texts(verdict(t, s.planOf(k.release(s, "2"), upgrade.PlanOptions{}), upgrade.ProofBoots)),
		"db has its certificate, which a kernel with CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING takes")
}

// The signature comes with the release, as a partition has it or as a signing service returns it,
// or it is not planned.
func TestSignatureOfRelease(t *testing.T) {
	base, k := signedDisk(t)
	db := base.builder.Keys.SecureBoot.DB
	good := k.release(base, "2")
	signature := signatureOf(t, good.RootHash, db)
	partitionOf := func(s *verity.Signature) osmith.Source {
		b, err := s.Partition(0)
		require.NoError(t, err)
		return source(b)
	}
	wrong := signatureOf(t, bytes.Repeat([]byte{9}, 32), db)
	lie := *signature
	lie.PKCS7 = wrong.PKCS7
	name := *signature
	name.CertificateFingerprint[0] ^= 1
	for text, c := range map[string]struct {
		signature osmith.Source
		err       string // of NewPlan; "": it is written
	}{
		"as a partition":         {partitionOf(signature), ""},
		"PKCS #7":                {source(signature.PKCS7), ""},
		"of another root hash":   {partitionOf(wrong), "root hash of the signature of the root hash"},
		"of another, in PKCS #7": {source(wrong.PKCS7), "the signature is not over this root hash"},
		"another's in its place": {partitionOf(&lie), "the signature is not over this root hash"},
		"names another's key":    {partitionOf(&name), "names the certificate"},
		"nothing that is one":    {source([]byte("no signature")), "signature of the root hash: signature partition"},
		"nothing":                {source(nil), "signature of the root hash: signature partition"},
	} {
		t.Run(text, func(t *testing.T) {
			s := base.on(base.disk.Clone())
			s.t = t
			r := *good
			r.RootHashSignature = c.signature
			p, err := upgrade.NewPlan(t.Context(), s.disk, &r, s.machine, upgrade.PlanOptions{})
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, p.Apply(t.Context(), nil))
			require.Equal(t, "2", s.boot().Version)
			table, err := partition.Read(s.disk, partition.ReadOptions{})
			require.NoError(t, err)
			want, err := signature.Partition(16 << 10)
			require.NoError(t, err)
			require.Equal(t, want, contentOf(t, table.Section(s.disk, 6)), "as systemd-repart writes it, up to the end of the partition")
			require.Equal(t, "acme_2_verity_sig", table.Partitions[6].Name)
		})
	}

	r := *good
	r.RootHashSignature = nil
	p := base.planOf(&r, upgrade.PlanOptions{})
	require.ErrorAs(t, p.Refused(), new(*upgrade.NoSignatureError))
	p = base.planOf(&r, upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofBoots}})
	require.NoError(t, p.Apply(t.Context(), nil))
	table, err := partition.Read(base.disk, partition.ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, make([]byte, 16<<10), contentOf(t, table.Section(base.disk, 6)), "not the one of another version")

	plain := newSystem(t, "")
	two := plain.build("2")
	r = release.Release{UKI: two.UKI, Root: two.Root, Tree: two.Tree, RootHash: two.RootHash, RootHashSignature: source(signatureOf(t, two.RootHash, db).PKCS7)}
	j := verdict(t, plain.planOf(&r, upgrade.PlanOptions{}), upgrade.ProofBoots)
	require.Contains(t, texts(j), "slot B has no partition for the signature: it is not installed")
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome)

	// systemd-veritysetup fails if it is told to find a signature and there is none; the kernel if
	// it requires one.
	for options, with := range map[string]osmith.Source{
		"systemd.verity_root_options=root-hash-signature=auto":                                r.RootHashSignature,
		"systemd.verity_root_options=root-hash-signature=auto dm_verity.require_signatures=0": nil,
		"dm_verity.require_signatures":                                                        nil,
	} {
		demands := plain.withUKI(two, func(im *uki.Image) { im.Cmdline = "roothash=" + hex.EncodeToString(two.RootHash) + " " + options }, 0)
		demands.RootHashSignature = with
		p := plain.planOf(demands, upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofBoots}})
		require.Equal(t, upgrade.OutcomeFail, verdict(t, p, upgrade.ProofBoots).Outcome, options)
		require.Contains(t, texts(verdict(t, p, upgrade.ProofBoots)), "and the kernel gets none", options)
	}
}

// Two partitions for signatures with one ID, as a fixed seed of systemd-repart makes them, are
// named, and the new one gets its own.
func TestSignaturePartitionsOfOneID(t *testing.T) {
	s, k := signedDisk(t)
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	// Another tool has to write such a table: this package only keeps it.
	id := table.Partitions[3].ID
	s.patchID(table.Partitions[6].ID, id)
	p := s.planOf(k.release(s, "2"), upgrade.PlanOptions{})
	require.Contains(t, texts(verdict(t, p, upgrade.ProofReturns)), "partition table: ")
	require.NoError(t, p.Refused(), "%s", p)
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, "2", s.boot().Version)
	table, err = partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, id, table.Partitions[3].ID)
	require.NotEqual(t, id, table.Partitions[6].ID)
	require.Empty(t, table.Findings())
}

// patchID gives a partition another ID in both tables of the disk.
func (s *system) patchID(from, to osmith.GUID) {
	s.t.Helper()
	mixed := func(g osmith.GUID) []byte { // as on the disk
		b := bytes.Clone(g[:])
		for _, field := range [][2]int{{0, 4}, {4, 6}, {6, 8}} {
			slices.Reverse(b[field[0]:field[1]])
		}
		return b
	}
	b := contentOf(s.t, s.disk)
	le := binary.LittleEndian
	for _, at := range []int{512, len(b) - 512} {
		header := b[at : at+512]
		require.Equal(s.t, "EFI PART", string(header[:8]))
		entries := b[le.Uint64(header[72:])*512:][:le.Uint32(header[80:])*le.Uint32(header[84:])]
		i := bytes.Index(entries, mixed(from))
		require.Positive(s.t, i)
		copy(entries[i:], mixed(to))
		le.PutUint32(header[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(header[16:], 0)
		le.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
	}
	_, err := s.disk.WriteAt(b, 0)
	require.NoError(s.t, err)
}

// A signature that the medium does not keep is found out before its slot is used, also where its
// partition is too large to be read back with the other small writes.
func TestSignatureIsReadBack(t *testing.T) {
	k := &diskKind{esp: fat.BuildOptions{Kind: 32}, sign: true, usr: true, signSize: 128 << 10}
	s := k.on(t)
	p, err := upgrade.NewPlan(t.Context(), forgetful{s.disk, []byte("certificateFingerprint")}, k.release(s, "2"), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, p.Refused())
	err = p.Apply(t.Context(), nil)
	require.ErrorAs(t, err, new(*upgrade.ReadBackError))
	require.ErrorContains(t, err, "the signature of the root hash in slot B read back differs from what was written")
	require.Equal(t, "1", s.boot().Version)
}
