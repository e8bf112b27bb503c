package upgrade_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// withUKI is a release whose UKI was changed before it was signed. sign says for which profiles it
// gets a policy.
func (s *system) withUKI(set *acmeos.Set, change func(im *uki.Image), sign ...int) *release.Release {
	s.t.Helper()
	key, err := s.builder.Keys.PCRPublicKey()
	require.NoError(s.t, err)
	im := &uki.Image{
		Stub: s.builder.Parts.Stub, Linux: s.builder.Parts.Linux, Initrd: []osmith.Source{s.builder.Parts.Initrd},
		Cmdline: "roothash=" + hex.EncodeToString(set.RootHash), OSRelease: acmeos.OSRelease(set.Version), PCRPublicKey: key,
	}
	change(im)
	variants, err := im.MeasureVariants(tpm.Banks()...)
	require.NoError(s.t, err)
	for _, n := range sign {
		var all policy.Signatures
		for _, v := range variants {
			if v.Profile != n {
				continue
			}
			states, err := tpm.PCR11States(v.Sections, nil, nil)
			require.NoError(s.t, err)
			signatures, err := policy.Sign(s.builder.Keys.PCR, states, "")
			require.NoError(s.t, err)
			all = append(all, signatures...)
		}
		for i := range all {
			if s.policies != nil {
				s.policies(&all[i])
			}
		}
		text, err := all.MarshalJSON()
		require.NoError(s.t, err)
		if n == 0 {
			im.PCRSignature = text
		} else {
			im.Profiles[n-1].PCRSignature = text
		}
	}
	assembled, err := im.Assemble()
	require.NoError(s.t, err)
	var signed bytes.Buffer
	db := s.builder.Keys.SecureBoot.DB
	require.NoError(s.t, authenticode.Sign(&signed, assembled, db.Key, db.Cert, authenticode.SignOptions{Time: when}))
	r := set.Release()
	r.UKI = bytes.NewReader(signed.Bytes())
	return r
}

func profiles(im *uki.Image) {
	im.Profile = []byte("ID=main\nTITLE=Acme\n")
	im.Profiles = []uki.Profile{{Profile: []byte("ID=reset\nTITLE=Reset\n"), Cmdline: im.Cmdline + " reset"}}
}

// A policy unlocks only if all of it is right: its digest, its bank, the key, and the signature
// over it.
func TestWrongPolicies(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	for name, change := range map[string]func(s *policy.Signature){
		"":                nil,
		"signature":       func(s *policy.Signature) { s.Value[len(s.Value)-1] ^= 1 },
		"empty signature": func(s *policy.Signature) { s.Value = []byte{0} },
		"digest":          func(s *policy.Signature) { s.Digest[0] ^= 1 },
		"bank": func(s *policy.Signature) { // the digest of one bank under the name of another
			s.Bank = map[crypto.Hash]crypto.Hash{crypto.SHA1: crypto.SHA512, crypto.SHA256: crypto.SHA1, crypto.SHA384: crypto.SHA256, crypto.SHA512: crypto.SHA384}[s.Bank]
		},
		"another's signature": func(s *policy.Signature) { s.Value = resigned(t, s.PCRPolicy, other.PCR) },
	} {
		s := newSystem(t, "")
		s.policies = change
		p := s.planOf(s.withUKI(s.build("2"), func(*uki.Image) {}, 0), upgrade.PlanOptions{})
		j := verdict(t, p, upgrade.ProofUnlocks)
		if name == "" {
			require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
			continue
		}
		require.ErrorAs(t, p.Refused(), new(*upgrade.PolicyError), "%s: %s", name, texts(j))
		require.Contains(t, texts(j), "no valid signature in .pcrsig covers PCR 11 of bank sha256", name)
	}
}

// resigned is the signature of a policy by another key.
func resigned(t *testing.T, p policy.PCRPolicy, key crypto.Signer) []byte {
	t.Helper()
	sum := sha256.Sum256(p.TBS())
	value, err := key.Sign(nil, sum[:], crypto.SHA256)
	require.NoError(t, err)
	return value
}

// The profile that boots by default must unlock; another one that does not is a warning.
func TestProfilesUnlock(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	for _, test := range []struct {
		signed []int
		want   upgrade.Outcome
		reason string
	}{
		{[]int{0, 1}, upgrade.OutcomePass, "has signed PCR 11 in all default phases"},
		{[]int{0}, upgrade.OutcomeWarn, "profile 1 does not unlock: the UKI carries no signed PCR policies"},
		{nil, upgrade.OutcomeFail, "carries no signed PCR policies"},
	} {
		p, err := upgrade.NewPlan(t.Context(), s.disk, s.withUKI(set, profiles, test.signed...), s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		j := verdict(t, p, upgrade.ProofUnlocks)
		require.Equal(t, test.want, j.Outcome, "%v", j.Reasons)
		var text string
		for _, r := range j.Reasons {
			text += r.Text + "\n"
		}
		require.Contains(t, text, test.reason)
	}
}

// A release must boot verified, by its root hash alone and from the partitions that the root hash
// names.
func TestVerifiedBoot(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	hash := hex.EncodeToString(set.RootHash)
	for cmdline, want := range map[string]string{
		"quiet 'roothash=" + hash + "'":                                       "",
		"roothash=00 rd.roothash=" + strings.ToUpper(hash):                    "",
		"usrhash=" + hash:                                                     "",
		"roothash=" + hash + " systemd.verity=0":                              "systemd.verity=0 switches verity off",
		"roothash=" + hash + " quiet rd.systemd.verity=off":                   "systemd.verity=0 switches verity off",
		"title=\"roothash=" + hash + " \"":                                    "neither roothash= nor usrhash=",
		"roothash=" + hash + " roothash=xy":                                   "command line: roothash at 0x",
		"roothash=" + hash + " usrhash=" + hash[2:] + "00":                    "names two root hashes",
		"roothash=" + hash[2:] + "00":                                         "root hash of the UKI's command line",
		"roothash=" + hash + " systemd.verity_root_data=/dev/sdb":             "takes the file system from /dev/sdb and /dev/disk/by-partuuid/",
		"roothash=" + hash + " systemd.verity_root_options=ignore-corruption": "ignore-corruption in systemd.verity_root_options=",
	} {
		r := s.withUKI(set, func(im *uki.Image) { im.Cmdline = cmdline })
		p, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		j := verdict(t, p, upgrade.ProofBoots)
		if want == "" {
			require.Equal(t, upgrade.OutcomePass, j.Outcome, "%s: %v", cmdline, j.Reasons)
			continue
		}
		require.Equal(t, upgrade.OutcomeFail, j.Outcome, "%s: %v", cmdline, j.Reasons)
		var text string
		for _, r := range j.Reasons {
			text += r.Text + "\n"
		}
		require.Contains(t, text, want, cmdline)
	}
}

// A UKI for several boards unlocks on each only if each has its policy, and PCR 11 is known when
// the board is.
func TestVariantsUnlock(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	board := func(compatible string) osmith.Source { return bytes.NewReader(flattenedTree(compatible)) }
	trees := func(im *uki.Image) { im.DeviceTreeAuto = []osmith.Source{board("acme,one"), board("acme,two")} }
	release := s.withUKI(set, trees, 0)
	p, err := upgrade.NewPlan(t.Context(), s.disk, release, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.Equal(t, upgrade.OutcomePass, verdict(t, p, upgrade.ProofUnlocks).Outcome)
	require.Equal(t, upgrade.OutcomeWarn, verdict(t, p, upgrade.ProofBoots).Outcome, "PCRs cannot be predicted")
	require.Nil(t, p.Predicted)

	values := map[string]bool{}
	for _, compatible := range []string{"acme,one", "acme,two", "acme,three"} {
		m := s.machine
		m.Hardware = &uki.Hardware{DeviceTree: compatible}
		p, err := upgrade.NewPlan(t.Context(), s.disk, release, m, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.NotNil(t, p.Predicted)
		banks, err := p.Predicted.Replay(crypto.SHA256)
		require.NoError(t, err)
		values[hex.EncodeToString(banks[crypto.SHA256].PCR(11))] = true
	}
	require.Len(t, values, 3)
}

// flattenedTree is a device tree blob with nothing but the root's compatible (Devicetree
// Specification 0.4, chapter 5).
func flattenedTree(compatible string) []byte {
	u32 := func(b []byte, v ...uint32) []byte {
		for _, x := range v {
			b = append(b, byte(x>>24), byte(x>>16), byte(x>>8), byte(x))
		}
		return b
	}
	value := append([]byte(compatible), 0)
	n := uint32(len(value))
	for len(value)%4 != 0 {
		value = append(value, 0)
	}
	tree := u32(nil, 1, 0, 3, n, 0)
	tree = append(tree, value...)
	tree = u32(tree, 2, 9)
	names := []byte("compatible\x00")
	const header, reserved = 40, 16
	at := uint32(header + reserved)
	size := at + uint32(len(tree)) + uint32(len(names))
	b := u32(nil, 0xd00dfeed, size, at, at+uint32(len(tree)), header, 17, 16, 0, uint32(len(names)), uint32(len(tree)))
	b = append(b, make([]byte, reserved)...)
	return append(append(b, tree...), names...)
}
