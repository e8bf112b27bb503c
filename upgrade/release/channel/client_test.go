package channel_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

func request(s channel.State) channel.Request {
	return channel.Request{Product: "acme", Channel: "stable", Now: now, State: s}
}

// accepted is the state after a document.
func accepted(t *testing.T, d *channel.Document) channel.State {
	t.Helper()
	_, s, err := channel.Accept(text(t, d), request(channel.State{}))
	require.NoError(t, err)
	return s
}

// Every reason for which an authentic document is not accepted.
func TestAccept(t *testing.T) {
	five := document(5, "5", "4")
	state := accepted(t, five)
	assert.Equal(t, channel.State{Product: "acme", Channel: "stable", Sequence: 5, Digest: state.Digest}, state)
	with := func(change func(d *channel.Document)) []byte {
		d := five.Next(five.ValidUntil)
		change(d)
		return text(t, d)
	}
	same := text(t, five)
	twin := document(5, "6", "5")
	for name, tt := range map[string]struct {
		b    []byte
		r    channel.Request
		want error // nil: accepted
	}{
		"first":              {same, request(channel.State{}), nil},
		"the same again":     {same, request(state), nil},
		"newer":              {with(func(*channel.Document) {}), request(state), nil},
		"much newer":         {with(func(d *channel.Document) { d.Sequence = 1 << 40 }), request(state), nil},
		"last second":        {same, channel.Request{Product: "acme", Channel: "stable", Now: five.ValidUntil.Add(999 * time.Millisecond)}, nil},
		"rollback":           {text(t, document(4, "4")), request(state), &channel.OlderError{Sequence: 4, Accepted: 5}},
		"two documents":      {text(t, twin), request(state), channel.ErrTwoDocuments},
		"freeze":             {same, channel.Request{Product: "acme", Channel: "stable", Now: five.ValidUntil.Add(time.Second), State: state}, &channel.ExpiredError{Sequence: 5, ValidUntil: five.ValidUntil, Now: five.ValidUntil.Add(time.Second)}},
		"no clock":           {same, channel.Request{Product: "acme", Channel: "stable"}, channel.ErrNoTime},
		"product":            {with(func(d *channel.Document) { d.Product = "other" }), request(state), &channel.OtherError{What: "product", Want: "acme", Got: "other"}},
		"variant":            {with(func(d *channel.Document) { d.Variant = "debug" }), request(state), &channel.OtherError{What: "variant", Want: "", Got: "debug"}},
		"channel":            {with(func(d *channel.Document) { d.Channel = "nightly" }), request(state), &channel.OtherError{What: "channel", Want: "stable", Got: "nightly"}},
		"state of another":   {same, request(channel.State{Product: "acme", Channel: "beta", Sequence: 1, Digest: state.Digest}), &channel.OtherError{What: "channel of the state", Want: "stable", Got: "beta"}},
		"state of a variant": {same, request(channel.State{Product: "acme", Variant: "debug", Channel: "stable", Sequence: 1, Digest: state.Digest}), &channel.OtherError{What: "variant of the state", Want: "", Got: "debug"}},
		"state of a product": {same, request(channel.State{Product: "x", Channel: "stable", Sequence: 1, Digest: state.Digest}), &channel.OtherError{What: "product of the state", Want: "acme", Got: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, s, err := channel.Accept(tt.b, tt.r)
			if tt.want == nil {
				require.NoError(t, err)
				assert.Equal(t, d.Sequence, s.Sequence)
				return
			}
			require.Error(t, err)
			assert.Nil(t, d)
			assert.Zero(t, s)
			if errors.Is(err, tt.want) {
				return
			}
			assert.EqualError(t, errors.Unwrap(err), tt.want.Error())
			assert.IsType(t, tt.want, errors.Unwrap(err))
		})
	}
	_, _, err := channel.Accept([]byte("{}"), request(state))
	assert.ErrorContains(t, err, `channel: schema: "", want`)
}

// What is kept is read as it was written, and what is damaged is no state of a machine that knows
// nothing.
func TestState(t *testing.T) {
	d := document(5, "5")
	d.Trust(json.RawMessage(`{"keys":["a"]}`))
	state := accepted(t, d)
	b, err := state.MarshalJSON()
	require.NoError(t, err)
	again, err := channel.ParseState(b)
	require.NoError(t, err)
	assert.Equal(t, state, again)
	for want, text := range map[string]string{
		"JSON":               "",
		`state: schema: ""`:  `{}`,
		"state: sequence: 0": `{"schema":"osmith.channel-state/1"}`,
		"state: digest: ":    `{"schema":"osmith.channel-state/1","sequence":1}`,
		"unknown":            `{"schema":"osmith.channel-state/1","unknown":1}`,
	} {
		_, err := channel.ParseState([]byte(text))
		assert.ErrorContains(t, err, want)
	}
}

// Whom a document names has to sign from then on, also when a later document says nothing about it.
func TestSigners(t *testing.T) {
	first := document(1, "1")
	state := accepted(t, first)
	assert.Nil(t, state.Signers)
	second := first.Next(first.ValidUntil)
	second.Trust(json.RawMessage(`{"keys":["new"]}`))
	src := &fake{document: text(t, second)}
	_, state, err := channel.Fetch(t.Context(), src, request(state))
	require.NoError(t, err)
	assert.Nil(t, src.signers, "the second is still signed by those who were to sign the first")
	third := second.Next(second.ValidUntil)
	third.Trust(nil)
	src.document = text(t, third)
	_, state, err = channel.Fetch(t.Context(), src, request(state))
	require.NoError(t, err)
	assert.Equal(t, json.RawMessage(`{"keys":["new"]}`), src.signers)
	assert.Equal(t, src.signers, state.Signers)

	src.err = errors.New("not signed")
	d, s, err := channel.Fetch(t.Context(), src, request(state))
	require.ErrorIs(t, err, src.err)
	assert.Nil(t, d)
	assert.Zero(t, s)
}

type fake struct {
	document []byte
	signers  json.RawMessage
	err      error
}

func (f *fake) Document(_ context.Context, channel string, signers json.RawMessage) ([]byte, error) {
	f.signers = signers
	return f.document, f.err
}

// machineIn finds a machine whose cohort for version 5 is in a range.
func machineIn(t *testing.T, least, most int) string {
	t.Helper()
	for i := range 100_000 {
		id := string(rune('a'+i%26)) + time.Duration(i).String()
		if n := channel.Cohort("acme", "stable", "5", id); n >= least && n <= most {
			return id
		}
	}
	t.Fatal("no such machine")
	return ""
}

func TestChoose(t *testing.T) {
	d := document(1, "5", "4", "3", "2")
	d.Releases[0].Offered = 50
	early, late := machineIn(t, 49, 49), machineIn(t, 50, 50)
	change := func(f func(d *channel.Document)) *channel.Document {
		next := d.Next(d.ValidUntil)
		f(next)
		return next
	}
	withdrawn := change(func(d *channel.Document) { require.NoError(t, d.Withdraw("5", "eats disks")) })
	both := change(func(d *channel.Document) {
		require.NoError(t, d.Withdraw("5", ""))
		require.NoError(t, d.Withdraw("4", "too"))
	})
	held := change(func(d *channel.Document) { require.NoError(t, d.Hold("5", "a report")) })
	floor := change(func(d *channel.Document) { require.NoError(t, d.Withdraw("5", "")); require.NoError(t, d.Raise("4.5")) })
	for name, tt := range map[string]struct {
		d         *channel.Document
		m         channel.Machine
		want      string // version
		passed    error  // of the first that was passed over
		leave     bool
		downgrade bool
	}{
		"in the cohort":           {d, channel.Machine{ID: early, Running: "4"}, "5", nil, false, false},
		"not yet":                 {d, channel.Machine{ID: late, Running: "4"}, "", &channel.NotYetError{Version: "5", Cohort: 50, Offered: 50}, false, false},
		"not yet, but newer":      {d, channel.Machine{ID: late, Running: "3"}, "4", &channel.NotYetError{Version: "5", Cohort: 50, Offered: 50}, false, false},
		"who am I":                {d, channel.Machine{Running: "3"}, "4", &channel.NotYetError{Version: "5", Cohort: -1, Offered: 50}, false, false},
		"nothing newer":           {d, channel.Machine{ID: early, Running: "5"}, "", nil, false, false},
		"newer than all":          {d, channel.Machine{ID: early, Running: "6"}, "", nil, false, false},
		"fresh":                   {d, channel.Machine{ID: early}, "5", nil, false, false},
		"fresh and late":          {d, channel.Machine{ID: late}, "4", &channel.NotYetError{Version: "5", Cohort: 50, Offered: 50}, false, false},
		"withdrawn, not yet on":   {withdrawn, channel.Machine{ID: early, Running: "4"}, "", &channel.WithdrawnError{Version: "5", Reason: "eats disks"}, false, false},
		"withdrawn, runs":         {withdrawn, channel.Machine{ID: early, Running: "5"}, "4", nil, true, true},
		"both withdrawn":          {both, channel.Machine{ID: early, Running: "5"}, "3", &channel.WithdrawnError{Version: "4", Reason: "too"}, true, true},
		"one back up":             {both, channel.Machine{ID: early, Running: "4"}, "3", &channel.WithdrawnError{Version: "5"}, true, true},
		"held":                    {held, channel.Machine{ID: early, Running: "4"}, "", &channel.HeldError{Version: "5", Reason: "a report"}, false, false},
		"held, runs":              {held, channel.Machine{ID: early, Running: "5"}, "", nil, false, false},
		"nothing above the floor": {floor, channel.Machine{ID: early, Running: "5"}, "", &channel.FloorError{Version: "4", Floor: "4.5"}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := tt.d.Choose(tt.m)
			got := ""
			if c.Release != nil {
				got = c.Release.Version
				assert.Equal(t, digestOf(got), c.Release.Digest)
			}
			assert.Equal(t, tt.want, got)
			if tt.passed == nil {
				assert.Empty(t, c.Passed)
			} else {
				require.NotEmpty(t, c.Passed)
				assert.Equal(t, tt.passed, c.Passed[0].Err)
				assert.Contains(t, c.String(), tt.passed.Error())
			}
			assert.Equal(t, tt.leave, c.Leave != nil)
			assert.Equal(t, tt.downgrade, c.Downgrade())
			if tt.want == "" && (tt.passed != nil || tt.leave) {
				assert.Error(t, c.Err())
			} else {
				assert.NoError(t, c.Err())
			}
		})
	}
	assert.Equal(t, "nothing to install: version 4 runs\nversion 5 is not yet offered to this machine: the machine is in cohort 50, and only the first 50 of 1000 have it",
		d.Choose(channel.Machine{ID: late, Running: "4"}).String())
}
