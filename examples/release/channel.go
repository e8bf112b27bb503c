package main

import (
	"cmp"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

const channelPlace = "LAYOUTDIR CHANNEL|REGISTRY/REPO:CHANNEL"

// channelVerbs are those of the vendor; a machine has pull -channel.
var channelVerbs = []cli.Verb{
	{Name: "channel publish", Usage: channelPlace + " REF -key F... -valid DURATION [-offered N] [-new -id ID]",
		Example: "release channel publish layout stable 5 -key channel.key -valid 336h -offered 50", Least: 2, Most: 3, Flags: publishFlags},
	{Name: "channel promote", Usage: channelPlace + " VERSION -key F... -valid DURATION [-offered N]",
		Example: "release channel promote layout stable 5 -key channel.key -valid 336h -offered 1000", Least: 2, Most: 3, Flags: promoteFlags},
	{Name: "channel support", Usage: channelPlace + " VERSION -supported-until DATE [-fixes LIST] -key F... -valid DURATION",
		Example: "release channel support layout stable 5 -supported-until 2033-12-31 -key channel.key -valid 336h", Least: 2, Most: 3, Flags: supportFlags},
	{Name: "channel hold", Usage: channelPlace + " VERSION -key F... -valid DURATION [-reason TEXT]",
		Example: "release channel hold layout stable 5 -key channel.key -valid 336h", Least: 2, Most: 3, Flags: stopFlags((*channel.Document).Hold)},
	{Name: "channel withdraw", Usage: channelPlace + " VERSION -key F... -valid DURATION [-reason TEXT]",
		Example: "release channel withdraw layout stable 5 -key channel.key -valid 336h -reason 'eats disks'", Least: 2, Most: 3, Flags: stopFlags((*channel.Document).Withdraw)},
	{Name: "channel prune", Usage: channelPlace + " -keep N -key F... -valid DURATION",
		Example: "release channel prune layout stable -keep 3 -key channel.key -valid 336h", Least: 1, Most: 2, Flags: pruneFlags},
	{Name: "channel join", Usage: channelPlace + " -draft DIGEST -public-key F -signature F",
		Example: "release channel join layout stable -draft sha256:HEX -public-key channel.pub -signature sig", Least: 1, Most: 2, Flags: joinFlags},
	{Name: "channel list", Usage: "LAYOUT CHANNEL|REGISTRY/REPO:CHANNEL -policy P.json|-key F...",
		Example: "release channel list layout stable -key channel.pub", Least: 1, Most: 2, Flags: listFlags},
}

// editing is what flags say about a document that follows the last one.
type editing struct {
	access          *access
	keys            cli.List // private
	public, message string
	trusted, next   cli.List
	floor, at       string
	valid           time.Duration
}

func editFlags(set *flag.FlagSet) *editing {
	e := &editing{access: accessFlags(set)}
	set.Var(&e.keys, "key", "`file` with a private key, PEM; may be repeated")
	set.StringVar(&e.public, "public-key", "", "`file` with the public key, if the private one is elsewhere: the document is prepared, and -to-sign has what is to be signed")
	set.StringVar(&e.message, "to-sign", "", "`file` for the message that is to be signed elsewhere, for channel join")
	set.Var(&e.trusted, "trust", "`file` with public keys that may have signed the last document, besides those that sign this one; may be repeated")
	set.Var(&e.next, "keys", "`file` with public keys, any of which must sign the documents that follow this one (default: as before); may be repeated")
	set.StringVar(&e.floor, "floor", "", "`version` below which nothing is installed any more")
	set.DurationVar(&e.valid, "valid", 0, "`duration` for which machines believe the new document, such as 336h")
	set.StringVar(&e.at, "at", "", "`time` from which -valid counts, such as 2026-01-31T00:00:00Z (default: now)")
	return e
}

// A channelAt is the last document of a channel, where it is, and what was said about the next one.
type channelAt struct {
	*editing
	operands []string
	place    *place
	store    cosign.Store
	name     string
	last     *channel.Document  // nil: there is none yet
	digest   digest.Digest      // of its artifact
	signers  []crypto.Signer    // of the next one
	keys     []crypto.PublicKey // whose signatures of documents and releases are believed here
}

// open verifies the last document: editing a document that an attacker could write would sign the
// attacker's content.
func (e *editing) open(c *cli.Call, operands []string, begin bool) (*channelAt, error) {
	at := &channelAt{editing: e, operands: operands}
	for _, name := range e.keys {
		signer, err := readSigner(name)
		if err != nil {
			return nil, err
		}
		at.signers, at.keys = append(at.signers, signer), append(at.keys, signer.Public())
	}
	names := e.trusted
	if e.public != "" {
		names = append(names, e.public)
	}
	more, err := readKeys(names)
	if err != nil {
		return nil, err
	}
	at.keys = append(at.keys, more...)
	if at.place, at.store, _, err = openStore(c, operands, e.access, ""); err != nil {
		return nil, err
	}
	at.name = at.place.name()
	if at.name == "" {
		return nil, cli.Usagef("%q: want the name of a channel, not a digest", at.place.ref)
	}
	d, err := at.place.resolve(c, at.name)
	switch missing := errors.Is(err, cosign.ErrNotFound) || errors.Is(err, fs.ErrNotExist); {
	case missing && begin:
		return at, nil
	case missing:
		return nil, fmt.Errorf("%w: is there a channel of this name? -new begins one", err)
	case err != nil:
		return nil, err
	case begin:
		return nil, cli.No{Err: fmt.Errorf("-new: %q is there already", at.name)}
	}
	verified, err := cosign.Verify(c, at.place, d, cosign.Policy{Keys: at.keys})
	if err != nil {
		return nil, fmt.Errorf("the last document: %w", err)
	}
	at.digest = d.Digest
	at.last, err = document(c, at.place, verified.Subject, at.name)
	return at, err
}

// document reads a document, which must be of the channel of a name unless that is empty.
func document(c *cli.Call, p *place, artifact ocispec.Descriptor, name string) (*channel.Document, error) {
	b, err := channel.Read(c, p, artifact)
	if err != nil {
		return nil, err
	}
	d, err := channel.Parse(b)
	if err == nil && name != "" && d.Channel != name {
		err = cli.No{Err: fmt.Errorf("the document that is called %q is of channel %q", name, d.Channel)}
	}
	return d, err
}

// next is the document that follows, with what all verbs can say about it.
func (at *channelAt) next() (*channel.Document, error) {
	from := time.Now()
	if at.at != "" {
		var err error
		if from, err = time.Parse(time.RFC3339, at.at); err != nil {
			return nil, cli.Usagef("-at: %v", err)
		}
	}
	last := at.last
	if last == nil {
		last = &channel.Document{Channel: at.name}
	}
	d := last.Next(from.Add(at.valid))
	if at.floor != "" {
		if err := d.Raise(at.floor); err != nil {
			return nil, cli.No{Err: err}
		}
	}
	if len(at.editing.next) > 0 {
		keys, err := readKeys(at.editing.next)
		if err != nil {
			return nil, err
		}
		rules := cosign.Rules{{Repository: "**", Policy: cosign.Policy{Authorities: []cosign.Authority{{Name: "channel", Keys: keys}}}}}
		signers, err := rules.MarshalJSON()
		if err != nil {
			return nil, err
		}
		d.Trust(signers)
	}
	return d, nil
}

// inForce is who must have signed the document that follows, as machines see it.
func (at *channelAt) inForce() (cosign.Policy, error) {
	if at.last == nil || at.last.Signers == nil {
		return cosign.Policy{Keys: at.keys}, nil
	}
	rules, err := cosign.ParseRules(at.last.Signers, nil)
	if err != nil {
		return cosign.Policy{}, fmt.Errorf("the signers that the last document names: %w", err)
	}
	return rules.For(at.place.repository)
}

// edit makes the next document, signs it or prepares that, and lets the channel's name stand for it
// when machines will believe it.
func (e *editing) edit(c *cli.Call, operands []string, begin bool, change func(at *channelAt, d *channel.Document) error) error {
	switch {
	case (len(e.keys) == 0) == (e.public == ""):
		return cli.Usagef("want either -key or -public-key")
	case (e.public == "") != (e.message == ""):
		return cli.Usagef("-public-key and -to-sign belong together")
	case e.valid <= 0:
		return cli.Usagef("-valid is missing: want how long the document is valid")
	}
	at, err := e.open(c, operands, begin)
	if err != nil {
		return err
	}
	d, err := at.next()
	if err != nil {
		return err
	}
	if err := change(at, d); err != nil {
		return err
	}
	// What machines would not believe is not left in the store, with good signatures.
	made := new(cosign.Memory)
	draft, err := channel.Write(made, "", d)
	if err != nil {
		return err
	}
	for _, signer := range at.signers {
		if err := cosign.Sign(c, made, draft, signer, cosign.SignOptions{}); err != nil {
			return err
		}
	}
	if e.public == "" {
		if err := at.believed(c, made, draft); err != nil {
			return err
		}
	}
	if draft, err = channel.Write(at.store, "", d); err != nil {
		return err
	}
	r := newChannelResult(c, d, draft.Digest)
	if at.last != nil {
		r.forget(at.last, d)
	}
	if e.public != "" {
		key, err := readKeys([]string{e.public})
		if err != nil {
			return err
		}
		prepared, err := cosign.Prepare(draft, key[0], cosign.FormatBundle, cosign.SignOptions{})
		if err != nil {
			return err
		}
		if err := cli.WriteFile(e.message, prepared.Message()); err != nil {
			return err
		}
		return c.Answer(r, r.text()+"not published yet: sign "+e.message+" and join the signature\n")
	}
	if _, err := cosign.CopySignatures(c, at.store, made, draft); err != nil {
		return err
	}
	if err := at.publish(c, d, draft); err != nil {
		return err
	}
	r.Published = true
	return c.Answer(r, r.text())
}

// believed reports whether machines that have accepted the last document will accept a new one's
// signatures.
func (at *channelAt) believed(c *cli.Call, src cosign.ArtifactSource, draft ocispec.Descriptor) error {
	policy, err := at.inForce()
	if err != nil {
		return err
	}
	policy.At = time.Now()
	if _, err := cosign.Verify(c, src, draft, policy); err != nil {
		return fmt.Errorf("machines would not believe the new document: %w", err)
	}
	return nil
}

// publish moves the channel's name to a document, if machines will accept it and no other document
// was published meanwhile.
func (at *channelAt) publish(c *cli.Call, d *channel.Document, draft ocispec.Descriptor) error {
	if err := at.believed(c, at.store, draft); err != nil {
		return err
	}
	// A directory that was opened earlier does not show what others have written to it since.
	place, _, _, err := openStore(c, at.operands, at.access, "")
	if err != nil {
		return err
	}
	now, err := place.resolve(c, at.name)
	switch missing := errors.Is(err, cosign.ErrNotFound) || errors.Is(err, fs.ErrNotExist); {
	case err != nil && !missing:
		return err
	case missing && at.digest != "", !missing && now.Digest != at.digest:
		return cli.No{Err: fmt.Errorf("%q was published by a different release process meanwhile: start again", at.name)}
	}
	written, err := channel.Write(at.store, at.name, d)
	if err == nil && written.Digest != draft.Digest {
		err = fmt.Errorf("the store wrote the document as %s, and %s was signed", written.Digest, draft.Digest)
	}
	return err
}

func publishFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	e, by := editFlags(set), new(cli.List)
	set.Var(by, "release-key", "`file` with public keys, one of which must have signed the release (default: those that sign the document); may be repeated")
	offered := set.Int("offered", channel.Cohorts, "`number` of the 1000 cohorts of machines that may install it")
	begin := set.Bool("new", false, "begin the channel, which there must not be yet")
	stated := new(support)
	stated.flags(set, "what the release says")
	id := set.String("id", "", "`name` of the system that the channel is for (default, with -new: that of the release)")
	return func(c *cli.Call, operands []string) error {
		at, ref := operands[:len(operands)-1], operands[len(operands)-1]
		return e.edit(c, at, *begin, func(at *channelAt, d *channel.Document) error {
			a, subject, err := at.released(c, ref, *by)
			if err != nil {
				return err
			}
			if at.last == nil {
				d.Product, d.Variant = a.ID, a.Variant
			}
			if *id != "" && d.Product != *id {
				return cli.No{Err: fmt.Errorf("-id %s: the channel is for %s", *id, shown(d.Product))}
			}
			if a.ID != d.Product || a.Variant != d.Variant {
				return cli.No{Err: fmt.Errorf("the channel is for %q %q, and the release is of %q %q", d.Product, d.Variant, a.ID, a.Variant)}
			}
			if err := d.Publish(a.Version, subject.Digest, *offered); err != nil {
				return no(err)
			}
			return no(d.Support(a.Version, cmp.Or(stated.until, a.SupportedUntil), slices.Concat(stated.fixes, without(a.Fixes, stated.fixes))))
		})
	}
}

// released verifies the release that is to be published, unless it is named by its digest, and
// reads what it is: of an index, all of it.
func (at *channelAt) released(c *cli.Call, ref string, by cli.List) (*release.Artifact, ocispec.Descriptor, error) {
	subject, err := at.place.resolve(c, ref)
	if err != nil {
		return nil, subject, err
	}
	keys := at.keys
	if len(by) > 0 {
		if keys, err = readKeys(by); err != nil {
			return nil, subject, err
		}
	}
	name := ref
	if strings.Contains(ref, ":") {
		name = "" // a digest names one release
	}
	if name != "" || len(by) > 0 {
		if _, err := cosign.Verify(c, at.place, subject, cosign.Policy{Keys: keys}); err != nil {
			return nil, subject, fmt.Errorf("the release (-release-key): %w", err)
		}
	}
	var index ocispec.Index
	if err := readDocument(c, at.place, subject, &index); err != nil {
		return nil, subject, err
	}
	all, err := releasesOf(subject, &index)
	if err != nil {
		return nil, subject, err
	}
	var first *release.Artifact
	for _, m := range all {
		a, err := release.Read(c, at.place, m)
		if err != nil {
			return nil, subject, err
		}
		if first == nil {
			first = a
		}
		want := release.Wanted{ID: first.ID, Variant: first.Variant, Version: first.Version, Name: name}
		if m.Platform != nil {
			want.Architecture = m.Platform.Architecture
		}
		if err := a.Matches(want); err != nil {
			return nil, subject, err
		}
		// The channel states of a version what holds on all architectures.
		first.SupportedUntil = min(first.SupportedUntil, a.SupportedUntil)
		first.Fixes = without(first.Fixes, without(first.Fixes, a.Fixes))
	}
	return first, subject, nil
}

// no makes an answer of an error about a document.
func no(err error) error {
	if is[*channel.EditError](err) {
		return cli.No{Err: err}
	}
	return err
}

func promoteFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	e := editFlags(set)
	offered := set.Int("offered", channel.Cohorts, "`number` of the 1000 cohorts of machines that may install it")
	return func(c *cli.Call, operands []string) error {
		n := len(operands) - 1
		return e.edit(c, operands[:n], false, func(_ *channelAt, d *channel.Document) error { return no(d.Promote(operands[n], *offered)) })
	}
}

// without is a list without what another has.
func without(list, other []string) (rest []string) {
	for _, s := range list {
		if !slices.Contains(other, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

func supportFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	e, stated := editFlags(set), new(support)
	stated.flags(set, "as before")
	return func(c *cli.Call, operands []string) error {
		if stated.until == "" && stated.fixes == nil {
			return cli.Usagef("want -supported-until or -fixes")
		}
		n := len(operands) - 1
		return e.edit(c, operands[:n], false, func(_ *channelAt, d *channel.Document) error {
			until, fixes := stated.until, stated.fixes
			if have := d.Release(operands[n]); have != nil {
				until, fixes = cmp.Or(until, have.SupportedUntil), slices.Concat(have.Fixes, without(fixes, have.Fixes))
			}
			return no(d.Support(operands[n], until, fixes))
		})
	}
}

func stopFlags(stop func(d *channel.Document, version, reason string) error) func(set *flag.FlagSet) func(*cli.Call, []string) error {
	return func(set *flag.FlagSet) func(*cli.Call, []string) error {
		e := editFlags(set)
		reason := set.String("reason", "", "`text` that machines say about it")
		return func(c *cli.Call, operands []string) error {
			n := len(operands) - 1
			return e.edit(c, operands[:n], false, func(_ *channelAt, d *channel.Document) error { return no(stop(d, operands[n], *reason)) })
		}
	}
}

func pruneFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	e := editFlags(set)
	keep := set.Int("keep", 0, "`number` of releases that stay, the newest; those that were withdrawn are not counted and stay, all below the floor go")
	return func(c *cli.Call, operands []string) error {
		if *keep < 1 {
			return cli.Usagef("-keep is missing")
		}
		return e.edit(c, operands, false, func(_ *channelAt, d *channel.Document) error {
			_, err := d.Prune(*keep)
			return err
		})
	}
}

func joinFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	e := &editing{access: accessFlags(set)}
	set.StringVar(&e.public, "public-key", "", "`file` with the public key")
	set.Var(&e.trusted, "trust", "`file` with public keys that may have signed the last document, besides; may be repeated")
	draft := set.String("draft", "", "`digest` of the document that was prepared")
	signature := set.String("signature", "", "`file` with the signature: raw, as openssl writes it")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("draft", *draft, "public-key", e.public, "signature", *signature); err != nil {
			return err
		}
		return e.join(c, operands, *draft, *signature)
	}
}

// join adds a signature that was made elsewhere, and publishes the document if it is enough.
func (e *editing) join(c *cli.Call, operands []string, draft, signature string) error {
	sig, err := cli.ReadFile(signature, maxFile)
	if err != nil {
		return err
	}
	keys, err := readKeys([]string{e.public})
	if err != nil {
		return err
	}
	p, _, _, err := openStore(c, operands, e.access, "")
	if err != nil {
		return err
	}
	subject, err := p.resolve(c, draft)
	if err != nil {
		return err
	}
	d, err := document(c, p, subject, "")
	if err != nil {
		return err
	}
	at, err := e.open(c, operands, d.Sequence == 1)
	if err != nil {
		return err
	}
	if last := at.last; d.Channel != at.name || last != nil && (d.Sequence != last.Sequence+1 || d.Product != last.Product || d.Variant != last.Variant) {
		return cli.No{Err: fmt.Errorf("the document is number %d of channel %q, and does not follow what is there", d.Sequence, d.Channel)}
	}
	prepared, err := cosign.Prepare(subject, keys[0], cosign.FormatBundle, cosign.SignOptions{})
	if err != nil {
		return err
	}
	if err := prepared.Join(c, at.store, sig); err != nil {
		return cli.No{Err: err}
	}
	r := newChannelResult(c, d, subject.Digest)
	err = at.publish(c, d, subject)
	untrusted, missing := errors.AsType[*cosign.UntrustedError](err)
	if missing && len(untrusted.Signed) > 0 && len(untrusted.Signed) < untrusted.Want {
		return c.Answer(r, r.text()+fmt.Sprintf("not published yet: %d of %d have signed\n", len(untrusted.Signed), untrusted.Want))
	}
	if err != nil {
		return err
	}
	r.Published = true
	return c.Answer(r, r.text())
}

func listFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	trust, access := trustFlags(set), accessFlags(set)
	return func(c *cli.Call, operands []string) error {
		p, v, _, err := verify(c, operands, trust, access)
		if err != nil {
			return err
		}
		d, err := document(c, p, v.result.Subject, p.name())
		if err != nil {
			return err
		}
		r := newChannelResult(c, d, v.result.Subject.Digest)
		r.Published = true
		return c.Answer(r, r.text())
	}
}

func newChannelResult(c *cli.Call, d *channel.Document, artifact digest.Digest) *channelResult {
	r := &channelResult{Header: c.Header(), Digest: string(artifact), Product: d.Product, Variant: d.Variant, Channel: d.Channel, Sequence: d.Sequence,
		ValidUntil: d.ValidUntil.UTC().Format(time.RFC3339), Floor: d.Floor, Releases: []channelRelease{}}
	for _, e := range d.Releases {
		r.Releases = append(r.Releases, newChannelRelease(e))
	}
	return r
}

func newChannelRelease(e channel.Release) channelRelease {
	return channelRelease{e.Version, string(e.Digest), e.Offered, e.Status.String(), e.Reason, newSupported(e.SupportedUntil, e.Fixes)}
}

// forget lists the releases that the channel had, and has no more.
func (r *channelResult) forget(last, d *channel.Document) {
	for _, e := range last.Releases {
		if d.Release(e.Version) == nil {
			r.Forgotten = append(r.Forgotten, newChannelRelease(e))
		}
	}
}

func (r *channelResult) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s, document %d, until %s\n%s\n", strings.TrimSpace(r.Product+" "+r.Variant), r.Channel, r.Sequence, r.ValidUntil, r.Digest)
	if r.Floor != "" {
		fmt.Fprintf(&b, "  nothing below %s\n", r.Floor)
	}
	for _, e := range r.Releases {
		fmt.Fprintf(&b, "  %-12s %-9s %4d of 1000  %s\n", e.Version, e.Status, e.Offered, e.Digest)
		if e.Reason != "" {
			fmt.Fprintf(&b, "  %-12s %s\n", "", e.Reason)
		}
		for line := range strings.Lines(e.supported.text()) {
			fmt.Fprintf(&b, "  %-11s%s", "", line[1:])
		}
	}
	for _, e := range r.Forgotten {
		fmt.Fprintf(&b, "  %-12s forgotten               %s\n", e.Version, e.Digest)
	}
	return b.String()
}
