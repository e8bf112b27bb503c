package main

import (
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// fetchTree fetches the hash tree.
func (c *call) fetchTree(l *layout, rel *release.Artifact) (*io.SectionReader, error) {
	d, _ := rel.Layer(release.MediaTypeTree)
	f, err := c.create("")
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
	if err != nil {
		return nil, err
	}
	root, _ := rel.Layer(release.MediaTypeRoot)
	remote, err := release.NewBlobReader(c, l, root)
	if err != nil {
		return nil, err
	}
	out, keep, err := c.target(root, p)
	if err != nil {
		return nil, err
	}
	done, err := verity.Patch(c, out, old, remote, want, delta, verity.PatchOptions{MaxGap: 64 << 10, Progress: c.Progress()})
	if err != nil {
		return nil, err
	}
	if err := keep(); err != nil {
		return nil, err
	}
	size := int64(delta.BlockSize)
	return &patched{Reused: done.Copied * size, Zeroed: done.Zeroed * size, Fetched: done.RequestedBytes, Requests: done.Requests,
		Damaged: done.Damaged * size}, nil
}

// target is where the new root file system goes: into a file of its own, or a temporary one that becomes a blob of the layout,
// so that pulling finds it there.
func (c *call) target(root ocispec.Descriptor, p *pulling) (out io.WriterAt, keep func() error, err error) {
	if p.outRoot != "" {
		file, err := cli.Create(p.outRoot)
		if err != nil {
			return nil, nil, err
		}
		c.drop = append(c.drop, file.Drop)
		return file, func() error { return cli.Keep(file) }, nil
	}
	store, err := cosign.OpenDir(p.out)
	if err != nil {
		return nil, nil, err
	}
	file, err := c.create(p.out)
	if err != nil {
		return nil, nil, err
	}
	return file, func() error {
		got, err := store.WriteBlob(root.MediaType, io.NewSectionReader(file, 0, root.Size))
		if err == nil && got.Digest != root.Digest {
			err = fmt.Errorf("the root file system was put together as its tree says, and has digest %s instead of %s", got.Digest, root.Digest)
		}
		return err
	}, nil
}

func (r *pullResult) text() string {
	text := fmt.Sprintf("%s %s\n%s\n", releasecli.Shown(r.ID), releasecli.Shown(r.Version), r.Release)
	for _, s := range r.Signatures {
		text += fmt.Sprintf("signed by %s\n", s)
	}
	if p := r.Patch; p != nil {
		text += fmt.Sprintf("root: %d bytes fetched in %d requests, %d taken from the old one\n", p.Fetched, p.Requests, p.Reused)
	}
	return text
}
