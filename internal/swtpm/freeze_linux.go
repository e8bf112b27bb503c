package swtpm

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Freeze stops the TPM as it is: it takes commands, and answers none until Thaw.
func (s *TPM) Freeze(t testing.TB) {
	t.Helper()
	require.NoError(t, s.process.Signal(syscall.SIGSTOP))
}

// Thaw has it go on.
func (s *TPM) Thaw(t testing.TB) {
	t.Helper()
	require.NoError(t, s.process.Signal(syscall.SIGCONT))
}
