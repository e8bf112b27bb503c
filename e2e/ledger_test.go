//go:build linux

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Limits of one run of the tests, without OSMITH_LONG. Boots without firmware ("light") count as
// time only.
const (
	maxBoots = 64
	// of all machines, as the rows have it; the time on the clock depends on what else runs
	maxCPU = 15 * time.Minute

	// maxBusyCPU is what a run may take. Emulation takes more processor time, too, on a machine
	// that does something else: 1,035 s where the rows had 826.
	maxBusyCPU = maxCPU * 5 / 4
)

// booked has the boots of this run.
var booked struct {
	sync.Mutex
	boots, light map[string]int // by the name of the test
	cpu          map[string]time.Duration
}

func book(t testing.TB, m *Machine, cpu time.Duration) {
	booked.Lock()
	defer booked.Unlock()
	if booked.boots == nil {
		booked.boots, booked.light, booked.cpu = map[string]int{}, map[string]int{}, map[string]time.Duration{}
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	if m.NoFirmware {
		booked.light[test]++
	} else {
		booked.boots[test]++
	}
	booked.cpu[test] += cpu
}

// TestMain checks the boots of a run against the ledger in README.md.
func TestMain(m *testing.M) {
	code := m.Run()
	if problems := checkLedger(); len(problems) > 0 && os.Getenv("OSMITH_LONG") == "" {
		fmt.Println("FAIL: e2e/README.md, ledger of boots:\n  " + strings.Join(problems, "\n  "))
		code = max(code, 1)
	}
	os.Exit(code)
}

func checkLedger() []string {
	var problems []string
	ledger, err := readLedger()
	if err != nil {
		return []string{err.Error()}
	}
	booked.Lock()
	defer booked.Unlock()
	boots := 0
	for test, n := range booked.boots {
		boots += n
		if n > ledger[test].boots {
			problems = append(problems, fmt.Sprintf("%s: %d boots, its row says %d", test, n, ledger[test].boots))
		}
	}
	for test, n := range booked.light {
		if n > ledger[test].light {
			problems = append(problems, fmt.Sprintf("%s: %d light boots, its row says %d", test, n, ledger[test].light))
		}
	}
	if boots > maxBoots {
		problems = append(problems, fmt.Sprintf("%d boots, want at most %d", boots, maxBoots))
	}
	var cpu time.Duration
	for _, c := range booked.cpu {
		cpu += c
	}
	if cpu > maxBusyCPU {
		problems = append(problems, fmt.Sprintf("%.0f s of processor time, want at most %.0f s, and %.0f s on a machine that does nothing else", cpu.Seconds(), maxBusyCPU.Seconds(), maxCPU.Seconds()))
	}
	fmt.Printf("%d boots with firmware, %.0f s of processor time in all machines\n", boots, cpu.Seconds())
	if os.Getenv("OSMITH_UPDATE") == "1" && os.Getenv("OSMITH_LONG") == "" && len(problems) == 0 {
		if err := writeLedger(ledger); err != nil {
			problems = append(problems, err.Error())
		}
	}
	return problems
}

// A ledgerRow is what README.md says about a test. Seconds are 0 where they were not measured yet,
// or there is nothing to measure.
type ledgerRow struct{ boots, light, seconds int }

func (r ledgerRow) String() string {
	seconds := strconv.Itoa(r.seconds)
	if r.seconds == 0 {
		seconds = "-"
	}
	return fmt.Sprintf("%d | %d | %s", r.boots, r.light, seconds)
}

var ledgerRE = regexp.MustCompile("(?m)^\\| (?:`(Test\\w+)`|together) \\| (\\d+) \\| (\\d+) \\| (\\d+|-) \\|")

// writeLedger puts the processor seconds of this run into the rows of those tests that made all
// their boots.
func writeLedger(rows map[string]ledgerRow) error {
	b, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	sum := rows[""]
	for test, row := range rows {
		if cpu := booked.cpu[test]; cpu > 0 && booked.boots[test] == row.boots && booked.light[test] == row.light {
			measured := int(cpu.Seconds() + 0.5)
			sum.seconds += measured - row.seconds
			row.seconds = measured
			rows[test] = row
		}
	}
	rows[""] = sum
	b = ledgerRE.ReplaceAllFunc(b, func(line []byte) []byte {
		m := ledgerRE.FindSubmatch(line)
		row := rows[string(m[1])]
		name := "together"
		if len(m[1]) > 0 {
			name = "`" + string(m[1]) + "`"
		}
		return fmt.Appendf(nil, "| %s | %v |", name, row)
	})
	return os.WriteFile("README.md", b, 0o644)
}

// readLedger returns the rows of the ledger by test; that of "" is their sum.
func readLedger() (map[string]ledgerRow, error) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		return nil, err
	}
	rows, sum := map[string]ledgerRow{}, ledgerRow{}
	for _, m := range ledgerRE.FindAllStringSubmatch(string(b), -1) {
		boots, err1 := strconv.Atoi(m[2])
		light, err2 := strconv.Atoi(m[3])
		seconds, err3 := strconv.Atoi(strings.Replace(m[4], "-", "0", 1))
		if _, twice := rows[m[1]]; err1 != nil || err2 != nil || err3 != nil || twice {
			return nil, fmt.Errorf("row %q: want three numbers, and each test once", m[0])
		}
		rows[m[1]] = ledgerRow{boots, light, seconds}
		if m[1] != "" {
			sum.boots += boots
			sum.light += light
			sum.seconds += seconds
		}
	}
	if len(rows) == 0 || rows[""] != sum {
		return nil, fmt.Errorf("the row \"together\" says %v, its rows have %v", rows[""], sum)
	}
	if sum.boots > maxBoots {
		return nil, fmt.Errorf("%d boots together, want at most %d", sum.boots, maxBoots)
	}
	if limit := int(maxCPU.Seconds()); sum.seconds > limit {
		return nil, fmt.Errorf("%d s of processor time together, want at most %d", sum.seconds, limit)
	}
	return rows, nil
}

func TestLedger(t *testing.T) {
	rows, err := readLedger()
	require.NoError(t, err)
	require.Greater(t, len(rows), 5)
}
