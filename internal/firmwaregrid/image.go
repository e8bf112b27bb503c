package firmwaregrid

import (
	"cmp"
	"crypto"
	"encoding/binary"
	"slices"
)

// program is a PE image (Microsoft PE and COFF Specification) for x64 that returns EFI_ABORTED at
// once: firmware that starts it says so and goes on to the next. The text makes its digest one of
// its own.
func program(text string) []byte { return programWith(text) }

// A section is one besides code and data.
type section struct {
	name    string
	content []byte
	size    int // VirtualSize if it is not that of the content
}

func programWith(text string, more ...section) []byte {
	const header, align = 0x200, 0x200
	sections := append([]section{
		// mov rax, EFI_ABORTED; ret
		{".text", []byte{0x48, 0xb8, 0x15, 0, 0, 0, 0, 0, 0, 0x80, 0xc3}, align},
		{".data", []byte(text), align},
	}, more...)
	b := make([]byte, header)
	copy(b, "MZ")
	le := binary.LittleEndian
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	coff := b[0x44:]
	le.PutUint16(coff, 0x8664)
	le.PutUint16(coff[2:], uint16(len(sections)))
	le.PutUint16(coff[16:], 240)
	le.PutUint16(coff[18:], 0x222e)
	opt := coff[20:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[4:], align)  // SizeOfCode
	le.PutUint32(opt[8:], align)  // SizeOfInitializedData
	le.PutUint32(opt[16:], 4096)  // AddressOfEntryPoint
	le.PutUint32(opt[20:], 4096)  // BaseOfCode
	le.PutUint32(opt[32:], 4096)  // SectionAlignment
	le.PutUint32(opt[36:], align) // FileAlignment
	le.PutUint32(opt[56:], uint32(1+len(sections))*4096)
	le.PutUint32(opt[60:], header)
	le.PutUint16(opt[68:], 10) // EFI application
	le.PutUint32(opt[108:], 16)
	var body []byte
	for i, s := range sections {
		size := (len(s.content) + align - 1) / align * align
		h := opt[240+40*i:]
		copy(h, s.name)
		le.PutUint32(h[8:], uint32(cmp.Or(s.size, len(s.content))))
		le.PutUint32(h[12:], uint32(4096*(i+1)))
		le.PutUint32(h[16:], uint32(size))
		le.PutUint32(h[20:], uint32(header+len(body)))
		characteristics := uint32(0x40000040)
		switch s.name {
		case ".text":
			characteristics = 0x60000020
		case ".data":
			characteristics = 0xc0000040
		}
		le.PutUint32(h[36:], characteristics)
		body = append(body, s.content...)
		body = append(body, make([]byte, size-len(s.content))...)
	}
	return append(b, body...)
}

const (
	checksumAt  = 0x44 + 20 + 64
	directoryAt = 0x44 + 20 + 112 + 8*4 // of certificates
)

// digest is the Authenticode digest of a program.
func digest(b []byte, h crypto.Hash) []byte {
	w := h.New()
	w.Write(b[:checksumAt])
	w.Write(b[checksumAt+4 : directoryAt])
	w.Write(b[directoryAt+8:])
	return w.Sum(nil)
}

// withTable is a program with a certificate table, whose entries stand one after the other.
func withTable(b []byte, entries ...[]byte) []byte {
	out := slices.Clone(b)
	table := slices.Concat(entries...)
	binary.LittleEndian.PutUint32(out[directoryAt:], uint32(len(out)))
	binary.LittleEndian.PutUint32(out[directoryAt+4:], uint32(len(table)))
	return append(out, table...)
}

// entry is WIN_CERTIFICATE with its padding.
func entry(revision, kind uint16, content []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(8+len(content)))
	b = binary.LittleEndian.AppendUint16(b, revision)
	b = binary.LittleEndian.AppendUint16(b, kind)
	b = append(b, content...)
	return append(b, make([]byte, -len(b)&7)...)
}

// A message is SignedData (RFC 2315, section 9) about an image.
type message struct {
	digestAlgorithms []byte
	content          []byte // ContentInfo of what is signed
	certificates     [][]byte
	revocations      []byte
	identifier       []byte // IssuerAndSerialNumber
	signerVersion    []byte
	hash             crypto.Hash
	digestAlgorithm  []byte   // of the signer
	attributes       [][]byte // signed ones; nil: none
	algorithm        []byte
	unsigned         []byte
	encode           func(attributes []byte) []byte // of the signed attributes, as they are carried
	sign             func(signed []byte) []byte
	signers          func(one []byte) []byte // contents of the set
	wrap             func(signedData []byte) []byte
	tail             []byte // behind the message
}

var (
	oidSignedData  = oid(1, 2, 840, 113549, 1, 7, 2)
	oidData        = oid(1, 2, 840, 113549, 1, 7, 1)
	oidSPC         = oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 4)
	oidPEImage     = oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 15)
	oidContentType = oid(1, 2, 840, 113549, 1, 9, 3)
	oidDigest      = oid(1, 2, 840, 113549, 1, 9, 4)
	oidTime        = oid(1, 2, 840, 113549, 1, 9, 5)
)

// indirectData is the content of SpcIndirectDataContent (Windows Authenticode Portable Executable
// Signature Format, 2008).
func indirectData(h crypto.Hash, sum []byte) []byte {
	obsolete := slices.Concat([]byte{0, '<', 0, '<', 0, '<'}, utf16("Obsolete"), []byte{0, '>', 0, '>', 0, '>'})
	link := tlv(0xa0, tlv(0xa2, tlv(0x80, obsolete)))
	return slices.Concat(
		seq(oidPEImage, seq(bits(nil), link)),
		seq(seq(oidHash[h], null), octets(sum)))
}

func utf16(s string) (b []byte) {
	for _, c := range []byte(s) {
		b = append(b, 0, c)
	}
	return b
}

// about is the ordinary message of a signer about an image.
func about(image []byte, signer *authority, h crypto.Hash) *message {
	spc := indirectData(h, digest(image, h))
	return signs(spc, seq(oidSPC, tlv(0xa0, seq(spc))), oidSPC, signer, h)
}

// signs is a message whose content, as it is hashed, and as it is carried, are given.
func signs(hashed, carried, contentType []byte, signer *authority, h crypto.Hash) *message {
	w := h.New()
	w.Write(hashed)
	m := &message{
		digestAlgorithms: seq(oidHash[h], null), content: carried, certificates: [][]byte{signer.der}, signerVersion: integer(1),
		identifier: seq(signer.issuer, signer.serial), hash: h, digestAlgorithm: seq(oidHash[h], null), algorithm: seq(oidRSA, null),
		attributes: [][]byte{
			seq(oidContentType, set(contentType)),
			seq(oidTime, set(text(0x17, "250601000000Z"))),
			seq(oidDigest, set(octets(w.Sum(nil)))),
		},
		sign:    func(signed []byte) []byte { return signer.key.sign(h, signed) },
		signers: func(one []byte) []byte { return one },
		wrap:    func(sd []byte) []byte { return seq(oidSignedData, tlv(0xa0, sd)) },
	}
	if signer.key.ec != nil {
		m.algorithm = seq(oidECDSA[h])
	}
	if contentType == nil {
		m.attributes = nil
	}
	return m
}

// der encodes a message. content is what is signed where there are no attributes.
func (m *message) der(content []byte) []byte {
	signed, attributes := content, []byte(nil)
	if m.attributes != nil {
		signed = set(m.attributes...)
		attributes = tlv(0xa0, m.attributes...)
		if m.encode != nil {
			attributes = m.encode(attributes)
		}
	}
	one := seq(m.signerVersion, m.identifier, m.digestAlgorithm, attributes, m.algorithm, octets(m.sign(signed)), m.unsigned)
	var certificates []byte
	if m.certificates != nil {
		certificates = tlv(0xa0, m.certificates...)
	}
	sd := seq(integer(1), set(m.digestAlgorithms), m.content, certificates, m.revocations, set(m.signers(one)))
	return append(m.wrap(sd), m.tail...)
}
