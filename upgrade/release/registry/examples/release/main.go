// This program demonstrates package registry: it does with a registry what examples/release does with layouts.
//
//	release push LAYOUTDIR REF REGISTRY/REPO:TAG
//	release sign REGISTRY/REPO:TAG -key F [-format legacy|bundle]
//	release verify REGISTRY/REPO:TAG -policy P.json|-key F... [-repository NAME] [-at TIME]
//	release inspect REGISTRY/REPO:TAG
//	release pull REGISTRY/REPO:TAG -policy P.json|-key F... -o LAYOUTDIR [-arch A] [-repository NAME] [-at TIME]
//
// A digest may stand for the tag: REGISTRY/REPO@sha256:HEX. push takes the signatures along. The rule of a policy is found by
// REGISTRY/REPO. pull verifies first, goes on where an earlier one stopped, and keeps the signatures, so that LAYOUTDIR can be
// verified by itself.
//
// All verbs take -user NAME, whose password is in REGISTRY_PASSWORD, -plain-http and -json. With -json one object is printed on
// stdout; it has "schema": "osmith.release-report/1", "verb", "name" and what report.go lists. Retries are told on stderr.
//
// Exit status: 0 yes; 1 no: not verified, damaged, not a release; 2 usage or I/O.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `usage: release push LAYOUTDIR REF REGISTRY/REPO:TAG
usage: release sign REGISTRY/REPO:TAG -key F [-format legacy|bundle]
usage: release verify REGISTRY/REPO:TAG -policy P.json|-key F...
usage: release inspect REGISTRY/REPO:TAG
usage: release pull REGISTRY/REPO:TAG -policy P.json|-key F... -o LAYOUTDIR
example: release verify registry.example/os/acme:2 -key cosign.pub
`

// A call is one run of a verb.
type call struct {
	context.Context
	stderr   io.Writer
	flags    *flag.FlagSet
	operands []string
	report   report

	user      string
	plainHTTP bool
}

var verbs = map[string]struct {
	operands int
	do       func(c *call) func() error // declares flags; the function does the work
}{
	"push": {3, pushFlags}, "sign": {1, signFlags}, "verify": {1, verifyFlags}, "inspect": {1, inspectFlags}, "pull": {1, pullFlags},
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		fmt.Fprint(stderr, usage)
		return map[bool]int{true: 2}[len(args) == 0]
	}
	verb, known := verbs[args[0]]
	if !known {
		fmt.Fprintf(stderr, "release: no verb %q\n%s", args[0], usage)
		return 2
	}
	c := &call{Context: ctx, stderr: stderr, flags: flag.NewFlagSet(args[0], flag.ContinueOnError),
		report: report{Schema: releasecli.Schema, Verb: args[0]}}
	c.flags.SetOutput(stderr)
	c.flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		c.flags.PrintDefaults()
	}
	c.flags.StringVar(&c.user, "user", "", "`name` to tell the registry; the password is in REGISTRY_PASSWORD")
	c.flags.BoolVar(&c.plainHTTP, "plain-http", false, "speak to the registry without encryption")
	asJSON := c.flags.Bool("json", false, "print one JSON object on stdout")
	do := verb.do(c)
	err := c.parse(args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2 // the flag package has said why
	}
	if len(c.operands) == verb.operands {
		err = do()
	} else {
		err = releasecli.UsageError{Text: fmt.Sprintf("%d operands, want %d", len(c.operands), verb.operands)}
	}
	status := statusOf(err)
	if status == 0 || status == 1 && *asJSON && c.report.Verification != nil {
		if e := c.report.print(stdout, *asJSON); e != nil {
			err, status = errors.Join(err, e), 2
		}
	}
	var misused releasecli.UsageError
	if err != nil {
		fmt.Fprintf(stderr, "release: %v\n", err)
	}
	if errors.As(err, &misused) {
		fmt.Fprint(stderr, usage)
	}
	return status
}

// statusOf tells a release that is not what it should be from a call that went wrong.
func statusOf(err error) int {
	var digest *osmith.DigestError
	var format *osmith.FormatError
	switch {
	case err == nil:
		return 0
	case releasecli.IsRefusal(err), errors.As(err, &digest), errors.As(err, &format), errors.Is(err, release.ErrNoArchitecture):
		return 1
	}
	return 2
}

// parse lets flags follow operands, which package flag does not.
func (c *call) parse(args []string) error {
	for {
		if err := c.flags.Parse(args); err != nil {
			return err
		}
		rest := c.flags.Args()
		if len(rest) == 0 {
			return nil
		}
		c.operands, args = append(c.operands, rest[0]), rest[1:]
	}
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	_, err := io.WriteString(w, r.String())
	return err
}
