package tpm

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// systemd-measure over random sections: the same PCRs, and the same bytes of signed and unsigned
// policies.
func TestInteropSystemdMeasure(t *testing.T) {
	for name, root := range map[string]func(testing.TB) testtools.Root{"trixie": testtools.Trixie, "forky": testtools.Forky} {
		t.Run(name, func(t *testing.T) {
			r := root(t)
			dir := t.TempDir()
			private := filepath.Join(dir, "key.pem")
			public := filepath.Join(dir, "pub.pem")
			writePEM(t, private, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(testKey))
			spki, err := x509.MarshalPKIXPublicKey(&testKey.PublicKey)
			require.NoError(t, err)
			writePEM(t, public, "PUBLIC KEY", spki)
			rnd := rand.New(rand.NewPCG(1, 2))
			for i := range 6 {
				c := randomMeasure(t, rnd, filepath.Join(dir, fmt.Sprint(i)), name == "forky")
				var printed map[string][]struct{ Phase, Hash string }
				out := r.Output(t, dir, "/usr/lib/systemd/systemd-measure", append([]string{"calculate", "--json=short"}, c.args...)...)
				require.NoError(t, json.Unmarshal([]byte(out), &printed))
				compared := 0
				for bank, values := range printed {
					h, err := BankByName(bank)
					require.NoError(t, err)
					for _, v := range values {
						got, err := PCR11(h, c.sections, words(v.Phase)...)
						require.NoError(t, err)
						require.Equal(t, v.Hash, hexOf(got), "%s %s", bank, v.Phase)
						compared++
					}
				}
				require.Positive(t, compared)

				if name != "forky" {
					// Before 260 it signs with the bank's hash, and no systemd accepts other than
					// SHA-256: github.com/systemd/systemd/issues/40245.
					c.banks = []crypto.Hash{crypto.SHA256}
					c.args = append(slices.DeleteFunc(c.args, func(arg string) bool { return strings.HasPrefix(arg, "--bank=") }), "--bank=SHA256")
				}
				keys := append([]string{"--private-key=" + private, "--public-key=" + public}, c.args...)
				states, err := PCR11States(c.sections, c.banks, c.paths)
				require.NoError(t, err)
				sigs, err := policy.Sign(testKey, states, "")
				require.NoError(t, err)
				out = r.Output(t, dir, "/usr/lib/systemd/systemd-measure", append([]string{"sign"}, keys...)...)
				requireJSON(t, out, sigs)
				parsed, err := policy.ParseSignatures([]byte(out))
				require.NoError(t, err)
				require.Equal(t, sigs, parsed)

				if name != "forky" {
					continue // policy-digest is new in 258, --policyref in 262
				}
				policies, err := policy.Prepare(&testKey.PublicKey, states, "initrd")
				require.NoError(t, err)
				out = r.Output(t, dir, "/usr/lib/systemd/systemd-measure", append([]string{"policy-digest", "--policyref=initrd", "--public-key=" + public}, c.args...)...)
				requireJSON(t, out, policies)
				again, err := policy.ParsePCRPolicies([]byte(out))
				require.NoError(t, err)
				require.Equal(t, policies, again)
				sigs, err = policies.Sign(testKey)
				require.NoError(t, err)
				out = r.Output(t, dir, "/usr/lib/systemd/systemd-measure", append([]string{"sign", "--policyref=initrd"}, keys...)...)
				requireJSON(t, out, sigs)

				// Both in one file: those for the initrd behind those for everybody.
				plain, err := policy.Sign(testKey, states, "")
				require.NoError(t, err)
				b, err := plain.MarshalJSON()
				require.NoError(t, err)
				file := filepath.Join(dir, "plain.json")
				require.NoError(t, os.WriteFile(file, b, 0o644))
				out = r.Output(t, dir, "/usr/lib/systemd/systemd-measure", append([]string{"sign", "--policyref=initrd", "--append=" + file}, keys...)...)
				requireJSON(t, out, plain.Merge(sigs...))
				require.Equal(t, plain.Merge(sigs...), plain.Merge(sigs...).Merge(plain...))
			}
		})
	}
}

// measureCase is a call of systemd-measure and of ours.
type measureCase struct {
	args     []string
	banks    []crypto.Hash
	sections []osmith.Measurement
	paths    [][]string
}

func randomMeasure(t *testing.T, rnd *rand.Rand, dir string, young bool) measureCase {
	t.Helper()
	require.NoError(t, os.Mkdir(dir, 0o755))
	var c measureCase
	for _, s := range sdstub.Sections() {
		name := s.Name
		switch {
		case name == ".pcrsig": // no option
			continue
		case name == ".hwids" || name == ".efifw" || name == ".dtbauto" || name == ".profile" || name == ".ucode":
			// younger than 257, or choices
			if !young {
				continue
			}
		}
		if name != ".linux" && rnd.IntN(3) == 0 {
			continue
		}
		data := make([]byte, rnd.IntN(5000))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, data, 0o644))
		c.args = append(c.args, "--"+name[1:]+"="+file)
		c.sections = append(c.sections, measure(name, string(data))...)
	}
	for _, h := range Banks() {
		if rnd.IntN(2) == 0 {
			c.banks = append([]crypto.Hash{h}, c.banks...) // in another order
			c.args = append(c.args, "--bank="+strings.ToUpper(BankName(h)))
		}
	}
	all := []string{PhaseEnterInitrd, PhaseLeaveInitrd, PhaseSysinit, PhaseReady, "9", "a-b", "factory-reset"}
	for range rnd.IntN(5) {
		var path []string
		for range rnd.IntN(4) {
			path = append(path, all[rnd.IntN(len(all))])
		}
		c.paths = append(c.paths, path)
		c.args = append(c.args, "--phase="+cmp.Or(strings.Join(path, ":"), ":"))
	}
	return c
}

// requireJSON compares with compact output, which is what json.Marshal makes of ours.
func requireJSON(t *testing.T, want string, got json.Marshaler) {
	t.Helper()
	b, err := json.Marshal(got)
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(want), string(b))
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// foreignLogs are the logs of other people's machines, by file name.
func foreignLogs(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/eventlogs/*.bin")
	require.NoError(t, err)
	require.Len(t, files, 5)
	out := make(map[string][]byte)
	for _, f := range files {
		out[filepath.Base(f)] = read(t, f)
	}
	return out
}

// go-eventlog accepts a log only if it replays to the given values: ours.
func TestReplayAgainstGoEventlog(t *testing.T) {
	hashes := map[crypto.Hash]bool{crypto.SHA1: true, crypto.SHA256: true, crypto.SHA384: true}
	compared := 0
	for name, raw := range foreignLogs(t) {
		log, err := ParseLog(raw)
		require.NoError(t, err, name)
		banks, err := log.Replay()
		require.NoError(t, err)
		require.NotEmpty(t, banks)
		for h, b := range banks {
			if !hashes[h] {
				continue
			}
			theirs, err := tcg.ParseEventLog(raw, tcg.ParseOpts{AllowPadding: true})
			require.NoError(t, err, name)
			var mrs []register.MR
			for n := range PCRCount {
				mrs = append(mrs, register.PCR{Index: n, Digest: b.PCR(n), DigestAlg: h})
			}
			events, err := theirs.Verify(mrs)
			require.NoError(t, err, "%s %v", name, h)
			assert.NotEmpty(t, events)
			mrs[4] = register.PCR{Index: 4, Digest: make([]byte, h.Size()), DigestAlg: h}
			_, err = theirs.Verify(mrs)
			assert.Error(t, err, "the oracle looks at the values")
			compared++
		}
	}
	require.GreaterOrEqual(t, compared, 8)
}

func TestForeignLogsRoundTrip(t *testing.T) {
	for name, raw := range foreignLogs(t) {
		log, err := ParseLog(raw)
		require.NoError(t, err, name)
		again, err := log.MarshalBinary()
		require.NoError(t, err)
		assert.True(t, bytes.Equal(raw, again), name)
		for _, f := range log.Findings {
			// The one thing that is odd in them.
			assert.Equal(t, "debian-10.bin", name)
			assert.Equal(t, "event 23 at 0x5293: EV_EFI_VARIABLE_AUTHORITY whose data have a byte more than was hashed, as shim writes them", f.String())
		}
	}
}

// A software TPM is extended with a golden boot; its PCR, policy digests, key name and its view of
// our signature are the judge of ours.
func TestInteropSWTPM(t *testing.T) {
	tpm := startTPM(t)
	states, err := PCR11States(golden(), nil, [][]string{{PhaseEnterInitrd}})
	require.NoError(t, err)
	sigs, err := policy.Prepare(&testKey.PublicKey, states, "initrd")
	require.NoError(t, err)
	signed, err := sigs.Sign(testKey)
	require.NoError(t, err)

	// Extend PCR 11 of all four banks.
	extend := func(data []byte) {
		var digests tpm2.TPMLDigestValues
		for _, a := range pcrbank.All {
			digests.Digests = append(digests.Digests, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgID(a.ID), Digest: pcrbank.Sum(a.Hash, data)})
		}
		_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: 11, Auth: tpm2.PasswordAuth(nil)}, Digests: digests}.Execute(tpm)
		require.NoError(t, err)
	}
	for _, s := range [][2]string{{".linux", "kernel"}, {".osrel", "ID=test\nVERSION_ID=1\n"}, {".cmdline", "quiet ro"}, {".initrd", "\x00\x00\x00"}} {
		extend([]byte(s[0] + "\x00"))
		extend([]byte(s[1]))
	}
	extend([]byte(PhaseEnterInitrd))

	// The key as systemd loads it: its name is ours.
	public := tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{Decrypt: true, SignEncrypt: true, UserWithAuth: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Exponent: 65537}),
		Unique:           tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: testKey.N.Bytes()}),
	})
	key, err := tpm2.LoadExternal{InPublic: public, Hierarchy: tpm2.TPMRHOwner}.Execute(tpm)
	require.NoError(t, err)
	name, err := policy.KeyName(&testKey.PublicKey)
	require.NoError(t, err)
	assert.Equal(t, key.Name.Buffer, name)

	for _, s := range signed {
		selection := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpmAlg(t, s.Bank), PCRSelect: tpm2.PCClientCompatible.PCRs(11)}}}
		values, err := tpm2.PCRRead{PCRSelectionIn: selection}.Execute(tpm)
		require.NoError(t, err)
		want, err := PCR11(s.Bank, golden(), PhaseEnterInitrd)
		require.NoError(t, err)
		assert.Equal(t, values.PCRValues.Digests[0].Buffer, want, BankName(s.Bank))

		session, closer, err := tpm2.PolicySession(tpm, tpm2.TPMAlgSHA256, 16)
		require.NoError(t, err)
		_, err = tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: selection}.Execute(tpm)
		require.NoError(t, err)
		assert.Equal(t, policyOf(t, tpm, session), s.Digest[:], "PolicyPCR, %s", BankName(s.Bank))

		digest := pcrbank.Sum(crypto.SHA256, s.TBS())
		ticket, err := tpm2.VerifySignature{
			KeyHandle: key.ObjectHandle, Digest: tpm2.TPM2BDigest{Buffer: digest},
			Signature: tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
				&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: s.Value}})},
		}.Execute(tpm)
		require.NoError(t, err, "the TPM accepts the signature")
		_, err = tpm2.PolicyAuthorize{
			PolicySession: session.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: s.Digest[:]},
			PolicyRef: tpm2.TPM2BDigest{Buffer: policy.PolicyRef("initrd")}, KeySign: tpm2.TPM2BName{Buffer: name}, CheckTicket: ticket.Validation,
		}.Execute(tpm)
		require.NoError(t, err)
		authorized, err := policy.PolicyAuthorize(&testKey.PublicKey, policy.PolicyRef("initrd"))
		require.NoError(t, err)
		assert.Equal(t, policyOf(t, tpm, session), authorized[:], "PolicyAuthorize")

		// Literal PCRs may follow, on top of the digest so far.
		selection.PCRSelections[0].PCRSelect = tpm2.PCClientCompatible.PCRs(0, 7, 11, 23)
		_, err = tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: selection}.Execute(tpm)
		require.NoError(t, err)
		zero := make([]byte, s.Bank.Size())
		next, err := policy.PolicyPCR(authorized, s.Bank, map[int][]byte{0: zero, 7: zero, 11: want, 23: zero})
		require.NoError(t, err)
		assert.Equal(t, policyOf(t, tpm, session), next[:], "PolicyPCR after PolicyAuthorize")
		require.NoError(t, closer())
	}
}

func policyOf(t *testing.T, tpm transport.TPM, session tpm2.Session) []byte {
	t.Helper()
	d, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(tpm)
	require.NoError(t, err)
	return d.PolicyDigest.Buffer
}

func tpmAlg(t *testing.T, h crypto.Hash) tpm2.TPMAlgID {
	t.Helper()
	a, ok := pcrbank.ByHash(h)
	require.True(t, ok)
	return tpm2.TPMAlgID(a.ID)
}

// startTPM runs a software TPM for the test.
func startTPM(t *testing.T) transport.TPM {
	t.Helper()
	conn, err := net.Dial("unix", swtpm.Start(t).Socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return transport.FromReadWriter(conn)
}
