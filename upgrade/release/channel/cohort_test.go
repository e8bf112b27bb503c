package channel_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

// The values are frozen: a machine that changes its cohort would lose what it was offered. They
// were computed with printf 'osmith.channel/1\0acme\0stable\0005\0' | openssl dgst -sha256 -mac
// HMAC -macopt key:ID
func TestCohortVectors(t *testing.T) {
	for id, want := range map[string]int{"": 87, "0123456789abcdef0123456789abcdef": 581} {
		assert.Equal(t, want, channel.Cohort("acme", "stable", "5", id), id)
	}
}

// Every cohort has its share of the machines, within what chance allows, and another share of them
// for another version or channel.
func TestCohortsAreEven(t *testing.T) {
	const machines = 200_000
	count := make([]int, channel.Cohorts)
	same := 0
	for i := range machines {
		id := fmt.Sprintf("%032x", i)
		n := channel.Cohort("acme", "stable", "5", id)
		count[n]++
		if n/100 == channel.Cohort("acme", "stable", "6", id)/100 {
			same++
		}
	}
	for n, have := range count {
		// seven standard deviations
		assert.InDelta(t, machines/channel.Cohorts, have, 100, "cohort %d", n)
	}
	assert.InDelta(t, machines/10, same, 2000, "machines that are in the same tenth twice")
	assert.NotEqual(t, channel.Cohort("acme", "stable", "5", "x"), channel.Cohort("acme", "beta", "5", "x"))
	assert.NotEqual(t, channel.Cohort("acme", "stable", "5", "x"), channel.Cohort("other", "stable", "5", "x"))
}
