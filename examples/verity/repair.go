package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/fec"
)

func repairFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	data := set.String("data", "", "`file` or device with the data")
	tree := set.String("tree", "", "`file` or device with superblock and tree")
	root := set.String("root", "", "root hash in `HEX`")
	parity := addParityFlags(set)
	out := set.String("o", "", "`file` for the repaired data (default: data and tree are repaired in place)")
	params := addParamFlags(set)
	return func(c *cli.Call, _ []string) error {
		if err := cli.Required("data", *data, "tree", *tree, "root", *root, "fec", parity.name); err != nil {
			return err
		}
		mode := os.O_RDWR
		if *out != "" {
			mode = os.O_RDONLY
			if sameName(*out, *data) || sameName(*out, *tree) || sameName(*out, parity.name) {
				return cli.Usagef("-o %s: leave it out to repair in place", *out)
			}
		}
		files, err := openImage(c, params, *data, *tree, parity, *root, mode)
		if err != nil {
			return err
		}
		if *out == "" {
			return repair(c, files, parity.roots, &cli.Output{File: files.data.File()}, &cli.Output{File: files.tree.File()})
		}
		copied, err := cli.Create(*out)
		if err != nil {
			return err
		}
		defer copied.Drop()
		finish := c.WatchReads(files.data.Size(), files.data)
		_, err = io.Copy(copied, &contextReader{c, io.NewSectionReader(files.data, 0, files.data.Size())})
		finish()
		if err != nil {
			return err
		}
		// the tree is in the copy only when it shares the file with the data
		var treeCopy *cli.Output
		if sameName(*data, *tree) {
			treeCopy = copied
		}
		if err := repair(c, files, parity.roots, copied, treeCopy); err != nil {
			return err
		}
		return cli.Keep(copied)
	}
}

// repair corrects data, and the tree where there is a writer for it, and answers.
func repair(c *cli.Call, f *imageFiles, roots int, data, tree *cli.Output) error {
	p, dataSize, hash, err := f.layout()
	if err != nil {
		return repaired(c, nil, true, err)
	}
	start, err := verity.TreeStart(p)
	if err != nil {
		return err
	}
	im := fec.Image{Data: first(f.data, dataSize), Hash: hash, Parity: f.parity, Params: p, RootHash: f.image.RootHash, Roots: roots}
	var hashWriter io.WriterAt
	if tree != nil {
		hashWriter = io.NewOffsetWriter(tree, start)
	}
	finish := c.WatchReads(dataSize, f.data)
	report, err := fec.Repair(c, im, data, hashWriter)
	finish()
	for _, o := range []*cli.Output{data, tree} {
		if o != nil && report != nil && report.RepairedBlocks > 0 {
			err = errors.Join(err, o.Sync())
		}
	}
	return repaired(c, report, tree != nil, err)
}

// repaired answers for repair.
func repaired(c *cli.Call, report *fec.Report, treeWritten bool, err error) error {
	var left *fec.UnrepairedError
	if errors.As(err, &left) {
		report = &left.Report
	}
	r := repairResult{Header: c.Header(), Intact: err == nil, Repaired: []blocks{}, TreeLeft: []blocks{}, Unrepaired: []blocks{}}
	text := ""
	if report != nil {
		for _, b := range report.Repaired {
			if b.Level > 0 && !treeWritten {
				r.TreeLeft = append(r.TreeLeft, blocks{b.Level, b.First, b.Count})
				text += fmt.Sprintf("left as it is: %v\n", b)
				continue
			}
			r.Repaired = append(r.Repaired, blocks{b.Level, b.First, b.Count})
			text += fmt.Sprintf("repaired %v\n", b)
		}
		r.Unrepaired, r.UnrepairedBlocks = ranges(report.Unrepaired), report.UnrepairedBlocks
		for _, b := range report.Unrepaired {
			text += fmt.Sprintf("not repaired %v\n", b)
		}
	}
	switch {
	case err == nil:
		return c.Answer(r, text)
	case left == nil && !is[*osmith.FormatError](err) && !is[*verity.ShortError](err) && !errors.Is(err, verity.ErrSpare):
		return err
	}
	r.Error = err.Error()
	return errors.Join(cli.No{Err: err}, c.Answer(r, text))
}

// contextReader ends a copy when the call does.
type contextReader struct {
	*cli.Call
	io.Reader
}

func (r *contextReader) Read(b []byte) (int, error) {
	if err := r.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
