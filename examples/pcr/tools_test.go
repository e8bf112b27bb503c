package main

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

// systemd-pcrlock writes the same components of the same loader and the same UKI, which ukify
// built, in all banks; and systemd-measure signs the same policies.
func TestAgainstSystemd(t *testing.T) {
	r := testtools.Forky(t)
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pem")
	text, err := os.ReadFile("../../tpm/testdata/example-key.pem")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(key, text, 0o600))
	for name, content := range map[string]string{"initrd": "an initrd", "os-release": "ID=test\nVERSION_ID=1\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	for name, part := range map[string]string{"loader.efi": "loader", "kernel": "kernel"} {
		b, err := os.ReadFile(r.Part(t, part))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	r.Run(t, dir, "ukify", "build", "--linux=kernel", "--initrd=initrd", "--os-release=@os-release", "--cmdline=quiet console=tty0", "--uname=6.1", "--output=linux.efi")
	const lock = "/usr/lib/systemd/systemd-pcrlock"
	r.Run(t, dir, lock, "lock-uki", "--pcrlock="+filepath.Join(dir, "uki.pcrlock"), "linux.efi")
	r.Run(t, dir, lock, "lock-pe", "--pcrlock="+filepath.Join(dir, "loader.pcrlock"), "loader.efi")

	t.Chdir(dir)
	write(t, "boot.json", map[string]any{"uki": "linux.efi", "loader": "loader.efi", "banks": []string{"sha1", "sha256", "sha384", "sha512"}})
	pcr(t, 0, "pcrlock", "boot.json", "-o", "locks")
	for ours, theirs := range map[string]string{"650-uki": "uki.pcrlock", "630-boot-loader": "loader.pcrlock"} {
		want, err := os.ReadFile(theirs)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join("locks", ours+".pcrlock.d", "generated.pcrlock"))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), ours)
	}

	pcr(t, 0, "sign", "linux.efi", "-key", key, "-o", "ours.json", "-ref", "initrd", "-phases", "enter-initrd")
	got, err := os.ReadFile("ours.json")
	require.NoError(t, err)
	signed, err := policy.ParseSignatures(got)
	require.NoError(t, err)
	f, err := os.Open("linux.efi")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	require.NoError(t, err)
	image, err := uki.Open(io.NewSectionReader(f, 0, info.Size()))
	require.NoError(t, err)
	section, ok := image.Section(".sbat") // which ukify has made of the stub's
	require.True(t, ok)
	sbat, err := io.ReadAll(section)
	require.NoError(t, err)
	private, err := cli.ReadKey(key)
	require.NoError(t, err)
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"sbat": sbat, "cmdline": []byte("quiet console=tty0"), "uname": []byte("6.1"),
		"pub.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
	} {
		require.NoError(t, os.WriteFile(name, content, 0o644))
	}
	out := r.Output(t, dir, "/usr/lib/systemd/systemd-measure", "sign", "--linux=kernel", "--initrd=initrd", "--osrel=os-release", "--cmdline=cmdline",
		"--uname=uname", "--sbat=sbat", "--policyref=initrd", "--phase=enter-initrd", "--private-key="+key, "--public-key="+filepath.Join(dir, "pub.pem"))
	theirs, err := policy.ParseSignatures([]byte(out))
	require.NoError(t, err)
	require.Equal(t, theirs, signed)
}

// What Debian signed, in a chain: shim, GRUB and a kernel, which shim lets GRUB start although it
// has no section .sbat.
func TestPredictDebian(t *testing.T) {
	signed, kernel := testtools.Trixie(t).Path("opt/signed/usr/lib/"), testtools.Forky(t).Part(t, "kernel")
	variables := abs(t, "../../tpm/testdata/boot-shim/s1-msvars/sigdb")
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("grub.cfg", []byte("linux /vmlinuz quiet\ninitrd /initrd.img\nboot\n"), 0o644))
	boot := map[string]any{
		"shim": signed + "/shim/shimx64.efi.signed", "grub": signed + "/grub/x86_64-efi-signed/grubx64.efi.signed", "kernel": kernel, "variables": variables,
		"grubConfig": "(hd0,gpt1)/EFI/debian/grub.cfg", "grubFiles": map[string]string{"/EFI/debian/grub.cfg": "grub.cfg", "/vmlinuz": kernel, "/initrd.img": "grub.cfg"},
	}
	write(t, "boot.json", boot)
	out, _ := pcr(t, 0, "predict", "boot.json")
	for _, line := range []string{"PCR 4: exact", "PCR 7: exact", "PCR 8: exact", "PCR 9: exact", "PCR 14: exact"} {
		require.Contains(t, out, line)
	}
	boot["shim"] = boot["grub"]
	write(t, "boot.json", boot)
	_, text := pcr(t, 1, "predict", "boot.json")
	require.Contains(t, text, "want a shim")
}
