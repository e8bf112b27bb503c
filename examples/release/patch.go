package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// fetchTree fetches the hash tree.
func (c *call) fetchTree(l *layout, rel *release.Artifact) (*io.SectionReader, error) {
	d, _ := rel.Layer(release.MediaTypeTree)
	f, err := c.create()
	if err != nil {
		return nil, err
	}
	blob, err := cosign.OpenBlob(c, l, d)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, blob); err != nil {
		return nil, errors.Join(err, blob.Close())
	}
	return io.NewSectionReader(f, 0, d.Size), blob.Close()
}

// patch puts the new root file system together from the old one and what that lacks.
func (c *call) patch(l *layout, rel *release.Artifact, p *pulling) (*patched, error) {
	old, err := c.open(p.oldRoot)
	if err != nil {
		return nil, err
	}
	oldTree, err := c.open(p.oldTree)
	if err != nil {
		return nil, err
	}
	tree, err := c.fetchTree(l, rel)
	if err != nil {
		return nil, err
	}
	want := verity.Tree{Source: tree, RootHash: rel.RootHash}
	delta, err := verity.Diff(c, verity.Tree{Source: oldTree}, want, verity.DiffOptions{})
	if is[*verity.IncompatibleError](err) || is[*verity.BlockError](err) || is[*verity.FormatError](err) || is[*verity.ShortError](err) {
		return nil, cli.No{Err: err}
	}
	if err != nil {
		return nil, err
	}
	root, _ := rel.Layer(release.MediaTypeRoot)
	remote, err := release.NewBlobReader(c, l, root)
	if err != nil {
		return nil, err
	}
	var out io.WriterAt
	var kept *cli.Output
	var whole *os.File
	if p.outRoot != "" {
		if kept, err = cli.Create(p.outRoot); err == nil {
			out = kept
			defer kept.Drop()
		}
	} else if whole, err = c.create(); err == nil {
		out = whole
	}
	if err != nil {
		return nil, err
	}
	done, err := verity.Patch(c, out, old, remote, want, delta, verity.PatchOptions{MaxGap: 64 << 10, Progress: c.Progress()})
	if err != nil {
		return nil, err
	}
	if kept != nil {
		err = cli.Keep(kept)
	} else {
		err = adopt(io.NewSectionReader(whole, 0, root.Size), root, p.out)
	}
	if err != nil {
		return nil, err
	}
	size := int64(delta.BlockSize)
	return &patched{Reused: done.Copied * size, Zeroed: done.Zeroed * size, Fetched: done.RequestedBytes, Requests: done.Requests,
		Damaged: done.Damaged * size}, nil
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// adopt puts a file that has the content of a layer into the layout, so that pulling finds it there.
func adopt(content io.Reader, d ocispec.Descriptor, dir string) error {
	store, err := cosign.OpenDir(dir)
	if err != nil {
		return err
	}
	got, err := store.WriteBlob(d.MediaType, content)
	if err != nil {
		return err
	}
	if got.Digest != d.Digest {
		return fmt.Errorf("the root file system was put together as its tree says, and has digest %s instead of %s", got.Digest, d.Digest)
	}
	return nil
}

func (r *pullResult) text() string {
	text := fmt.Sprintf("%s %s\n%s\n", shown(r.ID), shown(r.Version), r.Release)
	for _, s := range r.Signatures {
		text += fmt.Sprintf("signed by %s\n", s)
	}
	if p := r.Patch; p != nil {
		text += fmt.Sprintf("root: %d bytes fetched in %d requests, %d taken from the old one\n", p.Fetched, p.Requests, p.Reused)
	}
	return text
}
