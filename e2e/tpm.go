//go:build linux

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// Codes of the TPM 2.0 Library, part 2.
const (
	tagSessions   = 0x8002
	tagNoSessions = 0x8001
	ccPCRAllocate = 0x0000012b
	ccShutdown    = 0x00000145
	rhPlatform    = 0x4000000c
	rsPassword    = 0x40000009
)

// bankIDs are the banks that swtpm implements.
var bankIDs = []struct {
	name string
	id   uint16
}{{"sha1", 0x0004}, {"sha256", 0x000b}, {"sha384", 0x000c}, {"sha512", 0x000d}}

// allocateBanks leaves only the named banks active in a TPM's state. A new
// swtpm has all four, and firmware that hashes a kernel four times under
// emulation takes its time.
func allocateBanks(state string, banks []string) error {
	active := make(map[string]bool)
	for _, b := range banks {
		active[b] = true
	}
	be := binary.BigEndian
	allocate := be.AppendUint32(nil, rhPlatform)
	allocate = be.AppendUint32(allocate, 9) // authorization: an empty password
	allocate = be.AppendUint32(allocate, rsPassword)
	allocate = append(allocate, 0, 0, 0, 0, 0)
	allocate = be.AppendUint32(allocate, uint32(len(bankIDs)))
	for _, b := range bankIDs {
		allocate = be.AppendUint16(allocate, b.id)
		if active[b.name] {
			allocate = append(allocate, 3, 0xff, 0xff, 0xff)
			delete(active, b.name)
		} else {
			allocate = append(allocate, 3, 0, 0, 0)
		}
	}
	for name := range active {
		return fmt.Errorf("swtpm has no bank %q", name)
	}

	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "tpm client"), os.NewFile(uintptr(pair[1]), "tpm")
	defer ours.Close()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state,
		"--fd", fmt.Sprint(controlFD), "--flags", "not-need-init,startup-clear", "--terminate")
	cmd.ExtraFiles = []*os.File{theirs}
	var messages tail
	cmd.Stdout, cmd.Stderr = &messages, &messages
	done := start(cmd)
	theirs.Close()

	err = transmit(ours, tagSessions, ccPCRAllocate, allocate)
	if err == nil {
		err = transmit(ours, tagNoSessions, ccShutdown, []byte{0, 0}) // TPM_SU_CLEAR
	}
	ours.Close()
	if err := errors.Join(err, <-done); err != nil {
		return fmt.Errorf("swtpm: allocate banks %v: %w\n%s", banks, err, messages)
	}
	return nil
}

// transmit sends one command and expects success.
func transmit(rw io.ReadWriter, tag uint16, code uint32, body []byte) error {
	be := binary.BigEndian
	cmd := be.AppendUint16(nil, tag)
	cmd = be.AppendUint32(cmd, uint32(10+len(body)))
	cmd = be.AppendUint32(cmd, code)
	if _, err := rw.Write(append(cmd, body...)); err != nil {
		return err
	}
	var head [10]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return err
	}
	size, rc := be.Uint32(head[2:]), be.Uint32(head[6:])
	if size < 10 || size > 4096 {
		return fmt.Errorf("command 0x%x: answer of %d bytes", code, size)
	}
	if _, err := io.CopyN(io.Discard, rw, int64(size)-10); err != nil {
		return err
	}
	if rc != 0 {
		return fmt.Errorf("command 0x%x: response code 0x%x", code, rc)
	}
	return nil
}

// tail keeps what a short-lived program says.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	return len(p), nil
}

func (t tail) String() string { return string(t) }
