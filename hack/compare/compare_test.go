package compare

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// rounds is how often each side runs; the sides take turns, so that a busy
// minute of the machine meets both.
const rounds = 5

// slow is how long a reference may take and still run more than once.
const slow = 10 * time.Second

// A job is one piece of work done by us and by a reference tool, from the same
// inputs. Each side overwrites its own output.
type job struct {
	name      string
	reference string
	bar       float64 // the ratio we hold ourselves to
	prepare   func(b *testing.B) sides
}

type sides struct {
	ours      func() error
	reference func() (time.Duration, error)
	peak      func() string // of the memory of ours, if that is a process of its own
}

// results is the table that TestMain prints.
var results []string

func TestMain(m *testing.M) {
	code := m.Run()
	if len(results) > 0 {
		fmt.Printf("\n%s, %d CPUs, %s, %s; SHA-256 %s, SHA-512 %s; medians of %d\n",
			cpu(), runtime.NumCPU(), kernel(), runtime.Version(), sha256Kernel(), sha512Kernel(), rounds)
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "job\treference\tours\ttheirs\truns\tratio\tbar\tpeak memory of ours")
		for _, r := range results {
			fmt.Fprintln(w, r)
		}
		w.Flush()
	}
	os.Exit(code)
}

func BenchmarkRatio(b *testing.B) {
	for _, j := range jobs {
		b.Run(j.name, func(b *testing.B) {
			s := j.prepare(b)
			var ours, theirs []time.Duration
			// The first run warms caches and is the one whose memory is measured.
			peak := peakMemory(b, s.ours)
			if s.peak != nil {
				peak = s.peak()
			}
			for round := range rounds + 1 {
				if round > 0 {
					start := time.Now()
					require.NoError(b, s.ours())
					ours = append(ours, time.Since(start))
				}
				if len(theirs) > 0 && theirs[0] > slow {
					continue
				}
				them, err := s.reference()
				require.NoError(b, err)
				if round > 0 || them > slow {
					theirs = append(theirs, them)
				}
			}
			us, them := median(ours), median(theirs)
			ratio := us.Seconds() / them.Seconds()
			b.ReportMetric(ratio, "ratio")
			b.ReportMetric(0, "ns/op") // the benchmark's own time means nothing
			results = append(results, fmt.Sprintf("%s\t%s\t%v\t%v\t%d\t%.3f\t%.2f\t%s",
				j.name, j.reference, us.Round(10*time.Microsecond), them.Round(10*time.Microsecond), len(theirs), ratio, j.bar, peak))
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// host times a shell command of this machine. The tools in it are named, so
// that a missing one skips the job.
func host(b *testing.B, script string, tools ...string) func() (time.Duration, error) {
	for _, tool := range tools {
		testtools.Require(b, tool)
	}
	return func() (time.Duration, error) {
		start := time.Now()
		out, err := testtools.Try(b, "sh", "-ec", "PATH=$PATH:/usr/sbin:/sbin; "+script)
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		return time.Since(start), nil
	}
}

// inTree times a command of a Debian tree, without the time to enter the tree.
func inTree(b *testing.B, r testtools.Root, dir string, command ...string) func() (time.Duration, error) {
	const clocked = `start=$(date +%s%N); "$@" >/dev/null; end=$(date +%s%N); echo $((end - start))`
	return func() (time.Duration, error) {
		out, err := r.Try(b, dir, "sh", append([]string{"-ec", clocked, "sh"}, command...)...)
		if err != nil {
			return 0, err
		}
		// The tool's messages come before our line.
		lines := strings.Split(strings.TrimSpace(out), "\n")
		n, err := strconv.ParseInt(lines[len(lines)-1], 10, 64)
		return time.Duration(n), err
	}
}
