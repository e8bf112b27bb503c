package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/superblock"
)

// Every error begins with the name of the package, once.
func TestErrorsAreNamedOnce(t *testing.T) {
	second := func(_ any, err error) error { return err }
	d, v, key := formatted(t, small(1))
	_, err := v.AddKey(key, []byte("x"), with(KeyOptions{KDF: fastKDF, Token: []byte(`{"type":"x"}`)}))
	require.NoError(t, err)
	bad := d.Clone()
	_, err = bad.WriteAt(make([]byte, 32<<10), 0)
	require.NoError(t, err)
	w, err := v.NewWriter(key)
	require.NoError(t, err)
	r, err := v.NewReader(key)
	require.NoError(t, err)
	im, err := NewImage(failing{}, 0, correctHorse, small(1), nil)
	require.NoError(t, err)
	_, _, format := Format(d, nil, FormatOptions{})
	_, _, tiny := Format(faultio.NewDisk(100), nil, FormatOptions{Rand: random(1)})
	_, _, recoveryErr := v.AddRecoveryKey(key, KeyOptions{})
	reader, err := OpenReader(d)
	require.NoError(t, err)
	for name, err := range map[string]error{
		"Read": second(Read(bad)), "Open": second(Open(bad)), "OpenReader": second(OpenReader(bad)), "Open nil": second(Open(nil)), "OpenReader nil": second(OpenReader(nil)),
		"Format": format, "Format small": tiny, "NewImage": second(NewImage(strings.NewReader("x"), 1, nil, FormatOptions{Rand: random(1)}, nil)),
		"NewImage KDF": second(NewImage(strings.NewReader("x"), 0, correctHorse, FormatOptions{Rand: random(1), Key: KeyOptions{KDF: KDF{Type: "x"}}}, nil)),
		"Unlock":       second(v.Unlock([]byte("wrong"), UnlockOptions{})), "VolumeKey": second(v.VolumeKey([]byte{1})),
		"AddKey": second(v.AddKey(key, nil, KeyOptions{})), "RemoveKey": v.RemoveKey(9, RemoveOptions{}), "ChangeKey": v.ChangeKey(key, 9, nil, KeyOptions{}),
		"SetPriority": v.SetPriority(9, 0, RemoveOptions{}), "AddToken": second(v.AddToken(nil, nil, TokenOptions{})), "RemoveToken": v.RemoveToken(9, RemoveTokenOptions{}),
		"AddRecoveryKey": recoveryErr, "NewRecoveryKey": second(NewRecoveryKey(nil)), "Wiped": second(v.Wiped(9)), "Repair": reader.Repair(RepairOptions{}),
		"NewReader": second(v.NewReader(nil)), "NewWriter": second(v.NewWriter(nil)), "WriteAt": second(w.WriteAt([]byte{1}, -1)), "Write": second(w.Write(make([]byte, 1<<20))),
		"ReadAt": second(r.ReadAt(nil, -1)), "Image": second(im.ReadAt(make([]byte, im.Size()), 0)), "Image -1": second(im.ReadAt(nil, -1)),
	} {
		require.Error(t, err, name)
		require.True(t, strings.HasPrefix(err.Error(), "luks: "), "%s: %v", name, err)
		require.Equal(t, 1, strings.Count(err.Error(), "luks: "), "%s: %v", name, err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("luke is not here") }
func (failing) Size() int64                       { return 5000 }

// The place of what is wrong is that on the disk.
func TestOffsets(t *testing.T) {
	base := mutantBase(t)
	for text, change := range map[string]func(string) string{
		"keyslots.0.area.size at 0x10": replace(`"size":"258048"`, `"size":"0"`), "digests.0.digest at 0x1": pattern(`"digest":".*?"`, `"digest":""`),
		"segments.0.sector_size at 0x1": replace(`"sector_size":512`, `"sector_size":513`), "keyslots.0 at 0x1": replace(`"key_size":64,"af"`, `"key_size":64,"key_size":64,"af"`),
	} {
		m := mutant{doc: change}
		_, err := Read(m.make(t, base))
		require.ErrorContains(t, err, text)
		format, ok := errors.AsType[*osmith.FormatError](err)
		require.True(t, ok)
		require.Greater(t, format.Offset, int64(binarySize))
	}
}

// A copy of the header that cannot be read is no copy that is wrong: reading goes on with the
// other, and a change does not, since it may be the newer one.
func TestUnreadableCopy(t *testing.T) {
	d, _, _ := formatted(t, small(1))
	for k := range 4 { // binary header and JSON area of both
		d := d.Clone()
		d.Faulty(faultio.Failure{Op: faultio.OpRead, After: k})
		_, err := Open(d)
		require.ErrorIs(t, err, faultio.ErrIO, k)
		d.Faulty(faultio.Failure{Op: faultio.OpRead, After: k})
		h, err := Read(d)
		require.NoError(t, err, k)
		require.True(t, h.NeedsRepair())
		require.ErrorIs(t, h.Copies[k/2].Err, faultio.ErrIO)
	}
	d.Faulty(faultio.Failure{Op: faultio.OpRead, Always: true})
	_, err := Read(d)
	require.ErrorIs(t, err, faultio.ErrIO)
}

// A device that ends before its key slots is none; one that ends there is one.
func TestShortDevice(t *testing.T) {
	d := load(t, "v28-512.img.gz")
	for size, ok := range map[int64]bool{0: false, 100: false, 4096: false, 32768: false, 294911: false, 294912: true} {
		_, err := Read(io.NewSectionReader(d, 0, size))
		require.Equal(t, ok, err == nil, size)
		if err != nil {
			require.ErrorIs(t, err, ErrNotLUKS)
		}
	}
}

// The second copy is found at any of its nine places when nothing is left of the first, and no
// older header elsewhere comes before it.
func TestSecondCopyAnywhere(t *testing.T) {
	for _, size := range headerSizes {
		o := small(1)
		o.HeaderSize = size
		d, _, _ := formatted(t, o)
		_, err := d.WriteAt(make([]byte, binarySize), 0)
		require.NoError(t, err)
		v, err := Open(d)
		require.NoError(t, err)
		require.Equal(t, size, v.Header().Size)
		require.True(t, opens(t, v, "correct horse", nil))
		require.NoError(t, v.Repair(RepairOptions{}))
		require.False(t, v.Header().NeedsRepair())
		require.True(t, opens(t, v, "correct horse", nil))
		require.NoError(t, v.Repair(RepairOptions{}), "again: nothing to do")
		h, err := Read(d)
		require.NoError(t, err)
		require.False(t, h.NeedsRepair())
	}
}

// A copy that is older, or as old and different, is made the same, with the same number of writes
// and another salt.
func TestRepairOlder(t *testing.T) {
	d, v, key := formatted(t, small(1))
	old := make([]byte, 16<<10)
	_, err := d.ReadAt(old, 0)
	require.NoError(t, err)
	_, err = v.AddKey(key, []byte("second"), with(KeyOptions{KDF: fastKDF}))
	require.NoError(t, err)
	_, err = d.WriteAt(old, 0)
	require.NoError(t, err)
	v, err = Open(d)
	require.NoError(t, err)
	h := v.Header()
	require.True(t, h.Copies[0].Differs)
	require.Equal(t, []uint64{1, 2, 2}, []uint64{h.Copies[0].SequenceID, h.Copies[1].SequenceID, h.SequenceID})
	require.True(t, opens(t, v, "second", nil))
	require.NoError(t, v.Repair(RepairOptions{}))
	h = v.Header()
	require.Equal(t, uint64(2), h.SequenceID)
	require.False(t, h.NeedsRepair())
	now := make([]byte, 16<<10)
	_, err = d.ReadAt(now, 0)
	require.NoError(t, err)
	require.NotEqual(t, old[saltAt:saltAt+64], now[saltAt:saltAt+64])
	// The volume goes on being of use.
	_, err = v.AddToken([]byte(`{"type":"x"}`), nil, TokenOptions{})
	require.NoError(t, err)
}

// Of two copies that are as new the first one counts, as with cryptsetup, and the other one is
// told.
func TestEquallyNew(t *testing.T) {
	m := mutant{bin: first(func(b []byte) { copy(b[24:], "of the first") })}
	d := m.make(t, mutantBase(t))
	v, err := Open(d)
	require.NoError(t, err)
	require.Equal(t, "of the first", v.Header().Label)
	require.True(t, v.Header().Copies[1].Differs)
	require.NoError(t, v.Repair(RepairOptions{}))
	h, err := Read(io.NewSectionReader(d, 0, d.Size()))
	require.NoError(t, err)
	require.Equal(t, "of the first", h.Label)
	require.False(t, h.NeedsRepair())
}

// Where something else begins, neither Repair nor a change writes a header over it.
func TestForeign(t *testing.T) {
	tried := map[string]bool{}
	for _, s := range superblock.Rows() {
		if s.Offset < 0 || s.Copy || s.What == superblock.LUKS || s.Magic == "\x34\x34" || tried[s.What] {
			continue
		}
		tried[s.What] = true
		d, _, key := formatted(t, small(1))
		_, err := d.WriteAt(make([]byte, binarySize), 0) // nothing is left of the first copy
		require.NoError(t, err)
		_, err = d.WriteAt([]byte(s.Magic), s.Offset)
		require.NoError(t, err)
		v, err := Open(d)
		require.NoError(t, err, s.What)
		before := content(t, d)
		var foreign *ForeignError
		require.ErrorAs(t, v.Repair(RepairOptions{}), &foreign, s.What)
		require.Equal(t, s.What, foreign.What)
		_, err = v.AddKey(key, []byte("x"), with(KeyOptions{KDF: fastKDF}))
		require.ErrorAs(t, err, &foreign)
		require.True(t, bytes.Equal(before, content(t, d)))
		require.NoError(t, v.Repair(RepairOptions{OverwriteWhatBeginsThere: true}))
		require.False(t, v.Header().NeedsRepair())
	}
}

// A header at its last number is not written again.
func TestLastSequenceID(t *testing.T) {
	m := mutant{bin: func(b []byte, _ bool) { binary.BigEndian.PutUint64(b[16:], 1<<64-1) }}
	v, err := Open(m.make(t, mutantBase(t)))
	require.NoError(t, err)
	_, err = v.AddToken([]byte(`{"type":"x"}`), nil, TokenOptions{})
	require.ErrorContains(t, err, "seqid")
}

func TestFormatRefused(t *testing.T) {
	d := faultio.NewDisk(32 << 20)
	before := content(t, d)
	for want, o := range map[string]FormatOptions{
		"header size 20480: want a power of two from 16 KiB to 4 MiB": {HeaderSize: 20 << 10}, "key of 384 bits": {KeyBits: 384}, "key of 257": {KeyBits: 257}, "volume key of 3": {VolumeKey: []byte{1, 2, 3}}, "both halves": {VolumeKey: make([]byte, 64)},
		"area of 4096": {KeyslotsSize: 4096}, "area of 258049": {KeyslotsSize: 258049}, "area of 138412032": {KeyslotsSize: 132 << 20}, "data at 4096": {DataOffset: 4096, KeyslotsSize: 258048},
		"data at 16777217": {DataOffset: 16<<20 + 1}, "sector size 8192": {SectorSize: 8192}, "data of 5": {DataSize: 5}, "data of -512": {DataSize: -512},
		"the device has": {DataOffset: 64 << 20, KeyslotsSize: 1 << 20}, "label of 48": {Label: strings.Repeat("x", 48)}, "label \"a\\x00\"": {Label: "a\x00"}, "subsystem": {Subsystem: "\xff"},
		"digest by": {DigestHash: "md5"}, "with 999": {DigestIterations: 999}, "KDF": {Key: KeyOptions{KDF: KDF{Type: "none"}}}, "twice": {Flags: []string{"a", "a"}},
		"JSON area": {Flags: []string{strings.Repeat("x", 20<<10)}, Key: KeyOptions{KDF: fastKDF}}, "no such key slot": {Key: KeyOptions{Slot: new(32), KDF: fastKDF}}, "PBKDF2 iterations": {DigestIterations: 1 << 30},
	} {
		o.Rand = random(1)
		_, _, err := Format(d, correctHorse, o)
		require.ErrorContains(t, err, want)
	}
	_, _, err := Format(d, correctHorse, FormatOptions{})
	require.ErrorIs(t, err, ErrNoRandom)
	_, _, err = Format(d, []byte{}, FormatOptions{Rand: random(1)})
	require.ErrorIs(t, err, ErrEmptyPassphrase)
	_, _, err = Format(d, correctHorse, FormatOptions{Rand: strings.NewReader("few")})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.True(t, bytes.Equal(before, content(t, d)), "nothing is written")
}

// The zero value of the options is what its documentation says.
func TestFormatDefaults(t *testing.T) {
	d := faultio.NewDisk(17 << 20)
	v, key, err := Format(d, nil, FormatOptions{Rand: random(1)})
	require.NoError(t, err)
	h := v.Header()
	require.Equal(t, int64(16<<10), h.Size)
	require.Equal(t, int64(16744448), h.KeyslotsSize)
	require.Equal(t, int64(16<<20), h.Segments[0].Offset)
	require.True(t, h.Segments[0].Dynamic)
	require.Equal(t, 4096, h.Segments[0].SectorSize)
	require.Equal(t, uint64(1), h.SequenceID)
	require.Empty(t, h.Slots)
	require.Len(t, key.Bytes(), 64)
	require.Equal(t, -1, key.Slot())
	id, err := osmith.ParseGUID(h.UUID)
	require.NoError(t, err)
	require.Equal(t, byte(4), id[6]>>4)
	_, err = v.Unlock(correctHorse, UnlockOptions{})
	require.ErrorIs(t, err, ErrNoKey)
	slot, err := v.AddKey(key, []byte("first"), with(KeyOptions{KDF: fastKDF}))
	require.NoError(t, err)
	require.Zero(t, slot)
	require.True(t, opens(t, v, "first", nil))

	odd, _, err := Format(faultio.NewDisk(17<<20+512), nil, FormatOptions{Rand: random(1), Label: "state", Subsystem: "osmith", UUID: osmith.MustParseGUID("0f0e0d0c-0b0a-4908-8706-050403020100"), Flags: []string{"allow-discards"}})
	require.NoError(t, err)
	h = odd.Header()
	require.Equal(t, 512, h.Segments[0].SectorSize)
	require.Equal(t, []string{"state", "osmith", "0f0e0d0c-0b0a-4908-8706-050403020100", "allow-discards"}, []string{h.Label, h.Subsystem, h.UUID, h.Flags[0]})
}

// Old key slots are gone after a new format, unless the device is zero anyway.
func TestFormatZeroes(t *testing.T) {
	d := faultio.NewDisk(2 << 20)
	_, err := d.WriteAt(bytes.Repeat([]byte{0xaa}, 2<<20), 0)
	require.NoError(t, err)
	o := small(1)
	v, _, err := Format(d, correctHorse, o)
	require.NoError(t, err)
	b := content(t, d)
	require.Zero(t, len(bytes.Trim(b[32768+258048:32768+o.KeyslotsSize], "\x00")))
	require.Equal(t, byte(0xaa), b[v.Header().Segments[0].Offset], "the data is not touched")
}

// badArea is a disk one of whose key slots cannot be read.
type badArea struct {
	*faultio.Disk
	off int64
}

func (b badArea) ReadAt(p []byte, off int64) (int, error) {
	if off <= b.off && b.off < off+int64(len(p)) {
		return 0, faultio.ErrIO
	}
	return b.Disk.ReadAt(p, off)
}

// A key slot that cannot be read is skipped, since another may open; it is told when none does, it
// does not count as a key that a person has, and it can be removed.
func TestUnreadableSlot(t *testing.T) {
	d, v, key := formatted(t, small(1))
	_, err := v.AddKey(key, []byte("second"), with(KeyOptions{KDF: fastKDF}))
	require.NoError(t, err)
	bad := badArea{d, 32768 + 100_000}
	v, err = Open(bad)
	require.NoError(t, err)
	require.True(t, opens(t, v, "second", nil))
	_, err = v.Unlock(correctHorse, UnlockOptions{})
	require.ErrorIs(t, err, ErrNoKey)
	require.ErrorIs(t, err, faultio.ErrIO)
	require.ErrorContains(t, err, "slot 0 was not tried")
	var last *LastKeyError
	require.ErrorAs(t, v.RemoveKey(1, RemoveOptions{}), &last)
	require.Equal(t, []int{1}, last.Slots)
	bad.off = -1 // writing has made it good
	v, err = Open(bad)
	require.NoError(t, err)
	require.NoError(t, v.RemoveKey(0, RemoveOptions{}))
}
