package main

import (
	"bytes"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// maxStore bounds the file of a variable store.
const maxStore = 64 << 20

// firmware is what is known of the machine that an add-on is for: its variables, or certificates
// that stand for its db.
type firmware struct {
	vars, row string
	certs     cli.List

	known     bool
	variables osmith.FirmwareVariables
}

func (f *firmware) flags(set *flag.FlagSet) {
	set.StringVar(&f.vars, "vars", "", "`directory` of efivarfs, or variable store of a virtual machine, whose keys must accept the add-on")
	set.Var(&f.certs, "cert", "certificates in `PEM` or DER that stand for the machine's db; may be repeated")
	set.StringVar(&f.row, "firmware", "", fmt.Sprintf("`row` that judges signatures, one of %v, or any (default: %v)", secureboot.Firmwares(), secureboot.FirmwareEDK2Stable202608))
}

// read reads what the flags name. Without them nothing is known.
func (f *firmware) read() error {
	row := secureboot.Firmware(f.row)
	switch {
	case row != "" && row != secureboot.FirmwareAny && !slices.Contains(secureboot.Firmwares(), row):
		return cli.Usagef("-firmware %s: want one of %v, or any", f.row, secureboot.Firmwares())
	case f.vars != "" && f.certs != nil:
		return cli.Usagef("-vars and -cert: one of them")
	case f.certs != nil:
		return f.readCertificates()
	case f.vars == "":
		return nil
	}
	info, err := os.Stat(f.vars)
	if err != nil {
		return err
	}
	f.known = true
	if info.IsDir() {
		f.variables, err = secureboot.ReadVariables(os.DirFS(f.vars))
	} else {
		var b []byte
		if b, err = cli.ReadFile(f.vars, maxStore); err == nil {
			f.variables, err = secureboot.ParseStore(b)
		}
	}
	if err != nil {
		return cannot("-vars "+f.vars, err)
	}
	return nil
}

// readCertificates makes the variables of a machine that trusts them and nothing else.
func (f *firmware) readCertificates() error {
	var all []*x509.Certificate
	for _, name := range f.certs {
		found, err := cli.ReadCertificates(name)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	var lists []secureboot.SignatureList
	for _, cert := range all {
		lists = append(lists, secureboot.CertificateList(osmith.GUID{}, cert))
	}
	db, err := secureboot.AppendSignatureLists(nil, lists...)
	f.known, f.variables = true, osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, DB: db}
	return err
}

// The answers about a signature.
const (
	signatureAccepted = "accepted"
	signatureRefused  = "refused"
	signatureUnknown  = "unknown"
)

// judge says whether firmware loads an add-on, and why.
func (f *firmware) judge(content []byte) (state, reason string) {
	im, err := secureboot.ReadImage(bytes.NewReader(content))
	if err != nil {
		return signatureRefused, fmt.Sprint(err)
	}
	if !f.known {
		return signatureUnknown, "what the machine trusts is not said: give -vars or -cert"
	}
	v := secureboot.Evaluate(f.variables, im, secureboot.EvaluateOptions{Firmware: secureboot.Firmware(f.row)})
	switch {
	case v.Allowed:
		return signatureAccepted, v.Reason
	case v.Unknown:
		return signatureUnknown, v.Reason
	}
	return signatureRefused, v.Reason
}

// signers are the subjects that the signatures of an image claim.
func signers(content []byte) []string {
	names := []string{}
	found, err := authenticode.Signatures(bytes.NewReader(content))
	if err != nil {
		return names
	}
	for _, s := range found {
		if s.Signer != nil {
			names = append(names, s.Signer.Subject.String())
		}
	}
	return names
}
