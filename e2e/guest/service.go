//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
)

// The places of the guest as a service of another system. The root of the machine is the one place
// that stays from boot to boot.
const (
	payload = "/run/payload" // where the second disk is mounted, which has what to do
	history = "/var/lib/takeover/boots"
	serial  = "/dev/ttyS0"
)

// patience is what one program gets: what waits for a person, or for a service that is not there,
// must not cost the whole boot.
const patience = 5 * time.Minute

// runService is the guest as one service of a real system: it runs the programs that the second
// disk has for the version that runs, and tells the host. The service manager ends the machine.
func runService() error {
	r := new(report.Report)
	var err error
	if r.Cmdline, _, err = readCmdline(); err != nil {
		return err
	}
	if r.Version, err = imageVersion("/usr/lib/os-release"); err != nil {
		return err
	}
	if r.PCRs, err = readPCRs(); err != nil {
		return err
	}
	if r.Variables, err = readVariables(); err != nil {
		return err
	}
	if err := noteBoot(r); err != nil {
		return err
	}
	if err := os.MkdirAll(payload, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vdb", payload, "vfat", unix.MS_RDONLY, "codepage=437,iocharset=ascii,shortname=mixed"); err != nil {
		return fmt.Errorf("mount the second disk: %w", err)
	}
	if err := serviceSteps(r); err != nil {
		return err
	}
	lines, err := report.Encode(r)
	if err != nil {
		return err
	}
	quiet()
	for _, l := range append([]string{"\n"}, lines...) {
		if _, err := os.Stdout.WriteString(l); err != nil {
			return err
		}
	}
	return nil
}

// noteBoot writes a line for this boot into a file of the root, and reports all lines: they tell
// whether it is the root of the boots before.
func noteBoot(r *report.Report) error {
	if err := os.MkdirAll(filepath.Dir(history), 0o755); err != nil {
		return err
	}
	b, err := os.ReadFile(history)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b = fmt.Appendf(b, "%s\n", r.Version)
	if err := os.WriteFile(history, b, 0o644); err != nil {
		return err
	}
	r.Runs = append(r.Runs, report.Run{Name: "history", Output: strings.TrimSpace(string(b))})
	return nil
}

// serviceSteps runs what steps.json has for the version that runs, in the directory of the second
// disk and with the programs of the system.
func serviceSteps(r *report.Report) error {
	b, err := os.ReadFile(filepath.Join(payload, "steps.json"))
	if err != nil {
		return err
	}
	var steps map[string][]step
	if err := json.Unmarshal(b, &steps); err != nil {
		return err
	}
	for _, s := range steps[r.Version] {
		fmt.Fprintf(os.Stdout, "%s run: %s\n", report.Note, s.Name)
		c := exec.Command(s.Args[0], s.Args[1:]...)
		c.Dir = payload
		timer := time.AfterFunc(patience, func() { _ = c.Process.Kill() }) // it may have ended
		out, err := c.CombinedOutput()
		timer.Stop()
		run := report.Run{Name: s.Name, Output: strings.TrimSpace(string(out))}
		if err != nil {
			run.Error = err.Error()
		}
		r.Runs = append(r.Runs, run)
	}
	return nil
}
