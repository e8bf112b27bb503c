package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

const (
	passed  = "pass"
	failed  = "fail"
	skipped = "skip"
)

// A record is one test or check that ran or was left out.
type record struct {
	Step    string
	Result  string
	Name    string
	Detail  string  `json:",omitempty"` // why it was skipped
	Seconds float64 `json:",omitempty"`
}

// records is the file of all records of one hack/test.
type records struct {
	step string
	file *os.File
	err  error
}

func openRecords(path, step string) (*records, error) {
	if path == "" {
		return nil, errors.New("testrun: OSMITH_STEPS is not set")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("testrun: %w", err)
	}
	return &records{step: step, file: f}, nil
}

func (l *records) add(r record) {
	r.Step = l.step
	b, err := json.Marshal(r)
	if err == nil {
		_, err = l.file.Write(append(b, '\n'))
	}
	l.err = errors.Join(l.err, err)
}

func (l *records) close() error {
	return errors.Join(l.err, l.file.Close())
}

func (l *records) read() ([]record, error) {
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var all []record
	for d := json.NewDecoder(l.file); ; {
		var r record
		if err := d.Decode(&r); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
}

// summary prints the failures, why tests were skipped, and the counts. It
// reports whether nothing failed.
func summary(l *records) bool {
	all, err := l.read()
	if err != nil {
		fatal(err)
	}
	counts := map[string]int{}
	reasons := map[string][]record{}
	for _, r := range all {
		counts[r.Result]++
		if r.Result == skipped {
			reasons[r.Detail] = append(reasons[r.Detail], r)
		}
	}
	var order []string
	for reason := range reasons {
		order = append(order, reason)
	}
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(len(reasons[b])-len(reasons[a]), strings.Compare(a, b))
	})
	for _, reason := range order {
		rs := reasons[reason]
		name := rs[0].Step + ": " + rs[0].Name
		if len(rs) > 1 {
			name += fmt.Sprintf(" and %d more", len(rs)-1)
		}
		fmt.Printf("  skipped: %s (%s)\n", reason, name)
	}
	for _, r := range all {
		if r.Result == failed {
			fmt.Printf("  FAILED: %s: %s\n", r.Step, r.Name)
		}
	}
	if counts[passed] == 0 {
		fmt.Println("  FAILED: nothing was tested")
		counts[failed]++
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", counts[passed], counts[failed], counts[skipped])
	return counts[failed] == 0
}
