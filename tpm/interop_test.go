package tpm

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// systemd-measure over random sections: the same PCRs, and the same bytes of signed and unsigned policies.
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
					// Before 260 it signs with the bank's hash, and no systemd accepts other than SHA-256:
					// github.com/systemd/systemd/issues/40245.
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
		case name == ".hwids" || name == ".efifw" || name == ".dtbauto" || name == ".profile" || name == ".ucode": // younger than 257, or choices
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
