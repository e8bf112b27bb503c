//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
)

// Actions of syslog(2).
const (
	syslogReadAll      = 3
	syslogConsoleLevel = 8
)

// note writes one line of progress to the console.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "%s %s\n", report.Note, fmt.Sprintf(format, args...))
}

// fail says why the boot is given up, shows the end of the kernel's log and
// reboots. It does not return.
func fail(err error) {
	quiet()
	fmt.Fprintf(os.Stdout, "\n%s %s\n", report.Fail, strings.ReplaceAll(err.Error(), "\n", "; "))
	buf := make([]byte, 1<<20)
	for _, l := range kernelLog(buf) {
		fmt.Fprintf(os.Stdout, "kmsg: %s\n", l)
	}
	stop(unix.LINUX_REBOOT_CMD_RESTART)
}

// kernelLog is the end of what the kernel has said.
func kernelLog(buf []byte) []string {
	n, err := unix.Klogctl(syslogReadAll, buf)
	if err != nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
	return lines[max(0, len(lines)-30):]
}

// quiet keeps the kernel off the console. Only a panic still prints.
func quiet() {
	// Without it a report is merely more likely to be damaged, which the host notices.
	_, _, _ = unix.Syscall(unix.SYS_SYSLOG, syslogConsoleLevel, 0, 1)
}

// stop waits for the serial port to send everything, then ends the machine.
func stop(how int) {
	_ = os.Stdout.Sync()
	_ = unix.IoctlSetInt(int(os.Stdout.Fd()), unix.TCSBRK, 1) // tcdrain
	unix.Sync()
	err := unix.Reboot(how)
	fmt.Fprintf(os.Stdout, "%s reboot: %v\n", report.Fail, err)
	for {
		time.Sleep(time.Hour)
	}
}
