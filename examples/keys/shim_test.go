package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// shim is a shim that trusts the key for db of one directory, signed by that of another.
func shim(t *testing.T, signer, trusts string) string {
	t.Helper()
	by, err := readHierarchy(signer, false)
	require.NoError(t, err)
	vendor, err := readHierarchy(trusts, false)
	require.NoError(t, err)
	le := binary.LittleEndian
	cert := vendor.DB.Cert.Raw
	section := le.AppendUint32(le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, uint32(len(cert))), 0), 16), uint32(16+len(cert)))
	const level = "sbat,1,2024010900\n\x00"
	levels := append(le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, 0), 8), 8+uint32(len(level))), level+level...)
	b := petest.Shim(append(section, cert...), levels, []byte("sbat,1,x,x,1,x\nshim,4,x,x,1,x\n"), 0, ".vendor_cert\x00.sbatlevel\x00")
	var out bytes.Buffer
	require.NoError(t, authenticode.Sign(&out, bytes.NewReader(b), by.DB.Key, by.DB.Cert, authenticode.SignOptions{}))
	name := filepath.Join(t.TempDir(), "shimx64.efi")
	require.NoError(t, os.WriteFile(name, out.Bytes(), 0o600))
	return name
}

func TestEvaluateBehindShim(t *testing.T) {
	keys, other, third := generated(t, "Acme OS"), generated(t, "Other"), generated(t, "Third")
	m, good, vendors, owners := owned(t, keys), loader(t, keys), loader(t, other), loader(t, third)
	program := shim(t, keys, other)
	kernel := filepath.Join(t.TempDir(), "linux")
	h, err := readHierarchy(keys, false)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, authenticode.Sign(&out, bytes.NewReader(petest.Kernel("6.12.0")), h.DB.Key, h.DB.Cert, authenticode.SignOptions{}))
	require.NoError(t, os.WriteFile(kernel, out.Bytes(), 0o600))
	esl := filepath.Join(third, "db.esl")
	no := func(want string, args ...string) {
		t.Helper()
		status, stdout, _ := call3(t, append([]string{"evaluate", "-vars", m}, args...)...)
		require.Equal(t, 1, status)
		require.Contains(t, stdout, want)
	}
	// Nothing is known of shim's variables on a machine that did not start through it.
	no("not allowed: cannot be told: shim's state is unknown: SbatPolicy", "-shim", program, good)
	text := ok(t, "evaluate", "-vars", m, "-shim", program, "-nothing-enrolled", good, vendors)
	require.Contains(t, text, "shimx64.efi: allowed: db has the certificate")
	require.Contains(t, text, "allowed: shim trusts the certificate \"CN=Other Signature Database Key\"")
	no("refused: signature 0: signed by", "-shim", program, "-nothing-enrolled", owners)
	require.Contains(t, ok(t, "evaluate", "-vars", m, "-shim", program, "-nothing-enrolled", "-moklist", esl, owners), "MokList has the certificate")
	no("revoked: MokListX has the certificate", "-shim", program, "-nothing-enrolled", "-moklist", esl, "-moklistx", esl, owners)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	no("cannot be told: shim's state is unknown: SbatPolicy", "-shim", program, "-moklist", empty, "-moklistx", empty, good)
	no("refused: the image has no section .sbat", "-shim", program, "-nothing-enrolled", good, kernel)
	ok(t, "evaluate", "-vars", m, "-shim", program, "-nothing-enrolled", good, "-by-program", kernel)

	// Firmware judges shim.
	no("shimx64.efi: refused: signature 0", "-shim", shim(t, other, other), "-nothing-enrolled", good)

	level := filepath.Join(t.TempDir(), "level")
	require.NoError(t, os.WriteFile(level, []byte("sbat,1,2030010100\nsystemd-boot,99\n"), 0o600))
	no("revoked by SBAT", "-shim", program, "-nothing-enrolled", "-sbat-level", level, good)
	no("revoked by SBAT", "-sbat-level", level, good)
	ok(t, "evaluate", "-vars", m, "-sbat-level", level, "-no-shim", good)

	for want, args := range map[string][]string{
		"-shim and -no-shim: want one": {"-shim", program, "-no-shim", good},
		"want -shim PE, too":           {"-moklist", esl, good},
		"by-program are about a shim":  {"-by-program", kernel, good},
		"are about a shim":             {"-nothing-enrolled", "-no-shim", good},
		"no section .vendor_cert":      {"-shim", good, good},
		"sbat: secureboot: ":           {"-shim", program, "-moklist", write(t, "sbat", "no lists"), good},
		"no such file":                 {"-shim", program + "x", good},
		"moklistx: no such file":       {"-shim", program, "-moklistx", filepath.Join(third, "moklistx"), good},
	} {
		status, _, stderr := call3(t, append([]string{"evaluate", "-vars", m}, args...)...)
		wants := 2
		if strings.HasPrefix(want, "sbat: ") || strings.HasPrefix(want, "no section") {
			wants = 1 // a file of another format
		}
		require.Equal(t, wants, status, stderr)
		require.Contains(t, stderr, want)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}
