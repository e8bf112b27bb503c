package compare

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/sha256x2"
	"github.com/osmith-dev/osmith/internal/sha512x8"
)

// cpu is the processor's name, where the system tells it.
func cpu() string {
	if name := field("/proc/cpuinfo", "model name"); name != "" {
		return name
	}
	return runtime.GOARCH
}

// sha256Kernel names how verity hashes with SHA-256 here.
func sha256Kernel() string {
	if sha256x2.Accelerated() {
		return "two lanes of SHA-NI"
	}
	return "crypto/sha256"
}

// sha512Kernel names how verity hashes with SHA-512 and SHA-384 here.
func sha512Kernel() string {
	if sha512x8.Accelerated() {
		return "eight lanes of AVX-512"
	}
	return "crypto/sha512"
}

// kernel is the system and its release, where the system tells it.
func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return runtime.GOOS + " " + strings.TrimSpace(string(release))
}

// peakMemory runs work and tells how much more of this process was resident in
// between than before, or "-" where the system does not count it.
func peakMemory(b *testing.B, work func() error) string {
	debug.FreeOSMemory()
	// Documented in proc_pid_clear_refs(5): the peak starts again from what is resident.
	reset := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	before := peakKiB()
	require.NoError(b, work())
	after := peakKiB()
	if reset != nil || before == 0 || after < before {
		return "-"
	}
	return strconv.FormatFloat(float64(after-before)/1024, 'f', 1, 64) + " MiB"
}

// peakKiB is VmHWM of proc_pid_status(5), 0 where there is none.
func peakKiB() int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/self/status", "VmHWM"), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// field is the value of the first line "name : value" of a file in /proc.
func field(path, name string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
