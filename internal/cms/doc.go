// Package cms writes and strictly reads the one kind of CMS message that boot security uses:
// SignedData with an RSA PKCS #1 v1.5 or ECDSA signature, with or without signed attributes,
// embedded or detached (RFC 2315, PKCS #7 1.5, https://www.rfc-editor.org/rfc/rfc2315; RFC 5652,
// CMS, https://www.rfc-editor.org/rfc/rfc5652).
//
// Three public formats are made of it: the Authenticode signature of a PE file, the .auth form of a
// UEFI Secure Boot variable, and the root-hash signature of dm-verity. They differ only in what a
// [Template] says. The layout is that of PKCS #7 1.5 as OpenSSL writes it (version 1, issuer and
// serial number, rsaEncryption with NULL), because firmware compares some of these bytes at fixed
// offsets. Every SET OF is sorted, as DER demands, so the same inputs give the same bytes as long
// as the key's algorithm is deterministic.
//
//	t := cms.Template{Digest: sum, Certificate: cert}    // detached, no signed attributes, SHA-256
//	req, err := t.Prepare()                              // req.Digest goes to the key
//	sig, err := key.Sign(nil, req.Digest, req.Hash)
//	der, err := t.Join(sig)                              // checked against the certificate
//
// Reading accepts DER only, limits every count before it allocates, and never checks dates:
// firmware has no clock that it trusts. [Chain] is the firmware's notion of trust: the signer's
// certificate is a trusted one, or a chain of signatures leads from it to one.
//
// Errors carry no package name: the public package that calls adds its own.
//
// Not here: encryption, making counter-signatures and time stamps, or trusting them, RSA-PSS,
// Ed25519, SHA-1 signatures, and indefinite-length BER.
package cms
