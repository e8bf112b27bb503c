package main

import (
	"encoding/hex"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// schema is that of the object which is printed with -json. The config of a release has
// "osmith.release/1". Sizes are bytes, digests sha256:HEX, fingerprints and root hashes lower-case
// hexadecimal, in all objects.
const schema = "osmith.release-report/1"

// supported is what a release, or a channel about one, says of its support. Both are absent where
// nothing is said.
type supported struct {
	SupportedUntil release.Date `json:"supportedUntil,omitempty"` // the last day, YYYY-MM-DD
	Fixes          []string     `json:"fixes,omitempty"`          // such as CVE-2026-1234
}

func newSupported(until release.Date, fixes []string) supported { return supported{until, fixes} }

func (s supported) text() string {
	text := ""
	if s.SupportedUntil != "" {
		text += "  supported until " + string(s.SupportedUntil) + "\n"
	}
	if len(s.Fixes) > 0 {
		text += "  fixes " + strings.Join(s.Fixes, ", ") + "\n"
	}
	return text
}

// packResult is the object of pack and index.
type packResult struct {
	cli.Header
	Digest   string `json:"digest"` // of the manifest: the name of the release
	Ref      string `json:"ref"`
	ID       string `json:"id"`
	Version  string `json:"version"`
	RootHash string `json:"rootHash,omitempty"` // of pack
	// of all layers; of index, those of all architectures
	Size int64 `json:"size"`
	supported
}

// signResult is the object of sign and attest.
type signResult struct {
	cli.Header
	Digest  string   `json:"digest"`
	Key     string   `json:"key"` // fingerprint: SHA-256 of the SubjectPublicKeyInfo
	Formats []string `json:"formats"`
	Type    string   `json:"type,omitempty"` // of attest: the predicate type
}

// verifyResult is the object of verify.
type verifyResult struct {
	cli.Header
	verification
}

// inspectResult is the object of inspect. Nothing in it is verified.
type inspectResult struct {
	cli.Header
	Digest     string     `json:"digest"`
	Kind       string     `json:"kind"` // release, index
	ID         string     `json:"id,omitempty"`
	Version    string     `json:"version,omitempty"`
	Arch       string     `json:"architecture,omitempty"`
	RootHash   string     `json:"rootHash,omitempty"`
	Size       int64      `json:"size"` // of all layers
	Layers     []layer    `json:"layers"`
	Manifests  []entry    `json:"manifests"` // of an index
	Signatures []attached `json:"signatures"`
	// -check, and every blob is there and intact, and the parts belong together
	Checked bool `json:"checked"`
	supported
}

// layer is a part of a release.
type layer struct {
	MediaType string `json:"mediaType"`
	Title     string `json:"title,omitempty"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// entry is an entry of an index.
type entry struct {
	Arch   string `json:"architecture"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // of the manifest
}

// attachedTo is a manifest with signatures or attestations that refers to the release.
type attached struct {
	Manifest   string   `json:"manifest"`
	MediaTypes []string `json:"mediaTypes"` // of its layers
}

// exportResult is the object of export.
type exportResult struct {
	cli.Header
	Digest  string         `json:"digest"` // of the release's manifest
	ID      string         `json:"id"`
	Version string         `json:"version"`
	Files   []exportedFile `json:"files"` // in the directory of -o
	// of transfers, in the directory of -definitions
	Definitions []string `json:"definitions"`
	BestBefore  string   `json:"bestBefore,omitempty"` // YYYY-MM-DD, of the manifest
	// media types of what systemd-sysupdate has no place for
	Left []string `json:"left"`
	// the manifest, whose detached OpenPGP signature belongs beside it as SHA256SUMS.gpg
	ToSign string `json:"toSign"`
}

// exportedFile is a file that was written.
type exportedFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
}

// serveResult is the object of serve, printed when it listens.
type serveResult struct {
	cli.Header
	URL string `json:"url"`
}

// pullResult is the object of pull.
type pullResult struct {
	cli.Header
	Digest string `json:"digest"` // that was verified
	// digest of the release; another one if an index was verified
	Release    string      `json:"release"`
	ID         string      `json:"id"`
	Version    string      `json:"version"`
	RootHash   string      `json:"rootHash"`
	Signatures []signature `json:"signatures"`
	Size       int64       `json:"size"`               // of all layers
	Patch      *patched    `json:"patch,omitempty"`    // with an old root
	UKIPatch   *ukiPatched `json:"ukiPatch,omitempty"` // with an old UKI

	Channel *chosen `json:"channel,omitempty"` // with -channel
}

// chosen is what the document of a channel means for a machine. Of an answer without a release, the
// members of the release are empty.
type chosen struct {
	Document  string   `json:"document"` // digest of its artifact
	Sequence  int64    `json:"sequence"`
	Version   string   `json:"version,omitempty"` // to install; absent: nothing
	supported          // of that version, as the channel says
	Downgrade bool     `json:"downgrade,omitempty"` // it is older than what runs
	Leave     string   `json:"leave,omitempty"`     // why what runs is to be left
	Passed    []passed `json:"passed"`              // newer ones
}

// passed is a release that is not for the machine, or not yet.
type passed struct {
	Version string `json:"version"`
	Reason  string `json:"reason"`
}

// patched says where the root came from, in bytes but for requests.
type patched struct {
	Reused   int64 `json:"reused"`  // from the old root
	Zeroed   int64 `json:"zeroed"`  // were nothing but zeros
	Fetched  int64 `json:"fetched"` // gaps included
	Requests int64 `json:"requests"`
	Damaged  int64 `json:"damaged"` // of the old root, fetched instead
	// the trees had another salt or hash, and the old root was hashed again
	Rehashed bool `json:"rehashed,omitempty"`
}

// ukiPatched says where the UKI came from, in bytes but for requests.
type ukiPatched struct {
	Reused   int64 `json:"reused"` // from the old UKI
	Fetched  int64 `json:"fetched"`
	Requests int64 `json:"requests"`
}

// channelResult is the object of the verbs of channel.
type channelResult struct {
	cli.Header
	Digest     string `json:"digest"` // of the document's artifact
	Product    string `json:"product"`
	Variant    string `json:"variant,omitempty"`
	Channel    string `json:"channel"`
	Sequence   int64  `json:"sequence"`
	ValidUntil string `json:"validUntil"`
	Floor      string `json:"floor,omitempty"`
	// the channel's name stands for it; false: it needs a signature
	Published bool             `json:"published"`
	Releases  []channelRelease `json:"releases"`
	Forgotten []channelRelease `json:"forgotten,omitempty"` // of prune
}

// channelRelease is a release of a channel.
type channelRelease struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Offered int    `json:"offered"` // of 1000 cohorts
	Status  string `json:"status"`  // offered, held, withdrawn
	Reason  string `json:"reason,omitempty"`
	supported
}

// registryResult is the object of sign, attest, verify, inspect and pull of a registry, but not of
// pull -channel, and of push.
type registryResult struct {
	cli.Header
	Name         string        `json:"name"` // REGISTRY/REPO
	Digest       string        `json:"digest"`
	Key          string        `json:"key,omitempty"`          // of sign and attest: fingerprint
	Formats      []string      `json:"formats,omitempty"`      // of sign and attest
	Type         string        `json:"type,omitempty"`         // of attest: the predicate type
	Verification *verification `json:"verification,omitempty"` // of verify and pull
	Release      *about        `json:"release,omitempty"`      // of inspect and pull
	Manifests    []indexed     `json:"manifests,omitempty"`    // of inspect, of an index
	// of inspect: what may hold some; nothing is verified
	Signatures []string    `json:"signatures,omitempty"`
	Checked    bool        `json:"checked,omitempty"`  // of inspect with -check
	Patch      *patched    `json:"patch,omitempty"`    // of pull with an old root
	UKIPatch   *ukiPatched `json:"ukiPatch,omitempty"` // of pull with an old UKI
}

// about is what a release says of itself.
type about struct {
	Digest       string `json:"digest"`
	ID           string `json:"id"`
	Version      string `json:"version"`
	Architecture string `json:"architecture,omitempty"`
	RootHash     string `json:"rootHash"`
	Size         int64  `json:"size"`
	supported
	Layers []layer `json:"layers"`
}

// indexed is a release in an index.
type indexed struct {
	Architecture string `json:"architecture"`
	Digest       string `json:"digest"`
}

func newAbout(a *release.Artifact) *about {
	return &about{Digest: string(a.Descriptor.Digest), ID: a.ID, Version: a.Version, Architecture: a.Architecture,
		RootHash: hex.EncodeToString(a.RootHash), Size: a.Size(), supported: newSupported(a.SupportedUntil, a.Fixes), Layers: layers(a)}
}

func layers(a *release.Artifact) []layer {
	list := []layer{}
	for _, l := range a.Layers {
		list = append(list, layer{l.MediaType, l.Annotations[ocispec.AnnotationTitle], string(l.Digest), l.Size})
	}
	return list
}

// openRegistry is what inspect says of a registry.
func (r *inspectResult) inRegistry(name string) registryResult {
	out := registryResult{Header: r.Header, Name: name, Digest: r.Digest, Checked: r.Checked}
	if r.Kind == "release" {
		out.Release = &about{Digest: r.Digest, ID: r.ID, Version: r.Version, Architecture: r.Arch, RootHash: r.RootHash, Size: r.Size, supported: r.supported, Layers: r.Layers}
	}
	for _, m := range r.Manifests {
		out.Manifests = append(out.Manifests, indexed{m.Arch, m.Digest})
	}
	for _, s := range r.Signatures {
		out.Signatures = append(out.Signatures, s.Manifest)
	}
	return out
}

// verification is what is said about an artifact that was verified, or refused. Digests are
// sha256:HEX, fingerprints lower-case hexadecimal.
type verification struct {
	Digest       string      `json:"digest"`
	Verified     bool        `json:"verified"`
	Signatures   []signature `json:"signatures"`   // that count
	Attestations []signature `json:"attestations"` // that count
	Rejected     []rejection `json:"rejected"`
	// of a no: unsigned, untrusted, digest; wanted: it is not the release that was asked for
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}

// signature says who signed, and what.
type signature struct {
	Authority string `json:"authority"` // of the policy; "" with -key
	// fingerprint: SHA-256 of the SubjectPublicKeyInfo
	Key           string `json:"key,omitempty"`
	Issuer        string `json:"issuer,omitempty"`  // of a certificate
	Subject       string `json:"subject,omitempty"` // of a certificate
	Format        string `json:"format"`            // legacy, bundle
	Manifest      string `json:"manifest"`          // digest of what holds it
	PredicateType string `json:"predicateType,omitempty"`
}

// rejection is a signature that does not count.
type rejection struct {
	Manifest string `json:"manifest"`
	Format   string `json:"format,omitempty"`
	// what the signature says about its key: base64 of the fingerprint
	KeyHint string `json:"keyHint,omitempty"`
	// otherKey, otherArtifact, otherReference, notValid, digest, malformed, missing, other
	Reason string `json:"reason"`
	Error  string `json:"error"`
}

// shown keeps what a stranger wrote from controlling the terminal.
func shown(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
