package main

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
)

func diff(c *cli.Call, operands []string) error {
	old, err := c.Open(operands[0])
	if err != nil {
		return err
	}
	fresh, err := c.Open(operands[1])
	if err != nil {
		return err
	}
	finish := c.WatchReads(2*old.Size()+fresh.Size(), old, fresh)
	delta, err := verity.Diff(c, verity.Tree{Source: old}, verity.Tree{Source: fresh}, verity.DiffOptions{})
	finish()
	if is[*verity.IncompatibleError](err) || is[*verity.BlockError](err) || is[*osmith.FormatError](err) || is[*verity.ShortError](err) || is[*verity.SpareError](err) {
		return cli.No{Err: err}
	}
	if err != nil {
		return err
	}
	return answerDiff(c, delta)
}

func answerDiff(c *cli.Call, d *verity.Delta) error {
	r := diffResult{Header: c.Header(), BlockSize: d.BlockSize, Blocks: d.Blocks, Totals: map[string]int64{}, Spans: []span{}}
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
