package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzParseLog: no panic, nil exactly with an error, and what is parsed is written back as it was.
func FuzzParseLog(f *testing.F) {
	for _, raw := range foreignLogs(f) {
		f.Add(raw)
	}
	f.Add(read(f, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements"))
	f.Add(read(f, "testdata/tdx/ccel.bin"))
	f.Add(read(f, "testdata/machines/p511.bin"))
	f.Add([]byte(header(0x12, 32, 0xb, 32).u32(4, 5, 1).u16(0xb).bytes(make([]byte, 32)...).u32(0)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		log, err := ParseLog(raw)
		if err != nil {
			require.Nil(t, log)
			var partial *PartialError
			if errors.As(err, &partial) {
				for _, e := range partial.Events {
					require.True(t, utf8.ValidString(e.String()))
				}
			}
			return
		}
		require.NotNil(t, log)
		again, err := log.MarshalBinary()
		require.NoError(t, err)
		require.True(t, bytes.Equal(raw, again), "written back")
		text := log.String()
		require.True(t, utf8.ValidString(text))
		banks, err := log.Replay()
		require.NoError(t, err)
		for h, b := range banks {
			if err := log.Verify(h, b.Values()); log.Registers == RegistersPCR {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, ErrRegisters)
			}
		}
		if _, err := log.ReplaySM3(); err != nil {
			require.ErrorIs(t, err, ErrBank)
		}
		unknown := slices.ContainsFunc(log.Events, func(e Event) bool { return e.extends() && len(e.Digests)+len(e.foreign) == 0 })
		if !unknown { // an event without a digest may be any
			require.Empty(t, Diff(log, log))
		}
	})
}

// FuzzDiff: comparing any two logs ends, without panic.
func FuzzDiff(f *testing.F) {
	f.Add(read(f, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements"), read(f, "testdata/boot/f-profile1-262/binary_bios_measurements"))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, err := ParseLog(x)
		if err != nil {
			return
		}
		b, err := ParseLog(y)
		if err != nil {
			return
		}
		texts := [][]byte{[]byte("quiet"), x, y}
		a, b = a.WithContents(texts...), b.WithContents(texts...)
		ds := Diff(a, b)
		balance := make(map[int]int) // by PCR: how many more events are expected than there are
		for _, d := range ds {
			require.True(t, utf8.ValidString(d.String()))
			switch d.Kind() {
			case kindMissing:
				balance[d.PCR]++
			case kindExtra:
				balance[d.PCR]--
			}
		}
		for pcr := range PCRCount {
			if a.Registers == b.Registers && pcr != PCRIMA && a.Registers.extended(pcr) {
				require.Equal(t, len(a.of(pcr))-len(b.of(pcr)), balance[pcr], "PCR %d", pcr)
			}
		}
		causes := 0
		for _, d := range Causes(ds) {
			causes += 1 + len(d.Parts)
			_, err := d.MarshalJSON()
			require.NoError(t, err)
		}
		require.LessOrEqual(t, causes, len(ds))
		require.Equal(t, len(ds) > 0, causes > 0, "what differs has a cause")
		_, _ = a.Replay(crypto.SHA256)
	})
}

// FuzzParseQuote: attests and signatures: no panic, nil exactly with an error.
func FuzzParseQuote(f *testing.F) {
	attest := append([]byte{0xff, 'T', 'C', 'G', 0x80, 0x18, 0, 1, 9, 0, 1, 7}, make([]byte, 8+4+4+1+8)...)
	attest = append(attest, 0, 0, 0, 1, 0, 0x0b, 3, 0x91, 8, 0, 0, 32)
	f.Add(append(attest, make([]byte, 32)...))
	f.Add([]byte{0, 0x18, 0, 0x0b, 0, 1, 1, 0, 1, 1})
	f.Add([]byte{0, 0x14, 0, 0x0b, 0, 1, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := ParseQuote(raw)
		require.Equal(t, err != nil, q == nil)
		if q != nil {
			require.Error(t, q.Check(nil))
		}
		s, err := ParseTPMSignature(raw)
		require.Equal(t, err != nil, s == nil)
		if s != nil {
			require.Error(t, s.Verify(&testKey.PublicKey, raw))
		}
	})
}

// FuzzPayload: whatever an event's data are, they read or they do not.
func FuzzPayload(f *testing.F) {
	for _, raw := range foreignLogs(f) {
		log, err := ParseLog(raw)
		require.NoError(f, err)
		for _, e := range log.Events {
			f.Add(uint32(e.Type), e.Data)
		}
	}
	f.Fuzz(func(t *testing.T, typ uint32, data []byte) {
		e := Event{Type: EventType(typ), Data: data}
		p, err := e.Payload()
		require.Equal(t, err != nil, p == nil)
		require.True(t, utf8.ValidString(e.Describe()))
		if i, ok := p.(ImageLoad); ok {
			require.True(t, utf8.ValidString(i.Path.String()))
		}
		e.Attested()
	})
}

// FuzzParseUserspaceLog: no panic, nil exactly with an error.
func FuzzParseUserspaceLog(f *testing.F) {
	f.Add(read(f, "testdata/userspace/tpm2-measure.log"))
	f.Add(read(f, "testdata/mkosi/b2/tpm2-measure.log"))
	f.Add([]byte("\x1e{\"nv_index\":1}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, err := ParseUserspaceLog(raw)
		require.Equal(t, err != nil, u == nil)
		if u != nil {
			require.LessOrEqual(t, len(u.Events()), len(u.Records))
			for _, n := range u.NVPCRs() {
				require.NotNil(t, n.Words, "what a log has not is nothing")
				for _, b := range Banks() {
					value, err := n.Value(b, nil)
					require.Equal(t, err != nil, value == nil)
				}
			}
		}
	})
}

// FuzzPredictUserspace: an earlier log that says anything is an error, or a prediction that holds
// its records up to the moment and claims no PCR whose records are not known.
func FuzzPredictUserspace(f *testing.F) {
	f.Add(read(f, "testdata/userspace/tpm2-measure.log"), uint8(2), "nvpcr-separator")
	f.Add(read(f, "testdata/mkosi/b2/tpm2-measure.log"), uint8(9), "")
	base := mkosiBoot(f, "b1", "b2")
	f.Fuzz(func(t *testing.T, raw []byte, phases uint8, until string) {
		u, err := ParseUserspaceLog(raw)
		if err != nil {
			return
		}
		if until != "" {
			if u, err = u.Until(until); err != nil {
				return
			}
			require.Equal(t, until, u.Records[len(u.Records)-1].Word)
		}
		b := base
		b.Phases = u.Phases()[:min(int(phases), len(u.Phases()))]
		b.Userspace = &Userspace{Earlier: u, NVWords: map[string][]Word{"verity": nil}}
		nvpcrs, nvErr := b.NVPCRs()
		log, err := Predict(b)
		require.Equal(t, err != nil, log == nil)
		if err != nil {
			return
		}
		require.NoError(t, nvErr)
		for _, n := range nvpcrs {
			_, _ = n.Value(crypto.SHA256, nil)
		}
		require.LessOrEqual(t, log.userspace, len(u.Events()))
		require.True(t, slices.Equal(b.Phases, phasesOf(log)))
		_, err = log.Values(crypto.SHA256)
		require.NoError(t, err)
	})
}

// phasesOf are the words that userspace measures into PCR 11.
func phasesOf(l *Log) []string {
	var out []string
	for _, e := range l.Events[len(l.Events)-l.userspace:] {
		if e.PCR == PCRKernel {
			out = append(out, string(e.Data))
		}
	}
	return out
}

// FuzzParseFinalEvents: no panic, nil exactly with an error.
func FuzzParseFinalEvents(f *testing.F) {
	log, err := ParseLog(header(0xb, 32))
	require.NoError(f, err)
	f.Add([]byte(logBytes{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}.event(5, 5, 'x')))
	f.Fuzz(func(t *testing.T, raw []byte) {
		events, _, err := ParseFinalEvents(raw, log)
		if err == nil {
			_, err = log.WithFinalEvents(events).MarshalBinary()
			require.NoError(t, err)
		}
	})
}

// FuzzParsePrediction: what is read as a prediction is written as one, and read again as the same.
func FuzzParsePrediction(f *testing.F) {
	f.Add(read(f, "testdata/compat/v0/prediction.bin"))
	f.Add(read(f, "testdata/compat/v0/predicted.bin"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParsePrediction(data)
		if err != nil {
			return
		}
		require.NotNil(t, l.Coverage)
		raw, err := l.MarshalPrediction()
		if err != nil {
			return // it holds events that no log of these banks can hold
		}
		again, err := ParsePrediction(raw)
		require.NoError(t, err)
		require.Equal(t, l.Coverage, again.Coverage)
		require.Len(t, again.Events, len(l.Events))
		_, err = Compare(l, again)
		require.NoError(t, err)
	})
}
