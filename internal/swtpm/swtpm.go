// Package swtpm starts software TPMs for tests.
package swtpm

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// TPM is a swtpm that ends with its test. It talks to one program at a time.
type TPM struct {
	Socket string // path of its unix socket; "" if it is on TCP
	// of its TCP server on 127.0.0.1, which tpm2-tss talks to; the control channel has the next one
	Port int

	dir     string
	state   string // directory of the permanent state, if it is not dir
	server  []string
	process *os.Process
	end     func()
	ended   chan struct{}
}

// Start starts a new TPM on a unix socket.
func Start(t testing.TB) *TPM {
	t.Helper()
	s := create(t)
	s.Socket = filepath.Join(s.dir, "socket")
	s.server = []string{"--server", "type=unixio,path=" + s.Socket}
	require.NoError(t, s.start(t))
	return s
}

// StartFrom starts a TPM with the permanent state of another (tpm2-00.permall). A swtpm that is
// older than the state cannot read it: then the test is skipped.
func StartFrom(t testing.TB, state []byte) *TPM {
	t.Helper()
	s := create(t)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "tpm2-00.permall"), state, 0o600))
	s.Socket = filepath.Join(s.dir, "socket")
	s.server = []string{"--server", "type=unixio,path=" + s.Socket}
	err := s.start(t)
	if err != nil && strings.Contains(err.Error(), "Minimum version") {
		t.Skip("this swtpm is older than the state: want 0.10 or later")
	}
	require.NoError(t, err)
	return s
}

// StartIn starts a TPM whose state is in a directory, and stays there: that of another machine that
// is off. Stop it before that is switched on.
func StartIn(t testing.TB, state string) *TPM {
	t.Helper()
	s := create(t)
	s.Socket = filepath.Join(s.dir, "socket")
	s.server = []string{"--server", "type=unixio,path=" + s.Socket}
	s.state = state
	require.NoError(t, s.start(t))
	return s
}

// Stop cuts the power for good.
func (s *TPM) Stop() { s.stop() }

// StartTCP starts a new TPM on TCP, for programs that know nothing else.
func StartTCP(t testing.TB) *TPM {
	t.Helper()
	for try := 0; ; try++ {
		s := create(t)
		s.Port = freePorts(t)
		s.server = []string{
			"--server", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", s.Port),
			"--ctrl", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", s.Port+1),
		}
		err := s.start(t)
		if err == nil {
			return s
		}
		if try == 5 { // its ports were taken, each time?
			t.Fatal(err)
		}
	}
}

func create(t testing.TB) *TPM {
	t.Helper()
	testtools.Require(t, "swtpm")
	dir, err := os.MkdirTemp("", "swtpm") // a socket's path must be short
	require.NoError(t, err)
	s := &TPM{dir: dir, end: func() {}}
	t.Cleanup(func() {
		s.stop()
		os.RemoveAll(dir)
	})
	return s
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

// Name is how package tpm/sealing calls it.
func (s *TPM) Name() string {
	if s.Socket != "" {
		return "swtpm:" + s.Socket
	}
	return fmt.Sprintf("swtpm:127.0.0.1:%d", s.Port)
}

func (s *TPM) dial() (net.Conn, error) {
	if s.Socket != "" {
		return net.Dial("unix", s.Socket)
	}
	return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
}

// Reboot cuts the power: what was sealed stays, PCRs and sessions do not.
func (s *TPM) Reboot(t testing.TB) {
	t.Helper()
	s.stop()
	require.NoError(t, s.start(t))
}

func (s *TPM) start(t testing.TB) error {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	var messages bytes.Buffer
	args := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + cmp.Or(s.state, s.dir), "--flags", "not-need-init,startup-clear"}, s.server...)
	cmd := exec.CommandContext(ctx, testtools.Require(t, "swtpm"), args...)
	cmd.Stderr, cmd.WaitDelay = &messages, time.Second
	require.NoError(t, cmd.Start())
	s.process, s.end, s.ended = cmd.Process, end, make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // killed, or the messages say why
	}()
	for range 1000 {
		answers := s.answers()
		select {
		case <-s.ended:
			return fmt.Errorf("swtpm ended\n%s", messages.Bytes())
		default:
		}
		if answers {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.New("swtpm does not answer")
}

// answers sends TPM2_Startup, which does nothing to a TPM that was started. What answers at a TCP
// port may be another test's, but then this one has ended.
func (s *TPM) answers() bool {
	conn, err := s.dial()
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(5*time.Second)) != nil {
		return false
	}
	_, err = exchange(conn, []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0})
	return err == nil
}

// exchange sends a command and reads the response.
func exchange(conn net.Conn, command []byte) ([]byte, error) {
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, 4096)
	if _, err := io.ReadFull(conn, response[:10]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(response[2:])
	if size < 10 || int(size) > len(response) {
		return nil, fmt.Errorf("a response of %d bytes", size)
	}
	_, err := io.ReadFull(conn, response[10:size])
	return response[:size], err
}

func (s *TPM) stop() {
	s.end()
	if s.ended != nil {
		<-s.ended
	}
}

// Extend measures data into a PCR of the banks sha256 and sha384, as firmware does. Nothing else
// may be connected.
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
	conn, err := s.dial()
	require.NoError(t, err)
	defer conn.Close()
	response, err := exchange(conn, b)
	require.NoError(t, err)
	require.Zero(t, be.Uint32(response[6:]), "response code")
}
