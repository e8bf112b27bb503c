package tpm

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// firmwarePCRs are those that nothing but the firmware's log explains at the start of the initrd; 10 is the kernel's.
var firmwarePCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}

func TestReplayRealBoots(t *testing.T) {
	for _, v := range bootVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			log, err := ParseLog(v.log)
			require.NoError(t, err)
			assert.Empty(t, log.Findings)
			assert.Nil(t, log.Coverage)
			assert.Equal(t, []crypto.Hash{crypto.SHA256}, log.Banks())
			want := make(map[int][]byte)
			for _, n := range firmwarePCRs {
				want[n] = v.pcrs[n]
			}
			require.NoError(t, log.Verify(crypto.SHA256, want))
			raw, err := log.MarshalBinary()
			require.NoError(t, err)
			assert.True(t, bytes.Equal(v.log, raw), "written back")

			want[7] = make([]byte, 32)
			want[10] = v.pcrs[10]
			var replay *ReplayError
			require.True(t, errors.As(log.Verify(crypto.SHA256, want), &replay))
			assert.Equal(t, []int{7, 10}, replay.PCRs)
			assert.Equal(t, v.pcrs[7], replay.Got[7])
			assert.Equal(t, make([]byte, 32), replay.Want[7])
			assert.Contains(t, replay.Error(), "PCR 7 is 0000")

			_, err = log.Replay(crypto.SHA1)
			assert.ErrorIs(t, err, ErrBank)
		})
	}
}
