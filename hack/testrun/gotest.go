package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// An event is one line of go test -json ("go doc test2json").
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string // of a package's fail: its failed ImportPath
}

// pkg collects the events of one package.
type pkg struct {
	order  []string // tests, as they started
	tests  map[string]*test
	output strings.Builder // of no test
}

type test struct {
	result string // "" while it runs
	output strings.Builder
}

// runTests runs "go test -json ..." and prints one line for each package, and
// all output of what failed. With stream, output is printed as it comes.
func runTests(log *records, stream bool, command []string) bool {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fatal(err)
	}
	s := &session{log: log, stream: stream, packages: map[string]*pkg{}, builds: map[string]*strings.Builder{}}
	readErr := s.read(out)
	err = cmd.Wait()
	if readErr != nil {
		err = readErr
	}
	switch {
	case err != nil && s.failed == 0:
		// For example no package matched, or a go.mod is broken.
		s.fail(strings.Join(command, " "))
		fmt.Printf("  FAIL %s: %v\n", strings.Join(command, " "), err)
	case s.total() == 0:
		s.fail("no test ran in: " + strings.Join(command, " "))
	}
	fmt.Printf("  %d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	return s.failed == 0
}

type session struct {
	log                     *records
	stream                  bool
	packages                map[string]*pkg
	builds                  map[string]*strings.Builder // compiler output by import path
	passed, failed, skipped int
}

func (s *session) total() int { return s.passed + s.failed + s.skipped }

func (s *session) fail(name string) {
	s.failed++
	s.log.add(record{Result: failed, Name: name})
}

func (s *session) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				s.event(e)
			} else {
				fmt.Printf("  %s", line) // go itself speaking
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (s *session) event(e event) {
	switch e.Action {
	case "build-output":
		b := s.builds[e.ImportPath]
		if b == nil {
			b = &strings.Builder{}
			s.builds[e.ImportPath] = b
		}
		b.WriteString(e.Output)
		return
	case "build-fail":
		return // the package's own fail follows and names it
	}
	p := s.packages[e.Package]
	if p == nil {
		p = &pkg{tests: map[string]*test{}}
		s.packages[e.Package] = p
	}
	if e.Test == "" {
		s.packageEvent(p, e)
		return
	}
	t := p.tests[e.Test]
	if t == nil {
		t = &test{}
		p.tests[e.Test] = t
		p.order = append(p.order, e.Test)
	}
	switch e.Action {
	case "output":
		if s.stream {
			fmt.Print(indent(e.Output))
		}
		t.output.WriteString(e.Output)
	case passed, failed, skipped:
		t.result = e.Action
	}
}

func (s *session) packageEvent(p *pkg, e event) {
	switch e.Action {
	case "output":
		if s.stream {
			fmt.Print(indent(e.Output))
		}
		p.output.WriteString(e.Output)
	case passed, failed, skipped:
		s.finish(p, e)
		delete(s.packages, e.Package)
	}
}

// finish counts and prints a package. Counted are the tests without subtests,
// and those that failed of themselves.
func (s *session) finish(p *pkg, e event) {
	parent := map[string]bool{}    // has subtests
	explained := map[string]bool{} // has a subtest that failed
	for name, t := range p.tests {
		for up := above(name); up != ""; up = above(up) {
			parent[up] = true
			if t.result == failed || t.result == "" {
				explained[up] = true
			}
		}
	}
	var n, bad, skips int
	for _, name := range p.order {
		t := p.tests[name]
		full := e.Package + "." + name
		switch {
		case t.result == skipped && !parent[name]:
			skips++
			s.log.add(record{Result: skipped, Name: full, Detail: skipReason(t.output.String())})
		case t.result == passed && !parent[name]:
			n++
			s.log.add(record{Result: passed, Name: full})
		case t.result == failed && !explained[name], t.result == "" && !explained[name]:
			// A test without a result was running when the package ended: a
			// panic, a timeout, os.Exit.
			bad++
			s.fail(full)
		}
	}
	s.passed += n
	s.skipped += skips
	if e.Action == failed && bad == 0 {
		// It did not build, or failed outside of its tests.
		s.fail(e.Package)
	}
	if e.Action == failed {
		s.printFailure(p, e)
		return
	}
	if len(p.tests) == 0 {
		return
	}
	line := fmt.Sprintf("  ok   %-60s %6.1f s  %d passed", e.Package, e.Elapsed, n)
	if skips > 0 {
		line += fmt.Sprintf(", %d skipped", skips)
	}
	fmt.Println(line)
}

func (s *session) printFailure(p *pkg, e event) {
	fmt.Printf("  FAIL %-60s %6.1f s\n", e.Package, e.Elapsed)
	if b := s.builds[e.FailedBuild]; b != nil {
		fmt.Print(indent(b.String()))
	}
	if s.stream {
		return // all of it was printed already
	}
	for _, name := range p.order {
		if t := p.tests[name]; t.result == failed || t.result == "" {
			fmt.Print(indent(t.output.String()))
		}
	}
	fmt.Print(indent(p.output.String()))
}

// above returns the name of the test that a subtest belongs to, or "".
func above(name string) string {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return ""
	}
	return name[:i]
}

// Where the message of t.Skip starts: "    file_test.go:12: why".
var skipPrefix = regexp.MustCompile(`(?m)^\s+\S+\.go:\d+: `)

func skipReason(output string) string {
	places := skipPrefix.FindAllStringIndex(output, -1)
	if len(places) == 0 {
		return "no reason given"
	}
	reason := output[places[len(places)-1][1]:]
	if i := strings.Index(reason, "\n--- SKIP"); i >= 0 {
		reason = reason[:i]
	}
	return strings.Join(strings.Fields(reason), " ")
}
