// Package cosign verifies, by key and without a network, that an OCI artifact was signed, and signs
// artifacts the same way. It reads and writes both formats of the cosign tool of the Sigstore
// project:
//
//   - simple signing, the format of cosign 1 and 2: a manifest under the tag
//     sha256-HEX.sig whose layers are signed payloads
//     (https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md);
//   - the Sigstore bundle of cosign 3 (v0.1 to v0.3 are read, v0.3 is written): a manifest
//     whose subject is the artifact and whose layer is a DSSE envelope around an in-toto statement
//     (https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md,
//     https://github.com/secure-systems-lab/dsse/blob/master/protocol.md).
//
// Attestations, signed statements about an artifact such as where it was built or what is in it,
// are read and written in both formats, too.
//
// Artifacts come from an ArtifactSource; an OCI image layout
// (https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md) in any fs.FS, a
// directory or a tar archive is built in, and so is Memory. Registries are in a separate module,
// upgrade/release/registry.
//
//	layout, err := cosign.OpenLayout(os.DirFS("release"))
//	if err != nil {
//		return err
//	}
//	artifact, err := layout.Resolve("v2") // a name is a hint, and nothing more
//	if err != nil {
//		return err
//	}
//	result, err := cosign.Verify(ctx, layout, artifact, cosign.Policy{Keys: keys})
//	if err != nil {
//		return err // errors.Is: ErrUnsigned, ErrUntrusted
//	}
//	rel, err := release.Open(ctx, os.DirFS("release"), result.Subject)
//
// A Policy is one key, or several authorities of which some must sign, with keys on their way in
// and out, required attestations, and identities; Rules are policies for repositories and have a
// JSON form. A policy that names an identity needs an IdentityVerifier, such as package keyless
// has; without it the policy is an error, whatever else has signed.
//
// CopyVerified copies an artifact with the signatures that the policy accepted, so that it can be
// verified again at its destination; CopySignatures takes all signatures.
//
// A result names a digest. What is installed must be read by that digest, checked
// while it is read, as OpenBlob does; a tag may point elsewhere a moment later.
//
// # What is trusted
//
// Only the keys and identities of the policy are trusted. Names, annotations, key hints, artifact
// types and subjects of manifests only help to find candidates. A blob is compared with its digest
// and size before it is used, a payload is parsed only after its signature was verified over the
// exact bytes, and a payload whose JSON is ambiguous (a key listed twice, or in different letter
// cases) is refused. Damaged, foreign or unknown signatures beside a good one do not affect it;
// they are listed in Result.Rejected.
//
// # Limits
//
// A verification has one budget, Limits in the Policy, and holds less than 64 MiB whatever a source
// offers. Signing has the same limits, and refuses what exceeds them before anything is written
// (LimitError).
//
// Keys are ECDSA on P-256, P-384 and P-521, Ed25519 (also prehashed), and RSA with PKCS #1 v1.5 or
// PSS. Digests are SHA-256. A signature by a key has no trustworthy time: the validity of an
// authority is compared with Policy.At. Transparency logs and timestamps are the
// IdentityVerifier's; for a signature by a key they are not evaluated.
package cosign
