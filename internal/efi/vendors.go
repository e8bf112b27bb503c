package efi

import "github.com/osmith-dev/osmith"

// Vendors of variables.
var (
	GlobalVariable        = osmith.MustParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c") // UEFI Specification 2.10, section 3.3: PK, KEK, SecureBoot, Boot####
	ImageSecurityDatabase = osmith.MustParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // section 32.6.1: db, dbx, dbt, dbr
	ShimLock              = osmith.MustParseGUID("605dab50-e046-4300-abb6-3dd810dd8b23") // shim: SbatLevel, MokList and all of shim's
)
