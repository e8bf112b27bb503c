package tpm

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// text is one line on a variable: what a person knows its contents by.
func (v Variable) text() string {
	name := v.label()
	switch {
	case len(v.Data) == 0: // firmware measures a variable that does not exist so
		return name + " is absent"
	case v.Vendor == globalVariable && v.Name == "BootOrder":
		return name + " = " + bootOrderText(v.Data)
	case v.Vendor == globalVariable && bootVariableName.MatchString(v.Name):
		return name + " = " + loadOptionText(v.Data)
	case len(v.Data) == 1:
		return fmt.Sprintf("%s = %d", name, v.Data[0])
	}
	if entries, ok := signatureEntries(v.Data); ok {
		return name + " = " + nameEntries(entries, nil, 0)
	}
	if s, ok := textOf(v.Data); ok {
		return name + " = " + quote(strings.TrimRight(s, "\n"))
	}
	return fmt.Sprintf("%s = %d bytes", name, len(v.Data))
}

// label is the variable's name, safe to print, with its vendor if it is none of UEFI's and none of
// shim's.
func (v Variable) label() string {
	name := escape(v.Name)
	switch v.Vendor {
	case globalVariable, imageSecurityDatabase, shimVendor:
		return name
	}
	return name + "-" + v.Vendor.String()
}

// shimVendor is that of the variables of shim (https://github.com/rhboot/shim, SHIM_LOCK_GUID).
var shimVendor = efi.ShimLock

// isAuthority reports whether the data are an entry that let a program start, not a setting of
// shim's that is measured like one.
func (v Variable) isAuthority() bool {
	_, ok := entryOf(v.Data)
	return ok
}

// authority names the entry that let a program start: "certificate 'X' of db".
func (v Variable) authority() string {
	entry, _ := entryOf(v.Data)
	return entry.text() + " of " + v.authorityList()
}

// authorityList is the list that holds the entry, in the words of shim's manual for shim's.
func (v Variable) authorityList() string {
	if v.Vendor == shimVendor {
		switch v.Name {
		case "Shim":
			return "shim itself"
		case "MokList", "MokListRT":
			return "shim's " + v.Name
		}
	}
	return v.label()
}

// entryOf reads the data of an authority: an EFI_SIGNATURE_DATA, or what shim before 15.5 measures:
// a certificate alone, with one byte too many.
func entryOf(b []byte) (signatureEntry, bool) {
	if _, ok := certificateName(b); ok {
		return signatureEntry{data: string(make([]byte, ownerSize)) + string(b)}, true
	}
	if len(b) <= ownerSize {
		return signatureEntry{}, false
	}
	_, ok := certificateName(b[ownerSize:])
	return signatureEntry{data: string(b)}, ok || len(b) == ownerSize+sha256.Size
}

// ownerSize is the length of the owner in front of an entry.
const ownerSize = 16

// certificateName is the common name of a certificate's subject, or all of its subject if it has
// none. Firmware takes certificates that crypto/x509 does not, so that only what leads to the name
// is read. One byte behind the certificate is of shim before 15.5.
func certificateName(der []byte) (string, bool) {
	var cert struct {
		TBS struct {
			Version                     int `asn1:"optional,explicit,default:0,tag:0"`
			Serial                      *big.Int
			Algorithm, Issuer, Validity asn1.RawValue
			Subject                     asn1.RawValue
		}
	}
	rest, err := asn1.Unmarshal(der, &cert)
	if err != nil || len(rest) > 1 {
		return "", false
	}
	var subject pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.TBS.Subject.FullBytes, &subject); err != nil {
		return "", false
	}
	var name pkix.Name
	name.FillFromRDNSequence(&subject)
	if name.CommonName != "" {
		return name.CommonName, true
	}
	return subject.String(), true
}

// text names an entry: a certificate by its subject, a hash by its value.
func (e signatureEntry) text() string {
	data := []byte(e.data[ownerSize:])
	if name, ok := certificateName(data); ok {
		return "certificate " + quote(name)
	}
	switch len(data) {
	case sha1.Size, sha256.Size, sha512.Size384, sha512.Size:
		return "hash " + hex.EncodeToString(data)
	}
	return fmt.Sprintf("entry of %d bytes with SHA-256 %s", len(data), e.fingerprint())
}

// fingerprint is the start of the SHA-256 of a certificate or other data.
func (e signatureEntry) fingerprint() string {
	digest := sha256.Sum256([]byte(e.data[ownerSize:]))
	return hex.EncodeToString(digest[:8]) + "…"
}

// tellApart is what tells an entry from others of the same name: its fingerprint, its owner or
// both.
func (e signatureEntry) tellApart(others []signatureEntry) string {
	text, data, owner := "", false, false
	for _, o := range others {
		data = data || o.data[ownerSize:] != e.data[ownerSize:]
		owner = owner || o.data[:ownerSize] != e.data[:ownerSize]
	}
	if data {
		text += " with SHA-256 " + e.fingerprint()
	}
	if owner {
		text += fmt.Sprintf(" of owner %v", efi.GUID([]byte(e.data)))
	}
	return text
}

// maxCertificates and maxHashes bound the entries that a line names.
const (
	maxCertificates = 8
	maxHashes       = 3
)

// nameEntries names certificates and counts the rest, of which it gives the values: all if they are
// few, else the first ones, as many as more says. Those that look like another one, there or among
// the others, are told apart.
func nameEntries(list, others []signatureEntry, more int) string {
	byText := make(map[string][]signatureEntry)
	for _, e := range slices.Concat(list, others) {
		text := e.text()
		byText[text] = append(byText[text], e)
	}
	var certificates, hashes []string
	for _, e := range list {
		text := e.text()
		if len(certificates) < maxCertificates || len(hashes) < maxHashes { // what is named below
			text += e.tellApart(byText[text])
		}
		if name, ok := strings.CutPrefix(text, "certificate "); ok {
			certificates = append(certificates, name)
		} else {
			hashes = append(hashes, strings.TrimPrefix(text, "hash "))
		}
	}
	var parts []string
	if n := len(certificates); n > 0 {
		parts = append(parts, plural(n, "certificate")+" "+strings.Join(atMost(certificates, maxCertificates), ", "))
	}
	if n := len(hashes); n > 0 {
		text := plural(n, "hash")
		if n <= maxHashes {
			more = n
		}
		if more > 0 {
			text += " " + strings.Join(atMost(hashes, more), ", ")
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// plural counts things: nothing is said of the number of a single one.
func plural(n int, thing string) string {
	switch {
	case n == 1:
		return thing
	case strings.HasSuffix(thing, "h"):
		thing += "e"
	case strings.HasSuffix(thing, "ry"):
		thing = strings.TrimSuffix(thing, "y") + "ie"
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// atMost are the first n texts, and how many more there are.
func atMost(texts []string, n int) []string {
	if more := len(texts) - n; more > 0 {
		return append(texts[:n:n], fmt.Sprintf("%d more", more))
	}
	return texts
}

// describeVariableChange says how a variable differs when both events are of the same one.
func describeVariableChange(want, got *Event) (string, bool) {
	w, err1 := readVariable(want.Data)
	g, err2 := readVariable(got.Data)
	if err1 != nil || err2 != nil || w.Vendor != g.Vendor || w.Name != g.Name {
		return "", false
	}
	name := g.label()
	switch {
	case want.Type == EventEFIVariableAuthority && w.isAuthority() && g.isAuthority():
		return describeAuthorityChange(w, g), true
	case bytes.Equal(w.Data, g.Data):
		// the firmware hashes something else, or what it writes is not what it hashed
		return fmt.Sprintf("%s has the expected contents, and not the expected digest (%s, expected %s)", name, shortDigest(got), shortDigest(want)), true
	case len(w.Data) <= 1 || len(g.Data) <= 1, name == "BootOrder":
		return fmt.Sprintf("%s is %s, expected %s", name, g.value(), w.value()), true
	}
	if s, ok := describeEntries(name, w.Data, g.Data); ok {
		return s, true
	}
	if want.Type == EventEFIVariableBoot || want.Type == EventEFIVariableBoot2 {
		return fmt.Sprintf("%s is %s, expected %s", name, g.value(), w.value()), true
	}
	_, ok1 := textOf(w.Data)
	_, ok2 := textOf(g.Data)
	switch {
	case ok1 && ok2:
		return fmt.Sprintf("%s is %s, expected %s", name, g.value(), w.value()), true
	case len(g.Data) > len(w.Data):
		return fmt.Sprintf("%s grew by %d bytes to %d", name, len(g.Data)-len(w.Data), len(g.Data)), true
	case len(g.Data) < len(w.Data):
		return fmt.Sprintf("%s shrank by %d bytes to %d", name, len(w.Data)-len(g.Data), len(g.Data)), true
	}
	return fmt.Sprintf("%s has other contents of the same size, %d bytes", name, len(g.Data)), true
}

// value is the variable's text without its name.
func (v Variable) value() string {
	text := strings.TrimPrefix(v.text(), v.label()+" ")
	return strings.TrimPrefix(strings.TrimPrefix(text, "= "), "is ")
}

func describeAuthorityChange(want, got Variable) string {
	w, _ := entryOf(want.Data)
	g, _ := entryOf(got.Data)
	return fmt.Sprintf("a program was let in by %s of %s, expected %s", nameEntries([]signatureEntry{g}, []signatureEntry{w}, 1), got.authorityList(),
		nameEntries([]signatureEntry{w}, []signatureEntry{g}, 1))
}

// describeEntries compares two lists of signatures entry by entry.
func describeEntries(name string, want, got []byte) (string, bool) {
	w, ok1 := signatureEntries(want)
	g, ok2 := signatureEntries(got)
	if !ok1 || !ok2 {
		return "", false
	}
	added, removed := minus(g, w), minus(w, g)
	var parts []string
	if n := len(added); n > 0 {
		parts = append(parts, fmt.Sprintf("has %s that %s not expected", nameEntries(added, removed, maxHashes), was(n)))
	}
	if len(removed) > 0 {
		parts = append(parts, "lacks "+nameEntries(removed, added, maxHashes))
	}
	if parts == nil {
		return fmt.Sprintf("%s has the same %s in another order", name, count(len(g), "entry")), true
	}
	return name + " " + strings.Join(parts, ", and "), true
}

func was(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// count is [plural] with the number in any case.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return plural(n, thing)
}

func bootOrderText(b []byte) string {
	var out []string
	for ; len(b) >= 2; b = b[2:] {
		out = append(out, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(b)))
	}
	if out == nil {
		return "empty"
	}
	return strings.Join(atMost(out, 32), ",")
}

// loadOptionText is the description and the path of an EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3).
func loadOptionText(b []byte) string {
	o, err := efi.ParseLoadOption(b)
	if err != nil && o.Path == nil {
		return describeBytes(b)
	}
	if s := DevicePath(o.Path).String(); s != "" {
		return quote(o.Description) + " " + s
	}
	return quote(o.Description)
}

// secureBootNames are the variables of the Secure Boot configuration, by vendor (UEFI 2.10,
// sections 3.3 and 32.4.1).
var secureBootNames = map[osmith.GUID][]string{
	globalVariable:        {"SecureBoot", "PK", "KEK", "SetupMode", "AuditMode", "DeployedMode"},
	imageSecurityDatabase: {"db", "dbx", "dbt", "dbr"},
}
