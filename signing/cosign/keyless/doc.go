// Package keyless verifies signatures that were made with a short-lived certificate of
// Sigstore's authority Fulcio instead of a key that is known beforehand, and recorded in its log
// Rekor. It is the IdentityVerifier of package cosign's policies:
//
//	verifier, err := keyless.New(trustedRoot, keyless.VerifierOptions{}) // the bytes of a trusted_root.json
//	if err != nil {
//		return err
//	}
//	result, err := cosign.Verify(ctx, layout, artifact, cosign.Policy{
//		Identities: verifier,
//		Authorities: []cosign.Authority{{Name: "ci", Identities: []cosign.Identity{{
//			Issuer:  "https://token.actions.githubusercontent.com",
//			Subject: "https://github.com/acme/os/.github/workflows/release.yml@refs/heads/main",
//		}}}},
//	})
//
// It is a separate module, because github.com/sigstore/sigstore-go, which checks the signatures,
// brings 70 modules along; programs that verify by key link none of them.
//
// # What is checked
//
// By default, everything that Sigstore's client specification asks for: the certificate leads to an
// authority of the trusted root and was recorded in a certificate transparency log, the signature
// is in a transparency log, a log or a timestamp authority says when it was made, and the
// certificate was valid then. Whether it has expired since does not matter. Nothing is fetched: the
// trusted root is the caller's, and a proof that is not in the bundle is missing.
//
// # Limits
//
// Bundles of version 0.1 to 0.3 and, through package cosign, the annotations of cosign 1 and 2.
package keyless
