package uki

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

const (
	bootSecretSize  = 32
	bootSecretLabel = "systemd-stub derive secret label v1"
)

// DeriveBootSecret computes the secret that stubs since systemd 261 pass to the initrd in
// /.extra/boot-secret, and which is thereby part of PCR 9. variable is the content of the EFI
// variable LoaderBootSecret, which exists only until the kernel has started; mixin is
// loader/boot-secret-mixin of the partition; osRelease is the image's .osrel, of which IMAGE_ID or,
// without one, ID is used. It is valid for 64-bit firmware. (systemd 262, src/boot/boot-secret.c,
// derive_secret.)
func DeriveBootSecret(variable, mixin [32]byte, osRelease []byte) [32]byte {
	id := bootSecretID(string(osRelease))
	h := sha256.New()
	h.Write([]byte(bootSecretLabel))
	h.Write(variable[:])
	h.Write(mixin[:])
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(id))))
	h.Write([]byte(id))
	return [32]byte(h.Sum(nil))
}

// bootSecretID reads os-release in the stub's way, which does not know escapes: the first IMAGE_ID,
// else the last ID, else "linux".
func bootSecretID(text string) string {
	text, _, _ = strings.Cut(text, "\x00")
	id := "linux"
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.Trim(line, " \t")
		key, value, ok := strings.Cut(line, "=")
		if !ok || line[0] == '#' {
			continue
		}
		value = strings.TrimLeft(value, "=")
		if value != "" && strings.ContainsRune(`"'`, rune(value[0])) && value[len(value)-1] == value[0] {
			value = value[1:]
			if value != "" {
				value = value[:len(value)-1]
			}
		}
		switch key {
		case "IMAGE_ID":
			return value
		case "ID":
			id = value
		}
	}
	return id
}
