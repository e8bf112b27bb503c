package policy_test

import (
	"bytes"
	"crypto"
	"fmt"
	mrand "math/rand/v2"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

func randomBytes(rnd *mrand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// policyGrid runs random sequences of policy commands in trial sessions of a software TPM, and
// here.
type policyGrid struct {
	t       *testing.T
	chip    transport.TPM
	rnd     *mrand.Rand
	session tpm2.Session
	nv      tpm2.NamedHandle // a written index
	nvName  []byte
	pcrs    map[crypto.Hash]map[int][]byte
	key     *tpm2.LoadExternalResponse
	want    policy.Digest
	script  string
}

func TestInteropPolicyGrid(t *testing.T) {
	chip := startTPM(t)
	rnd, long := testtools.Seed(t)
	n := 240
	if !long {
		n /= 3
	}
	g := &policyGrid{t: t, chip: chip, rnd: rnd, pcrs: map[crypto.Hash]map[int][]byte{}}
	g.defineNV()
	g.extendPCRs()
	public := tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{Decrypt: true, SignEncrypt: true, UserWithAuth: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Exponent: 65537}),
		Unique:           tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: testKey.N.Bytes()}),
	})
	var err error
	g.key, err = tpm2.LoadExternal{InPublic: public, Hierarchy: tpm2.TPMRHOwner}.Execute(chip)
	require.NoError(t, err)
	steps := []func(){g.pcr, g.authValue, g.policyNV, g.or, g.authorize, g.authorizeNV}
	for range n {
		session, closer, err := tpm2.PolicySession(chip, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
		require.NoError(t, err)
		g.session, g.want, g.script = session, policy.Digest{}, ""
		for range 1 + rnd.IntN(6) {
			steps[rnd.IntN(len(steps))]()
			require.Equal(t, policyOf(t, chip, session), g.want[:], g.script)
		}
		require.NoError(t, closer())
	}
}

func (g *policyGrid) must(d policy.Digest, err error, name string) {
	require.NoError(g.t, err, name)
	g.want = d
	g.script += name + " "
}

func (g *policyGrid) run(err error) { require.NoError(g.t, err, g.script) }

// defineNV makes an index with contents, which is an approved policy, and compares its name with
// ours.
func (g *policyGrid) defineNV() {
	const index = 0x01800001
	attributes := tpm2.TPMANV{OwnerWrite: true, AuthWrite: true, OwnerRead: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary}
	_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, Attributes: attributes, DataSize: 34,
	})}.Execute(g.chip)
	g.run(err)
	p := policy.NVPublic{Index: index, Attributes: policy.NVOwnerWrite | policy.NVAuthWrite | policy.NVOwnerRead | policy.NVAuthRead | policy.NVNoDA, Size: 34}
	name := g.nvRead(index, p)
	_, err = tpm2.NVWrite{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: index, Name: tpm2.TPM2BName{Buffer: name}}, Data: tpm2.TPM2BMaxNVBuffer{Buffer: policy.ApprovedPolicy(policy.Digest{})},
	}.Execute(g.chip)
	g.run(err)
	p.Attributes |= policy.NVWritten
	g.nvName = g.nvRead(index, p)
	g.nv = tpm2.NamedHandle{Handle: index, Name: tpm2.TPM2BName{Buffer: g.nvName}}
}

// nvRead is the TPM's name of an index, which must be ours.
func (g *policyGrid) nvRead(index tpm2.TPMHandle, p policy.NVPublic) []byte {
	r, err := tpm2.NVReadPublic{NVIndex: index}.Execute(g.chip)
	g.run(err)
	name, err := p.Name()
	g.run(err)
	require.Equal(g.t, r.NVName.Buffer, name)
	parsed, err := policy.ParseNVPublic(r.NVPublic.Bytes())
	g.run(err)
	require.Equal(g.t, p.Attributes, parsed.Attributes)
	return name
}

func (g *policyGrid) extendPCRs() {
	for _, a := range pcrbank.All {
		g.pcrs[a.Hash] = map[int][]byte{}
		bank := tpm.NewBank(a.Hash)
		for n := range 16 {
			digest := randomBytes(g.rnd, a.Hash.Size())
			_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(n), Auth: tpm2.PasswordAuth(nil)},
				Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgID(a.ID), Digest: digest}}}}.Execute(g.chip)
			g.run(err)
			g.run(bank.Extend(n, digest))
		}
		g.pcrs[a.Hash] = bank.Values()
	}
}

func (g *policyGrid) pcr() {
	h := tpm.Banks()[g.rnd.IntN(4)]
	values := map[int][]byte{}
	var list []uint
	for n := range tpm.PCRCount {
		if g.rnd.IntN(3) == 0 {
			values[n] = g.pcrs[h][n]
			list = append(list, uint(n))
		}
	}
	if len(values) == 0 {
		return
	}
	_, err := tpm2.PolicyPCR{PolicySession: g.session.Handle(), Pcrs: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpmAlg(g.t, h), PCRSelect: tpm2.PCClientCompatible.PCRs(list...)}}}}.Execute(g.chip)
	g.run(err)
	d, err := policy.PolicyPCR(g.want, h, values)
	g.must(d, err, fmt.Sprintf("PCR(%v %v)", h, list))
}

func (g *policyGrid) authValue() {
	_, err := tpm2.PolicyAuthValue{PolicySession: g.session.Handle()}.Execute(g.chip)
	g.run(err)
	g.must(policy.PolicyAuthValue(g.want), nil, "AuthValue")
}

func (g *policyGrid) policyNV() {
	operand := randomBytes(g.rnd, 1+g.rnd.IntN(8))
	offset, op := uint16(g.rnd.IntN(20)), policy.Comparison(g.rnd.IntN(int(policy.ComparisonAllBitsClear)+1))
	_, err := tpm2.PolicyNV{
		AuthHandle:    tpm2.AuthHandle{Handle: g.nv.Handle, Name: g.nv.Name, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:       g.nv,
		PolicySession: g.session.Handle(), OperandB: tpm2.TPM2BOperand{Buffer: operand}, Offset: offset, Operation: tpm2.TPMEO(op),
	}.Execute(g.chip)
	g.run(err)
	d, err := policy.PolicyNV(g.want, g.nvName, operand, offset, op)
	g.must(d, err, "NV")
}

func (g *policyGrid) or() {
	var branches []policy.Digest
	var list tpm2.TPMLDigest
	for range 2 + g.rnd.IntN(7) {
		d := policy.Digest(randomBytes(g.rnd, 32))
		branches, list.Digests = append(branches, d), append(list.Digests, tpm2.TPM2BDigest{Buffer: d[:]})
	}
	_, err := tpm2.PolicyOr{PolicySession: g.session.Handle(), PHashList: list}.Execute(g.chip)
	g.run(err)
	d, err := policy.PolicyOR(branches...)
	g.must(d, err, "OR")
}

func (g *policyGrid) ref() []byte {
	return [][]byte{nil, policy.PolicyRef("initrd"), randomBytes(g.rnd, 5)}[g.rnd.IntN(3)]
}

func (g *policyGrid) authorize() {
	ref := g.ref()
	_, err := tpm2.PolicyAuthorize{
		PolicySession: g.session.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: g.want[:]}, PolicyRef: tpm2.TPM2BDigest{Buffer: ref},
		KeySign: g.key.Name, CheckTicket: tpm2.TPMTTKVerified{Tag: tpm2.TPMSTVerified, Hierarchy: tpm2.TPMRHOwner, Digest: tpm2.TPM2BDigest{Buffer: make([]byte, 32)}},
	}.Execute(g.chip)
	g.run(err)
	d, err := policy.PolicyAuthorize(&testKey.PublicKey, ref)
	g.must(d, err, "Authorize")
}

func (g *policyGrid) authorizeNV() {
	_, err := tpm2.PolicyAuthorizeNV{
		AuthHandle: tpm2.AuthHandle{Handle: g.nv.Handle, Name: g.nv.Name, Auth: tpm2.PasswordAuth(nil)}, NVIndex: g.nv, PolicySession: g.session.Handle(),
	}.Execute(g.chip)
	g.run(err)
	d, err := policy.PolicyAuthorizeNV(g.nvName)
	g.must(d, err, "AuthorizeNV")
}

// A TPM walks the path of a tree of 20 policies.
func TestInteropPolicyTree(t *testing.T) {
	chip := startTPM(t)
	zero := make([]byte, 32)
	var leaves []policy.Digest
	for i := range 20 {
		v := pcrbank.Sum(crypto.SHA256, []byte{byte(i)})
		if i == 13 || i == 17 {
			v = zero // what the TPM has
		}
		d, err := policy.PolicyPCR(policy.Digest{}, crypto.SHA256, map[int][]byte{7: v})
		require.NoError(t, err)
		leaves = append(leaves, d)
	}
	tree, err := policy.NewTree(leaves...)
	require.NoError(t, err)
	require.Equal(t, 2, tree.Depth())
	for _, leaf := range []int{13, 17} {
		session, closer, err := tpm2.PolicySession(chip, tpm2.TPMAlgSHA256, 16)
		require.NoError(t, err)
		_, err = tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
			{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(7)}}}}.Execute(chip)
		require.NoError(t, err)
		path, err := tree.Path(leaf)
		require.NoError(t, err)
		for _, branches := range path {
			var list tpm2.TPMLDigest
			for _, d := range branches {
				list.Digests = append(list.Digests, tpm2.TPM2BDigest{Buffer: bytes.Clone(d[:])})
			}
			_, err = tpm2.PolicyOr{PolicySession: session.Handle(), PHashList: list}.Execute(chip)
			require.NoError(t, err)
		}
		want := tree.Digest()
		assert.Equal(t, want[:], policyOf(t, chip, session))
		require.NoError(t, closer())
	}
}
