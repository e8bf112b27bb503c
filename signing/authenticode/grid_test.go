package authenticode_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// A randomImage is a PE file of random geometry: 32 or 64 bits, sections in the file in another
// order than in the table, empty ones among them, bytes behind the last and, if asked for, between
// them. inOrder puts the sections into the file in the order of the table.
func randomImage(r *rand.Rand, gaps, inOrder bool) []byte {
	le := binary.LittleEndian
	align := 512 << r.IntN(4)
	up := func(n int) int { return (n + align - 1) / align * align }
	sections, directories := 1+r.IntN(8), 5+r.IntN(12)
	coff := 64 + 8*r.IntN(40)
	fixed, magic, machine := 112, 0x20b, 0x8664
	if r.IntN(3) == 0 {
		fixed, magic, machine = 96, 0x10b, 0x014c
	}
	optional := coff + 24
	table := optional + fixed + 8*directories
	headers := up(table+40*sections) + align*r.IntN(2)

	b := make([]byte, headers)
	for i := range b[64:coff] {
		b[64+i] = byte(r.Uint32())
	}
	copy(b, "MZ")
	le.PutUint32(b[60:], uint32(coff))
	copy(b[coff:], "PE\x00\x00")
	le.PutUint16(b[coff+4:], uint16(machine))
	le.PutUint16(b[coff+6:], uint16(sections))
	le.PutUint16(b[coff+20:], uint16(fixed+8*directories))
	le.PutUint16(b[coff+22:], 0x22e)
	le.PutUint16(b[optional:], uint16(magic))
	le.PutUint32(b[optional+16:], 0x1000*uint32(headers/0x1000+1))
	le.PutUint32(b[optional+32:], uint32(max(align, 4096)))
	le.PutUint32(b[optional+36:], uint32(align))
	le.PutUint32(b[optional+60:], uint32(headers))
	le.PutUint32(b[optional+64:], r.Uint32())
	le.PutUint16(b[optional+68:], 10)
	le.PutUint32(b[optional+fixed-4:], uint32(directories))

	address := (headers/0x1000 + 1) * 0x1000
	order := r.Perm(sections) // in the file
	if inOrder {
		slices.Sort(order)
	}
	for _, i := range order {
		row := b[table+40*i:]
		copy(row, fmt.Sprintf(".s%d", i))
		raw := align * r.IntN(4)
		le.PutUint32(row[8:], uint32(max(raw-r.IntN(align), 1)))
		le.PutUint32(row[12:], uint32(address+0x8000*i))
		le.PutUint32(row[16:], uint32(raw))
		le.PutUint32(row[36:], 0x40000040)
		if raw == 0 {
			if r.IntN(2) == 0 {
				le.PutUint32(row[20:], r.Uint32()) // of no data, so of no meaning
			}
			continue
		}
		if gaps && r.IntN(3) == 0 {
			b = append(b, make([]byte, align)...)
			row = b[table+40*i:]
		}
		le.PutUint32(row[20:], uint32(len(b)))
		for range raw {
			b = append(b, byte(r.Uint32()))
		}
	}
	le.PutUint32(b[optional+56:], uint32(address+0x8000*sections))
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(40) {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b
}

// slowDigest is the digest in the words of the specification ("Calculating the PE Image Hash",
// steps 1 to 14), with all of the image in memory.
func slowDigest(b []byte, h crypto.Hash) []byte {
	u32 := func(off int) int { return int(binary.LittleEndian.Uint32(b[off:])) }
	u16 := func(off int) int { return int(binary.LittleEndian.Uint16(b[off:])) }
	pe := u32(60)
	directory := pe + 24 + 96 + 4*8
	if u16(pe+24) == 0x20b {
		directory += 16
	}
	covered := make([]byte, 0, len(b))
	for i := range u32(pe + 84) {
		if (i < pe+88 || i >= pe+92) && (i < directory || i >= directory+8) {
			covered = append(covered, b[i])
		}
	}
	hashed := u32(pe + 84)
	for at := 0; ; { // always the section that starts next
		next, size := len(b)+1, 0
		for i := range u16(pe + 6) {
			row := pe + 24 + u16(pe+20) + 40*i
			if off := u32(row + 20); u32(row+16) > 0 && off >= at && off < next {
				next, size = off, u32(row+16)
			}
		}
		if next > len(b) {
			break
		}
		covered = append(covered, b[next:next+size]...)
		hashed += size
		at = next + 1
	}
	covered = append(covered, b[hashed:len(b)-u32(directory+4)]...)
	w := h.New()
	w.Write(covered)
	return w.Sum(nil)
}

var signatureHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// The digest is that of the specification, taken slowly, before and after a signature.
func TestDigestIsTheSpecification(t *testing.T) {
	r, long := testtools.Seed(t)
	n := 300
	if long {
		n = 5000
	}
	id := newIdentity(t, "256a", "self", nil)
	for i := range n {
		gaps := i%4 == 0
		img := randomImage(r, gaps, i%2 == 0)
		for _, h := range signatureHashes {
			got, err := authenticode.Digest(bytes.NewReader(img), h)
			require.NoError(t, err)
			require.Equal(t, slowDigest(img, h), got, "image %d", i)
		}
		d, err := authenticode.NewDigester(crypto.SHA256)
		require.NoError(t, err)
		_ = inPieces(d, img, 3000, r)
		sums, err := d.Sums()
		if err != nil {
			require.True(t, gaps)
			require.ErrorIs(t, err, authenticode.ErrGaps)
			continue
		}
		require.Equal(t, slowDigest(img, crypto.SHA256), sums[crypto.SHA256])
		signed := sign(t, img, id, authenticode.SignOptions{})
		require.Equal(t, withChecksum(signed), signed)
		sums, err = d.SumsAsSigned()
		require.NoError(t, err)
		require.Equal(t, slowDigest(signed, crypto.SHA256), sums[crypto.SHA256])
		_, err = authenticode.Verify(bytes.NewReader(signed), id.list())
		require.NoError(t, err)
		require.Equal(t, withChecksum(append(img, make([]byte, -len(img)&7)...)), remove(t, signed, all))
	}
}

// pesign and osslsigncode take the same digests of random images, padded and as they are; sbverify
// and osslsigncode accept them signed.
func TestToolsDigestTheSame(t *testing.T) {
	testtools.Require(t, "sbverify")
	root := testtools.Trixie(t)
	r, long := testtools.Seed(t)
	n := 40
	if long {
		n = 120
	}
	id := newCodeSigner(t, "signer")
	_, cert := id.files(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), readFile(t, cert), 0o600))
	images := make([][]byte, n)
	for i := range images {
		images[i] = randomImage(r, false, i%2 == 0)
		name := filepath.Join(dir, fmt.Sprintf("%03d.efi", i))
		require.NoError(t, os.WriteFile(name, images[i], 0o600))
		require.NoError(t, os.WriteFile(name+".signed", sign(t, images[i], id, authenticode.SignOptions{Hash: signatureHashes[i%3]}), 0o600))
		if i%3 == 0 {
			testtools.Run(t, "sbverify", "--cert", cert, name+".signed")
		}
	}
	out := root.Run(t, dir, "sh", "-ec", `for f in *.efi; do
	echo "$f as-is $(pesign -h -p -i $f)"
	echo "$f padded $(pesign -h -P -i $f)"
	for h in sha256 sha384 sha512; do osslsigncode extract-data -h $h -in $f -out $f.$h >/dev/null; done
	osslsigncode verify -CAfile cert.pem -time 994000000 -ignore-timestamp -in $f.signed >log || { cat log; exit 1; }
	if grep MISMATCH log; then cat log; exit 1; fi
done 2>&1`)
	for i, img := range images {
		name := fmt.Sprintf("%03d.efi", i)
		d, err := authenticode.NewDigester(signatureHashes...)
		require.NoError(t, err)
		_, err = d.Write(img)
		require.NoError(t, err)
		sums, err := d.Sums()
		require.NoError(t, err)
		padded, err := d.SumsAsSigned()
		require.NoError(t, err)
		for how, sum := range map[string][]byte{"as-is": sums[crypto.SHA256], "padded": padded[crypto.SHA256]} {
			// pesign takes the sections in the order of the table, the specification, firmware and
			// all others in that of the file.
			if i%2 == 0 && !strings.Contains(out, name+" "+how+" "+hex.EncodeToString(sum)) {
				t.Fatalf("%s %s: %x is not what pesign says:\n%s", name, how, sum, out)
			}
		}
		for h, suffix := range map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"} {
			data := readFile(t, filepath.Join(dir, name+"."+suffix))
			require.True(t, bytes.Contains(data, padded[h]), "%s: osslsigncode's %v digest", name, h)
		}
	}
}
