package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
)

func diffFlags(*flag.FlagSet) func(*call, []string) error {
	return func(c *call, operands []string) error {
		old, err := openInput(operands[0], flagRead)
		if err != nil {
			return err
		}
		defer old.Close()
		fresh, err := openInput(operands[1], flagRead)
		if err != nil {
			return err
		}
		defer fresh.Close()
		finish := c.watch(2*old.Size()+fresh.Size(), old, fresh)
		delta, err := verity.Diff(c, verity.Tree{Source: old}, verity.Tree{Source: fresh}, verity.DiffOptions{})
		finish()
		if is[*verity.IncompatibleError](err) || is[*verity.BlockError](err) || is[*osmith.FormatError](err) || is[*verity.ShortError](err) {
			return cli.No{Err: err}
		}
		if err != nil {
			return err
		}
		return c.diff(delta)
	}
}

func (c *call) diff(d *verity.Delta) error {
	r := diffResult{header: c.header(), BlockSize: d.BlockSize, Blocks: d.Blocks, Totals: map[string]int64{}, Spans: []span{}}
	var text strings.Builder
	fmt.Fprintf(&text, "%v\n", d)
	for _, o := range []verity.Origin{verity.OriginSame, verity.OriginMoved, verity.OriginZero, verity.OriginFetch} {
		r.Totals[o.String()] = d.Total(o)
	}
	for _, s := range d.Spans {
		js := span{Origin: s.Origin.String(), First: s.First, Count: s.Count}
		if s.Origin == verity.OriginSame || s.Origin == verity.OriginMoved {
			js.From = &s.From
		}
		r.Spans = append(r.Spans, js)
		fmt.Fprintf(&text, "%v\n", s)
	}
	return c.Answer(r, text.String())
}
