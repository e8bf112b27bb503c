package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path"
	"strings"
)

// Initrd returns an initrd with the guest as /init and the [GuestModules] with
// all they need, uncompressed files in a gzip-compressed archive. The same
// inputs give the same bytes.
//
// moduleDir is the directory lib/modules/VERSION of the kernel that will run.
func Initrd(guest, moduleDir string) ([]byte, error) {
	init, err := os.ReadFile(guest)
	if err != nil {
		return nil, fmt.Errorf("e2e: initrd: %w", err)
	}
	tree, err := readModuleTree(moduleDir)
	if err != nil {
		return nil, err
	}
	files, err := tree.closure(GuestModules)
	if err != nil {
		return nil, err
	}

	var a archive
	for _, dir := range []string{"dev", "modules", "proc", "run", "sys", "sysroot"} {
		a.add(dir, modeDir, nil)
	}
	// The kernel opens the console for init before devtmpfs is there.
	a.device("dev/console", 5, 1)
	a.add("init", modeExec, init)
	var list strings.Builder
	for _, file := range files {
		b, err := tree.load(file)
		if err != nil {
			return nil, err
		}
		name := "modules/" + moduleName(path.Base(file)) + ".ko"
		a.add(name, modeFile, b)
		fmt.Fprintf(&list, "/%s\n", name)
	}
	a.add("modules.list", modeFile, []byte(list.String()))

	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("e2e: initrd: %w", err)
	}
	if _, err := z.Write(a.finish()); err != nil {
		return nil, fmt.Errorf("e2e: initrd: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("e2e: initrd: %w", err)
	}
	return buf.Bytes(), nil
}
