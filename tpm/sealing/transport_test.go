package sealing

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// answering is a socket that reads one command, answers with b and hangs up, each time.
func answering(t *testing.T, b []byte) *Device {
	t.Helper()
	return &Device{dial: func() (net.Conn, error) { return answer(b), nil }}
}

func answer(b []byte) net.Conn {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		if _, err := theirs.Read(make([]byte, 64)); err != nil {
			return
		}
		for len(b) > 0 { // in pieces
			n := min(len(b), 3)
			if _, err := theirs.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
	}()
	return ours
}

func TestStream(t *testing.T) {
	good := []byte{0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 1, 2}
	d := answering(t, good)
	for range 2 { // as a swtpm does that was told to disconnect
		got, err := d.Send([]byte("command"))
		require.NoError(t, err)
		require.Equal(t, good, got)
	}
	require.NoError(t, d.Close())
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": good[:11], "header cut": good[:5], "too small": {0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0}, "too large": {0x80, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	} {
		_, err := answering(t, b).Send([]byte("command"))
		require.ErrorContains(t, err, "sealing: TPM: ", name)
	}
}

// busy asks for the command again some times.
type busy struct{ left, sent int }

func (b *busy) Send([]byte) ([]byte, error) {
	b.sent++
	response := []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0}
	if b.left > 0 {
		b.left--
		binary.BigEndian.PutUint32(response[6:], 0x922) // TPM_RC_RETRY
	}
	return response, nil
}

func TestBusy(t *testing.T) {
	b := &busy{left: 2}
	command := make([]byte, headerSize)
	_, err := New(b).transport.Send(command)
	require.NoError(t, err)
	require.Equal(t, 3, b.sent)
	b = &busy{left: 100}
	response, err := New(b).transport.Send(command)
	require.NoError(t, err)
	require.EqualValues(t, 0x922, binary.BigEndian.Uint32(response[6:]), "what it says in the end")
	require.Equal(t, maxTries+1, b.sent)
}

func TestOpen(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "none"), "swtpm:" + filepath.Join(t.TempDir(), "none"), "swtpm:nonsense"} {
		_, err := Open(name)
		require.ErrorContains(t, err, "sealing: open "+name)
	}
	if runtime.GOOS == "linux" {
		d, err := Open("/dev/null")
		require.NoError(t, err)
		_, err = d.Send([]byte("command"))
		require.ErrorContains(t, err, "sealing: TPM: read a response")
		require.NoError(t, d.Close())
	}
}

// TestOpenSocket finds sockets of both kinds.
func TestOpenSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "tpm") // a socket's path must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	for network, address := range map[string]string{"unix": path, "tcp": "127.0.0.1:0"} {
		l, err := net.Listen(network, address)
		require.NoError(t, err)
		defer l.Close()
		served := make(chan int, 10)
		go func() {
			for n := 0; ; n++ {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				served <- n
				go func() {
					defer conn.Close()
					if _, err := io.ReadFull(conn, make([]byte, headerSize)); err == nil {
						_, _ = conn.Write(reply(0, 1, 2))
					}
				}()
			}
		}()
		d, err := Open("swtpm:" + l.Addr().String())
		require.NoError(t, err, network)
		for range 2 {
			response, err := d.Send(make([]byte, headerSize))
			require.NoError(t, err, network)
			require.Equal(t, reply(0, 1, 2), response)
		}
		require.NoError(t, d.Close())
		_, err = d.Send(make([]byte, headerSize))
		require.ErrorIs(t, err, os.ErrClosed)
		require.Len(t, served, 2, "the connection of Open is used, and a closed device connects no more")
	}
}

// oneRead is a device: it takes a command whole, and gives a response in one read.
type oneRead struct {
	response []byte
	broken   error
}

func (o *oneRead) Write(b []byte) (int, error) { return len(b), o.broken }
func (o *oneRead) Close() error                { return o.broken }
func (o *oneRead) Read(b []byte) (int, error) {
	if o.response == nil {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(b, o.response)
	o.response = nil
	return n, nil
}

func TestDeviceFile(t *testing.T) {
	d := &Device{conn: &oneRead{response: reply(0, 1, 2, 3)}}
	response, err := d.Send(make([]byte, headerSize))
	require.NoError(t, err)
	require.Equal(t, reply(0, 1, 2, 3), response)
	_, err = d.Send(make([]byte, headerSize))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	d = &Device{conn: &oneRead{response: reply(0), broken: io.ErrClosedPipe}}
	_, err = d.Send(make([]byte, headerSize))
	require.ErrorContains(t, err, "sealing: TPM: write a command: ")
	require.ErrorContains(t, d.Close(), "sealing: ")
	require.NoError(t, d.Close())
}
