package upgrade_test

import (
	"os"
	"runtime/debug"
	"testing"
)

// The tests make a new disk in memory for each state that a power cut may leave, and let go of it
// at once: with the usual share of garbage a third of their time goes to collecting it.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
