package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// logBytes builds logs field by field.
type logBytes []byte

func (b logBytes) u32(v ...uint32) logBytes {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func (b logBytes) u16(v ...uint16) logBytes {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint16(b, x)
	}
	return b
}

func (b logBytes) bytes(v ...byte) logBytes { return append(b, v...) }

// header is the first event of a crypto-agile log with pairs of algorithm and digest size.
func header(algorithms ...uint16) logBytes {
	data := logBytes(bytes.Clone(specIDSignature)).bytes(0, 0, 0, 0, 0, 2, 0, 2).u32(uint32(len(algorithms) / 2)).u16(algorithms...).bytes(0)
	return slices.Clip(logBytes(nil).u32(0, 3).bytes(make([]byte, 20)...).u32(uint32(len(data))).bytes(data...))
}

// event is a sha256 event with a digest of zeros.
func (b logBytes) event(pcr, typ uint32, data ...byte) logBytes {
	return b.u32(pcr, typ, 1).u16(0xb).bytes(make([]byte, 32)...).u32(uint32(len(data))).bytes(data...)
}

func TestParseLogErrors(t *testing.T) {
	sha256Only := header(0xb, 32)
	patched := func(offset int, v uint32) []byte {
		b := bytes.Clone(sha256Only)
		binary.LittleEndian.PutUint32(b[offset:], v)
		return b
	}
	for _, c := range []struct {
		name   string
		in     []byte
		offset int64
		want   string
	}{
		{"empty", nil, 0, "no events"},
		{"short head", []byte{1, 2, 3}, 0, "PCR at 0x0: 4 bytes, 3 left: the log ends inside it"},
		{"short type", []byte{1, 2, 3, 4, 5}, 4, "type"},
		{"short digest", append([]byte{1}, make([]byte, 19)...), 8, "digest"},
		{"sha1 data of 4 GiB", logBytes(make([]byte, 28)).u32(0xffffffff), 28, "data size at 0x1c: 4294967295 bytes, 0 left"},
		{"header without algorithms", header(), 56, "algorithm count at 0x38: 0, want 1 to 16"},
		{"header with many algorithms", patched(56, 1<<31), 56, "2147483648, want 1 to 16"},
		{"header algorithms cut", patched(56, 3), 64, "the log ends inside it"},
		{"header sha256 of 20 bytes", header(0xb, 20), 60, "sha256 with digests of 20 bytes, want 32"},
		{"header empty digests", header(0x99, 0), 60, "0x0099 with digests of 0 bytes"},
		{"header twice", header(0xb, 32, 0xb, 32), 64, "0x000b is listed twice"},
		{"digest count", sha256Only.u32(0, 1, 17), 73, "digest count at 0x49: 17, the header lists 1 algorithms"},
		{"digest algorithm", sha256Only.u32(0, 1, 1).u16(0x27), 77, "0x0027 is not in the header"},
		{"digest cut", sha256Only.u32(0, 1, 1).u16(0xb).bytes(1), 79, "digest at 0x4f: 32 bytes, 1 left"},
		{"data cut", sha256Only.event(0, 1).event(0, 1, 1, 2, 3)[:65+50+49+1], 65 + 50 + 46, "event 2: data size"},
		{"algorithm twice", header(0xb, 32, 0xc, 48).u32(0, 1, 2).u16(0xb).bytes(make([]byte, 32)...).u16(0xb).bytes(1), 0, "0x000b is listed twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, err := ParseLog(c.in)
			require.ErrorContains(t, err, c.want)
			assert.Nil(t, log)
			assert.True(t, strings.HasPrefix(err.Error(), "tpm: event log: event "), err.Error())
			var format *osmith.FormatError
			require.True(t, errors.As(err, &format))
			if c.offset != 0 {
				assert.Equal(t, c.offset, format.Offset)
			}
		})
	}
}

// What firmware does wrong is read, kept, and told.
func TestFindings(t *testing.T) {
	base := header(0xb, 32)
	changed := func(offset int, v byte) logBytes {
		b := bytes.Clone(base)
		b[offset] = v
		return b
	}
	short := append(logBytes(nil).u32(0, 3).bytes(make([]byte, 20)...).u32(32), base[32:64]...)
	for _, c := range []struct {
		name string
		in   logBytes
		want string
	}{
		{"padding", base.event(4, 5, 'x').bytes(make([]byte, 100)...), "at 0x74: 100 bytes of padding behind the last event"},
		{"padding of ones", base.event(4, 5, 'x').bytes(bytes.Repeat([]byte{0xff}, 7)...), "at 0x74: 7 bytes of padding behind the last event"},
		{"header digest", changed(8, 1), "event 0 at 0x8: the header has a digest; it extends nothing"},
		{"header PCR", changed(0, 1), "event 0 at 0x0: the header is for PCR 1"},
		{"header version", changed(32+21, 1), "event 0 at 0x20: the header is of version 1.0, platform class 0, with integers of 8 bytes"},
		{"header vendor info", changed(64, 9), "event 0 at 0x40: the header has 0 bytes of vendor info and says 9"},
		{"header without vendor info", short, "event 0 at 0x40: the header ends before the size of its vendor info"},
		{"bank that the header lacks", base.u32(4, 5, 1).u16(4).bytes(make([]byte, 20)...).u32(1).bytes('x'),
			"event 1 at 0x41: it has no digest of sha256, which the header lists, and it has a digest of sha1, which the header does not list"},
		{"PCR", base.event(24, 5, 'x'), "event 1 at 0x41: EV_ACTION for PCR 24, which no TPM has"},
		{"PCR -1", base.event(0xffffffff, 5, 'x'), "event 1 at 0x41: EV_ACTION for PCR -1, which no TPM has"},
		{"type", base.event(4, 0x99, 'x'), "event 1 at 0x41: unknown event type 0x00000099"},
		{"changed data", base.event(4, 4, 'x'), "event 1 at 0x41: EV_SEPARATOR whose digest is not that of its data"},
		{"locality", base.event(0, 3, append([]byte("StartupLocality\x00"), 9)...), "event 1 at 0x41: startup locality 9, want 0, 3 or 4"},
		{"missing digest", base.u32(4, 5, 0, 1).bytes('x'), "event 1 at 0x41: it has no digest of sha256, which the header lists"},
		{"missing digests", base.u32(4, 5, 0, 1).bytes('x').u32(4, 5, 0, 1).bytes('y').u32(4, 5, 0, 1).bytes('z'),
			"event 1 at 0x41: it has no digest of sha256, which the header lists; likewise 2 more, up to event 3"},
		{"order of digests", header(4, 20, 0xb, 32).u32(4, 5, 2).u16(0xb).bytes(make([]byte, 32)...).u16(4).bytes(make([]byte, 20)...).u32(0),
			"event 1 at 0x45: its digests are in another order than the header lists them"},
		{"no action with a digest", base.u32(4, 3, 1).u16(0xb).bytes(bytes.Repeat([]byte{1}, 32)...).u32(1).bytes('x'),
			"event 1 at 0x41: EV_NO_ACTION with a sha256 digest that is not zero; it extends nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, err := ParseLog(c.in)
			require.NoError(t, err)
			require.Len(t, log.Findings, 1)
			assert.Equal(t, c.want, log.Findings[0].String())
			again, err := log.MarshalBinary()
			require.NoError(t, err)
			assert.Equal(t, []byte(c.in), again)
			assert.NotEmpty(t, log.String())
		})
	}
}

// An error separator hashes the number 1 and describes the error.
func TestErrorSeparator(t *testing.T) {
	in := header(0xb, 32).u32(4, 4, 1).u16(0xb).bytes(pcrbank.Sum(crypto.SHA256, []byte{1, 0, 0, 0})...).u32(4).bytes(9, 9, 9, 9)
	log, err := ParseLog(in)
	require.NoError(t, err)
	assert.Empty(t, log.Findings)
	assert.Equal(t, "separator after an error: 09090909", log.Events[1].Describe())
}

func TestStartupLocality(t *testing.T) {
	start := append([]byte("StartupLocality\x00"), 3)
	log, err := ParseLog(header(0xb, 32).event(0, 3, start...).event(0, 5, 'x'))
	require.NoError(t, err)
	assert.Empty(t, log.Findings)
	banks, err := log.Replay(crypto.SHA256)
	require.NoError(t, err)
	first := make([]byte, 32)
	first[31] = 3
	assert.Equal(t, pcrbank.Sum(crypto.SHA256, first, make([]byte, 32)), banks[crypto.SHA256].PCR(0))
}

func TestHCRTM(t *testing.T) {
	log, err := ParseLog(header(0xb, 32).event(0, 0x80000010, []byte("HCRTM")...).event(17, 5, 'x'))
	require.NoError(t, err)
	banks, err := log.Replay(crypto.SHA256)
	require.NoError(t, err)
	first := make([]byte, 32)
	first[31] = 4
	assert.Equal(t, pcrbank.Sum(crypto.SHA256, first, make([]byte, 32)), banks[crypto.SHA256].PCR(0))
	assert.Equal(t, pcrbank.Sum(crypto.SHA256, make([]byte, 64)), banks[crypto.SHA256].PCR(17), "a dynamic launch has reset it")
	assert.Equal(t, make([]byte, 32), banks[crypto.SHA256].PCR(18))
}

// Algorithms that are no bank here are carried along.
func TestForeignAlgorithm(t *testing.T) {
	const sm3 = 0x12
	in := header(sm3, 32, 0xb, 32).u32(4, 5, 2).u16(0xb).bytes(make([]byte, 32)...).u16(sm3).bytes(bytes.Repeat([]byte{7}, 32)...).u32(0)
	in = in.u32(4, 5, 2).u16(sm3).bytes(bytes.Repeat([]byte{8}, 32)...).u16(0xb).bytes(make([]byte, 32)...).u32(0)
	log, err := ParseLog(in)
	require.NoError(t, err)
	assert.Equal(t, []crypto.Hash{crypto.SHA256}, log.Banks())
	assert.Len(t, log.Findings, 1)
	again, err := log.MarshalBinary()
	require.NoError(t, err)
	assert.Equal(t, []byte(in), again)
}

func TestMarshalErrors(t *testing.T) {
	_, err := (&Log{}).MarshalBinary()
	assert.ErrorIs(t, err, ErrBank)
	l := &Log{Events: []Event{newSpecID([]crypto.Hash{crypto.SHA256}), {PCR: 4, Digests: map[crypto.Hash][]byte{crypto.SHA256: {1}}}}}
	_, err = l.MarshalBinary()
	assert.ErrorContains(t, err, "event 1: algorithm 0x000b: a digest of 1 bytes")
	_, err = l.Replay(crypto.SHA256)
	assert.ErrorContains(t, err, "tpm: replay: event 1: PCR 4: a digest of 1 bytes")
}
