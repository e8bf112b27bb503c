package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// A log in which a byte was changed is refused, or has a finding that it had not, or replays to
// other values, or the byte is one that nothing vouches for: the type and the data of an event that
// is not attested, and the header.
func TestMutatedLog(t *testing.T) {
	logs := foreignLogs(t)
	logs["a"] = bootVectors(t)[0].log
	rnd, long := testtools.Seed(t)
	n := 6000
	if !long {
		n /= 3
	}
	changed, refused, found, differs, free := 0, 0, 0, 0, 0
	for name, raw := range logs {
		before, err := ParseLog(raw)
		require.NoError(t, err)
		wantBanks, err := before.Replay()
		require.NoError(t, err)
		for range n / len(logs) {
			b := bytes.Clone(raw)
			at := rnd.IntN(len(b))
			b[at] ^= 1 << rnd.IntN(8)
			changed++
			after, err := ParseLog(b)
			if err != nil {
				refused++
				continue
			}
			if len(after.Findings) > len(before.Findings) {
				found++
				continue
			}
			same := true
			for h, want := range wantBanks {
				got, err := after.Replay(h)
				same = same && err == nil && assert.ObjectsAreEqual(want.Values(), got[h].Values())
			}
			if !same {
				differs++
				continue
			}
			free++
			require.Len(t, after.Events, len(before.Events))
			for i := range after.Events {
				a, w := &after.Events[i], &before.Events[i]
				if a.Type == w.Type && bytes.Equal(a.Data, w.Data) {
					continue
				}
				if a.Type != w.Type && bytes.Equal(a.Data, w.Data) {
					continue // a type that has no rule that its data break
				}
				if a.Type == EventEFIVariableBoot || a.Type == EventTag || a.Type == EventIPL {
					continue // attested, but for the name
				}
				if n := len(a.Data); byteTooMany(a) && bytes.Equal(a.Data[:n-1], w.Data[:n-1]) {
					continue // the byte too many
				}
				require.False(t, a.Attested(), "%s: byte 0x%x, event %d: %s", name, at, i, a.Describe())
			}
		}
	}
	t.Logf("%d changed: %d refused, %d found, %d replay otherwise, %d not vouched for", changed, refused, found, differs, free)
	assert.Positive(t, refused*found*differs)
}

func TestFinalEvents(t *testing.T) {
	raw := bootVectors(t)[0].log
	log, err := ParseLog(raw)
	require.NoError(t, err)
	table := func(from int, count uint64) []byte {
		id, err := readSpecID(log.Events[0].Data)
		require.NoError(t, err)
		b := binary.LittleEndian.AppendUint64([]byte{1, 0, 0, 0, 0, 0, 0, 0}, count)
		for i := from; i < len(log.Events); i++ {
			e := &log.Events[i]
			b = appendHead(b, e)
			b, err = appendDigests(b, e, id.Algorithms)
			require.NoError(t, err)
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(e.Data))), e.Data...)
		}
		return b
	}
	n := len(log.Events)
	events, findings, err := ParseFinalEvents(table(n-6, 6), log)
	require.NoError(t, err)
	assert.Empty(t, findings)
	require.Len(t, events, 6)
	short := *log
	short.Events = log.Events[:n-4]
	whole := short.WithFinalEvents(events)
	assert.Equal(t, log.Events, whole.Events, "two of the six were in the log")
	assert.Equal(t, log.Events, log.WithFinalEvents(events).Events)
	short.Events = log.Events[:n-6]
	assert.Equal(t, log.Events, short.WithFinalEvents(events).Events)

	_, _, err = ParseFinalEvents(table(n-1, 2), log)
	assert.ErrorContains(t, err, "event 1: PCR")
	_, _, err = ParseFinalEvents(table(n-1, 1<<40), log)
	assert.ErrorContains(t, err, "the log ends inside it")
	_, _, err = ParseFinalEvents([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, log)
	assert.ErrorContains(t, err, "version at 0x0: 2, want 1")
	_, _, err = ParseFinalEvents(nil, log)
	assert.ErrorContains(t, err, "final events table")
	_, _, err = ParseFinalEvents(nil, &Log{})
	assert.ErrorIs(t, err, ErrBank)
	_, findings, err = ParseFinalEvents(append(table(n-1, 1), 7), log)
	require.NoError(t, err)
	require.Len(t, findings, 1)
	assert.Contains(t, findings[0].String(), "1 bytes behind the last of 1 final events")
}
