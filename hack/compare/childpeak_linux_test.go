package compare

import (
	"os"
	"strconv"
	"syscall"
)

// childPeak is the most memory that a process had that has ended.
func childPeak(p *os.ProcessState) string {
	return strconv.FormatFloat(float64(p.SysUsage().(*syscall.Rusage).Maxrss)/1024, 'f', 1, 64) + " MiB"
}
