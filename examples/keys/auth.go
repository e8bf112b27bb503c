package main

import (
	"flag"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func authFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	variable := set.String("var", "", "`name` of the variable: PK, KEK, db, dbx, dbt or dbr")
	esl := set.String("esl", "", "`file` with signature lists, the new content")
	keyName := set.String("key", "", "private key in `PEM`: of PK for PK and KEK, of KEK for the others")
	certName := set.String("cert", "", "certificate in `PEM` or DER")
	add := set.Bool("append", false, "add to the variable instead of replacing it")
	remove := set.Bool("delete", false, "delete the variable; without PK a machine is in Setup Mode")
	out := set.String("o", "", "`file` for the update")
	when := timeFlag(set)
	return func(c *cli.Call, _ []string) error {
		if err := cli.Required("var", *variable, "key", *keyName, "cert", *certName, "o", *out); err != nil {
			return err
		}
		switch {
		case *esl == "" && !*remove:
			return cli.Usagef("-esl is missing")
		case *remove && (*esl != "" || *add):
			return cli.Usagef("-delete goes with neither -esl nor -append")
		}
		if _, err := secureboot.VendorGUID(*variable); err != nil {
			return cli.Usagef("-var: %v", err)
		}
		at, err := when()
		if err != nil {
			return err
		}
		u := secureboot.Update{Variable: *variable, Time: at, Append: *add}
		if *esl != "" {
			if u.Payload, err = cli.ReadFile(*esl, 1<<20); err != nil {
				return err
			}
			if len(u.Payload) == 0 {
				return fmt.Errorf("%s is empty, which would delete the variable: say -delete", *esl)
			}
			if _, err := secureboot.ParseSignatureLists(u.Payload); err != nil {
				return fmt.Errorf("%s: %w", *esl, err)
			}
		}
		key, certs, err := cli.ReadSigner(*keyName, *certName)
		if err != nil {
			return err
		}
		b, err := u.Sign(key, certs[0])
		if err != nil {
			return err
		}
		if err := cli.WriteFile(*out, b); err != nil {
			return err
		}
		return c.Answer(authResult{
			Header: c.Header(), Variable: u.Variable, Append: u.Append, Time: at.Format(time.RFC3339), Signer: certs[0].Subject.String(),
			PayloadSize: int64(len(u.Payload)), Size: int64(len(b)),
		}, "")
	}
}
