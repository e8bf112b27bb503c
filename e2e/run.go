//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/osmith-dev/osmith/e2e/report"
)

// linger is what a guest gets for powering off or resetting after its last word.
const linger = 20 * time.Second

// The ends of the control channel between QEMU and swtpm, as file descriptors
// of either child: the first of exec.Cmd's ExtraFiles.
const controlFD = 3

// program is the QEMU of the machine's architecture.
func (m *Machine) program() string {
	if m.aa64() {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}

// arguments is QEMU's command line. The machine is q35 with SMM, for a Secure
// Boot that is one, under TCG, since not every host that has /dev/kvm can run
// firmware in it.
//
// The processor goes without cmpxchg16b: QEMU 7.2 computes its flags from stale
// state (helper_cmpxchg16b_unlocked reads cc_op, which the translator has not
// written back), and an interrupt right after it saves and restores garbage,
// the direction flag included. Five of 74 kernels crashed of it; without the
// instruction none of 60. Nor does it have five-level paging.
func (m *Machine) arguments() []string {
	memory := m.Memory
	if memory == 0 {
		memory = 512
	}
	args := []string{"-machine", "q35,smm=on", "-cpu", "max,la57=off,-cx16", "-vga", "none"}
	tpm := "tpm-tis"
	if m.aa64() {
		// Neither SMM nor a way to write-protect the variables: firmware keeps them itself.
		args, tpm = []string{"-machine", "virt", "-cpu", "cortex-a57"}, "tpm-tis-device"
	}
	args = append(args, "-accel", "tcg,thread=multi", "-smp", "1",
		"-m", fmt.Sprint(memory), "-no-reboot", "-nodefaults", "-display", "none", "-net", "none",
		"-serial", "stdio", "-monitor", "none",
		"-chardev", fmt.Sprintf("socket,id=tpmctl,fd=%d", controlFD),
		"-tpmdev", "emulator,id=tpm0,chardev=tpmctl", "-device", tpm+",tpmdev=tpm0",
		"-device", "virtio-rng-pci")
	if !m.NoFirmware {
		if !m.aa64() {
			args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
		}
		args = append(args,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+escape(or(m.Code, hostCode)),
			"-drive", "if=pflash,unit=1,format=raw,file="+escape(m.varsFile()))
	}
	if m.Disk != "" {
		device := "virtio-blk-pci,drive=disk"
		if !m.BootVariables { // with an index, OVMF drops the other entries of BootOrder
			device += ",bootindex=0"
		}
		if m.WriteLog == "" {
			args = append(args, "-drive", "if=none,id=disk,format=raw,file="+escape(m.Disk), "-device", device)
		} else {
			args = append(args, "-blockdev", "driver=file,node-name=image,filename="+escape(m.Disk), "-blockdev", "driver=file,node-name=writes,filename="+escape(m.WriteLog),
				"-blockdev", "driver=blklogwrites,node-name=disk,file=image,log=writes,log-super-update-interval=1",
				// merged to as many pieces as writev(2) takes, a request and what the log adds are
				// too many
				"-device", device+",request-merging=off")
		}
	}
	if m.SecondDisk != "" {
		args = append(args, "-drive", "if=none,id=second,format=raw,file="+escape(m.SecondDisk), "-device", "virtio-blk-pci,drive=second")
	}
	if m.Kernel != "" {
		args = append(args, "-kernel", m.Kernel, "-initrd", m.Initrd, "-append", m.Cmdline)
	}
	return args
}

// escape doubles commas, which separate QEMU's options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// run boots the machine once and fills in b.
func (m *Machine) run(ctx context.Context, b *Boot) error {
	deadline := m.Deadline
	if deadline == 0 {
		deadline = DefaultDeadline
	}
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, errDeadline)
	defer cancel()

	serial, err := os.Create(b.Log)
	if err != nil {
		return err
	}
	defer serial.Close()
	messages, err := os.Create(filepath.Join(m.logs(), b.Name+".qemu.log"))
	if err != nil {
		return err
	}
	defer messages.Close()

	// A pair of connected sockets: nothing to wait for, and no path to be too
	// long for a socket's address.
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	tpmEnd, qemuEnd := os.NewFile(uintptr(pair[0]), "tpm"), os.NewFile(uintptr(pair[1]), "qemu")

	// marked is closed by the first text after which only power off, reset or we
	// ourselves can follow.
	marked := make(chan struct{})
	var stopped string
	var once bool
	keysEnd, keyboard, err := os.Pipe()
	if err != nil {
		return err
	}
	defer keyboard.Close()
	entered := 0
	rec := &recorder{log: serial}
	rec.look = func(text []byte) {
		if m.EnterAt != "" {
			for n := bytes.Count(text, []byte(m.EnterAt)); entered < n; entered++ {
				_, _ = keyboard.Write([]byte("\r")) // a machine that has ended has no use for it
			}
		}
		if once {
			return
		}
		for _, s := range m.StopAt {
			if bytes.Contains(text, []byte(s)) {
				stopped = s
			}
		}
		if stopped != "" || bytes.Contains(text, []byte("\n"+report.End+" ")) || bytes.Contains(text, []byte("\n"+report.Fail+" ")) {
			once = true
			close(marked)
		}
	}

	tpm := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.tpmDir(),
		"--ctrl", fmt.Sprintf("type=unixio,clientfd=%d", controlFD), "--terminate")
	tpm.ExtraFiles = []*os.File{tpmEnd}
	tpm.Stdout, tpm.Stderr = messages, messages
	if m.WriteLog != "" {
		if err := os.WriteFile(m.WriteLog, nil, 0o600); err != nil {
			return err
		}
	}
	qemu := exec.Command(m.program(), m.arguments()...)
	qemu.ExtraFiles = []*os.File{qemuEnd}
	qemu.Stdin, qemu.Stdout, qemu.Stderr = keysEnd, rec, messages

	tpmDone := start(tpm)
	qemuDone := start(qemu)
	tpmEnd.Close()
	qemuEnd.Close()
	keysEnd.Close()

	var qemuErr error
	ended, cut := false, false
	select {
	case qemuErr = <-qemuDone:
		ended = true
	case <-marked:
	case <-m.logHas(ctx, m.CutAfter):
		cut = ctx.Err() == nil
	case <-ctx.Done():
	}
	if !ended && !cut && stopped == "" && ctx.Err() == nil {
		timer := time.NewTimer(max(linger, m.Linger))
		select {
		case qemuErr = <-qemuDone:
			ended = true
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	if !ended {
		kill(qemu)
		<-qemuDone // its error is our signal
	}
	b.Serial = rec.String()
	if ps := qemu.ProcessState; ps != nil {
		b.CPU = ps.UserTime() + ps.SystemTime()
	}
	if ended && qemuErr != nil {
		// Without a first word from QEMU swtpm would not notice.
		kill(tpm)
		return fmt.Errorf("qemu: %w\n%s", errors.Join(qemuErr, killedIsFine(<-tpmDone)), readAll(messages))
	}
	// swtpm ends with its connection; it writes its state as it goes.
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case err := <-tpmDone:
		if err != nil {
			return fmt.Errorf("swtpm: %w\n%s", err, readAll(messages))
		}
	case <-timer.C:
		kill(tpm)
		<-tpmDone
		return fmt.Errorf("swtpm: it did not end with its connection\n%s", readAll(messages))
	}
	if cut {
		b.Ended = Cut
		return nil
	}
	return b.conclude(ctx, stopped)
}

// logHas is closed when the log of writes has that many bytes, or the context ends.
func (m *Machine) logHas(ctx context.Context, n int64) <-chan struct{} {
	if n == 0 {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if info, err := os.Stat(m.WriteLog); err == nil && info.Size() >= n {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return done
}

var errDeadline = errors.New("deadline")

// conclude turns the serial output into the result.
func (b *Boot) conclude(ctx context.Context, stopped string) error {
	if reason, ok := report.Failure(b.Serial); ok {
		b.Ended, b.Reason = Failed, reason
		return nil
	}
	r, err := report.Decode(b.Serial)
	switch {
	case err == nil:
		b.Ended, b.Report = Reported, r
	case !errors.Is(err, report.ErrNone):
		return fmt.Errorf("%w (%s)", err, b.Log)
	case stopped != "":
		b.Ended, b.Reason = Stopped, stopped
	case errors.Is(context.Cause(ctx), errDeadline):
		b.Ended = Deadline
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		b.Ended = Reset
		if _, panicked, ok := strings.Cut(b.Serial, "Kernel panic"); ok {
			line, _, _ := strings.Cut(panicked, "\n")
			b.Reason = "Kernel panic" + strings.TrimRight(line, "\r")
		}
	}
	return nil
}

// killedIsFine keeps the error of a process that ended for another reason than
// our signal.
func killedIsFine(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
			return nil
		}
	}
	return err
}

// start runs a command that dies with this process, and returns where its end
// is told. The kernel ties that to the thread that started it, which therefore
// must stay.
func start(cmd *exec.Cmd) <-chan error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		close(started)
		if err == nil {
			err = cmd.Wait()
		}
		done <- err
	}()
	<-started
	return done
}

func kill(cmd *exec.Cmd) {
	if cmd.Process != nil {
		// The one error is that it has ended already.
		_ = cmd.Process.Kill()
	}
}

func readAll(f *os.File) string {
	b, err := os.ReadFile(f.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}
