package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing/fstest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
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
	modules, err := readModuleTree(moduleDir)
	if err != nil {
		return nil, err
	}
	files, err := modules.closure(GuestModules)
	if err != nil {
		return nil, err
	}

	tree := fstest.MapFS{
		// The kernel opens the console for init before devtmpfs is there.
		"dev/console": {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Sys: &osmith.Node{Major: 5, Minor: 1}},
		"init":        {Mode: 0o755, Data: init},
	}
	for _, dir := range []string{"dev", "modules", "proc", "run", "sys", "sysroot"} {
		tree[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	}
	var list strings.Builder
	for _, file := range files {
		b, err := modules.load(file)
		if err != nil {
			return nil, err
		}
		name := "modules/" + moduleName(path.Base(file)) + ".ko"
		tree[name] = &fstest.MapFile{Mode: 0o644, Data: b}
		fmt.Fprintf(&list, "/%s\n", name)
	}
	tree["modules.list"] = &fstest.MapFile{Mode: 0o644, Data: []byte(list.String())}

	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("e2e: initrd: %w", err)
	}
	if err := build.WriteInitrd(context.Background(), z, tree, osmith.TreeOptions{}); err != nil {
		return nil, fmt.Errorf("e2e: initrd: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("e2e: initrd: %w", err)
	}
	return buf.Bytes(), nil
}
