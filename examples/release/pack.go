package main

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// packing is what the flags of pack say.
type packing struct {
	out, from, ref, id, version, variant, arch         string
	uki, root, tree, rootHash, signature, loader, pcrs string
	addons, extensions, sboms                          cli.List
	support                                            support
}

// support is what flags say about the support of a release.
type support struct {
	until release.Date
	fixes []string
}

func (s *support) flags(set *flag.FlagSet, otherwise string) {
	set.Func("supported-until", "`date` of the last day of support, such as 2031-12-31 (default: "+otherwise+")", func(text string) (err error) {
		s.until, err = release.ParseDate(text)
		return err
	})
	set.Func("fixes", "`list` of what the version fixes, such as CVE-2026-1234,CVE-2026-1235; may be repeated", func(text string) error {
		s.fixes = append(s.fixes, strings.Split(text, ",")...)
		return release.CheckSupport("", s.fixes)
	})
}

func packFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	p := new(packing)
	set.StringVar(&p.out, "o", "", "`directory` of the layout, made if there is none")
	set.StringVar(&p.from, "from", "", "`directory` that mkosi (SplitArtifacts=uki,partitions) or systemd-repart (--split=yes) has written, for what -uki, -root, -tree, -sig and -addon do not name")
	set.StringVar(&p.ref, "ref", "", "`name` in the layout (default: the version)")
	set.StringVar(&p.id, "id", "", "`name` of the system (default: IMAGE_ID or ID of the UKI's os-release)")
	set.StringVar(&p.version, "version", "", "`version` (default: IMAGE_VERSION or VERSION_ID of the UKI's os-release)")
	set.StringVar(&p.variant, "variant", "", "`variant` of the system (default: VARIANT_ID of the UKI's os-release)")
	set.StringVar(&p.arch, "arch", "", "`architecture` as Go names it: amd64, arm64, riscv64... (default: that of the UKI)")
	set.StringVar(&p.uki, "uki", "", "`file` with the signed UKI")
	set.StringVar(&p.root, "root", "", "`file` with the root file system; without it and -tree the UKI is all of the release")
	set.StringVar(&p.tree, "tree", "", "`file` with superblock and hash tree of it")
	set.StringVar(&p.rootHash, "roothash", "", "`HEX` that the root hash must be (default: as computed)")
	set.StringVar(&p.signature, "sig", "", "`file` with the content of the verity-sig partition")
	set.StringVar(&p.loader, "loader", "", "`file` with the signed boot loader")
	set.StringVar(&p.pcrs, "pcrs", "", "`file` with predicted PCRs, JSON")
	set.Var(&p.addons, "addon", "`file` with a signed add-on of the UKI; may be repeated")
	set.Var(&p.extensions, "extension", "`file` with a signed extension, NAME.sysext.raw or NAME.confext.raw, whose file system is EROFS; may be repeated")
	set.Var(&p.sboms, "sbom", "`file` with an SBOM, SPDX or CycloneDX in JSON; may be repeated")
	p.support.flags(set, "SUPPORT_END of the UKI's os-release")
	return func(c *cli.Call, _ []string) error {
		if p.from != "" {
			if err := p.found(c, p.from); err != nil {
				return err
			}
		}
		if err := cli.Required("o", p.out, "uki", p.uki); err != nil {
			return err
		}
		if p.root != "" || p.tree != "" || p.rootHash != "" { // else the UKI is all of the release
			if err := cli.Required("root", p.root, "tree", p.tree); err != nil {
				return err
			}
		}
		return pack(c, p)
	}
}

func pack(c *cli.Call, p *packing) error {
	contents, err := openParts(c, p)
	if err != nil {
		return err
	}
	ref := cmp.Or(p.ref, contents.Version)
	d, err := release.Pack(p.out, ref, contents)
	if err != nil {
		return err
	}
	l, err := existing(p.out)
	if err != nil {
		return err
	}
	packed, err := release.Read(c, l, d)
	if err != nil {
		return err
	}
	r := packResult{Header: c.Header(), Digest: string(d.Digest), Ref: ref, ID: contents.ID, Version: contents.Version,
		RootHash: hex.EncodeToString(contents.RootHash), Size: packed.Size(), supported: newSupported(packed.SupportedUntil, packed.Fixes)}
	return c.Answer(r, fmt.Sprintf("%s %s\n%s\n%s", shown(r.ID), shown(r.Version), r.Digest, r.supported.text()))
}

// openParts opens the parts and makes sure that they belong together.
func openParts(c *cli.Call, p *packing) (*release.Release, error) {
	r := &release.Release{ID: p.id, Version: p.version, Variant: p.variant, Architecture: p.arch, SupportedUntil: p.support.until, Fixes: p.support.fixes}
	for _, part := range []struct {
		name string
		to   *osmith.Source
	}{{p.uki, &r.UKI}, {p.root, &r.Root}, {p.tree, &r.Tree}, {p.signature, &r.RootHashSignature}, {p.loader, &r.Loader}, {p.pcrs, &r.PCRs}} {
		if part.name == "" {
			continue
		}
		file, err := c.Open(part.name)
		if err != nil {
			return nil, err
		}
		*part.to = file
	}
	for _, name := range p.addons {
		file, err := c.Open(name)
		if err != nil {
			return nil, err
		}
		r.Addons = append(r.Addons, release.Addon{Name: filepath.Base(name), Content: file})
	}
	for _, name := range p.extensions {
		x, err := openExtension(c, name)
		if err != nil {
			return nil, err
		}
		r.Extensions = append(r.Extensions, *x)
	}
	for _, name := range p.sboms {
		document, err := sbom(c, name)
		if err != nil {
			return nil, err
		}
		r.SBOMs = append(r.SBOMs, *document)
	}
	if err := r.Identify(); err != nil {
		return nil, cli.No{Err: fmt.Errorf("-uki %s: %w", p.uki, err)}
	}
	if err := bind(c, r, p); err != nil {
		return nil, err
	}
	return r, r.Check(c)
}

// bind computes the root hash, which makes root file system and tree one image, and compares it
// with what else is said about it.
func bind(c *cli.Call, r *release.Release, p *packing) error {
	if r.Root == nil {
		return nil
	}
	superblock, err := verity.ReadSuperblock(r.Tree, 0)
	if err != nil {
		return cli.No{Err: fmt.Errorf("-tree %s: %w", p.tree, err)}
	}
	if superblock.DataSize() > r.Root.Size() {
		return cli.No{Err: fmt.Errorf("-tree %s is one of %d bytes, and %s has %d", p.tree, superblock.DataSize(), p.root, r.Root.Size())}
	}
	same := &comparison{tree: r.Tree}
	root := r.Root.(*cli.Input)
	if superblock.DataSize() < root.Size() {
		// A partition is larger than the file system in it. What is behind it is not verified, and
		// so no part of the release.
		r.Root = io.NewSectionReader(root, 0, superblock.DataSize())
	}
	size, err := verity.TreeSize(superblock.DataSize(), superblock.Params(0))
	if err != nil {
		return cli.No{Err: fmt.Errorf("-tree %s: %w", p.tree, err)}
	}
	if size < r.Tree.Size() {
		r.Tree = io.NewSectionReader(r.Tree, 0, size)
	}
	finish := c.WatchReads(r.Root.Size(), root)
	r.RootHash, err = verity.Format(c, same, r.Root, superblock.Params(0))
	finish()
	if err != nil {
		return err
	}
	if same.differs {
		return cli.No{Err: fmt.Errorf("-tree %s is not the hash tree of %s", p.tree, p.root)}
	}
	if want := p.rootHash; want != "" {
		b, err := hex.DecodeString(want)
		if err != nil {
			return cli.Usagef("-roothash: %v", err)
		}
		if string(b) != string(r.RootHash) {
			return cli.No{Err: fmt.Errorf("-roothash %s: the root hash of %s is %x", want, p.root, r.RootHash)}
		}
	}
	return nil
}

// sbom opens an SBOM and tells its kind by its content.
func sbom(c *cli.Call, name string) (*release.SBOM, error) {
	file, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	var head struct {
		SPDX      string `json:"spdxVersion"`
		CycloneDX string `json:"bomFormat"`
	}
	if err := json.NewDecoder(io.NewSectionReader(file, 0, file.Size())).Decode(&head); err != nil {
		return nil, cli.No{Err: fmt.Errorf("-sbom %s: %w", name, err)}
	}
	d := &release.SBOM{Name: filepath.Base(name), Content: file}
	switch {
	case head.SPDX != "":
		d.MediaType = release.MediaTypeSPDX
	case head.CycloneDX == "CycloneDX":
		d.MediaType = release.MediaTypeCycloneDX
	default:
		return nil, cli.No{Err: fmt.Errorf("-sbom %s: neither SPDX nor CycloneDX", name)}
	}
	return d, nil
}

// A comparison is written to instead of a file that should have the same bytes already.
type comparison struct {
	tree    io.ReaderAt
	differs bool
}

// WriteAt compares.
func (c *comparison) WriteAt(b []byte, off int64) (int, error) {
	have := make([]byte, len(b))
	if n, err := c.tree.ReadAt(have, off); n < len(have) && err != nil && err != io.EOF {
		return 0, err
	}
	c.differs = c.differs || !bytes.Equal(b, have)
	return len(b), nil
}

func indexFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	out := set.String("o", "", "`directory` of the layout with the releases")
	ref := set.String("ref", "", "`name` of the index in the layout")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("o", *out, "ref", *ref); err != nil {
			return err
		}
		l, err := existing(*out)
		if err != nil {
			return err
		}
		r := packResult{Header: c.Header(), Ref: *ref}
		manifests := map[string]ocispec.Descriptor{}
		for _, operand := range operands {
			arch, name, ok := strings.Cut(operand, "=")
			if !ok || arch == "" || name == "" {
				return cli.Usagef("%q: want ARCH=REF, such as amd64=2-amd64", operand)
			}
			if _, twice := manifests[arch]; twice {
				return cli.Usagef("%s: two releases for %s", operand, arch)
			}
			d, err := l.Resolve(name)
			if err != nil {
				return err
			}
			a, err := release.Read(c, l, d)
			if err != nil {
				return err
			}
			switch {
			case a.Architecture != "" && a.Architecture != arch:
				return cli.No{Err: fmt.Errorf("%s: the release is for %s", operand, shown(a.Architecture))}
			case len(manifests) > 0 && (a.ID != r.ID || a.Version != r.Version):
				return cli.No{Err: fmt.Errorf("%s is %s %s, and another is %s %s", operand, shown(a.ID), shown(a.Version), shown(r.ID), shown(r.Version))}
			}
			r.ID, r.Version = a.ID, a.Version
			r.Size += a.Size()
			manifests[arch] = d
		}
		d, err := release.PackIndex(*out, *ref, manifests)
		if err != nil {
			return err
		}
		r.Digest = string(d.Digest)
		return c.Answer(r, fmt.Sprintf("%s %s for %d architectures\n%s\n", shown(r.ID), shown(r.Version), len(manifests), r.Digest))
	}
}
