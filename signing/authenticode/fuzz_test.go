package authenticode_test

import (
	"bytes"
	"crypto"
	"errors"
	"path/filepath"
	"testing"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// seeds are the images of testdata: small, so that the fuzzer is quick with them.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	found, err := filepath.Glob("testdata/*.efi")
	if err != nil || len(found) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	var list [][]byte
	for _, path := range found {
		list = append(list, readFile(f, path))
	}
	return list
}

func FuzzSignatures(f *testing.F) {
	id := newIdentity(f, "256a", "self", nil)
	foreign := newIdentity(f, "256b", "foreign", nil)
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		src := bytes.NewReader(data)
		sigs, err := authenticode.Signatures(src)
		if (sigs == nil) != (err != nil) {
			t.Fatalf("%v and error %v", sigs, err)
		}
		if s, err := authenticode.Verify(src, foreign.list()); err == nil || s != nil {
			t.Fatal("accepted with a foreign certificate")
		}
		sum, err := authenticode.Digest(src, crypto.SHA256)
		if (sum == nil) != (err != nil) {
			t.Fatalf("%x and error %v", sum, err)
		}
		// What can be signed again verifies.
		var out bytes.Buffer
		if authenticode.Sign(&out, src, id.key, id.cert, authenticode.SignOptions{}) == nil {
			_, err := authenticode.Verify(bytes.NewReader(out.Bytes()), id.list())
			if _, ok := errors.AsType[*osmith.FormatError](err); err != nil && !ok {
				// of an older signature
				t.Fatal(err)
			}
		}
	})
}

// However an image is cut up, the digests are those of the whole, and both refuse the same.
func FuzzDigester(f *testing.F) {
	id := newIdentity(f, "256a", "self", nil)
	for i, b := range seeds(f) {
		f.Add(b, []uint16{0, 99, 4095}[i%3])
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		d, err := authenticode.NewDigester(crypto.SHA256, crypto.SHA1)
		if err != nil {
			t.Fatal(err)
		}
		for b := data; len(b) > 0; {
			n := min(len(b), int(piece)+1)
			if m, err := d.Write(b[:n]); (err == nil) != (m == n) && err == nil {
				t.Fatalf("%d of %d bytes without an error", m, n)
			}
			b = b[n:]
		}
		got, err := d.Sums()
		if (got == nil) != (err != nil) {
			t.Fatalf("%v and error %v", got, err)
		}
		want, wantErr := authenticode.Digests(bytes.NewReader(data), crypto.SHA256, crypto.SHA1)
		switch {
		case err == nil && wantErr != nil:
			t.Fatalf("hashed what Digests refuses: %v", wantErr)
		case err != nil:
			if _, ok := errors.AsType[*osmith.FormatError](err); !ok {
				t.Fatalf("error of type %T: %v", err, err)
			}
		default:
			for h := range want {
				if !bytes.Equal(got[h], want[h]) {
					t.Fatalf("%v: %x, want %x", h, got[h], want[h])
				}
			}
		}
		var file memoryFile
		s, err := authenticode.NewStreamSigner(&file, id.key, id.cert, authenticode.SignOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(data)
		err = s.Close()
		var signed bytes.Buffer
		if wantErr := authenticode.Sign(&signed, bytes.NewReader(data), id.key, id.cert, authenticode.SignOptions{}); (err == nil) != (wantErr == nil) {
			t.Fatalf("StreamSigner: %v, Sign: %v", err, wantErr)
		}
		if err == nil && !bytes.Equal(file.b, signed.Bytes()) {
			t.Fatal("not the file of Sign")
		}
	})
}

// What is taken off leaves what was there before; what can be listed can be taken off.
func FuzzRemove(f *testing.F) {
	id := newIdentity(f, "256a", "self", nil)
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := authenticode.Signatures(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i, e := range entries {
			if !bytes.Equal(data[e.Offset:][:len(e.Message)], e.Message) {
				t.Fatalf("signature %d is not at 0x%x", i, e.Offset)
			}
		}
		var out bytes.Buffer
		err = authenticode.Remove(&out, bytes.NewReader(data), all)
		if (err == nil) != (len(entries) > 0) {
			t.Fatalf("%d signatures, and %v", len(entries), err)
		}
		var again bytes.Buffer
		if authenticode.Sign(&again, bytes.NewReader(data), id.key, id.cert, authenticode.SignOptions{}) != nil {
			return
		}
		last := func(i int, _ authenticode.Signature) bool { return i == len(entries) }
		out.Reset()
		if err := authenticode.Remove(&out, bytes.NewReader(again.Bytes()), last); err != nil {
			t.Fatal(err)
		}
		if n := min(len(data), out.Len()); len(entries) > 0 && !bytes.Equal(mask(out.Bytes()), mask(data)) {
			t.Fatalf("%d bytes, before %d", out.Len(), n)
		}
	})
}
