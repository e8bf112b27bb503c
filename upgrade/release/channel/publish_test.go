package channel_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

// The life of a channel, each step of which is a document that parses.
func TestPublish(t *testing.T) {
	d := document(1, "1.9")
	step := func(edit func(d *channel.Document) error) {
		t.Helper()
		next := d.Next(now.AddDate(0, 1, 0).Add(time.Millisecond))
		require.NoError(t, edit(next))
		b := text(t, next)
		again, err := channel.Parse(b)
		require.NoError(t, err)
		assert.Equal(t, d.Sequence+1, again.Sequence)
		_, _, err = channel.Accept(b, request(accepted(t, d)))
		require.NoError(t, err)
		d = next
	}
	d.Trust(json.RawMessage(`{"keys":[]}`))
	before := text(t, d)
	first := d
	step(func(d *channel.Document) error { return d.Publish("1.10", digestOf("1.10"), 0) })
	assert.Equal(t, "1.10", d.Releases[0].Version, "the newest first, by the numbers in it")
	assert.Equal(t, before, text(t, first), "what was published is not changed")
	step(func(d *channel.Document) error { copy(d.Signers, `{"KEYS"`); return nil })
	assert.Equal(t, before, text(t, first), "what was published is not changed")
	step(func(d *channel.Document) error { return d.Promote("1.10", 10) })
	step(func(d *channel.Document) error { return d.Hold("1.10", "a report") })
	step(func(d *channel.Document) error { return d.Promote("1.10", 10) })
	assert.Equal(t, channel.Release{Version: "1.10", Digest: digestOf("1.10"), Offered: 10, Status: channel.StatusOffered}, d.Releases[0])
	step(func(d *channel.Document) error { return d.Promote("1.10", 1000) })
	step(func(d *channel.Document) error { return d.Publish("1.11", digestOf("1.11"), 5) })
	step(func(d *channel.Document) error { return d.Withdraw("1.11", "eats disks") })
	step(func(d *channel.Document) error { return d.Publish("1.12", digestOf("1.12"), 5) })
	step(func(d *channel.Document) error { return d.Raise("1.9") })
	forgotten, err := d.Prune(2)
	require.NoError(t, err)
	require.Len(t, forgotten, 1)
	assert.Equal(t, "1.9", forgotten[0].Version)
	assert.NotNil(t, d.Release("1.11"), "machines may run what was withdrawn")
	step(func(d *channel.Document) error { return d.Raise("1.12") })
	_, err = d.Prune(5)
	require.NoError(t, err)
	assert.Len(t, d.Releases, 1)

	var edit *channel.EditError
	for want, err := range map[string]error{
		"version 1.12: the channel has it already, as sha256:":            d.Publish("1.12", digestOf("x"), 1),
		"version 1.012: the channel has it already, as sha256:":           d.Publish("1.012", digestOf("x"), 1),
		"already, as version 1.12":                                        d.Publish("1.13", digestOf("1.12"), 1),
		"version 1.1: version 1.1 is older than the channel's floor 1.12": d.Publish("1.1", digestOf("x"), 1),
		"version 2: offered to 1001 cohorts, want 0 to 1000":              d.Publish("2", digestOf("x"), 1001),
		"version 2: digest \"x\", want sha256:HEX":                        d.Publish("2", "x", 1),
		"version 2/: version: character":                                  d.Publish("2/", digestOf("x"), 1),
		"version 2: the channel does not have it":                         d.Promote("2", 1),
		"version 3: the channel does not have it":                         d.Hold("3", ""),
		"version 4: the channel does not have it":                         d.Withdraw("4", ""),
		"version 1.12: offered to 5 cohorts: offering it to only 4 does not remove it from machines that have it: hold it instead": d.Promote("1.12", 4),
		"version 1.12: offered to 1001 cohorts, want at most 1000":                                                                 d.Promote("1.12", 1001),
		"version 1.12: the reason must be a line":                                                                                  d.Hold("1.12", "\x1b"),
		"version 1.11: version 1.11 is older than the channel's floor 1.12":                                                        d.Raise("1.11"),
	} {
		require.ErrorAs(t, err, &edit, want)
		assert.ErrorContains(t, err, want)
	}
	require.NoError(t, d.Withdraw("1.12", ""))
	for _, err := range []error{d.Promote("1.12", 1000), d.Hold("1.12", ""), d.Withdraw("1.12", "")} {
		assert.ErrorIs(t, err, channel.ErrWithdrawn)
	}
	assert.Equal(t, channel.StatusWithdrawn, d.Releases[0].Status)
	_, err = d.Prune(0)
	assert.ErrorContains(t, err, "channel: prune: 0 releases to keep")
}
