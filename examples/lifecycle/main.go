// This program demonstrates the whole life of an image-based system with osmith's packages: it
// builds version 1 and its disk, predicts what a boot will measure, signs and verifies a release,
// upgrades to version 2 with a power cut behind every write and one in between, refuses a tampered
// version 3, falls back, refuses what has failed, and refuses a version 4 for which the TPM would
// not open the encrypted state partition until it has a token for it.
//
//	go run ./examples/lifecycle [-parts DIR] [-out DIR] [-json]
//
// It needs nothing but Go, no root and no Linux: boots are played through by the model of
// upgrade/upgradetest, and said to be simulated; there is no TPM: whether one would open a token is
// worked out. What a TPM has recorded in a real boot, of another system, stands beside what is
// predicted of that boot. Stub, boot loader, kernel and initrd come from -parts, or from where a
// distribution installs them; where there are none, it makes small stand-ins and says so in its
// first line. With -json one object with the results is printed on stdout and the story on stderr:
//
//	{"schema": "osmith.lifecycle/1", "parts": "...", "standIn": true, "disk": "...",   (disk only with -out)
//	 "version": "1", "rootHash": "...", "pcrs": {"4": "...", "7": "...", "11": "..."},
//	 "recorded": {"origin": "...", "pcrs": [{"pcr": 4, "predicted": "...", "recorded": "..."}]},
//	 "releaseDigest": "sha256:...", "plan": {"schema": "osmith.plan/1", ...}, "refused": "...",
//	 "cuts": {"tried": 36, "booted": 36, "simulated": true},
//	 "boots": [{"at": "...", "outcome": "up", "version": "1", "entry": "...", "simulated": true}],
//	 "locked": "...", "volume": [{"at": "...", "version": "1", "tokens": [1]}]}
//
// Exit status: 0 all went as it must, 1 something that had to hold did not, 2 usage or I/O.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

func main() { program.Main() }

var program = cli.Program{Name: "lifecycle", Schema: schema, IsNo: isNo, Verbs: []cli.Verb{
	{Usage: "[-parts DIR] [-out DIR] [-json]", Example: "lifecycle -out /tmp/acme", Flags: flags},
}}

// isNo tells what had to hold and did not.
func isNo(err error) bool {
	_, broken := errors.AsType[*brokenPromise](err)
	return broken
}

func flags(set *flag.FlagSet) func(*cli.Call, []string) error {
	parts := set.String("parts", "", "`directory` with linux*.efi.stub, systemd-boot*.efi, vmlinuz* and initrd*")
	out := set.String("out", "", "`directory` to leave disk image, sets and release in (default: a temporary one, removed)")
	return func(c *cli.Call, _ []string) error {
		narration := c.Stdout
		if c.JSON {
			narration = c.Stderr
		}
		result, err := lifecycle(c, narration, *parts, *out)
		if err != nil {
			return err
		}
		return c.Answer(result, "")
	}
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
	// A fixed day, so that two runs differ in their keys alone.
	when, err := cli.SourceDate(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
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
