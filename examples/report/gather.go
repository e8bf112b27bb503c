package main

import (
	"cmp"
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/diagram"
	"github.com/osmith-dev/osmith/examples/internal/releaseflags"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// opened is a release and the layout that it is in.
type opened struct {
	*release.Release
	layout    *cosign.Layout
	artifact  ocispec.Descriptor // as it is listed: a release, or an index of several
	facts     *system
	policies  policy.Signatures  // signed, in all profiles
	checkErr  error              // why its parts do not belong together
	predicted *build.ReleasePCRs // nil: o.facts.PCR11Error says why
}

// openRelease opens LAYOUT:REF. Every blob is checked against its digest.
func openRelease(c *cli.Call, name, arch string) (*opened, error) {
	dir, ref := releaseflags.Split(name)
	layout, err := cosign.OpenLayout(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	o := &opened{layout: layout}
	if o.artifact, err = layout.Resolve(ref); errors.Is(err, cosign.ErrNotFound) {
		return nil, cli.No{Err: fmt.Errorf("%s: %w", name, err)}
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d, err := release.Select(c, layout, o.artifact, arch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if o.Release, err = release.Open(c, os.DirFS(dir), d); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c.AtEnd(func() { _ = o.Close() }) // it was only read
	return o, nil
}

// gather tells of a release what is in it.
func (o *opened) gather(ctx context.Context, file string, trust *releaseflags.Trust, date time.Time) error {
	d := o.Descriptor
	a, err := release.Read(ctx, o.layout, d)
	if err != nil {
		return err
	}
	f := &system{Name: name(file), Digest: d.Digest.String(), ID: name(o.ID), Variant: name(o.Variant), Version: name(o.Version),
		Architecture: name(o.Architecture), Size: a.Size(), RootHash: hex.EncodeToString(o.RootHash),
		Parts: []part{}, Addons: []*kernelImage{}, SBOMs: []sbom{}, PCR11: []pcr11{}}
	o.facts = f
	f.support(o.Release, date)
	for i, l := range a.Layers {
		if i == maxList {
			break
		}
		f.Parts = append(f.Parts, part{partOf(l.MediaType), name(l.Annotations[ocispec.AnnotationTitle]), l.Size, l.Digest.Encoded()})
	}
	image, err := uki.Open(o.UKI)
	if err != nil {
		return fmt.Errorf("the UKI: %w", err)
	}
	if f.UKI, err = describeImage("UKI", o.UKI, image); err != nil {
		return err
	}
	f.UKI.Findings = findings(image.Check())
	if err := o.addons(image); err != nil {
		return err
	}
	if err := o.sign(ctx, image, trust, date); err != nil {
		return err
	}
	for i, s := range o.SBOMs {
		if i < maxList {
			f.SBOMs = append(f.SBOMs, count(s))
		}
	}
	o.checkErr = o.Check(ctx)
	return o.pcr11(ctx)
}

// support is what the vendor says of this version.
func (s *system) support(r *release.Release, date time.Time) {
	s.SupportedUntil, s.Supported, s.Fixes = name(string(r.SupportedUntil)), unknown, texts(r.Fixes)
	if r.SupportedUntil == "" || date.IsZero() {
		return
	}
	if s.Supported = yes; r.SupportedUntil.Over(date) {
		s.Supported = no
	}
}

// partOf is a media type in words.
func partOf(mediaType string) string {
	words := map[string]string{
		release.MediaTypeUKI: "UKI", release.MediaTypeRoot: "root file system", release.MediaTypeTree: "hash tree",
		release.MediaTypeRootHashSignature: "root hash signature", release.MediaTypeLoader: "boot loader", release.MediaTypeAddon: "add-on",
		release.MediaTypeSysext: "system extension", release.MediaTypeConfext: "configuration extension", release.MediaTypePCRs: "predicted PCRs",
		release.MediaTypeUKISections: "index of the UKI", release.MediaTypeSPDX: "SBOM (SPDX)", release.MediaTypeCycloneDX: "SBOM (CycloneDX)",
	}
	return cmp.Or(words[mediaType], name(mediaType))
}

// describeImage tells of a UKI or an add-on what it is made of.
func describeImage(title string, src osmith.Source, f *uki.File) (*kernelImage, error) {
	sum, err := authenticode.Digest(src, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", title, err)
	}
	k := &kernelImage{Name: name(title), Size: src.Size(), Authenticode: hex.EncodeToString(sum), Sections: []section{}, Profiles: []profile{}, Findings: []string{}}
	if v, err := f.StubVersion(); err == nil { // else it is not said
		k.Stub = name(string(v))
	}
	if v, err := f.KernelVersion(); err == nil { // as well
		k.Kernel = name(v)
	}
	if r, err := f.OSRelease(); err == nil { // as well
		k.System, k.Product = name(cmp.Or(r["PRETTY_NAME"], r["NAME"], r["ID"])), name(cmp.Or(r["NAME"], r["ID"]))
	}
	if line, ok := f.Cmdline(); ok {
		k.Cmdline = text(line)
	}
	for i, s := range f.Sections() {
		if i < maxList {
			k.Sections = append(k.Sections, section{name(s.Name), s.Profile, s.Size})
		}
	}
	for i, p := range f.Profiles() {
		if i < maxList {
			k.Profiles = append(k.Profiles, profile{p.Index, name(p.ID), name(p.Title)})
		}
	}
	k.drawing = diagram.OfUKI(title, src, f)
	k.Diagram = k.drawing.String()
	return k, nil
}

func findings(list []uki.Finding) []string {
	all := make([]string, 0, len(list))
	for _, f := range list {
		all = append(all, f.String())
	}
	return texts(all)
}

// addons are what lies beside the UKI.
func (o *opened) addons(image *uki.File) error {
	for i, a := range o.Addons {
		if i == maxList {
			return nil
		}
		f, err := uki.OpenAddon(a.Content)
		if err != nil { // the stub passes over it, and that is worth showing
			o.facts.Addons = append(o.facts.Addons, &kernelImage{Name: name(a.Name), Size: a.Content.Size(), Sections: []section{}, Profiles: []profile{}, Findings: texts([]string{err.Error()})})
			continue
		}
		k, err := describeImage(a.Name, a.Content, f)
		if err != nil {
			return err
		}
		k.Findings = findings(image.CheckAddon(f))
		o.facts.Addons = append(o.facts.Addons, k)
		o.facts.UKI.drawing.AddAddon(a.Name, f)
	}
	o.facts.UKI.Diagram = o.facts.UKI.drawing.String()
	return nil
}

// maxSBOM is how large an SBOM may be to be counted, in bytes.
const maxSBOM = 64 << 20

// count says how many packages or components an SBOM lists.
func count(s release.SBOM) sbom {
	out := sbom{Name: name(s.Name), Format: "SPDX", Size: s.Content.Size()}
	if s.MediaType == release.MediaTypeCycloneDX {
		out.Format = "CycloneDX"
	}
	if out.Size > maxSBOM {
		out.Error = fmt.Sprintf("%d bytes: SBOMs of at most %d are counted", out.Size, maxSBOM)
		return out
	}
	var document struct {
		Packages   []struct{} `json:"packages"`
		Components []struct{} `json:"components"`
	}
	if err := json.NewDecoder(io.NewSectionReader(s.Content, 0, out.Size)).Decode(&document); err != nil {
		out.Error = text(err.Error())
		return out
	}
	out.Components = len(document.Packages)
	if out.Format == "CycloneDX" {
		out.Components = len(document.Components)
	}
	return out
}

// pcr11 is what the release leaves in PCR 11 in each of its variants.
func (o *opened) pcr11(ctx context.Context) error {
	p, err := build.PCRsOf(ctx, o.Release)
	if err != nil {
		o.facts.PCR11Error = text(err.Error()) // what a stub measures is not known of each
		return ctx.Err()
	}
	o.predicted = p
	for i, v := range p.PCR11 {
		if i < maxList {
			o.facts.PCR11 = append(o.facts.PCR11, pcr11{v.Profile, v.DeviceTree, v.Firmware, v.Phase, v.Banks["sha256"]})
		}
	}
	return nil
}

// statedPCRs compares the PCRs that the release states with what its UKI leads to.
func (o *opened) statedPCRs() (answer, string) {
	if o.PCRs == nil {
		return no, "the release states no PCRs (build.Release adds them)"
	}
	if o.predicted == nil {
		return unknown, o.facts.PCR11Error
	}
	var stated build.ReleasePCRs
	if err := json.NewDecoder(io.NewSectionReader(o.PCRs, 0, min(o.PCRs.Size(), maxSBOM))).Decode(&stated); err != nil {
		return no, text("the stated PCRs cannot be read: " + err.Error())
	}
	if !reflect.DeepEqual(&stated, o.predicted) {
		return no, "the stated PCRs are not those that the UKI leads to"
	}
	return yes, "the PCRs that the release states are those that its UKI leads to"
}
