package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/osmith-dev/osmith/verity"
)

// imageTools are other makers of images, with the command to make one reproducibly.
var imageTools = []struct {
	title   string
	command func(image, dir string) []string
}{
	{"mkfs.erofs", func(image, dir string) []string {
		return []string{"mkfs.erofs", "--quiet", "-T0", "-U00112233-4455-6677-8899-aabbccddeeff", "--all-root", image, dir}
	}},
	{"mkfs.erofs -Enoinline_data", func(image, dir string) []string {
		return []string{"mkfs.erofs", "--quiet", "-Enoinline_data", "-T0", "-U00112233-4455-6677-8899-aabbccddeeff", "--all-root", image, dir}
	}},
	{"mksquashfs", func(image, dir string) []string {
		return []string{"mksquashfs", dir, image, "-quiet", "-no-progress", "-mkfs-time", "0", "-all-time", "0", "-all-root"}
	}},
}

// measureTools compares two builds as images of other makers.
func measureTools(ctx context.Context, dir string, first, second tree) (err error) {
	var dirs []string
	for n, files := range []tree{first, second} {
		d := filepath.Join(dir, fmt.Sprintf("files%d", n+1))
		defer os.RemoveAll(d)
		if err := files.writeFiles(d); err != nil {
			return err
		}
		dirs = append(dirs, d)
	}
	for i, tool := range imageTools {
		var builds []*build
		for n, d := range dirs {
			name := filepath.Join(dir, fmt.Sprintf("tool%d-build%d", i+1, n+1))
			args := tool.command(name, d)
			if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", args[0], err, out)
			}
			image, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, image.Close()) }()
			b, err := formatBuild(image)
			if err != nil {
				return err
			}
			builds = append(builds, b)
		}
		title := fmt.Sprintf("%s, %.1f MB, build 2 on top of build 1", tool.title, mega(builds[1].image.Size()))
		if _, err := diff(ctx, title, builds[0], builds[1], verity.DiffOptions{}); err != nil {
			return err
		}
	}
	return nil
}
