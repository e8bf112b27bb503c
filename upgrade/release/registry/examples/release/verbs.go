package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// open splits REGISTRY/REPO:TAG or REGISTRY/REPO@DIGEST and opens the repository.
func (c *call) open(name string) (*registry.Repository, string, error) {
	base, ref, ok := strings.Cut(name, "@")
	if !ok {
		colon := strings.LastIndex(name, ":")
		if colon < strings.LastIndex(name, "/") {
			return nil, "", releasecli.UsageError{Text: fmt.Sprintf("%q: want REGISTRY/REPO:TAG or REGISTRY/REPO@DIGEST", name)}
		}
		base, ref = name[:max(colon, 0)], name[colon+1:]
	}
	o := registry.OpenOptions{Client: http.DefaultClient, PlainHTTP: c.plainHTTP, OnRetry: func(attempt int, wait time.Duration, err error) {
		fmt.Fprintf(c.stderr, "release: attempt %d: %v; the next in %v\n", attempt, err, wait.Round(100*time.Millisecond))
	}}
	if c.user != "" {
		o.Credentials = func(context.Context, string) (registry.Credentials, error) {
			return registry.Credentials{Username: c.user, Password: os.Getenv("REGISTRY_PASSWORD")}, nil
		}
	}
	repo, err := registry.Open(base, o)
	if err != nil {
		return nil, "", releasecli.UsageError{Text: err.Error()}
	}
	c.report.Name = repo.Name()
	return repo, ref, nil
}

// find resolves a tag, which is only a hint.
func (c *call) find(name string) (*registry.Repository, ocispec.Descriptor, error) {
	repo, ref, err := c.open(name)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	d, err := repo.Resolve(c, ref)
	c.report.Digest = string(d.Digest)
	return repo, d, err
}

func pushFlags(c *call) func() error {
	return func() error {
		layout, err := cosign.OpenLayout(os.DirFS(c.operands[0]))
		if err != nil {
			return err
		}
		artifact, err := layout.Resolve(c.operands[1])
		if err != nil {
			return err
		}
		repo, tag, err := c.open(c.operands[2])
		if err != nil {
			return err
		}
		if strings.Contains(tag, ":") {
			return releasecli.UsageError{Text: "push wants a tag, not a digest"}
		}
		c.report.Digest = string(artifact.Digest)
		return repo.Push(c, layout, artifact, registry.PushOptions{Tag: tag})
	}
}

func signFlags(c *call) func() error {
	key := c.flags.String("key", "", "`file` with the private key, PEM")
	format := c.flags.String("format", "", "`legacy` (of cosign 1 and 2) or bundle (of cosign 3) (default: both)")
	return func() error {
		which, err := releasecli.Formats(*format, cosign.FormatSimpleSigning, cosign.FormatSimpleSigning, cosign.FormatBundle)
		if err != nil {
			return err
		}
		if *key == "" {
			return releasecli.UsageError{Text: "-key is missing"}
		}
		signer, err := releasecli.ReadSigner(*key)
		if err != nil {
			return err
		}
		repo, artifact, err := c.find(c.operands[0])
		if err != nil {
			return err
		}
		if c.report.Key, err = releasecli.Fingerprint(signer.Public()); err != nil {
			return err
		}
		for _, f := range which {
			c.report.Formats = append(c.report.Formats, releasecli.FormatNames[f])
		}
		return cosign.Sign(c, repo.Writer(c), artifact, signer, cosign.SignOptions{Formats: which, Reference: repo.Name()})
	}
}

// verify finds an artifact and holds it against the policy.
func (c *call) verify(trust *releasecli.Trust) (*registry.Repository, *cosign.Result, cosign.Policy, error) {
	var none cosign.Policy
	repo, artifact, err := c.find(c.operands[0])
	if err != nil {
		return nil, nil, none, err
	}
	policy, err := trust.Load(repo.Name(), nil)
	if err != nil {
		return nil, nil, none, err
	}
	result, refused := cosign.Verify(c, repo, artifact, policy)
	if c.report.Verification, err = releasecli.NewVerification(artifact.Digest, result, refused); err != nil {
		return nil, nil, none, err
	}
	return repo, result, policy, refused
}

func verifyFlags(c *call) func() error {
	trust := releasecli.AddTrust(c.flags)
	return func() error {
		_, _, _, err := c.verify(trust)
		return err
	}
}

func inspectFlags(c *call) func() error {
	return func() error {
		repo, artifact, err := c.find(c.operands[0])
		if err != nil {
			return err
		}
		const most = 4 << 20
		if artifact.Size > most {
			return fmt.Errorf("%s: a manifest of %d bytes, at most %d are read", artifact.Digest, artifact.Size, most)
		}
		blob, err := cosign.OpenBlob(c, repo, artifact)
		if err != nil {
			return err
		}
		defer blob.Close()
		text, err := io.ReadAll(blob)
		if err != nil {
			return err
		}
		var index ocispec.Index
		if err := json.Unmarshal(text, &index); err != nil {
			return &osmith.FormatError{Offset: -1, Field: "manifest " + string(artifact.Digest), Err: err}
		}
		if index.Manifests == nil {
			a, err := release.Read(c, repo, artifact)
			if err != nil {
				return err
			}
			c.report.Release = newAbout(a)
		}
		for _, m := range index.Manifests {
			e := entry{Digest: string(m.Digest)}
			if m.Platform != nil {
				e.Architecture = m.Platform.Architecture
			}
			c.report.Manifests = append(c.report.Manifests, e)
		}
		found, err := repo.Signatures(c, artifact)
		for _, d := range found {
			c.report.Signatures = append(c.report.Signatures, string(d.Digest))
		}
		return err
	}
}

func pullFlags(c *call) func() error {
	trust := releasecli.AddTrust(c.flags)
	out := c.flags.String("o", "", "`directory` of the layout to fetch to, made if there is none")
	arch := c.flags.String("arch", runtime.GOARCH, "`architecture` to take from an index")
	return func() error {
		if *out == "" {
			return releasecli.UsageError{Text: "-o is missing"}
		}
		// Nothing is fetched that was not verified before, but by its digest.
		repo, proof, policy, err := c.verify(trust)
		if err != nil {
			return err
		}
		chosen, err := release.Select(c, repo, proof.Subject, *arch)
		if err != nil {
			return err
		}
		a, err := release.Read(c, repo, chosen)
		if err != nil {
			return err
		}
		o := release.PullOptions{}
		if chosen.Digest != proof.Subject.Digest {
			o.Index = &proof.Subject
		}
		if _, ref, err := c.open(c.operands[0]); err == nil && !strings.Contains(ref, ":") {
			o.Ref = ref
		}
		if err := release.Pull(c, repo, a, *out, o); err != nil {
			return err
		}
		store, err := cosign.OpenDir(*out)
		if err != nil {
			return err
		}
		if _, err := cosign.CopySignatures(c, store, repo, proof.Subject); err != nil {
			return err
		}
		c.report.Release = newAbout(a)
		_, err = cosign.Verify(c, store, proof.Subject, policy)
		return err
	}
}
