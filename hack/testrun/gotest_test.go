package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// events writes go test -json in a shorter way: "action test [output]".
func events(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		f := strings.SplitN(line, " ", 3)
		for len(f) < 3 {
			f = append(f, "")
		}
		b.WriteString(`{"Package":"p","Action":"` + f[0] + `"`)
		if f[1] != "" && f[1] != "-" {
			b.WriteString(`,"Test":"` + f[1] + `"`)
		}
		if f[2] != "" {
			b.WriteString(`,"Output":"` + f[2] + `\n"`)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func TestCounts(t *testing.T) {
	for _, c := range []struct {
		name                    string
		in                      string
		passed, failed, skipped int
		names                   []string // of what failed
	}{
		{
			name:   "subtests count, not the test around them",
			in:     events("run A", "run A/x", "run A/y", "pass A/x", "skip A/y", "pass A", "run B", "pass B", "pass -"),
			passed: 2, skipped: 1,
		}, {
			name:   "a failed subtest counts once",
			in:     events("run A", "run A/x", "run A/y", "fail A/x", "pass A/y", "fail A", "fail -"),
			passed: 1, failed: 1, names: []string{"p.A/x"},
		}, {
			name:   "a test that fails beside its passing subtests counts",
			in:     events("run A", "run A/x", "pass A/x", "fail A", "fail -"),
			passed: 1, failed: 1, names: []string{"p.A"},
		}, {
			name:   "a panic ends the package with tests unfinished",
			in:     events("run A", "pass A", "run B", "run B/x", "output B/x panic: no", "fail -"),
			passed: 1, failed: 1, names: []string{"p.B/x"},
		}, {
			name:   "a package that does not build, or fails in TestMain",
			in:     events("fail -"),
			failed: 1, names: []string{"p"},
		}, {
			name: "a package without tests",
			in:   events("output - no test files", "skip -"),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, err := openRecords(filepath.Join(t.TempDir(), "records"), "step")
			require.NoError(t, err)
			s := &session{log: log, packages: map[string]*pkg{}, builds: map[string]*strings.Builder{}}
			require.NoError(t, s.read(strings.NewReader(c.in)))
			assert.Equal(t, []int{c.passed, c.failed, c.skipped}, []int{s.passed, s.failed, s.skipped})
			all, err := log.read()
			require.NoError(t, err)
			assert.Len(t, all, s.total(), "every result is on record")
			var names []string
			for _, r := range all {
				if r.Result == failed {
					names = append(names, r.Name)
				}
			}
			assert.Equal(t, c.names, names)
			require.NoError(t, log.close())
		})
	}
}

func TestSkipReason(t *testing.T) {
	assert.Equal(t, "sgdisk is not installed: run it",
		skipReason("=== RUN   TestX\n    tools_test.go:12: sgdisk is not installed:\n        run it\n--- SKIP: TestX (0.00s)\n"))
	assert.Equal(t, "no reason given", skipReason("=== RUN   TestX\n--- SKIP: TestX (0.00s)\n"))
}

func TestRecordsNeedAFile(t *testing.T) {
	_, err := openRecords("", "step")
	require.Error(t, err)
	_, err = openRecords(filepath.Join(os.DevNull, "x"), "step")
	require.Error(t, err)
}
