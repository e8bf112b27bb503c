// Package swtpm starts software TPMs for tests.
package swtpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// TPM is a swtpm that ends with its test. It talks to one program at a time.
type TPM struct {
	Socket string // path of its unix socket

	dir   string
	end   func()
	ended chan struct{}
}

// Start starts a new TPM.
func Start(t testing.TB) *TPM {
	t.Helper()
	testtools.Require(t, "swtpm")
	dir, err := os.MkdirTemp("", "swtpm") // a socket's path must be short
	require.NoError(t, err)
	s := &TPM{Socket: filepath.Join(dir, "socket"), dir: dir}
	s.start(t)
	t.Cleanup(func() {
		s.stop()
		os.RemoveAll(dir)
	})
	return s
}

// Reboot cuts the power: what was sealed stays, PCRs and sessions do not.
func (s *TPM) Reboot(t testing.TB) {
	t.Helper()
	s.stop()
	s.start(t)
}

func (s *TPM) start(t testing.TB) {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	var messages bytes.Buffer
	cmd := exec.CommandContext(ctx, testtools.Require(t, "swtpm"), "socket", "--tpm2", "--tpmstate", "dir="+s.dir,
		"--server", "type=unixio,path="+s.Socket, "--flags", "not-need-init,startup-clear")
	cmd.Stderr, cmd.WaitDelay = &messages, time.Second
	require.NoError(t, cmd.Start())
	s.end, s.ended = end, make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // killed, or the messages say why
	}()
	for range 1000 {
		if conn, err := net.Dial("unix", s.Socket); err == nil {
			require.NoError(t, conn.Close())
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("swtpm ended\n%s", messages.Bytes())
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Fatal("swtpm does not answer")
}

func (s *TPM) stop() {
	s.end()
	<-s.ended
}

// Extend measures data into a PCR of the banks sha256 and sha384, as firmware does. Nothing else may be connected.
func (s *TPM) Extend(t testing.TB, pcr int, data []byte) {
	t.Helper()
	// TPM2_PCR_Extend (TPM 2.0 Library, part 3, section 22.2), authorised by an empty password.
	be := binary.BigEndian
	b := be.AppendUint32([]byte{0x80, 0x02, 0, 0, 0, 0, 0, 0, 0x01, 0x82}, uint32(pcr))
	b = append(b, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
	short, long := sha256.Sum256(data), sha512.Sum384(data)
	b = append(append(b, 0, 0, 0, 2, 0x00, 0x0b), short[:]...)
	b = append(append(b, 0x00, 0x0c), long[:]...)
	be.PutUint32(b[2:], uint32(len(b)))
	conn, err := net.Dial("unix", s.Socket)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(b)
	require.NoError(t, err)
	response := make([]byte, 4096)
	n, err := conn.Read(response)
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 10)
	require.Zero(t, be.Uint32(response[6:]), "response code")
}
