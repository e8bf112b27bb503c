package firmwaregrid

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// A Write is one SetVariable of a key variable.
type Write struct {
	Name       string
	Variable   string // PK, KEK, db, dbx, dbt or dbr
	Attributes uint32
	Data       []byte // as it is handed over: with EFI_VARIABLE_AUTHENTICATION_2
}

// Updates are writes for one machine, one after the other: what firmware says to one depends on
// those before it.
type Updates struct {
	PK, KEK, DB []byte // of the machine before the first; it has no dbx
	Writes      []Write
}

// Attributes of authenticated variables (UEFI Specification 2.10, section 8.2.1).
const (
	// non-volatile, in boot services and at runtime, authenticated with a time
	attributes      = 0x27
	attributeAppend = 0x40
)

var (
	globalVariable   = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	securityDatabase = []byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}

	// Types of lists.
	efiSHA1    = []byte{0x12, 0xa5, 0x6c, 0x82, 0x10, 0xcf, 0xc9, 0x4a, 0xb1, 0x87, 0xbe, 0x01, 0x49, 0x66, 0x31, 0xbd}
	efiSHA256  = []byte{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
	efiRSA2048 = []byte{0xe8, 0x66, 0x57, 0x3c, 0x9c, 0x26, 0x34, 0x4e, 0xaa, 0x14, 0xed, 0x77, 0x6e, 0x85, 0xb3, 0xb6}
)

// efiTime is EFI_TIME of a day of 2026 (UEFI Specification 2.10, section 8.3), with all that has to
// be zero.
func efiTime(month, day byte) []byte {
	return []byte{0xea, 0x07, month, day, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
}

// A change is what is unusual about an update.
type change struct {
	time       []byte
	attributes uint32                   // that are written
	signedAs   func(content *[4][]byte) // name, vendor, attributes, time: as they are signed
	hash       crypto.Hash
	message    func(m *message)
	header     func(b []byte) []byte // EFI_VARIABLE_AUTHENTICATION_2 with the payload behind
}

// write is an update under a signer.
func write(name, variable string, payload []byte, signer *authority, c change) Write {
	vendor := securityDatabase
	if variable == "PK" || variable == "KEK" {
		vendor = globalVariable
	}
	var ucs2 []byte
	for _, r := range []byte(variable) {
		ucs2 = append(ucs2, r, 0)
	}
	signed := [4][]byte{ucs2, vendor, binary.LittleEndian.AppendUint32(nil, c.attributes), c.time}
	if c.signedAs != nil {
		c.signedAs(&signed)
	}
	content := slices.Concat(signed[0], signed[1], signed[2], signed[3], payload)
	if c.hash == 0 {
		c.hash = crypto.SHA256
	}
	m := signs(content, seq(oidData), nil, signer, c.hash)
	m.wrap = func(sd []byte) []byte { return sd }
	if c.message != nil {
		c.message(m)
	}
	der := m.der(content)
	header := binary.LittleEndian.AppendUint32(nil, uint32(24+len(der)))
	header = append(header, 0x00, 0x02, 0xf1, 0x0e)
	data := slices.Concat(c.time, header, efiPKCS7, der, payload)
	if c.header != nil {
		data = c.header(data)
	}
	return Write{name, variable, c.attributes, data}
}

// at and appended are ordinary changes.
func at(month, day byte) change { return change{time: efiTime(month, day), attributes: attributes} }

func appended(month, day byte) change {
	return change{time: efiTime(month, day), attributes: attributes | attributeAppend}
}

func (c change) hashed(h crypto.Hash) change              { c.hash = h; return c }
func (c change) saying(f func(m *message)) change         { c.message = f; return c }
func (c change) as(f func(content *[4][]byte)) change     { c.signedAs = f; return c }
func (c change) with(attributes uint32) change            { c.attributes = attributes; return c }
func (c change) rewritten(f func(b []byte) []byte) change { c.header = f; return c }
func (c change) stamped(f func(time []byte)) change {
	c.time = slices.Clone(c.time)
	f(c.time)
	return c
}
func digestList(kind []byte, size int, fill ...byte) (list []byte) {
	return digestLists(kind, size, nil, fill)
}

// digestLists is one list of digests of a size, each of one byte over and over.
func digestLists(kind []byte, size int, header []byte, fill []byte) []byte {
	b := slices.Clone(kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(28+len(header)+len(fill)*(16+size)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	b = binary.LittleEndian.AppendUint32(b, uint32(16+size))
	b = append(b, header...)
	for _, f := range fill {
		b = append(b, Owner...)
		b = append(b, slices.Repeat([]byte{f}, size)...)
	}
	return b
}

// VariableUpdates are the writes of the grid.
func VariableUpdates() *Updates {
	pk := issue(nil, "grid platform key", keys["pk"], true, nil)
	kek := issue(nil, "grid kek", keys["kek"], true, nil)
	below := issue(kek, "grid below kek", keys["leaf"], false, nil)
	under := issue(pk, "grid below platform key", keys["leaf"], false, nil)
	stranger := issue(nil, "grid stranger", keys["stranger"], true, nil)
	next := issue(nil, "grid next platform key", keys["ca"], true, nil)
	short := issue(nil, "grid short", keys["rsa1024"], true, nil)
	large := issue(nil, "grid large", keys["rsa4096"], true, nil)
	negative := issue(nil, "grid negative", keys["root"], true, func(c *certificate) { c.serial = integer(0x80, 1) })
	critical := issue(nil, "grid critical", keys["root"], true, add(extension(unknownExtension, true, null)))
	padded := issue(nil, "grid padded", keys["root"], true, func(c *certificate) { c.serial = integer(0, 0, 1) })
	timeless := issue(nil, "grid timeless", keys["root"], true, func(c *certificate) { c.validity = times("never", "ever") })
	ec := issue(nil, "grid curve", keys["p256"], true, nil)
	cert := func(a *authority) []byte { return signatureList(efiX509, a.der) }
	sums := func(fill ...byte) []byte { return digestList(efiSHA256, 32, fill...) }
	dbx := func(name string, payload []byte, signer *authority, c change) Write {
		return write(name, "dbx", payload, signer, c)
	}
	wrapped := func(m *message) { m.wrap = func(sd []byte) []byte { return seq(oidSignedData, tlv(0xa0, sd)) } }
	head := func(i int, x byte) func([]byte) []byte {
		return func(b []byte) []byte { b = slices.Clone(b); b[i] ^= x; return b }
	}
	return &Updates{
		PK: cert(pk), KEK: cert(kek), DB: cert(issue(nil, "grid root", keys["root"], true, nil)),
		Writes: []Write{
			dbx("first", sums(1, 2), kek, appended(1, 2)),
			dbx("same again", sums(1, 2), kek, appended(1, 2)),
			dbx("append of an earlier time", sums(3), kek, appended(1, 1)),
			dbx("append of what is there and more", sums(3, 1, 4), kek, appended(1, 3)),
			dbx("append of twice the same", sums(5, 5), kek, appended(1, 4)),
			dbx("replace at the same time", sums(9), kek, at(1, 4)),
			dbx("replace at an earlier time", sums(9), kek, at(1, 3)),
			dbx("replace", sums(6), kek, at(1, 5)),
			dbx("replace by platform key", sums(7), pk, at(1, 6)),
			dbx("stranger", sums(8), stranger, appended(1, 7)),
			dbx("signer below kek", sums(10), below, appended(1, 7)),
			dbx("signer below platform key", sums(11), under, appended(1, 7)),
			dbx("kek carried as well", sums(12), below, appended(1, 7).saying(func(m *message) { m.certificates = append(m.certificates, kek.der) })),
			dbx("sha384", sums(13), kek, appended(1, 7).hashed(crypto.SHA384)),
			dbx("sha512", sums(14), kek, appended(1, 7).hashed(crypto.SHA512)),
			dbx("sha1", sums(15), kek, appended(1, 7).hashed(crypto.SHA1)),
			dbx("in a ContentInfo", sums(16), kek, appended(1, 7).saying(wrapped)),
			dbx("version of SignedData in attributes", sums(17), kek, appended(1, 7).saying(func(m *message) { m.signerVersion = integer(3) })),
			dbx("digest algorithms of two", sums(18), kek, appended(1, 7).saying(func(m *message) {
				m.digestAlgorithms = append(m.digestAlgorithms, seq(oidHash[crypto.SHA512], null)...)
			})),
			dbx("digest algorithms of two, sha256 last", sums(19), kek, appended(1, 7).saying(func(m *message) {
				m.digestAlgorithms = append(seq(oidHash[crypto.SHA512], null), m.digestAlgorithms...)
			})),
			dbx("bytes behind the message", sums(20), kek, appended(1, 7).saying(func(m *message) { m.tail = []byte("tail") })),
			dbx("no certificate in the message", sums(21), kek, appended(1, 7).saying(func(m *message) { m.certificates = nil })),
			dbx("signer twice", sums(22), kek, appended(1, 7).saying(func(m *message) {
				m.signers = func(one []byte) []byte { return slices.Concat(one, one) }
			})),
			dbx("signed for db", sums(23), kek, appended(1, 7).as(func(c *[4][]byte) { c[0] = []byte{'d', 0, 'b', 0} })),
			dbx("signed for a replacement", sums(24), kek, appended(1, 7).as(func(c *[4][]byte) { c[2] = []byte{attributes, 0, 0, 0} })),
			dbx("signed for another time", sums(25), kek, appended(1, 7).as(func(c *[4][]byte) { c[3] = efiTime(1, 8) })),
			dbx("signed for another vendor", sums(26), kek, appended(1, 7).as(func(c *[4][]byte) { c[1] = globalVariable })),
			dbx("nanoseconds", sums(27), kek, appended(1, 7).stamped(func(t []byte) { t[8] = 1 })),
			dbx("time zone", sums(28), kek, appended(1, 7).stamped(func(t []byte) { t[12] = 60 })),
			dbx("daylight", sums(29), kek, appended(1, 7).stamped(func(t []byte) { t[14] = 1 })),
			dbx("padding of the time", sums(30), kek, appended(1, 7).stamped(func(t []byte) { t[15] = 1 })),
			dbx("month 13", sums(31), kek, appended(13, 7)),
			dbx("time of zeros", sums(32), kek, appended(1, 7).stamped(func(t []byte) { clear(t) })),
			dbx("revision 1", sums(33), kek, appended(1, 7).rewritten(head(21, 3))),
			dbx("type pkcs", sums(34), kek, appended(1, 7).rewritten(head(22, 0xf3))),
			dbx("certificate type of another", sums(35), kek, appended(1, 7).rewritten(head(24, 1))),
			dbx("length beyond the data", sums(36), kek, appended(1, 7).rewritten(head(18, 1))),
			dbx("cut in the header", nil, kek, appended(1, 7).rewritten(func(b []byte) []byte { return b[:39] })),
			dbx("without attribute runtime", sums(37), kek, appended(1, 7).with(0x63)),
			dbx("without authentication", sums(38), kek, appended(1, 7).with(0x47)),
			dbx("with the older authentication", sums(39), kek, appended(1, 7).with(0x77)),
			dbx("append of nothing", nil, kek, appended(1, 9)),
			dbx("append of nothing by a stranger", nil, stranger, appended(1, 9)),

			dbx("list too long", head(16, 1)(sums(40)), kek, appended(1, 10)),
			dbx("list shorter than its entries", head(24, 1)(sums(41)), kek, appended(1, 10)),
			dbx("entries of size 0", slices.Concat(efiSHA256, []byte{28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), kek, appended(1, 10)),
			dbx("list without entries", slices.Concat(efiSHA256, []byte{28, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0}), kek, appended(1, 10)),
			dbx("list with a header", digestLists(efiSHA256, 32, []byte("head"), []byte{42}), kek, appended(1, 10)),
			dbx("list of a type of nobody", digestList(Owner, 32, 43), kek, appended(1, 10)),
			dbx("digests of another size", digestList(efiSHA256, 20, 44), kek, appended(1, 10)),
			dbx("good list and a bad one", slices.Concat(sums(45), head(16, 1)(sums(46))), kek, appended(1, 10)),
			dbx("list of rsa keys", digestList(efiRSA2048, 256, 47), kek, appended(1, 10)),
			dbx("list of sha1", digestList(efiSHA1, 20, 48), kek, appended(1, 10)),
			dbx("bytes behind the lists", slices.Concat(sums(49), []byte("tail")), kek, appended(1, 10)),

			write("certificate", "db", cert(large), kek, appended(1, 2)),
			write("certificate again", "db", cert(large), kek, appended(1, 2)),
			write("certificate of 1024 bits", "db", cert(short), kek, appended(1, 2)),
			write("certificate of a curve", "db", cert(ec), kek, appended(1, 2)),
			write("certificate with a negative serial number", "db", cert(negative), kek, appended(1, 2)),
			write("certificate with a critical extension", "db", cert(critical), kek, appended(1, 2)),
			write("certificate with a serial number that is not minimal", "db", cert(padded), kek, appended(1, 2)),
			write("certificate with a short time", "db", cert(timeless), kek, appended(1, 2)),
			write("no certificate", "db", signatureList(efiX509, []byte("no certificate")), kek, appended(1, 2)),
			write("certificate with bytes behind", "db", signatureList(efiX509, append(slices.Clone(next.der), 0, 0)), kek, appended(1, 2)),
			write("two certificates in a list", "db", func() []byte {
				b := cert(pk)
				b = append(b, b[28:]...)
				b[16], b[17] = byte(len(b)), byte(len(b)>>8)
				return b
			}(), kek, appended(1, 2)),

			write("by kek", "KEK", cert(stranger), kek, appended(1, 2)),
			write("by a signer below the platform key", "KEK", cert(stranger), under, appended(1, 2)),
			write("by platform key", "KEK", cert(next), pk, appended(1, 2)),
			dbx("by the new kek", sums(60), next, appended(1, 11)),
			write("dbt by kek", "dbt", cert(large), kek, appended(1, 2)),
			write("delete dbt", "dbt", nil, kek, at(1, 3)),
			write("delete what is not there", "dbt", nil, kek, at(1, 4)),

			write("two platform keys", "PK", slices.Concat(cert(pk), cert(next)), pk, at(1, 2)),
			write("platform key that is a digest", "PK", sums(61), pk, at(1, 2)),
			write("platform key by a stranger", "PK", cert(stranger), stranger, at(1, 2)),
			write("next platform key by itself", "PK", cert(next), next, at(1, 2)),
			write("next platform key", "PK", cert(next), pk, at(1, 2)),
			dbx("by the platform key of before", sums(62), pk, appended(1, 12)),
			dbx("by the next platform key", sums(63), next, appended(1, 12)),
			write("next platform key again", "PK", cert(next), next, at(1, 2)),
			write("delete platform key by kek", "PK", nil, kek, at(1, 3)),
			write("delete platform key", "PK", nil, next, at(1, 3)),

			dbx("in setup mode by a stranger", sums(64), stranger, at(1, 1)),
			dbx("in setup mode with a wrong signature", sums(65), stranger, at(1, 13).as(func(c *[4][]byte) { c[3] = efiTime(1, 14) })),
			dbx("in setup mode a malformed list", head(16, 1)(sums(66)), stranger, at(1, 14)),
			dbx("in setup mode a message that is none", sums(67), stranger, at(1, 15).rewritten(head(40, 0xff))),
			write("in setup mode a certificate of a curve", "db", cert(ec), stranger, at(1, 15)),
			dbx("in setup mode deleted", nil, stranger, at(1, 16)),
			dbx("in setup mode append to nothing", sums(68), stranger, appended(1, 17)),
			write("first platform key by another", "PK", cert(next), pk, at(2, 1)),
			write("first platform key by the one before", "PK", cert(next), stranger, at(2, 1)),
			write("first platform key", "PK", cert(next), next, at(2, 1)),
			dbx("after setup mode by a stranger", sums(69), stranger, appended(2, 1)),
			dbx("after setup mode by the platform key", sums(70), next, appended(2, 1)),
		},
	}
}

// Digest names the bytes of a write and of all before it.
func (u *Updates) Digest(i int) string {
	h := sha256.New()
	for _, w := range u.Writes[:i+1] {
		h.Write([]byte(w.Variable))
		h.Write(binary.LittleEndian.AppendUint32(nil, w.Attributes))
		sum := sha256.Sum256(w.Data)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
