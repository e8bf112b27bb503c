package tpm

import (
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
)

// PolicyAuthorize is the digest after TPM2_PolicyAuthorize: whatever the session's digest was, it becomes one that only
// depends on the key whose signature approved it and on ref (TPM 2.0 Library, part 3, section 23.16). This is what a
// secret is sealed to so that any policy signed by the key opens it. ref is [PolicyRef] of a name, usually "".
func PolicyAuthorize(key *rsa.PublicKey, ref []byte) (PolicyDigest, error) {
	name, err := KeyName(key)
	if err != nil {
		return PolicyDigest{}, err
	}
	return PolicyDigest{}.signedBy(ccPolicyAuthorize, name, ref), nil
}

// PolicyRef is the policyRef that systemd derives from a name: its SHA-256, or nothing for the empty name.
func PolicyRef(name string) []byte {
	if name == "" {
		return nil
	}
	h := sha256.Sum256([]byte(name))
	return h[:]
}

// PolicyAuthorizeName is [PolicyAuthorize] for a key of which only the TPM name is known, such as an ECC key.
func PolicyAuthorizeName(name, ref []byte) (PolicyDigest, error) {
	if err := checkName(name, "PolicyAuthorize"); err != nil {
		return PolicyDigest{}, err
	}
	return PolicyDigest{}.signedBy(ccPolicyAuthorize, name, ref), nil
}

// PolicyAuthorizeNV is the digest after TPM2_PolicyAuthorizeNV: whatever the session's digest was, it becomes one that
// only depends on the NV index which holds the approved policy (part 3, section 23.22). index is its name with the
// attribute WRITTEN: see [NVPublic.Name]. systemd-pcrlock seals to this.
func PolicyAuthorizeNV(index []byte) (PolicyDigest, error) {
	if err := checkName(index, "PolicyAuthorizeNV"); err != nil {
		return PolicyDigest{}, err
	}
	return PolicyDigest{}.extend(ccPolicyAuthorizeNV, index), nil
}

// PolicySigned is the digest after TPM2_PolicySigned: a signature by the key over a nonce of the session is asked for
// (part 3, section 23.3). name is the TPM name of the key or HMAC key.
func PolicySigned(start PolicyDigest, name, ref []byte) (PolicyDigest, error) {
	if err := checkName(name, "PolicySigned"); err != nil {
		return PolicyDigest{}, err
	}
	return start.signedBy(ccPolicySigned, name, ref), nil
}

// PolicySecret is the digest after TPM2_PolicySecret: knowledge of the secret of an entity is asked for (part 3, section
// 23.4). name is the entity's: the four bytes of the handle for a hierarchy or a PCR.
func PolicySecret(start PolicyDigest, name, ref []byte) (PolicyDigest, error) {
	if len(name) != 4 {
		if err := checkName(name, "PolicySecret"); err != nil {
			return PolicyDigest{}, err
		}
	}
	return start.signedBy(ccPolicySecret, name, ref), nil
}

// signedBy is PolicyUpdate of part 3, section 23.2.3, with a reference: two extends, the second also of an empty one.
func (d PolicyDigest) signedBy(command uint32, name, ref []byte) PolicyDigest {
	d = d.extend(command, name)
	return sha256.Sum256(append(d[:], ref...))
}

// checkName refuses what cannot be the name of an object or an NV index: an algorithm and a digest of it.
func checkName(name []byte, command string) error {
	if len(name) >= 2 {
		if a, ok := byID(uint16(name[0])<<8 | uint16(name[1])); ok && len(name) == 2+a.hash.Size() {
			return nil
		}
	}
	return fmt.Errorf("tpm: %s: a name of %d bytes: want an algorithm and a digest", command, len(name))
}
