package main

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

func unsealFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	open := tpmFlag(set)
	out := set.String("o", "", "`file` for the secret, in place of printing it")
	passphrase := set.Bool("passphrase", false, "give what systemd unlocks a volume with")
	expected := set.String("expected", "", "event `log` of the boot that was sealed for")
	actual := set.String("actual", "", "event `log` of the boot that took place")
	unlock := addUnlockFlags(set)
	return func(c *cli.Call, operands []string) error {
		token, err := readToken(operands[0])
		if err != nil {
			return err
		}
		with, err := unlock.read()
		if err != nil {
			return err
		}
		if with.Want, err = readLog(*expected, tpm.ParseExpected); err != nil {
			return err
		}
		if with.Got, err = readLog(*actual, tpm.ParseLog); err != nil {
			return err
		}
		t, err := open(c)
		if err != nil {
			return err
		}
		secret, err := t.Unseal(token, with)
		if err != nil {
			return err
		}
		if *passphrase {
			secret = sealing.Passphrase(secret)
		}
		r := unsealResult{Header: c.Header(), Size: int64(len(secret)), File: *out}
		if *out != "" {
			if err := cli.WriteSecret(*out, secret); err != nil {
				return err
			}
			return c.Answer(r, "")
		}
		r.Secret = base64.StdEncoding.EncodeToString(secret)
		return c.Answer(r, string(secret))
	}
}

// readLog reads an event log, if there is one.
func readLog(name string, parse func([]byte) (*tpm.Log, error)) (*tpm.Log, error) {
	if name == "" {
		return nil, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	log, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return log, nil
}

func statusFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	open := tpmFlag(set)
	return func(c *cli.Call, operands []string) error {
		t, err := open(c)
		if err != nil {
			return err
		}
		r, text := statusResult{Header: c.Header(), Banks: []bankObject{}}, ""
		banks, err := t.Banks()
		if err != nil {
			return err
		}
		for _, h := range banks {
			b := bankObject{Name: tpm.BankName(h), Usable: true}
			if err := t.CheckBank(h); isNo(err) {
				b.Usable, b.Problem = false, err.Error()
			} else if err != nil {
				return err
			}
			r.Banks = append(r.Banks, b)
			text += fmt.Sprintf("bank %s: %s\n", b.Name, usable(b))
		}
		l, err := t.Lockout()
		if err != nil {
			return err
		}
		r.Lockout = lockoutObject{l.Locked, l.Failed, l.Most, int64(l.Interval.Seconds()), int64(l.Wait().Seconds())}
		text += fmt.Sprintf("failed PINs: %d of %d\n", l.Failed, l.Most)
		if l.Locked {
			text += fmt.Sprintf("locked out: at most %v\n", l.Wait())
		}
		if len(operands) == 0 {
			return c.Answer(r, text)
		}
		token, err := readToken(operands[0])
		if err != nil {
			return err
		}
		o := tokenObject(token)
		r.Token = &o
		if err := c.Answer(r, text+describe(token)); err != nil {
			return err
		}
		if err := t.Has(token); err != nil {
			return cli.No{Err: err}
		}
		return nil
	}
}

func usable(b bankObject) string {
	if b.Usable {
		return "in use"
	}
	return b.Problem
}
