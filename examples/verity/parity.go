package main

import (
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

// parityFlags say where the parity is and how it is made.
type parityFlags struct {
	set    *flag.FlagSet
	name   string // "" for none
	offset int64
	roots  int
}

func addParityFlags(set *flag.FlagSet) *parityFlags {
	f := &parityFlags{set: set}
	set.StringVar(&f.name, "fec", "", "`file` or device with parity (forward error correction); with -fec-offset, it may be that of data or tree")
	set.Int64Var(&f.offset, "fec-offset", 0, "`bytes` in front of the parity")
	set.IntVar(&f.roots, "fec-roots", 2, "parity `bytes` for each codeword, 2 to 24")
	return f
}

// check checks what can be checked without a file. A kernel's table says in blocks where the parity
// starts.
func (f *parityFlags) check(blockSize int) (err error) {
	f.set.Visit(func(g *flag.Flag) {
		if f.name == "" && (g.Name == "fec-roots" || g.Name == "fec-offset") {
			err = cli.Usagef("-%s without -fec", g.Name)
		}
	})
	if err == nil && (f.offset < 0 || blockSize > 0 && f.offset%int64(blockSize) != 0) {
		err = cli.Usagef("-fec-offset %d: not a multiple of the block size %d", f.offset, blockSize)
	}
	return err
}

// create opens a file for the parity alone. What is in front of the offset is kept, if there is
// anything.
func (f *parityFlags) create() (*cli.Output, error) {
	if f.offset > 0 {
		switch file, err := os.OpenFile(f.name, os.O_RDWR, 0); {
		case err == nil:
			return &cli.Output{File: file}, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return cli.Create(f.name)
}

// open opens the parity of an image that is there.
func (f *parityFlags) open(c *cli.Call) (osmith.Source, error) {
	in, err := c.Open(f.name)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(in, f.offset, max(in.Size()-f.offset, 0)), nil
}
