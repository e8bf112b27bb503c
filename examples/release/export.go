package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// exporting is what the flags of export say.
type exporting struct {
	access           *access
	wanted           *wanted
	out, definitions string
	url, path, boot  string
	bestBefore       string
	o                sysupdate.ExportOptions
}

func exportFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	e := &exporting{access: accessFlags(set), wanted: wantedFlags(set)}
	set.StringVar(&e.out, "o", "", "`directory` to export to, made if there is none; it may have other versions")
	set.StringVar(&e.definitions, "definitions", "", "`directory` for the definitions of transfers, for /usr/lib/sysupdate.d of the machines; made if there is none")
	set.StringVar(&e.url, "url", "", "`address` at which machines find what -o has")
	set.StringVar(&e.path, "path", "", "absolute `path` at which machines find what -o has, in place of -url")
	set.StringVar(&e.o.Disk, "disk", "auto", "`path` of the machines' disk; auto is the one with the root file system")
	set.StringVar(&e.boot, "boot", "esp", "`partition` for UKIs: esp, xbootldr, or boot for the second where there is one")
	set.Uint64Var(&e.o.Tries, "tries", 3, "how often a new UKI is tried, a `number`")
	set.Uint64Var(&e.o.InstancesMax, "instances", 2, "how many versions there are at once, a `number`")
	set.BoolVar(&e.o.Unsigned, "unsigned", false, "make definitions that want no signature of SHA256SUMS")
	set.StringVar(&e.bestBefore, "best-before", "", "`date`, YYYY-MM-DD, after which machines take nothing from the directory (default: as it was)")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("o", e.out); err != nil {
			return err
		}
		if e.url != "" && e.path != "" {
			return cli.Usagef("-url and -path: say one of them")
		}
		if (e.definitions != "") != (e.url != "" || e.path != "") {
			return cli.Usagef("-definitions needs -url or -path, and they need it")
		}
		e.o.Boot, e.o.SourceType, e.o.Source = sysupdate.Base(e.boot), sysupdate.URLFile, e.url
		if e.path != "" {
			e.o.SourceType, e.o.Source = sysupdate.RegularFile, e.path
		}
		return e.export(c, operands)
	}
}

func (e *exporting) export(c *cli.Call, operands []string) (err error) {
	from, d, err := find(c, operands, e.access)
	if err != nil {
		return err
	}
	a, err := e.wanted.choose(c, from, d)
	if err != nil {
		return err
	}
	rel, done, err := openWhole(c, from, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := rel.Check(c); err != nil {
		return err
	}
	x, err := sysupdate.Export(rel, e.o)
	if err != nil {
		return cli.No{Err: err}
	}
	r := &exportResult{Header: c.Header(), Digest: string(a.Descriptor.Digest), ID: rel.ID, Version: rel.Version, Files: []exportedFile{}, Definitions: []string{},
		Left: append([]string{}, x.Left...), ToSign: filepath.Join(e.out, sysupdate.ManifestName)}
	if err := e.write(c, x, rel, r); err != nil {
		return err
	}
	return c.Answer(r, r.text())
}

// write writes the parts, then the definitions, and the manifest when all that it lists is there.
func (e *exporting) write(c *cli.Call, x *sysupdate.Exported, rel *release.Release, r *exportResult) error {
	if err := os.MkdirAll(e.out, 0o755); err != nil {
		return err
	}
	m, err := readManifest(r.ToSign)
	if err != nil {
		return err
	}
	if err := unlike(m, x, rel.Version); err != nil {
		return err
	}
	outputs, err := e.parts(c, x, m, r)
	defer func() {
		for _, o := range outputs {
			o.Drop()
		}
	}()
	if err != nil {
		return err
	}
	if e.bestBefore != "" {
		name, err := m.SetBestBefore(e.bestBefore)
		if err != nil {
			return cli.Usagef("-best-before: %v", err)
		}
		empty, err := cli.Create(filepath.Join(e.out, name))
		if err != nil {
			return err
		}
		outputs = append(outputs, empty)
	}
	r.BestBefore = m.BestBefore()
	for _, d := range x.Transfers {
		if err := os.MkdirAll(e.definitions, 0o755); err != nil {
			return err
		}
		if err := cli.WriteFile(filepath.Join(e.definitions, d.Name), []byte(d.Text)); err != nil {
			return err
		}
		r.Definitions = append(r.Definitions, d.Name)
	}
	if err := cli.Keep(outputs...); err != nil {
		return err
	}
	var list bytes.Buffer
	if _, err := m.WriteTo(&list); err != nil {
		return err
	}
	return cli.WriteFile(r.ToSign, list.Bytes())
}

// readManifest reads what earlier versions have left; a manifest that is not there lists nothing.
func readManifest(name string) (*sysupdate.Manifest, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &sysupdate.Manifest{}, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := sysupdate.ReadManifest(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return m, f.Close()
}

// unlike refuses a version of which the manifest has a part by another name: machines would find
// two of them.
func unlike(m *sysupdate.Manifest, x *sysupdate.Exported, version string) error {
	for _, name := range m.Names() {
		for _, f := range x.Files {
			have, ok := f.Pattern.Match(name)
			if ok && name != f.Name && bootloader.CompareVersions(have.Version, version) == 0 {
				return cli.No{Err: fmt.Errorf("%s lists %s, another part of version %s than %s: give what has changed another version", sysupdate.ManifestName, name, version, f.Name)}
			}
		}
	}
	return nil
}

// parts copies the parts, and lists them.
func (e *exporting) parts(c *cli.Call, x *sysupdate.Exported, m *sysupdate.Manifest, r *exportResult) (outputs []*cli.Output, err error) {
	var total, done int64
	for _, f := range x.Files {
		total += f.Content.Size()
	}
	progress := c.Progress()
	for _, f := range x.Files {
		o, err := cli.Create(filepath.Join(e.out, f.Name))
		if err != nil {
			return outputs, err
		}
		outputs = append(outputs, o)
		sum := sha256.New()
		buffer := make([]byte, 1<<20)
		for content := io.NewSectionReader(f.Content, 0, f.Content.Size()); ; {
			if err := c.Err(); err != nil {
				return outputs, err
			}
			n, err := content.Read(buffer)
			if n > 0 {
				if _, err := o.Write(buffer[:n]); err != nil {
					return outputs, err
				}
				_, _ = sum.Write(buffer[:n]) // never fails
				if done += int64(n); progress != nil {
					progress(done, total)
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return outputs, err
			}
		}
		digest := [sha256.Size]byte(sum.Sum(nil))
		if err := m.Set(f.Name, digest); err != nil {
			return outputs, err
		}
		r.Files = append(r.Files, exportedFile{Name: f.Name, Size: f.Content.Size(), Digest: "sha256:" + hex.EncodeToString(digest[:])})
	}
	return outputs, nil
}

// text is the answer for people.
func (r *exportResult) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", shown(r.ID), shown(r.Version))
	for _, f := range r.Files {
		fmt.Fprintf(&b, "%s %s\n", f.Digest, f.Name)
	}
	for _, left := range r.Left {
		fmt.Fprintf(&b, "left out: %s\n", left)
	}
	fmt.Fprintf(&b, "to be signed: %s\n", r.ToSign)
	return b.String()
}
