package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// pulling is what the flags of pull say.
type pulling struct {
	trust                                     *releasecli.Trust
	out, arch, oldRoot, oldTree, outRoot, ref string
}

func pullFlags(set *flag.FlagSet) func(*call, []string) error {
	p := &pulling{trust: releasecli.AddTrust(set)}
	set.StringVar(&p.out, "o", "", "`directory` of the layout to fetch to, made if there is none")
	set.StringVar(&p.arch, "arch", runtime.GOARCH, "`architecture` to take from an index")
	set.StringVar(&p.oldRoot, "old-root", "", "`file` or device with an older root file system, whose blocks are not fetched")
	set.StringVar(&p.oldTree, "old-tree", "", "`file` or device with its hash tree")
	set.StringVar(&p.outRoot, "o-root", "", "`file` for the new root file system, which the layout then lacks")
	return func(c *call, operands []string) error {
		if err := required("o", p.out); err != nil {
			return err
		}
		if (p.oldRoot == "") != (p.oldTree == "") {
			return cli.Usagef("-old-root and -old-tree belong together")
		}
		if p.outRoot != "" && p.oldRoot == "" {
			return cli.Usagef("-o-root without -old-root: the layout has the root file system")
		}
		p.ref = operands[1]
		if strings.Contains(p.ref, ":") {
			p.ref = "" // a digest is no name
		}
		return c.pull(operands[0], operands[1], p)
	}
}

func (c *call) pull(from, ref string, p *pulling) error {
	l, artifact, err := c.find(from, ref)
	if err != nil {
		return err
	}
	policy, err := p.trust.Load(l.repository, nil)
	if err != nil {
		return err
	}
	// Nothing is fetched that was not verified before, but by its digest.
	proof, err := cosign.Verify(c, l, artifact, policy)
	if err != nil {
		return err
	}
	verified, err := releasecli.NewVerification(artifact.Digest, proof, nil)
	if err != nil {
		return err
	}
	chosen, err := release.Select(c, l, proof.Subject, p.arch)
	if err != nil {
		return err
	}
	rel, err := release.Read(c, l, chosen)
	if err != nil {
		return err
	}
	o := release.PullOptions{Ref: p.ref, Progress: c.Progress()}
	if chosen.Digest != proof.Subject.Digest {
		o.Index = &proof.Subject
	}
	r := pullResult{header: c.header(), Digest: string(proof.Subject.Digest), Release: string(chosen.Digest), ID: rel.ID, Version: rel.Version,
		RootHash: hex.EncodeToString(rel.RootHash), Signatures: verified.Signatures, Size: rel.Size()}
	if p.oldRoot != "" {
		// The tree is needed first, and the manifest is listed last.
		r.Patch, err = c.patch(l, rel, p)
		if errors.Is(err, release.ErrNoRanges) && p.outRoot == "" {
			fmt.Fprintf(c.Stderr, "release: %v: all of the root file system is fetched\n", release.ErrNoRanges)
			err = nil
		}
		if err != nil {
			return err
		}
		if p.outRoot != "" {
			o.Skip = []string{release.MediaTypeRoot}
		}
	}
	if err := release.Pull(c, l, rel, p.out, o); err != nil {
		return err
	}
	if err := c.keepProof(l, proof.Subject, policy, p.out); err != nil {
		return err
	}
	return c.Answer(r, r.text())
}

// keepProof copies the signatures, and verifies again what the layout has now.
func (c *call) keepProof(l *layout, artifact ocispec.Descriptor, policy cosign.Policy, out string) error {
	store, err := cosign.OpenDir(out)
	if err != nil {
		return err
	}
	if _, err := cosign.CopySignatures(c, store, l, artifact); err != nil {
		return err
	}
	_, err = cosign.Verify(c, store, artifact, policy)
	return err
}
