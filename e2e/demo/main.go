//go:build linux

// This program demonstrates the life of an image-based system on a virtual machine: it builds
// version 1 and its disk, boots it with Secure Boot and a TPM, compares the PCRs with the
// prediction made before, upgrades to version 2, damages version 3 on the disk, and watches the
// machine come back to version 2 without help.
//
//	./hack/demo                 # installs what it needs, then runs this
//	go run ./e2e/demo -out DIR  # keep disk image, releases and serial logs in DIR
//
// Exit status: 0 all went as it must, 1 it did not, 2 usage or a missing tool.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/e2e"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	tree := flags.String("tree", "", "Debian tree with kernel, stub and boot loader (default: forky's or trixie's below $OSMITH_TOOLS/roots)")
	out := flags.String("out", "", "directory to keep everything in (default: a temporary one, removed)")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: demo [-tree DIR] [-out DIR]\nexample: go run ./e2e/demo -out /tmp/acme")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "demo: unexpected argument %q\n", flags.Arg(0))
		return 2
	}
	parts, err := find(*tree)
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 2
	}
	if err := demo(ctx, stdout, parts, *out); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}

// find looks for the programs and parts that a boot needs before anything is built.
func find(tree string) (e2e.BootParts, error) {
	for _, tool := range []string{"qemu-system-x86_64", "swtpm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return e2e.BootParts{}, fmt.Errorf("%w: ./hack/demo installs it, or says how", err)
		}
	}
	if tree != "" {
		return e2e.PartsIn(tree)
	}
	roots := os.Getenv("OSMITH_TOOLS")
	if roots == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return e2e.BootParts{}, err
		}
		roots = filepath.Join(cache, "osmith")
	}
	parts, err := e2e.PartsIn(filepath.Join(roots, "roots", "forky"))
	if err != nil {
		return e2e.PartsIn(filepath.Join(roots, "roots", "trixie"))
	}
	return parts, nil
}

// show is the demonstration: the system, and where to tell about it.
type show struct {
	*e2e.System
	ctx   context.Context
	w     io.Writer
	began time.Time
}

func (s *show) say(format string, args ...any) { fmt.Fprintf(s.w, "        "+format+"\n", args...) }

func (s *show) chapter(format string, args ...any) {
	fmt.Fprintf(s.w, "\n%5.0f s ── %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func demo(ctx context.Context, w io.Writer, parts e2e.BootParts, out string) (err error) {
	if out == "" {
		dir, err := os.MkdirTemp("", "osmith-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		out = dir
	} else if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	s := &show{ctx: ctx, w: w, began: time.Now()}
	s.chapter("Build version 1 around %s", parts.Kernel)
	if s.System, err = e2e.NewSystem(ctx, out, parts); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	v1, err := s.install()
	if err != nil {
		return err
	}

	s.chapter("First power-on: the boot loader enrols our Secure Boot keys")
	if _, err := s.boot("enrol", e2e.Reset); err != nil {
		return err
	}
	s.chapter("Boot version 1")
	if err := s.bootGood("version-1", v1); err != nil {
		return err
	}

	s.chapter("Upgrade to version 2")
	v2, err := s.upgrade("2")
	if err != nil {
		return err
	}
	s.chapter("Boot version 2, which finds itself good and says so")
	if err := s.bootGood("version-2", v2); err != nil {
		return err
	}

	s.chapter("Upgrade to version 3, and damage one byte of it on the disk")
	v3, err := s.upgrade("3")
	if err != nil {
		return err
	}
	if err := s.Damage(v3); err != nil {
		return err
	}
	for try := 1; try <= upgrade.DefaultTries; try++ {
		s.chapter("Boot: try %d of version 3", try)
		b, err := s.boot(fmt.Sprintf("version-3-try-%d", try), e2e.Failed)
		if err != nil {
			return err
		}
		s.say("the machine gave up and rebooted: %s", b.Reason)
	}
	s.chapter("Boot: the tries are used up")
	if err := s.bootGood("back", v2); err != nil {
		return err
	}
	s.chapter("Done: version 2 is back, and nobody had to come")
	return nil
}

func (s *show) install() (*acmeos.Set, error) {
	set, err := s.Build(s.ctx, "1")
	if err != nil {
		return nil, err
	}
	image, err := s.Install(set)
	if err != nil {
		return nil, err
	}
	s.say("root hash %x\n", set.RootHash)
	for line := range strings.Lines(partition.Diagram(image.Table, image.Size, 90)) {
		s.say("%s", strings.TrimRight(line, "\n"))
	}
	return set, nil
}

func (s *show) upgrade(version string) (*acmeos.Set, error) {
	set, err := s.Build(s.ctx, version)
	if err != nil {
		return nil, err
	}
	plan, err := s.Upgrade(s.ctx, set, upgrade.PlanOptions{}, nil)
	if plan != nil {
		for line := range strings.Lines(plan.String()) {
			s.say("%s", strings.TrimRight(line, "\n"))
		}
	}
	return set, err
}

// boot switches the machine on and insists on how it ends.
func (s *show) boot(name string, want e2e.Ended) (*e2e.Boot, error) {
	b, err := s.Machine.Boot(s.ctx, name)
	if err != nil {
		return nil, err
	}
	if b.Ended != want {
		return nil, fmt.Errorf("boot %s ended as %q, want %q; its serial console:\n%s", name, b.Ended, want, b.Tail(30))
	}
	s.say("%s after %.0f s", b.Ended, b.Duration.Seconds())
	return b, nil
}

// bootGood boots a version that must come up exactly as predicted.
func (s *show) bootGood(name string, set *acmeos.Set) error {
	predicted, err := s.Prediction(set)
	if err != nil {
		return err
	}
	b, err := s.boot(name, e2e.Reported)
	if err != nil {
		return err
	}
	if err := s.Check(b, set); err != nil {
		return err
	}
	s.say("version %s runs, Secure Boot on, dm-verity on root hash %s…", b.Report.Version, b.Report.Verity.RootHash[:16])
	for _, n := range []int{4, 7, 11} {
		s.say("PCR %-2d  predicted %x…  measured %x…  equal", n, predicted.PCR(n)[:8], b.Report.InitrdPCRs["sha256"][n][:8])
	}
	s.say("the firmware's event log replays to the TPM's values in every bank")
	if bless := b.Report.Bless; bless.To != "" {
		s.say("boot counter: %s -> %s", bless.From, filepath.Base(bless.To))
	}
	return nil
}
