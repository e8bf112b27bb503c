package sealing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"
	"net"
	"os"
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
	port   int    // of a TCP server; the control channel has the next one
	server []string
	state  string // directory
	end    func()
	ended  chan struct{}
}

// swtpm starts a new TPM on a socket of its own, which ends with the test.
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
	s := newSimulator(t)
	socket := filepath.Join(s.state, "socket")
	s.name, s.server = "swtpm:"+socket, []string{"--server", "type=unixio,path=" + socket}
	require.NoError(t, s.start(t))
	return s
}

// tcpSwtpm is a TPM on TCP ports, for other programs to talk to.
func tcpSwtpm(t testing.TB) *simulator {
	t.Helper()
	for try := 0; ; try++ {
		s := newSimulator(t)
		s.port = freePorts(t)
		s.name = fmt.Sprintf("swtpm:127.0.0.1:%d", s.port)
		s.server = []string{
			"--server", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", s.port),
			"--ctrl", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", s.port+1),
		}
		err := s.start(t)
		if err == nil {
			s.extend(t, 0, []byte("firmware"))
			s.extend(t, 7, []byte("secure boot"))
			return s
		}
		if try == 5 { // its ports were taken, each time?
			t.Fatal(err)
		}
	}
}

func newSimulator(t testing.TB) *simulator {
	t.Helper()
	testtools.Require(t, "swtpm")
	state, err := os.MkdirTemp("", "swtpm") // a socket's path must be short
	require.NoError(t, err)
	s := &simulator{state: state, end: func() {}}
	t.Cleanup(func() {
		s.stop()
		os.RemoveAll(state)
	})
	return s
}

func (s *simulator) stop() {
	if s.device != nil {
		s.device.Close()
	}
	s.end()
	if s.ended != nil {
		<-s.ended
	}
}

func (s *simulator) start(t testing.TB) error {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	var messages bytes.Buffer
	args := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + s.state, "--flags", "not-need-init,startup-clear"}, s.server...)
	cmd := exec.CommandContext(ctx, testtools.Require(t, "swtpm"), args...)
	cmd.Stderr, cmd.WaitDelay = &messages, time.Second
	ended := make(chan struct{})
	s.end, s.ended = end, ended
	require.NoError(t, cmd.Start())
	go func() {
		defer close(ended)
		_ = cmd.Wait() // killed, or the messages say why
	}()
	for range 1000 {
		device, err := Open(s.name)
		if err == nil {
			s.device, s.TPM = device, New(device)
			// It may be another's that has the port.
			require.NoError(t, device.conn.(net.Conn).SetDeadline(time.Now().Add(5*time.Second)))
			_, err = s.Lockout()
			require.NoError(t, device.conn.(net.Conn).SetDeadline(time.Time{}))
		}
		select {
		case <-ended:
			return fmt.Errorf("swtpm ended\n%s", messages.Bytes())
		default:
			if err == nil {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return fmt.Errorf("swtpm does not answer as %s", s.name)
}

// reboot shuts down and has firmware measure again, besides PCR 0 what is given.
func (s *simulator) reboot(t testing.TB, more ...measured) {
	t.Helper()
	_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(s.transport)
	require.NoError(t, err)
	s.powerCut(t, more...)
}

// powerCut is a reboot without shutting down.
func (s *simulator) powerCut(t testing.TB, more ...measured) {
	t.Helper()
	s.stop()
	require.NoError(t, s.start(t))
	for _, m := range append([]measured{{0, "firmware"}}, more...) {
		s.extend(t, m.pcr, []byte(m.data))
	}
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
