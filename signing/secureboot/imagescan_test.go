package secureboot_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/firmwaregrid"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// gapped is an image with bytes between its sections that belong to none, which the digest makes up
// for by bytes at the end that it has covered already.
func gapped() []byte {
	b := (&petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".text", Content: make([]byte, 3000)}, {Name: ".sbat", Content: []byte("sbat,1,SBAT Version\n")}}}).Bytes()
	f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		panic(err)
	}
	const gap = 1024
	last := int64(f.Sections[1].Offset)
	b = slices.Concat(b[:last], bytes.Repeat([]byte{7}, gap), b[last:], []byte("overlay"))
	row := b[f.Fields.SectionTable+40+20:]
	binary.LittleEndian.PutUint32(row, uint32(last+gap))
	return b
}

// An image that is written in pieces is read as one that is there.
func TestImageScan(t *testing.T) {
	images := map[string][]byte{"stub": petest.Stub("262-1"), "gaps": gapped()}
	names, err := filepath.Glob("../authenticode/testdata/*.efi")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		images[filepath.Base(name)] = read(t, name)
	}
	for name, b := range images {
		want, err := secureboot.ReadImage(bytes.NewReader(b), crypto.SHA1)
		require.NoError(t, err, name)
		for _, size := range []int{1, 511, 4096, 20_000, len(b)} {
			s, err := secureboot.NewImageScan(bytes.NewReader(b), secureboot.ScanOptions{Hashes: []crypto.Hash{crypto.SHA1}})
			require.NoError(t, err, name)
			for piece := range slices.Chunk(b, size) {
				_, err = s.Image()
				require.ErrorContains(t, err, "bytes were written of an image of")
				n, err := s.Write(piece)
				require.NoError(t, err)
				require.Len(t, piece, n)
			}
			got, err := s.Image()
			require.NoError(t, err)
			require.Equal(t, want, got, "%s by %d", name, size)
			_, err = s.Write([]byte{0})
			require.ErrorContains(t, err, "are written of an image of")
		}
	}
	_, err = secureboot.NewImageScan(bytes.NewReader([]byte("text")), secureboot.ScanOptions{})
	require.ErrorAs(t, err, new(*osmith.FormatError))
}

// The image that is hashed is the one that was written, also where the source has become another
// one.
func TestImageScanHashesWhatIsWritten(t *testing.T) {
	b := petest.Stub("262-1")
	other := bytes.Clone(b)
	other[len(other)/2] ^= 1
	want, err := secureboot.ReadImage(bytes.NewReader(other))
	require.NoError(t, err)
	s, err := secureboot.NewImageScan(bytes.NewReader(b), secureboot.ScanOptions{})
	require.NoError(t, err)
	_, err = io.Copy(s, bytes.NewReader(other))
	require.NoError(t, err)
	got, err := s.Image()
	require.NoError(t, err)
	require.Equal(t, want.Digests, got.Digests)
}

// A scan for one machine takes the digests that its firmware compares, and no verdict is another
// one than with all of them.
func TestImageScanForAMachine(t *testing.T) {
	g := firmwaregrid.Images()
	sha := func(h crypto.Hash, b []byte) []byte { // a list with the digest of an image
		im := readImageBytes(t, b)
		typ := map[crypto.Hash]osmith.GUID{crypto.SHA1: secureboot.TypeSHA1, crypto.SHA384: secureboot.TypeSHA384, crypto.SHA512: secureboot.TypeSHA512}[h]
		return lists(t, secureboot.SignatureList{Type: typ, Signatures: []secureboot.Signature{{Owner: owner, Data: im.Digests[h]}}})
	}
	images := map[string][]byte{"stub": petest.Stub("262-1"), "unsigned": firmwaregrid.Unsigned()}
	for i, c := range g.Cases {
		if i%29 == 0 || strings.Contains(c.Name, "384") || strings.Contains(c.Name, "512") || strings.Contains(c.Name, "sha1") {
			images[c.Name] = c.Image
		}
	}
	left := 0
	for name, b := range images {
		full := readImageBytes(t, b)
		for _, v := range []osmith.FirmwareVariables{
			{DB: g.DB, DBX: g.DBX},
			{DB: append(bytes.Clone(g.DB), sha(crypto.SHA512, b)...)},
			{DB: g.DB, DBX: sha(crypto.SHA384, b)},
			{DB: g.DB, DBX: sha(crypto.SHA1, b)},
			{DB: []byte("junk")},
		} {
			v.SecureBoot, v.SetupMode = []byte{1}, []byte{0}
			s, err := secureboot.NewImageScan(bytes.NewReader(b), secureboot.ScanOptions{Machine: &v})
			require.NoError(t, err)
			_, err = s.Write(b)
			require.NoError(t, err)
			im, err := s.Image()
			require.NoError(t, err)
			require.NotNil(t, im.Digests[crypto.SHA256])
			// With digests that are there already, it is the same without a pass, and never with
			// one too few.
			s, err = secureboot.NewImageScan(bytes.NewReader(b), secureboot.ScanOptions{Machine: &v})
			require.NoError(t, err)
			known, ok := s.WithDigests(full.Digests)
			require.True(t, ok)
			require.Equal(t, im, known)
			for h := range im.Digests {
				few := maps.Clone(full.Digests)
				delete(few, h)
				_, ok := s.WithDigests(few)
				require.False(t, ok)
			}
			left += len(full.Digests) - len(im.Digests)
			for _, row := range append(secureboot.Firmwares(), secureboot.FirmwareAny) {
				o := secureboot.EvaluateOptions{Firmware: row, NoShim: true}
				require.Equal(t, secureboot.Evaluate(v, full, o), secureboot.Evaluate(v, im, o), "%s: %s", name, row)
			}
		}
	}
	require.Greater(t, left, len(images), "digests that were not taken")
}

func ExampleNewImageScan() {
	image := bytes.NewReader(petest.Stub("262-1")) // or an *os.File with osmith.NewFile
	s, err := secureboot.NewImageScan(image, secureboot.ScanOptions{})
	if err != nil {
		panic(err)
	}
	var copied bytes.Buffer // as if it were the file on the ESP
	if _, err := io.Copy(io.MultiWriter(&copied, s), io.NewSectionReader(image, 0, image.Size())); err != nil {
		panic(err)
	}
	im, err := s.Image()
	if err != nil {
		panic(err)
	}
	fmt.Println(len(im.Digests), "digests,", len(im.Certificates), "certificates")
	// Output: 4 digests, 0 certificates
}
