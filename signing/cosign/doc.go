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
//	artifact, err := layout.Resolve("v2") // a name is only a hint
//	if err != nil {
//		return err
//	}
//	result, err := cosign.Verify(ctx, layout, artifact, cosign.Policy{Keys: keys})
//	if err != nil {
//		return err // errors.Is: ErrUnsigned, ErrUntrusted
//	}
//	rel, err := release.Open(ctx, os.DirFS("release"), result.Subject)
//
// A Policy is one key, or several authorities of which some must sign; it may have keys that are
// being replaced, required attestations, and identities; Rules are policies for repositories and
// have a JSON form. A policy that names an identity needs an IdentityVerifier, such as that of
// package keyless; without it the policy is an error, even if a key has signed.
//
// CopyVerified copies an artifact with the signatures that the policy accepted, so that it can be
// verified again at its destination; CopySignatures takes all signatures.
//
// A result names a digest. Read what is installed by that digest, and check it while it is read, as
// OpenBlob does; a tag may name a different artifact a moment later.
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
// A verification is bounded by Limits in the Policy, and holds less than 64 MiB in memory for any
// source. Signing has the same limits, and refuses what exceeds them before anything is written
// (LimitError).
//
// Keys are ECDSA on P-256, P-384 and P-521, Ed25519 (also prehashed), and RSA with PKCS #1 v1.5 or
// PSS. Digests are SHA-256. A signature by a key has no trustworthy time: the validity of an
// authority is compared with Policy.At. The IdentityVerifier evaluates transparency logs and
// timestamps; for a signature by a key they are ignored.
package cosign
