package luks

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

const pkg = "luks"

// Volume is a volume whose header was read and checked once; all later calls use that header. Its
// methods must not be called concurrently; the values that they return may be.
type Volume struct {
	src  osmith.Source
	disk osmith.Disk // nil: opened for reading
	h    *Header
	m    *metadata
	raw  rawHeader
	used int       // the copy that counts
	salt [2][]byte // of the copies, nil for one that is damaged
	seen [2][]byte // the binary headers as they were read

	broken bool
}

// OpenReader opens a volume for reading: keys are tried and data is decrypted, but nothing is
// written.
func OpenReader(src osmith.Source) (v *Volume, err error) {
	defer prefix.Add(pkg, &err)
	if src == nil {
		return nil, errors.New("no source was given")
	}
	v, _, err = open(src)
	return v, err
}

// Open opens a volume for changes. A damaged copy of the header stays as it is until
// [Volume.Repair] or the next change. If a copy cannot be read, Open fails, because that copy may
// be the newer one.
func Open(disk osmith.Disk) (v *Volume, err error) {
	defer prefix.Add(pkg, &err)
	if disk == nil {
		return nil, errors.New("no disk was given")
	}
	v, all, err := open(disk)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.failed {
			return nil, c.err
		}
	}
	v.disk = disk
	return v, nil
}

func open(src osmith.Source) (*Volume, [2]*copyState, error) {
	all, used, err := readCopies(src)
	if err != nil {
		return nil, all, err
	}
	v := &Volume{src: src, used: used}
	var raw *rawHeader
	v.h, v.m, raw = header(all, used)
	v.raw = *raw
	for i, c := range all {
		if c.raw != nil {
			v.salt[i] = bytes.Clone(c.raw.Salt[:])
		}
		if v.seen[i], err = v.binaryNow(i); err != nil && !c.failed {
			return nil, all, err
		}
	}
	return v, all, nil
}

// binaryNow is the binary header of a copy as it is on the disk.
func (v *Volume) binaryNow(i int) ([]byte, error) {
	b := make([]byte, binarySize)
	if err := sparse.ReadFull(v.src, b, int64(i)*v.h.Size); err != nil {
		return nil, fmt.Errorf("%s: %w", copyName(int64(i)), err)
	}
	return b, nil
}

// Header returns a copy of the header, which the caller may change.
func (v *Volume) Header() *Header {
	_, h, err := parseMetadata(v.h.JSON, binarySize, v.h.Size)
	if err != nil { // it cannot be: these bytes were read before
		return &Header{Unsupported: err}
	}
	h.SequenceID, h.Label, h.UUID, h.Subsystem, h.Copies = v.h.SequenceID, v.h.Label, v.h.UUID, v.h.Subsystem, v.h.Copies
	return h
}

// begin is the start of a change: the disk is locked, if it can be, and is as it was read.
func (v *Volume) begin() (end func(), err error) {
	switch {
	case v.disk == nil:
		return nil, ErrReadOnly
	case v.broken:
		return nil, ErrBroken
	}
	if end, err = v.lock(); err != nil {
		return nil, err
	}
	for i := range v.seen {
		now, err := v.binaryNow(i)
		if err == nil && !bytes.Equal(now, v.seen[i]) {
			err = ErrChanged
		}
		if err != nil {
			end()
			return nil, err
		}
	}
	return end, nil
}

// lock has the disk alone, if it can be locked, until unlock is called.
func (v *Volume) lock() (unlock func(), err error) {
	free, err := sparse.Lock(v.disk)
	if err != nil {
		return nil, err
	}
	// what was written is synced; a lock ends with the file at the latest
	return func() { _ = free() }, nil
}

// beginChange is begin for what changes keys and tokens.
func (v *Volume) beginChange() (end func(), err error) {
	if v.h.Unsupported != nil {
		return nil, v.h.Unsupported
	}
	if end, err = v.begin(); err != nil {
		return nil, err
	}
	// A damaged first copy is written with the change.
	if err := v.foreign(); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// edit is metadata that can be changed while that of the volume stays as it is.
func (v *Volume) edit() *metadata {
	m := &metadata{top: slices.Clone(v.m.top)}
	old := v.m.sections()
	for name, section := range m.sections() {
		*section = slices.Clone(*old[name])
	}
	return m
}

// staged is a header that is ready to be written.
type staged struct {
	m      *metadata
	h      *Header
	raw    rawHeader
	copies [2][]byte
}

// stage makes both copies of a header, and reads what it made: nothing is written that could not be
// read.
func (v *Volume) stage(m *metadata) (*staged, error) {
	doc := m.marshal()
	if have := v.h.Size - binarySize - 1; int64(len(doc)) > have {
		return nil, &JSONAreaError{Need: int64(len(doc)), Have: have}
	}
	if v.raw.SeqID == math.MaxUint64 {
		return nil, badFormat(16, "seqid", "%d is the highest possible", v.raw.SeqID)
	}
	s := &staged{raw: v.raw}
	s.raw.SeqID++
	var err error
	if s.m, s.h, err = parseMetadata(doc, binarySize, v.h.Size); err != nil {
		return nil, fmt.Errorf("the change would make an invalid header: %w", err)
	}
	if s.h.Unsupported != nil {
		return nil, s.h.Unsupported
	}
	for i := range s.copies {
		if s.copies[i], err = v.copyOf(s.raw, i, doc); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// copyOf makes one copy of a header. Each has its salt, which stays; that of a damaged copy is new,
// and follows from the other's.
func (v *Volume) copyOf(raw rawHeader, i int, doc []byte) ([]byte, error) {
	raw.Magic, raw.Offset = magicPrimary, 0
	if i == 1 {
		raw.Magic, raw.Offset = magicSecondary, raw.Size
	}
	salt := v.salt[i]
	if salt == nil {
		sum := sha512.Sum512(binary.BigEndian.AppendUint64(append([]byte("salt of the other copy"), raw.Salt[:]...), raw.SeqID))
		salt = sum[:]
	}
	copy(raw.Salt[:], salt)
	return raw.marshal(doc)
}

// commit writes changed metadata, if it leaves a key as [Volume.leavesKeys] has it.
func (v *Volume) commit(m *metadata, allowed bool) error {
	next, err := v.stage(m)
	if err != nil {
		return err
	}
	if err := v.leavesKeys(next.h, allowed); err != nil {
		return err
	}
	return v.write(next)
}

// write puts a staged header on the disk. The copy that counts is the last one to be written, so
// that at any moment one copy is whole: the old one until the other is.
func (v *Volume) write(s *staged) error {
	v.broken = true
	for _, i := range []int{1 - v.used, v.used} {
		if err := v.put(s.copies[i], int64(i)*v.h.Size); err != nil {
			return fmt.Errorf("%s: %w", copyName(int64(i)), err)
		}
	}
	for i, b := range s.copies {
		v.salt[i], v.seen[i] = bytes.Clone(b[saltAt:][:len(s.raw.Salt)]), bytes.Clone(b[:binarySize])
	}
	s.h.Label, s.h.UUID, s.h.Subsystem = v.h.Label, v.h.UUID, v.h.Subsystem
	v.m, v.h, v.raw, v.used = s.m, s.h, s.raw, 0
	v.bothGood()
	return nil
}

// bothGood notes that both copies were read back as they are to be.
func (v *Volume) bothGood() {
	v.h.SequenceID = v.raw.SeqID
	for i := range v.h.Copies {
		v.h.Copies[i] = Copy{Offset: int64(i) * v.h.Size, SequenceID: v.raw.SeqID}
	}
	v.broken = false
}

// put writes, waits until it is on the medium, and looks at what is there.
func (v *Volume) put(b []byte, off int64) error {
	n, err := v.disk.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = v.sync()
	}
	if err != nil {
		return err
	}
	if _, err := sparse.DropCache(v.disk, off, int64(len(b))); err != nil {
		return err
	}
	back := make([]byte, len(b))
	if err := sparse.ReadFull(v.disk, back, off); err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	if !bytes.Equal(back, b) {
		return errors.New("the disk returns different data from what was written")
	}
	return nil
}

func (v *Volume) sync() error {
	if d, ok := v.disk.(interface{ Sync() error }); ok {
		return d.Sync()
	}
	return nil
}
