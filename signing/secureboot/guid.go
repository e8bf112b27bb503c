package secureboot

import (
	"crypto"

	"github.com/osmith-dev/osmith"
)

// Vendors of the variables (UEFI Specification 2.10, sections 3.3 and 32.6.1).
var (
	GlobalVariable        = osmith.MustParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c") // PK, KEK, SecureBoot, SetupMode
	ImageSecurityDatabase = osmith.MustParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // db, dbx, dbt, dbr
)

// MicrosoftOwner is the owner that Microsoft's instructions give to its certificates and digests.
var MicrosoftOwner = osmith.MustParseGUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")

// Types of signature lists (UEFI Specification 2.10, section 32.4.1; the two of SM3 as in MdePkg/Include/Guid/ImageAuthentication.h of edk2).
// Lists of other types are kept as they are.
var (
	TypeX509               = osmith.MustParseGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072") // a DER certificate
	TypeSHA1               = osmith.MustParseGUID("826ca512-cf10-4ac9-b187-be01496631bd") // digests of images
	TypeSHA224             = osmith.MustParseGUID("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd")
	TypeSHA256             = osmith.MustParseGUID("c1c41626-504c-4092-aca9-41f936934328")
	TypeSHA384             = osmith.MustParseGUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01")
	TypeSHA512             = osmith.MustParseGUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a")
	TypeSM3                = osmith.MustParseGUID("57347f87-7a9b-403a-b93c-dc4afb7a0ebc")
	TypeX509SHA256         = osmith.MustParseGUID("3bd2a492-96c0-4079-b420-fcf98ef103ed") // digest of a certificate's to-be-signed part, then EFI_TIME
	TypeX509SHA384         = osmith.MustParseGUID("7076876e-80c2-4ee6-aad2-28b349a6865b")
	TypeX509SHA512         = osmith.MustParseGUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d")
	TypeX509SM3            = osmith.MustParseGUID("60d807e5-10b4-49a9-9331-e40437888d37")
	TypeRSA2048            = osmith.MustParseGUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6") // a bare modulus
	TypeRSA2048SHA1        = osmith.MustParseGUID("67f8444f-8743-48f1-a328-1eaab8736080") // an RSA-2048 signature of a SHA-1 digest
	TypeRSA2048SHA256      = osmith.MustParseGUID("e2b36190-879b-4a3d-ad8d-f2e7bba32784") // an RSA-2048 signature of a SHA-256 digest
	TypeExternalManagement = osmith.MustParseGUID("452e8ced-dfff-4b8c-ae01-5118862e682c") // keys that a management entity outside the machine sets

	guidPKCS7 = osmith.MustParseGUID("4aafd29d-68df-49ee-8aa9-347d375665a7") // EFI_CERT_TYPE_PKCS7_GUID, in .auth files
)

// typeNames are the specification's, without EFI_CERT_ and _GUID.
var typeNames = map[osmith.GUID]string{
	TypeX509: "X509", TypeSHA1: "SHA1", TypeSHA224: "SHA224", TypeSHA256: "SHA256", TypeSHA384: "SHA384", TypeSHA512: "SHA512", TypeSM3: "SM3",
	TypeX509SHA256: "X509_SHA256", TypeX509SHA384: "X509_SHA384", TypeX509SHA512: "X509_SHA512", TypeX509SM3: "X509_SM3",
	TypeRSA2048: "RSA2048", TypeRSA2048SHA1: "RSA2048_SHA1", TypeRSA2048SHA256: "RSA2048_SHA256", TypeExternalManagement: "EXTERNAL_MANAGEMENT",
}

// TypeName is the specification's name of a list type, such as X509 or SHA256, and the GUID of a type that it does not know.
func TypeName(t osmith.GUID) string {
	if n, ok := typeNames[t]; ok {
		return n
	}
	return t.String()
}

// sizes are those of the signature data (without owner) where the type fixes one; edk2 refuses others.
var sizes = map[osmith.GUID]int{
	TypeSHA1: 20, TypeSHA224: 28, TypeSHA256: 32, TypeSHA384: 48, TypeSHA512: 64, TypeSM3: 32,
	TypeX509SHA256: 32 + timeSize, TypeX509SHA384: 48 + timeSize, TypeX509SHA512: 64 + timeSize, TypeX509SM3: 32 + timeSize,
	TypeRSA2048: 256, TypeRSA2048SHA1: 256, TypeRSA2048SHA256: 256, TypeExternalManagement: 1,
}

// imageHashes and certificateHashes say which list type holds which digest, strongest first as edk2 tries them.
var (
	imageHashes = []struct {
		hash crypto.Hash
		typ  osmith.GUID
	}{{crypto.SHA512, TypeSHA512}, {crypto.SHA384, TypeSHA384}, {crypto.SHA256, TypeSHA256}}

	certificateHashes = map[osmith.GUID]crypto.Hash{
		TypeX509SHA256: crypto.SHA256, TypeX509SHA384: crypto.SHA384, TypeX509SHA512: crypto.SHA512,
	}
)
