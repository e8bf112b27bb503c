package authenticode

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// Remove writes a copy of an image without the signatures for which remove returns true; i counts
// them as [Signatures] lists them. The other signatures stay as they are, byte for byte. If no
// signature is to be removed, Remove writes nothing and returns [ErrNoMatch] or [ErrUnsigned].
//
// When the last signature goes, the certificate directory entry is cleared and the result is the
// image before it was signed, with two reservations that sbattach and osslsigncode have too: the
// checksum is correct, even if it was wrong before (stubs and linkers often leave it zero), and up
// to 7 zeros of padding stay at the end, since they cannot be told from bytes of the image.
func Remove(w io.Writer, src osmith.Source, remove func(i int, s Signature) bool) (err error) {
	defer prefix.Add("authenticode", &err)
	return edit(w, src, func(entries []signedpe.Entry) ([]byte, error) {
		selected, err := selectEntries(entries, remove)
		if err != nil {
			return nil, err
		}
		var table []byte
		for i, e := range entries {
			if !selected[i] {
				table = append(table, e.Raw...)
			}
		}
		return table, nil
	})
}

// RemoveAll writes a copy of an image without its certificate table, also if the table cannot be
// parsed or has entries that [Remove] cannot name. The checksum and the padding are as described at
// [Remove].
func RemoveAll(w io.Writer, src osmith.Source) (err error) {
	defer prefix.Add("authenticode", &err)
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return err
	}
	t := f.Certificates
	if t.Size == 0 {
		return ErrUnsigned
	}
	if t.End() != f.Size {
		return signedpe.BytesBehind(f)
	}
	return rewrite(w, src, f, nil)
}

// Attach writes a copy of an image with a signature that was made elsewhere, after those it has:
// message is what sbsign --detached, osslsigncode extract-signature and [Signature].Message yield,
// a PKCS #7 SignedData in DER. The signature must be valid and cover this image, otherwise the
// error is its Err or a [*DigestError]. Its signing time is not checked.
func Attach(w io.Writer, src osmith.Source, message []byte) (err error) {
	defer prefix.Add("authenticode", &err)
	s, err := signedpe.ReadSignature(message, 0)
	if err != nil {
		return err
	}
	if s.Err != nil {
		return s.Err
	}
	d, err := digestForSigning(src, s.Hash)
	if err != nil {
		return err
	}
	sums, err := d.SumsAsSigned()
	if err != nil {
		return err
	}
	if sum := sums[s.Hash]; !bytes.Equal(sum, s.Digest) {
		return &DigestError{Hash: s.Hash, Want: s.Digest, Got: sum}
	}
	if _, err := signedpe.SplitTable(d.file, d.table); err != nil {
		return err
	}
	c, err := d.body().withTable(signedpe.AppendEntry(d.table, s.Message.Raw))
	if err != nil {
		return err
	}
	return c.copy(w, src)
}

// digestForSigning feeds a whole image to a digester.
func digestForSigning(src osmith.Source, h crypto.Hash) (*Digester, error) {
	// The size is known: what is wrong with it need not wait for the end of a pass.
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, err
	}
	d, err := NewDigester(h)
	if err != nil {
		return nil, err
	}
	d.signing = true
	err = signedpe.Scan(src, []pe.Range{{Size: f.Size}}, func(_ int64, b []byte) error {
		_, err := d.write(b)
		return err
	})
	return d, err
}

// edit writes a copy of a signed image with another certificate table.
func edit(w io.Writer, src osmith.Source, fn func(entries []signedpe.Entry) ([]byte, error)) error {
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return err
	}
	entries, err := signedpe.ReadTable(f, src)
	if err != nil {
		return err
	}
	table, err := fn(entries)
	if err != nil {
		return err
	}
	return rewrite(w, src, f, table)
}

func rewrite(w io.Writer, src osmith.Source, f *pe.File, table []byte) error {
	b, err := newBody(f, src)
	if err != nil {
		return err
	}
	c, err := b.withTable(table)
	if err != nil {
		return err
	}
	return c.copy(w, src)
}

// selectEntries applies a choice of signatures to the entries of a table.
func selectEntries(entries []signedpe.Entry, choose func(i int, s Signature) bool) ([]bool, error) {
	sigs, err := signatures(entries)
	if err != nil {
		return nil, err
	}
	if len(sigs) == 0 {
		return nil, ErrUnsigned
	}
	if choose == nil {
		return nil, errors.New("no function to choose signatures was given")
	}
	selected := make([]bool, len(entries))
	n := 0
	for i, e := range entries {
		if e.Message != nil {
			selected[i] = choose(n, sigs[n])
			n++
		}
	}
	if !slices.Contains(selected, true) {
		return nil, ErrNoMatch
	}
	return selected, nil
}

// around returns the parts of a certificate table before and behind a new entry, which takes the
// place of those that replace chooses.
func around(entries []signedpe.Entry, replace func(i int, s Signature) bool) (before, after []byte, err error) {
	selected := make([]bool, len(entries))
	if replace != nil {
		if selected, err = selectEntries(entries, replace); err != nil {
			return nil, nil, err
		}
	}
	found := false
	for i, e := range entries {
		switch {
		case selected[i]:
			found = true
		case found:
			after = append(after, e.Raw...)
		default:
			before = append(before, e.Raw...)
		}
	}
	return before, after, nil
}
