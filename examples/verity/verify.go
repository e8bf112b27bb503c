package main

import (
	"errors"
	"flag"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/fec"
)

func verifyFlags(set *flag.FlagSet) func(*call, []string) error {
	data := set.String("data", "", "`file` or device with the data")
	tree := set.String("tree", "", "`file` or device with superblock and tree")
	root := set.String("root", "", "root hash in `HEX`")
	parity := set.String("fec", "", "`file` or device with parity, to be checked too")
	roots := set.Int("fec-roots", 2, "parity `bytes` for each codeword, 2 to 24")
	params := addParamFlags(set)
	return func(c *call, _ []string) error {
		if err := required("data", *data, "tree", *tree, "root", *root); err != nil {
			return err
		}
		files, err := openImage(params, *data, *tree, *parity, *root, flagRead)
		if err != nil {
			return err
		}
		defer files.close()
		finish := c.watch(files.data.Size(), files.data)
		err = files.image.Verify(c)
		if err == nil && files.parity != nil {
			err = files.check(c, *roots)
		}
		finish()
		return c.verified(err)
	}
}

// verified answers for verify: err is nil, a finding, or an error that says nothing about the image.
func (c *call) verified(err error) error {
	r := verifyResult{header: c.header(), Verified: err == nil, Findings: []string{}, Ranges: []blocks{}}
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
	image              verity.Image
	data, tree, parity *input
}

func (f *imageFiles) close() {
	for _, in := range []*input{f.data, f.tree, f.parity} {
		if in != nil {
			in.Close()
		}
	}
}

func openImage(params *paramFlags, data, tree, parity, rootText string, flag int) (*imageFiles, error) {
	root, err := parseRoot(rootText)
	if err != nil {
		return nil, err
	}
	f := new(imageFiles)
	if err := f.open(params, data, tree, parity, root, flag); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *imageFiles) open(params *paramFlags, data, tree, parity string, root []byte, flag int) (err error) {
	if f.data, err = openInput(data, flag); err != nil {
		return err
	}
	if f.tree, err = openInput(tree, flag); err != nil {
		return err
	}
	if parity != "" {
		if f.parity, err = openInput(parity, flagRead); err != nil {
			return err
		}
	}
	f.image, err = params.existing(f.data, f.tree, root)
	return err
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
	area, err := fec.HashArea(f.tree, p)
	if err != nil {
		return p, 0, nil, err
	}
	if p.DataBlockSize != p.HashBlockSize {
		return p, 0, nil, fmt.Errorf("fec: data and hash blocks must be of one size, not %d and %d", p.DataBlockSize, p.HashBlockSize)
	}
	return p, dataSize, area, nil
}

func (f *imageFiles) check(c *call, roots int) error {
	p, dataSize, hash, err := f.layout()
	if err != nil {
		return err
	}
	return fec.Check(c, f.data.first(dataSize), hash, f.parity, fec.Params{Roots: roots, BlockSize: p.DataBlockSize})
}
