package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// GuestModules are the kernel modules the guest needs, unless they are built in.
var GuestModules = []string{
	"virtio_pci", "virtio_blk", // disk
	"dm-verity", "erofs", // root
	"tpm_tis", "efivarfs", // what is reported
	"vfat", "nls_cp437", "nls_ascii", // bless
}

// ErrNoModule: a module is neither in modules.dep nor in modules.builtin.
var ErrNoModule = errors.New("no such kernel module")

// moduleTree is the directory lib/modules/VERSION of a kernel, as depmod left it.
type moduleTree struct {
	dir     string
	files   map[string]string   // module name to path under dir
	needs   map[string][]string // module name to names
	builtin map[string]bool     // nil when the kernel's packages did not say
}

// moduleName is what the kernel calls the module in a file: no directory, no
// suffix, underscores.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func readModuleTree(dir string) (*moduleTree, error) {
	t := &moduleTree{dir: dir, files: make(map[string]string), needs: make(map[string][]string)}
	err := eachLine(filepath.Join(dir, "modules.dep"), func(line string) {
		file, deps, _ := strings.Cut(line, ":")
		name := moduleName(file)
		t.files[name] = file
		for _, d := range strings.Fields(deps) {
			t.needs[name] = append(t.needs[name], moduleName(d))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("e2e: kernel modules (was depmod run?): %w", err)
	}
	builtin := make(map[string]bool)
	err = eachLine(filepath.Join(dir, "modules.builtin"), func(line string) { builtin[moduleName(line)] = true })
	switch {
	case err == nil:
		t.builtin = builtin
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("e2e: kernel modules: %w", err)
	}
	return t, nil
}

func eachLine(file string, f func(string)) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if s.Text() != "" {
			f(s.Text())
		}
	}
	return s.Err()
}

// closure returns the files of the named modules and of all they need, each
// after what it needs, without the built-in ones.
func (t *moduleTree) closure(names []string) ([]string, error) {
	var files []string
	done := make(map[string]bool)
	var add func(name string) error
	add = func(name string) error {
		if done[name] || t.builtin[name] {
			return nil
		}
		done[name] = true
		file, ok := t.files[name]
		if !ok && t.builtin == nil {
			return nil // built in, or the guest will say what is missing
		}
		if !ok {
			return fmt.Errorf("e2e: module %s in %s: %w", name, t.dir, ErrNoModule)
		}
		for _, need := range t.needs[name] {
			if err := add(need); err != nil {
				return err
			}
		}
		files = append(files, file)
		return nil
	}
	for _, name := range names {
		if err := add(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// load returns a module's ELF file. The signature at its end survives, which
// the kernel checks when Secure Boot is on.
func (t *moduleTree) load(file string) ([]byte, error) {
	name := filepath.Join(t.dir, filepath.FromSlash(file))
	var tool string
	switch path.Ext(file) {
	case ".ko":
		return os.ReadFile(name)
	case ".xz":
		tool = "xz"
	case ".zst":
		tool = "zstd"
	default:
		return nil, fmt.Errorf("e2e: module %s: compression %s is unknown", file, path.Ext(file))
	}
	out, err := exec.Command(tool, "-dc", name).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("e2e: module %s: %s: %w", file, tool, err)
	}
	return out, nil
}
