package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

// following is what flags of pull say about a channel.
type following struct {
	channel                   bool
	state, machineID, running string
}

func followFlags(set *flag.FlagSet) *following {
	f := new(following)
	set.BoolVar(&f.channel, "channel", false, "REF is the name of a channel: fetch what its document says is for this machine")
	set.StringVar(&f.state, "state", "", "`file` with what was accepted of the channel before, made if there is none; written before anything is fetched")
	set.StringVar(&f.machineID, "machine-id", "", "`file` with the machine's ID, such as /etc/machine-id (default: not known, so that nothing is offered that is not offered to all)")
	set.StringVar(&f.running, "running", "", "`version` that the machine runs (default: none)")
	return f
}

// A channelSource verifies documents of channels by what the flags say, or by what the last
// document has said.
type channelSource struct {
	place *place
	trust *trust

	policy   cosign.Policy // that held
	verified *verified
}

// Document implements channel.DocumentSource.
func (s *channelSource) Document(ctx context.Context, name string, signers json.RawMessage) ([]byte, error) {
	policy, err := s.trust.load(s.place.repository)
	if err != nil {
		return nil, err
	}
	if signers != nil {
		rules, err := cosign.ParseRules(signers, nil)
		if err != nil {
			// no answer about what is served
			return nil, fmt.Errorf("the signers of the state: %v", err)
		}
		named, err := rules.For(s.place.repository)
		if err != nil {
			return nil, err
		}
		named.At, named.Identities = cmp.Or(policy.At, time.Now()), policy.Identities
		policy = named
	}
	artifact, err := s.place.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	result, refused := cosign.Verify(ctx, s.place, artifact, policy)
	v, err := newVerification(artifact.Digest, result, refused)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, cli.No{Err: refused}
	}
	s.policy, s.verified = policy, &verified{*v, s.place, result}
	return channel.Read(ctx, s.place, result.Subject)
}

// pull accepts the document of a channel and fetches the release that is for this machine, by its
// digest.
func (f *following) pull(c *cli.Call, operands []string, p *pulling) error {
	if err := cli.Required("state", f.state, "id", p.wanted.ID); err != nil {
		return err
	}
	if p.wanted.Version != "" || p.wanted.anyVersion {
		return cli.Usagef("-channel says which version: not with -version or -accept-any-version")
	}
	from, err := openPlace(c, operands, p.access)
	if err != nil {
		return err
	}
	name := from.name()
	if name == "" {
		return cli.Usagef("%q: want the name of a channel, not a digest", from.ref)
	}
	request := channel.Request{Product: p.wanted.ID, Variant: p.wanted.Variant, Channel: name, Now: time.Now()}
	if p.trust.at != "" {
		if request.Now, err = time.Parse(time.RFC3339, p.trust.at); err != nil {
			return cli.Usagef("-at: %v", err)
		}
	}
	if request.State, err = f.read(); err != nil {
		return err
	}
	machine := channel.Machine{Running: f.running}
	if f.machineID != "" {
		text, err := cli.ReadFile(f.machineID, 4096)
		if err != nil {
			return err
		}
		if machine.ID = strings.TrimSpace(string(text)); machine.ID == "" || machine.ID == "uninitialized" {
			return cli.Usagef("-machine-id %s: it has no ID yet", f.machineID)
		}
	}
	src := &channelSource{place: from, trust: p.trust}
	document, state, err := channel.Fetch(c, src, request)
	if err != nil {
		return err
	}
	if err := f.keep(state); err != nil {
		return err
	}
	choice := document.Choose(machine)
	about := newChosen(choice, src.verified.result.Subject.Digest, document.Sequence)
	if choice.Release == nil {
		r := &pullResult{Header: c.Header(), Signatures: []signature{}, Channel: about}
		if err := choice.Err(); err != nil {
			return errors.Join(cli.No{Err: errors.New(choice.String())}, c.Answer(r, ""))
		}
		return c.Answer(r, choice.String()+"\n")
	}
	r, err := f.fetch(c, p, src, document, choice.Release)
	if err != nil {
		return err
	}
	r.Channel = about
	return c.Answer(r, r.text()+choice.String()+"\n")
}

// fetch fetches the release that a document names, which must be what the document says about it,
// with the proof.
func (f *following) fetch(c *cli.Call, p *pulling, src *channelSource, document *channel.Document, chosen *channel.Release) (*pullResult, error) {
	from := src.place
	subject, err := from.resolve(c, string(chosen.Digest))
	if err != nil {
		return nil, err
	}
	subject.Digest = chosen.Digest // whatever a server calls by this name
	architecture := cmp.Or(p.wanted.Architecture, runtime.GOARCH)
	d, err := release.Select(c, from, subject, architecture)
	if err != nil {
		return nil, err
	}
	rel, err := release.Read(c, from, d)
	if err != nil {
		return nil, err
	}
	want := release.Wanted{ID: document.Product, Variant: document.Variant, Version: chosen.Version, Architecture: p.wanted.Architecture}
	if rel.Architecture != "" {
		want.Architecture = architecture
	}
	if err := rel.Matches(want); err != nil {
		return nil, err
	}
	if rel.Variant != document.Variant {
		return nil, cli.No{Err: &release.WantedError{What: "variant", Want: document.Variant, Got: rel.Variant}}
	}
	r, err := p.fetch(c, from, subject, rel, release.PullOptions{Ref: chosen.Version, Wanted: want})
	if err != nil {
		return nil, err
	}
	r.Signatures = src.verified.Signatures
	return r, f.keepProof(c, src, document, subject.Digest, p.out)
}

// keepProof puts the document beside what was fetched, with its signatures, and those of the
// release that are by the same signers, if there are any: the document vouches for the release
// without them.
func (f *following) keepProof(c *cli.Call, src *channelSource, document *channel.Document, of digest.Digest, out string) error {
	store, err := cosign.OpenDir(out)
	if err != nil {
		return err
	}
	written, err := channel.Write(store, document.Channel, document)
	if err != nil {
		return err
	}
	if written.Digest == src.verified.result.Subject.Digest {
		if _, err := cosign.CopyVerified(c, store, src.place, src.verified.result); err != nil {
			return err
		}
	}
	kept, err := store.Resolve(string(of))
	if err != nil {
		return err
	}
	own, err := cosign.Verify(c, src.place, kept, src.policy)
	if err != nil {
		return c.Err()
	}
	_, err = cosign.CopyVerified(c, store, src.place, own)
	return err
}

// read returns what was accepted before.
func (f *following) read() (channel.State, error) {
	b, err := cli.ReadFile(f.state, 4<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return channel.State{}, nil
	}
	if err != nil {
		return channel.State{}, err
	}
	s, err := channel.ParseState(b)
	if err != nil {
		return s, fmt.Errorf("-state %s: %v", f.state, err) // no answer about what is served
	}
	return s, nil
}

// keep writes what was accepted, unless it is there already.
func (f *following) keep(s channel.State) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if have, err := os.ReadFile(f.state); err == nil && string(have) == string(b) {
		return nil
	}
	return cli.WriteFile(f.state, b)
}

func newChosen(c *channel.Choice, document digest.Digest, sequence int64) *chosen {
	about := &chosen{Document: string(document), Sequence: sequence, Downgrade: c.Downgrade(), Passed: []passed{}}
	if c.Release != nil {
		about.Version, about.supported = c.Release.Version, newSupported(c.Release.SupportedUntil, c.Release.Fixes)
	}
	if c.Leave != nil {
		about.Leave = c.Leave.Error()
	}
	for _, p := range c.Passed {
		about.Passed = append(about.Passed, passed{p.Version, p.Err.Error()})
	}
	return about
}
