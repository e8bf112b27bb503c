package main

import (
	"bufio"
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// unlockFlags are what a policy may ask for, at sealing and unsealing.
type unlockFlags struct {
	signature, pcrlock *string
	pin                *bool
}

func addUnlockFlags(set *flag.FlagSet) unlockFlags {
	return unlockFlags{
		signature: set.String("signature", "", "`file` with signed policies, a .pcrsig"),
		pcrlock:   set.String("pcrlock", "", "`file` pcrlock.json of systemd-pcrlock"),
		pin:       set.Bool("pin", false, "read a PIN from standard input"),
	}
}

func (f unlockFlags) read() (u sealing.Unlock, err error) {
	if *f.signature != "" {
		text, err := os.ReadFile(*f.signature)
		if err != nil {
			return u, err
		}
		if u.Signatures, err = policy.ParseSignatures(text); err != nil {
			return u, fmt.Errorf("%s: %w", *f.signature, err)
		}
	}
	if u.PCRLock, err = readPCRLock(*f.pcrlock); err != nil {
		return u, err
	}
	if *f.pin {
		u.PIN, err = readPIN()
	}
	return u, err
}

// readPCRLock reads a pcrlock.json, if there is one.
func readPCRLock(name string) (*policy.PCRLock, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	lock, err := policy.ParsePCRLock(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return lock, nil
}

// readPIN is the first line of standard input.
func readPIN() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(stdin, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read the PIN: %w", err)
	}
	pin := strings.TrimRight(line, "\r\n")
	if pin == "" {
		return "", cli.Usagef("-pin: standard input holds none")
	}
	return pin, nil
}

// pcrList reads 7,11 or 7+11=HEX: numbers, and for those that have one the value.
func pcrList(name, text string) (pcrs []int, values map[int][]byte, err error) {
	values = map[int][]byte{}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '+' }) {
		number, value, given := strings.Cut(part, "=")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= tpm.PCRCount || slices.Contains(pcrs, n) {
			return nil, nil, cli.Usagef("-%s %s: want numbers from 0 to %d, each once", name, text, tpm.PCRCount-1)
		}
		pcrs = append(pcrs, n)
		if given {
			if values[n], err = hex.DecodeString(value); err != nil {
				return nil, nil, cli.Usagef("-%s %s: PCR %d: want a value in hexadecimal", name, text, n)
			}
		}
	}
	slices.Sort(pcrs)
	return pcrs, values, nil
}

func publicKey(name string) (*rsa.PublicKey, error) {
	key, err := cli.ReadPublicKey(name)
	if err != nil {
		return nil, err
	}
	pub, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: %T: want an RSA key, the only kind that systemd verifies", name, key)
	}
	return pub, nil
}

func bankFlag(name string) (crypto.Hash, error) {
	if name == "" {
		return 0, nil
	}
	h, err := tpm.BankByName(name)
	if err != nil {
		return 0, cli.Usagef("-bank: %v", err)
	}
	return h, nil
}

func readToken(name string) (*sealing.Token, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	token, err := sealing.ParseToken(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return token, nil
}
