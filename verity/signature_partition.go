package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// MaxSignaturePartition is the largest verity-sig partition that is read, in bytes; systemd has the same limit.
const MaxSignaturePartition = 4 << 20

// signatureUnit is what the content of a verity-sig partition is padded to, in bytes.
const signatureUnit = 4096

// Partition returns the content of a verity-sig partition as systemd-repart writes it: a JSON text and NULs up to size
// bytes. 0 stands for the next multiple of 4096.
func (s *Signature) Partition(size int64) ([]byte, error) {
	if err := checkRootHash(s.RootHash); err != nil {
		return nil, fmt.Errorf("verity: signature partition: %w", err)
	}
	if len(s.PKCS7) == 0 {
		return nil, errors.New("verity: signature partition: no signature")
	}
	// The order of the keys is systemd-repart's.
	text := fmt.Appendf(nil, `{"rootHash":"%x","certificateFingerprint":"%x","signature":"%s"}`,
		s.RootHash, s.CertificateFingerprint, base64.StdEncoding.EncodeToString(s.PKCS7))
	if size == 0 {
		size = (int64(len(text)) + signatureUnit - 1) / signatureUnit * signatureUnit
	}
	if size > MaxSignaturePartition || int64(len(text)) > MaxSignaturePartition {
		return nil, fmt.Errorf("verity: signature partition: %d bytes, at most %d are read", max(size, int64(len(text))), MaxSignaturePartition)
	}
	if int64(len(text)) > size {
		return nil, fmt.Errorf("verity: signature partition: %d bytes: the text needs %d", size, len(text))
	}
	return append(text, make([]byte, size-int64(len(text)))...), nil
}

// ReadSignature reads the content of a verity-sig partition: one JSON object with the three fields and nothing else, then
// NULs or nothing. The signature is not checked: see Verify.
func ReadSignature(src osmith.Source) (*Signature, error) {
	size := src.Size()
	if size < 0 || size > MaxSignaturePartition {
		return nil, fmt.Errorf("verity: signature partition: %d bytes, at most %d are read", size, MaxSignaturePartition)
	}
	b := make([]byte, size)
	if n, err := src.ReadAt(b, 0); n < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("verity: signature partition: %d of %d bytes: %w", n, len(b), err)
	}
	s, field, at, err := parseSignature(b)
	if err != nil {
		return nil, fmt.Errorf("verity: %w", &osmith.FormatError{Offset: at, Field: "signature partition: " + field, Err: err})
	}
	return s, nil
}

// parseSignature returns, with an error, the field and the offset that it is about.
func parseSignature(b []byte) (s *Signature, field string, at int64, err error) {
	text := b
	if end := bytes.IndexByte(b, 0); end >= 0 {
		text = b[:end]
		for i, c := range b[end:] {
			if c != 0 {
				return nil, "padding", int64(end + i), fmt.Errorf("byte %#02x, want NUL", c)
			}
		}
	}
	members, err := strictjson.Object(text)
	if err != nil {
		format, ok := errors.AsType[*osmith.FormatError](err)
		if !ok {
			return nil, "object", 0, err
		}
		return nil, format.Field, format.Offset, format.Err
	}
	s = new(Signature)
	seen := map[string]bool{}
	for _, m := range members {
		seen[m.Key] = true
		var value string
		if err := strictjson.Unmarshal(m.Value, &value, strictjson.Complete); err != nil {
			return nil, m.Key, m.Offset, errors.New("not a string")
		}
		if err := s.set(m.Key, value); err != nil {
			return nil, m.Key, m.Offset, err
		}
	}
	for _, name := range []string{"rootHash", "certificateFingerprint", "signature"} {
		if !seen[name] {
			return nil, name, int64(len(text)), errors.New("it is missing")
		}
	}
	return s, "", 0, nil
}

// set takes one value of the object.
func (s *Signature) set(name, text string) (err error) {
	switch name {
	case "rootHash":
		if s.RootHash, err = parseHex(text); err != nil {
			return err
		}
		return checkRootHash(s.RootHash)
	case "certificateFingerprint":
		b, err := parseHex(text)
		if err != nil {
			return err
		}
		if len(b) != sha256.Size {
			return fmt.Errorf("%d bytes, a SHA-256 has %d", len(b), sha256.Size)
		}
		s.CertificateFingerprint = [sha256.Size]byte(b)
		return nil
	case "signature":
		if s.PKCS7, err = base64.StdEncoding.Strict().DecodeString(text); err != nil {
			return err
		}
		// The decoder passes over line breaks.
		if len(s.PKCS7) == 0 || base64.StdEncoding.EncodedLen(len(s.PKCS7)) != len(text) {
			return errors.New("not base64 of a signature in one line")
		}
		return nil
	}
	return errors.New("unknown field")
}

// parseHex accepts the one spelling that is signed: lower case.
func parseHex(text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if hex.EncodeToString(b) != text {
		return nil, errors.New("hexadecimal digits must be lower-case")
	}
	return b, nil
}
