package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/fec"
)

func formatFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	data := set.String("data", "", "`file` or device with the data")
	tree := set.String("tree", "", "`file` or device for superblock and tree; the same as -data with -hash-offset")
	parity := set.String("fec", "", "`file` or device for parity (forward error correction)")
	roots := set.Int("fec-roots", 2, "parity `bytes` for each codeword, 2 to 24")
	params := addParamFlags(set)
	return func(c *cli.Call, _ []string) error {
		if err := cli.Required("data", *data, "tree", *tree); err != nil {
			return err
		}
		if *parity == "" && params.given("fec-roots") {
			return cli.Usagef("-fec-roots without -fec")
		}
		if *parity != "" && (sameName(*parity, *data) || sameName(*parity, *tree)) {
			return cli.Usagef("-fec %s: it is also data or tree", *parity)
		}
		p, err := params.fresh()
		if err != nil {
			return err
		}
		f := &formatter{Call: c, params: p, parity: *parity, roots: *roots}
		if sameName(*data, *tree) {
			return f.shared(*data)
		}
		return f.apart(*data, *tree)
	}
}

// A formatter is one run of format.
type formatter struct {
	*cli.Call
	params verity.Params
	parity string // name; "" for none
	roots  int
}

// apart writes the tree to a file of its own.
func (f *formatter) apart(dataName, treeName string) error {
	data, err := f.Open(dataName)
	if err != nil {
		return err
	}
	tree, err := cli.Create(treeName)
	if err != nil {
		return err
	}
	defer tree.Drop()
	return f.format(data, data, tree, treeName, tree)
}

// shared writes the tree behind the data. The data is not touched, and a file that has grown is cut again after a failure.
func (f *formatter) shared(name string) error {
	if f.params.HashOffset == 0 {
		return cli.Usagef("-tree is the same as -data: -hash-offset must say where the data ends")
	}
	all, err := f.OpenFile(name, os.O_RDWR)
	if err != nil {
		return err
	}
	if err = f.format(all, first(all, f.params.HashOffset), &cli.Output{File: all.File()}, name); err == nil {
		return nil
	}
	if info, e := all.File().Stat(); e == nil && info.Mode().IsRegular() {
		err = errors.Join(err, all.File().Truncate(all.Size()))
	}
	return err
}

// format makes the tree and the parity of data, which is read from in, keeps the outputs and answers.
func (f *formatter) format(in *cli.Input, data osmith.Source, tree *cli.Output, treeName string, outputs ...*cli.Output) error {
	finish := f.WatchReads(data.Size()*int64(1+min(len(f.parity), 1)), in)
	root, err := verity.Format(f, tree, data, f.params)
	var treeSize, fecSize int64
	if err == nil {
		treeSize, err = verity.TreeSize(data.Size(), f.params)
	}
	if err == nil && f.parity != "" {
		var parity *cli.Output
		if parity, err = cli.Create(f.parity); err == nil {
			defer parity.Drop()
			outputs = append(outputs, parity)
			fecSize, err = f.encode(parity, data, tree)
		}
	}
	finish()
	if err == nil {
		err = cli.Keep(outputs...)
	}
	if err != nil {
		return err
	}
	return f.report(treeName, data.Size(), root, treeSize, fecSize)
}

func (f *formatter) encode(parity *cli.Output, data osmith.Source, tree *cli.Output) (int64, error) {
	end, err := tree.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	hash, err := fec.HashArea(io.NewSectionReader(tree, 0, end), f.params)
	if err != nil {
		return 0, err
	}
	p := fec.Params{Roots: f.roots, BlockSize: f.params.DataBlockSize}
	if f.params.DataBlockSize != f.params.HashBlockSize {
		return 0, cli.Usagef("-fec needs data and hash blocks of one size, not %d and %d", f.params.DataBlockSize, f.params.HashBlockSize)
	}
	size, err := fec.Size(data.Size(), hash.Size(), p)
	if err != nil {
		return 0, err
	}
	return size, fec.Encode(f, parity, data, hash, p)
}

// report says what veritysetup format 2.8 says.
func (f *formatter) report(treeName string, dataSize int64, root []byte, treeSize, fecSize int64) error {
	p := f.params
	start, err := verity.TreeStart(p)
	if err != nil {
		return err
	}
	r := formatResult{
		Header: f.Header(), RootHash: hex.EncodeToString(root), Salt: hex.EncodeToString(p.Salt), Hash: p.Hash, Format: 1,
		DataBlockSize: p.DataBlockSize, HashBlockSize: p.HashBlockSize, DataBlocks: dataSize / int64(p.DataBlockSize),
		HashBlocks: (p.HashOffset + treeSize - start) / int64(p.HashBlockSize),
		HashOffset: p.HashOffset, Superblock: !p.NoSuperblock, TreeSize: treeSize, FECSize: fecSize,
	}
	if p.ChromeOS {
		r.Format = 0
	}
	if r.Superblock {
		r.UUID = osmith.GUID(p.UUID).String()
	}
	if f.parity != "" {
		r.FECRoots = f.roots
	}
	var b strings.Builder
	fmt.Fprintf(&b, "VERITY header information for %s.\n", treeName)
	fmt.Fprintf(&b, "UUID:            \t%s\nHash type:       \t%d\nData blocks:     \t%d\nData block size: \t%d [bytes]\n",
		r.UUID, r.Format, r.DataBlocks, r.DataBlockSize)
	fmt.Fprintf(&b, "Hash blocks:     \t%d\nHash block size: \t%d [bytes]\nHash algorithm:  \t%s\n", r.HashBlocks, r.HashBlockSize, r.Hash)
	if fecSize > 0 {
		fmt.Fprintf(&b, "FEC RS roots:   \t%d\nFEC blocks:     \t%d\n", r.FECRoots, fecSize/int64(p.DataBlockSize))
	}
	salt := r.Salt
	if salt == "" {
		salt = "-"
	}
	fmt.Fprintf(&b, "Salt:            \t%s\nRoot hash:      \t%s\n", salt, r.RootHash)
	if p.HashOffset == 0 {
		fmt.Fprintf(&b, "Hash device size: \t%d [bytes]\n", p.HashOffset+treeSize)
	}
	if fecSize > 0 {
		fmt.Fprintf(&b, "FEC device size: \t%d [bytes]\n", fecSize)
	}
	return f.Answer(r, b.String())
}
