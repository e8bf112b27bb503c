// This program demonstrates packages partition and partition/fat: it builds disk images from a layout, looks at disks, plans
// and repairs them, and works on the EFI system partition, without root, mounts or loop devices.
//
//	disk build -o IMG [-size N] [-sector-size N] [-seed UUID] LAYOUT.json|REPART.d
//	disk inspect IMG [-svg F]
//	disk plan IMG LAYOUT.json|REPART.d
//	disk repair IMG
//	disk ls IMG PART [PATH]
//	disk esp ls IMG[:PART] [PATH]
//	disk esp cat IMG[:PART] PATH
//	disk esp put IMG[:PART] FILE PATH
//	disk esp rm IMG[:PART] PATH
//	disk esp mv IMG[:PART] OLD NEW
//
// LAYOUT.json has the schema osmith.layout/1 (package partition, ReadLayout), REPART.d holds definition files of
// systemd-repart; paths inside are relative to the file or directory. IDs that the layout does not give are derived from
// the seed as by systemd-repart; without a seed it is random. SOURCE_DATE_EPOCH is the time in FAT file systems. PART is a
// number, a name or a PARTUUID; without it, esp takes the only partition of type esp. ls reads FAT, SquashFS, EROFS, ext4
// and ISO 9660. inspect takes an image or a block device. build writes beside IMG and renames.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json, build also -progress
// auto|bar|json|none. With -json one object is printed on stdout; it has "schema": "osmith.disk/1", "verb" and what json.go
// lists. -progress json writes lines {"verb": "build", "done": 4096, "total": 8192} to stderr, in bytes.
//
// Exit status: 0 yes; 1 no: the layout does not fit, a copy of the table is damaged, there is no such file; 2 usage or I/O.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// A verb declares its flags, and does its work once they are parsed.
type verb struct {
	name, usage, example string
	least, most          int // operands
	flags                func(*flag.FlagSet) func(*call, []string) error
}

var verbs = []verb{
	{"build", "-o IMG [-size N] [-sector-size N] [-seed UUID] LAYOUT.json|REPART.d", "disk build -o disk.img layout.json", 1, 1, buildFlags},
	{"inspect", "IMG [-svg F]", "disk inspect disk.img -svg disk.svg", 1, 1, inspectFlags},
	{"plan", "IMG LAYOUT.json|REPART.d", "disk plan disk.img layout.json", 2, 2, noFlags(plan)},
	{"repair", "IMG", "disk repair disk.img", 1, 1, noFlags(repair)},
	{"ls", "IMG PART [PATH]", "disk ls disk.img root_1 /etc", 2, 3, noFlags(ls)},
	{"esp ls", "IMG[:PART] [PATH]", "disk esp ls disk.img EFI/Linux", 1, 2, noFlags(espLs)},
	{"esp cat", "IMG[:PART] PATH", "disk esp cat disk.img loader/loader.conf", 2, 2, noFlags(espCat)},
	{"esp put", "IMG[:PART] FILE PATH", "disk esp put disk.img os.efi EFI/Linux/os_2+3.efi", 3, 3, noFlags(espPut)},
	{"esp rm", "IMG[:PART] PATH", "disk esp rm disk.img EFI/Linux/os_1.efi", 2, 2, noFlags(espRm)},
	{"esp mv", "IMG[:PART] OLD NEW", "disk esp mv disk.img EFI/Linux/os_2+3.efi EFI/Linux/os_2.efi", 3, 3, noFlags(espMv)},
}

func noFlags(do func(*call, []string) error) func(*flag.FlagSet) func(*call, []string) error {
	return func(*flag.FlagSet) func(*call, []string) error { return do }
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
	if len(args) > 0 {
		switch args[0] {
		case "-h", "-help", "--help", "help":
			usage(stderr, "")
			return 0
		}
	}
	for _, v := range verbs {
		words := strings.Fields(v.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == v.name {
			return v.run(ctx, args[len(words):], stdout, stderr)
		}
	}
	if len(args) > 0 && args[0] == "esp" {
		usage(stderr, "esp")
		return 2
	}
	if len(args) > 0 {
		fmt.Fprintf(stderr, "disk: no verb %q\n", args[0])
	}
	usage(stderr, "")
	return 2
}

func usage(w io.Writer, prefix string) {
	for _, v := range verbs {
		if strings.HasPrefix(v.name, prefix) {
			fmt.Fprintf(w, "usage: disk %s %s\n", v.name, v.usage)
		}
	}
	fmt.Fprintf(w, "example: %s\n", verbs[0].example)
}

func (v verb) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &call{Context: ctx, verb: v.name, stdout: stdout, stderr: stderr, progress: "auto"}
	flags := flag.NewFlagSet(v.name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&c.json, "json", false, "print one JSON object on stdout")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: disk %s %s\nexample: %s\n", v.name, v.usage, v.example)
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
	if n := len(operands); n < v.least || n > v.most {
		err = usagef("%d operands: want %s", n, v.usage)
	} else {
		err = do(c, operands)
	}
	if err == nil {
		return 0
	}
	text := err.Error()
	if !strings.HasPrefix(text, "disk: ") {
		text = "disk: " + text
	}
	fmt.Fprintln(stderr, text)
	var misused usageError
	switch {
	case isNo(err):
		return 1
	case errors.As(err, &misused):
		fmt.Fprintf(stderr, "usage: disk %s %s\nexample: %s\n", v.name, v.usage, v.example)
	}
	return 2
}

// isNo tells a negative answer from a failure.
func isNo(err error) bool {
	var no noError
	var space *partition.SpaceError
	var full *fat.SpaceError
	return errors.As(err, &no) || errors.As(err, &space) || errors.As(err, &full)
}

// missing makes a file that is not inside of an image a negative answer. A file of the host that is missing is a failure.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, fat.ErrCrossDirectory) {
		return noError{err}
	}
	return err
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
