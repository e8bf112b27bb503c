//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/osmith-dev/osmith/e2e/report"
)

// Firmware of the host's package ovmf.
const (
	hostCode = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	hostVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// DefaultDeadline is how long one boot may take.
const DefaultDeadline = 120 * time.Second

// A Machine is one computer: its firmware variables, TPM and disk stay from
// boot to boot. One boot at a time.
type Machine struct {
	// Dir keeps the machine's state: VARS.fd and tpm/. They are made on the first
	// boot, the variables from Vars, the TPM new, which for swtpm means four active
	// banks: sha1, sha256, sha384 and sha512.
	Dir string
	// Disk is a raw disk image that the machine writes to. Empty: no disk.
	Disk string
	// SecondDisk is another one, which firmware does not boot from by itself. Empty: there is none.
	SecondDisk string
	// WriteLog is a file that gets every write and flush of the disk in a boot, as [ReadWriteLog]
	// reads them. Empty: none is kept.
	WriteLog string
	// CutAfter takes the power away once WriteLog has that many bytes; 0: never. The guest's writes
	// are all on the disk then, up to that moment.
	CutAfter int64

	// Architecture is its EFI name; empty means x64. An aa64 machine needs Code
	// and Vars.
	Architecture string

	// Code and Vars are the firmware; empty means the host's OVMF with Secure
	// Boot and SMM and its blank variable store.
	Code, Vars string
	// Memory in MiB; 0 means 512.
	Memory int

	// BootVariables boots what BootOrder says, in that order, and only then the disk by itself.
	BootVariables bool

	// Kernel boots a kernel directly from the host's files instead of the disk.
	Kernel, Initrd, Cmdline string
	// NoFirmware leaves UEFI out (SeaBIOS takes over); with Kernel only.
	NoFirmware bool

	// Deadline of a boot; 0 means [DefaultDeadline].
	Deadline time.Duration
	// Linger is what the guest gets for powering off after its last word; 0 means 20 seconds. A
	// whole system takes longer.
	Linger time.Duration
	// StopAt ends a boot when one of the texts appears on the serial console. It
	// is for what would otherwise stay until the deadline.
	StopAt []string
	// EnterAt presses the enter key each time this text appears there.
	EnterAt string

	// Logs receives NAME.serial.log and NAME.qemu.log of every boot. Empty means Dir.
	Logs string
}

// Ended says how a boot came to its end.
type Ended string

const (
	Reported Ended = "reported" // the guest reported and powered off
	Failed   Ended = "failed"   // the guest gave up, said why and rebooted
	// reset or power off by anything else: firmware, loader, kernel panic
	Reset    Ended = "reset"
	Stopped  Ended = "stopped" // a text of StopAt appeared
	Deadline Ended = "deadline"
	Cut      Ended = "cut" // the power was taken away, as CutAfter says
)

// A Boot is what one boot left.
type Boot struct {
	Name  string
	Ended Ended
	// of Failed: the guest's words; of Stopped: the text; of Reset: the kernel's panic
	Reason   string
	Report   *report.Report // of Reported, nil otherwise
	Serial   string         // everything the serial console showed, firmware and loader included
	Duration time.Duration
	CPU      time.Duration // QEMU's, which unlike Duration does not depend on what else runs
	Log      string        // file with Serial
}

// String is one line for a test's log.
func (b *Boot) String() string {
	s := fmt.Sprintf("boot %s: %s after %.1f s (%.1f s of CPU)", b.Name, b.Ended, b.Duration.Seconds(), b.CPU.Seconds())
	if b.Reason != "" {
		s += ": " + b.Reason
	}
	return s + " (" + b.Log + ")"
}

// Tail returns the last lines of the serial output, without terminal control.
func (b *Boot) Tail(lines int) string {
	text := controlRE.ReplaceAllString(strings.ReplaceAll(b.Serial, "\r", ""), "")
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// controlRE matches what a terminal would obey rather than show.
var controlRE = regexp.MustCompile("\x1b\\[[0-9;=?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")

// vms allows two machines to run at once.
var vms = make(chan struct{}, 2)

// Boot starts the machine, waits until it ends and takes its power away. The
// name is that of the log files. An error means that the boot could not be
// observed (a tool is missing, the report is damaged); a boot that went wrong
// is a result.
func (m *Machine) Boot(ctx context.Context, name string) (*Boot, error) {
	select {
	case vms <- struct{}{}:
		defer func() { <-vms }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := m.prepare(); err != nil {
		return nil, fmt.Errorf("e2e: boot %s: %w", name, err)
	}
	b := &Boot{Name: name, Log: filepath.Join(m.logs(), name+".serial.log")}
	start := time.Now()
	err := m.run(ctx, b)
	b.Duration = time.Since(start)
	if err != nil {
		return nil, fmt.Errorf("e2e: boot %s: %w", name, err)
	}
	return b, nil
}

func (m *Machine) logs() string {
	if m.Logs != "" {
		return m.Logs
	}
	return m.Dir
}

func (m *Machine) varsFile() string { return filepath.Join(m.Dir, "VARS.fd") }
func (m *Machine) tpmDir() string   { return filepath.Join(m.Dir, "tpm") }

// prepare makes the state a first boot starts from.
func (m *Machine) prepare() error {
	if err := os.MkdirAll(m.logs(), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(m.tpmDir(), 0o700); err != nil {
		return err
	}
	if m.NoFirmware {
		return nil
	}
	if _, err := os.Stat(m.varsFile()); err == nil {
		return nil
	}
	return copyFile(m.varsFile(), or(m.Vars, hostVars))
}

// aa64 says that the machine is a 64-bit ARM one.
func (m *Machine) aa64() bool { return m.Architecture == "aa64" }

// Clone copies the state of a machine, disk included, into a new directory, so
// that a boot can be tried from the same point twice.
func (m *Machine) Clone(dir string) (*Machine, error) {
	c := *m
	c.Dir = dir
	if err := os.MkdirAll(c.tpmDir(), 0o700); err != nil {
		return nil, fmt.Errorf("e2e: clone: %w", err)
	}
	files, err := os.ReadDir(m.tpmDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("e2e: clone: %w", err)
	}
	copies := map[string]string{}
	for _, f := range files {
		copies[filepath.Join(c.tpmDir(), f.Name())] = filepath.Join(m.tpmDir(), f.Name())
	}
	if _, err := os.Stat(m.varsFile()); err == nil {
		copies[c.varsFile()] = m.varsFile()
	}
	if m.Disk != "" {
		c.Disk = filepath.Join(dir, filepath.Base(m.Disk))
		copies[c.Disk] = m.Disk
	}
	for to, from := range copies {
		if err := copyFile(to, from); err != nil {
			return nil, fmt.Errorf("e2e: clone: %w", err)
		}
	}
	return &c, nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func or(s, fallback string) string {
	if s != "" {
		return s
	}
	return fallback
}

// recorder keeps what the serial console shows, writes it to the log and calls
// look after every piece.
type recorder struct {
	mu   sync.Mutex
	text []byte
	log  io.Writer
	look func(text []byte)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, p...)
	if _, err := r.log.Write(p); err != nil {
		return 0, err
	}
	r.look(r.text)
	return len(p), nil
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}
