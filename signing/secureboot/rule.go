package secureboot

import (
	"fmt"
	"slices"
)

// A Rule names what decided about an image. Its name stays the same in later versions, so programs
// and tickets can refer to it, whereas the text of [Verdict].Reason may change. Each rule has a
// remedy.
type Rule string

// Rules that say yes.
const (
	RuleSetupMode       Rule = "setup-mode"         // without PK firmware verifies nothing
	RuleSecureBootOff   Rule = "secure-boot-off"    // firmware verifies nothing
	RuleCertificateInDB Rule = "certificate-in-db"  // a signature leads to a certificate in db
	RuleDigestInDB      Rule = "image-digest-in-db" // db has the digest of the image
)

// Rules of shim that say yes.
const (
	// a signature leads to a certificate in MokList
	RuleCertificateInMokList Rule = "certificate-in-moklist"
	RuleDigestInMokList      Rule = "image-digest-in-moklist" // MokList has the digest of the image
	// a signature leads to a certificate that shim was built to trust
	RuleCertificateOfVendor Rule = "certificate-of-vendor"
	// shim was built to start the image with this digest
	RuleDigestOfVendor      Rule = "image-digest-of-vendor"
	RuleShimVerifiesNothing Rule = "shim-verifies-nothing" // MokSBState is set
)

// Rules that say no: DxeImageVerificationLib of edk2.
const (
	// dbx has the digest of the image
	RuleDigestInDBX Rule = "image-digest-in-dbx"
	// a signature leads to a certificate in dbx
	RuleCertificateInDBX Rule = "certificate-in-dbx"
	// dbx has the digest of a certificate on the way from the signer to db
	RuleCertificateDigestInDBX Rule = "certificate-digest-in-dbx"
	// no signature, and db does not have the digest of the image
	RuleUnsigned Rule = "unsigned-image"
	// the signer leads to no certificate in db
	RuleNoPathToDB Rule = "no-certificate-in-db"
	// the names lead to a certificate in db, but a certificate on the way or a signature is invalid
	RuleChain Rule = "chain-refused"
	// the signature covers bytes that differ from the image
	RuleImageChanged Rule = "image-changed"
	// firmware ignores the signature, so the image counts as unsigned
	RuleSignaturePassedBy  Rule = "signature-passed-by"
	RuleSignatureMalformed Rule = "signature-malformed" // a signature cannot be read
	// the certificate table cannot be read to its end
	RuleTableMalformed Rule = "certificate-table-malformed"
	// SecureBoot, SetupMode, db or dbx cannot be read
	RuleVariableMalformed Rule = "variable-malformed"
	// whether Secure Boot is on is not known
	RuleSecureBootUnknown Rule = "secure-boot-unknown"
)

// Rules that say no: what U-Boot adds.
const (
	// the signing time is outside of the validity of the signer's certificate
	RuleSigningTime Rule = "signing-time-outside-validity"
	// U-Boot hashes sections rounded up to FileAlignment
	RuleSectionSize Rule = "section-size-not-aligned"
	// dbx has digests other than SHA-256 ones, or db short ones
	RuleDBXListType Rule = "dbx-list-type-not-supported"
	// an entry of the certificate table is of a type that U-Boot does not know
	RuleCertificateType Rule = "certificate-type-not-supported"
	// U-Boot cannot parse a certificate or message: it crashes or refuses
	RuleParserFails Rule = "parser-fails"
)

// Rules of shim that say no. It also knows those of db and dbx that are about an image, a
// certificate or a signature.
const (
	// a component is older than the SBAT level allows
	RuleSBATRevoked Rule = "sbat-revoked"
	// .sbat cannot be read, or exists twice
	RuleSBATMalformed Rule = "sbat-malformed"
	RuleSBATMissing   Rule = "sbat-missing" // the image has no .sbat
	// MokListX has the digest of the image
	RuleDigestInMokListX Rule = "image-digest-in-moklistx"
	// a signature leads to a certificate in MokListX
	RuleCertificateInMokListX Rule = "certificate-in-moklistx"
	// shim was built to refuse the image with this digest
	RuleDigestDeniedByVendor Rule = "image-digest-denied-by-shim"
	// a signature leads to a certificate that shim was built to refuse
	RuleCertificateDeniedByShim Rule = "certificate-denied-by-shim"
	// a signature leads to no certificate that shim looks at
	RuleNotTrustedByShim Rule = "not-trusted-by-shim"
	// MokPolicy asks for images that are compatible with NX
	RuleNXRequired Rule = "nx-required"
	// shim starts nothing and switches the machine off
	RuleShimStops Rule = "shim-stops"
)

// Rules that cannot tell: [Verdict].Unknown is set.
const (
	// this package does not know how firmware judges a message or certificate
	RuleNotModelled Rule = "not-modelled"
	// [Image].Digests lacks one that firmware compares
	RuleDigestNotGiven Rule = "digest-not-given"
	// it is unknown whether shim starts the image, or a variable by which shim decides is unknown
	RuleShimUnknown Rule = "shim-unknown"
	// no row has the name that [EvaluateOptions].Firmware gives
	RuleFirmwareUnknown Rule = "firmware-unknown"
)

// ruleRemedies are what to change for an image to run, by rule. A rule that is not here is none.
var ruleRemedies = map[Rule]string{
	RuleSetupMode:       "enrol PK: without it, any image runs",
	RuleSecureBootOff:   "switch Secure Boot on in the setup menu of the firmware: while it is off, any image runs",
	RuleCertificateInDB: "nothing: the image runs for as long as db has the certificate and dbx revokes neither",
	RuleDigestInDB:      "nothing: the image runs for as long as db has its digest; another build has another digest",

	RuleDigestInDBX:            "install a newer build of the image: this one was revoked, and taking a digest out of dbx needs a signed update of the whole of dbx",
	RuleCertificateInDBX:       "sign the image by a key whose certificate is not revoked, and install that",
	RuleCertificateDigestInDBX: "sign the image by a key whose certificate is not revoked, and install that",
	RuleUnsigned:               "sign the image by a key whose certificate is in db, or add its digest to db",
	RuleNoPathToDB:             "sign the image by a key whose certificate is in db, put intermediate certificates into the signature, or add the signer's certificate to db",
	RuleChain:                  "have the certificate that the reason names issued anew without what it names, or add another one that leads to the signer to db",
	RuleImageChanged:           "sign the image again after its last change, or copy it anew from where it was signed",
	RuleSignaturePassedBy:      "sign the image again with SHA-256, by a tool that writes one SignedData of 256 to 65535 bytes",
	RuleSignatureMalformed:     "take the signature that the reason names out of the image, and sign again",
	RuleTableMalformed:         "take all signatures out of the image, and sign again: the size of the certificate table in its header does not fit its entries",
	RuleSecureBootUnknown:      "read the variable SecureBoot from the machine; for firmware that has none, give it as empty and not nil",
	RuleVariableMalformed:      "write the variable that the reason names anew, or read it again from the machine: a file of efivarfs begins with four bytes of attributes",

	RuleSigningTime:     "sign the image with a signing time at which the signer's certificate is valid, or without one",
	RuleSectionSize:     "build the image with a SizeOfRawData of each section that is a multiple of FileAlignment, and sign it again",
	RuleDBXListType:     "leave lists of digests other than SHA-256 ones out of db and dbx",
	RuleCertificateType: "take the entry that is no PKCS #7 signature out of the certificate table",
	RuleParserFails:     "sign the image by an RSA key whose certificate is signed by RSA (PKCS #1 v1.5) and has no critical extension but keyUsage and basicConstraints, and keep other certificates out of db",

	RuleCertificateInMokList: "nothing: the image runs for as long as MokList has the certificate and nothing revokes it",
	RuleDigestInMokList:      "nothing: the image runs for as long as MokList has its digest; another build has another digest",
	RuleCertificateOfVendor:  "nothing: the image runs for as long as this shim is there, or one that trusts the same, and nothing revokes it",
	RuleDigestOfVendor:       "nothing: the image runs for as long as this shim is there, or one that trusts the same; another build has another digest",
	RuleShimVerifiesNothing:  "mokutil --enable-validation: while MokSBState is set, shim starts any image",

	RuleSBATRevoked:             "install a build with the generation that the level wants: shim does not start this one",
	RuleSBATMalformed:           "build the image with one section .sbat of lines with six columns each, the second a generation from 1 to 65535",
	RuleSBATMissing:             "build the image with a section .sbat: shim itself starts no image without one",
	RuleDigestInMokListX:        "install a newer build of the image, or have the owner of the machine take its digest out of MokListX with mokutil and MokManager",
	RuleCertificateInMokListX:   "sign the image by a key whose certificate is not in MokListX, and install that",
	RuleDigestDeniedByVendor:    "install a newer build of the image: this one was revoked by the vendor of shim",
	RuleCertificateDeniedByShim: "sign the image by a key that the vendor of shim did not revoke, and install that",
	RuleNotTrustedByShim:        "sign the image by a key whose certificate is in db, in MokList or in shim, or enrol the signer's certificate with mokutil and MokManager",
	RuleNXRequired:              "build the image without sections that are writable and executable, and with the flag NX_COMPAT in its header",
	RuleShimStops:               "install a newer shim, or write a SbatLevel that can be read: until then nothing behind this shim runs",

	RuleShimUnknown: "say which shim starts the image, or that none does, and give its variables: all of efivarfs after a start with shim, or the variable store",

	RuleNotModelled:     "try the image on the machine itself, or sign it by a certificate and message of a common form: RSA, SHA-256, one signer",
	RuleDigestNotGiven:  "give Image.Digests under SHA-1, SHA-256, SHA-384 and SHA-512, as ReadImage does",
	RuleFirmwareUnknown: "name a row of Firmwares, or FirmwareAny",
}

// Remedy says, for a person, what to change so that an image runs or, for an image that runs, what
// follows from the rule. It is empty for a rule that does not exist.
func (r Rule) Remedy() string { return ruleRemedies[r] }

// Rules returns the names of all rules, sorted.
func Rules() (list []Rule) {
	for r := range ruleRemedies {
		list = append(list, r)
	}
	slices.Sort(list)
	return list
}

// refuse, revoke and unknown are verdicts that do not allow an image, by the rule that decided.
func refuse(rule Rule, format string, args ...any) Verdict {
	return Verdict{Rule: rule, Reason: fmt.Sprintf(format, args...)}
}

func revoke(rule Rule, format string, args ...any) Verdict {
	return Verdict{Rule: rule, Revoked: true, Reason: fmt.Sprintf(format, args...)}
}

// cannotBeTold begins the reasons of verdicts that are unknown.
const cannotBeTold = "cannot be told: "

func unknown(rule Rule, format string, args ...any) Verdict {
	return Verdict{Rule: rule, Unknown: true, Reason: cannotBeTold + fmt.Sprintf(format, args...)}
}
