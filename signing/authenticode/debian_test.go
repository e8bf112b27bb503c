package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

var roots = map[string]func(testing.TB) testtools.Root{"trixie": testtools.Trixie, "forky": testtools.Forky}

// Real stubs, loaders and kernels, signed by us, pass sbverify and osslsigncode; the kernels, signed by Debian before, then have two signatures.
func TestSignRealParts(t *testing.T) {
	testtools.Require(t, "sbverify")
	id := newIdentity(t, "rsa1", "self", nil)
	for name, root := range roots {
		for part, before := range map[string]int{"stub": 0, "addon-stub": 0, "loader": 0, "kernel": 1} {
			t.Run(name+"/"+part, func(t *testing.T) {
				b, err := os.ReadFile(root(t).Part(t, part))
				require.NoError(t, err)
				sigs, err := authenticode.Signatures(bytes.NewReader(b))
				require.NoError(t, err)
				require.Len(t, sigs, before)
				signed := sign(t, b, id, authenticode.SignOptions{Time: when})
				path := write(t, part, signed)
				_, cert := id.files(t)
				testtools.Run(t, "sbverify", "--cert", cert, path)
				if before == 0 { // osslsigncode reads tables of one entry only
					out := osslsigncode(t, "verify", "-CAfile", cert, "-time", "994000000", "-ignore-timestamp", "-in", path)
					require.NotContains(t, out, "MISMATCH")
				}
				_, err = authenticode.Verify(bytes.NewReader(signed), id.list())
				require.NoError(t, err)
			})
		}
	}
}

// Debian signed its kernels, with pesign: they verify against the certificate they carry and, in the eyes of a machine with Microsoft's
// keys, only with shim in between. shim itself, where it is installed, boots on that machine.
func TestDebiansSignatures(t *testing.T) {
	for name, root := range roots {
		t.Run(name, func(t *testing.T) {
			r := root(t)
			machine := secureboot.Variables{SecureBoot: true, DB: microsoftDB(t, r.Path("usr/share/OVMF/OVMF_VARS_4M.ms.fd"))}
			kernel, err := os.ReadFile(r.Part(t, "kernel"))
			require.NoError(t, err)
			s := verifyItself(t, kernel)
			require.Contains(t, s.Signer.Issuer.String(), "Debian Secure Boot CA")
			verdict := evaluate(t, machine, kernel)
			require.False(t, verdict.Allowed)
			require.Contains(t, verdict.Reason, "no certificate in db leads there")

			kernel[len(kernel)/2] ^= 1
			_, err = authenticode.Verify(bytes.NewReader(kernel), []*x509.Certificate{s.Signer})
			require.ErrorAs(t, err, new(*authenticode.DigestError))

			shims, err := filepath.Glob("/usr/lib/shim/shimx64.efi.signed")
			require.NoError(t, err)
			for _, path := range shims {
				shim, err := os.ReadFile(path)
				require.NoError(t, err)
				verifyItself(t, shim)
				verdict := evaluate(t, machine, shim)
				require.True(t, verdict.Allowed, verdict.Reason)
				require.Contains(t, verdict.Reason, "Microsoft")
				shim[len(shim)/2] ^= 1
				require.False(t, evaluate(t, machine, shim).Allowed)
			}
		})
	}
}

func verifyItself(t *testing.T, b []byte) *authenticode.Signature {
	t.Helper()
	sigs, err := authenticode.Signatures(bytes.NewReader(b))
	require.NoError(t, err)
	require.NotEmpty(t, sigs)
	require.NotNil(t, sigs[0].Signer)
	s, err := authenticode.Verify(bytes.NewReader(b), []*x509.Certificate{sigs[0].Signer})
	require.NoError(t, err)
	return s
}

func evaluate(t *testing.T, v secureboot.Variables, b []byte) secureboot.Verdict {
	t.Helper()
	digests, err := authenticode.Digests(bytes.NewReader(b), crypto.SHA256)
	require.NoError(t, err)
	sigs, err := authenticode.Signatures(bytes.NewReader(b))
	require.NoError(t, err)
	var candidates []secureboot.Candidate
	for _, s := range sigs {
		candidates = append(candidates, secureboot.Candidate(s))
	}
	return v.Evaluate(digests, candidates)
}

// microsoftDB takes db out of a variable store of OVMF that has Microsoft's keys (edk2 AUTHENTICATED_VARIABLE_HEADER: ... u32 name size, u32 data
// size, vendor GUID, name with NUL, data).
func microsoftDB(t *testing.T, path string) []byte {
	t.Helper()
	store, err := os.ReadFile(path)
	require.NoError(t, err)
	head := secureboot.ImageSecurityDatabase.AppendMixed([]byte{6, 0, 0, 0, 0, 0, 0, 0})
	head = append(head, 'd', 0, 'b', 0, 0, 0)
	for i := range len(store) - len(head) {
		h := store[i : i+len(head)]
		if !bytes.Equal(h[8:], head[8:]) || !bytes.Equal(h[:4], head[:4]) {
			continue
		}
		db := store[i+len(head):]
		return db[:binary.LittleEndian.Uint32(h[4:])]
	}
	t.Fatalf("%s has no variable db", path)
	return nil
}
