package luks

import (
	"encoding/json"
	"slices"
	"strings"
)

// Header is the content of a volume's header.
type Header struct {
	Size         int64  // size of one of its two copies, in bytes
	SequenceID   uint64 // how often it was written
	Label        string
	Subsystem    string
	UUID         string
	KeyslotsSize int64 // size of the key slots area, in bytes, which lies after both copies
	Flags        []string
	Requirements []string // what a program must know to use the volume
	Slots        []Slot   // in the order of their numbers, as are the lists below
	Segments     []Segment
	Digests      []Digest
	Tokens       []Token
	JSON         []byte // the metadata as it is on the disk

	// Unsupported says why the volume can only be shown: one or more [*UnsupportedError]. Nil: it
	// can be used.
	Unsupported error
	// Copies are the state of the primary and the secondary copy.
	Copies [2]Copy
}

// Copy is one of the two copies of a header.
type Copy struct {
	Offset     int64
	SequenceID uint64 // if Err is nil
	Err        error  // why it cannot be used
	// Differs says that it is older than the other copy, or equally old with different content.
	// [Volume.Repair] rewrites it.
	Differs bool
}

// Detached reports whether the header is a file of its own, with the data elsewhere.
func (h *Header) Detached() bool { return len(h.Segments) > 0 && h.Segments[0].Offset == 0 }

// NeedsRepair reports whether a copy is damaged or differs from the other copy.
func (h *Header) NeedsRepair() bool {
	return slices.ContainsFunc(h.Copies[:], func(c Copy) bool { return c.Err != nil || c.Differs })
}

// Slot returns a key slot.
func (h *Header) Slot(id int) (Slot, bool) {
	for _, s := range h.Slots {
		if s.ID == id {
			return s, true
		}
	}
	return Slot{}, false
}

// Token returns a token.
func (h *Header) Token(id int) (Token, bool) {
	for _, t := range h.Tokens {
		if t.ID == id {
			return t, true
		}
	}
	return Token{}, false
}

func (h *Header) hasSlot(id int) bool {
	_, ok := h.Slot(id)
	return ok
}

// digestOf is the digest of the key in a slot.
func (h *Header) digestOf(slot int) (Digest, bool) {
	for _, d := range h.Digests {
		if d.Type == pbkdf2Type && slices.Contains(d.Keyslots, slot) {
			return d, true
		}
	}
	return Digest{}, false
}

// dataDigest is the digest of the key of the data.
func (h *Header) dataDigest() (Digest, bool) {
	for _, d := range h.Digests {
		if d.Type == pbkdf2Type && slices.Contains(d.Segments, 0) {
			return d, true
		}
	}
	return Digest{}, false
}

// opensData reports whether the key in a slot is that of the data.
func (h *Header) opensData(slot int) bool {
	d, ok := h.digestOf(slot)
	return ok && slices.Contains(d.Segments, 0)
}

// Segment is a part of the data.
type Segment struct {
	ID         int
	Type       string // "crypt"
	Offset     int64  // in bytes; 0: the header is detached
	Size       int64  // in bytes; Dynamic: up to the end of the device
	Dynamic    bool
	IVTweak    uint64 // number of the first sector, in units of 512 bytes
	Cipher     string // "aes-xts-plain64"
	SectorSize int    // in bytes
	Flags      []string

	integrity bool
}

const segmentCrypt = "crypt"

// nullCipher reports whether a cipher does not encrypt at all. A header is not authenticated: an
// attacker who can write to the disk could make a machine accept such a volume as its own
// (CVE-2025-59054).
func nullCipher(cipher string) bool { return strings.Contains(strings.ToLower(cipher), "null") }

func (p parser) segments() error {
	at := p.at["segments"]
	if len(p.m.segments) == 0 {
		return at.fail("there is none")
	}
	all := make([]*Segment, len(p.m.segments))
	for _, n := range p.m.segments {
		s, err := parseSegment(n, len(all))
		if err != nil {
			return err
		}
		all[s.ID] = &s // no member is there twice, and so there is no gap either
	}
	backups := false
	for i, s := range all {
		backup := slices.ContainsFunc(s.Flags, func(f string) bool { return strings.HasPrefix(f, "backup-") })
		if backups && !backup {
			return at.fail("segment %d follows a backup", i)
		}
		backups = backup
		if !backup && s.Dynamic && i+1 < len(all) && !slices.ContainsFunc(all[i+1].Flags, func(f string) bool { return strings.HasPrefix(f, "backup-") }) {
			return at.fail("segment %d is not the last, and has no size", i)
		}
		p.h.Segments = append(p.h.Segments, *s)
	}
	return nil
}

func parseSegment(n node, count int) (g Segment, err error) {
	if g.ID, err = n.number(count); err != nil {
		return g, err
	}
	o, err := n.fields()
	if err != nil {
		return g, err
	}
	typ, offset, size := o.need("type"), o.need("offset"), o.need("size")
	if o.err != nil {
		return g, o.err
	}
	if g.Type, err = typ.text(); err != nil {
		return g, err
	}
	if g.Offset, err = offset.bytes(); err != nil {
		return g, err
	}
	if g.Offset%512 != 0 {
		return g, offset.fail("%d is not a multiple of 512", g.Offset)
	}
	text, err := size.text()
	if err != nil {
		return g, err
	}
	if g.Dynamic = text == "dynamic"; !g.Dynamic {
		if g.Size, err = parseBytes(size, text); err != nil {
			return g, err
		}
		if g.Size == 0 {
			return g, size.fail("0 bytes")
		}
	}
	if flags, ok := o.all.get("flags"); ok {
		if g.Flags, err = flags.texts(); err != nil {
			return g, err
		}
	}
	_, g.integrity = o.all.get("integrity")
	switch g.Type {
	case segmentCrypt:
	case "linear", "hw-opal", "hw-opal-crypt":
		return g, nil
	default:
		return g, typ.fail("%.40q is unknown", g.Type)
	}
	tweak, cipher, sector := o.need("iv_tweak"), o.need("encryption"), o.need("sector_size")
	if o.err != nil {
		return g, o.err
	}
	iv, err := tweak.bytes()
	if err != nil {
		return g, err
	}
	g.IVTweak = uint64(iv)
	if g.Cipher, err = cipher.text(); err != nil {
		return g, err
	}
	bytes, err := sector.integer(512, 4096)
	if err != nil {
		return g, err
	}
	if g.SectorSize = int(bytes); bytes&(bytes-1) != 0 {
		return g, sector.fail("%d: want 512, 1024, 2048 or 4096", bytes)
	}
	if g.Size%bytes != 0 {
		return g, size.fail("%d is not a multiple of the sector size, %d", g.Size, bytes)
	}
	return g, nil
}

// Digest verifies a key.
type Digest struct {
	ID         int
	Type       string // "pbkdf2"
	Keyslots   []int
	Segments   []int // none: the key in the slots is not a key of the data
	Hash       string
	Iterations int64
	// Unsupported says why this package cannot compare with it.
	Unsupported error

	salt, digest []byte
}

const (
	pbkdf2Type   = "pbkdf2"
	saltSize     = 32
	legacyDigest = 20 // of volumes that were LUKS1 once
	maxUint32    = 1<<32 - 1
)

// Token is data that belongs to key slots: a secret sealed by a TPM, or the mark of a recovery key.
type Token struct {
	ID       int
	Type     string // "systemd-tpm2", "systemd-recovery", or any other
	Keyslots []int
	JSON     json.RawMessage // all of it, as it is on the disk
}

func parseToken(n node, exists func(id int) bool) (t Token, err error) {
	if t.ID, err = n.number(maxSlots); err != nil {
		return t, err
	}
	o, err := n.object()
	if err != nil {
		return t, err
	}
	typ, err := o.need(n, "type")
	if err != nil {
		return t, err
	}
	if t.Type, err = typ.text(); err != nil {
		return t, err
	}
	if t.Type == "" {
		return t, typ.fail("empty")
	}
	keyslots, err := o.need(n, "keyslots")
	if err != nil {
		return t, err
	}
	t.JSON = slices.Clone(n.raw)
	t.Keyslots, err = keyslots.ids(exists)
	return t, err
}
