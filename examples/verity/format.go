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
	parity := addParityFlags(set)
	params := addParamFlags(set)
	return func(c *cli.Call, _ []string) error {
		if err := cli.Required("data", *data, "tree", *tree); err != nil {
			return err
		}
		p, err := params.fresh()
		if err != nil {
			return err
		}
		f := &formatter{Call: c, params: p, dataBlocks: params.blocks, parityFlags: parity}
		if err := f.place(*data, *tree); err != nil {
			return err
		}
		return f.run(*data, *tree)
	}
}

// A formatter is one run of format.
type formatter struct {
	*cli.Call
	params     verity.Params
	dataBlocks int64 // 0: not given
	*parityFlags

	treeInData, parityInData, parityInTree bool
}

// place finds out what lies in one file.
func (f *formatter) place(data, tree string) error {
	f.treeInData = sameName(data, tree)
	if f.treeInData && f.params.HashOffset == 0 {
		return cli.Usagef("-tree is the same as -data: -hash-offset must say where the data ends")
	}
	if err := f.check(f.params.DataBlockSize); err != nil {
		return err
	}
	if f.name == "" {
		return nil
	}
	f.parityInData, f.parityInTree = sameName(f.name, data), sameName(f.name, tree)
	if (f.parityInData || f.parityInTree) && f.offset == 0 {
		return cli.Usagef("-fec %s: it is also data or tree: -fec-offset must say where the parity starts", f.name)
	}
	return nil
}

// run opens the files, makes tree and parity, and gives the outputs their names. Data that shares
// its file is not touched, and a file that has grown is cut again after a failure.
func (f *formatter) run(dataName, treeName string) error {
	flag := os.O_RDONLY
	if f.treeInData || f.parityInData {
		flag = os.O_RDWR
	}
	in, err := f.OpenFile(dataName, flag)
	if err != nil {
		return err
	}
	data, err := f.data(in)
	if err != nil {
		return err
	}
	inPlace := &cli.Output{File: in.File()}
	tree := inPlace
	var outputs []*cli.Output
	if !f.treeInData {
		if tree, err = cli.Create(treeName); err != nil {
			return err
		}
		defer tree.Drop()
		outputs = append(outputs, tree)
	}
	if f.treeInData || f.parityInData {
		outputs = append(outputs, inPlace)
	}
	err = f.format(in, data, tree, inPlace, treeName, outputs)
	if err == nil || flag == os.O_RDONLY {
		return err
	}
	if info, e := in.File().Stat(); e == nil && info.Mode().IsRegular() {
		err = errors.Join(err, in.File().Truncate(in.Size()))
	}
	return err
}

// data is the part of the first file that the tree is to be of. What would be overwritten must not
// be data.
func (f *formatter) data(in *cli.Input) (osmith.Source, error) {
	size, end, what := in.Size(), in.Size(), ""
	switch {
	case f.treeInData:
		end, what = f.params.HashOffset, "-hash-offset"
	case f.parityInData:
		end, what = f.offset, "-fec-offset"
	}
	switch blockSize := int64(f.params.DataBlockSize); {
	case f.dataBlocks < 0 || blockSize > 0 && f.dataBlocks > size/blockSize:
		return nil, cli.Usagef("-data-blocks %d: %s has %d blocks of %d bytes", f.dataBlocks, in.Name, size/max(blockSize, 1), blockSize)
	case f.dataBlocks > 0:
		size = f.dataBlocks * blockSize
	case size > end && f.isTree(in):
		size = end
	}
	if size > end {
		return nil, cli.Usagef("%s %d is inside the data, which has %d bytes: -data-blocks says where it ends if that is not all of %s", what, end, size, in.Name)
	}
	return first(in, size), nil
}

// isTree reports whether a tree is where the new one is to be, so that the file is formatted again.
func (f *formatter) isTree(in *cli.Input) bool {
	if !f.treeInData {
		return false
	}
	sb, err := verity.ReadSuperblock(in, f.params.HashOffset)
	return err == nil && sb.DataSize() <= f.params.HashOffset
}

// format makes the tree and the parity of data, which is read from in, keeps the outputs and
// answers.
func (f *formatter) format(in *cli.Input, data osmith.Source, tree, inPlace *cli.Output, treeName string, outputs []*cli.Output) error {
	treeSize, err := verity.TreeSize(data.Size(), f.params)
	if err != nil {
		return err
	}
	if end := f.params.HashOffset + treeSize; f.parityInTree && f.offset < end {
		return cli.Usagef("-fec-offset %d is inside the tree, which ends at %d", f.offset, end)
	}
	finish := f.WatchReads(data.Size()*int64(1+min(len(f.name), 1)), in)
	root, err := verity.Format(f, tree, data, f.params)
	var fecSize int64
	if err == nil && f.name != "" {
		parity := inPlace
		switch {
		case f.parityInData:
		case f.parityInTree:
			parity = tree
		default:
			if parity, err = f.create(); err == nil {
				defer parity.Drop()
				outputs = append(outputs, parity)
			}
		}
		if err == nil {
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
	end := f.offset
	if !f.parityInTree {
		var err error
		if end, err = tree.Seek(0, io.SeekEnd); err != nil {
			return 0, err
		}
	}
	// Between tree and parity the file may have nothing yet: that is zeros.
	if info, err := tree.Stat(); err != nil {
		return 0, err
	} else if info.Mode().IsRegular() && info.Size() < end {
		if err := tree.Truncate(end); err != nil {
			return 0, err
		}
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
	return size, fec.Encode(f, io.NewOffsetWriter(parity, f.offset), data, hash, p)
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
	if f.name != "" {
		r.FECRoots, r.FECOffset = f.roots, f.offset
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
