package channel_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

// A vendor publishes a version to five percent of the machines, and a machine asks what it is to
// install.
func ExampleFetch() {
	ctx, store := context.Background(), new(cosign.Memory) // or a layout, or a registry
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	first := &channel.Document{Product: "acme", Channel: "stable", Sequence: 1, ValidUntil: now.AddDate(0, 0, 14)}
	if err := first.Publish("4", digest.FromString("release 4"), channel.Cohorts); err != nil {
		log.Fatal(err)
	}
	second := first.Next(now.AddDate(0, 0, 14))
	if err := second.Publish("5", digest.FromString("release 5"), 50); err != nil {
		log.Fatal(err)
	}
	artifact, err := channel.Write(store, "stable", second)
	if err != nil {
		log.Fatal(err)
	}
	if err := cosign.Sign(ctx, store, artifact, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}

	var state channel.State // of a machine that asks for the first time
	source := layoutSource{store, cosign.Policy{Keys: []crypto.PublicKey{key.Public()}}}
	document, state, err := channel.Fetch(ctx, source, channel.Request{Product: "acme", Channel: "stable", Now: now, State: state})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("document", state.Sequence)
	fmt.Println(document.Choose(channel.Machine{ID: "0123456789abcdef0123456789abcdef", Running: "3"}))

	// A mirror that keeps showing an old document is found out.
	_, _, err = channel.Fetch(ctx, source, channel.Request{Product: "acme", Channel: "stable", Now: now.AddDate(0, 1, 0), State: state})
	fmt.Println(err)
	// Output:
	// document 2
	// version 4
	// version 5 is not yet offered to this machine: the machine is in cohort 581, and only the first 50 of 1000 have it
	// channel: document 2 was valid until 2026-06-15T12:00:00Z, and it is 2026-07-01T12:00:00Z
}

// A layoutSource verifies what a tag names.
type layoutSource struct {
	layout *cosign.Memory
	policy cosign.Policy
}

func (s layoutSource) Document(ctx context.Context, name string, signers json.RawMessage) ([]byte, error) {
	policy := s.policy
	if signers != nil {
		// what an accepted document says counts more than what the machine came with
		rules, err := cosign.ParseRules(signers, nil)
		if err != nil {
			return nil, err
		}
		if policy, err = rules.For(name); err != nil {
			return nil, err
		}
	}
	artifact, err := s.layout.Resolve(name) // a hint, and nothing more
	if err != nil {
		return nil, err
	}
	verified, err := cosign.Verify(ctx, s.layout, artifact, policy)
	if err != nil {
		return nil, err
	}
	return channel.Read(ctx, s.layout, verified.Subject)
}

// Machines that have a withdrawn version are told to leave it, even for an older one.
func ExampleDocument_Withdraw() {
	d := channel.Document{Product: "acme", Channel: "stable", Sequence: 7, ValidUntil: time.Unix(1_780_000_000, 0).UTC()}
	for _, version := range []string{"4", "5"} {
		if err := d.Publish(version, digest.FromString("release "+version), channel.Cohorts); err != nil {
			log.Fatal(err)
		}
	}
	if err := d.Withdraw("5", "eats disks"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Choose(channel.Machine{ID: "m", Running: "5"}))
	fmt.Println(d.Promote("5", channel.Cohorts))
	// Output:
	// version 4
	// what runs: version 5 was withdrawn: eats disks
	// channel: version 5: withdrawn, which is final: publish the content under a new version
}
