package testtools

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// Seed returns the randomness of a grid, whose seed it logs: fixed, or fresh with OSMITH_LONG=1,
// which asks for the full grid.
func Seed(t testing.TB) (r *rand.Rand, long bool) {
	t.Helper()
	s := uint64(2026)
	if long = os.Getenv("OSMITH_LONG") == "1"; long {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", s)
	return rand.New(rand.NewPCG(s, 0)), long
}
