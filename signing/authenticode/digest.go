package authenticode

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"math"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// Digest returns the Authenticode digest of an image under h: SHA-1, SHA-256, SHA-384 or SHA-512.
// It covers everything but the PE checksum, the certificate directory entry and the certificate
// table, so that signing does not change it, with one exception: Sign pads a file to a multiple of
// 8 bytes first, and firmware hashes the padding. If the size of an unsigned image is not a
// multiple of 8, Digest returns the digest that firmware computes of the file as it is.
//
// Firmware measures this value into PCR 4 and compares it with the SHA-256 entries of db and dbx.
func Digest(src osmith.Source, h crypto.Hash) (sum []byte, err error) {
	m, err := Digests(src, h)
	if err != nil {
		return nil, err
	}
	return m[h], nil
}

// Digests is [Digest] for several hashes in one pass over the file.
func Digests(src osmith.Source, hashes ...crypto.Hash) (sums map[crypto.Hash][]byte, err error) {
	defer prefix.Add("authenticode", &err)
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, err
	}
	return signedpe.Digests(f, src, hashes...)
}

// ErrGaps is wrapped in the [osmith.FormatError] of an image that cannot be signed or hashed in one
// pass, because it has bytes between its sections: the specification skips these bytes and hashes
// as many more at the end of the file, whereas osslsigncode hashes the whole file in order.
var ErrGaps = errors.New("firmware and signing tools disagree about the digest of such an image")

// maxHeaders bounds the headers of an image that is signed or hashed in one pass. They are in
// memory until their end.
const maxHeaders = 1 << 20

// A Digester computes Authenticode digests of an image that is written to it front to back, once:
// for several hashes in one pass, behind whatever produces the image, without ever seeing it as a
// whole. The results are those of [Digests].
//
//	d, err := authenticode.NewDigester(crypto.SHA256, crypto.SHA384)
//	_, err = io.Copy(io.MultiWriter(file, d), unsigned)
//	sums, err := d.Sums()
//
// Checksum, certificate directory entry and certificate table are skipped as they pass by. An image
// with gaps between its sections is refused with [ErrGaps]; an image with headers of more than 1
// MiB, or with bytes after the certificate table, is refused too: use [Digests] for these. Pieces
// of 16 KiB and more are hashed by one goroutine per algorithm. The goroutine of a StreamSigner
// with a single algorithm may still work on copies of the last pieces when a call returns, and then
// ends; all other goroutines end before the call returns.
type Digester struct {
	hasher *signedpe.Hasher
	sum    checksum
	header []byte // of the file, complete as soon as file is set
	need   int64  // bytes of header to collect until more is known
	file   *pe.File
	end    int64 // where hashing stops: the certificate table or the end of all files
	size   int64 // bytes written
	err    error // the first one of Write

	signing bool   // the image is to be signed: it needs a directory entry, and
	table   []byte // the bytes from end on are kept

	// sink takes what is hashed while it is hashed, from start to end of the image.
	sink func(off int64, b []byte) error
}

// NewDigester returns a Digester for SHA-1, SHA-256, SHA-384 or SHA-512, one or several.
func NewDigester(hashes ...crypto.Hash) (*Digester, error) {
	h, err := signedpe.NewHasher(hashes)
	if err != nil {
		return nil, prefix.Error("authenticode", err)
	}
	return &Digester{hasher: h, need: pe.FirstRead}, nil
}

// Write takes the next bytes of the image. An image is refused as soon as its headers have been
// written, with a [*osmith.FormatError]; every later call returns the same error.
func (d *Digester) Write(b []byte) (int, error) {
	n, err := d.write(b)
	return n, prefix.Error("authenticode", err)
}

func (d *Digester) write(b []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n := 0
	for d.file == nil && n < len(b) {
		m := int(min(d.need-int64(len(d.header)), int64(len(b)-n)))
		d.header = append(d.header, b[n:n+m]...)
		n += m
		d.size += int64(m)
		if int64(len(d.header)) == d.need {
			if d.err = d.headers(); d.err != nil {
				return n, d.err
			}
		}
	}
	if covered := min(int64(len(b)-n), max(d.end-d.size, 0)); covered > 0 {
		if d.err = d.add(b[n : n+int(covered)]); d.err != nil {
			return n, d.err
		}
		n += int(covered)
	}
	if n < len(b) {
		if d.signing {
			if len(d.table)+len(b)-n > signedpe.MaxTableSize {
				d.err = signedpe.TableTooLarge(d.file)
				return n, d.err
			}
			d.table = append(d.table, b[n:]...)
		}
		d.size += int64(len(b) - n)
	}
	return len(b), nil
}

// headers is called whenever as many bytes are there as were needed; it asks for more, or hashes
// the headers.
func (d *Digester) headers() error {
	need, err := pe.HeadersSize(d.header)
	if err != nil {
		return err
	}
	if need > maxHeaders {
		return &osmith.FormatError{Offset: 0, Field: "headers", Err: fmt.Errorf("%d bytes, limit %d", need, maxHeaders)}
	}
	if d.need = need; need > int64(len(d.header)) {
		return nil
	}
	// What depends on the size of the file is looked at when that is known.
	f, err := pe.Parse(bytes.NewReader(d.header), math.MaxInt64)
	if err != nil {
		return err
	}
	if _, err := signedpe.Regions(f); err != nil {
		return err
	}
	if err := checkContiguous(f); err != nil {
		return err
	}
	if d.signing && f.Fields.CertificateDirectory == 0 {
		return &osmith.FormatError{Offset: f.Fields.OptionalHeader, Field: "optional header", Err: errors.New("the image has no certificate directory entry")}
	}
	d.file, d.end = f, math.MaxInt64
	if f.Certificates.Size != 0 {
		d.end = f.Certificates.Offset
	}
	from := int64(0)
	for _, skip := range signedpe.Skipped(f) {
		d.hash(from, skip.Offset)
		from = skip.End()
	}
	d.hash(from, need)
	if d.sink != nil {
		return d.sink(0, d.header)
	}
	return nil
}

// hash adds a part of the headers.
func (d *Digester) hash(from, to int64) {
	d.hasher.Write(d.header[from:to], nil)
	d.sum.add(from, d.header[from:to])
}

// add takes bytes behind the headers.
func (d *Digester) add(b []byte) (err error) {
	d.hasher.Write(b, func() {
		d.sum.add(d.size, b)
		if d.sink != nil {
			err = d.sink(d.size, b)
		}
	})
	if err == nil {
		d.size += int64(len(b))
	}
	return err
}

// finish looks at what could not be judged before the end of the image.
func (d *Digester) finish() error {
	if d.err != nil {
		return d.err
	}
	f, err := pe.Parse(bytes.NewReader(d.header), d.size)
	if err != nil {
		return err
	}
	if d.file == nil { // it has not failed before: cannot happen
		return &osmith.FormatError{Offset: d.size, Field: "headers", Err: fmt.Errorf("the image ends inside the certificates, after %d bytes", d.size)}
	}
	d.file = f
	if c := f.Certificates; c.Size != 0 && c.End() != d.size {
		return signedpe.BytesBehind(f)
	}
	return nil
}

// body is the image without its certificate table, once finish is content.
func (d *Digester) body() body { return body{file: d.file, end: min(d.end, d.size), sum: d.sum} }

// Sums returns the digests of what was written as a complete file. It can be called again, also
// after more was written.
func (d *Digester) Sums() (sums map[crypto.Hash][]byte, err error) {
	defer prefix.Add("authenticode", &err)
	if err := d.finish(); err != nil {
		return nil, err
	}
	return d.hasher.Sums(0)
}

// SumsAsSigned returns the digests that the image will have once [Sign] has padded it to a multiple
// of 8 bytes: those that a signature covers and that firmware measures of the signed file. They
// differ from [Digester.Sums] only if the size of the image is not a multiple of 8 bytes.
func (d *Digester) SumsAsSigned() (sums map[crypto.Hash][]byte, err error) {
	defer prefix.Add("authenticode", &err)
	if err := d.finish(); err != nil {
		return nil, err
	}
	return d.hasher.Sums(d.body().padding())
}
