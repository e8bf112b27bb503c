package cosign

import "crypto"

// PreAuthenticationEncoding is for tests that sign what a good signer does not.
var PreAuthenticationEncoding = preAuthenticationEncoding

// SigningHash is what cosign signs with.
const SigningHash = crypto.SHA256
