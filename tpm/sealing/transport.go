package sealing

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Transport sends one command to a TPM 2.0 and returns its response. It is go-tpm's transport.TPM.
type Transport interface {
	Send(command []byte) (response []byte, err error)
}

// Device is an open TPM. It is for one goroutine at a time.
type Device struct {
	conn io.ReadWriteCloser // nil between the commands to a socket
	// dial connects to a socket, for one command, as the TSS does: a swtpm that was told to disconnect hangs up after each. Over a
	// socket a response may come in pieces; a device gives it in one read.
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
		d := &Device{dial: func() (net.Conn, error) { return net.DialTimeout(network, address, dialTime) }}
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

const (
	dialTime   = 10 * time.Second
	headerSize = 10 // tag, size, response code (TPM 2.0 Library, part 1, section 18)
	// maxResponse bounds a response in bytes. PC client TPMs answer with 4096 at most (TPM_PT_MAX_RESPONSE_SIZE).
	maxResponse = 1 << 16
)

// Send sends a command and reads the response.
func (d *Device) Send(command []byte) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if d.dial != nil {
		return d.sendSocket(command)
	}
	if _, err := d.conn.Write(command); err != nil {
		return nil, fmt.Errorf("TPM: write a command: %w", err)
	}
	response := make([]byte, maxResponse)
	n, err := d.conn.Read(response)
	if err != nil {
		return nil, fmt.Errorf("TPM: read a response: %w", err)
	}
	return response[:n], nil
}

func (d *Device) sendSocket(command []byte) ([]byte, error) {
	conn := d.conn
	d.conn = nil
	if conn == nil {
		var err error
		if conn, err = d.dial(); err != nil {
			return nil, fmt.Errorf("TPM: connect: %w", err)
		}
	}
	defer conn.Close()
	if _, err := conn.Write(command); err != nil {
		return nil, fmt.Errorf("TPM: write a command: %w", err)
	}
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

// Close closes the connection. Objects that are loaded in a swtpm stay there.
func (d *Device) Close() error {
	if d.conn == nil {
		return nil
	}
	return d.conn.Close()
}

// checked is what all commands go through: it refuses responses that are not ones, and sends again what a TPM that is
// busy asks for again.
type checked struct{ Transport }

// maxTries bounds how often a command is sent, which takes about a second in all.
const maxTries = 8

func (c checked) Send(command []byte) ([]byte, error) {
	for wait := 4 * time.Millisecond; ; wait *= 2 {
		response, err := c.Transport.Send(command)
		if err != nil {
			return nil, prefix.Bare(err)
		}
		if len(response) < headerSize || uint64(binary.BigEndian.Uint32(response[2:])) != uint64(len(response)) {
			return nil, fmt.Errorf("TPM: %d bytes that are no response: %w", len(response), ErrResponse)
		}
		if !again(binary.BigEndian.Uint32(response[6:])) || wait >= 4*time.Millisecond<<maxTries {
			return response, nil
		}
		time.Sleep(wait)
	}
}

// again reports whether the response code is a warning that asks for the same command again (part 2, section 6.6.3).
func again(code uint32) bool {
	const yielded, testing, retry = 0x908, 0x90a, 0x922
	return code == yielded || code == testing || code == retry
}
