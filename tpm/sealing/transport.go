package sealing

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Transport sends one command to a TPM 2.0 and returns its response. It is go-tpm's transport.TPM.
type Transport interface {
	Send(command []byte) (response []byte, err error)
}

// Device is an open TPM. It is for one goroutine at a time, except for Close.
type Device struct {
	mu     sync.Mutex
	conn   io.ReadWriteCloser // nil between the commands to a socket
	busy   bool               // a command is under way
	closed bool
	// dial connects to a socket, for one command, as the TSS does: a swtpm that was told to
	// disconnect hangs up after each. Over a socket a response may come in pieces; a device gives
	// it in one read.
	dial func() (net.Conn, error)
}

// Open opens a TPM by name:
//
//	/dev/tpmrm0              the kernel's TPM with its resource manager (Linux)
//	swtpm:HOST:PORT          swtpm socket --server type=tcp,port=PORT
//	swtpm:/run/swtpm.sock    swtpm socket --server type=unixio,path=/run/swtpm.sock
//
// A swtpm must have been started up (--flags startup-clear), as firmware does for a real TPM.
func Open(name string) (_ *Device, err error) {
	defer prefix.Add(pkg, &err)
	if address, ok := strings.CutPrefix(name, "swtpm:"); ok {
		network := "tcp"
		if strings.ContainsAny(address, `/\`) {
			network = "unix"
		}
		d := &Device{dial: func() (net.Conn, error) { return dial(network, address) }}
		var err error
		if d.conn, err = d.dial(); err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		return d, nil
	}
	conn, err := openDevice(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &Device{conn: conn}, nil
}

// dial connects to a socket. A unix socket whose server is busy with the connections that came
// before refuses others for a moment.
func dial(network, address string) (net.Conn, error) {
	for end := time.Now().Add(dialTime); ; time.Sleep(dialPause) {
		conn, err := net.DialTimeout(network, address, dialTime)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(end) {
			return conn, err
		}
	}
}

const (
	dialTime   = 10 * time.Second
	dialPause  = 10 * time.Millisecond
	headerSize = 10 // tag, size, response code (TPM 2.0 Library, part 1, section 18)
	// maxResponse bounds a response in bytes. PC client TPMs answer with 4096 at most
	// (TPM_PT_MAX_RESPONSE_SIZE).
	maxResponse = 1 << 16
)

// Send sends a command and reads the response.
func (d *Device) Send(command []byte) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	conn, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer d.end()
	if _, err := conn.Write(command); err != nil {
		return nil, fmt.Errorf("TPM: write a command: %w", err)
	}
	if d.dial != nil {
		return readSocket(conn)
	}
	response := make([]byte, maxResponse)
	n, err := conn.Read(response)
	if err != nil {
		return nil, fmt.Errorf("TPM: read a response: %w", err)
	}
	return response[:n], nil
}

// begin connects where there is no connection.
func (d *Device) begin() (io.ReadWriter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil && d.dial != nil && !d.closed {
		d.mu.Unlock() // it takes a while, and Close does not
		conn, err := d.dial()
		d.mu.Lock()
		if err != nil {
			return nil, fmt.Errorf("TPM: connect: %w", err)
		}
		if d.closed {
			return nil, fmt.Errorf("TPM: %w", errors.Join(os.ErrClosed, conn.Close()))
		}
		d.conn = conn
	}
	if d.closed {
		return nil, fmt.Errorf("TPM: %w", os.ErrClosed)
	}
	d.busy = true
	return d.conn, nil
}

// end closes a socket, and a device that was to be closed while the command was under way.
func (d *Device) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	if d.conn != nil && (d.dial != nil || d.closed) {
		_ = d.conn.Close() // the response is here, and it is all that counts
		d.conn = nil
	}
}

func readSocket(conn io.Reader) ([]byte, error) {
	response := make([]byte, maxResponse)
	if _, err := io.ReadFull(conn, response[:headerSize]); err != nil {
		return nil, fmt.Errorf("TPM: read a response: %w", err)
	}
	size := binary.BigEndian.Uint32(response[2:])
	if size < headerSize || size > maxResponse {
		return nil, fmt.Errorf("TPM: response of %d bytes: %w", size, ErrResponse)
	}
	if _, err := io.ReadFull(conn, response[headerSize:size]); err != nil {
		return nil, fmt.Errorf("TPM: read a response: %w", err)
	}
	return response[:size], nil
}

// Close closes the connection, also while a command is under way: a command to a socket then fails
// at once, a command to a device when the kernel returns from it. Objects that are loaded in a
// swtpm stay loaded. A second call does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.conn == nil || d.busy && d.dial == nil {
		return nil // the number of a file that is being read must not become that of another
	}
	err := d.conn.Close()
	d.conn = nil
	return prefix.Error(pkg, err)
}

// link is a connection to a TPM, for all that talk to it.
type link struct {
	Transport
	// broken says that a command was given up: the next response may be the answer to that one.
	broken error
}

// sender is what all commands go through: it gives up when its context ends, refuses responses that
// are not ones, and sends again what a TPM that is busy asks for again.
type sender struct {
	*link
	ctx context.Context
}

const (
	// maxTries bounds how often a command is sent, which takes about a second in all.
	maxTries = 8
	// commandTime is how long a command may take: as long as Linux gives the slowest of a TPM 2.0.
	commandTime = 5 * time.Minute
	// flushTime is how long it may take to unload what a call has loaded, after its context has
	// ended.
	flushTime = 2 * time.Second
)

// InterruptedError says that a command was given up, since the context has ended or the TPM did not
// answer for 5 minutes. Unwrap is the context's error: [context.Canceled] or
// [context.DeadlineExceeded].
type InterruptedError struct {
	Command uint32 // code (TPM 2.0 Library, part 2, section 6.5.2)
	// Sent says that the TPM has received the command, and may carry it out. The connection is then
	// closed and cannot be used any more ([ErrUnusable]); without a resource manager, loaded
	// objects stay in the TPM.
	Sent bool
	Err  error
}

func (e *InterruptedError) Error() string {
	if !e.Sent {
		return fmt.Sprintf("command 0x%08x was not sent: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("the TPM does not answer command 0x%08x, which was abandoned: %v", e.Command, e.Err)
}

func (e *InterruptedError) Unwrap() error { return e.Err }

// ErrUnusable says that the connection cannot be used any more, because a command was given up on
// it whose answer may still come: open the TPM again. The chain of errors also has the
// [*InterruptedError] of that command.
var ErrUnusable = errors.New("the connection to the TPM is closed, because a late response may still arrive: open the TPM again")

func (s sender) Send(command []byte) ([]byte, error) {
	if len(command) < headerSize {
		return nil, fmt.Errorf("TPM: a command of %d bytes: want at least %d", len(command), headerSize)
	}
	ctx, cancel := context.WithTimeout(s.ctx, commandTime)
	defer cancel()
	for wait := 4 * time.Millisecond; ; wait *= 2 {
		response, err := s.exchange(ctx, command)
		if err != nil {
			return nil, err
		}
		if len(response) < headerSize || uint64(binary.BigEndian.Uint32(response[2:])) != uint64(len(response)) {
			return nil, fmt.Errorf("TPM: %d bytes, which are not a response: %w", len(response), ErrResponse)
		}
		if !again(binary.BigEndian.Uint32(response[6:])) || wait >= 4*time.Millisecond<<maxTries {
			return response, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done(): // exchange says so
		}
	}
}

// exchange sends a command and waits for its response, or for the end of the context.
func (s sender) exchange(ctx context.Context, command []byte) ([]byte, error) {
	interrupted := &InterruptedError{Command: binary.BigEndian.Uint32(command[6:])}
	switch {
	case s.broken != nil:
		return nil, s.broken
	case ctx.Err() != nil:
		interrupted.Err = ctx.Err()
		return nil, interrupted
	}
	type answer struct {
		response []byte
		err      error
	}
	answers := make(chan answer, 1) // one that comes too late is not received
	go func() {
		response, err := guard(func() ([]byte, error) { return s.Transport.Send(command) })
		answers <- answer{response, err}
	}()
	select {
	case a := <-answers:
		return a.response, prefix.Bare(a.err)
	case <-ctx.Done():
	}
	interrupted.Sent, interrupted.Err = true, ctx.Err()
	s.broken = fmt.Errorf("%w: %w", ErrUnusable, interrupted)
	if c, ok := s.Transport.(io.Closer); ok {
		// what waits for the TPM in it may end so, and whether Close itself waits is not known
		go c.Close()
	}
	return nil, interrupted
}

// again reports whether the response code is a warning that asks for the same command again (part
// 2, section 6.6.3).
func again(code uint32) bool {
	const yielded, testing, retry = 0x908, 0x90a, 0x922
	return code == yielded || code == testing || code == retry
}
