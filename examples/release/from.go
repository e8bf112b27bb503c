package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/uki"
)

// uuid is how the UUID of a partition stands in a name: "%U" of repart.d(5) has no hyphens.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$`)

// partitionOf is what a file is whose name systemd-repart has made: NAME.TYPE.raw, or
// NAME.TYPE.UUID.raw with "SplitName=%t.%U" (systemd-repart(8), "--split="; repart.d(5),
// "SplitName="), with "root-x86-64-verity" for a type. mkosi hands these files over as they are. It
// is "", "-verity" or "-verity-sig".
func partitionOf(name string) (kind string, ok bool) {
	name, ok = strings.CutSuffix(name, ".raw")
	words := strings.Split(name, ".")
	if n := len(words); ok && n > 2 && uuid.MatchString(words[n-1]) {
		words = words[:n-1]
	}
	if !ok || len(words) < 2 {
		return "", false
	}
	kind = words[len(words)-1]
	for _, use := range []string{"root", "usr"} {
		if rest, is := strings.CutPrefix(kind, use); is && (rest == "" || rest[0] == '-') {
			for _, end := range []string{"-verity-sig", "-verity"} {
				if strings.HasSuffix(rest, end) {
					return end, true
				}
			}
			return "", true
		}
	}
	return "", false
}

// found takes the parts of a set from the directory that mkosi or systemd-repart has written them
// to. What flags name stays.
func (p *packing) found(c *cli.Call, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	parts := map[*string][]string{}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch kind, ok := partitionOf(e.Name()); {
		case ok:
			to := map[string]*string{"": &p.root, "-verity": &p.tree, "-verity-sig": &p.signature}[kind]
			parts[to] = append(parts[to], name)
		case strings.HasSuffix(strings.ToLower(e.Name()), ".addon.efi"):
			if !slices.Contains(p.addons, name) {
				p.addons = append(p.addons, name)
			}
		case strings.HasSuffix(e.Name(), ".efi"):
			is, err := isUKI(c, name)
			if err != nil {
				return err
			}
			if is {
				parts[&p.uki] = append(parts[&p.uki], name)
			}
		}
	}
	for _, part := range []struct {
		flag string
		to   *string
	}{{"uki", &p.uki}, {"root", &p.root}, {"tree", &p.tree}, {"sig", &p.signature}} {
		switch list := parts[part.to]; {
		case *part.to != "":
		case len(list) > 1:
			return cli.Usagef("-from %s: which one is it, %s? say -%s", dir, strings.Join(list, " or "), part.flag)
		case len(list) == 1:
			*part.to = list[0]
		case part.flag != "sig":
			return cli.Usagef("-from %s: it has no file for -%s: want what mkosi writes with SplitArtifacts=uki,partitions, or systemd-repart with --split=yes", dir, part.flag)
		}
	}
	return nil
}

// isUKI tells a UKI from boot loaders and other programs by its content.
func isUKI(c *cli.Call, name string) (bool, error) {
	file, err := c.Open(name)
	if err != nil {
		return false, err
	}
	f, err := uki.Open(file)
	if err != nil {
		return false, nil
	}
	if _, err := f.OSRelease(); err != nil {
		return false, nil
	}
	_, kernel := f.Section(".linux")
	return kernel, nil
}
