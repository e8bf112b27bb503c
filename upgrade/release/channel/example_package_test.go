package channel_test

import (
	"fmt"
	"log"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

// The days of a version: the vendor offers it to one machine of twenty, then to all, and withdraws
// it. Each day has a document that follows the last one, and a machine that runs version 4 asks
// what to install. ExampleFetch has the signatures.
func Example() {
	today := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	last := &channel.Document{Product: "acme", Channel: "stable", Sequence: 1, ValidUntil: today.AddDate(0, 0, 14)}
	if err := last.Publish("4", digest.FromString("release 4"), channel.Cohorts); err != nil {
		log.Fatal(err)
	}
	days := []func(d *channel.Document) error{
		func(d *channel.Document) error { return d.Publish("5", digest.FromString("release 5"), 50) },
		func(d *channel.Document) error { return d.Promote("5", channel.Cohorts) },
		func(d *channel.Document) error { return d.Withdraw("5", "it loses the network") },
	}

	var state channel.State // the machine keeps it on its disk
	var documents [][]byte
	for _, change := range days {
		today = today.AddDate(0, 0, 1)
		next := last.Next(today.AddDate(0, 0, 14))
		if err := change(next); err != nil {
			log.Fatal(err)
		}
		text, err := next.Marshal()
		if err != nil {
			log.Fatal(err)
		}
		last, documents = next, append(documents, text)

		var accepted *channel.Document
		accepted, state, err = channel.Accept(text, channel.Request{Product: "acme", Channel: "stable", Now: today, State: state})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(accepted.Choose(channel.Machine{ID: "0123456789abcdef0123456789abcdef", Running: "4"}))
	}

	// The document of the second day still offers version 5. A mirror cannot pass it off as the
	// newest.
	_, _, err := channel.Accept(documents[1], channel.Request{Product: "acme", Channel: "stable", Now: today, State: state})
	fmt.Println(err)
	// Output:
	// nothing to install: version 4 runs
	// version 5 is not yet offered to this machine: the machine is in cohort 581, and only the first 50 of 1000 have it
	// version 5
	// nothing to install: version 4 runs
	// version 5 was withdrawn: it loses the network
	// channel: document 3 is older than document 4, which was already accepted
}
