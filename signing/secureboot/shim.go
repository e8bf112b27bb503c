package secureboot

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sbat"
)

// A Shim is a shim (https://github.com/rhboot/shim) as far as it decides which images run after it.
// [ReadShim] reads it from its file. A zero Shim is unknown and lets no image run.
type Shim struct {
	// Image is shim itself. Firmware judges it; shim also checks its own .sbat against the level,
	// and stops if its generation is too old.
	Image Image

	// VendorCertificate is the certificate that it was built to trust (DER), or VendorDB are
	// signature lists of such; VendorDBX are signature lists of what it was built to refuse. All
	// are from the section .vendor_cert (cert.S).
	VendorCertificate, VendorDB, VendorDBX []byte

	// LevelAutomatic and LevelLatest are what it puts into SbatLevel, by default and where
	// SbatPolicy asks for it: the section .sbatlevel (sbat_var.S). Empty: not known, as for a shim
	// before 15.7, which has no such section.
	LevelAutomatic, LevelLatest string
}

// ErrShimState says that a variable on which shim's answer depends is unknown.
var ErrShimState = errors.New("shim's state is unknown")

// Sections of shim, and the bound of each in bytes.
const (
	sectionVendor = pe.ShimSection
	sectionLevel  = ".sbatlevel"
	maxVendor     = 1 << 20
)

// ReadShim reads a shim from its file, with the Authenticode digests that [ReadImage] computes. A
// file without the section .vendor_cert is not a shim: the error is a [*osmith.FormatError].
func ReadShim(src osmith.Source, hashes ...crypto.Hash) (s *Shim, err error) {
	defer prefix.Add("secureboot", &err)
	im, err := readImage(src, hashes...)
	if err != nil {
		return nil, err
	}
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, err
	}
	vendor, found, err := f.LongSection(src, sectionVendor, maxVendor)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, bad(0, "shim", "the image has no section %s: want a shim", sectionVendor)
	}
	level, _, err := f.LongSection(src, sectionLevel, maxVendor)
	if err != nil {
		return nil, err
	}
	return newShim(im, vendor, level)
}

// NewShim makes a Shim from the contents of the sections .vendor_cert and .sbatlevel; the latter
// may be nil. Errors are [*osmith.FormatError].
func NewShim(im Image, vendorCert, sbatLevel []byte) (s *Shim, err error) {
	defer prefix.Add("secureboot", &err)
	return newShim(im, vendorCert, sbatLevel)
}

// vendorHeader is the beginning of .vendor_cert (cert_table in cert.S): sizes, and offsets from its
// beginning.
type vendorHeader struct {
	AuthorizedSize, DeauthorizedSize     uint32
	AuthorizedOffset, DeauthorizedOffset uint32
}

// levelHeader is the beginning of .sbatlevel (sbat_var.S). Offsets are from behind the format,
// which is 0.
type levelHeader struct {
	Format, Automatic, Latest uint32
}

const levelFormatSize = 4

func newShim(im Image, vendor, level []byte) (*Shim, error) {
	s := &Shim{Image: im}
	var h vendorHeader
	if _, err := binary.Decode(vendor, binary.LittleEndian, &h); err != nil {
		return nil, bad(0, sectionVendor, "%d bytes, want 16 and the content", len(vendor))
	}
	authorized, ok := within(vendor, h.AuthorizedOffset, h.AuthorizedSize)
	if !ok {
		return nil, bad(0, sectionVendor, "%d bytes at %d are outside its %d bytes", h.AuthorizedSize, h.AuthorizedOffset, len(vendor))
	}
	if s.VendorDBX, ok = within(vendor, h.DeauthorizedOffset, h.DeauthorizedSize); !ok {
		return nil, bad(4, sectionVendor, "%d bytes at %d are outside its %d bytes", h.DeauthorizedSize, h.DeauthorizedOffset, len(vendor))
	}
	// Which of the two it is was decided when shim was built, and is not written down. A
	// certificate begins with 0x30, no type of lists does.
	if len(authorized) > 0 && authorized[0] == 0x30 {
		s.VendorCertificate = authorized
	} else if _, err := parseLists(authorized); err != nil {
		return nil, bad(int(h.AuthorizedOffset), sectionVendor, "neither a certificate nor signature lists: %w", err)
	} else {
		s.VendorDB = authorized
	}
	if _, err := parseLists(s.VendorDBX); err != nil {
		return nil, bad(int(h.DeauthorizedOffset), sectionVendor, "what it refuses: %w", err)
	}
	if len(level) == 0 {
		return s, nil
	}
	var l levelHeader
	if _, err := binary.Decode(level, binary.LittleEndian, &l); err != nil {
		return nil, bad(0, sectionLevel, "%d bytes, want 12 and the content", len(level))
	}
	if l.Format != 0 {
		return nil, bad(0, sectionLevel, "format %d, want 0", l.Format)
	}
	var err error
	if s.LevelAutomatic, err = levelText(level, l.Automatic); err != nil {
		return nil, err
	}
	if s.LevelLatest, err = levelText(level, l.Latest); err != nil {
		return nil, err
	}
	return s, nil
}

func within(b []byte, off, size uint32) ([]byte, bool) {
	if end := uint64(off) + uint64(size); end > uint64(len(b)) {
		return nil, false
	}
	return b[off : off+size : off+size], true
}

// levelText is a string of .sbatlevel, which ends with a NUL byte.
func levelText(b []byte, off uint32) (string, error) {
	if off > sbat.MaxSize || int(off)+levelFormatSize >= len(b) {
		return "", bad(levelFormatSize, sectionLevel, "offset %d is outside its %d bytes", off, len(b))
	}
	text, _, ends := bytes.Cut(b[levelFormatSize+off:], []byte{0})
	if !ends {
		return "", bad(int(off)+levelFormatSize, sectionLevel, "a level without an end")
	}
	if _, err := sbat.ParseLevel(text); err != nil {
		return "", bad(int(off)+levelFormatSize, sectionLevel, "%w", err)
	}
	return string(text), nil
}

// Values of SbatPolicy (sbat.h).
const (
	policyLatest    = 1
	policyAutomatic = 2
)

// levelOriginal is what shim puts into SbatLevel while Secure Boot is off (SBAT_VAR_ORIGINAL).
const levelOriginal = "sbat,1,2021030218\n"

// Level returns the content of SbatLevel at the next start of this shim, by which it judges and
// which it measures into PCR 7: the present content, if that is at least as new as shim's own
// level, otherwise shim's own level (set_sbat_uefi_variable). A file revocations_sbat.efi beside
// shim, which may raise the level further, is not considered. The error is [ErrShimState] if the
// level is unknown, and an [*osmith.FormatError] if SecureBoot or SetupMode cannot be read.
func (s *Shim) Level(v osmith.FirmwareVariables) (level []byte, err error) {
	defer prefix.Add("secureboot", &err)
	return s.level(v)
}

func (s *Shim) level(v osmith.FirmwareVariables) ([]byte, error) {
	setup, err := isSet("SetupMode", v.SetupMode)
	if err != nil {
		return nil, err
	}
	enforces, err := isSet("SecureBoot", v.SecureBoot)
	if err != nil {
		return nil, err
	}
	if v.SecureBoot == nil && !setup {
		return nil, fmt.Errorf("%w: SecureBoot", ErrShimState)
	}
	if v.SbatPolicy == nil {
		return nil, fmt.Errorf("%w: SbatPolicy", ErrShimState)
	}
	if v.SbatLevel == nil {
		return nil, fmt.Errorf("%w: SbatLevel", ErrShimState)
	}
	candidate, reset := s.LevelAutomatic, false
	switch {
	case len(v.SbatPolicy) > 0 && v.SbatPolicy[0] == policyLatest:
		candidate = s.LevelLatest
	case len(v.SbatPolicy) > 0 && v.SbatPolicy[0] == policyAutomatic:
	case setup || !enforces:
		candidate, reset = levelOriginal, true
	}
	if candidate == "" {
		return nil, fmt.Errorf("%w: the level that shim contains, because it has no section %s", ErrShimState, sectionLevel)
	}
	if len(v.SbatLevel) > 0 && !reset && keepsLevel(string(v.SbatLevel), candidate) {
		return v.SbatLevel, nil
	}
	return []byte(candidate), nil
}

// keepsLevel is preserve_sbat_uefi_variable: the level is kept if its version is higher, or its
// date as late as that of the other one. As in shim, versions are compared by their length first,
// and dates by their first ten bytes.
func keepsLevel(current, candidate string) bool {
	if len(current) < len(levelOriginal) || !strings.HasPrefix(current, "sbat,") {
		return false
	}
	version := func(level string) (version, rest string) {
		level, _, _ = strings.Cut(level, "\x00")
		_, rest, _ = strings.Cut(level, ",")
		version, rest, comma := strings.Cut(rest, ",")
		if !comma {
			version = version[:max(len(version)-1, 0)] // shim takes the last byte for the comma
		}
		return version, rest
	}
	ours, ourDate := version(current)
	theirs, theirDate := version(candidate)
	if len(ours) != len(theirs) {
		if len(ours) > len(theirs) {
			return true
		}
	} else if ours > theirs {
		return true
	}
	const date = len("2021030218")
	return ourDate[:min(len(ourDate), date)] >= theirDate[:min(len(theirDate), date)]
}

// vendorLists are what shim puts in front of MokList.
func (s *Shim) vendorLists() ([]byte, error) {
	if len(s.VendorCertificate) == 0 {
		return s.VendorDB, nil
	}
	return appendLists(nil, SignatureList{Type: TypeX509, Signatures: []Signature{{Owner: efi.ShimLock, Data: s.VendorCertificate}}})
}

// nothingListed is what shim makes of lists that are empty: the digest of no image (null_sha256 in
// mok.c).
func nothingListed() ([]byte, error) {
	return appendLists(nil, SignatureList{Type: TypeSHA256, Signatures: []Signature{{Owner: efi.ShimLock, Data: make([]byte, 32)}}})
}

// MokListRT returns what this shim will start, besides what db allows: its own certificate or
// lists, then MokList. It measures that into PCR 14. If only the copy of an earlier start is known,
// the owner's enrolled entries can be told only if the shim of that start trusted the same
// certificates. The error is [ErrShimState] if the list is unknown. Certificates in files
// shim_certificate*.efi beside shim are not considered.
func (s *Shim) MokListRT(v osmith.FirmwareVariables) (lists []byte, err error) {
	defer prefix.Add("secureboot", &err)
	own, err := s.vendorLists()
	if err != nil {
		return nil, err
	}
	return copyOf("MokList", own, v.MokList, v.MokListRT)
}

// MokListXRT returns what this shim will refuse, besides what dbx denies: what it was built to
// refuse, then MokListX. It measures that into PCR 14. The error is [ErrShimState] if the list is
// unknown, as for [Shim.MokListRT].
func (s *Shim) MokListXRT(v osmith.FirmwareVariables) (lists []byte, err error) {
	defer prefix.Add("secureboot", &err)
	return copyOf("MokListX", s.VendorDBX, v.MokListX, v.MokListXRT)
}

// Measured returns what this shim measures of its variables as it starts (import_mok_state): a
// field is nil if v does not determine it. Shims 15.8 to 16.1 measure the same.
func (s *Shim) Measured(v osmith.FirmwareVariables) osmith.ShimVariables {
	known := func(b []byte, err error) []byte {
		if err != nil {
			return nil
		}
		return b
	}
	return osmith.ShimVariables{
		MokList: known(s.MokListRT(v)), MokListX: known(s.MokListXRT(v)), SbatLevel: known(s.level(v)),
		MokSBState: v.MokSBState, MokListTrusted: v.MokListTrustedRT, MokPolicy: v.MokPolicy,
	}
}

// copyOf is mirror_one_mok_variable for a list.
func copyOf(name string, own, list, earlier []byte) ([]byte, error) {
	switch {
	case list != nil && len(own)+len(list) > 0:
		return append(bytes.Clone(own), list...), nil
	case list != nil:
		return nothingListed()
	case earlier == nil:
		return nil, fmt.Errorf("%w: %s", ErrShimState, name)
	case len(own) == 0:
		return nil, fmt.Errorf("%w: %sRT may come from a different shim, because this shim contains nothing that identifies it", ErrShimState, name)
	case !bytes.HasPrefix(earlier, own):
		return nil, fmt.Errorf("%w: %sRT was written by a different shim", ErrShimState, name)
	}
	return earlier, nil
}
