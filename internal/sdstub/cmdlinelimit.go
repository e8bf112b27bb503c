package sdstub

import (
	"encoding/binary"
	"io"
	"strings"

	"github.com/osmith-dev/osmith/internal/arch"
)

// unknownCmdline is what any kernel takes of a command line, if nothing else is known of it (Linux,
// include/uapi/asm-generic/setup.h, COMMAND_LINE_SIZE, less the NUL).
const unknownCmdline = 511

// CmdlineLimit is how many bytes of a command line a kernel for that machine type takes, without a
// NUL at the end; what is behind them is lost. Of x86 the kernel says it in its setup header
// (Linux, Documentation/arch/x86/boot.rst, "The Kernel Command Line"), of others the architecture.
// It is known for what is not known of either: the number is then one that every kernel takes.
func CmdlineLimit(kernel io.ReaderAt, size int64, machine uint16) (limit int, known bool, err error) {
	a, ok := arch.ByMachine(machine)
	if ok && (a == arch.X86 || a == arch.X8664) && size >= setupCmdlineSize+4 {
		b := make([]byte, setupCmdlineSize+4)
		if n, err := kernel.ReadAt(b, 0); n < len(b) {
			return 0, false, noEOF(err)
		}
		if le := binary.LittleEndian; string(b[setupMagic:][:4]) == "HdrS" {
			if le.Uint16(b[setupProtocol:]) < 0x206 {
				return 255, true, nil
			}
			if n := le.Uint32(b[setupCmdlineSize:]); n > 0 {
				return int(min(n, 1<<30)), true, nil
			}
		}
	}
	if !ok || a.CommandLine == 0 {
		return unknownCmdline, false, nil
	}
	return a.CommandLine - 1, true, nil
}

// FirstLost is the first option of a command line that does not end within so many bytes; "" if all
// do. The kernel takes what is in double quotes for one option, and leaves out a whole one that it
// would have to cut, or in older releases cuts it.
func FirstLost(cmdline string, limit int) string {
	if len(strings.TrimRight(cmdline, " \t\n")) <= limit {
		return ""
	}
	start, quoted := -1, false
	for i := 0; i <= len(cmdline); i++ {
		space := i == len(cmdline) || !quoted && strings.IndexByte(" \t\n", cmdline[i]) >= 0
		switch {
		case space && start >= 0:
			if i > limit {
				return cmdline[start:i]
			}
			start = -1
		case !space && start < 0:
			start = i
		}
		if i < len(cmdline) && cmdline[i] == '"' {
			quoted = !quoted
		}
	}
	return ""
}
