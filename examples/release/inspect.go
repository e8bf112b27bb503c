package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func inspectFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	access := accessFlags(set)
	check := set.Bool("check", false, "read every blob, too, hold it against its digest, and judge whether the parts belong together")
	return func(c *cli.Call, operands []string) error {
		p, d, err := find(c, operands, access)
		if err != nil {
			return err
		}
		r := &inspectResult{Header: c.Header(), Digest: string(d.Digest), Layers: []layer{}, Manifests: []entry{}, Signatures: []attached{}, Checked: *check}
		if err := inspect(c, p, d, r); err != nil {
			return err
		}
		if p.registry != nil {
			return c.Answer(r.inRegistry(p.repository), r.text())
		}
		return c.Answer(r, r.text())
	}
}

// readDocument reads a manifest, checked.
func readDocument(c *cli.Call, p *place, d ocispec.Descriptor, into any) error {
	const most = 4 << 20
	if d.Size > most {
		return fmt.Errorf("%s: a manifest of %d bytes", d.Digest, d.Size)
	}
	blob, err := cosign.OpenBlob(c, p, d)
	if err != nil {
		return err
	}
	defer blob.Close()
	b, err := io.ReadAll(blob)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return cli.No{Err: fmt.Errorf("%s: %w", d.Digest, err)}
	}
	return nil
}

func inspect(c *cli.Call, p *place, d ocispec.Descriptor, r *inspectResult) error {
	var index ocispec.Index
	if err := readDocument(c, p, d, &index); err != nil {
		return err
	}
	if index.ArtifactType != release.ArtifactType {
		return cli.No{Err: fmt.Errorf("%s is a %q, not a release (%s)", d.Digest, index.ArtifactType, release.ArtifactType)}
	}
	if isIndex(&index) {
		if err := inspectIndex(c, p, d, &index, r); err != nil {
			return err
		}
	} else if err := inspectRelease(c, p, d, r); err != nil {
		return err
	}
	candidates, err := p.Signatures(c, d)
	if err != nil {
		return err
	}
	for _, candidate := range candidates {
		a, err := attachedTo(c, p, candidate, d)
		if err != nil {
			return err
		}
		if a != nil {
			r.Signatures = append(r.Signatures, *a)
		}
	}
	return nil
}

func inspectRelease(c *cli.Call, p *place, d ocispec.Descriptor, r *inspectResult) error {
	a, err := release.Read(c, p, d)
	if err != nil {
		return err
	}
	r.ID, r.Version, r.Arch, r.RootHash, r.Size = a.ID, a.Version, a.Architecture, hex.EncodeToString(a.RootHash), a.Size()
	r.supported = newSupported(a.SupportedUntil, a.Fixes)
	r.Kind = "release"
	for _, part := range a.Layers {
		r.Layers = append(r.Layers, layer{part.MediaType, part.Annotations[ocispec.AnnotationTitle], string(part.Digest), part.Size})
	}
	if r.Checked {
		return judge(c, p, a)
	}
	return nil
}

// inspectIndex lists the releases of an index, and checks that they are one version for the
// architectures that the index says.
func inspectIndex(c *cli.Call, p *place, d ocispec.Descriptor, index *ocispec.Index, r *inspectResult) error {
	r.Kind = "index"
	if r.Checked {
		if _, err := releasesOf(d, index); err != nil {
			return err
		}
	}
	var first *release.Artifact
	for _, m := range index.Manifests {
		e := entry{Digest: string(m.Digest), Size: m.Size}
		if m.Platform != nil {
			e.Arch = m.Platform.Architecture
		}
		r.Manifests = append(r.Manifests, e)
		if !r.Checked {
			continue
		}
		a, err := release.Read(c, p, m)
		if err != nil {
			return absent(err)
		}
		if first == nil {
			first = a
		}
		if err := a.Matches(release.Wanted{ID: first.ID, Variant: first.Variant, Version: first.Version, Architecture: e.Arch}); err != nil {
			return err
		}
		if err := judge(c, p, a); err != nil {
			return err
		}
	}
	return nil
}

// judge reads all of a release against its digests, and asks whether its parts belong together.
func judge(c *cli.Call, p *place, a *release.Artifact) error {
	r, done, err := openWhole(c, p, a)
	if err != nil {
		return err
	}
	err = r.Check(c)
	return errors.Join(err, done())
}

// openWhole opens a release with every blob checked against its digest.
func openWhole(c *cli.Call, p *place, a *release.Artifact) (r *release.Release, done func() error, err error) {
	fsys, remove := fs.FS(nil), func() error { return nil }
	if p.dir != "" {
		fsys = os.DirFS(p.dir)
	} else {
		// What a server has is read once, and must be there as a whole to be judged.
		dir, err := os.MkdirTemp("", "release-")
		if err != nil {
			return nil, nil, err
		}
		c.AtEnd(func() { _ = os.RemoveAll(dir) }) // should it not be gone by then
		if err := release.Pull(c, p, a, dir, release.PullOptions{Progress: c.Progress()}); err != nil {
			return nil, nil, absent(err)
		}
		fsys, remove = os.DirFS(dir), func() error { return os.RemoveAll(dir) }
	}
	if r, err = release.Open(c, fsys, a.Descriptor); err != nil {
		return nil, nil, absent(err)
	}
	return r, func() error { return errors.Join(r.Close(), remove()) }, nil
}

// absent makes a blob that is not there an answer.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return cli.No{Err: err}
	}
	return err
}

// attachedTo describes a manifest that may hold signatures; nil if it belongs to something else.
func attachedTo(c *cli.Call, p *place, d, artifact ocispec.Descriptor) (*attached, error) {
	var m ocispec.Manifest
	if err := readDocument(c, p, d, &m); err != nil {
		return nil, err
	}
	if m.Subject != nil && m.Subject.Digest != artifact.Digest || m.Subject == nil && m.ArtifactType != "" {
		return nil, nil
	}
	a := &attached{Manifest: string(d.Digest), MediaTypes: []string{}}
	for _, l := range m.Layers {
		a.MediaTypes = append(a.MediaTypes, l.MediaType)
	}
	return a, nil
}

func (r *inspectResult) text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	switch r.Kind {
	case "release":
		line("release %s %s", shown(r.ID), shown(r.Version))
		line("  digest    %s", r.Digest)
		line("  root hash %s", r.RootHash)
		if r.Arch != "" {
			line("  for       %s", shown(r.Arch))
		}
		b.WriteString(r.supported.text())
		line("layers: %d bytes", r.Size)
		for _, l := range r.Layers {
			line("  %12d  %-24s %s", l.Size, shown(l.Title), strings.TrimPrefix(l.MediaType, "application/"))
			line("                %s", l.Digest)
		}
	case "index":
		line("index of %d releases", len(r.Manifests))
		line("  digest    %s", r.Digest)
		for _, m := range r.Manifests {
			line("  %-9s %s", shown(m.Arch), m.Digest)
		}
	}
	line("signatures and attestations, not verified: %d", len(r.Signatures))
	for _, s := range r.Signatures {
		line("  %s", s.Manifest)
		for _, t := range s.MediaTypes {
			line("    %s", shown(t))
		}
	}
	if r.Checked {
		line("every blob is what its digest says, and the parts belong together")
	}
	return b.String()
}
