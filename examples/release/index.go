package main

import (
	"flag"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func indexFlags(set *flag.FlagSet) func(*call, []string) error {
	out := set.String("o", "", "`directory` of the layout with the releases")
	ref := set.String("ref", "", "`name` of the index in the layout")
	return func(c *call, operands []string) error {
		if err := required("o", *out, "ref", *ref); err != nil {
			return err
		}
		l, err := existing(*out)
		if err != nil {
			return err
		}
		r := packResult{header: c.header(), Ref: *ref}
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
				return cli.No{Err: fmt.Errorf("%s: the release is for %s", operand, releasecli.Shown(a.Architecture))}
			case len(manifests) > 0 && (a.ID != r.ID || a.Version != r.Version):
				return cli.No{Err: fmt.Errorf("%s is %s %s, and another is %s %s", operand, releasecli.Shown(a.ID), releasecli.Shown(a.Version), releasecli.Shown(r.ID), releasecli.Shown(r.Version))}
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
		return c.Answer(r, fmt.Sprintf("%s %s for %d architectures\n%s\n", releasecli.Shown(r.ID), releasecli.Shown(r.Version), len(manifests), r.Digest))
	}
}
