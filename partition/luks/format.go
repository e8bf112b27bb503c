package luks

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// FormatOptions describe a new volume. The zero value, with Rand set, gives what cryptsetup makes
// in a file: AES-256, a header of 16 KiB, data at 16 MiB, sectors of 4096 bytes if the device has a
// whole number of them, and [DefaultKDF] for the passphrase.
type FormatOptions struct {
	// Rand is the source of keys, salts and the UUID, usually crypto/rand.Reader. It is required.
	// The same bytes give the same volume, byte for byte.
	Rand io.Reader
	// UUID of the volume. Zero: a random UUID of version 4, from Rand.
	UUID osmith.GUID
	// Label and Subsystem are up to 47 bytes. Choose a label that differs from that of the file
	// system inside, or programs that look for labels confuse the two.
	Label, Subsystem string
	// KeyBits is 512, also if it is 0, for AES-256, or 256 for AES-128: XTS has two keys.
	KeyBits int
	// VolumeKey is the key itself. Nil: a key from Rand.
	VolumeKey []byte
	// SectorSize is 512, 1024, 2048 or 4096. The device must have a whole number of such sectors;
	// the file system inside sees a disk with this sector size. 0: 4096 if the size allows it, else
	// 512.
	SectorSize int
	// HeaderSize is the size of one copy: 16, 32, 64, 128, 256, 512 KiB, 1, 2 or 4 MiB. It cannot
	// grow, and large tokens need more than 16 KiB. 0: 16 KiB.
	HeaderSize int64
	// KeyslotsSize is the room for key slots, a multiple of 4096, of which a slot takes 258,048
	// bytes. 0: what is left of 16 MiB, or 4 MiB if that is less.
	KeyslotsSize int64
	// DataOffset is where the data begins, a multiple of 4096. 0: the next full MiB after the key
	// slots.
	DataOffset int64
	// DataSize is the size of the data. 0: up to the end of the device, also when it grows.
	DataSize int64
	// DigestHash is "sha256" (also "") or "sha512". DigestIterations is its number of iterations; 0
	// means 1000, which is enough for a key of 256 random bits.
	DigestHash       string
	DigestIterations int64
	// Flags are flags with which systemd and cryptsetup set up the device: "allow-discards".
	Flags []string
	// Key describes the key slot of the passphrase. Its Rand is ignored in favour of that of the
	// volume.
	Key KeyOptions
	// TargetIsZero says that the device has only zeros, so that unused parts of the header need not
	// be written.
	TargetIsZero bool
}

// SpaceError says that a device is too small.
type SpaceError struct {
	Need, Have int64 // in bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("the device has %d bytes, the volume needs %d", e.Have, e.Need)
}

// geometry is what sizes a new volume has.
type geometry struct {
	header, keyslots, offset, size int64 // size 0: dynamic
	sector, key                    int
}

func (o *FormatOptions) geometry(device int64) (g geometry, err error) {
	g = geometry{o.HeaderSize, o.KeyslotsSize, o.DataOffset, o.DataSize, o.SectorSize, o.KeyBits / 8}
	if g.header == 0 {
		g.header = headerSizes[0]
	}
	if g.key == 0 {
		g.key = 64
	}
	switch {
	case !slices.Contains(headerSizes[:], g.header):
		return g, fmt.Errorf("header size %d: want a power of two from 16 KiB to 4 MiB", g.header)
	case g.key != 32 && g.key != 64 || o.KeyBits%8 != 0:
		return g, fmt.Errorf("key of %d bits, want 256 or 512", o.KeyBits)
	case o.VolumeKey != nil && len(o.VolumeKey) != g.key:
		return g, fmt.Errorf("volume key of %d bytes, want %d", len(o.VolumeKey), g.key)
	case o.VolumeKey != nil && bytes.Equal(o.VolumeKey[:g.key/2], o.VolumeKey[g.key/2:]):
		return g, errors.New("both halves of the volume key are the same, which XTS does not allow")
	}
	if g.keyslots == 0 {
		g.keyslots = max(16<<20-2*g.header, 4<<20)
		if o.DataOffset > 0 {
			g.keyslots = min(maxKeyslots, max(0, o.DataOffset-2*g.header)/areaUnit*areaUnit)
		}
	}
	if g.keyslots < areaSize(g.key) || g.keyslots%areaUnit != 0 || g.keyslots > maxKeyslots {
		return g, fmt.Errorf("key slots area of %d bytes: want a multiple of %d, from %d to %d", g.keyslots, areaUnit, areaSize(g.key), int64(maxKeyslots))
	}
	const mib = 1 << 20
	end := 2*g.header + g.keyslots
	if g.offset == 0 {
		g.offset = (end + mib - 1) / mib * mib
	}
	if g.offset < end || g.offset%areaUnit != 0 {
		return g, fmt.Errorf("data at %d: want a multiple of %d after the key slots, which end at %d", g.offset, areaUnit, end)
	}
	room := device - g.offset
	if g.sector == 0 {
		g.sector = 4096
		if (room|g.size)%4096 != 0 {
			g.sector = 512
		}
	}
	switch {
	case g.sector != 512 && g.sector != 1024 && g.sector != 2048 && g.sector != 4096:
		return g, fmt.Errorf("sector size %d: want 512, 1024, 2048 or 4096", g.sector)
	case g.size < 0 || g.size%int64(g.sector) != 0:
		return g, fmt.Errorf("data of %d bytes: want whole sectors of %d", g.size, g.sector)
	case room < max(g.size, int64(g.sector)):
		return g, &SpaceError{g.offset + max(g.size, int64(g.sector)), device}
	case g.size == 0 && room%int64(g.sector) != 0:
		return g, fmt.Errorf("a device of %d bytes: want whole sectors of %d bytes from offset %d", device, g.sector, g.offset)
	}
	return g, nil
}

// drawn reads random bytes for something.
func drawn(rand io.Reader, b []byte, what string) error {
	if _, err := io.ReadFull(rand, b); err != nil {
		return fmt.Errorf("random bytes for %s: %w", what, err)
	}
	return nil
}

// Format makes a new volume on a device, without regard to its old contents, with one key slot that
// the passphrase opens. With a nil passphrase there is no key slot: add one with [Volume.AddKey].
// Headers of an earlier volume are overwritten first, and the first copy of the new header is
// written last, so that a power cut leaves the new volume or none. The data area is not written:
// until it is, it reads as noise.
func Format(disk osmith.Disk, passphrase []byte, o FormatOptions) (v *Volume, key *Key, err error) {
	defer prefix.Add(pkg, &err)
	switch {
	case disk == nil:
		return nil, nil, errors.New("no disk was given")
	case o.Rand == nil:
		return nil, nil, ErrNoRandom
	case passphrase != nil && len(passphrase) == 0:
		return nil, nil, ErrEmptyPassphrase
	}
	g, err := o.geometry(disk.Size())
	if err != nil {
		return nil, nil, err
	}
	f := &formatting{o: o, g: g, v: &Volume{src: disk, disk: disk}}
	if err := f.prepare(passphrase); err != nil {
		return nil, nil, err
	}
	unlock, err := f.v.lock()
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if err := f.write(); err != nil {
		return nil, nil, err
	}
	v, _, err = open(disk)
	if err != nil {
		return nil, nil, err
	}
	v.disk = disk
	return v, &Key{slot: f.slot, bytes: f.key}, nil
}

type formatting struct {
	o     FormatOptions
	g     geometry
	v     *Volume
	key   []byte
	slot  int // -1: none
	at    int64
	area  []byte
	whole [2][]byte
}

// prepare makes all that is to be written.
func (f *formatting) prepare(passphrase []byte) (err error) {
	o, g := f.o, f.g
	raw := rawHeader{Version: 2, Size: uint64(g.header), SeqID: 1}
	id := o.UUID
	if id.IsZero() {
		if err := drawn(o.Rand, id[:], "the UUID"); err != nil {
			return err
		}
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	}
	for _, err := range []error{
		putText(raw.Label[:], "label", o.Label), putText(raw.Subsystem[:], "subsystem", o.Subsystem),
		putText(raw.UUID[:], "UUID", id.String()), putText(raw.ChecksumAlg[:], "hash", "sha256"),
	} {
		if err != nil {
			return err
		}
	}
	f.key = bytes.Clone(o.VolumeKey)
	if f.key == nil {
		f.key = make([]byte, g.key)
		if err := drawn(o.Rand, f.key, "the volume key"); err != nil {
			return err
		}
	}
	for i := range f.v.salt {
		f.v.salt[i] = make([]byte, len(raw.Salt))
		if err := drawn(o.Rand, f.v.salt[i], "the header"); err != nil {
			return err
		}
	}
	m, err := f.metadata()
	if err != nil {
		return err
	}
	doc := m.marshal()
	if f.v.m, f.v.h, err = parseMetadata(doc, binarySize, g.header); err != nil {
		return err
	}
	f.slot = -1
	f.v.raw = raw
	if passphrase != nil {
		if doc, err = f.firstKey(passphrase); err != nil {
			return err
		}
	}
	for i := range f.whole {
		if f.whole[i], err = f.v.copyOf(raw, i, doc); err != nil {
			return err
		}
	}
	return nil
}

func (f *formatting) metadata() (*metadata, error) {
	o, g := f.o, f.g
	d := digestJSON{Type: pbkdf2Type, Keyslots: []string{}, Segments: []string{"0"}, Hash: o.DigestHash, Iterations: o.DigestIterations}
	if d.Hash == "" {
		d.Hash = "sha256"
	}
	if d.Iterations == 0 {
		d.Iterations = minIterations
	}
	if !writtenHash(d.Hash) || d.Iterations < minIterations {
		return nil, fmt.Errorf("digest by %s with %d iterations: want sha256 or sha512, and %d or more", d.Hash, d.Iterations, minIterations)
	}
	if err := (Limits{}).check(KDF{Type: PBKDF2, Iterations: d.Iterations}); err != nil {
		return nil, err
	}
	salt := make([]byte, saltSize)
	if err := drawn(o.Rand, salt, "a salt"); err != nil {
		return nil, err
	}
	h, _ := newHash(d.Hash)
	sum, err := stretch(d.Hash, f.key, salt, d.Iterations, h.Size())
	if err != nil {
		return nil, err
	}
	d.Salt, d.Digest = base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(sum)
	size := "dynamic"
	if g.size > 0 {
		size = strconv.FormatInt(g.size, 10)
	}
	config := object{{key: "json_size", raw: compact(fmt.Sprint(g.header - binarySize))}, {key: "keyslots_size", raw: compact(fmt.Sprint(g.keyslots))}}
	if len(o.Flags) > 0 {
		config.set("flags", compact(o.Flags))
	}
	m := &metadata{
		segments: object{{key: "0", raw: compact(segmentJSON{segmentCrypt, fmt.Sprint(g.offset), size, "0", aesXTS, g.sector})}},
		digests:  object{{key: "0", raw: compact(d)}},
		config:   config,
	}
	for _, name := range []string{"keyslots", "tokens", "segments", "digests", "config"} {
		// as cryptsetup orders them
		m.top.set(name, nil)
	}
	return m, nil
}

// firstKey makes the key slot of the passphrase and returns the metadata with it.
func (f *formatting) firstKey(passphrase []byte) ([]byte, error) {
	k := f.o.Key
	k.Rand = f.o.Rand
	id, err := f.v.h.freeSlot(k.Slot)
	if err != nil {
		return nil, err
	}
	if f.at, err = f.v.h.freeArea(areaSize(len(f.key))); err != nil {
		return nil, err
	}
	var s Slot
	if s, f.area, err = newSlot(id, f.key, passphrase, f.at, k); err != nil {
		return nil, err
	}
	next, err := f.v.withSlot(s, 0, k.Token)
	if err != nil {
		return nil, err
	}
	f.slot = id
	return next.h.JSON, nil
}

// write makes the device no volume first, then the new one.
func (f *formatting) write() error {
	size := f.v.disk.Size()
	for _, off := range append([]int64{0}, headerSizes[:]...) {
		magic := make([]byte, len(magicPrimary))
		if n, err := f.v.disk.ReadAt(magic, off); n < len(magic) {
			if err != nil && err != io.EOF {
				return err
			}
			continue
		}
		if off+binarySize <= size && (bytes.Equal(magic, magicPrimary[:]) || bytes.Equal(magic, magicSecondary[:])) {
			if err := f.v.put(make([]byte, binarySize), off); err != nil {
				return err
			}
		}
	}
	if !f.o.TargetIsZero {
		// Old key slots open nothing.
		if err := (&sparse.Target{W: f.v.disk}).Zeros(2*f.g.header, f.g.keyslots); err != nil {
			return err
		}
	}
	if f.area != nil {
		if err := f.v.put(f.area, f.at); err != nil {
			return err
		}
	}
	if err := f.v.sync(); err != nil {
		return err
	}
	for _, i := range []int{1, 0} {
		if err := f.v.put(f.whole[i], int64(i)*f.g.header); err != nil {
			return fmt.Errorf("%s: %w", copyName(int64(i)), err)
		}
	}
	return nil
}
