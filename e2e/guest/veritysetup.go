//go:build linux

package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/devmapper"
	"github.com/osmith-dev/osmith/verity/dm"
)

// veritysetup is where systemd's program and its libraries lie while they are used, since the ESP
// is not mounted then.
const veritysetup = "/run/veritysetup"

// tryVeritysetup has systemd-veritysetup set up the root once more with each signature, and without
// one, as its generator does for root-hash-signature=auto. There is no udev here, so that what it
// would have found on the disk is written where systemd looks for it.
func tryVeritysetup(table dm.Table, signatures map[string][]byte) (tries []report.SignatureTry, err error) {
	// libcryptsetup wants devices that nothing uses, and these two are the root.
	for name, device := range map[string]*string{"data": &table.DataDevice, "tree": &table.HashDevice} {
		if *device, err = linear(name, *device); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, devmapper.Remove(name)) }()
	}
	number, err := os.ReadFile("/sys/class/block/" + filepath.Base(table.DataDevice) + "/dev")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/run/udev/data", 0o755); err != nil {
		return nil, err
	}
	properties := "/run/udev/data/b" + strings.TrimSpace(string(number))
	run := func(arguments ...string) (string, error) {
		c := exec.Command(veritysetup+"/ld-linux-x86-64.so.2", append([]string{"--library-path", veritysetup, veritysetup + "/systemd-veritysetup"}, arguments...)...)
		c.Env = []string{"SYSTEMD_LOG_TARGET=console", "DM_DISABLE_UDEV=1", "PATH=/"}
		out, err := c.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	for name, signature := range signatures {
		text := "I:1\n"
		if name != "" {
			text += "E:ID_DISSECT_PART_ROOTHASH_SIG=" + base64.StdEncoding.EncodeToString(signature) + "\n"
		}
		if err := os.WriteFile(properties, []byte(text), 0o600); err != nil {
			return nil, err
		}
		t := report.SignatureTry{When: report.Systemd, Name: name}
		const device = "systemd"
		out, err := run("attach", device, table.DataDevice, table.HashDevice, fmt.Sprintf("%x", table.RootHash), "root-hash-signature=auto")
		if err != nil {
			t.Error = fmt.Sprintf("%v: %s", err, out)
			tries = append(tries, t)
			continue
		}
		info, err := devmapper.Table(device)
		if err != nil {
			return nil, err
		}
		t.Unsigned = !strings.Contains(info.Targets[0].Params, "root_hash_sig_key_desc")
		tries = append(tries, t)
		if out, err := run("detach", device); err != nil {
			return nil, fmt.Errorf("detach: %w: %s", err, out)
		}
	}
	return tries, os.Remove(properties)
}

// linear makes a device that is another one.
func linear(name, device string) (node string, err error) {
	sectors, err := os.ReadFile("/sys/class/block/" + filepath.Base(device) + "/size")
	if err != nil {
		return "", err
	}
	count, err := strconv.ParseUint(strings.TrimSpace(string(sectors)), 10, 64)
	if err != nil {
		return "", err
	}
	return devmapper.Create(name, "", devmapper.Target{Sectors: count, Type: "linear", Params: device + " 0"})
}
