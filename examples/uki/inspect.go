package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"path/filepath"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/diagram"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

func inspectFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	assume := addAssume(set)
	asUkify := set.Bool("ukify-json", false, "print the object that ukify 262 prints with inspect --json=pretty")
	svg := set.String("svg", "", "`file` for a picture of the image")
	return func(c *cli.Call, operands []string) error {
		if *asUkify && c.JSON {
			return cli.Usagef("-json and -ukify-json: one of them")
		}
		src, f, kind, err := openAny(c, operands[0], *assume)
		if err != nil {
			return err
		}
		drawing := diagram.OfUKI(filepath.Base(src.Name), src, f)
		if *svg != "" {
			if err := cli.WriteFile(*svg, []byte(drawing.SVG())); err != nil {
				return err
			}
		}
		if *asUkify {
			text, err := ukifyJSON(f)
			if err != nil {
				return about{src.Name, err}
			}
			return c.Answer(nil, text)
		}
		finish := c.WatchReads(3 * src.Size())
		r, err := inspect(c, src, f, kind)
		finish()
		if err != nil {
			return about{src.Name, err}
		}
		return c.Answer(r, r.tree().String()+"\n"+drawing.String())
	}
}

func inspect(c *cli.Call, src *cli.Input, f *uki.File, kind string) (*inspectResult, error) {
	r := &inspectResult{header: newHeader(c, src.Name), Kind: kind, Size: src.Size(), Uname: f.Uname(), Authenticode: map[string]string{},
		Signatures: []signature{}, Profiles: []profile{}, Variants: []variant{}}
	for _, p := range f.Profiles() {
		r.Profiles = append(r.Profiles, profile(p))
	}
	version, err := f.StubVersion()
	if err != nil && !errors.Is(err, uki.ErrUnknownStub) {
		return nil, err
	}
	r.StubVersion = string(version)
	if kernel, err := f.KernelVersion(); kind == kindImage && err == nil {
		r.Uname = kernel
	}
	if release, err := f.OSRelease(); err == nil {
		r.OSRelease = release
	}
	if r.Sections, err = sections(f); err != nil {
		return nil, err
	}
	if err := r.sign(src); err != nil {
		return nil, err
	}
	if kind != kindImage {
		return r, nil
	}
	// What the stub measures is not known of each image; all else about it is still worth showing.
	variants, err := f.MeasureVariants(crypto.SHA256)
	if err != nil {
		r.Error = err.Error()
		return r, nil
	}
	for _, v := range variants {
		d, err := describeVariant(f, v, []crypto.Hash{crypto.SHA256}, append([][]string{{}}, tpm.DefaultPhasePaths()...))
		if err != nil {
			return nil, err
		}
		r.Variants = append(r.Variants, d)
	}
	return r, nil
}

// sign fills in the Authenticode digest and the signatures.
func (r *inspectResult) sign(src *cli.Input) error {
	sum, err := authenticode.Digest(src, crypto.SHA256)
	if err != nil {
		return err
	}
	r.Authenticode["sha256"] = hex.EncodeToString(sum)
	signatures, err := authenticode.Signatures(src)
	if err != nil {
		return err
	}
	r.Signatures = describeSignatures(signatures, sum)
	return nil
}

// sections describes the section table.
func sections(f *uki.File) ([]section, error) {
	out := []section{}
	type place struct{ offset, rawSize, size int64 }
	// digests: a small file may have thousands of sections at one place
	known := make(map[place]string)
	for i, s := range f.Sections() {
		d := section{Name: s.Name, Profile: s.Profile, Size: s.Size, Offset: s.Offset, RawSize: s.RawSize, VirtualAddress: s.VirtualAddress}
		at := place{s.Offset, s.RawSize, s.Size}
		if d.SHA256 = known[at]; d.SHA256 == "" {
			h := sha256.New()
			if _, err := io.Copy(h, f.SectionData(i)); err != nil {
				return nil, err
			}
			d.SHA256 = hex.EncodeToString(h.Sum(nil))
			known[at] = d.SHA256
		}
		if s.Size <= maxText {
			b := make([]byte, s.Size)
			if _, err := f.SectionData(i).ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			d.Text = plainText(s.Name, b)
		}
		out = append(out, d)
	}
	return out, nil
}

// maxText is how large a section may be to be shown.
const maxText = 64 << 10

// plainText is the text of a section that is meant to hold one, "" if it does not.
func plainText(name string, b []byte) string {
	if k := sdstub.SectionOf(name); name != ".sdmagic" && (k == nil || !k.Text) {
		return ""
	}
	b = bytes.TrimRight(b, "\x00")
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return ""
	}
	return string(b)
}
