package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// pulling is what the flags of pull say.
type pulling struct {
	trust                          *trust
	access                         *access
	wanted                         *wanted
	out, oldRoot, oldTree, outRoot string
	oldUKI                         string
}

func pullFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	p := &pulling{trust: trustFlags(set), access: accessFlags(set), wanted: wantedFlags(set)}
	set.StringVar(&p.out, "o", "", "`directory` of the layout to fetch to, made if there is none")
	set.StringVar(&p.oldRoot, "old-root", "", "`file` or device with an older root file system, whose blocks are not fetched")
	set.StringVar(&p.oldTree, "old-tree", "", "`file` or device with its hash tree")
	set.StringVar(&p.oldUKI, "old-uki", "", "`file` with an older UKI: what its sections have is not fetched")
	set.StringVar(&p.outRoot, "o-root", "", "`file` for the new root file system, which the layout then lacks")
	follow := followFlags(set)
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("o", p.out); err != nil {
			return err
		}
		if (p.oldRoot == "") != (p.oldTree == "") {
			return cli.Usagef("-old-root and -old-tree belong together")
		}
		if p.outRoot != "" && p.oldRoot == "" {
			return cli.Usagef("-o-root without -old-root: the layout has the root file system")
		}
		if !follow.channel {
			return pull(c, operands, p)
		}
		return follow.pull(c, operands, p)
	}
}

func pull(c *cli.Call, operands []string, p *pulling) error {
	// Nothing is fetched that was not verified before, but by its digest.
	from, proof, policy, err := verify(c, operands, p.trust, p.access)
	if err != nil {
		if proof != nil && from.registry != nil {
			return errors.Join(err, c.Answer(proof.object(c), ""))
		}
		return err
	}
	subject := proof.result.Subject
	rel, err := p.wanted.choose(c, from, subject)
	if err != nil {
		return err
	}
	o := release.PullOptions{Ref: from.name(), Wanted: p.wanted.of(from.name())}
	r, err := p.fetch(c, from, subject, rel, o)
	if err != nil {
		return err
	}
	r.Signatures = proof.Signatures
	if err := keepProof(c, from, proof.result, policy, p.out); err != nil {
		return err
	}
	if from.registry != nil {
		return c.Answer(registryResult{Header: r.Header, Name: from.repository, Digest: r.Digest, Verification: &proof.verification,
			Release: newAbout(rel), Patch: r.Patch, UKIPatch: r.UKIPatch}, r.text())
	}
	return c.Answer(r, r.text())
}

// fetch fetches a release, which is the subject or chosen from it, whole or as far as the old one
// lacks it.
func (p *pulling) fetch(c *cli.Call, from *place, subject ocispec.Descriptor, rel *release.Artifact, o release.PullOptions) (*pullResult, error) {
	o.Progress = c.Progress()
	if rel.Descriptor.Digest != subject.Digest {
		o.Index = &subject
	}
	r := &pullResult{Header: c.Header(), Digest: string(subject.Digest), Release: string(rel.Descriptor.Digest), ID: rel.ID, Version: rel.Version,
		RootHash: hex.EncodeToString(rel.RootHash), Signatures: []signature{}, Size: rel.Size()}
	if p.oldRoot != "" {
		// The tree is needed first, and the manifest is listed last.
		var err error
		r.Patch, err = patch(c, from, rel, p)
		if (errors.Is(err, release.ErrNoRanges) || errors.Is(err, errNothingInCommon)) && p.outRoot == "" {
			reason := release.ErrNoRanges
			if errors.Is(err, errNothingInCommon) {
				reason = err
			}
			fmt.Fprintf(c.Stderr, "release: %v: all of the root file system is fetched\n", reason)
			err = nil
		}
		if err != nil {
			return nil, err
		}
		if p.outRoot != "" {
			o.Skip = []string{release.MediaTypeRoot}
		}
	}
	if p.oldUKI != "" {
		var err error
		if r.UKIPatch, err = patchUKI(c, from, rel, p); err != nil {
			return nil, err
		}
	}
	return r, release.Pull(c, from, rel, p.out, o)
}

// patchUKI puts the new UKI together from the old one and what that lacks; nil if all of it has to
// be fetched.
func patchUKI(c *cli.Call, from *place, rel *release.Artifact, p *pulling) (*ukiPatched, error) {
	old, err := c.Open(p.oldUKI)
	if err != nil {
		return nil, err
	}
	done, err := release.PatchUKI(c, from, rel, p.out, old)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, release.ErrNoRanges) || is[*osmith.FormatError](err) {
		fmt.Fprintf(c.Stderr, "%v: all of the UKI is fetched\n", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &ukiPatched{done.Reused, done.Fetched, done.Requests}, nil
}

// keepProof copies the signatures that were believed, and verifies again what the layout has now.
func keepProof(c *cli.Call, from *place, result *cosign.Result, policy cosign.Policy, out string) error {
	store, err := cosign.OpenDir(out)
	if err != nil {
		return err
	}
	if _, err := cosign.CopyVerified(c, store, from, result); err != nil {
		return err
	}
	_, err = cosign.Verify(c, store, result.Subject, policy)
	return err
}

// fetchTree fetches the hash tree to where the release will be.
func fetchTree(c *cli.Call, from *place, rel *release.Artifact, dir string) (*cli.Input, error) {
	if _, there := rel.Layer(release.MediaTypeTree); !there {
		return nil, cli.No{Err: errors.New("the release has no root file system: its UKI is all of it, and -old-root has nothing to be compared with")}
	}
	name, err := release.PullLayer(c, from, rel, dir, release.MediaTypeTree)
	if err != nil {
		return nil, err
	}
	return c.Open(name)
}

// patch puts the new root file system together from the old one and what that lacks.
func patch(c *cli.Call, from *place, rel *release.Artifact, p *pulling) (*patched, error) {
	old, err := c.Open(p.oldRoot)
	if err != nil {
		return nil, err
	}
	oldTree, err := c.Open(p.oldTree)
	if err != nil {
		return nil, err
	}
	if _, err := verity.ReadSuperblock(oldTree, 0); err != nil {
		return nil, cli.No{Err: fmt.Errorf("-old-tree %s: %w", p.oldTree, err)}
	}
	tree, err := fetchTree(c, from, rel, p.out)
	if err != nil {
		return nil, err
	}
	superblock, err := verity.ReadSuperblock(tree, 0)
	if err != nil {
		return nil, cli.No{Err: fmt.Errorf("the hash tree of the release: %w", err)}
	}
	want := verity.Tree{Source: tree, RootHash: rel.RootHash}
	delta, rehashed, err := compare(c, old, oldTree, want)
	if err != nil {
		return nil, err
	}
	root, _ := rel.Layer(release.MediaTypeRoot)
	remote, err := release.NewBlobReader(c, from, root)
	if err != nil {
		return nil, err
	}
	out, keep, err := target(c, root, superblock.DataSize(), remote, p)
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
		Damaged: done.Damaged * size, Rehashed: rehashed}, nil
}

// errNothingInCommon says that no tree can tell which blocks the old root file system has.
var errNothingInCommon = errors.New("the old root file system cannot be compared with the new one")

// compare finds out which blocks the old root file system has.
func compare(c *cli.Call, old *cli.Input, oldTree osmith.Source, want verity.Tree) (delta *verity.Delta, rehashed bool, err error) {
	delta, err = verity.Diff(c, verity.Tree{Source: oldTree}, want, verity.DiffOptions{})
	if !is[*verity.IncompatibleError](err) {
		return delta, false, err
	}
	fmt.Fprintf(c.Stderr, "release: %v: the old root file system is hashed again\n", err)
	again, err := rehash(c, old, oldTree, want.Source)
	if c.Err() != nil {
		return nil, false, c.Err()
	}
	if err != nil {
		return nil, false, cli.No{Err: fmt.Errorf("%w: %w", errNothingInCommon, err)}
	}
	delta, err = verity.Diff(c, verity.Tree{Source: again}, want, verity.DiffOptions{})
	return delta, true, err
}

// rehash makes a hash tree of the old root file system with the salt, the hash and the block sizes
// of the new tree: only such trees can be compared. It is not trusted more than the old tree was:
// every block that is taken is checked against the new one.
func rehash(c *cli.Call, old *cli.Input, oldTree, tree osmith.Source) (osmith.Source, error) {
	was, err := verity.ReadSuperblock(oldTree, 0)
	if err != nil {
		return nil, err
	}
	is, err := verity.ReadSuperblock(tree, 0)
	if err != nil {
		return nil, err
	}
	size := was.DataSize()
	if old.Size() < size || size%int64(is.DataBlockSize) != 0 {
		return nil, fmt.Errorf("its tree is over %d bytes, it has %d, and the new one has blocks of %d", size, old.Size(), is.DataBlockSize)
	}
	file, err := temporary(c)
	if err != nil {
		return nil, err
	}
	finish := c.WatchReads(size, old)
	_, err = verity.Format(c, file, io.NewSectionReader(old, 0, size), is.Params(0))
	finish()
	if err != nil {
		return nil, err
	}
	if size, err = verity.TreeSize(size, is.Params(0)); err != nil {
		return nil, err
	}
	return io.NewSectionReader(file, 0, size), nil
}

// target is where the new root file system goes: into a file of its own, or the one that pulling
// goes on with and finds whole. What a layer has behind the bytes that the tree covers is not
// installed, and is mostly zeros.
func target(c *cli.Call, root ocispec.Descriptor, size int64, remote *release.BlobReader, p *pulling) (out io.WriterAt, keep func() error, err error) {
	if p.outRoot != "" {
		file, err := cli.Create(p.outRoot)
		if err != nil {
			return nil, nil, err
		}
		c.AtEnd(file.Drop)
		return file, func() error { return cli.Keep(file) }, nil
	}
	file, err := release.Partial(p.out, root)
	if err != nil {
		return nil, nil, err
	}
	kept := false
	c.AtEnd(func() {
		if !kept { // a mixture
			_ = errors.Join(file.Close(), os.Remove(file.Name()))
		}
	})
	if err := file.Truncate(size); err != nil {
		return nil, nil, err
	}
	return file, func() error {
		err := errors.Join(complete(file, root, size, remote), file.Close())
		kept = err == nil
		return err
	}, nil
}

// complete adds what a layer has behind the file system: zeros, or if it has another digest then,
// what is there.
func complete(file *os.File, root ocispec.Descriptor, size int64, remote *release.BlobReader) error {
	if size >= root.Size {
		return nil
	}
	if err := file.Truncate(root.Size); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, root.Size)); err != nil {
		return err
	}
	if digest.NewDigest(digest.SHA256, sum) == root.Digest {
		return nil
	}
	_, err := io.Copy(io.NewOffsetWriter(file, size), io.NewSectionReader(remote, size, root.Size-size))
	return err
}

func (r *pullResult) text() string {
	text := fmt.Sprintf("%s %s\n%s\n", shown(r.ID), shown(r.Version), r.Release)
	for _, s := range r.Signatures {
		text += fmt.Sprintf("signed by %s\n", s)
	}
	if p := r.Patch; p != nil {
		text += fmt.Sprintf("root: %d bytes fetched in %d requests, %d taken from the old one\n", p.Fetched, p.Requests, p.Reused)
	}
	if p := r.UKIPatch; p != nil {
		text += fmt.Sprintf("UKI: %d bytes fetched in %d requests, %d taken from the old one\n", p.Fetched, p.Requests, p.Reused)
	}
	return text
}
