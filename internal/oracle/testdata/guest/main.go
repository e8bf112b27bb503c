//go:build linux

// This program is the init of a machine that says which partitions its kernel found on every disk, and which files its
// vfat driver finds on every disk whose serial number begins with "f". It prints one JSON object a line and powers off.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type partition struct {
	Number int    `json:"number"`
	Start  uint64 `json:"start"` // in sectors of 512 bytes
	Size   uint64 `json:"size"`
	ID     string `json:"id,omitempty"`
	Name   string `json:"name,omitempty"`
}

type file struct {
	Path   string `json:"path"`
	Dir    bool   `json:"dir,omitempty"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	Error  string `json:"error,omitempty"`
}

type disk struct {
	Serial     string      `json:"serial"`
	Partitions []partition `json:"partitions,omitempty"`
	Mount      string      `json:"mount,omitempty"` // why the file system could not be mounted
	Files      []file      `json:"files,omitempty"`
}

func main() {
	err := run()
	if err != nil {
		fmt.Println("guest:", err)
	}
	_ = os.Stdout.Sync()
	_ = unix.IoctlSetInt(1, unix.TCSBRK, 1)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	time.Sleep(time.Hour)
}

func run() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	list, err := os.ReadFile("/modules.list")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(list)) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	// A disk exists only after its partitions were read: with all disks there, all is known.
	want := 0
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for w := range strings.FieldsSeq(string(cmdline)) {
		if n, ok := strings.CutPrefix(w, "oracle.disks="); ok {
			if want, err = strconv.Atoi(n); err != nil {
				return err
			}
		}
	}
	var disks []string
	for range 600 {
		if disks, err = filepath.Glob("/sys/block/vd*"); err != nil {
			return err
		}
		if len(disks) >= want {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Second)
	fmt.Println("guest: disks", len(disks))
	for _, d := range disks {
		b, err := json.Marshal(look(d))
		if err != nil {
			return err
		}
		fmt.Printf("disk %s\n", b)
	}
	fmt.Println("guest: done")
	return nil
}

func look(dir string) disk {
	d := disk{Serial: text(dir + "/serial")}
	parts, _ := filepath.Glob(dir + "/" + filepath.Base(dir) + "*/partition")
	for _, p := range parts {
		p = filepath.Dir(p)
		part := partition{Number: int(number(p + "/partition")), Start: number(p + "/start"), Size: number(p + "/size")}
		for line := range strings.Lines(text(p + "/uevent")) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch key {
			case "PARTUUID":
				part.ID = value
			case "PARTNAME":
				part.Name = value
			}
		}
		d.Partitions = append(d.Partitions, part)
	}
	if strings.HasPrefix(d.Serial, "f") {
		d.mount("/dev/" + filepath.Base(dir))
	}
	return d
}

func (d *disk) mount(device string) {
	const at = "/mnt"
	_ = os.Mkdir(at, 0o755)
	if err := unix.Mount(device, at, "vfat", unix.MS_RDONLY, "iocharset=utf8,errors=continue"); err != nil {
		d.Mount = err.Error()
		return
	}
	defer func() { _ = unix.Unmount(at, 0) }()
	left := 20000 // entries: a damaged volume may have a directory in itself
	_ = filepath.WalkDir(at, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(at, path)
		if left--; left < 0 {
			d.Files = append(d.Files, file{Path: rel, Error: "too many entries"})
			return fs.SkipAll
		}
		if rel == "." && err == nil {
			return nil
		}
		f := file{Path: rel}
		if err != nil {
			f.Error = err.Error()
			d.Files = append(d.Files, f)
			return nil
		}
		if strings.Count(rel, "/") > 40 {
			f.Error = "too deep"
			d.Files = append(d.Files, f)
			return fs.SkipDir
		}
		if f.Dir = e.IsDir(); !f.Dir {
			if info, err := e.Info(); err == nil {
				f.Size = info.Size()
			}
			if f.Size > 64<<20 {
				f.Error = "not read"
			} else if b, err := os.ReadFile(path); err != nil {
				f.Error = err.Error()
			} else {
				sum := sha256.Sum256(b)
				f.SHA256 = hex.EncodeToString(sum[:])
			}
		}
		d.Files = append(d.Files, f)
		return nil
	})
}

func text(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func number(name string) uint64 {
	n, _ := strconv.ParseUint(text(name), 10, 64)
	return n
}
