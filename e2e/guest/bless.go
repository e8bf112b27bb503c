//go:build linux

package main

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
)

// counterRE is the boot counter of the Boot Loader Specification: tries left
// and, after the first try, tries done, before the suffix.
var counterRE = regexp.MustCompile(`^(.*)\+\d+(?:-\d+)?(\.[^.+]*)$`)

// bless marks this boot as good the way systemd-bless-boot does: the entry
// the loader booted loses its counter.
func bless(r *report.Report, args map[string]string) report.Bless {
	if args["osmith.bless"] == "0" {
		return report.Bless{Result: report.Suppressed}
	}
	counted := r.Variable("LoaderBootCountPath")
	if counted == "" {
		return report.Bless{Result: report.Uncounted}
	}
	b := report.Bless{Result: report.Failed, From: strings.TrimPrefix(strings.ReplaceAll(counted, `\`, "/"), "/")}
	dir, base := path.Split(b.From)
	m := counterRE.FindStringSubmatch(base)
	if m == nil {
		b.Error = fmt.Sprintf("LoaderBootCountPath %q has no counter", counted)
		return b
	}
	b.To = dir + m[1] + m[2]
	if err := renameOnESP(r, b.From, b.To); err != nil {
		b.Error = err.Error()
		return b
	}
	b.Result = report.Blessed
	return b
}

// renameOnESP renames a file on the ESP and returns when that is on the disk.
func renameOnESP(r *report.Report, from, to string) error {
	return withESP(r, func(esp string) error { return renameDurably(path.Join(esp, from), path.Join(esp, to)) })
}

// withESP calls do with the ESP that the loader came from mounted.
func withESP(r *report.Report, do func(esp string) error) error {
	node, err := findPartition(r.Variable("LoaderDevicePartUUID"))
	if err != nil {
		return fmt.Errorf("ESP: %w", err)
	}
	// The root is read-only; /run is the one place for a mount point.
	esp := "/run/esp"
	if err := os.MkdirAll(esp, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("/dev/"+node, esp, "vfat", 0, "codepage=437,iocharset=ascii,shortname=mixed"); err != nil {
		return fmt.Errorf("mount the ESP: %w", err)
	}
	err = do(esp)
	if uerr := unix.Unmount(esp, 0); err == nil && uerr != nil {
		err = fmt.Errorf("unmount the ESP: %w", uerr)
	}
	return err
}

func renameDurably(from, to string) error {
	// rename(2) would replace an existing file.
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	d, err := os.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return err
	}
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	return nil
}
