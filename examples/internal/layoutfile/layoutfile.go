// Package layoutfile reads the layout of a disk that a call names.
package layoutfile

import (
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/partition"
)

// Read reads a layout file or a directory of definitions.
func Read(name string) (l partition.Layout, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return l, err
	}
	if info.IsDir() {
		read, err := partition.ReadRepart(os.DirFS(name), partition.RepartOptions{})
		if err != nil {
			return l, fmt.Errorf("%s: %w", name, err)
		}
		return read.Layout, nil
	}
	in, err := os.Open(name)
	if err != nil {
		return l, err
	}
	defer in.Close()
	if l, err = partition.ReadLayout(in); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return l, err
}
