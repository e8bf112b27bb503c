package luks

import (
	"encoding/base64"
	"fmt"
)

// Slot is a key slot: the volume key, encrypted by a passphrase.
type Slot struct {
	ID       int
	Type     string // "luks2"; others are kept as they are
	Priority Priority
	KeySize  int // of the key in it, in bytes
	KDF      KDF
	AFHash   string
	Area     Area
	// Unsupported says why this package cannot open it.
	Unsupported error

	salt []byte
}

// Area is where the encrypted key of a slot lies.
type Area struct {
	Offset, Size int64  // in bytes
	Cipher       string // "aes-xts-plain64"
	KeySize      int    // in bytes
}

const (
	slotType   = "luks2"
	aesXTS     = "aes-xts-plain64"
	maxKeySize = 512 // of what may be in a slot, in bytes
)

// contentSize is what a key makes of an area: whole sectors of 512 bytes.
func contentSize(keySize int) int64 { return (int64(keySize)*stripes + 511) / 512 * 512 }

// Priority says which key slots are tried first.
type Priority int

// The priorities, of which the zero value is the normal one.
const (
	PriorityNormal Priority = iota
	PriorityIgnore          // only when the slot is named
	PriorityPrefer          // before the others
)

// String is the priority's name, as cryptsetup has it.
func (p Priority) String() string {
	switch p {
	case PriorityNormal:
		return "normal"
	case PriorityIgnore:
		return "ignore"
	case PriorityPrefer:
		return "prefer"
	}
	return fmt.Sprintf("Priority(%d)", int(p))
}

// inJSON has the numbers of the format.
var inJSON = map[Priority]int{PriorityIgnore: 0, PriorityNormal: 1, PriorityPrefer: 2}

func parseSlot(n node) (s Slot, err error) {
	if s.ID, err = n.number(maxSlots); err != nil {
		return s, err
	}
	o, err := n.fields()
	if err != nil {
		return s, err
	}
	typ, size, area := o.need("type"), o.need("key_size"), o.need("area")
	if o.err != nil {
		return s, o.err
	}
	if s.Type, err = typ.text(); err != nil {
		return s, err
	}
	if priority, ok := o.all.get("priority"); ok {
		p, err := priority.integer(0, 2)
		if err != nil {
			return s, err
		}
		s.Priority = [...]Priority{PriorityIgnore, PriorityNormal, PriorityPrefer}[p]
	}
	known := s.Type == slotType
	if s.Area, err = parseArea(area, known); err != nil {
		return s, err
	}
	bytes, err := size.integer(1, maxKeySize)
	if err != nil {
		return s, err
	}
	s.KeySize = int(bytes)
	if !known {
		s.Unsupported = &UnsupportedError{n.path, "type " + s.Type}
		return s, nil
	}
	if s.Area.Size < contentSize(s.KeySize) {
		return s, area.fail("%d bytes, but a key of %d bytes makes %d", s.Area.Size, s.KeySize, contentSize(s.KeySize))
	}
	af, kdf := o.need("af"), o.need("kdf")
	if o.err != nil {
		return s, o.err
	}
	if s.AFHash, err = parseAF(af); err != nil {
		return s, err
	}
	if s.KDF, s.salt, err = parseKDF(kdf); err != nil {
		return s, err
	}
	s.Unsupported = s.unsupported(n.path)
	return s, nil
}

func parseArea(n node, known bool) (a Area, err error) {
	o, err := n.object()
	if err != nil {
		return a, err
	}
	offset, at := o.get("offset")
	size, sized := o.get("size")
	if !known && !at && !sized { // as a slot for reencryption may have it
		return a, nil
	}
	if !at || !sized {
		return a, n.fail("want offset and size")
	}
	if a.Offset, err = offset.bytes(); err != nil {
		return a, err
	}
	if a.Size, err = size.bytes(); err != nil {
		return a, err
	}
	if a.Size == 0 {
		return a, size.fail("0 bytes")
	}
	if !known {
		return a, nil
	}
	typ, err := o.need(n, "type")
	if err != nil {
		return a, err
	}
	if t, err := typ.text(); err != nil || t != "raw" {
		return a, typ.fail("want \"raw\"")
	}
	cipher, err := o.need(n, "encryption")
	if err != nil {
		return a, err
	}
	if a.Cipher, err = cipher.text(); err != nil {
		return a, err
	}
	keySize, err := o.need(n, "key_size")
	if err != nil {
		return a, err
	}
	bytes, err := keySize.integer(1, maxKeySize)
	a.KeySize = int(bytes)
	return a, err
}

func parseAF(n node) (hash string, err error) {
	o, err := n.object()
	if err != nil {
		return "", err
	}
	typ, err := o.need(n, "type")
	if err != nil {
		return "", err
	}
	if t, err := typ.text(); err != nil || t != "luks1" {
		return "", typ.fail("want \"luks1\"")
	}
	number, err := o.need(n, "stripes")
	if err != nil {
		return "", err
	}
	// cryptsetup takes any number, and 4000 for it.
	if _, err := number.integer(stripes, stripes); err != nil {
		return "", err
	}
	name, err := o.need(n, "hash")
	if err != nil {
		return "", err
	}
	return name.text()
}

// unsupported says what a slot of the known type has that this package does not do.
func (s *Slot) unsupported(where string) error {
	if _, ok := newHash(s.AFHash); !ok {
		return &UnsupportedError{where, "hash " + s.AFHash}
	}
	if s.Area.Cipher != aesXTS || s.Area.KeySize != 32 && s.Area.KeySize != 64 {
		return &UnsupportedError{where, fmt.Sprintf("cipher %s with a key of %d bytes", s.Area.Cipher, s.Area.KeySize)}
	}
	if s.KDF.Type == PBKDF2 {
		if _, ok := newHash(s.KDF.Hash); !ok {
			return &UnsupportedError{where, "hash " + s.KDF.Hash}
		}
	}
	return nil
}

// The members of a key slot in the order in which cryptsetup writes them.
type (
	slotJSON struct {
		Type     string   `json:"type"`
		KeySize  int      `json:"key_size"`
		AF       afJSON   `json:"af"`
		Area     areaJSON `json:"area"`
		KDF      any      `json:"kdf"`
		Priority *int     `json:"priority,omitempty"`
	}
	afJSON struct {
		Type    string `json:"type"`
		Stripes int    `json:"stripes"`
		Hash    string `json:"hash"`
	}
	areaJSON struct {
		Type       string `json:"type"`
		Offset     string `json:"offset"`
		Size       string `json:"size"`
		Encryption string `json:"encryption"`
		KeySize    int    `json:"key_size"`
	}
	pbkdf2JSON struct {
		Type       string `json:"type"`
		Hash       string `json:"hash"`
		Iterations int64  `json:"iterations"`
		Salt       string `json:"salt"`
	}
	argon2JSON struct {
		Type   string `json:"type"`
		Time   int64  `json:"time"`
		Memory int64  `json:"memory"` // in KiB
		CPUs   int    `json:"cpus"`
		Salt   string `json:"salt"`
	}
	segmentJSON struct {
		Type       string `json:"type"`
		Offset     string `json:"offset"`
		Size       string `json:"size"`
		IVTweak    string `json:"iv_tweak"`
		Encryption string `json:"encryption"`
		SectorSize int    `json:"sector_size"`
	}
	digestJSON struct {
		Type       string   `json:"type"`
		Keyslots   []string `json:"keyslots"`
		Segments   []string `json:"segments"`
		Hash       string   `json:"hash"`
		Iterations int64    `json:"iterations"`
		Salt       string   `json:"salt"`
		Digest     string   `json:"digest"`
	}
)

func (s *Slot) marshal() []byte {
	salt := base64.StdEncoding.EncodeToString(s.salt)
	j := slotJSON{Type: slotType, KeySize: s.KeySize, AF: afJSON{"luks1", stripes, s.AFHash},
		Area: areaJSON{"raw", fmt.Sprint(s.Area.Offset), fmt.Sprint(s.Area.Size), s.Area.Cipher, s.Area.KeySize}}
	if s.KDF.Type == PBKDF2 {
		j.KDF = pbkdf2JSON{string(PBKDF2), s.KDF.Hash, s.KDF.Iterations, salt}
	} else {
		j.KDF = argon2JSON{string(s.KDF.Type), s.KDF.Iterations, s.KDF.Memory / 1024, s.KDF.Threads, salt}
	}
	if s.Priority != PriorityNormal {
		n := inJSON[s.Priority]
		j.Priority = &n
	}
	return compact(j)
}
