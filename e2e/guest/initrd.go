//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
)

// handover is where the initrd leaves what the root needs. It lies on the /run
// that moves along.
const handover = "/run/osmith-initrd.json"

// handed is the content of that file.
type handed struct {
	PCRs       report.PCRs
	BootSecret []byte
	DataID     string
	HashID     string
}

type mount struct {
	fs, dir, data string
	flags         uintptr
	optional      bool // the machine may lack what it shows
}

// runInitrd goes from the kernel's first breath to exec of the root's init.
func runInitrd() error {
	for _, m := range []mount{
		{fs: "devtmpfs", dir: "/dev"},
		{fs: "proc", dir: "/proc"},
		{fs: "sysfs", dir: "/sys"},
		{fs: "tmpfs", dir: "/run", data: "mode=0755"},
		{fs: "securityfs", dir: "/sys/kernel/security"},
	} {
		if err := m.mount(); err != nil {
			return err
		}
	}
	if err := openConsole(); err != nil {
		return err
	}
	cmdline, args, err := readCmdline()
	if err != nil {
		return err
	}
	if err := loadModules("/modules.list", cmdline); err != nil {
		return err
	}
	if err := (mount{fs: "efivarfs", dir: "/sys/firmware/efi/efivars", optional: true}).mount(); err != nil {
		return err
	}
	pcrs, err := readPCRs()
	if err != nil {
		return err
	}
	note("initrd: %d PCR banks", len(pcrs))
	if err := extendPCR(11, "enter-initrd", pcrs); err != nil {
		return err
	}
	secret, err := os.ReadFile("/.extra/boot-secret")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	// As systemd does it: the stub has no other place for files than the initrd.
	for _, name := range []string{"tpm2-pcr-signature.json", "tpm2-pcr-public-key.pem"} {
		b, err := os.ReadFile("/.extra/" + name)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.MkdirAll("/run/systemd", 0o755)
		}
		if err == nil {
			err = os.WriteFile("/run/systemd/"+name, b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if args["osmith.report"] == "initrd" {
		return reportAndStop(&report.Report{InitrdPCRs: pcrs, BootSecret: secret}, args)
	}

	h := handed{PCRs: pcrs, BootSecret: secret}
	if h.DataID, h.HashID, err = openRoot(cmdline); err != nil {
		return err
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := os.WriteFile(handover, b, 0o600); err != nil {
		return err
	}
	return switchRoot("/sysroot", "/sbin/init")
}

func (m mount) mount() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil && !m.optional {
		return err
	}
	err := unix.Mount(m.fs, m.dir, m.fs, m.flags, m.data)
	if err != nil && !m.optional {
		return fmt.Errorf("mount %s on %s: %w", m.fs, m.dir, err)
	}
	return nil
}

// openConsole makes /dev/console the standard streams. The kernel opens it for
// init only when the node exists before devtmpfs is mounted.
func openConsole() error {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open /dev/console: %w", err)
	}
	for i := range 3 {
		if err := unix.Dup2(fd, i); err != nil {
			return fmt.Errorf("dup of /dev/console: %w", err)
		}
	}
	return nil
}

// loadModules loads the files named in a list, in its order. As modprobe does, it hands each the
// parameters that the kernel command line has for it: the kernel keeps those for what is built in.
func loadModules(list, cmdline string) error {
	b, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(b)) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), parametersOf(name, cmdline), 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	return nil
}

// parametersOf are those of a module on a kernel command line, without its name.
func parametersOf(file, cmdline string) string {
	module := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_") + "."
	var found []string
	for _, word := range strings.Fields(cmdline) {
		if parameter, ok := strings.CutPrefix(word, module); ok {
			found = append(found, parameter)
		}
	}
	return strings.Join(found, " ")
}

// switchRoot makes dir the root of everything and becomes its init.
func switchRoot(dir, init string) error {
	for _, m := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := unix.Mount(m, dir+m, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s into the root: %w", m, err)
		}
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	note("initrd: switching to %s", init)
	return fmt.Errorf("exec %s: %w", init, unix.Exec(init, []string{init}, []string{"PATH=/"}))
}
