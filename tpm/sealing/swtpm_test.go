package sealing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm"
)

// simulator is a swtpm of a test, with firmware's part done: PCRs 0 and 7 of all banks are extended.
type simulator struct {
	*TPM
	device *Device
	name   string // for Open
	port   int    // of the TCP server; the control channel has the next one
}

// swtpm starts a new TPM on TCP ports, which end with the test.
func swtpm(t testing.TB) *simulator {
	t.Helper()
	s := blankSwtpm(t)
	s.extend(t, 0, []byte("firmware"))
	s.extend(t, 7, []byte("secure boot"))
	return s
}

// blankSwtpm is a TPM that no firmware has measured into.
func blankSwtpm(t testing.TB) *simulator {
	t.Helper()
	path := testtools.Require(t, "swtpm")
	for try := 0; ; try++ {
		s, err := startSwtpm(t, path)
		if err == nil {
			return s
		}
		if try == 5 { // its ports were taken, each time?
			t.Fatal(err)
		}
	}
}

func startSwtpm(t testing.TB, path string) (*simulator, error) {
	t.Helper()
	port := freePorts(t)
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	var messages bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "socket", "--tpm2", "--tpmstate", "dir="+t.TempDir(),
		"--server", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", port),
		"--ctrl", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", port+1),
		"--flags", "not-need-init,startup-clear")
	cmd.Stderr, cmd.WaitDelay = &messages, time.Second
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { stop(); <-ended })
	s := &simulator{name: fmt.Sprintf("swtpm:127.0.0.1:%d", port), port: port}
	for range 500 {
		var err error
		if s.device, err = Open(s.name); err == nil {
			t.Cleanup(func() { s.device.Close() })
			s.TPM = New(s.device)
			return s, nil
		}
		select {
		case err := <-ended:
			ended <- err
			return nil, fmt.Errorf("swtpm: %w\n%s", err, messages.Bytes())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("swtpm does not answer on port %d", port)
}

// disconnect leaves the TPM to another program, until connect.
func (s *simulator) disconnect(t testing.TB) {
	t.Helper()
	require.NoError(t, s.device.Close())
}

func (s *simulator) connect(t testing.TB) {
	t.Helper()
	var err error
	s.device, err = Open(s.name)
	require.NoError(t, err)
	s.TPM = New(s.device)
}

// signState signs the present state of PCR 11 in all banks.
func (s *simulator) signState(t testing.TB, key *rsa.PrivateKey, ref string) tpm.Signatures {
	t.Helper()
	fingerprint, err := tpm.Fingerprint(&key.PublicKey)
	require.NoError(t, err)
	var policies tpm.Policies
	for _, h := range tpm.Banks() {
		pcrs, err := s.PCRs(h, tpm.PCRKernel)
		require.NoError(t, err)
		digest, err := tpm.PolicyPCR(tpm.PolicyDigest{}, h, pcrs)
		require.NoError(t, err)
		policies = append(policies, tpm.Policy{Bank: h, PCRs: []int{tpm.PCRKernel}, Fingerprint: fingerprint, Ref: ref, Digest: digest})
	}
	signatures, err := policies.Sign(key)
	require.NoError(t, err)
	return signatures
}

// freePorts finds two ports that follow each other.
func freePorts(t testing.TB) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two free ports")
	return 0
}

// extend measures data into all banks of a PCR.
func (s *simulator) extend(t testing.TB, pcr int, data []byte) {
	t.Helper()
	var digests tpm2.TPMLDigestValues
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		w := h.New()
		w.Write(data)
		digests.Digests = append(digests.Digests, tpm2.TPMTHA{HashAlg: algorithms[h], Digest: w.Sum(nil)})
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)}, Digests: digests,
	}.Execute(s.transport)
	require.NoError(t, err)
}

// socketPath is for the other kind of socket that Open knows.
func socketPath(t testing.TB) string { return filepath.Join(t.TempDir(), "s") }
