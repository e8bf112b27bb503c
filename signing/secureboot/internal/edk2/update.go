package edk2

import (
	"bytes"
	"crypto"
)

// TakesDigest reports whether firmware takes a message for a variable's update by the identifier of
// its digest algorithm, which it looks for before it reads the message: at byte 13 of a bare
// SignedData or, since 2023, at byte 32 of one in a ContentInfo, and only if the length there takes
// two bytes (SecurityPkg, AuthService.c, FindHashAlgorithmIndex). SHA-384 and SHA-512 came with the
// same year.
func TakesDigest(message []byte, o Options) bool {
	const bare, wrapped, wrappedLength, oidSize = 13, 32, 20, 9
	if len(message) < bare+oidSize {
		return false // builds that do not look here read the message, and fail
	}
	for _, d := range digestHashes {
		switch {
		case d.hash != crypto.SHA256 && d.hash != crypto.SHA384 && d.hash != crypto.SHA512, d.hash != crypto.SHA256 && o.OnlySHA256:
		case message[1]&0x82 == 0x82 && bytes.HasPrefix(message[bare:], d.oid):
			return true
		case !o.NoContentInfo && len(message) >= wrapped+oidSize && message[wrappedLength]&0x82 == 0x82 && bytes.HasPrefix(message[wrapped:], d.oid):
			return true
		}
	}
	return false
}

// Signs checks the signatures of a message over a content, without a look at where the certificates
// lead.
func (m *Message) Signs(content []byte) error {
	signers, err := m.SignerCertificates()
	if err != nil {
		return err
	}
	for i := range m.Signers {
		if err := m.check(&m.Signers[i], signers[i], content); err != nil {
			return err
		}
	}
	return nil
}
