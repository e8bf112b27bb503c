package release

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// Media types of the format, version 1. A layer is found by its type; docs/release.md describes
// them.
const (
	ArtifactType    = "application/vnd.osmith.release.v1"
	MediaTypeConfig = "application/vnd.osmith.release.config.v1+json"

	// the signed UKI, a PE image
	MediaTypeUKI = "application/vnd.osmith.release.uki.v1"
	// the root file system image
	MediaTypeRoot = "application/vnd.osmith.release.root.v1"
	// dm-verity superblock and hash tree of it
	MediaTypeTree = "application/vnd.osmith.release.verity.v1"
	// PKCS #7 over the root hash: the content of a verity-sig partition
	MediaTypeRootHashSignature = "application/vnd.osmith.release.verity-sig.v1"
	// the signed boot loader, a PE image
	MediaTypeLoader = "application/vnd.osmith.release.loader.v1"
	// a signed add-on of the UKI, a PE image
	MediaTypeAddon = "application/vnd.osmith.release.addon.v1"
	// a system extension, a disk image (DDI)
	MediaTypeSysext = "application/vnd.osmith.release.sysext.v1"
	// a configuration extension, as well
	MediaTypeConfext = "application/vnd.osmith.release.confext.v1"
	// predicted PCRs: reference values for attestation
	MediaTypePCRs = "application/vnd.osmith.release.pcrs.v1+json"

	// MediaTypeUKISections is an index of what the sections of the UKI contain, for [PatchUKI];
	// Pack makes it.
	MediaTypeUKISections = "application/vnd.osmith.release.uki-sections.v1+json"

	MediaTypeSPDX      = "application/spdx+json"          // an SBOM
	MediaTypeCycloneDX = "application/vnd.cyclonedx+json" // an SBOM
)

// Release is one version of an operating system for one architecture. The fields that Pack does not
// need may be empty. The sources must not change while the release is in use.
type Release struct {
	ID      string        // os-release IMAGE_ID or ID of the system
	Version string        // os-release IMAGE_VERSION
	UKI     osmith.Source // signed
	// root file system image; nil, with Tree and RootHash, for a system that runs from its UKI
	// alone
	Root     osmith.Source
	Tree     osmith.Source // dm-verity superblock and hash tree of Root
	RootHash []byte

	Variant           string        // os-release VARIANT_ID; not needed by Pack, as what follows
	Architecture      string        // as Go and OCI name it: amd64, arm64, riscv64...
	RootHashSignature osmith.Source // the content of a verity-sig partition, or PKCS #7 alone
	Loader            osmith.Source // signed boot loader that the release was tested with
	Addons            []Addon       // signed add-ons of the UKI
	// signed system and configuration extensions, which lie beside the UKI
	Extensions []extension.File
	PCRs       osmith.Source // JSON: predicted PCRs
	SBOMs      []SBOM        // software bills of materials

	// SupportedUntil is the last day on which the vendor supports this version, with security fixes
	// above all. "": the release does not say.
	SupportedUntil Date

	// Fixes are identifiers of what this version fixes, such as CVE-2026-1234, each once.
	Fixes []string

	// Descriptor is that of the manifest, of a release that [Open] has read. Pack does not look at
	// it.
	Descriptor ocispec.Descriptor

	// UKIDigests are those of the UKI, of a release that [Open] or [Stream] has read:
	// upgrade.NewPlan then reads headers and small sections of it, and not all once more. Nil: it
	// is read. Pack does not look at it.
	UKIDigests *UKIDigests

	// UKIPatch says where the bytes of the UKI come from, of a release that [Stream] reads partly
	// from an older UKI; else nil.
	UKIPatch *UKIPatch

	files []io.Closer
}

// Addon is a signed add-on of the UKI. The installer decides where it belongs on an ESP.
type Addon struct {
	Name    string // of the file: letters, digits, "_" and, not first, ".", "-" and "+"; distinct
	Content osmith.Source
}

// SBOM is a software bill of materials of a release.
type SBOM struct {
	MediaType string // MediaTypeSPDX or MediaTypeCycloneDX
	Name      string // of the file, as that of an Addon; distinct among those of the media type
	Content   osmith.Source
}

// Close closes the layers of a release that [Open] has read.
func (r *Release) Close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return prefix.Error("release", errors.Join(errs...))
}

// A kind is what a release can have as a layer, in the order of the manifest.
type kind struct {
	mediaType string
	what      string // for messages
	suffix    string // of the title: ID_VERSION + suffix; "" if the layer has a name of its own
	required  bool
	repeats   bool
	fileTree  bool // required too, unless the UKI is all of the set
	derived   bool // made of another layer when a release is packed, and not a part of a Release
}

var kinds = []kind{
	{mediaType: MediaTypeUKI, what: "UKI", suffix: ".efi", required: true},
	{mediaType: MediaTypeRoot, what: "root file system", suffix: ".root.raw", fileTree: true},
	{mediaType: MediaTypeTree, what: "hash tree", suffix: ".verity.raw", fileTree: true},
	{mediaType: MediaTypeRootHashSignature, what: "root hash signature", suffix: ".verity-sig.raw"},
	{mediaType: MediaTypeLoader, what: "boot loader", suffix: ".loader.efi"},
	{mediaType: MediaTypeAddon, what: "add-on", repeats: true},
	{mediaType: MediaTypeSysext, what: "system extension", repeats: true},
	{mediaType: MediaTypeConfext, what: "configuration extension", repeats: true},
	{mediaType: MediaTypePCRs, what: "PCR values", suffix: ".pcrs.json"},
	{mediaType: MediaTypeSPDX, what: "SBOM", repeats: true},
	{mediaType: MediaTypeCycloneDX, what: "SBOM", repeats: true},
	{mediaType: MediaTypeUKISections, what: "index of the UKI's sections", derived: true},
}

// AnnotationExtensionRelease is the annotation of an extension's layer with the text of the
// extension-release file within the image, as the vendor states it ([extension.File]).
const AnnotationExtensionRelease = "vnd.osmith.release.extension-release"

// extensionTypes are the media types of extensions.
var extensionTypes = map[extension.Kind]string{extension.KindSysext: MediaTypeSysext, extension.KindConfext: MediaTypeConfext}

// A part is a layer to be written.
type part struct {
	mediaType, title string
	src              osmith.Source
	extensionRelease string
}

// single are the fields for the types that a release has one layer of at most.
func (r *Release) single() map[string]*osmith.Source {
	return map[string]*osmith.Source{
		MediaTypeUKI: &r.UKI, MediaTypeRoot: &r.Root, MediaTypeTree: &r.Tree, MediaTypeRootHashSignature: &r.RootHashSignature,
		MediaTypeLoader: &r.Loader, MediaTypePCRs: &r.PCRs,
	}
}

// alone reports whether the UKI is all of the set: it has no root file system that a hash protects.
func (r *Release) alone() bool { return r.Root == nil && r.Tree == nil && len(r.RootHash) == 0 }

// parts lists the layers of a release in the order of the manifest.
func (r *Release) parts() ([]part, error) {
	base := r.ID + "_" + r.Version
	single := r.single()
	named := map[string][]Addon{MediaTypeAddon: r.Addons}
	for _, d := range r.SBOMs {
		if d.MediaType != MediaTypeSPDX && d.MediaType != MediaTypeCycloneDX {
			return nil, fmt.Errorf("SBOM %q: media type %q, want %s or %s", d.Name, d.MediaType, MediaTypeSPDX, MediaTypeCycloneDX)
		}
		named[d.MediaType] = append(named[d.MediaType], Addon{d.Name, d.Content})
	}
	stated := map[string]string{} // extension-release of extensions, by name
	for _, x := range r.Extensions {
		_, kind, err := extension.ParseName(x.Name)
		if err != nil {
			return nil, prefix.Bare(err)
		}
		mediaType := extensionTypes[kind]
		named[mediaType] = append(named[mediaType], Addon{x.Name, x.Content})
		stated[x.Name] = string(x.Release)
	}
	var list []part
	for _, k := range kinds {
		if k.derived {
			continue
		}
		if !k.repeats {
			src := *single[k.mediaType]
			if src == nil && (k.required || k.fileTree && !r.alone()) {
				return nil, fmt.Errorf("a release needs a %s", k.what)
			}
			if src != nil {
				list = append(list, part{mediaType: k.mediaType, title: base + k.suffix, src: src})
			}
			continue
		}
		var names []string
		for _, f := range named[k.mediaType] {
			if err := checkName(f.Name); err != nil {
				return nil, fmt.Errorf("%s %q: %w", k.what, f.Name, err)
			}
			if slices.Contains(names, f.Name) {
				return nil, fmt.Errorf("%s %q: there are two of the name", k.what, f.Name)
			}
			if f.Content == nil {
				return nil, fmt.Errorf("%s %q: no content", k.what, f.Name)
			}
			names = append(names, f.Name)
			list = append(list, part{k.mediaType, f.Name, f.Content, stated[f.Name]})
		}
	}
	return list, nil
}

// checkName allows what can be a file in one directory of any system: a name is written into the
// ESP, and it comes from a manifest.
func checkName(name string) error {
	if len(name) == 0 || len(name) > 255 {
		return fmt.Errorf("%d characters, want 1 to 255", len(name))
	}
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', i > 0 && (c == '.' || c == '-' || c == '+'):
		default:
			return fmt.Errorf("character %q; want letters, digits and, not first, . - +", c)
		}
	}
	return nil
}

func isExtension(mediaType string) bool {
	return mediaType == MediaTypeSysext || mediaType == MediaTypeConfext
}

// layers sorts the layers of a manifest by kind. A type that is not known is left alone: a later
// version may have more.
func layers(m *ocispec.Manifest) (map[string][]ocispec.Descriptor, error) {
	found := map[string][]ocispec.Descriptor{}
	for _, l := range m.Layers {
		if slices.ContainsFunc(kinds, func(k kind) bool { return k.mediaType == l.MediaType }) {
			found[l.MediaType] = append(found[l.MediaType], l)
		}
	}
	alone := len(found[MediaTypeRoot]) == 0 && len(found[MediaTypeTree]) == 0
	for _, k := range kinds {
		list := found[k.mediaType]
		if (k.required || k.fileTree && !alone) && len(list) == 0 || !k.repeats && len(list) > 1 {
			return nil, fmt.Errorf("%d layers of type %s, want one", len(list), k.mediaType)
		}
		if !k.repeats {
			continue
		}
		var names []string
		for _, l := range list {
			name := l.Annotations[ocispec.AnnotationTitle]
			if err := checkName(name); err != nil {
				return nil, fmt.Errorf("%s %q: %w", k.what, name, err)
			}
			if slices.Contains(names, name) {
				return nil, fmt.Errorf("%s %q: there are two of the name", k.what, name)
			}
			names = append(names, name)
			if isExtension(k.mediaType) {
				if _, kind, err := extension.ParseName(name); err != nil || extensionTypes[kind] != k.mediaType {
					return nil, fmt.Errorf("%s %q: want a name NAME.sysext.raw or NAME.confext.raw", k.what, name)
				}
			}
		}
	}
	return found, nil
}

// Usr reports whether the root file system is that of /usr, and not of /: by the UKI's command
// line, which has its hash as usrhash=.
func (r *Release) Usr() (usr bool, err error) {
	defer prefix.Add("release", &err)
	if r.UKI == nil {
		return false, errors.New("a release needs a UKI")
	}
	f, err := uki.Open(r.UKI)
	if err != nil {
		return false, err
	}
	text, _ := f.Cmdline()
	c, err := dm.ParseCmdline(text)
	if err != nil {
		return false, err
	}
	return len(r.RootHash) > 0 && bytes.Equal(c.Usr.RootHash, r.RootHash), nil
}

// Signature reads RootHashSignature, in either form; nil without an error if the release has none.
// A signature over another root hash than RootHash is an error; who the signer is, is for the
// kernel's keyrings to judge.
func (r *Release) Signature() (s *verity.Signature, err error) {
	defer prefix.Add("release", &err)
	s, _, err = osset.RootHashSignature("signature of the root hash", r.RootHashSignature, r.RootHash)
	return s, err
}
