package authenticode

import (
	"crypto"
	"crypto/x509"
	"errors"
	"io"

	"github.com/osmith-dev/osmith/internal/cms"
)

// A StreamSigner signs an image while it is written: what [Sign] does in two passes over a file, in one behind whatever produces the image. It
// copies the image through to a file, hashing it on the way, and Close adds padding, certificate table and the two header fields.
// The file is byte for byte the one that Sign writes.
//
//	s, err := authenticode.NewStreamSigner(file, key, cert, authenticode.SignOptions{})
//	_, err = image.WriteTo(s)
//	err = s.Close()
//
// The image may carry signatures; the new one is added behind them. What [Digester] refuses is refused.
type StreamSigner struct {
	digester *Digester
	w        io.WriterAt
	key      crypto.Signer
	cert     *x509.Certificate
	options  SignOptions
	prepared *Prepared
	closed   bool
}

// NewStreamSigner returns a signer that writes to w from offset 0 on; io.NewOffsetWriter puts the image elsewhere. Of more hashes, such as those of a
// TPM's banks, it computes the digests in the same pass: see [StreamSigner.Sums].
func NewStreamSigner(w io.WriterAt, key crypto.Signer, cert *x509.Certificate, o SignOptions, more ...crypto.Hash) (*StreamSigner, error) {
	if err := o.check(cert); err != nil {
		return nil, err
	}
	if err := cms.CheckKey(key, cert); err != nil {
		return nil, inFile(err)
	}
	d, err := NewDigester(append([]crypto.Hash{o.hash()}, more...)...)
	if err != nil {
		return nil, err
	}
	d.signing = true
	d.sink = func(off int64, b []byte) error {
		if n, err := w.WriteAt(b, off); err != nil {
			return writing(off+int64(n), err)
		}
		return nil
	}
	return &StreamSigner{digester: d, w: w, key: key, cert: cert, options: o}, nil
}

// Write takes the next bytes of the image. After an error the file is of no use.
func (s *StreamSigner) Write(b []byte) (int, error) {
	if s.closed {
		return 0, errors.New("authenticode: write after Close")
	}
	return s.digester.Write(b)
}

// Close signs and completes the file; only then is it an image. It closes nothing else. To give up, do not call it. A second call is an error.
func (s *StreamSigner) Close() error {
	if s.closed {
		return errors.New("authenticode: closed twice")
	}
	s.closed = true
	p, err := prepare(s.digester, s.cert, s.options)
	if err != nil {
		return err
	}
	signature, err := cms.SignDigest(s.key, s.cert, p.Hash, p.Digest)
	if err != nil {
		return inFile(err)
	}
	c, err := p.change(p.template, signature)
	if err != nil {
		return err
	}
	if err := c.patch(s.w); err != nil {
		return err
	}
	s.prepared = p
	return nil
}

// Sums returns the Authenticode digests of the signed image under the hash of the signature and all others asked for, once Close has
// succeeded.
func (s *StreamSigner) Sums() (map[crypto.Hash][]byte, error) {
	if s.prepared == nil {
		return nil, errors.New("authenticode: the image is not signed yet")
	}
	return s.digester.SumsAsSigned()
}
