package tpm

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// firmwarePCRs are those that nothing but the firmware's log explains at the start of the initrd;
// 10 is the kernel's.
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

// A dynamic launch resets PCRs 17 to 22, all of them and no others; an event for any of them tells
// of one (TCG PC Client Platform TPM Profile 1.05, table 7).
func TestDynamicLaunch(t *testing.T) {
	zeros, ones := make([]byte, 32), bytes.Repeat([]byte{0xff}, 32)
	extended := pcrbank.Sum(crypto.SHA256, make([]byte, 64))
	for n := range PCRCount {
		log, err := ParseLog(header(0xb, 32).event(uint32(n), 5, 'x'))
		require.NoError(t, err)
		banks, err := log.Replay()
		require.NoError(t, err)
		launched := n >= 17 && n <= 22
		for pcr := range PCRCount {
			want := zeros
			switch {
			case pcr == n:
				want = extended
			case pcr >= 17 && pcr <= 22 && !launched:
				want = ones
			}
			assert.Equal(t, want, banks[crypto.SHA256].PCR(pcr), "PCR %d after an event for PCR %d", pcr, n)
		}
	}
}
