// Testrun runs the steps of hack/test and counts what they checked.
//
//	testrun check NAME -- COMMAND...      one check: passes when COMMAND does
//	testrun test [-stream] -- GO TEST...  one go test run
//	testrun fuzz -budget 2m PACKAGES...   every fuzz target for a share of the budget
//	testrun skip NAME REASON              a check that was left out
//	testrun summary                       what the runs before counted
//
// OSMITH_STEP names the step, and OSMITH_STEPS the file that carries the counts
// from one call to the next.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fatal("usage: testrun check|test|fuzz|skip|summary ...")
	}
	log, err := openRecords(os.Getenv("OSMITH_STEPS"), os.Getenv("OSMITH_STEP"))
	if err != nil {
		fatal(err)
	}
	ok := true
	switch args := os.Args[2:]; os.Args[1] {
	case "check":
		name, command := split(args)
		ok = check(log, strings.Join(name, " "), command)
	case "test":
		flags, command := split(args)
		ok = runTests(log, len(flags) == 1 && flags[0] == "-stream", command)
	case "fuzz":
		f := flag.NewFlagSet("fuzz", flag.ExitOnError)
		budget := f.Duration("budget", 2*time.Minute, "time for all targets together")
		_ = f.Parse(args) // ExitOnError
		ok = fuzz(log, *budget, f.Args())
	case "skip":
		if len(args) != 2 {
			fatal("usage: testrun skip NAME REASON")
		}
		log.add(record{Result: skipped, Name: args[0], Detail: args[1]})
	case "summary":
		ok = summary(log)
	default:
		fatal("testrun: no command is called " + os.Args[1])
	}
	if err := log.close(); err != nil {
		fatal(err)
	}
	if !ok {
		os.Exit(1)
	}
}

// split returns what stands before and after "--".
func split(args []string) (before, after []string) {
	for i, a := range args {
		if a == "--" && i+1 < len(args) {
			return args[:i], args[i+1:]
		}
	}
	fatal("testrun: a command after -- is missing")
	return nil, nil
}

// check runs one command, whose output only matters when it fails.
func check(log *records, name string, command []string) bool {
	start := time.Now()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	seconds := time.Since(start).Seconds()
	if err != nil {
		fmt.Printf("  FAIL %-32s %6.1f s\n%s    %s: %v\n", name, seconds, indent(string(out)), strings.Join(command, " "), err)
		log.add(record{Result: failed, Name: name, Seconds: seconds})
		return false
	}
	fmt.Printf("  ok   %-32s %6.1f s\n", name, seconds)
	log.add(record{Result: passed, Name: name, Seconds: seconds})
	return true
}

func fatal(v any) {
	fmt.Fprintln(os.Stderr, v)
	os.Exit(2)
}

// longLine is where a line of output is cut: a dump of a disk image on one line
// would bury the rest of the log.
const longLine = 4000

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\n")
		if len(line) > longLine {
			line = fmt.Sprintf("%s ... (%d bytes more)", line[:longLine], len(line)-longLine)
		}
		b.WriteString("    " + line + "\n")
	}
	return b.String()
}
