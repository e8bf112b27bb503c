package sealing

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// A volume is a LUKS2 file with the passphrase "pw" in slot 0, that systemd's tools and we put
// tokens into.
type volume struct {
	*simulator
	root testtools.Root
	dir  string
	key  *rsa.PrivateKey // that signs PCR policies; its public half is the file pcr.pub
}

func newVolume(t *testing.T, root testtools.Root) *volume {
	t.Helper()
	v := &volume{simulator: tcpTPM(t), root: root, dir: t.TempDir()}
	var err error
	v.key, err = rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	v.format(t)
	return v
}

func (v *volume) format(t *testing.T) {
	t.Helper()
	pub, err := policy.MarshalPublicKey(&v.key.PublicKey)
	require.NoError(t, err)
	v.write(t, "pcr.pub", pub)
	v.write(t, "key", []byte("pw"))
	f, err := os.Create(v.path("vol"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(32<<20))
	require.NoError(t, f.Close())
	testtools.Run(t, "cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--luks2-metadata-size=256k", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", v.path("vol"), v.path("key"))
}

func (v *volume) path(name string) string { return filepath.Join(v.dir, name) }

func (v *volume) write(t *testing.T, name string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(v.path(name), data, 0o600))
}

// device is the TPM as systemd's tools are told.
func (v *volume) device() string { return fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", v.machine.Port) }

// systemd runs a tool of the tree while our connection to the TPM is closed: swtpm has one at a
// time. The signatures are where systemd looks for them, the PIN in the variables that its tools
// read.
func (v *volume) systemd(t *testing.T, pin string, tool string, args ...string) (string, error) {
	t.Helper()
	v.disconnect(t)
	defer v.connect(t)
	const script = `mount -t tmpfs tmpfs /run && mkdir -p /run/systemd /run/cryptsetup && if [ -e pcrsig.json ]; then cp pcrsig.json /run/systemd/tpm2-pcr-signature.json; fi
mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/systemd; if [ -e pcrlock.json ]; then cp pcrlock.json /var/lib/systemd/; fi
"$@" </dev/null & tool=$!
(sleep 30; kill $tool) >/dev/null 2>&1 & # it asks for a passphrase after a failure
wait $tool`
	if v.root.Name == "host" {
		return v.root.Try(t, v.dir, "env", append([]string{"PASSWORD=pw", "NEWPIN=" + pin, tool}, args...)...)
	}
	return v.root.Try(t, v.dir, "sh", append([]string{"-c", script, "sh", "env", "NEWPIN=" + pin, "PIN=" + pin, "SYSTEMD_LOG_TARGET=console",
		"SYSTEMD_TPM2_DEVICE=" + v.device(), tool}, args...)...)
}

// enroll has systemd-cryptenroll seal, and returns the token that it wrote.
func (v *volume) enroll(t *testing.T, pin string, args ...string) json.RawMessage {
	t.Helper()
	before := v.tokens(t)
	if v.root.Name != "host" { // 252 reads the passphrase from the environment only
		args = append([]string{"--unlock-key-file=" + v.path("key")}, args...)
	}
	out, err := v.systemd(t, pin, "systemd-cryptenroll", append(args, v.path("vol"))...)
	require.NoError(t, err)
	for id, token := range v.tokens(t) {
		if _, old := before[id]; !old {
			return token
		}
	}
	t.Fatalf("no new token: %s", out)
	return nil
}

func (v *volume) tokens(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	var header struct {
		Tokens map[string]json.RawMessage `json:"tokens"`
	}
	require.NoError(t, json.Unmarshal([]byte(testtools.Output(t, "cryptsetup", "luksDump", "--dump-json-metadata", v.path("vol"))), &header))
	return header.Tokens
}

// opens has cryptsetup say whether a secret opens a slot of the volume.
func (v *volume) opens(t *testing.T, secret []byte, slot int) {
	t.Helper()
	v.write(t, "passphrase", Passphrase(secret))
	testtools.Run(t, "cryptsetup", "open", "--test-passphrase", "--key-slot", strconv.Itoa(slot), "--key-file", v.path("passphrase"), v.path("vol"))
}

// sign signs the present state of PCR 11 in all banks, and puts the signatures where systemd finds
// them.
func (v *volume) sign(t *testing.T, ref string) policy.Signatures {
	t.Helper()
	sigs := v.signState(t, v.key, ref)
	text, err := sigs.MarshalJSON()
	require.NoError(t, err)
	v.write(t, "pcrsig.json", text)
	return sigs
}

// TestTokensOfSystemd unseals what systemd-cryptenroll sealed.
func TestTokensOfSystemd(t *testing.T) {
	t.Parallel()
	for _, root := range []func(testing.TB) testtools.Root{testtools.Trixie, testtools.Forky} {
		root := root(t)
		t.Run(root.Name, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t, root)
			device := "--tpm2-device=" + v.device()
			signed := []string{device, "--tpm2-public-key=" + v.path("pcr.pub"), "--tpm2-pcrs="}
			cases := []struct {
				name, pin, ref string
				args           []string
				newer          bool // 262 alone
			}{
				{name: "tpm alone", args: []string{device, "--tpm2-pcrs="}},
				{name: "pcrs", args: []string{device, "--tpm2-pcrs=0+7"}},
				{name: "sha384", args: []string{device, "--tpm2-pcrs=7:sha384"}},
				{name: "values", args: []string{device, "--tpm2-pcrs=15:sha256=" + fmt.Sprintf("%064x", 0)}},
				{name: "signed", args: signed},
				{name: "signed and PCR 7", args: append(slices.Clone(signed[:2]), "--tpm2-pcrs=7")},
				{name: "PIN", pin: "1234", args: []string{device, "--tpm2-pcrs=", "--tpm2-with-pin=yes"}},
				{name: "all", pin: "ünicode 🔑", args: append(slices.Clone(signed[:2]), "--tpm2-pcrs=0", "--tpm2-with-pin=yes")},
				{name: "policy reference", ref: "initrd", args: append(slices.Clone(signed), "--tpm2-public-key-policyref=initrd"), newer: true},
				{name: "direct PIN", pin: "1", args: []string{device, "--tpm2-pcrs=1", "--tpm2-with-pin=direct"}, newer: true},
			}
			for _, tt := range cases {
				t.Run(tt.name, func(t *testing.T) {
					if tt.newer && root.Name != "forky" {
						t.Skip("systemd 262 alone")
					}
					args := tt.args
					if slices.Contains(args, "--tpm2-with-pin=yes") && root.Name == "forky" {
						args = append(slices.Clone(args), "--tpm2-argon2id-memory=1M", "--tpm2-argon2id-iterations=2", "--tpm2-argon2id-parallelism=2")
					}
					raw := v.enroll(t, tt.pin, args...)
					token, err := ParseToken(raw)
					require.NoError(t, err, "%s", raw)
					ours, err := token.MarshalJSON()
					require.NoError(t, err)
					require.JSONEq(t, string(raw), string(ours))
					with := Unlock{PIN: tt.pin, Signatures: v.sign(t, tt.ref)}
					v.checks(t, token, with)
					secret, err := v.Unseal(token, with)
					require.NoError(t, err, "%s", raw)
					v.opens(t, secret, token.Keyslots[0])
				})
			}
		})
	}
}

// TestTokensOfSystemd252 has no storage root key: a primary key is made for each use, and PINs are
// not salted.
func TestTokensOfSystemd252(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-cryptenroll"); err != nil {
		t.Skip("this machine has none; Debian 12 is the one that has this version")
	}
	if out := testtools.Run(t, "systemd-cryptenroll", "--version"); !strings.HasPrefix(out, "systemd 252 ") {
		t.Skipf("this machine has another version: %s", out)
	}
	v := newVolume(t, testtools.Host(t))
	for _, args := range [][]string{{"--tpm2-pcrs=0+7"}, {"--tpm2-pcrs=0", "--tpm2-with-pin=yes"}} {
		token, err := ParseToken(v.enroll(t, "pin", append([]string{"--tpm2-device=" + v.device()}, args...)...))
		require.NoError(t, err)
		require.Nil(t, token.SRK)
		secret, err := v.Unseal(token, Unlock{PIN: "pin"})
		require.NoError(t, err)
		v.opens(t, secret, token.Keyslots[0])
	}
}

// TestSameSRK makes the storage root key that systemd makes.
func TestSameSRK(t *testing.T) {
	t.Parallel()
	for _, root := range []func(testing.TB) testtools.Root{testtools.Trixie, testtools.Forky} {
		v := newVolume(t, root(t))
		_, err := v.systemd(t, "", "systemd-analyze", "srk")
		require.Error(t, err, "a new TPM has none")
		token, err := ParseToken(v.enroll(t, "", "--tpm2-device="+v.device(), "--tpm2-pcrs="))
		require.NoError(t, err)
		theirs, err := parseSRK(token.SRK)
		require.NoError(t, err)
		_, err = execute(v.TPM, tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: theirs.named(), PersistentHandle: SRKHandle})
		require.NoError(t, err)
		_, err = v.Unseal(token, Unlock{})
		require.ErrorIs(t, err, ErrMissingKey)
		ours, err := v.srk()
		require.NoError(t, err)
		require.Equal(t, theirs.name, ours.name)
		secret, err := v.Unseal(token, Unlock{})
		require.NoError(t, err)
		v.opens(t, secret, token.Keyslots[0])
	}
}

// TestImportedToken was made without the TPM, from its public key alone.
func TestImportedToken(t *testing.T) {
	t.Parallel()
	v := newVolume(t, testtools.Forky(t))
	srk, err := v.srk()
	require.NoError(t, err)
	v.write(t, "srk.pub", tpm2.Marshal(tpm2.New2B(srk.public)))
	zero := fmt.Sprintf("15:sha256=%064x", 0)
	token, err := ParseToken(v.enroll(t, "", "--tpm2-device-key="+v.path("srk.pub"), "--tpm2-pcrs="+zero))
	require.NoError(t, err)
	secret, err := v.Unseal(token, Unlock{})
	require.NoError(t, err)
	v.opens(t, secret, token.Keyslots[0])
}

// TestTokensForSystemd has systemd-cryptenroll unlock a volume by tokens of ours, to add a recovery
// key.
func TestTokensForSystemd(t *testing.T) {
	t.Parallel()
	for _, root := range []func(testing.TB) testtools.Root{testtools.Trixie, testtools.Forky} {
		root := root(t)
		t.Run(root.Name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range []struct {
				name   string
				policy Policy
			}{
				{"tpm alone", Policy{}},
				{"pcrs", Policy{PCRs: []int{0, 7, 15}}},
				{"sha384", Policy{PCRs: []int{7}, Bank: crypto.SHA384}},
				{"signed", Policy{PublicKeyPCRs: []int{11}}},
				{"PIN", Policy{PIN: "1234"}},
				{"all", Policy{PublicKeyPCRs: []int{11}, PCRs: []int{7}, PIN: "pin"}},
				{"argon2id", Policy{PIN: "1234", Argon2id: &Argon2id{Memory: 1 << 20, Iterations: 1, Lanes: 1}}},
				{"policy reference", Policy{PublicKeyPCRs: []int{11}, PublicKeyRef: "initrd"}},
			} {
				t.Run(tt.name, func(t *testing.T) {
					if root.Name != "forky" && (tt.policy.Argon2id != nil || tt.policy.PublicKeyRef != "") {
						t.Skip("systemd 262 alone")
					}
					v, p := newVolume(t, root), tt.policy
					with := Unlock{}
					if p.PublicKeyPCRs != nil {
						p.PublicKey = &v.key.PublicKey
						with.Signatures = v.sign(t, p.PublicKeyRef)
					}
					secret := p.NewSecret()
					token, err := v.Seal(secret, p, with)
					require.NoError(t, err)
					token.Keyslots = []int{1}
					opens, err := token.Secret(secret, p.PIN)
					require.NoError(t, err)
					v.add(t, token, opens)
					out, err := v.systemd(t, p.PIN, "systemd-cryptenroll", "--unlock-tpm2-device="+v.device(), "--recovery-key", v.path("vol"))
					require.NoError(t, err)
					require.Contains(t, out, "recovery key")
					require.Len(t, v.tokens(t), 2)
				})
			}
		})
	}
}

// TestResealForSystemd has tokens for two systems in one volume with one slot: systemd finds the
// one that fits.
func TestResealForSystemd(t *testing.T) {
	t.Parallel()
	for _, root := range []func(testing.TB) testtools.Root{testtools.Trixie, testtools.Forky} {
		v := newVolume(t, root(t))
		secret := (&Policy{}).NewSecret()
		old, err := v.Seal(secret, Policy{PCRs: []int{7}}, Unlock{})
		require.NoError(t, err)
		old.Keyslots = []int{1}
		tokens, err := v.Reseal(old, Unlock{},
			Policy{Bank: crypto.SHA256, PCRs: []int{7}, Values: state(t, []int{7}, measured{7, "staged"})},
			Policy{Bank: crypto.SHA256, PCRs: []int{7}, Values: state(t, []int{7}, measured{7, "secure boot"})})
		require.NoError(t, err)
		v.add(t, tokens[0], secret)
		v.importToken(t, tokens[1])
		for _, boot := range []string{"secure boot", "staged"} {
			v.reboot(t, measured{7, boot})
			before := len(v.tokens(t))
			_, err = v.systemd(t, "", "systemd-cryptenroll", "--unlock-tpm2-device="+v.device(), "--recovery-key", v.path("vol"))
			require.NoError(t, err, "%s: %s", v.root.Name, boot)
			require.Len(t, v.tokens(t), before+1)
		}
	}
}

// add makes the secret open slot 1 and writes the token to the volume.
func (v *volume) add(t *testing.T, token *Token, secret []byte) {
	t.Helper()
	v.write(t, "passphrase", Passphrase(secret))
	testtools.Run(t, "cryptsetup", "luksAddKey", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--new-key-slot=1",
		"--key-file", v.path("key"), v.path("vol"), v.path("passphrase"))
	v.importToken(t, token)
}

func (v *volume) importToken(t *testing.T, token *Token) {
	t.Helper()
	text, err := token.MarshalJSON()
	require.NoError(t, err)
	v.write(t, "token.json", text)
	testtools.Run(t, "cryptsetup", "token", "import", "--disable-external-tokens", "--json-file", v.path("token.json"), v.path("vol"))
}

// TestTokensOfRepart unseals what systemd-repart sealed while it made a partition. Those of 262
// name no bank.
func TestTokensOfRepart(t *testing.T) {
	t.Parallel()
	for _, root := range []func(testing.TB) testtools.Root{testtools.Trixie, testtools.Forky} {
		root := root(t)
		t.Run(root.Name, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t, root)
			require.NoError(t, os.Mkdir(v.path("repart.d"), 0o700))
			v.write(t, "repart.d/10-data.conf", []byte("[Partition]\nType=linux-generic\nFormat=vfat\nEncrypt=tpm2\nSizeMinBytes=64M\nSizeMaxBytes=64M\n"))
			for i, args := range [][]string{
				{"--tpm2-public-key=" + v.path("pcr.pub"), "--tpm2-public-key-pcrs=11", "--tpm2-pcrs="},
				{"--tpm2-pcrs=7", "--tpm2-public-key="},
				{"--tpm2-pcrs=7:sha384", "--tpm2-public-key="},
			} {
				with := Unlock{Signatures: v.sign(t, "")}
				disk := v.path(fmt.Sprintf("disk%d", i))
				_, err := v.systemd(t, "", "systemd-repart", append(args, "--dry-run=no", "--empty=create", "--size=auto", "--offline=yes",
					"--definitions="+v.path("repart.d"), "--tpm2-device="+v.device(), disk)...)
				require.NoError(t, err)
				image, err := os.ReadFile(disk)
				require.NoError(t, err)
				at := 0
				for at < len(image) && !bytes.HasPrefix(image[at:], []byte("LUKS\xba\xbe")) {
					at += 4096
				}
				require.Less(t, at, len(image))
				v.write(t, "vol", image[at:])
				tokens := v.tokens(t)
				require.Len(t, tokens, 1)
				token, err := ParseToken(tokens["0"])
				require.NoError(t, err, "%s", tokens["0"])
				require.Equal(t, len(token.PCRs) > 0, token.Bank != 0)
				require.Empty(t, token.PrimaryAlgorithm)
				again, err := token.MarshalJSON()
				require.NoError(t, err)
				require.JSONEq(t, string(tokens["0"]), string(again))
				v.checks(t, token, with)
				secret, err := v.Unseal(token, with)
				require.NoError(t, err, "%s", tokens["0"])
				v.opens(t, secret, token.Keyslots[0])
			}
		})
	}
}
