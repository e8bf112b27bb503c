//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
)

// runRoot is the whole life of the booted system.
func runRoot() error {
	_, args, err := readCmdline()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(handover)
	if err != nil {
		return err
	}
	var h handed
	if err := json.Unmarshal(b, &h); err != nil {
		return fmt.Errorf("%s: %w", handover, err)
	}
	r := &report.Report{InitrdPCRs: h.PCRs, BootSecret: h.BootSecret}
	if r.Root, err = readRoot(); err != nil {
		return err
	}
	if r.Version, err = imageVersion("/etc/os-release"); err != nil {
		return err
	}
	// Asked last, so that the status covers everything that was read.
	if r.Verity, err = describeVerity(h); err != nil {
		return err
	}
	return reportAndStop(r, args)
}

// readRoot reads every file of the root file system and then its device from
// end to end, so that no damage goes unnoticed.
func readRoot() (*report.Root, error) {
	var top unix.Stat_t
	if err := unix.Stat("/", &top); err != nil {
		return nil, err
	}
	r := new(report.Root)
	err := filepath.WalkDir("/", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); d.IsDir() && ok && uint64(st.Dev) != uint64(top.Dev) {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		n, err := drain(name)
		r.Files++
		r.Bytes += n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	node := fmt.Sprintf("/dev/dm-%d", unix.Minor(uint64(top.Dev)))
	if r.Device, err = drain(node); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	note("root: read %d files, %d bytes", r.Files, r.Bytes)
	return r, nil
}

func drain(name string) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// A reader without WriteTo, so that the buffer is ours and large.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 256<<10))
	if err != nil {
		return n, fmt.Errorf("after %d bytes: %w", n, err)
	}
	return n, nil
}

func describeVerity(h handed) (*report.Verity, error) {
	table, ro, err := tableOf(rootName, false)
	if err != nil {
		return nil, err
	}
	status, _, err := tableOf(rootName, true)
	if err != nil {
		return nil, err
	}
	v := &report.Verity{Target: table.kind, Table: table.params, ReadOnly: ro, DataID: h.DataID, HashID: h.HashID}
	// Newer kernels add how many blocks error correction repaired.
	v.Status, _, _ = strings.Cut(strings.TrimSpace(status.params), " ")
	if f := strings.Fields(table.params); len(f) > 8 {
		v.RootHash = f[8]
	}
	return v, nil
}

// reportAndStop completes the report with what is the same in both modes,
// blesses, writes it and powers off.
func reportAndStop(r *report.Report, args map[string]string) error {
	var err error
	if r.Cmdline, _, err = readCmdline(); err != nil {
		return err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	if r.Version == "" {
		r.Version = args["osmith.version"]
	}
	r.Kernel = unix.ByteSliceToString(uts.Release[:])
	if r.PCRs, err = readPCRs(); err != nil {
		return err
	}
	r.EventLog, err = os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.SMBIOS, err = os.ReadFile("/sys/firmware/dmi/tables/DMI")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r.Variables, err = readVariables(); err != nil {
		return err
	}
	r.Bless = bless(r, args)
	if file := args["osmith.append"]; file != "" {
		if err := appendVariable(r, file); err != nil {
			return err
		}
		if r.Variables, err = readVariables(); err != nil {
			return err
		}
	}

	if dir := args["osmith.writes"]; dir != "" {
		if err := writeVariables(r, dir); err != nil {
			return err
		}
	}

	if dir := args["osmith.signatures"]; dir != "" {
		if err := trySignatures(r, dir); err != nil {
			return err
		}
	}

	if dir := args["osmith.run"]; dir != "" {
		if err := runSteps(r, dir); err != nil {
			return err
		}
	}

	lines, err := report.Encode(r)
	if err != nil {
		return err
	}
	quiet()
	for _, l := range lines {
		if _, err := os.Stdout.WriteString(l); err != nil {
			return err
		}
	}
	stop(unix.LINUX_REBOOT_CMD_POWER_OFF)
	return nil
}
