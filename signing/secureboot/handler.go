package secureboot

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// edk2Row is what differs between builds of edk2.
type edk2Row struct {
	name           Firmware
	options        edk2.Options
	unsignedHashes []crypto.Hash // by which an unsigned image is looked up, in order
}

func (r edk2Row) row() firmwareRow {
	return firmwareRow{r.name, func(l keyLists, im Image) Verdict {
		return (&handler{row: r, image: im, keyLists: l}).judge()
	}}
}

// handler is DxeImageVerificationHandler for one image.
type handler struct {
	row   edk2Row
	image Image
	keyLists

	accepted *Verdict
	why      string   // why signatures did not lead to db
	rule     Rule     // of the first of them, or of one that leads to a revoked certificate
	revoked  bool     // one of them led to a certificate that dbx revokes
	open     []string // what cannot be told, about db
	openDBX  []string // what cannot be told, about dbx
	warnings []string
}

func (h *handler) judge() Verdict {
	if h.malformed != nil {
		return refuse(RuleVariableMalformed, "%v", h.malformed)
	}
	table := h.image.table()
	if len(table) == 0 {
		return h.unsigned()
	}
	if r := h.signed(table); r != nil {
		r.Warnings = h.warnings
		return *r
	}
	switch {
	case len(h.openDBX) > 0:
		return h.unknown(h.openDBX[0])
	case h.accepted != nil:
		h.accepted.Warnings = h.warnings
		return *h.accepted
	case len(h.open) > 0:
		return h.unknown(h.open[0])
	case h.why == "":
		h.because(RuleSignaturePassedBy, "the certificate table has no signature of a type that firmware knows")
	}
	return Verdict{Rule: h.rule, Reason: h.why, Revoked: h.revoked, Warnings: h.warnings}
}

func (h *handler) unknown(why string) Verdict {
	r := unknown(RuleNotModelled, "%s", why)
	r.Warnings = h.warnings
	return r
}

// because collects the reasons of several signatures.
func (h *handler) because(rule Rule, format string, args ...any) {
	if h.why == "" {
		h.rule = rule
	} else {
		h.why += "; "
	}
	h.why += fmt.Sprintf(format, args...)
}

func (h *handler) unsigned() Verdict {
	var found *Signature
	var by crypto.Hash
	for _, hash := range h.row.unsignedHashes {
		sum := h.image.Digests[hash]
		if len(sum) == 0 {
			if hash == crypto.SHA256 {
				return unknown(RuleDigestNotGiven, "the image is not signed, and its SHA-256 digest was not given")
			}
			if hasDigests(h.dbx, hash) {
				return unknown(RuleDigestNotGiven, "dbx has %v digests, and that of the image was not given", hash)
			}
			continue
		}
		if findDigest(h.dbx, hash, sum) != nil {
			return revoke(RuleDigestInDBX, "dbx has the digest of the image, %v %x", hash, sum)
		}
		if e := findDigest(h.db, hash, sum); e != nil && found == nil {
			found, by = e, hash
		}
	}
	if found == nil {
		return refuse(RuleUnsigned, "the image is not signed, and db does not have its digest, SHA-256 %x", h.image.Digests[crypto.SHA256])
	}
	return Verdict{Allowed: true, Rule: RuleDigestInDB, Reason: fmt.Sprintf("db has the digest of the image, %v %x", by, h.image.Digests[by]), Authority: found}
}

// winCertificateHeader is the beginning of WIN_CERTIFICATE (UEFI Specification 2.10, section
// 32.2.4).
type winCertificateHeader struct {
	Length         uint32
	Revision, Type uint16
}

const (
	certTypePKCS7 = 0x0002
	maxSignatures = 64 // of an image that are judged
)

// walkTable calls do for each message of a certificate table, as firmware finds them, until it
// returns false. end is where the walk came to: not the end of the table if an entry is broken.
func walkTable(table []byte, do func(message []byte) bool) (end int) {
	pos := 0
	for pos < len(table) {
		left := table[pos:]
		var c winCertificateHeader
		if len(left) <= 8 {
			break
		}
		if _, err := binary.Decode(left, binary.LittleEndian, &c); err != nil {
			break
		}
		size := uint64(c.Length)
		padded := size + (8-size%8)%8
		if padded > uint64(len(left)) || size < 8 {
			break
		}
		var message []byte
		switch {
		case c.Type == certTypePKCS7:
			if size <= 8 {
				return pos
			}
			message = left[8:size]
		case c.Type == certTypeEFIGUID:
			if size <= 24 {
				return pos
			}
			if efi.GUID(left[8:]) == guidPKCS7 {
				message = left[24:size]
			}
		}
		if message != nil && !do(message) {
			return pos
		}
		pos += int(padded)
	}
	return pos
}

// signed judges the signatures of a certificate table. nil means that the walk came to the end.
func (h *handler) signed(table []byte) (r *Verdict) {
	count := 0
	end := walkTable(table, func(message []byte) bool {
		if count++; count > maxSignatures {
			many := unknown(RuleNotModelled, "more than %d signatures", maxSignatures)
			r = &many
		} else {
			r = h.signature(count-1, message)
		}
		return r == nil
	})
	if r == nil && end != len(table) {
		broken := refuse(RuleTableMalformed, "the certificate table cannot be read to its end: entry at byte %d of %d", end, len(table))
		return &broken
	}
	return r
}

// signature judges one signature. The result ends the matter; nil leaves it to the others.
func (h *handler) signature(i int, message []byte) *Verdict {
	hash := edk2.ImageHash(message)
	if hash == 0 {
		h.because(RuleSignaturePassedBy, "signature %d: firmware ignores it, because the first digest algorithm of the message is unknown to firmware or not where it looks (lengths of two bytes)", i)
		return nil
	}
	sum := h.image.Digests[hash]
	if len(sum) == 0 {
		r := unknown(RuleDigestNotGiven, "the %v digest of the image, which signature %d is about, was not given", hash, i)
		return &r
	}
	// AuthenticodeVerify wants a ContentInfo, what looks for signers does not
	wrapped, notWrapped := h.row.options.Parse(message)
	m, bad := h.row.options.ParseSignedData(message)
	var signers []*edk2.Certificate
	if bad == nil {
		signers, bad = m.SignerCertificates()
	}
	if r := h.forbidden(i, wrapped, notWrapped, m, signers, bad, sum); r != nil {
		return r
	}
	if h.accepted == nil {
		h.allowed(i, wrapped, notWrapped, signers, bad, sum)
	}
	if findDigest(h.dbx, hash, sum) != nil {
		r := revoke(RuleDigestInDBX, "dbx has the digest of the image, %v %x", hash, sum)
		return &r
	}
	if h.accepted == nil {
		if e := findDigest(h.db, hash, sum); e != nil {
			h.accepted = &Verdict{Allowed: true, Rule: RuleDigestInDB, Reason: fmt.Sprintf("db has the digest of the image, %v %x", hash, sum), Authority: e}
		}
	}
	return nil
}

// forbidden is IsForbiddenByDbx.
func (h *handler) forbidden(i int, wrapped *edk2.Message, notWrapped error, m *edk2.Message, signers []*edk2.Certificate, bad error, sum []byte) *Verdict {
	if !h.hasDBX {
		return nil
	}
	for _, l := range h.dbx {
		if l.Type != TypeX509 {
			continue
		}
		for _, e := range l.Signatures {
			c, err := h.row.options.ParseCertificate(e.Data)
			if err != nil {
				h.openDBX = append(h.openDBX, fmt.Sprintf("dbx has a certificate that cannot be read: %v", err))
				continue
			}
			if notWrapped == nil {
				_, err = wrapped.VerifyImage(c, sum, h.row.options)
				if err == nil {
					r := revoke(RuleCertificateInDBX, "dbx has the certificate %q%s", subject(c), leads(c, signers))
					return &r
				}
				if edk2.IsUnknown(err) {
					h.openDBX = append(h.openDBX, fmt.Sprintf("signature %d and the certificate %q in dbx: %v", i, subject(c), err))
				}
			}
			for _, s := range signers {
				found, err := edk2.Leads(s, m.Certificates, c)
				switch {
				case found:
					h.warnings = append(h.warnings, fmt.Sprintf("firmware may not find the path from the signer %q to the certificate %q in dbx, and run the image", subject(s), subject(c)))
					r := revoke(RuleCertificateInDBX, "dbx has the certificate %q%s", subject(c), leads(c, signers))
					return &r
				case err != nil:
					h.openDBX = append(h.openDBX, fmt.Sprintf("signature %d and the certificate %q in dbx: %v", i, subject(c), err))
				}
			}
		}
	}
	if edk2.IsUnknown(bad) {
		h.openDBX = append(h.openDBX, fmt.Sprintf("signature %d: %v", i, bad))
		return nil
	}
	if bad != nil {
		r := refuse(RuleSignatureMalformed, "signature %d: %v; while dbx exists, firmware refuses an image with such a signature", i, bad)
		return &r
	}
	for _, s := range signers {
		if tbsRevoked(h.dbx, s.RawTBS) {
			r := revoke(RuleCertificateDigestInDBX, "dbx has the digest of the certificate %q", subject(s))
			return &r
		}
	}
	return nil
}

// leads says how a signer comes to a certificate.
func leads(c *edk2.Certificate, signers []*edk2.Certificate) string {
	if len(signers) == 0 || bytes.Equal(signers[0].Raw, c.Raw) {
		return ""
	}
	return fmt.Sprintf(", which leads to the signer %q", subject(signers[0]))
}

// allowed is IsAllowedByDb.
func (h *handler) allowed(i int, m *edk2.Message, err error, signers []*edk2.Certificate, bad error, sum []byte) {
	if edk2.IsUnknown(err) || edk2.IsUnknown(bad) {
		h.open = append(h.open, fmt.Sprintf("signature %d: %v", i, errorOf(err, bad)))
		return
	}
	if err != nil || bad != nil {
		h.because(RuleSignatureMalformed, "signature %d: %v", i, errorOf(err, bad))
		return
	}
	closest := "" // why a certificate of db with the right name does not verify
	for _, l := range h.db {
		if l.Type != TypeX509 {
			continue
		}
		for k := range l.Signatures {
			root, err := h.row.options.ParseCertificate(l.Signatures[k].Data)
			if edk2.IsUnknown(err) {
				h.open = append(h.open, fmt.Sprintf("a certificate in db: %v", err))
			}
			if err != nil {
				continue // firmware cannot use it either
			}
			_, err = m.VerifyImage(root, sum, h.row.options)
			if edk2.IsUnknown(err) {
				h.open = append(h.open, fmt.Sprintf("signature %d and the certificate %q in db: %v", i, subject(root), err))
				continue
			}
			if err != nil {
				if found, _ := edk2.Leads(signers[0], m.Certificates, root); found {
					closest = fmt.Sprintf("signature %d: the certificate %q in db: %v", i, subject(root), err)
				}
				continue
			}
			if tbsRevoked(h.dbx, root.RawTBS) {
				h.revoked = true
				h.because(RuleCertificateDigestInDBX, "signature %d: dbx has the digest of the certificate %q", i, subject(root))
				h.rule = RuleCertificateDigestInDBX
				return
			}
			h.accepted = &Verdict{Allowed: true, Rule: RuleCertificateInDB, Reason: fmt.Sprintf("db has the certificate %q%s", subject(root), leads(root, signers)), Authority: &l.Signatures[k]}
			if c, err := x509.ParseCertificate(l.Signatures[k].Data); err == nil {
				h.accepted.Certificate = c
			}
			return
		}
	}
	switch {
	case !m.About(sum):
		h.because(RuleImageChanged, "signature %d: the image was changed after it was signed, or its digest is not the last thing that is signed", i)
	case closest != "":
		h.because(RuleChain, "%s", closest)
	default:
		h.because(RuleNoPathToDB, "signature %d: signed by %q, issued by %q: no certificate in db is on that chain", i, subject(signers[0]), edk2.Name(signers[0].RawIssuer))
	}
}

func errorOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func subject(c *edk2.Certificate) string { return c.Subject() }

// tbsRevoked looks for the digest of a certificate's to-be-signed part.
func tbsRevoked(dbx []SignatureList, tbs []byte) bool {
	for _, l := range dbx {
		h, ok := certificateHashes[l.Type]
		if !ok {
			continue
		}
		w := h.New()
		w.Write(tbs)
		sum := w.Sum(nil)
		for _, e := range l.Signatures {
			if bytes.HasPrefix(e.Data, sum) {
				return true
			}
		}
	}
	return false
}

// hasDigests reports whether lists have digests of images by a hash.
func hasDigests(lists []SignatureList, h crypto.Hash) bool {
	for _, l := range lists {
		if l.Type == imageHashTypes[h] && len(l.Signatures) > 0 {
			return true
		}
	}
	return false
}

// findDigest returns the entry with a digest of an image, nil if there is none.
func findDigest(lists []SignatureList, h crypto.Hash, sum []byte) *Signature {
	for _, l := range lists {
		if l.Type != imageHashTypes[h] {
			continue
		}
		for i := range l.Signatures {
			if bytes.Equal(l.Signatures[i].Data, sum) {
				return &l.Signatures[i]
			}
		}
	}
	return nil
}
