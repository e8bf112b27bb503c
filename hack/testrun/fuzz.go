package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

// A target is one fuzz function.
type target struct {
	pkg  string // import path
	name string
}

// shortest is the least time worth giving a target; its seeds alone take part of it.
const shortest = 2 * time.Second

// starting is what a target takes beyond its share: processes that start and stop.
const starting = 500 * time.Millisecond

// longest keeps a few targets from taking all of the budget.
func longest(budget time.Duration) time.Duration { return budget / 12 }

// fuzz runs every fuzz target of the packages for an equal share of the budget,
// of which building them takes its part.
func fuzz(log *records, budget time.Duration, packages []string) bool {
	// Beside the records, which hack/test removes however it ends.
	tmp, err := os.MkdirTemp(filepath.Dir(log.file.Name()), "fuzz-")
	if err != nil {
		fatal(err)
	}
	defer os.RemoveAll(tmp)

	begin := time.Now()
	targets, err := fuzzTargets(packages)
	ok := true
	if err != nil {
		// Those of other packages may still be there.
		ok = false
		fmt.Printf("  FAIL finding the fuzz targets: %v\n", err)
		log.add(record{Result: failed, Name: "finding the fuzz targets"})
	}
	if len(targets) == 0 {
		fmt.Println("  FAIL there is no fuzz target")
		log.add(record{Result: failed, Name: "there is no fuzz target"})
		return false
	}
	built := map[string]fuzzBinary{}
	for i, t := range targets {
		if _, done := built[t.pkg]; !done {
			built[t.pkg] = buildFuzz(filepath.Join(tmp, fmt.Sprintf("fuzz%d.test", i)), t.pkg)
		}
	}
	building := time.Since(begin)
	// Each target has one processor, and all of them have work: a target that is starting or
	// stopping keeps one busy at most.
	lanes := runtime.GOMAXPROCS(0)
	share := min(max((budget-building)*time.Duration(lanes)/time.Duration(len(targets))-starting, shortest), longest(budget)).Round(100 * time.Millisecond)
	fmt.Printf("  %d targets built in %.1f s, %v each on one of %d processors\n", len(targets), building.Seconds(), share, lanes)

	var running sync.WaitGroup
	var report sync.Mutex
	next := make(chan target)
	for range lanes {
		running.Go(func() {
			for t := range next {
				start := time.Now()
				out, err := built[t.pkg].run(t.name, share)
				r := record{Result: passed, Name: t.pkg + "." + t.name, Seconds: time.Since(start).Seconds()}
				report.Lock()
				if err != nil {
					ok = false
					r.Result = failed
					fmt.Printf("  FAIL %s %s\n%s    %v\n", t.pkg, t.name, indent(out), err)
				} else {
					fmt.Printf("  ok   %-64s %9s inputs  %5.1f s\n", shortPath(t.pkg)+" "+t.name, inputs(out), r.Seconds)
				}
				log.add(r)
				report.Unlock()
			}
		})
	}
	for _, t := range targets {
		next <- t
	}
	close(next)
	running.Wait()
	return ok
}

func fuzzTargets(packages []string) ([]target, error) {
	var problems bytes.Buffer
	cmd := exec.Command("go", append([]string{"test", "-json", "-vet=off", "-list", "^Fuzz"}, packages...)...)
	cmd.Stderr = &problems
	out, err := cmd.Output()
	var targets []target
	for line := range bytes.Lines(out) {
		var e event
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if e.Action == "build-output" {
			problems.WriteString(e.Output)
		}
		if name := strings.TrimSpace(e.Output); e.Action == "output" && fuzzName.MatchString(name) {
			targets = append(targets, target{e.Package, name})
		}
	}
	if err != nil {
		return targets, fmt.Errorf("%w\n%s", err, indent(problems.String()))
	}
	return targets, nil
}

var (
	fuzzName  = regexp.MustCompile(`^Fuzz\w*$`)
	execs     = regexp.MustCompile(`execs: (\d+)`)
	crasher   = regexp.MustCompile(`Failing input written to (\S+)`)
	deadlined = regexp.MustCompile(`(?m)^\s+context deadline exceeded$`)
)

// A fuzzBinary is a package's tests, instrumented; all its targets share it.
type fuzzBinary struct {
	pkg, dir, file, cache string
	err                   error
	out                   string
}

func buildFuzz(file, pkg string) fuzzBinary {
	b := fuzzBinary{pkg: pkg, file: file}
	out, err := exec.Command("go", "test", "-c", "-vet=off", "-fuzz=.", "-o", b.file, pkg).CombinedOutput()
	if err != nil {
		b.out, b.err = string(out), fmt.Errorf("build: %w", err)
		return b
	}
	// The directory and the cache that go test itself would use.
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		b.err = fmt.Errorf("go list %s: %w", pkg, err)
		return b
	}
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		b.err = fmt.Errorf("go env: %w", err)
		return b
	}
	b.dir = strings.TrimSpace(string(dir))
	b.cache = filepath.Join(strings.TrimSpace(string(cache)), "fuzz", pkg)
	return b
}

func (b fuzzBinary) run(name string, share time.Duration) (string, error) {
	if b.err != nil {
		return b.out, b.err
	}
	for try := 1; ; try++ {
		// Minimising an input of a megabyte takes longer than finding ten others.
		cmd := exec.Command(b.file, "-test.run=^$", "-test.fuzz=^"+name+"$", "-test.fuzztime="+share.String(),
			"-test.fuzzminimizetime=1x", "-test.parallel=1", "-test.fuzzcachedir="+b.cache, "-test.timeout=10m")
		cmd.Dir = b.dir
		raw, err := cmd.CombinedOutput()
		out := string(raw)
		if err == nil {
			return out, nil
		}
		if m := crasher.FindStringSubmatch(out); m != nil {
			// The machine may be gone when the log is read: keep the input in it.
			input, readErr := os.ReadFile(filepath.Join(b.dir, m[1]))
			if readErr != nil {
				return out, readErr
			}
			return out + "\n" + m[1] + ":\n" + string(input), err
		}
		// Before 1.27 Go may report the end of the time as a failure, without an
		// input (go.dev/issue/75804). A real one comes again.
		if try < 3 && deadlined.MatchString(out) {
			continue
		}
		return out, err
	}
}

// inputs is the number of inputs tried, from the last progress line.
func inputs(out string) string {
	all := execs.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return "?"
	}
	return all[len(all)-1][1]
}

// shortPath leaves out the host and owner of an import path.
func shortPath(pkg string) string {
	parts := strings.SplitN(pkg, "/", 4)
	return parts[len(parts)-1]
}
