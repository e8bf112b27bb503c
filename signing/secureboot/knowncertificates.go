package secureboot

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
)

// A KnownCertificate is one that Microsoft publishes for the variables of PCs (Windows Secure Boot
// Key Creation and Management Guidance,
// https://learn.microsoft.com/windows-hardware/manufacture/desktop/windows-secure-boot-key-creation-and-management-guidance,
// and https://github.com/microsoft/secureboot_objects). The certificates themselves are not in this
// package: the caller supplies them, or takes them out of the variables of a machine.
type KnownCertificate struct {
	Name     string // Subject's common name
	SHA256   string // of the whole certificate, lower-case hexadecimal: its fingerprint
	Variable string // KEK or db
	Expires  time.Time
	Purpose  string // for a person

	// OptionROMs says that cards in use have firmware whose signature leads to this certificate.
	OptionROMs bool
}

// MicrosoftOwner is the owner that Microsoft's instructions give to its certificates and digests.
var MicrosoftOwner = osmith.MustParseGUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")

var knownCertificates = []KnownCertificate{
	{Name: "Microsoft Corporation KEK CA 2011", Variable: "KEK", Expires: day(2026, 6, 24),
		SHA256:  "a1117f516a32cefcba3f2d1ace10a87972fd6bbe8fe0d0b996e09e65d802a503",
		Purpose: "lets Microsoft's updates of db and dbx in, those signed until 2026"},
	{Name: "Microsoft Corporation KEK 2K CA 2023", Variable: "KEK", Expires: day(2038, 3, 2),
		SHA256:  "3cd3f0309edae228767a976dd40d9f4affc4fbd5218f2e8cc3c9dd97e8ac6f9d",
		Purpose: "lets Microsoft's updates of db and dbx in, those signed from 2026 on"},
	{Name: "Microsoft Windows Production PCA 2011", Variable: "db", Expires: day(2026, 10, 19),
		SHA256:  "e8e95f0733a55e8bad7be0a1413ee23c51fcea64b3c8fa6a786935fddcc71961",
		Purpose: "Windows boot managers signed until 2026"},
	{Name: "Windows UEFI CA 2023", Variable: "db", Expires: day(2035, 6, 13),
		SHA256:  "076f1fea90ac29155ebf77c17682f75f1fdd1be196da302dc8461e350a9ae330",
		Purpose: "Windows boot managers signed from 2023 on"},
	{Name: "Microsoft Corporation UEFI CA 2011", Variable: "db", Expires: day(2026, 6, 27), OptionROMs: true,
		SHA256:  "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507",
		Purpose: "shim and others' boot loaders, and option ROMs of nearly all cards in the field, signed until 2026"},
	{Name: "Microsoft UEFI CA 2023", Variable: "db", Expires: day(2038, 6, 13),
		SHA256:  "f6124e34125bee3fe6d79a574eaa7b91c0e7bd9d929c1a321178efd611dad901",
		Purpose: "shim and others' boot loaders signed from 2023 on; no option ROMs"},
	{Name: "Microsoft Option ROM UEFI CA 2023", Variable: "db", Expires: day(2038, 10, 26), OptionROMs: true,
		SHA256:  "e5be3e64c6e66a281457ecdece0d6d0787577aad2a3a0144262c10c14ba8d8f1",
		Purpose: "option ROMs signed from 2023 on, and nothing else"},
}

func day(year int, month time.Month, d int) time.Time {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC)
}

// KnownCertificates is the table of Microsoft's certificates of 2011 and 2023.
func KnownCertificates() []KnownCertificate {
	return append([]KnownCertificate(nil), knownCertificates...)
}

// Identify looks a certificate up in the table, by its SHA-256 fingerprint.
func Identify(c *x509.Certificate) (known KnownCertificate, ok bool) {
	sum := sha256.Sum256(c.Raw)
	fingerprint := hex.EncodeToString(sum[:])
	for _, k := range knownCertificates {
		if k.SHA256 == fingerprint {
			return k, true
		}
	}
	return KnownCertificate{}, false
}

// IsTestKey reports whether a certificate calls itself one for tests: firmware vendors have shipped
// machines with a PK of AMI's reference code, "DO NOT TRUST - AMI Test PK", whose private key has
// leaked (CVE-2024-8105), and with "DO NOT SHIP" and SnakeOil keys. On such a machine anyone can
// change the variables.
func IsTestKey(c *x509.Certificate) bool {
	for _, name := range []string{c.Subject.String(), c.Issuer.String()} {
		name = strings.ToUpper(name)
		for _, mark := range []string{"DO NOT TRUST", "DO NOT SHIP", "SNAKEOIL"} {
			if strings.Contains(name, mark) {
				return true
			}
		}
	}
	return false
}
