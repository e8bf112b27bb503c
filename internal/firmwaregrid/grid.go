package firmwaregrid

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync"
)

// A Grid is images for one machine, and what its db and dbx have.
type Grid struct {
	Cases   []Case
	DB, DBX []byte // EFI_SIGNATURE_LISTs
	Root    []byte // one with the authority that most signers lead to
}

// Owner is SignatureOwner of all entries, as it is stored.
var Owner = []byte("firmware grid !!")

// efiX509 is EFI_CERT_X509_GUID as it is stored.
var efiX509 = []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}

// signatureList is EFI_SIGNATURE_LIST with one entry (UEFI Specification 2.10, section 32.4.1).
func signatureList(kind, data []byte) []byte {
	b := append([]byte(nil), kind...)
	b = binary.LittleEndian.AppendUint32(b, uint32(28+16+len(data)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(16+len(data)))
	b = append(b, Owner...)
	return append(b, data...)
}

// Images is the grid of certificates and messages. It is made once, and is not to be changed.
func Images() *Grid { return images() }

var images = sync.OnceValue(func() *Grid {
	root := issue(nil, "grid root", keys["root"], true, nil)
	return grid(signatureList(efiX509, root.der), append(certificateCases(root), messageCases(root)...))
})

func grid(root []byte, cases []Case) *Grid {
	g := &Grid{Cases: cases, Root: root, DB: append([]byte(nil), root...)}
	for _, c := range cases {
		for _, der := range c.db {
			g.DB = append(g.DB, signatureList(efiX509, der)...)
		}
		for _, der := range c.dbx {
			g.DBX = append(g.DBX, signatureList(efiX509, der)...)
		}
	}
	return g
}

// Select is the questions that keep says yes to, with what db and dbx need for these.
func (g *Grid) Select(keep func(i int, name string) bool) *Grid {
	var cases []Case
	for i, c := range g.Cases {
		if keep(i, c.Name) {
			cases = append(cases, c)
		}
	}
	return grid(g.Root, cases)
}

// Digest names the bytes of the question: the image, and what is in db and dbx for it.
func (c Case) Digest() string {
	h := sha256.New()
	h.Write(c.Image)
	for _, list := range [][][]byte{c.db, c.dbx} {
		for _, der := range list {
			sum := sha256.Sum256(der)
			h.Write(sum[:])
		}
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// Unsigned is a program that no signer of the grid has signed.
func Unsigned() []byte { return program("unsigned") }
