//go:build linux

package e2e

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// logs returns the directory for a test's serial logs: below OSMITH_E2E_LOGS if
// that is set, else a temporary one that only a failure leaves behind.
func logs(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("OSMITH_E2E_LOGS"); dir != "" {
		dir = filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_"))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir, err := os.MkdirTemp("", "osmith-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("serial logs are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// requireVM skips or fails a test without the programs a machine is made of.
func requireVM(t testing.TB) {
	t.Helper()
	testtools.Require(t, "qemu-system-x86_64")
	testtools.Require(t, "swtpm")
}

// boot boots a machine, and fails the test with the end of the serial log when
// the boot ends otherwise than it should.
func boot(t testing.TB, m *Machine, name string, want Ended) *Boot {
	t.Helper()
	b, err := m.Boot(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	book(t, m, b.CPU)
	t.Log(b)
	if b.Ended != want {
		t.Fatalf("boot %s: %s, want %s; the end of its serial log:\n%s", name, b.Ended, want, b.Tail(40))
	}
	return b
}

// buildGuest compiles the guest into the test's directory.
func buildGuest(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "guest")
	if err := BuildGuest(t.Context(), file, "amd64"); err != nil {
		t.Fatal(err)
	}
	return file
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func pemCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
