package sealing

import (
	"context"
	"crypto"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFrozenTPM stops a TPM: what is asked of it ends with its context, and the answer that comes
// when it goes on is discarded.
func TestFrozenTPM(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	token, err := s.Seal([]byte("secret"), Policy{PCRs: []int{7}}, Unlock{})
	require.NoError(t, err)
	key, err := s.CreateAttestationKey()
	require.NoError(t, err)
	for name, do := range map[string]func(*TPM) error{
		"seal":   func(t *TPM) error { _, err := t.Seal([]byte("secret"), Policy{PCRs: []int{7}}, Unlock{}); return err },
		"unseal": func(t *TPM) error { _, err := t.Unseal(token, Unlock{}); return err },
		"quote": func(t *TPM) error {
			_, err := t.Quote(key, []byte("nonce"), map[crypto.Hash][]int{crypto.SHA256: {7}})
			return err
		},
	} {
		s.machine.Freeze(t)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		frozen := s.WithContext(ctx)
		start := time.Now()
		err := do(frozen)
		cancel()
		require.Less(t, time.Since(start), 30*time.Second, name)
		var interrupted *InterruptedError
		require.ErrorAs(t, err, &interrupted, name)
		require.True(t, interrupted.Sent, name)
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		s.machine.Thaw(t)
		_, err = s.PCRs(crypto.SHA256, 7)
		require.ErrorIs(t, err, ErrUnusable, name)
		s.disconnect(t)
		s.connect(t)
		require.NoError(t, do(s.TPM), name)
	}
}
