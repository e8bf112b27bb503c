package firmwaregrid

import (
	"bytes"
	"crypto"
	"slices"
)

// efiPKCS7 is EFI_CERT_TYPE_PKCS7_GUID as it is stored.
var efiPKCS7 = []byte{0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7}

// messageKinds are respects in which a signature of an image is unusual, whose signer leads to the
// authority in db.
var messageKinds = []struct {
	name  string
	hash  crypto.Hash // of the image; 0: SHA-256
	key   string      // of the signer
	table func(q *question) []byte
}{
	{"ordinary", 0, "", nil},
	{"sha1", crypto.SHA1, "", nil},
	{"sha224", crypto.SHA224, "", nil},
	{"sha384", crypto.SHA384, "", nil},
	{"sha512", crypto.SHA512, "", nil},
	{"md5", crypto.MD5, "", nil},
	{"rsa-1024", 0, "rsa1024", nil},
	{"rsa-4096", 0, "rsa4096", nil},
	{"ec-p256", 0, "p256", nil},
	{"ec-p384-sha384", crypto.SHA384, "p384", nil},
	{"ec-k256", 0, "k256", nil},
	{"no-attributes", 0, "", func(q *question) []byte { q.attributes = nil; return q.entry() }},
	{"attributes-empty", 0, "", func(q *question) []byte { q.attributes = [][]byte{}; return q.entry() }},
	{"no-signing-time", 0, "", func(q *question) []byte {
		q.attributes = slices.Delete(q.attributes, 1, 2)
		return q.entry()
	}},
	{"no-content-type", 0, "", func(q *question) []byte { q.attributes = q.attributes[1:]; return q.entry() }},
	{"content-type-data", 0, "", func(q *question) []byte {
		q.attributes[0] = seq(oidContentType, set(oidData))
		return q.entry()
	}},
	{"no-message-digest", 0, "", func(q *question) []byte { q.attributes = q.attributes[:2]; return q.entry() }},
	{"message-digest-twice-right-first", 0, "", func(q *question) []byte {
		q.attributes = append(q.attributes, seq(oidDigest, set(octets(make([]byte, 32)))))
		return q.entry()
	}},
	{"message-digest-twice-wrong-first", 0, "", func(q *question) []byte {
		q.attributes = slices.Insert(q.attributes, 2, seq(oidDigest, set(octets(make([]byte, 32)))))
		return q.entry()
	}},
	{"message-digest-of-two-values", 0, "", func(q *question) []byte {
		q.attributes[2] = seq(oidDigest, set(q.attributes[2][len(q.attributes[2])-34:], octets(make([]byte, 32))))
		return q.entry()
	}},
	{"message-digest-as-integer", 0, "", func(q *question) []byte {
		value := slices.Clone(q.attributes[2][len(q.attributes[2])-34:])
		value[0] = 2
		q.attributes[2] = seq(oidDigest, set(value))
		return q.entry()
	}},
	{"attributes-not-in-order", 0, "", func(q *question) []byte {
		slices.Reverse(q.attributes)
		return q.entry()
	}},
	{"attribute-without-value", 0, "", func(q *question) []byte {
		q.attributes = append(q.attributes, seq(unknownExtension, set()))
		return q.entry()
	}},
	{"signed-over-the-wrong-tag", 0, "", func(q *question) []byte {
		sign := q.sign
		q.sign = func(b []byte) []byte { return sign(append([]byte{0xa0}, b[1:]...)) }
		return q.entry()
	}},
	{"attributes-of-length-not-minimal", 0, "", func(q *question) []byte {
		q.encode = func(attributes []byte) []byte { // a length of three bytes where one or two do
			body := attributes[2:]
			if attributes[1] >= 0x80 {
				body = attributes[2+attributes[1]&0x7f:]
			}
			return slices.Concat(attributes[:1], []byte{0x83, 0, byte(len(body) >> 8), byte(len(body))}, body)
		}
		return q.entry()
	}},
	{"signing-time-of-letters", 0, "", func(q *question) []byte {
		q.attributes[1] = seq(oidTime, set(text(0x17, "never")))
		return q.entry()
	}},
	{"attribute-of-an-empty-boolean", 0, "", func(q *question) []byte {
		q.attributes = append(q.attributes, seq(unknownExtension, set([]byte{1, 0})))
		return q.entry()
	}},
	{"attribute-of-a-bmp-string-of-three", 0, "", func(q *question) []byte {
		q.attributes = append(q.attributes, seq(unknownExtension, set([]byte{0x1e, 3, 0, 0, 0})))
		return q.entry()
	}},
	{"attribute-of-length-not-minimal", 0, "", func(q *question) []byte {
		q.attributes = append(q.attributes, seq(unknownExtension, set(long(octets([]byte("x"))))))
		return q.entry()
	}},
	{"unsigned-attribute-of-an-empty-boolean", 0, "", func(q *question) []byte {
		q.unsigned = tlv(0xa1, seq(unknownExtension, set([]byte{1, 0})))
		return q.entry()
	}},
	{"version-not-minimal", 0, "", func(q *question) []byte { q.signerVersion = integer(0, 1); return q.entry() }},
	{"version-of-signer-negative", 0, "", func(q *question) []byte { q.signerVersion = integer(0xff); return q.entry() }},
	{"signing-time-before-the-certificate", 0, "", func(q *question) []byte {
		q.attributes[1] = seq(oidTime, set(text(0x17, "110601000000Z")))
		return q.entry()
	}},
	{"digest-algorithm-without-null", 0, "", func(q *question) []byte {
		q.digestAlgorithms, q.digestAlgorithm = seq(oidHash[crypto.SHA256]), seq(oidHash[crypto.SHA256])
		return q.entry()
	}},
	{"digest-algorithm-of-signer-differs", 0, "", func(q *question) []byte {
		q.digestAlgorithm = seq(oidHash[crypto.SHA512], null)
		return q.entry()
	}},
	{"digest-algorithms-of-two", 0, "", func(q *question) []byte {
		q.digestAlgorithms = append(q.digestAlgorithms, seq(oidHash[crypto.SHA512], null)...)
		return q.entry()
	}},
	{"digest-algorithms-empty", 0, "", func(q *question) []byte { q.digestAlgorithms = nil; return q.entry() }},
	{"digest-of-indirect-data-differs", 0, "", func(q *question) []byte {
		spc := indirectData(crypto.SHA512, digest(q.image, crypto.SHA512))
		*q.message = *signs(spc, seq(oidSPC, tlv(0xa0, seq(spc))), oidSPC, q.signer, crypto.SHA256)
		return q.entry()
	}},
	{"algorithm-sha256-with-rsa", 0, "", func(q *question) []byte { q.algorithm = seq(oidRSAWith[crypto.SHA256], null); return q.entry() }},
	{"algorithm-sha1-with-rsa", 0, "", func(q *question) []byte { q.algorithm = seq(oidRSAWith[crypto.SHA1], null); return q.entry() }},
	{"algorithm-without-null", 0, "", func(q *question) []byte { q.algorithm = seq(oidRSA); return q.entry() }},
	{"algorithm-unknown", 0, "", func(q *question) []byte { q.algorithm = seq(unknownExtension); return q.entry() }},
	{"algorithm-of-ec", 0, "", func(q *question) []byte { q.algorithm = seq(oidECDSA[crypto.SHA256]); return q.entry() }},
	{"algorithm-pss", 0, "", func(q *question) []byte {
		q.algorithm, q.sign = pssParameters(), q.signer.key.signPSS
		return q.entry()
	}},
	{"signature-pss-algorithm-rsa", 0, "", func(q *question) []byte { q.sign = q.signer.key.signPSS; return q.entry() }},
	{"signature-wrong", 0, "", func(q *question) []byte {
		q.sign = func([]byte) []byte { return bytes.Repeat([]byte{1}, 256) }
		return q.entry()
	}},
	{"signer-version-3", 0, "", func(q *question) []byte { q.signerVersion = integer(3); return q.entry() }},
	{"signer-unknown", 0, "", func(q *question) []byte { q.identifier = seq(cn("somebody"), integer(1)); return q.entry() }},
	{"signer-in-upper-case", 0, "", func(q *question) []byte {
		q.identifier = seq(cn("GRID  ROOT"), q.signer.serial)
		return q.entry()
	}},
	{"signer-serial-not-minimal", 0, "", func(q *question) []byte {
		q.identifier = seq(q.signer.issuer, tlv(2, []byte{0}, q.signer.serial[2:]))
		return q.entry()
	}},
	{"no-signer", 0, "", func(q *question) []byte { q.signers = func([]byte) []byte { return nil }; return q.entry() }},
	{"signer-twice", 0, "", func(q *question) []byte {
		q.signers = func(one []byte) []byte { return slices.Concat(one, one) }
		return q.entry()
	}},
	{"second-signer-wrong", 0, "", func(q *question) []byte {
		q.signers = func(one []byte) []byte {
			wrong := slices.Clone(one)
			wrong[len(wrong)-1] ^= 1
			return slices.Concat(one, wrong)
		}
		return q.entry()
	}},
	{"no-certificates", 0, "", func(q *question) []byte { q.certificates = nil; return q.entry() }},
	{"certificate-twice", 0, "", func(q *question) []byte { q.certificates = [][]byte{q.signer.der, q.signer.der}; return q.entry() }},
	{"root-carried-first", 0, "", func(q *question) []byte { q.certificates = [][]byte{q.root.der, q.signer.der}; return q.entry() }},
	{"certificate-malformed-carried", 0, "", func(q *question) []byte {
		q.certificates = append(q.certificates, seq(seq(integer(1)), seq(oidRSA), bits(nil)))
		return q.entry()
	}},
	{"certificate-extended-carried", 0, "", func(q *question) []byte {
		q.certificates = append(q.certificates, tlv(0xa0, q.root.der[4:]))
		return q.entry()
	}},
	{"revocations-empty", 0, "", func(q *question) []byte { q.revocations = tlv(0xa1); return q.entry() }},
	{"revocation-list", 0, "", func(q *question) []byte {
		tbs := seq(q.root.key.algorithm(crypto.SHA256), q.root.subject, text(0x17, "250101000000Z"))
		q.revocations = tlv(0xa1, seq(tbs, q.root.key.algorithm(crypto.SHA256), bits(q.root.key.sign(crypto.SHA256, tbs))))
		return q.entry()
	}},
	{"revocation-list-of-the-signer", 0, "", func(q *question) []byte {
		tbs := seq(q.root.key.algorithm(crypto.SHA256), q.root.subject, text(0x17, "250101000000Z"), seq(seq(q.signer.serial, text(0x17, "250101000000Z"))))
		q.revocations = tlv(0xa1, seq(tbs, q.root.key.algorithm(crypto.SHA256), bits(q.root.key.sign(crypto.SHA256, tbs))))
		return q.entry()
	}},
	{"revocation-list-with-extensions", 0, "", func(q *question) []byte {
		tbs := seq(integer(1), q.root.key.algorithm(crypto.SHA256), q.root.subject, text(0x17, "250101000000Z"), text(0x17, "450101000000Z"),
			seq(seq(integer(5), text(0x17, "250101000000Z"), seq(extension(ext(21), false, []byte{10, 1, 1})))),
			tlv(0xa0, seq(extension(ext(20), false, integer(7)))))
		q.revocations = tlv(0xa1, seq(tbs, q.root.key.algorithm(crypto.SHA256), bits(q.root.key.sign(crypto.SHA256, tbs))))
		return q.entry()
	}},
	{"revocation-list-with-a-critical-extension", 0, "", func(q *question) []byte {
		tbs := seq(integer(1), q.root.key.algorithm(crypto.SHA256), q.root.subject, text(0x17, "250101000000Z"),
			tlv(0xa0, seq(extension(unknownExtension, true, null))))
		q.revocations = tlv(0xa1, seq(tbs, q.root.key.algorithm(crypto.SHA256), bits(q.root.key.sign(crypto.SHA256, tbs))))
		return q.entry()
	}},
	{"revocation-list-without-time", 0, "", func(q *question) []byte {
		tbs := seq(q.root.key.algorithm(crypto.SHA256), q.root.subject)
		q.revocations = tlv(0xa1, seq(tbs, q.root.key.algorithm(crypto.SHA256), bits(q.root.key.sign(crypto.SHA256, tbs))))
		return q.entry()
	}},
	{"revocation-list-with-a-short-time", 0, "", func(q *question) []byte {
		tbs := seq(q.root.key.algorithm(crypto.SHA256), q.root.subject, text(0x17, "2501010000Z"))
		q.revocations = tlv(0xa1, seq(tbs, q.root.key.algorithm(crypto.SHA256), bits(q.root.key.sign(crypto.SHA256, tbs))))
		return q.entry()
	}},
	{"unsigned-attributes", 0, "", func(q *question) []byte {
		q.unsigned = tlv(0xa1, seq(unknownExtension, set(null)))
		return q.entry()
	}},
	{"unsigned-attributes-empty", 0, "", func(q *question) []byte { q.unsigned = tlv(0xa1); return q.entry() }},
	{"bytes-behind-the-message", 0, "", func(q *question) []byte { q.tail = []byte("tail"); return q.entry() }},
	{"zeros-behind-the-message", 0, "", func(q *question) []byte { q.tail = make([]byte, 40); return q.entry() }},
	{"image-data-of-2.1.21", 0, "", func(q *question) []byte {
		spc := bytes.Replace(indirectData(crypto.SHA256, digest(q.image, crypto.SHA256)), oidPEImage, oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 21), 1)
		*q.message = *signs(spc, seq(oidSPC, tlv(0xa0, seq(spc))), oidSPC, q.signer, crypto.SHA256)
		return q.entry()
	}},
	{"image-data-alone", 0, "", func(q *question) []byte {
		spc := octets(digest(q.image, crypto.SHA256))
		*q.message = *signs(spc, seq(oidSPC, tlv(0xa0, seq(spc))), oidSPC, q.signer, crypto.SHA256)
		return q.entry()
	}},
	{"content-not-carried", 0, "", func(q *question) []byte { q.content = seq(oidSPC); return q.entry() }},
	{"content-of-type-data", 0, "", func(q *question) []byte {
		spc := indirectData(crypto.SHA256, digest(q.image, crypto.SHA256))
		*q.message = *signs(spc, seq(oidData, tlv(0xa0, seq(spc))), oidData, q.signer, crypto.SHA256)
		return q.entry()
	}},
	{"content-as-octets", 0, "", func(q *question) []byte {
		spc := indirectData(crypto.SHA256, digest(q.image, crypto.SHA256))
		*q.message = *signs(spc, seq(oidSPC, tlv(0xa0, octets(spc))), oidSPC, q.signer, crypto.SHA256)
		return q.entry()
	}},
	{"content-of-length-not-minimal", 0, "", func(q *question) []byte {
		spc := indirectData(crypto.SHA256, digest(q.image, crypto.SHA256))
		q.content = seq(oidSPC, tlv(0xa0, long(seq(spc))))
		return q.entry()
	}},
	{"digest-of-another-image", 0, "", func(q *question) []byte {
		spc := indirectData(crypto.SHA256, make([]byte, 32))
		*q.message = *signs(spc, seq(oidSPC, tlv(0xa0, seq(spc))), oidSPC, q.signer, crypto.SHA256)
		return q.entry()
	}},
	{"revision-1", 0, "", func(q *question) []byte { return entry(0x0100, 2, q.der()) }},
	{"type-guid", 0, "", func(q *question) []byte { return entry(0x0200, 0x0ef1, slices.Concat(efiPKCS7, q.der())) }},
	{"type-guid-of-another", 0, "", func(q *question) []byte {
		return entry(0x0200, 0x0ef1, slices.Concat(make([]byte, 16), q.der()))
	}},
	{"type-pkcs1", 0, "", func(q *question) []byte { return entry(0x0200, 0x0ef0, q.der()) }},
	{"type-x509", 0, "", func(q *question) []byte { return entry(0x0200, 1, q.der()) }},
	{"length-with-padding", 0, "", func(q *question) []byte {
		q.tail = make([]byte, 7)
		return q.entry()
	}},
	{"entry-empty-first", 0, "", func(q *question) []byte { return slices.Concat(entry(0x0200, 2, nil), q.entry()) }},
	{"entry-of-short-message-first", 0, "", func(q *question) []byte { return slices.Concat(entry(0x0200, 2, []byte("12345678")), q.entry()) }},
	{"zeros-behind-the-entries", 0, "", func(q *question) []byte { return slices.Concat(q.entry(), make([]byte, 8)) }},
	{"entry-too-long", 0, "", func(q *question) []byte {
		e := q.entry()
		e[0] += 16
		return e
	}},
	{"stranger-first", 0, "", func(q *question) []byte {
		stranger := issue(nil, "grid stranger", keys["stranger"], false, nil)
		m := about(q.image, stranger, crypto.SHA256)
		return slices.Concat(entry(0x0200, 2, m.der(nil)), q.entry())
	}},
	{"twelve-of-a-stranger-first", 0, "", func(q *question) []byte {
		stranger := issue(nil, "grid stranger", keys["stranger"], false, nil)
		e := entry(0x0200, 2, about(q.image, stranger, crypto.SHA256).der(nil))
		return append(bytes.Repeat(e, 12), q.entry()...)
	}},
	{"sha512-of-a-stranger-first", 0, "", func(q *question) []byte {
		stranger := issue(nil, "grid stranger", keys["stranger"], false, nil)
		return slices.Concat(entry(0x0200, 2, about(q.image, stranger, crypto.SHA512).der(nil)), q.entry())
	}},
}

// A question is an image with its signature.
type question struct {
	*message
	image  []byte
	signer *authority
	root   *authority
	hash   crypto.Hash
}

func (q *question) der() []byte {
	return q.message.der(indirectData(q.hash, digest(q.image, q.hash)))
}

func (q *question) entry() []byte { return entry(0x0200, 2, q.der()) }

func messageCases(root *authority) (cases []Case) {
	for _, k := range messageKinds {
		name := "message-" + k.name
		own := keys["leaf"]
		if k.key != "" {
			own = keys[k.key]
		}
		h := k.hash
		if h == 0 {
			h = crypto.SHA256
		}
		q := &question{image: program(name), signer: issue(root, "leaf of "+name, own, false, nil), root: root, hash: h}
		q.message = about(q.image, q.signer, h)
		table := k.table
		if table == nil {
			table = (*question).entry
		}
		cases = append(cases, Case{Name: name, Image: withTable(q.image, table(q))})
	}
	return cases
}
