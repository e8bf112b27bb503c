// This program demonstrates the whole life of an image-based system with osmith's packages: it builds version 1 and its
// disk, predicts what a boot will measure, signs and verifies a release, upgrades to version 2 with a power cut in
// between, refuses a tampered version 3, and falls back.
//
//	go run ./examples/lifecycle [-parts DIR] [-out DIR] [-json]
//
// It needs nothing but Go, no root and no Linux: boots are played through by the model of upgrade/upgradetest. Stub, boot
// loader, kernel and initrd come from -parts, or from where a distribution installs them; where there are none, it
// makes small stand-ins and says so in its first line. With -json one object with the results is printed on stdout and
// the story on stderr:
//
//	{"schema": "osmith.lifecycle/1", "parts": "...", "standIn": true, "disk": "...",   (disk only with -out)
//	 "version": "1", "rootHash": "...", "pcrs": {"4": "...", "7": "...", "11": "..."},
//	 "releaseDigest": "sha256:...", "plan": {"schema": "osmith.plan/1", ...}, "refused": "...",
//	 "boots": [{"at": "...", "outcome": "up", "version": "1", "entry": "..."}]}
//
// Exit status: 0 all went as it must, 1 something that had to hold did not, 2 usage or I/O.
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
	"strconv"
	"time"

	"github.com/osmith-dev/osmith/examples/acmeos"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lifecycle", flag.ContinueOnError)
	flags.SetOutput(stderr)
	parts := flags.String("parts", "", "directory with linux*.efi.stub, systemd-boot*.efi, vmlinuz* and initrd*")
	out := flags.String("out", "", "directory to leave disk image, sets and release in (default: a temporary one, removed)")
	asJSON := flags.Bool("json", false, "print one JSON object on stdout, the story on stderr")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: lifecycle [-parts DIR] [-out DIR] [-json]\nexample: go run ./examples/lifecycle -out /tmp/acme")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "lifecycle: unexpected argument %q\n", flags.Arg(0))
		flags.Usage()
		return 2
	}
	narration := stdout
	if *asJSON {
		narration = stderr
	}
	result, err := lifecycle(ctx, narration, *parts, *out)
	var broken *brokenPromise
	switch {
	case errors.As(err, &broken):
		fmt.Fprintln(stderr, "lifecycle:", err)
		return 1
	case err != nil:
		fmt.Fprintln(stderr, "lifecycle:", err)
		return 2
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		if err := enc.Encode(result); err != nil {
			fmt.Fprintln(stderr, "lifecycle:", err)
			return 2
		}
	}
	return 0
}

func lifecycle(ctx context.Context, w io.Writer, partsDir, out string) (*result, error) {
	keep := out != ""
	if !keep {
		dir, err := os.MkdirTemp("", "osmith-lifecycle-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		out = dir
	} else if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	parts, err := acmeos.FindParts(partsDir)
	if errors.Is(err, fs.ErrNotExist) && partsDir == "" {
		parts, err = acmeos.StandIns(), nil
	}
	if err != nil {
		return nil, err
	}
	defer parts.Close()
	when, err := sourceDate()
	if err != nil {
		return nil, err
	}
	s := &story{ctx: ctx, w: w, dir: out, parts: parts, when: when}
	defer s.close()
	if err := s.tell(); err != nil {
		return nil, err
	}
	if !keep {
		s.result.Disk = ""
	}
	return &s.result, nil
}

// sourceDate is the time that goes into files and signatures: SOURCE_DATE_EPOCH, else a fixed day, so that two runs differ in
// their keys alone.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(n, 0).UTC(), nil
}
