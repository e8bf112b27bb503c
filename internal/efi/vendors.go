package efi

import "github.com/osmith-dev/osmith"

// Vendors of variables.
var (
	// UEFI Specification 2.10, section 3.3: PK, KEK, SecureBoot, Boot####
	GlobalVariable = osmith.MustParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	// section 32.6.1: db, dbx, dbt, dbr
	ImageSecurityDatabase = osmith.MustParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	// shim: SbatLevel, MokList and all of shim's
	ShimLock = osmith.MustParseGUID("605dab50-e046-4300-abb6-3dd810dd8b23")
)
