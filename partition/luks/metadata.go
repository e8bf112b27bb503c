package luks

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxSlots   = 32 // key slots and tokens: cryptsetup aborts on a token with a higher number
	maxDigests = 8
	areaUnit   = 4096
	// maxKeyslots is the largest key slots area, in bytes, as cryptsetup has it.
	maxKeyslots = 128 << 20
)

// metadata is the JSON area, split as far as changes need it.
type metadata struct {
	top                                         object
	keyslots, tokens, segments, digests, config object
}

// sections are the members that every header has.
func (m *metadata) sections() map[string]*object {
	return map[string]*object{"keyslots": &m.keyslots, "tokens": &m.tokens, "segments": &m.segments, "digests": &m.digests, "config": &m.config}
}

func (m *metadata) marshal() []byte {
	for name, section := range m.sections() {
		m.top.set(name, section.marshal())
	}
	return m.top.marshal()
}

// cutJSON returns the document in a JSON area: up to the first NUL, behind which there are only
// NULs.
func cutJSON(area []byte, off int64) ([]byte, error) {
	end := bytes.IndexByte(area, 0)
	switch {
	case end < 0:
		return nil, badFormat(off, "JSON area", "no NUL after the JSON")
	case end == 0 || area[0] != '{':
		return nil, badFormat(off, "JSON area", "byte %#02x, want \"{\" as the first byte", area[0])
	}
	for i, c := range area[end:] {
		if c != 0 {
			return nil, badFormat(off+int64(end+i), "JSON area", "data follows the NUL after the JSON")
		}
	}
	return area[:end], nil
}

// parseMetadata reads the document of a header of hdrSize bytes that stands at off. What it returns
// has been checked; everything after this goes by it alone.
func parseMetadata(doc []byte, off, hdrSize int64) (*metadata, *Header, error) {
	root := node{path: "", off: off, raw: doc}
	m, h := &metadata{}, &Header{Size: hdrSize, JSON: bytes.Clone(doc)}
	var err error
	if m.top, err = root.object(); err != nil {
		return nil, nil, err
	}
	at := map[string]node{}
	for _, name := range []string{"keyslots", "tokens", "segments", "digests", "config"} {
		n, ok := m.top.get(name)
		if !ok {
			return nil, nil, badFormat(off, "JSON", "member %q is missing", name)
		}
		at[name] = n
		if *m.sections()[name], err = n.object(); err != nil {
			return nil, nil, err
		}
	}
	p := parser{m, h, at}
	// Each looks at what those before it have read.
	for _, step := range []func() error{p.config, p.keyslots, p.segments, p.digests, p.tokens, p.areas, p.refusals} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	return m, h, nil
}

type parser struct {
	m  *metadata
	h  *Header
	at map[string]node
}

func (p parser) config() error {
	at, c := p.at["config"], p.m.config
	n, err := c.need(at, "json_size")
	if err != nil {
		return err
	}
	if size, err := n.bytes(); err != nil {
		return err
	} else if size != p.h.Size-binarySize {
		return n.fail("%d, want %d as in the header", size, p.h.Size-binarySize)
	}
	if n, err = c.need(at, "keyslots_size"); err != nil {
		return err
	}
	if p.h.KeyslotsSize, err = n.bytes(); err != nil {
		return err
	}
	if p.h.KeyslotsSize%areaUnit != 0 || p.h.KeyslotsSize > maxKeyslots {
		return n.fail("%d: want a multiple of %d, at most %d", p.h.KeyslotsSize, areaUnit, int64(maxKeyslots))
	}
	if n, ok := c.get("flags"); ok {
		if p.h.Flags, err = n.texts(); err != nil {
			return err
		}
	}
	// The specification has an array here, cryptsetup an object; it refuses the array.
	if n, ok := c.get("requirements"); ok {
		r, err := n.object()
		if err != nil {
			return err
		}
		if n, ok := r.get("mandatory"); ok {
			if p.h.Requirements, err = n.texts(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p parser) keyslots() error {
	for _, n := range p.m.keyslots {
		s, err := parseSlot(n)
		if err != nil {
			return err
		}
		p.h.Slots = append(p.h.Slots, s)
	}
	slices.SortFunc(p.h.Slots, func(a, b Slot) int { return a.ID - b.ID })
	return nil
}

// digests are bound to key slots and segments; each slot of the known type has one.
func (p parser) digests() error {
	bound, covered := map[int]bool{}, map[int]bool{}
	for _, n := range p.m.digests {
		d, err := p.digest(n)
		if err != nil {
			return err
		}
		p.h.Digests = append(p.h.Digests, d)
		for _, id := range d.Keyslots {
			if bound[id] && d.Type == pbkdf2Type {
				return n.fail("key slot %d has two digests", id)
			}
			bound[id] = bound[id] || d.Type == pbkdf2Type
		}
		for _, id := range d.Segments {
			covered[id] = true
		}
	}
	slices.SortFunc(p.h.Digests, func(a, b Digest) int { return a.ID - b.ID })
	for _, s := range p.h.Slots {
		if s.Type == slotType && !bound[s.ID] {
			return p.at["keyslots"].fail("key slot %d has no digest", s.ID)
		}
	}
	for _, s := range p.h.Segments {
		if s.Type == segmentCrypt && !covered[s.ID] {
			return p.at["segments"].fail("segment %d has no digest", s.ID)
		}
	}
	return nil
}

func (p parser) digest(n node) (d Digest, err error) {
	if d.ID, err = n.number(maxDigests); err != nil {
		return d, err
	}
	o, err := n.fields()
	if err != nil {
		return d, err
	}
	typ, keyslots, segments := o.need("type"), o.need("keyslots"), o.need("segments")
	if o.err != nil {
		return d, o.err
	}
	if d.Type, err = typ.text(); err != nil {
		return d, err
	}
	if d.Keyslots, err = keyslots.ids(p.h.hasSlot); err != nil {
		return d, err
	}
	if d.Segments, err = segments.ids(func(id int) bool { return id < len(p.h.Segments) }); err != nil {
		return d, err
	}
	if d.Type != pbkdf2Type {
		return d, nil // of a later version: kept
	}
	name, iterations, salt, digest := o.need("hash"), o.need("iterations"), o.need("salt"), o.need("digest")
	if o.err != nil {
		return d, o.err
	}
	if d.Hash, err = name.text(); err != nil {
		return d, err
	}
	if d.Iterations, err = iterations.integer(1, maxUint32); err != nil {
		return d, err
	}
	if d.salt, err = salt.base64(); err != nil {
		return d, err
	}
	if d.digest, err = digest.base64(); err != nil {
		return d, err
	}
	// cryptsetup takes other lengths, and then any passphrase.
	if len(d.salt) != saltSize {
		return d, salt.fail("%d bytes, want %d", len(d.salt), saltSize)
	}
	h, known := newHash(d.Hash)
	switch {
	case !known && len(d.digest) == 0, known && len(d.digest) != h.Size() && len(d.digest) != legacyDigest:
		return d, digest.fail("%d bytes for a digest by %s", len(d.digest), d.Hash)
	case !known:
		d.Unsupported = &UnsupportedError{n.path, "hash " + d.Hash}
	}
	return d, nil
}

// tokens name key slots that exist; the rest of one is its own.
func (p parser) tokens() error {
	for _, n := range p.m.tokens {
		t, err := parseToken(n, p.h.hasSlot)
		if err != nil {
			return err
		}
		p.h.Tokens = append(p.h.Tokens, t)
	}
	slices.SortFunc(p.h.Tokens, func(a, b Token) int { return a.ID - b.ID })
	return nil
}

// areas lie inside of the key slots area, and apart.
func (p parser) areas() error {
	start, end := 2*p.h.Size, 2*p.h.Size+p.h.KeyslotsSize
	all := slices.Clone(p.h.Slots)
	slices.SortFunc(all, func(a, b Slot) int { return cmp.Compare(a.Area.Offset, b.Area.Offset) })
	last, by := start, -1
	for _, s := range all {
		if s.Area.Size == 0 {
			continue // only a type that is not known has none
		}
		at := p.at["keyslots"]
		switch {
		case s.Area.Offset < start || s.Area.Offset+s.Area.Size > end:
			return at.fail("the area of key slot %d, %d bytes at %d, is not between %d and %d", s.ID, s.Area.Size, s.Area.Offset, start, end)
		case s.Area.Offset < last:
			return at.fail("the areas of key slots %d and %d overlap", by, s.ID)
		}
		last, by = s.Area.Offset+s.Area.Size, s.ID
	}
	if len(p.h.Segments) > 0 {
		if first := p.h.Segments[0].Offset; first != 0 && first < end {
			return p.at["segments"].fail("segment 0 begins at %d, inside of the key slots area that ends at %d", first, end)
		}
	}
	return nil
}

// refusals finds what makes a header one that is only shown.
func (p parser) refusals() error {
	var found []error
	refuse := func(where, what string) { found = append(found, &UnsupportedError{where, what}) }
	for _, r := range p.h.Requirements {
		refuse("config: requirements", r)
	}
	// Where the data is under two keys, the header says where each of them begins.
	if slices.ContainsFunc(p.h.Requirements, func(r string) bool { return strings.HasPrefix(r, "online-reencrypt") }) {
		for _, flag := range []string{"backup-previous", "backup-final"} {
			if !slices.ContainsFunc(p.h.Segments, func(s Segment) bool { return slices.Contains(s.Flags, flag) }) {
				return p.at["segments"].fail("reencryption without a segment %s", flag)
			}
		}
	}
	for _, s := range p.h.Slots {
		switch {
		case s.Type == "reencrypt":
			refuse(fmt.Sprintf("key slot %d", s.ID), "reencryption")
		case nullCipher(s.Area.Cipher):
			refuse(fmt.Sprintf("key slot %d", s.ID), "cipher "+s.Area.Cipher)
		}
	}
	for _, s := range p.h.Segments {
		where := fmt.Sprintf("segment %d", s.ID)
		switch {
		case s.Type != segmentCrypt:
			refuse(where, "type "+s.Type)
		case s.integrity:
			refuse(where, "integrity")
		case nullCipher(s.Cipher):
			refuse(where, "cipher "+s.Cipher)
		}
	}
	if len(p.h.Segments) != 1 {
		refuse("segments", fmt.Sprintf("a volume of %d", len(p.h.Segments)))
	}
	p.h.Unsupported = errors.Join(found...)
	return nil
}
