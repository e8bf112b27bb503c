package secureboot_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// Debian's programs behind Debian's shim, on a machine that really started them: what is measured
// for GRUB and the kernel is the digest of that log.
func TestDebiansShim(t *testing.T) {
	r := testtools.Trixie(t)
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return b
	}
	s, err := secureboot.ReadShim(bytes.NewReader(read(r.Path("opt/signed/usr/lib/shim/shimx64.efi.signed"))))
	require.NoError(t, err)
	requireDebianShim(t, s)
	v := shimMachine(t, "db")
	require.True(t, secureboot.Evaluate(v, s.Image, secureboot.EvaluateOptions{NoShim: true}).Allowed)

	judge := func(b []byte, o secureboot.EvaluateOptions) secureboot.Verdict {
		im, err := secureboot.ReadImage(bytes.NewReader(b))
		require.NoError(t, err)
		o.Shim = s
		return secureboot.Evaluate(v, im, o)
	}
	var files []string
	for _, pattern := range []string{"shim/fbx64*", "shim/mmx64*", "grub/*/*", "systemd/boot/efi/*"} {
		found, err := filepath.Glob(r.Path("opt/signed/usr/lib", pattern+".signed"))
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		files = append(files, found...)
	}
	for _, path := range files {
		b := read(path)
		got := judge(b, secureboot.EvaluateOptions{})
		require.Equal(t, secureboot.RuleCertificateOfVendor, got.Rule, "%s: %s", path, got.Reason)
		event, err := got.AuthorityEvent()
		require.NoError(t, err)
		require.Equal(t, "23b2707ff70880b82fad7c96835b1b287e5d0663885d801a98badefb831fb2dd", sum256(event))
		b[len(b)/2] ^= 1
		require.False(t, judge(b, secureboot.EvaluateOptions{}).Allowed, path)
	}
	// Debian's kernel has no section .sbat: GRUB and systemd-boot get it past shim, shim itself
	// would not start it.
	kernel := read(r.Part(t, "kernel"))
	require.Equal(t, secureboot.RuleSBATMissing, judge(kernel, secureboot.EvaluateOptions{}).Rule)
	require.Equal(t, secureboot.RuleCertificateOfVendor, judge(kernel, secureboot.EvaluateOptions{ByProgram: true}).Rule)
}
