package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// report is the object of all verbs. Sizes are bytes, digests sha256:HEX, others lower-case hexadecimal.
type report struct {
	Schema       string                   `json:"schema"`
	Verb         string                   `json:"verb"`
	Name         string                   `json:"name"` // REGISTRY/REPO
	Digest       string                   `json:"digest"`
	Key          string                   `json:"key,omitempty"`          // of sign: fingerprint
	Formats      []string                 `json:"formats,omitempty"`      // of sign
	Verification *releasecli.Verification `json:"verification,omitempty"` // of verify and pull
	Release      *about                   `json:"release,omitempty"`      // of inspect and pull
	Manifests    []entry                  `json:"manifests,omitempty"`    // of inspect, of an index
	Signatures   []string                 `json:"signatures,omitempty"`   // of inspect: what may hold some; nothing is verified
}

// about is what a release says of itself.
type about struct {
	Digest       string  `json:"digest"`
	ID           string  `json:"id"`
	Version      string  `json:"version"`
	Architecture string  `json:"architecture,omitempty"`
	RootHash     string  `json:"rootHash"`
	Size         int64   `json:"size"`
	Layers       []layer `json:"layers"`
}

// layer is a part of a release.
type layer struct {
	MediaType string `json:"mediaType"`
	Title     string `json:"title,omitempty"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// entry is a release in an index.
type entry struct {
	Architecture string `json:"architecture"`
	Digest       string `json:"digest"`
}

func newAbout(a *release.Artifact) *about {
	r := &about{Digest: string(a.Descriptor.Digest), ID: a.ID, Version: a.Version, Architecture: a.Architecture,
		RootHash: hex.EncodeToString(a.RootHash), Size: a.Size()}
	for _, l := range a.Layers {
		r.Layers = append(r.Layers, layer{l.MediaType, l.Annotations[ocispec.AnnotationTitle], string(l.Digest), l.Size})
	}
	return r
}

// String is the report for people.
func (r *report) String() string {
	var b strings.Builder
	if r.Verification != nil {
		b.WriteString(r.Verification.String())
	} else {
		fmt.Fprintf(&b, "%s\n", r.Digest)
	}
	if r.Key != "" {
		fmt.Fprintf(&b, "signed by key %s\n", r.Key)
	}
	for _, m := range r.Manifests {
		fmt.Fprintf(&b, "%s %s\n", releasecli.Shown(m.Architecture), m.Digest)
	}
	if a := r.Release; a != nil {
		fmt.Fprintf(&b, "%s %s, root hash %s\n", releasecli.Shown(a.ID), releasecli.Shown(a.Version), a.RootHash)
		for _, l := range a.Layers {
			fmt.Fprintf(&b, "%12d  %-24s %s\n", l.Size, releasecli.Shown(l.Title), l.Digest)
		}
	}
	for _, s := range r.Signatures {
		fmt.Fprintf(&b, "signatures, not verified: %s\n", s)
	}
	return b.String()
}
