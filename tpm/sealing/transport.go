package sealing

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Transport sends one command to a TPM 2.0 and returns its response. It is go-tpm's transport.TPM.
type Transport interface {
	Send(command []byte) (response []byte, err error)
}

// Device is an open TPM. It is for one goroutine at a time.
type Device struct {
	conn io.ReadWriteCloser
	// stream says that a response may come in pieces, as over a socket; a device gives it in one read.
	stream bool
}

// Open opens a TPM by name:
//
//	/dev/tpmrm0              the kernel's TPM with its resource manager (Linux)
//	swtpm:HOST:PORT          swtpm socket --server type=tcp,port=PORT
//	swtpm:/run/swtpm.sock    swtpm socket --server type=unixio,path=/run/swtpm.sock
//
// A swtpm must have been started up (--flags startup-clear), as firmware does for a real TPM.
func Open(name string) (*Device, error) {
	if address, ok := strings.CutPrefix(name, "swtpm:"); ok {
		network := "tcp"
		if strings.ContainsAny(address, `/\`) {
			network = "unix"
		}
		conn, err := net.DialTimeout(network, address, dialTime)
		if err != nil {
			return nil, fmt.Errorf("sealing: open %s: %w", name, err)
		}
		return &Device{conn: conn, stream: true}, nil
	}
	conn, err := openDevice(name)
	if err != nil {
		return nil, fmt.Errorf("sealing: open %s: %w", name, err)
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
func (d *Device) Send(command []byte) ([]byte, error) {
	if _, err := d.conn.Write(command); err != nil {
		return nil, fmt.Errorf("sealing: TPM: write a command: %w", err)
	}
	response := make([]byte, maxResponse)
	if !d.stream {
		n, err := d.conn.Read(response)
		if err != nil {
			return nil, fmt.Errorf("sealing: TPM: read a response: %w", err)
		}
		return response[:n], nil
	}
	if _, err := io.ReadFull(d.conn, response[:headerSize]); err != nil {
		return nil, fmt.Errorf("sealing: TPM: read a response: %w", err)
	}
	size := binary.BigEndian.Uint32(response[2:])
	if size < headerSize || size > maxResponse {
		return nil, fmt.Errorf("sealing: TPM: response of %d bytes: %w", size, ErrResponse)
	}
	if _, err := io.ReadFull(d.conn, response[headerSize:size]); err != nil {
		return nil, fmt.Errorf("sealing: TPM: read a response: %w", err)
	}
	return response[:size], nil
}

// Close closes the connection. Objects that are loaded in a swtpm stay there.
func (d *Device) Close() error { return d.conn.Close() }

// checked is what all commands go through: it refuses responses that are not ones, and sends again what a TPM that is
// busy asks for again.
type checked struct{ Transport }

// maxTries bounds how often a command is sent, which takes about a second in all.
const maxTries = 8

func (c checked) Send(command []byte) ([]byte, error) {
	for wait := 4 * time.Millisecond; ; wait *= 2 {
		response, err := c.Transport.Send(command)
		if err != nil {
			return nil, inner{err}
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
