// Package cli is what the example programs have in common, so that they behave alike: flags before
// or after operands, -h with a working call, -json with one object on stdout, progress and errors
// on stderr, inputs that are closed in the end, outputs that are written beside their names, and
// the exit statuses 0 yes, 1 no, 2 usage or I/O.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/osmith-dev/osmith"
)

// Program is a command and its verbs.
type Program struct {
	Name   string
	Schema string // of the objects of -json: "osmith.keys/1"
	Verbs  []Verb // one verb without a name is a program without verbs

	// IsNo tells further errors that are a negative answer, besides [No] and
	// [osmith.FormatError]. It may be nil.
	IsNo func(error) bool
}

// Verb is one thing that a program does: Do, or with flags of its own what Flags returns, which
// declares them.
type Verb struct {
	Name           string // one or two words; "" for the only one
	Usage, Example string
	Least, Most    int // operands
	Flags          func(*flag.FlagSet) func(c *Call, operands []string) error
	Do             func(c *Call, operands []string) error
}

// Call is one run of a verb.
type Call struct {
	context.Context
	Verb   string
	Stdout io.Writer
	Stderr io.Writer
	JSON   bool

	schema, progress string
	inputs           []*Input
	ends             []func()
	end              func() // shows that the work was done, once that is known
}

// Header is what every object of -json begins with.
type Header struct {
	Schema string `json:"schema"`
	Verb   string `json:"verb"`
}

// Header is that of the verb's objects.
func (c *Call) Header() Header { return Header{c.schema, c.Verb} }

// No is the answer no, exit status 1.
type No struct{ Err error }

func (n No) Error() string { return n.Err.Error() }

// Unwrap is what the answer is about.
func (n No) Unwrap() error { return n.Err }

// UsageError is a call that makes no sense.
type UsageError struct{ Text string }

func (e UsageError) Error() string { return e.Text }

// Usagef is a [UsageError] with a formatted text.
func Usagef(format string, args ...any) error { return UsageError{fmt.Sprintf(format, args...)} }

// Main runs the program with the arguments of the process and ends it. An interrupt, or SIGTERM,
// cancels the call's context.
func (p *Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not end by itself
	os.Exit(p.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Run runs the program and returns its exit status.
func (p *Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if p.Verbs[0].Name == "" {
		return p.run(ctx, p.Verbs[0], args, stdout, stderr)
	}
	if len(args) == 0 {
		p.usage(stderr, "")
		fmt.Fprintf(stderr, "%s: no verb: want one of these\n", p.Name)
		return 2
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		p.usage(stderr, "")
		return 0
	}
	group := ""
	var chosen *Verb // the one with the most words: there are addon and addon list
	taken := 0
	for i, v := range p.Verbs {
		words := strings.Fields(v.Name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == v.Name && len(words) > taken {
			chosen, taken = &p.Verbs[i], len(words)
		}
		if len(words) > 1 && words[0] == args[0] {
			group = words[0] + " "
		}
	}
	if chosen != nil {
		return p.run(ctx, *chosen, args[taken:], stdout, stderr)
	}
	if group != "" {
		p.usage(stderr, group)
		fmt.Fprintf(stderr, "%s: %q goes with another word: want one of these\n", p.Name, args[0])
		return 2
	}
	var names []string
	for _, v := range p.Verbs {
		names = append(names, v.Name)
	}
	for _, name := range nearest(args[0], names) {
		fmt.Fprintln(stderr, p.usageOf(p.Verbs[slices.Index(names, name)]))
	}
	fmt.Fprintf(stderr, "%s: no verb %q; %s -h lists all\n", p.Name, args[0], p.Name)
	return 2
}

func (p *Program) usage(w io.Writer, group string) {
	for _, v := range p.Verbs {
		if strings.HasPrefix(v.Name, group) {
			fmt.Fprintln(w, p.usageOf(v))
		}
	}
	fmt.Fprintf(w, "example: %s\n", p.Verbs[0].Example)
}

func (p *Program) usageOf(v Verb) string {
	if v.Name == "" {
		return fmt.Sprintf("usage: %s %s", p.Name, v.Usage)
	}
	return fmt.Sprintf("usage: %s %s %s", p.Name, v.Name, v.Usage)
}

func (p *Program) run(ctx context.Context, v Verb, args []string, stdout, stderr io.Writer) int {
	c := &Call{Context: ctx, Verb: v.Name, Stdout: stdout, Stderr: stderr, schema: p.Schema}
	defer c.Close()
	flags := flag.NewFlagSet(v.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong with a flag is said once, in the end
	flags.BoolVar(&c.JSON, "json", false, "print one JSON object on stdout")
	flags.StringVar(&c.progress, "progress", "auto", "`auto`, bar, json or none: how progress is shown on stderr")
	usage := fmt.Sprintf("%s\nexample: %s\n", p.usageOf(v), v.Example)
	do := v.Do
	if v.Flags != nil {
		do = v.Flags(flags)
	}
	operands, err := parseAnywhere(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return 0
	}
	if err != nil {
		p.wrongFlag(stderr, v, flags, err)
		return 2
	}
	switch {
	case !validProgress(c.progress):
		err = Usagef("-progress %q: want auto, bar, json or none", c.progress)
	case len(operands) > v.Most:
		err = Usagef("unexpected argument %q", operands[v.Most])
	case len(operands) < v.Least:
		err = Usagef("%d operands: want %s", len(operands), v.Usage)
	default:
		err = do(c, operands)
	}
	if err == nil {
		c.reportEnd()
		return 0
	}
	text := err.Error()
	cancelled := ctx.Err() != nil
	if cancelled {
		text = "cancelled: " + text
	}
	if !strings.HasPrefix(text, p.Name+": ") {
		text = p.Name + ": " + text
	}
	var no No
	var misused UsageError
	var format *osmith.FormatError
	status := 2
	switch {
	case cancelled:
	case errors.As(err, &no), errors.As(err, &format), p.IsNo != nil && p.IsNo(err):
		status = 1
	case errors.As(err, &misused):
		fmt.Fprint(stderr, usage)
	}
	fmt.Fprintln(stderr, text)
	return status
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

// Answer prints the object with -json, the text without.
func (c *Call) Answer(object any, text string) error {
	c.reportEnd()
	if !c.JSON {
		_, err := io.WriteString(c.Stdout, text)
		return err
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(object); err != nil {
		return err
	}
	_, err := c.Stdout.Write(foldErrors(b.Bytes()))
	return err
}
