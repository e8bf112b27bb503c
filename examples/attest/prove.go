package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

const firmwareLog = "/sys/kernel/security/tpm0/binary_bios_measurements"

func proveFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	to := set.String("to", "", "`URL` of the verifier")
	device := set.String("tpm", "/dev/tpmrm0", "`device`, or swtpm:HOST:PORT, or swtpm:PATH")
	log := set.String("log", firmwareLog, "`file` with the firmware's event log")
	userspace := set.String("userspace-log", "", "`file` with systemd's event log")
	keyFile := set.String("key", "", "`file` for the attestation key")
	return func(c *cli.Call, _ []string) error {
		if *to == "" {
			return cli.Usagef("-to is needed")
		}
		e := &evidence{}
		var err error
		if e.Log, err = os.ReadFile(*log); err != nil {
			return err
		}
		if *userspace != "" {
			if e.UserspaceLog, err = os.ReadFile(*userspace); err != nil {
				return err
			}
		}
		d, err := sealing.Open(*device)
		if err != nil {
			return err
		}
		defer d.Close()
		t := sealing.New(d).WithContext(c)
		key, err := attestationKey(t, *keyFile)
		if err != nil {
			return err
		}
		v, err := prove(c, strings.TrimSuffix(*to, "/"), t, key, e)
		if err != nil {
			return err
		}
		if err := c.Answer(proveResult{c.Header(), *v}, v.text()); err != nil {
			return err
		}
		if !v.Trusted {
			return cli.No{Err: errors.New("this machine is not trusted")}
		}
		return nil
	}
}

// attestationKey reads the key, or makes one.
func attestationKey(t *sealing.TPM, name string) (*sealing.AttestationKey, error) {
	if name == "" {
		return t.CreateAttestationKey()
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := t.CreateAttestationKey()
		if err != nil {
			return nil, err
		}
		if text, err = json.Marshal(key); err != nil {
			return nil, err
		}
		return key, cli.WriteFile(name, append(text, '\n'))
	}
	if err != nil {
		return nil, err
	}
	key := &sealing.AttestationKey{}
	if err := json.Unmarshal(text, key); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// prove talks to the verifier.
func prove(ctx context.Context, url string, t *sealing.TPM, key *sealing.AttestationKey, e *evidence) (*verdict, error) {
	ek, err := t.EndorsementKey()
	if err != nil {
		return nil, err
	}
	var q challengeReply
	if err := post(ctx, url+"/challenge", challengeRequest{ek, key.Public}, &q); err != nil {
		return nil, err
	}
	bank, err := tpm.BankByName(q.Bank)
	if err != nil {
		return nil, err
	}
	if q.Challenge == nil {
		return nil, fmt.Errorf("%s: no challenge", url)
	}
	if e.Answer, err = t.Answer(key, q.Challenge); err != nil {
		return nil, err
	}
	quote, err := t.Quote(key, q.Nonce, map[crypto.Hash][]int{bank: q.PCRs})
	if err != nil {
		return nil, err
	}
	e.Session, e.Attest, e.Signature, e.PCRs = q.Session, quote.Attest, quote.Signature, encodePCRs(quote.PCRs[bank])
	v := &verdict{}
	return v, post(ctx, url+"/evidence", e, v)
}

var client = &http.Client{Timeout: time.Minute}

func post(ctx context.Context, url string, object, into any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := io.LimitReader(response.Body, maxBody)
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(answer, 4096))
		return errors.Join(fmt.Errorf("%s: %s: %s", url, response.Status, strings.TrimSpace(string(text))), err)
	}
	if err := json.NewDecoder(answer).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}

// text is the verdict for people.
func (v *verdict) text() string {
	var b strings.Builder
	if v.Trusted {
		fmt.Fprintf(&b, "trusted: the boot is %s\n", v.Reference)
	} else {
		b.WriteString("not trusted\n")
	}
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "%s: %s\n", p.Code, p.Text)
	}
	for _, d := range v.Differences {
		fmt.Fprintf(&b, "event: %s\n", d.Text)
	}
	return b.String()
}
