package release

import (
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
)

// Media types of the format, version 1. A layer is found by its type; docs/release.md describes them.
const (
	ArtifactType    = "application/vnd.osmith.release.v1"
	MediaTypeConfig = "application/vnd.osmith.release.config.v1+json"

	MediaTypeUKI               = "application/vnd.osmith.release.uki.v1"        // the signed UKI, a PE image
	MediaTypeRoot              = "application/vnd.osmith.release.root.v1"       // the root file system image
	MediaTypeTree              = "application/vnd.osmith.release.verity.v1"     // dm-verity superblock and hash tree of it
	MediaTypeRootHashSignature = "application/vnd.osmith.release.verity-sig.v1" // PKCS #7 over the root hash: the content of a verity-sig partition
	MediaTypeLoader            = "application/vnd.osmith.release.loader.v1"     // the signed boot loader, a PE image
	MediaTypeAddon             = "application/vnd.osmith.release.addon.v1"      // a signed add-on of the UKI, a PE image
	MediaTypePCRs              = "application/vnd.osmith.release.pcrs.v1+json"  // predicted PCRs: reference values for attestation

	MediaTypeSPDX      = "application/spdx+json"          // an SBOM
	MediaTypeCycloneDX = "application/vnd.cyclonedx+json" // an SBOM
)

// A File is a part of which a release has any number.
type File struct {
	Name    string // base name; distinct among those of its kind
	Content osmith.Source
}

// A Document is an SBOM of a release.
type Document struct {
	MediaType string // MediaTypeSPDX or MediaTypeCycloneDX
	Name      string
	Content   osmith.Source
}

// A kind is what a release can have as a layer, in the order of the manifest.
type kind struct {
	mediaType string
	what      string // for messages
	suffix    string // of the title: ID_VERSION + suffix; "" if the layer has a name of its own
	required  bool
	repeats   bool
}

var kinds = []kind{
	{MediaTypeUKI, "UKI", ".efi", true, false},
	{MediaTypeRoot, "root file system", ".root.raw", true, false},
	{MediaTypeTree, "hash tree", ".verity.raw", true, false},
	{MediaTypeRootHashSignature, "root hash signature", ".verity-sig.raw", false, false},
	{MediaTypeLoader, "boot loader", ".loader.efi", false, false},
	{MediaTypeAddon, "add-on", "", false, true},
	{MediaTypePCRs, "PCR values", ".pcrs.json", false, false},
	{MediaTypeSPDX, "SBOM", "", false, true},
	{MediaTypeCycloneDX, "SBOM", "", false, true},
}

// A part is a layer to be written.
type part struct {
	mediaType, title string
	src              osmith.Source
}

// parts lists the layers of contents in the order of the manifest.
func (c *Contents) parts() ([]part, error) {
	base := c.ID + "_" + c.Version
	single := map[string]osmith.Source{
		MediaTypeUKI: c.UKI, MediaTypeRoot: c.Root, MediaTypeTree: c.Tree, MediaTypeRootHashSignature: c.RootHashSignature,
		MediaTypeLoader: c.Loader, MediaTypePCRs: c.PCRs,
	}
	named := map[string][]File{MediaTypeAddon: c.Addons}
	for _, d := range c.SBOMs {
		if d.MediaType != MediaTypeSPDX && d.MediaType != MediaTypeCycloneDX {
			return nil, fmt.Errorf("SBOM %q: media type %q, want %s or %s", d.Name, d.MediaType, MediaTypeSPDX, MediaTypeCycloneDX)
		}
		named[d.MediaType] = append(named[d.MediaType], File{d.Name, d.Content})
	}
	var list []part
	for _, k := range kinds {
		if !k.repeats {
			src := single[k.mediaType]
			if src == nil && k.required {
				return nil, fmt.Errorf("a release needs a %s", k.what)
			}
			if src != nil {
				list = append(list, part{k.mediaType, base + k.suffix, src})
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
			list = append(list, part{k.mediaType, f.Name, f.Content})
		}
	}
	return list, nil
}

// checkName allows what can be a file in one directory of any system: a name is written into the ESP, and it comes from a manifest.
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

// layers sorts the layers of a manifest by kind. A type that is not known is left alone: a later version may have more.
func layers(m *ocispec.Manifest) (map[string][]ocispec.Descriptor, error) {
	found := map[string][]ocispec.Descriptor{}
	for _, l := range m.Layers {
		if slices.ContainsFunc(kinds, func(k kind) bool { return k.mediaType == l.MediaType }) {
			found[l.MediaType] = append(found[l.MediaType], l)
		}
	}
	for _, k := range kinds {
		list := found[k.mediaType]
		if k.required && len(list) == 0 || !k.repeats && len(list) > 1 {
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
		}
	}
	return found, nil
}
