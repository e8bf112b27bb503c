package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// maxStore bounds the file of a variable store.
const maxStore = 64 << 20

// readVariables takes a directory of efivarfs or the variable store of a virtual machine.
func readVariables(name string) (v osmith.FirmwareVariables, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return v, err
	}
	if info.IsDir() {
		v, err = secureboot.ReadVariables(os.DirFS(name))
	} else {
		var b []byte
		if b, err = cli.ReadFile(name, maxStore); err != nil {
			return v, err
		}
		v, err = secureboot.ParseStore(b)
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// readImages reads PE images.
func readImages(c *cli.Call, names []string) (images []secureboot.Image, err error) {
	for _, name := range names {
		im, err := readImage(c, name)
		if err != nil {
			return nil, err
		}
		images = append(images, im)
	}
	return images, nil
}

func readImage(c *cli.Call, name string) (im secureboot.Image, err error) {
	f, err := c.Open(name)
	if err != nil {
		return im, err
	}
	if im, err = secureboot.ReadImage(f); err != nil {
		return im, fmt.Errorf("%s: %w", name, err)
	}
	im.Name = name
	return im, nil
}

// names of the keys in a directory.
var names = []string{"PK", "KEK", "db", "PCR", "verity"}

func pairs(h *secureboot.Hierarchy) []*secureboot.KeyPair {
	return []*secureboot.KeyPair{&h.PK, &h.KEK, &h.DB, &h.PCR, &h.Verity}
}

// readHierarchy reads the keys of a directory of generate: PK, KEK and db, of which each must have
// its certificate unless the caller takes what there is.
func readHierarchy(dir string, partly bool) (*secureboot.Hierarchy, error) {
	h, err := secureboot.ReadHierarchy(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	h.PCR, h.Verity = secureboot.KeyPair{}, secureboot.KeyPair{} // no verb here signs with them
	found := 0
	for i, p := range pairs(h)[:3] {
		switch {
		case p.Cert != nil:
			found++
		case !partly:
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, names[i]+".crt"), fs.ErrNotExist)
		}
	}
	if found == 0 {
		return nil, fmt.Errorf("%s has none of PK.crt, KEK.crt and db.crt", dir)
	}
	return h, nil
}
