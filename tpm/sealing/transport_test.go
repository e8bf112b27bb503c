package sealing

import (
	"encoding/binary"
	"net"
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
