package main

import "github.com/osmith-dev/osmith/internal/releasecli"

// header begins every object. Sizes are bytes, digests sha256:HEX, fingerprints and root hashes lower-case hexadecimal, in all
// objects.
type header struct {
	Schema string `json:"schema"`
	Verb   string `json:"verb"`
}

func (c *call) header() header { return header{releasecli.Schema, c.Verb} }

// packResult is the object of pack and index.
type packResult struct {
	header
	Digest   string `json:"digest"` // of the manifest: the name of the release
	Ref      string `json:"ref"`
	ID       string `json:"id"`
	Version  string `json:"version"`
	RootHash string `json:"rootHash,omitempty"` // of pack
	Size     int64  `json:"size"`               // of all layers; of index, those of all architectures
}

// signResult is the object of sign and attest.
type signResult struct {
	header
	Digest  string   `json:"digest"`
	Key     string   `json:"key"` // fingerprint: SHA-256 of the SubjectPublicKeyInfo
	Formats []string `json:"formats"`
	Type    string   `json:"type,omitempty"` // of attest: the predicate type
}

// verifyResult is the object of verify.
type verifyResult struct {
	header
	releasecli.Verification
}

// inspectResult is the object of inspect. Nothing in it is verified.
type inspectResult struct {
	header
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
	Checked    bool       `json:"checked"` // -check, and every blob is there and intact
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

// attached is a manifest with signatures or attestations that refers to the release.
type attached struct {
	Manifest   string   `json:"manifest"`
	MediaTypes []string `json:"mediaTypes"` // of its layers
}

// serveResult is the object of serve, printed when it listens.
type serveResult struct {
	header
	URL string `json:"url"`
}

// pullResult is the object of pull.
type pullResult struct {
	header
	Digest     string                 `json:"digest"`  // that was verified
	Release    string                 `json:"release"` // digest of the release; another one if an index was verified
	ID         string                 `json:"id"`
	Version    string                 `json:"version"`
	RootHash   string                 `json:"rootHash"`
	Signatures []releasecli.Signature `json:"signatures"`
	Size       int64                  `json:"size"`            // of all layers
	Patch      *patched               `json:"patch,omitempty"` // with an old root
}

// patched says where the root came from, in bytes but for requests.
type patched struct {
	Reused   int64 `json:"reused"`  // from the old root
	Zeroed   int64 `json:"zeroed"`  // were nothing but zeros
	Fetched  int64 `json:"fetched"` // gaps included
	Requests int64 `json:"requests"`
	Damaged  int64 `json:"damaged"` // of the old root, fetched instead
}
