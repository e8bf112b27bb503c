//go:build linux

// Opener opens a volume on a test machine as an agent of a vendor would: with packages
// partition/luks and tpm/sealing, by a token and the machine's TPM, or by a recovery key. It prints
// the SHA-256 digest of the data.
//
//	opener DEVICE token N
//	opener DEVICE recovery FILE
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// signatures is where systemd puts the .pcrsig that the stub has handed over.
const signatures = "/run/systemd/tpm2-pcr-signature.json"

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: opener DEVICE token N|recovery FILE")
		os.Exit(2)
	}
	if err := open(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "opener:", err)
		os.Exit(1)
	}
}

func open(device, by, what string) (err error) {
	disk, err := osmith.OpenFile(device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	v, err := luks.OpenReader(disk)
	if err != nil {
		return err
	}
	var passphrase []byte
	switch by {
	case "token":
		passphrase, err = unseal(v.Header(), what)
	case "recovery":
		passphrase, err = recovery(what)
	default:
		err = fmt.Errorf("%q: want token or recovery", by)
	}
	if err != nil {
		return err
	}
	key, err := v.Unlock(passphrase, luks.UnlockOptions{})
	if err != nil {
		return err
	}
	r, err := v.NewReader(key)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, r.Size())); err != nil {
		return err
	}
	fmt.Printf("%x\n", sum.Sum(nil))
	return nil
}

func unseal(h *luks.Header, number string) (passphrase []byte, err error) {
	n, err := strconv.Atoi(number)
	if err != nil {
		return nil, err
	}
	found, ok := h.Token(n)
	if !ok {
		return nil, luks.ErrNoToken
	}
	token, err := sealing.ParseToken(found.JSON)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(signatures)
	if err != nil {
		return nil, err
	}
	signed, err := policy.ParseSignatures(text)
	if err != nil {
		return nil, err
	}
	device, err := sealing.Open("/dev/tpmrm0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	secret, err := sealing.New(device).Unseal(token, sealing.Unlock{Signatures: signed})
	if err != nil {
		return nil, err
	}
	return sealing.Passphrase(secret), nil
}

func recovery(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, ok := luks.ParseRecoveryKey(strings.TrimSpace(string(text)))
	if !ok {
		return nil, errors.New("not a recovery key")
	}
	return []byte(key), nil
}
