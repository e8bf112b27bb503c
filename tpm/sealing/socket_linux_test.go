package sealing

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFullSocket connects to a server that is behind with the connections that came before.
func TestFullSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "tpm")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(fd, 0))
	for n := 0; ; n++ {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		require.NoError(t, err)
		defer conn.Close()
		require.Less(t, n, 100)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		for range 10 {
			if nfd, _, err := syscall.Accept(fd); err == nil {
				_ = syscall.Close(nfd)
			}
		}
	}()
	d, err := Open("swtpm:" + path)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	_ = syscall.Shutdown(fd, syscall.SHUT_RDWR) // ends Accept
}
