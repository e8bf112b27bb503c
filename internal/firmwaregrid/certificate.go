package firmwaregrid

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"slices"
)

// A certificate is what is put together (RFC 5280, section 4.1): every part can be made wrong.
type certificate struct {
	version            []byte // with its tag; empty: none
	serial             []byte
	inner, outer       []byte // algorithms, in the signed part and beside it
	issuer             []byte
	validity           []byte
	subject            []byte
	spki               []byte
	unique             []byte // unique identifiers
	extensions         [][]byte
	behind             []byte // at the end of the signed part
	tail               []byte // behind the certificate
	list               func(extensions [][]byte) []byte
	sign               func(tbs []byte) []byte
	signature          func(signature []byte) []byte // the BIT STRING
	signer, own        *key
	hash               crypto.Hash
	issuerID, ownID    []byte // key identifiers
	issuerOf, serialOf []byte // names of the issuer's issuer, and its serial number
}

// An authority is a certificate with its key.
type authority struct {
	der     []byte
	subject []byte
	issuer  []byte
	serial  []byte
	key     *key
	id      []byte
}

func text(tag byte, s string) []byte { return tlv(tag, []byte(s)) }

// attribute is one relative distinguished name.
func attribute(id []byte, value []byte) []byte { return set(seq(id, value)) }

var (
	oidCommonName   = oid(2, 5, 4, 3)
	oidOrganization = oid(2, 5, 4, 10)
)

// cn is a distinguished name of a common name.
func cn(s string) []byte { return seq(attribute(oidCommonName, text(0x0c, s))) }

func times(from, to string) []byte { return seq(text(0x17, from), text(0x17, to)) }

// extension is Extension; what is critical says so with 0xff.
func extension(id []byte, critical bool, value []byte) []byte {
	if critical {
		return seq(id, []byte{1, 1, 0xff}, octets(value))
	}
	return seq(id, octets(value))
}

func ext(n int) []byte { return oid(2, 5, 29, n) }

// Extensions that ordinary certificates have.
func basicConstraints(ca bool, more ...[]byte) []byte {
	if !ca {
		return extension(ext(19), true, seq(more...))
	}
	return extension(ext(19), true, seq(append([][]byte{{1, 1, 0xff}}, more...)...))
}

func keyUsage(unused byte, b ...byte) []byte {
	return extension(ext(15), true, tlv(3, []byte{unused}, b))
}

var (
	certSign         = keyUsage(1, 0x06)
	digitalSignature = keyUsage(7, 0x80)
	codeSigning      = extension(ext(37), false, seq(oid(1, 3, 6, 1, 5, 5, 7, 3, 3)))
)

func keyIdentifier(k *key) []byte {
	sum := sha1.Sum(k.spki())
	return sum[:]
}

// issue is a certificate under an authority, with what is unusual about it. Without an authority it
// signs itself.
func issue(by *authority, name string, k *key, ca bool, change func(c *certificate)) *authority {
	serial := sha256.Sum256([]byte(name))
	serial[0] = serial[0]&0x3f | 0x40
	c := &certificate{
		version: tlv(0xa0, integer(2)), serial: integer(serial[:8]...), subject: cn(name), validity: times("200101000000Z", "400101000000Z"),
		spki: k.spki(), hash: crypto.SHA256, own: k, ownID: keyIdentifier(k),
	}
	if ca {
		c.extensions = [][]byte{basicConstraints(true), certSign, extension(ext(14), false, octets(c.ownID))}
	} else {
		c.extensions = [][]byte{digitalSignature, codeSigning}
	}
	c.signer, c.issuer = k, c.subject
	if by != nil {
		c.signer, c.issuer, c.issuerID, c.issuerOf, c.serialOf = by.key, by.subject, by.id, by.issuer, by.serial
	}
	c.list = func(extensions [][]byte) []byte {
		if len(extensions) == 0 {
			return nil
		}
		return tlv(0xa3, seq(extensions...))
	}
	c.signature = bits
	if change != nil {
		change(c)
	}
	return c.authority()
}

func (c *certificate) authority() *authority {
	if c.inner == nil {
		c.inner = c.signer.algorithm(c.hash)
	}
	if c.outer == nil {
		c.outer = c.inner
	}
	if c.sign == nil {
		c.sign = func(tbs []byte) []byte { return c.signer.sign(c.hash, tbs) }
	}
	tbs := seq(c.version, c.serial, c.inner, c.issuer, c.validity, c.subject, c.spki, c.unique, c.list(c.extensions), c.behind)
	der := slices.Concat(seq(tbs, c.outer, c.signature(c.sign(tbs))), c.tail)
	return &authority{der: der, subject: c.subject, issuer: c.issuer, serial: c.serial, key: c.own, id: c.ownID}
}

// add puts an extension behind the others, without puts others in the place of all.
func add(e ...[]byte) func(c *certificate) {
	return func(c *certificate) { c.extensions = append(c.extensions, e...) }
}

func only(e ...[]byte) func(c *certificate) {
	return func(c *certificate) { c.extensions = e }
}
