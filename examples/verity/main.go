// This program demonstrates package verity: it makes, checks, repairs, compares and signs dm-verity hash trees, as veritysetup
// does and beyond, without root and on any platform.
//
//	verity format -data F -tree F [-salt HEX] [-uuid U] [-hash NAME] [-data-block-size N] [-hash-block-size N] [-format 0|1]
//	       [-hash-offset N] [-no-superblock] [-fec F] [-fec-roots N]
//	verity verify -data F -tree F -root HEX [-fec F] [-fec-roots N] [-uuid U] [-hash-offset N] [-no-superblock and format's flags]
//	verity repair -data F -tree F -fec F -root HEX [-o OUT] [-fec-roots N] [-hash-offset N] [-no-superblock and format's flags]
//	verity diff OLDTREE NEWTREE
//	verity sign -root HEX -key PEM -cert PEM -o F [-der]
//
// Without -salt there are 32 random bytes of it, with an empty one or - none; without -uuid there is a random one. -tree may be
// the same as -data with -hash-offset: then the bytes in front of it are the data, and the file is written in place.
// Every other output is written beside its name and renamed. repair works in place unless -o names a file for the repaired data;
// then format makes a damaged tree anew. sign writes the content of a verity-sig partition, or with -der the bare signature.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json and -progress auto|bar|json|none. With
// -json one object is printed on stdout; it has "schema": "osmith.verity/1", "verb" and what json.go lists. -progress json
// writes lines {"verb": "format", "done": 4096, "total": 8192} to stderr, in bytes.
//
// Exit status: 0 yes; 1 no: not verified, not repaired, not comparable; 2 usage or I/O.
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
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// A verb declares its flags, and does its work once they are parsed.
type verb struct {
	name, usage, example string
	flags                func(*flag.FlagSet) func(*call, []string) error
}

var verbs = []verb{
	{"format", "-data F -tree F [flags]", "verity format -data root.erofs -tree root.verity", formatFlags},
	{"verify", "-data F -tree F -root HEX [flags]", "verity verify -data root.erofs -tree root.verity -root $(cat roothash)", verifyFlags},
	{"repair", "-data F -tree F -fec F -root HEX [-o OUT] [flags]", "verity repair -data root.erofs -tree root.verity -fec root.fec -root $(cat roothash)", repairFlags},
	{"diff", "OLDTREE NEWTREE [flags]", "verity diff 1/root.verity 2/root.verity", diffFlags},
	{"sign", "-root HEX -key PEM -cert PEM -o F [-der]", "verity sign -root $(cat roothash) -key verity.key -cert verity.crt -o root.sig", signFlags},
}

// A call is one run of a verb.
type call struct {
	context.Context
	verb     string
	stdout   io.Writer
	stderr   io.Writer
	json     bool
	progress string
}

// A noError is the answer no, exit status 1.
type noError struct{ error }

func (e noError) Unwrap() error { return e.error }

// usageError is a call that makes no sense.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		usage(stderr)
		return 0
	}
	for _, v := range verbs {
		if v.name == args[0] {
			return v.run(ctx, args[1:], stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "verity: no verb %q\n", args[0])
	usage(stderr)
	return 2
}

func usage(w io.Writer) {
	for _, v := range verbs {
		fmt.Fprintf(w, "usage: verity %s %s\n", v.name, v.usage)
	}
	fmt.Fprintf(w, "example: %s\n", verbs[0].example)
}

func (v verb) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &call{Context: ctx, verb: v.name, stdout: stdout, stderr: stderr}
	flags := flag.NewFlagSet(v.name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&c.json, "json", false, "print one JSON object on stdout")
	flags.StringVar(&c.progress, "progress", "auto", "`auto`, bar, json or none: how progress is shown on stderr")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: verity %s %s\nexample: %s\n", v.name, v.usage, v.example)
		flags.PrintDefaults()
	}
	do := v.flags(flags)
	operands, err := parseAnywhere(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2 // the flag package has said why
	}
	switch c.progress {
	case "auto", "bar", "json", "none":
		err = do(c, operands)
	default:
		err = usagef("-progress %q: want auto, bar, json or none", c.progress)
	}
	if err == nil {
		return 0
	}
	text := err.Error()
	if !strings.HasPrefix(text, "verity: ") {
		text = "verity: " + text
	}
	fmt.Fprintln(stderr, text)
	var no noError
	var misused usageError
	switch {
	case errors.As(err, &no):
		return 1
	case errors.As(err, &misused):
		fmt.Fprintf(stderr, "usage: verity %s %s\nexample: %s\n", v.name, v.usage, v.example)
	}
	return 2
}

// parseAnywhere lets flags follow operands, which package flag does not.
func parseAnywhere(flags *flag.FlagSet, args []string) (operands []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if len(rest) == 0 {
			return operands, nil
		}
		if taken := len(args) - len(rest); taken > 0 && args[taken-1] == "--" {
			return append(operands, rest...), nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

// answer prints the object, or the text without -json.
func (c *call) answer(object any, text string) error {
	if !c.json {
		_, err := io.WriteString(c.stdout, text)
		return err
	}
	return json.NewEncoder(c.stdout).Encode(object)
}
