//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/e2e/report"
)

// programs is where the files of osmith.run= lie while they are used: the ESP is not mounted then.
const programs = "/run/programs"

// A step is a program to run, of those files. An argument @NAME is the partition with that label.
type step struct {
	Name   string
	Args   []string
	Static bool // it needs no libraries
	ESP    bool // the ESP is mounted meanwhile
	Mapped string
}

// runSteps runs what steps.json in a directory on the ESP says, with the kernel modules, programs
// and libraries of that directory.
func runSteps(r *report.Report, dir string) error {
	if err := withESP(r, func(esp string) error { return os.CopyFS(programs, os.DirFS(filepath.Join(esp, dir))) }); err != nil {
		return err
	}
	modules, err := filepath.Glob(programs + "/*.ko")
	if err != nil {
		return err
	}
	slices.Sort(modules)
	list := programs + "/modules.list"
	if err := os.WriteFile(list, []byte(strings.Join(modules, "\n")), 0o600); err != nil {
		return err
	}
	if err := loadModules(list, ""); err != nil {
		return err
	}
	b, err := os.ReadFile(programs + "/steps.json")
	if err != nil {
		return err
	}
	var steps []step
	if err := json.Unmarshal(b, &steps); err != nil {
		return err
	}
	labels, err := partitionsByLabel(r.Variable("LoaderDevicePartUUID"))
	if err != nil {
		return err
	}
	for _, s := range steps {
		run := report.Run{Name: s.Name}
		for i, a := range s.Args {
			if label, ok := strings.CutPrefix(a, "@"); ok {
				if s.Args[i], ok = labels[label]; !ok {
					return fmt.Errorf("step %s: no partition %q", s.Name, label)
				}
			}
		}
		note("run: %s", s.Name)
		var out []byte
		do := func(string) (err error) {
			out, err = s.command().CombinedOutput()
			return err
		}
		if s.ESP {
			err = withESP(r, do)
		} else {
			err = do("")
		}
		run.Output = strings.TrimSpace(string(out))
		if err != nil {
			run.Error = err.Error()
			run.Output += "\n" + strings.Join(kernelLog(make([]byte, 64<<10)), "\n")
		}
		if s.Mapped != "" {
			if run.Mapped, err = digestMapped(s.Mapped); err != nil {
				return fmt.Errorf("step %s: %w", s.Name, err)
			}
		}
		r.Runs = append(r.Runs, run)
	}
	return nil
}

func (s step) command() *exec.Cmd {
	program := filepath.Join(programs, s.Args[0])
	c := exec.Command(program, s.Args[1:]...)
	if !s.Static {
		c = exec.Command(programs+"/ld-linux-x86-64.so.2", append([]string{"--library-path", programs, program}, s.Args[1:]...)...)
	}
	c.Dir = programs
	// There is no udev here, and no plugin of libcryptsetup.
	c.Env = []string{"SYSTEMD_LOG_TARGET=console", "DM_DISABLE_UDEV=1", "SYSTEMD_CRYPTSETUP_USE_TOKEN_MODULE=0", "PATH=/"}
	return c
}

// partitionsByLabel are the nodes of the partitions of the disk that has the ESP.
func partitionsByLabel(esp string) (nodes map[string]string, err error) {
	part, err := findPartition(esp)
	if err != nil {
		return nil, err
	}
	disk, table, err := diskOf(part)
	if err != nil {
		return nil, err
	}
	nodes = map[string]string{}
	for _, p := range table.Partitions {
		nodes[p.Name] = fmt.Sprintf("%s%d", disk.File().Name(), p.Number)
	}
	return nodes, disk.Close()
}

// digestMapped is the SHA-256 digest of a device-mapper device; "" if there is none of the name.
func digestMapped(name string) (digest string, err error) {
	names, err := filepath.Glob("/sys/class/block/dm-*/dm/name")
	if err != nil {
		return "", err
	}
	for _, file := range names {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		if strings.TrimSpace(string(b)) != name {
			continue
		}
		f, err := os.Open("/dev/" + filepath.Base(filepath.Dir(filepath.Dir(file))))
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			return "", err
		}
		return fmt.Sprintf("%x", sum.Sum(nil)), nil
	}
	return "", nil
}
