// Package edk2 is a model of how edk2 verifies the signatures of images and of variable updates:
// CryptoPkg's AuthenticodeVerify, Pkcs7Verify and Pkcs7GetSigners
// (CryptoPkg/Library/BaseCryptLib/Pk), and of OpenSSL what these call: d2i_PKCS7, PKCS7_verify,
// X509_verify_cert with the flags X509_V_FLAG_PARTIAL_CHAIN and X509_V_FLAG_NO_CHECK_TIME and the
// purpose "any".
//
// It is not a tidy reader of PKCS #7. What firmware overlooks is overlooked here, what it refuses
// is refused, and it goes the ways that firmware goes: of several issuers with one name the first
// is taken, and the search does not come back. Where the model does not know what firmware would
// do, the error is an [UnknownError]: the answer is then neither yes nor no.
//
// The rules were read in edk2's source (c5aa7e7d94) and OpenSSL's documentation, and tried on OVMF
// of edk2-stable202211 and of 2026.08: testdata/README.md of package secureboot has the images and
// what became of them. Certificates are read by a reader of the few fields that matter (RFC 5280,
// section 4.1), since firmware takes certificates that crypto/x509 does not: negative serial
// numbers, keys of any size, names and dates of any kind.
//
// All input may be hostile. Public keys are bounded before they are used, and so is every search.
package edk2
