package authenticode_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// uki is a small image of the shape of a UKI: a stub, then the sections of one.
func uki() []byte {
	text := []byte("ID=acme\nVERSION_ID=1\n")
	return petest.Image{SizeOfHeaders: 0x1000, DllCharacteristics: 0x160, Sections: []petest.Section{
		{Name: ".text", Content: []byte{0xf4, 0xeb, 0xfd}, Code: true},
		{Name: ".sbat", Content: []byte("sbat,1,SBAT Version,sbat,1,x\n")},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262 ####\x00")},
		{Name: ".osrel", Content: text},
		{Name: ".cmdline", Content: []byte("quiet")},
		{Name: ".linux", Content: bytes.Repeat(text, 30)},
		{Name: ".initrd", Content: bytes.Repeat(text, 40)},
	}}.Bytes()
}

// mask clears the checksum of a PE32 or PE32+ image, which nothing protects.
func mask(b []byte) []byte {
	b = bytes.Clone(b)
	clear(b[checksumAt(b):][:4])
	return b
}

func tableAt(b []byte) int {
	return int(binary.LittleEndian.Uint32(b[checksumAt(b)+80:]))
}

// Every bit counts, in headers, sections, trailing data, padding and certificate table, but for
// those of the checksum. The ordinary run takes every third.
func TestEveryBitCounts(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	signed := sign(t, append(uki(), "trailing data"...), id, authenticode.SignOptions{Time: when})
	_, err := authenticode.Verify(bytes.NewReader(signed), id.list())
	require.NoError(t, err)
	checksum, table := 8*checksumAt(signed), 8*tableAt(signed)
	bad := bytes.Clone(signed)
	_, long := testtools.Seed(t)
	step := 3
	if long {
		step = 1
	} else if testing.Short() {
		step = 13
	}
	accepted, inChecksum := 0, 0
	for i := 0; i < 8*len(signed); i += step {
		if i > 8*0x400 && i < table-8*16 {
			i += 41 // a sample of the sections
		}
		bad[i/8] ^= 1 << (i % 8)
		s, err := authenticode.Verify(bytes.NewReader(bad), id.list())
		if i >= checksum && i < checksum+32 {
			inChecksum++
		}
		if err == nil {
			accepted++
			if i < checksum || i >= checksum+32 {
				t.Fatalf("bit %d of byte 0x%x changed, and accepted (table at 0x%x)", i%8, i/8, table/8)
			}
		} else if s != nil {
			t.Fatal("a signature and an error")
		}
		bad[i/8] = signed[i/8]
	}
	require.Equal(t, inChecksum, accepted)
	for i := 0; i < len(signed); i += 7 {
		if _, err := authenticode.Verify(bytes.NewReader(signed[:i]), id.list()); err == nil {
			t.Fatalf("accepted when cut to %d bytes", i)
		}
	}
	for _, more := range []int{1, 8, 512} {
		if _, err := authenticode.Verify(bytes.NewReader(append(bytes.Clone(signed), make([]byte, more)...)), id.list()); err == nil {
			t.Fatalf("accepted with %d more bytes", more)
		}
	}
}

// Thousands of larger changes: bytes overwritten, inserted, cut out, moved. Nothing that differs is
// accepted, the checksum excepted.
func TestMutations(t *testing.T) {
	r, long := testtools.Seed(t)
	n := 6000
	if long {
		n = 100_000
	} else if testing.Short() {
		n = 1500
	}
	id := newIdentity(t, "rsa1", "self", nil)
	signed := sign(t, uki(), id, authenticode.SignOptions{Time: when})
	original := mask(signed)
	table := tableAt(signed)
	refused := 0
	for range n {
		bad := mutate(r, signed, table)
		_, err := authenticode.Verify(bytes.NewReader(bad), id.list())
		if err != nil {
			refused++
			_, format := errors.AsType[*osmith.FormatError](err)
			_, digest := errors.AsType[*authenticode.DigestError](err)
			if !format && !digest && !errors.Is(err, authenticode.ErrUnsigned) && !errors.Is(err, authenticode.ErrUntrusted) {
				require.ErrorContains(t, err, "authenticode: ")
			}
			continue
		}
		if !bytes.Equal(mask(bad), original) {
			t.Fatalf("accepted: %d bytes, first change at 0x%x of 0x%x", len(bad), firstDifference(mask(bad), original), table)
		}
	}
	require.Greater(t, refused, n*9/10)
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// mutate changes one to three things about a copy.
func mutate(r *rand.Rand, b []byte, table int) []byte {
	b = bytes.Clone(b)
	position := func() int {
		switch r.IntN(3) {
		case 0:
			return r.IntN(min(0x400, len(b))) // headers
		case 1:
			return min(table+r.IntN(len(b)), len(b)-1) // signature
		}
		return r.IntN(len(b))
	}
	for range 1 + r.IntN(3) {
		i := position()
		n := min(1+r.IntN(16), len(b)-i)
		switch r.IntN(7) {
		case 0: // a field of four bytes becomes extreme
			if i = i &^ 3; i+4 <= len(b) {
				binary.LittleEndian.PutUint32(b[i:], []uint32{0, 1, 8, 1 << 31, 1<<32 - 1, uint32(len(b)), uint32(table)}[r.IntN(7)])
			}
		case 1: // or slightly different
			if i = i &^ 3; i+4 <= len(b) {
				binary.LittleEndian.PutUint32(b[i:], binary.LittleEndian.Uint32(b[i:])+uint32(r.IntN(1025)-512))
			}
		case 2:
			for j := range b[i : i+n] {
				b[i+j] = byte(r.Uint32())
			}
		case 3: // what stands elsewhere
			copy(b[i:], b[r.IntN(len(b)):][:1])
		case 4: // cut out
			b = append(b[:i:i], b[i+n:]...)
		case 5: // inserted, mostly in multiples of 8
			b = append(b[:i:i], append(make([]byte, 8*n), b[i:]...)...)
		case 6:
			b[i] ^= 1 << r.IntN(8)
		}
		if len(b) < 0x100 {
			break
		}
	}
	return b
}

// With more in the table, more may be changed by an attacker on the way, as firmware has it: the
// attributes that are not signed, which is where timestamps are; certificates that do not belong to
// the path; other signatures. It is exactly this.
func TestWhatIsNotCovered(t *testing.T) {
	root := newIdentity(t, "256a", "C root", nil)
	leaf := newIdentity(t, "rsa1", "leaf", &root)
	extra, foreign := newIdentity(t, "384a", "extra", nil), newIdentity(t, "rsa2", "foreign", nil)
	signed := sign(t, uki(), leaf, authenticode.SignOptions{Chain: extra.list()})
	first := tableAt(signed)
	signed = withUnsignedAttributes(t, signed)
	second := len(signed)
	signed = sign(t, signed, foreign, authenticode.SignOptions{})

	type span struct {
		name     string
		from, to int
		every    bool // each change of these is accepted
	}
	attributes := bytes.Index(signed[first:], []byte(unsignedText)) + first
	certificate := bytes.Index(signed[first:], extra.cert.Raw) + first
	spans := []span{
		{"checksum", checksumAt(signed), checksumAt(signed) + 4, true},
		{"unsigned attributes", attributes, attributes + len(unsignedText), true},
		{"a certificate outside of the path", certificate, certificate + len(extra.cert.Raw), false},
		{"type of the other entry", second + 6, second + 8, true},
		{"the other signature", second + 8, len(signed), false},
	}
	accepted := make([]int, len(spans))
	bad := bytes.Clone(signed)
	for i := checksumAt(signed) - 16; i < len(signed); i++ {
		if i > checksumAt(signed)+200 && i < first {
			i = first
		}
		bad[i] ^= 0x10
		if _, err := authenticode.Verify(bytes.NewReader(bad), root.list()); err == nil {
			in := -1
			for j, s := range spans {
				if i >= s.from && i < s.to {
					in = j
				}
			}
			require.GreaterOrEqual(t, in, 0, "byte 0x%x changed, and accepted; entries at 0x%x and 0x%x", i, first, second)
			accepted[in]++
		}
		bad[i] = signed[i]
	}
	for j, s := range spans {
		require.Positive(t, accepted[j], s.name)
		if s.every {
			require.Equal(t, s.to-s.from, accepted[j], s.name)
		}
	}
}

// The length of an entry may count the padding or not, as tools do: both are accepted, and nothing
// in between.
func TestLengthOfAnEntry(t *testing.T) {
	counted := 0
	for n := range 8 { // lengths of all kinds
		id := newIdentity(t, "rsa1", "selfself"[:n+1], nil)
		signed := sign(t, uki(), id, authenticode.SignOptions{})
		at := tableAt(signed)
		length := int(binary.LittleEndian.Uint32(signed[at:]))
		require.Equal(t, (length+7)/8*8, len(signed)-at)
		for l := length - 16; l <= length+16; l++ {
			bad := bytes.Clone(signed)
			binary.LittleEndian.PutUint32(bad[at:], uint32(l))
			_, err := authenticode.Verify(bytes.NewReader(bad), id.list())
			if l == length || l == len(signed)-at {
				require.NoError(t, err)
				counted++
			} else {
				require.Error(t, err, "length %d instead of %d", l, length)
			}
		}
	}
	require.Greater(t, counted, 10)
}

const unsignedText = "unsigned attributes, whatever they be"

// withUnsignedAttributes adds an element [1] to the end of the only signer of the last signature.
// Each element around it ends there too and has a length of two bytes.
func withUnsignedAttributes(t *testing.T, signed []byte) []byte {
	t.Helper()
	entries, err := authenticode.Signatures(bytes.NewReader(signed))
	require.NoError(t, err)
	message := append(bytes.Clone(entries[0].Message), 0xa1, byte(len(unsignedText)))
	message = append(message, unsignedText...)
	grow := uint16(2 + len(unsignedText))
	be := binary.BigEndian
	for off := 0; off+4 < len(message); { // ContentInfo, [0], SignedData, signers, signer
		require.Equal(t, byte(0x82), message[off+1])
		end := off + 4 + int(be.Uint16(message[off+2:]))
		if end != len(entries[0].Message) {
			off = end // an element before
			continue
		}
		be.PutUint16(message[off+2:], be.Uint16(message[off+2:])+grow)
		if off += 4; message[off] == 0x06 || message[off] == 0x02 {
			// identifier or version, then small elements
			for message[off+1] < 0x80 {
				off += 2 + int(message[off+1])
			}
			if message[off] == 0x04 { // the signature value: behind it is the new one
				break
			}
		}
	}
	var out bytes.Buffer
	require.NoError(t, authenticode.RemoveAll(&out, bytes.NewReader(signed)))
	img := bytes.Clone(out.Bytes())
	out.Reset()
	require.NoError(t, authenticode.Attach(&out, bytes.NewReader(img), message))
	return out.Bytes()
}
