package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// tokenOf is a token that was sealed to a policy, as far as one that has no TPM can tell.
func tokenOf(t *testing.T, digest policy.Digest, fields map[string]any) map[string]any {
	t.Helper()
	public := tpm2.Marshal(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: digest[:]},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: make([]byte, 32)}),
	})
	blob := append([]byte{0, 2, 'x', 'x'}, binary.BigEndian.AppendUint16(nil, uint16(len(public)))...)
	out := map[string]any{
		"type": "systemd-tpm2", "keyslots": []string{"0"}, "tpm2-pcr-bank": "sha256", "tpm2-primary-alg": "ecc", "tpm2-pcrs": []int{},
		"tpm2-blob": base64.StdEncoding.EncodeToString(append(blob, public...)), "tpm2-policy-hash": hex.EncodeToString(digest[:]),
	}
	maps.Copy(out, fields)
	return out
}

func TestCompare(t *testing.T) {
	boot := machine(t)
	next := maps.Clone(boot)
	next["profile"], next["phases"] = 0, []string{"enter-initrd"}
	boot["phases"] = next["phases"]
	userspace := map[string]any{"separator": true}
	boot["userspace"], next["userspace"] = userspace, userspace
	write(t, "old.json", boot)

	out, _ := pcr(t, 0, "compare", "old.json", "old.json")
	require.Contains(t, out, "PCR 4: none\n")
	require.Contains(t, out, "PCR 11: none\n")
	require.NotContains(t, out, "because")

	// The new release has another loader.conf and another boot loader.
	require.NoError(t, os.WriteFile("loader.conf", []byte("timeout 3\n"), 0o644))
	next["loaderConf"] = "loader.conf"
	write(t, "new.json", next)
	out, _ = pcr(t, 0, "predict", "old.json", "-json")
	value := func(n string) []byte {
		all := object(t, out)["pcrs"].(map[string]any)["sha256"].(map[string]any)[n].([]any)
		require.Len(t, all, 1)
		b, err := hex.DecodeString(all[0].(string))
		require.NoError(t, err)
		return b
	}
	literal := func(name string, values map[int][]byte) {
		digest, err := policy.PolicyPCR(policy.Digest{}, crypto.SHA256, values)
		require.NoError(t, err)
		var pcrs []int
		for n := range values {
			pcrs = append(pcrs, n)
		}
		write(t, name, tokenOf(t, digest, map[string]any{"tpm2-pcrs": pcrs}))
	}
	literal("four.json", map[int][]byte{4: value("4")})
	literal("five.json", map[int][]byte{5: value("5")})
	literal("ten.json", map[int][]byte{10: make([]byte, 32)})
	out, _ = pcr(t, 0, "compare", "old.json", "new.json", "-token", "four.json")
	require.Contains(t, out, "PCR 5: changes\n")
	require.Contains(t, out, "because PCR 5: loader.conf: 'timeout 0' missing")
	require.Contains(t, out, "four.json: opens\n")
	out, text := pcr(t, 1, "compare", "old.json", "new.json", "-token", "four.json", "-token", "five.json", "-token", "ten.json")
	require.Contains(t, out, "five.json: does not open (before: opens)\n")
	require.Contains(t, out, "ten.json: not known\n")
	require.Contains(t, text, "2 of 3 tokens would not be unlocked, or it is not known")
	out, _ = pcr(t, 1, "compare", "old.json", "new.json", "-token", "five.json", "-json")
	o := object(t, out)
	require.Len(t, o["pcrs"], 16)
	five := o["pcrs"].([]any)[5].(map[string]any)
	require.Equal(t, "changes", five["effect"])
	require.NotEqual(t, five["old"], five["new"])
	require.Equal(t, "does not open", o["tokens"].([]any)[0].(map[string]any)["new"])
	require.NotEmpty(t, o["tokens"].([]any)[0].(map[string]any)["reasons"])

	// The log of an earlier boot in the place of the one that both name.
	pcr(t, 2, "compare", "old.json", "new.json", "-baseline", "nowhere")
	raw, err := os.ReadFile(boot["firmware"].(string))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("firmware.bin", raw, 0o644))
	delete(boot, "firmware")
	delete(next, "firmware")
	write(t, "old2.json", boot)
	write(t, "new2.json", next)
	out, _ = pcr(t, 0, "compare", "old2.json", "new2.json", "-baseline", "firmware.bin")
	require.Contains(t, out, "PCR 0: none\n")
	out, _ = pcr(t, 0, "compare", "old2.json", "new2.json")
	require.Contains(t, out, "PCR 0: not known: firmware and option ROMs")
	pcr(t, 2, "compare", "old.json")
	pcr(t, 2, "compare", "old.json", "main.go")
	pcr(t, 1, "compare", "old.json", "new.json", "-token", "new.json")
}

// A token that signed policies unlock stays so if the new image has a policy for its own PCR 11,
// and a token is not unlocked by an image without.
func TestCompareSigned(t *testing.T) {
	boot := machine(t)
	write(t, "boot.json", boot)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	digest, err := policy.PolicyAuthorize(&key.PublicKey, nil)
	require.NoError(t, err)
	pem, err := policy.MarshalPublicKey(&key.PublicKey)
	require.NoError(t, err)
	write(t, "token.json", tokenOf(t, digest, map[string]any{"tpm2_pubkey": base64.StdEncoding.EncodeToString(pem), "tpm2_pubkey_pcrs": []int{11}}))
	out, _ := pcr(t, 1, "compare", "boot.json", "boot.json", "-token", "token.json", "-json")
	reasons := object(t, out)["tokens"].([]any)[0].(map[string]any)["reasons"].([]any)
	require.NotEmpty(t, reasons)
	b, err := json.Marshal(reasons)
	require.NoError(t, err)
	require.Contains(t, string(b), "signature")
}

func TestStates(t *testing.T) {
	boot := machine(t)
	next := maps.Clone(boot)
	require.NoError(t, os.WriteFile("loader.conf", []byte("timeout 3\n"), 0o644))
	next["loaderConf"] = "loader.conf"
	write(t, "next.json", next)
	out, _ := pcr(t, 0, "states", "boot.json", "next.json", "-pcrs", "5,4")
	require.Contains(t, out, "2 states of the sha256 PCRs [4 5]\n1: boot.json\n2: next.json\n   PCR 5 is ")
	out, _ = pcr(t, 0, "states", "boot.json", "next.json", "-pcrs", "4,5", "-json")
	states := object(t, out)["states"].([]any)
	require.Len(t, states, 2)
	require.Equal(t, []any{5.0}, states[1].(map[string]any)["differs"])
	require.Len(t, states[1].(map[string]any)["values"], 2)
	out, _ = pcr(t, 0, "states", "boot.json", "next.json", "-pcrs", "4", "-json")
	states = object(t, out)["states"].([]any)
	require.Len(t, states, 1)
	require.Equal(t, []any{"boot.json", "next.json"}, states[0].(map[string]any)["names"])
	_, text := pcr(t, 2, "states", "boot.json", "-pcrs", "10")
	require.Contains(t, text, `state "boot.json": PCR 10 is unknown`)
	boot["exitBoot"] = "once"
	write(t, "two.json", map[string]any{"boots": []any{boot, next}})
	out, _ = pcr(t, 0, "states", "two.json", "-pcrs", "5")
	require.Contains(t, out, "two.json, way 2")
	for _, list := range []string{"", "x", "4,4", "24", "-1"} {
		pcr(t, 2, "states", "boot.json", "-pcrs", list)
	}
	pcr(t, 2, "states", "boot.json", "-pcrs", "4", "-bank", "md5")
	pcr(t, 2, "states", "nowhere", "-pcrs", "4")
}

// GRUB's part of a boot is worked out from its configuration, and what is not followed in one is
// said.
func TestPredictGRUB(t *testing.T) {
	machine(t)
	require.NoError(t, os.WriteFile("grub.cfg", []byte("linux /vmlinuz quiet\ninitrd /initrd.img\nboot\n"), 0o644))
	image := petest.Image{SizeOfHeaders: 512, Sections: []petest.Section{{Name: ".sbat", Content: []byte("sbat,1,SBAT Version,sbat,1,https://x\ngrub,7,Free Software Foundation,grub,2.12,https://y\n")}}}
	require.NoError(t, os.WriteFile("grubx64.efi", image.Bytes(), 0o644))
	boot := map[string]any{
		"grub": "grubx64.efi", "kernel": "loader.efi", "grubConfig": "(hd0,gpt1)/EFI/debian/grub.cfg", "exitBoot": "once",
		"grubFiles": map[string]string{"(hd0,gpt1)/EFI/debian/grub.cfg": "grub.cfg", "/vmlinuz": "loader.efi", "/initrd.img": "grub.cfg"},
	}
	write(t, "grub.json", boot)
	out, _ := pcr(t, 0, "predict", "grub.json")
	require.Contains(t, out, "PCR 8: exact (booted): the commands that GRUB's configuration has it run")
	require.Contains(t, out, "PCR 9: exact (booted)")
	require.NoError(t, os.WriteFile("grub.cfg", []byte("\nload_env\n"), 0o644))
	_, text := pcr(t, 2, "predict", "grub.json")
	require.Contains(t, text, "grub: (hd0,gpt1)/EFI/debian/grub.cfg:2: command load_env is not modelled")
	require.NoError(t, os.WriteFile("grub.cfg", []byte("chainloader /vmlinuz\nboot\n"), 0o644))
	_, text = pcr(t, 2, "predict", "grub.json")
	require.Contains(t, text, `want it as "uki"`)
	delete(boot, "grubConfig")
	write(t, "grub.json", boot)
	out, _ = pcr(t, 0, "predict", "grub.json")
	require.Contains(t, out, "PCRs 8-9: not predicted: what GRUB measures is known only from a boot with it, whose log is not given")

	// A Type #1 entry of systemd-boot.
	write(t, "entry.json", map[string]any{"loader": "loader.efi", "kernel": "loader.efi", "initrds": []string{"grub.cfg"}, "cmdline": `initrd=\initrd.img quiet`})
	out, _ = pcr(t, 0, "predict", "entry.json")
	require.Contains(t, out, "PCR 9: exact (booted)")
	require.Contains(t, out, "PCR 12: exact")
	write(t, "entry.json", map[string]any{"loader": "loader.efi", "kernel": "loader.efi", "initrds": []string{"grub.cfg", "grub.cfg"}, "cmdline": "quiet"})
	out, _ = pcr(t, 0, "predict", "entry.json")
	require.Contains(t, out, "PCR 9: not predicted: how the kernel joins several initrds is not known")
	write(t, "entry.json", map[string]any{"kernel": "loader.efi"})
	pcr(t, 2, "predict", "entry.json")
}
