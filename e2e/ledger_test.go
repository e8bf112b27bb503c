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

// Limits of one run of the tests, without OSMITH_LONG. Boots without firmware ("light") count as time only.
const (
	maxBoots = 64
	maxCPU   = 15 * time.Minute // of all machines; the time on the clock depends on what else runs
)

// booked has the boots of this run.
var booked struct {
	sync.Mutex
	boots, light map[string]int // by the name of the test
	cpu          time.Duration
}

func book(t testing.TB, m *Machine, cpu time.Duration) {
	booked.Lock()
	defer booked.Unlock()
	if booked.boots == nil {
		booked.boots, booked.light = map[string]int{}, map[string]int{}
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	if m.NoFirmware {
		booked.light[test]++
	} else {
		booked.boots[test]++
	}
	booked.cpu += cpu
}

// TestMain holds the boots of a run against the ledger in README.md.
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
	if booked.cpu > maxCPU {
		problems = append(problems, fmt.Sprintf("%.0f s of processor time, want at most %.0f s", booked.cpu.Seconds(), maxCPU.Seconds()))
	}
	fmt.Printf("%d boots with firmware, %.0f s of processor time in all machines\n", boots, booked.cpu.Seconds())
	return problems
}

type ledgerRow struct{ boots, light int }

var ledgerRE = regexp.MustCompile("(?m)^\\| (?:`(Test\\w+)`|together) \\| (\\d+) \\| (\\d+) \\|")

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
		if _, twice := rows[m[1]]; err1 != nil || err2 != nil || twice {
			return nil, fmt.Errorf("row %q: want two numbers, and each test once", m[0])
		}
		rows[m[1]] = ledgerRow{boots, light}
		if m[1] != "" {
			sum.boots += boots
			sum.light += light
		}
	}
	if len(rows) == 0 || rows[""] != sum {
		return nil, fmt.Errorf("the row \"together\" says %v, its rows have %v", rows[""], sum)
	}
	if sum.boots > maxBoots {
		return nil, fmt.Errorf("%d boots together, want at most %d", sum.boots, maxBoots)
	}
	return rows, nil
}

func TestLedger(t *testing.T) {
	rows, err := readLedger()
	require.NoError(t, err)
	require.Greater(t, len(rows), 5)
}
