package oracle

import "strings"

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
	// signs are what means something in a version besides letters and digits. The side that has one
	// where the other has not is the older.
	signs = "~-^."
)

// CompareVersions orders versions by UAPI.10, the Version Format Specification, as systemd's code
// has it: what is only a separator is skipped at the start of a round and nowhere else, and digits
// are newer than none, even if they are 0.
func CompareVersions(a, b string) int {
	for {
		a, b = a[separators(a):], b[separators(b):]
		for i := range len(signs) {
			sign := signs[i : i+1]
			restA, inA := strings.CutPrefix(a, sign)
			restB, inB := strings.CutPrefix(b, sign)
			if inA != inB {
				return yes(inB) - yes(inA)
			}
			a, b = restA, restB
			// What ends is older than all but a tilde.
			if i == 0 && (a == "" || b == "") {
				return yes(a != "") - yes(b != "")
			}
		}
		set := letters
		if strings.TrimLeft(a, digits) != a || strings.TrimLeft(b, digits) != b {
			set = digits
		}
		runA, runB := a[:len(a)-len(strings.TrimLeft(a, set))], b[:len(b)-len(strings.TrimLeft(b, set))]
		a, b = a[len(runA):], b[len(runB):]
		if set == digits {
			if runA == "" || runB == "" {
				return yes(runA != "") - yes(runB != "")
			}
			runA, runB = strings.TrimLeft(runA, "0"), strings.TrimLeft(runB, "0")
			if len(runA) != len(runB) {
				return len(runA) - len(runB)
			}
		}
		if c := strings.Compare(runA, runB); c != 0 {
			return c
		}
	}
}

// separators is how many bytes are skipped.
func separators(s string) int {
	if n := strings.IndexAny(s, letters+digits+signs); n >= 0 {
		return n
	}
	return len(s)
}
