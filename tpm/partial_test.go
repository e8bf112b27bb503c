package tpm

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// A log that is cut anywhere but between two events is no log, whatever the bytes are that it then
// ends in; its events before that place are told.
func TestPartialLog(t *testing.T) {
	raw := read(t, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	whole := parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements")
	ends := map[int]int{} // of the events, and how many there are up to them
	for n := 1; n <= len(whole.Events); n++ {
		b, err := (&Log{Events: whole.Events[:n]}).MarshalBinary()
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(raw, b))
		ends[len(b)] = n
	}
	complete := 0
	for n := range raw {
		log, err := ParseLog(raw[:n])
		if ends[n] > 0 {
			complete = ends[n]
			require.NoError(t, err)
			require.Len(t, log.Events, complete)
			continue
		}
		require.Nil(t, log, "cut after %d bytes", n)
		var format *osmith.FormatError
		require.True(t, errors.As(err, &format), "cut after %d bytes: %v", n, err)
		var partial *PartialError
		require.Equal(t, complete > 0, errors.As(err, &partial), "cut after %d bytes", n)
		if partial != nil {
			require.Len(t, partial.Events, complete)
			require.Equal(t, whole.Events[complete-1].Describe(), partial.Events[complete-1].Describe())
			require.Empty(t, partial.Findings)
		}
		for _, read := range []func([]byte) (*Log, error){ParsePrediction, ParseExpected} {
			log, err := read(raw[:n])
			require.Nil(t, log)
			require.Equal(t, complete > 0, errors.As(err, &partial))
		}
	}
}

func TestPartialFindings(t *testing.T) {
	_, err := ParseLog(header(0xb, 32).event(24, 5, 'x').u32(4, 5))
	var partial *PartialError
	require.True(t, errors.As(err, &partial))
	assert.Len(t, partial.Events, 2)
	require.Len(t, partial.Findings, 1)
	assert.Equal(t, "event 1 at 0x41: EV_ACTION for PCR 24, which no TPM has", partial.Findings[0].String())
	assert.ErrorContains(t, err, "tpm: event log: event 2: digest count at 0x7c: 4 bytes, 0 left: the log ends inside it")

	main, err := ParseLog(header(0xb, 32))
	require.NoError(t, err)
	_, _, err = ParseFinalEvents(logBytes{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}.event(5, 5, 'x'), main)
	require.True(t, errors.As(err, &partial))
	assert.Len(t, partial.Events, 1)
}

// Zeros are no log, for no reader, and no part of one.
func TestZerosAreNoLog(t *testing.T) {
	main, err := ParseLog(header(0xb, 32))
	require.NoError(t, err)
	zeros := make([]byte, 5000)
	for name, read := range map[string]func([]byte) error{
		"log":          func(b []byte) error { _, err := ParseLog(b); return err },
		"prediction":   func(b []byte) error { _, err := ParsePrediction(b); return err },
		"expected":     func(b []byte) error { _, err := ParseExpected(b); return err },
		"final events": func(b []byte) error { _, _, err := ParseFinalEvents(b, main); return err },
		"userspace":    func(b []byte) error { _, err := ParseUserspaceLog(b); return err },
		"quote":        func(b []byte) error { _, err := ParseQuote(b); return err },
		"signature":    func(b []byte) error { _, err := ParseTPMSignature(b); return err },
	} {
		for _, in := range [][]byte{zeros, zeros[:1], zeros[:32], bytes.Repeat([]byte{0xff}, 5000), append(bytes.Clone(zeros[:64]), 1)} {
			assert.Error(t, read(in), "%s of %d bytes", name, len(in))
		}
	}
	_, err = ParseLog(append(bytes.Clone(zeros[:64]), logBytes(nil).u32(0, 8).bytes(make([]byte, 20)...).u32(1).bytes('x')...))
	assert.ErrorContains(t, err, "event log: event 0: head at 0x0: 32 zero bytes, want an event")
}
