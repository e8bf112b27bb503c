package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/fec"
)

func verifyFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	data := set.String("data", "", "`file` or device with the data")
	tree := set.String("tree", "", "`file` or device with superblock and tree")
	root := set.String("root", "", "root hash in `HEX`")
	parity := addParityFlags(set)
	params := addParamFlags(set)
	return func(c *cli.Call, _ []string) error {
		if err := cli.Required("data", *data, "tree", *tree, "root", *root); err != nil {
			return err
		}
		files, err := openImage(c, params, *data, *tree, parity, *root, os.O_RDONLY)
		if err != nil {
			return err
		}
		finish := c.WatchReads(files.data.Size(), files.data)
		err = files.image.Verify(c)
		if err == nil && files.parity != nil {
			err = files.check(c, parity.roots)
		}
		finish()
		return verified(c, err)
	}
}

// verified answers for verify: err is nil, a finding, or an error that says nothing about the
// image.
func verified(c *cli.Call, err error) error {
	r := verifyResult{Header: c.Header(), Verified: err == nil, Findings: []string{}, Ranges: []blocks{}}
	if err == nil {
		return c.Answer(r, "")
	}
	for _, f := range []struct {
		name string
		is   bool
	}{
		{"rootHash", errors.Is(err, verity.ErrRootHash)},
		{"tree", errors.Is(err, verity.ErrTree)},
		{"data", errors.Is(err, verity.ErrData)},
		{"fec", is[*fec.ParityError](err)},
		{"superblock", is[*osmith.FormatError](err)},
		{"size", is[*verity.ShortError](err)},
		{"spare", errors.Is(err, verity.ErrSpare)},
	} {
		if f.is {
			r.Findings = append(r.Findings, f.name)
		}
	}
	if len(r.Findings) == 0 {
		return err
	}
	var mismatch *verity.MismatchError
	if errors.As(err, &mismatch) {
		r.Ranges, r.DataBlocks, r.TreeBlocks = ranges(mismatch.Ranges), mismatch.DataBlocks, mismatch.TreeBlocks
	}
	r.Error = err.Error()
	return errors.Join(cli.No{Err: err}, c.Answer(r, ""))
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// imageFiles are the files of an image that is there.
type imageFiles struct {
	image      verity.Image
	data, tree *cli.Input
	parity     osmith.Source
	hashEnd    int64 // where on the hash device the parity starts; 0: it is not there
}

// openImage opens data and tree for the uses of flag, and the parity, if there is one, for reading.
func openImage(c *cli.Call, params *paramFlags, data, tree string, parity *parityFlags, rootText string, flag int) (*imageFiles, error) {
	if err := parity.check(0); err != nil {
		return nil, err
	}
	root, err := parseRoot(rootText)
	if err != nil {
		return nil, err
	}
	f := new(imageFiles)
	if f.data, err = c.OpenFile(data, flag); err != nil {
		return nil, err
	}
	if f.tree, err = c.OpenFile(tree, flag); err != nil {
		return nil, err
	}
	if parity.name != "" {
		if f.parity, err = parity.open(c); err != nil {
			return nil, err
		}
		if sameName(parity.name, tree) {
			f.hashEnd = parity.offset
		}
	}
	f.image, err = params.existing(f.data, f.tree, root)
	return f, err
}

// layout returns the parameters of the image, the size of its data, and its hash area.
func (f *imageFiles) layout() (p verity.Params, dataSize int64, hash osmith.Source, err error) {
	if im := f.image; im.Params != nil {
		p, dataSize = *im.Params, im.Data.Size()
	} else {
		sb, err := verity.ReadSuperblock(f.tree, im.HashOffset)
		if err != nil {
			return p, 0, nil, err
		}
		p, dataSize = sb.Params(im.HashOffset), sb.DataSize()
	}
	if have := f.data.Size(); have < dataSize {
		return p, 0, nil, &verity.ShortError{Device: "data", Want: dataSize, Got: have}
	}
	var device osmith.Source = f.tree
	if f.hashEnd > 0 {
		device = first(f.tree, f.hashEnd)
	}
	area, err := fec.HashArea(device, p)
	if err != nil {
		return p, 0, nil, err
	}
	if p.DataBlockSize != p.HashBlockSize {
		return p, 0, nil, fmt.Errorf("fec: data and hash blocks must be of one size, not %d and %d", p.DataBlockSize, p.HashBlockSize)
	}
	return p, dataSize, area, nil
}

func (f *imageFiles) check(c *cli.Call, roots int) error {
	p, dataSize, hash, err := f.layout()
	if err != nil {
		return err
	}
	return fec.Check(c, first(f.data, dataSize), hash, f.parity, fec.Params{Roots: roots, BlockSize: p.DataBlockSize})
}
