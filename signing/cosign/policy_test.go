package cosign_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
)

func authority(name string, keys ...string) cosign.Authority {
	return cosign.Authority{Name: name, Keys: public(keys...)}
}

// Two of three must sign: one is not enough however often, two are.
func TestThreshold(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	policy := cosign.Policy{Threshold: 2, Authorities: []cosign.Authority{
		authority("build", "p256", "p384"), authority("release", "ed25519"), authority("board", "rsa"),
	}}
	for _, key := range []string{"p256", "p384", "p521"} {
		require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()[key], cosign.SignOptions{}))
	}
	_, err := cosign.Verify(ctx, dir, artifact, policy)
	var untrusted *cosign.UntrustedError
	require.ErrorAs(t, err, &untrusted)
	require.ErrorIs(t, err, cosign.ErrUntrusted)
	assert.Equal(t, []string{`authority "build"`}, untrusted.Signed)
	assert.Contains(t, err.Error(), string(artifact.Digest)+`: signed only by authority "build": want signatures of 2 of 3 authorities (none by "release", "board"): 2 found, none of which is accepted`)

	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["rsa"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatBundle}}))
	result, err := cosign.Verify(ctx, dir, artifact, policy)
	require.NoError(t, err)
	signers := map[string]int{}
	for _, s := range result.Signatures {
		signers[s.Authority]++
	}
	assert.Equal(t, map[string]int{"build": 4, "board": 1}, signers)
}

// A key that is not valid yet, or no longer, does not count, and the reason says so.
func TestValidity(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	a := authority("next", "p256")
	a.NotBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a.NotAfter = a.NotBefore.AddDate(1, 0, 0)
	for _, test := range []struct {
		at     time.Time
		reason string
	}{
		{a.NotBefore.Add(-time.Second), `not valid at this time: "next" is accepted from 2026-01-01T00:00:00Z on`},
		{a.NotBefore, ""},
		{a.NotAfter, ""},
		{a.NotAfter.Add(time.Second), `not valid at this time: "next" was accepted until 2027-01-01T00:00:00Z`},
	} {
		_, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{At: test.at, Authorities: []cosign.Authority{a}})
		if test.reason == "" {
			assert.NoError(t, err)
			continue
		}
		var untrusted *cosign.UntrustedError
		require.ErrorAs(t, err, &untrusted)
		assert.ErrorIs(t, untrusted.Rejected[0].Err, cosign.ErrNotValid)
		assert.ErrorContains(t, err, test.reason)
	}
}

func TestPolicyErrors(t *testing.T) {
	_, dir, artifact := newArtifact(t)
	window := authority("a", "p256")
	window.NotAfter = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	backwards := window
	backwards.NotBefore = window.NotAfter.Add(time.Hour)
	identity := cosign.Authority{Name: "ci", Identities: []cosign.Identity{{Issuer: "https://i", Subject: "s"}}}
	open := cosign.Authority{Name: "ci", Identities: []cosign.Identity{{Issuer: "https://i"}}}
	spdx := []string{cosign.PredicateSPDX}
	for message, p := range map[string]cosign.Policy{
		"threshold 2 with 1 authorities: want at least 1 and at most all of them":  {Keys: public("p256", "p384"), Threshold: 2},
		"threshold -1 with 1 authorities: want at least 1 and at most all of them": {Keys: public("p256"), Threshold: -1},
		"authority 0 has no name":                            {Authorities: []cosign.Authority{authority("", "p256")}},
		`two authorities have the name "a"`:                  {Authorities: []cosign.Authority{authority("a", "p256"), authority("a", "p384")}},
		"one signature would count as two":                   {Authorities: []cosign.Authority{authority("a", "p256"), authority("b", "p256")}},
		"key 1 is listed twice":                              {Authorities: []cosign.Authority{authority("a", "p256", "p256")}},
		`authority "a": no keys and no identities`:           {Authorities: []cosign.Authority{authority("a")}},
		"valid for a limited time, but Policy.At is not set": {Authorities: []cosign.Authority{window}},
		"its validity ends before it begins":                 {At: window.NotAfter, Authorities: []cosign.Authority{backwards}},
		"the policy names identities, but Policy.Identities, which verifies certificates, is not set: see package keyless": {Keys: public("p256"), Authorities: []cosign.Authority{identity}},
		"subject: want either a value or a regular":                                              {Authorities: []cosign.Authority{open}, Identities: fakeVerifier{}},
		"attestation 0: no predicate type":                                                       {Keys: public("p256"), Attestations: []cosign.AttestationRule{{}}},
		`attestation 0: the policy has no authority "x"`:                                         {Keys: public("p256"), Attestations: []cosign.AttestationRule{{PredicateTypes: spdx, Authorities: []string{"x"}}}},
		"attestation 0: threshold 2 with 1 authorities: want at least 1 and at most all of them": {Keys: public("p256"), Attestations: []cosign.AttestationRule{{PredicateTypes: spdx, Threshold: 2}}},
		"sign/v1 is the predicate type of signatures":                                            {Keys: public("p256"), Attestations: []cosign.AttestationRule{{PredicateTypes: []string{"https://sigstore.dev/cosign/sign/v1"}}}},
		`attestation 0: authority "a" is listed twice`:                                           {Authorities: []cosign.Authority{authority("a", "p256")}, Attestations: []cosign.AttestationRule{{PredicateTypes: spdx, Authorities: []string{"a", "a"}}}},
		`identity /(/ of https://i: subject: error parsing`:                                      {Authorities: []cosign.Authority{{Name: "a", Identities: []cosign.Identity{{Issuer: "https://i", SubjectRegexp: "("}}}}, Identities: fakeVerifier{}},
	} {
		_, err := cosign.Verify(context.Background(), dir, artifact, p)
		assert.ErrorContains(t, err, message)
		assert.NotErrorIs(t, err, cosign.ErrUnsigned, "%s: refused before anything is looked at", message)
	}
	_, err := cosign.Verify(context.Background(), dir, artifact, cosign.Policy{Keys: public("p256"), Authorities: []cosign.Authority{identity}})
	assert.ErrorIs(t, err, cosign.ErrNoIdentityVerifier)
}

// fakeVerifier says that every certificate is for one identity.
type fakeVerifier struct{ issuer, subject string }

func (f fakeVerifier) VerifyIdentity(_ context.Context, bundle, message []byte, _ []cosign.Identity) (*cosign.VerifiedIdentity, error) {
	if f.subject == "" {
		return nil, errors.New("the certificate is of nobody")
	}
	return &cosign.VerifiedIdentity{Issuer: f.issuer, Subject: f.subject}, nil
}

// A signature with a certificate counts for the authority whose identity the verifier finds, whom
// the policy must name, and only if it is about the artifact.
func TestIdentities(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	bundle := strings.Replace(bundleText(t, statementText(artifact.Digest.Encoded())), `"publicKey":{"hint":"any"}`, `"certificate":{"rawBytes":"AAAA"}`, 1)
	addBundle(t, dir, artifact, bundle)
	policy := func(v cosign.IdentityVerifier) cosign.Policy {
		return cosign.Policy{Identities: v, Authorities: []cosign.Authority{
			authority("release", "rsa"),
			{Name: "ci", Identities: []cosign.Identity{{Issuer: "https://ci.example", SubjectRegexp: `https://ci\.example/os/.*`}}},
		}}
	}
	result, err := cosign.Verify(ctx, dir, artifact, policy(fakeVerifier{"https://ci.example", "https://ci.example/os/build"}))
	require.NoError(t, err)
	require.Len(t, result.Signatures, 1)
	assert.Equal(t, "ci", result.Signatures[0].Authority)
	assert.Nil(t, result.Signatures[0].Key)
	assert.Equal(t, `authority "ci" (https://ci.example/os/build of https://ci.example)`, result.Signatures[0].Signer())

	for _, v := range []fakeVerifier{{}, {"https://ci.example", "https://ci.example/other"}, {"https://evil.example", "https://ci.example/os/build"},
		{"https://ci.example", "xhttps://ci.example/os/build"}, {"https://ci.example.evil", "https://ci.example/os/build"}} {
		_, err = cosign.Verify(ctx, dir, artifact, policy(v))
		require.ErrorIs(t, err, cosign.ErrUntrusted, "%v", v)
		assert.ErrorContains(t, err, `"ci"`)
	}

	other := addArtifact(t, dir, "v2")
	addBundle(t, dir, other, bundle)
	_, err = cosign.Verify(ctx, dir, other, policy(fakeVerifier{"https://ci.example", "https://ci.example/os/build"}))
	assert.ErrorContains(t, err, `signed by "ci": signed for a different artifact`)
}

func statementText(hex string) string {
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + hex + `"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
}

const policyText = `{"schema":"osmith.policy/1","rules":[
 {"repository":"registry.example/os/*","threshold":2,"authorities":[
  {"name":"build","keys":["build.pub","keys/next.pub"]},
  {"name":"release","keys":["PEM"],"notBefore":"2026-01-01T00:00:00Z","notAfter":"2027-01-01T00:00:00Z"},
  {"name":"ci","identities":[{"issuer":"https://ci.example","subjectRegexp":"https://ci[.]example/.*"}]}],
  "attestations":[{"predicateTypes":["https://spdx.dev/Document"],"authorities":["build"],"threshold":1}]},
 {"repository":"**","authorities":[{"name":"build","keys":["build.pub"]}]}]}`

func parseRules(t testing.TB, text string) (cosign.Rules, error) {
	t.Helper()
	pem, err := json.Marshal(string(publicPEM(t, public("ed25519")[0])))
	require.NoError(t, err)
	keys := fstest.MapFS{
		"build.pub":     {Data: publicPEM(t, public("p256")[0])},
		"keys/next.pub": {Data: publicPEM(t, public("p384")[0])},
	}
	return cosign.ParseRules([]byte(strings.ReplaceAll(text, `"PEM"`, string(pem))), keys)
}

func TestParseRules(t *testing.T) {
	rules, err := parseRules(t, policyText)
	require.NoError(t, err)
	p, err := rules.For("registry.example/os/acme")
	require.NoError(t, err)
	assert.Equal(t, 2, p.Threshold)
	assert.Equal(t, public("p256", "p384"), p.Authorities[0].Keys)
	assert.Equal(t, []crypto.PublicKey{public("ed25519")[0]}, p.Authorities[1].Keys)
	assert.Equal(t, cosign.Identity{Issuer: "https://ci.example", SubjectRegexp: "https://ci[.]example/.*"}, p.Authorities[2].Identities[0])
	for _, name := range []string{"registry.example/os", "registry.example/os/acme/x", ""} {
		p, err = rules.For(name)
		require.NoError(t, err)
		assert.Len(t, p.Authorities, 1, name)
	}

	text, err := json.Marshal(rules)
	require.NoError(t, err)
	again, err := cosign.ParseRules(text, nil)
	require.NoError(t, err)
	assert.Equal(t, rules, again)

	_, err = rules[:1].For("registry.example/other")
	require.ErrorIs(t, err, cosign.ErrNoRule)
	below := cosign.Rules{{Repository: "registry.example/*/**"}}
	for name, want := range map[string]bool{"registry.example/a/b": true, "registry.example/a/b/c": true, "registry.example/a": false, "x/a/b": false} {
		_, err := below.For(name)
		assert.Equal(t, want, err == nil, name)
	}
}

func TestParseRulesErrors(t *testing.T) {
	for message, change := range map[string][2]string{
		`policy: schema: "osmith.policy/2"`:                             {"policy/1", "policy/2"},
		`policy: rules: empty`:                                          {policyText, `{"schema":"osmith.policy/1","rules":[]}`},
		`key "threshold" appears twice`:                                 {`"threshold":2`, `"threshold":2,"threshold":1`},
		`rules[0].Threshold at 0x67: key "Threshold" differs`:           {`"threshold":2`, `"threshold":2,"Threshold":1`},
		`rules[0].threshold: 0, want 1 to 1000`:                         {`"threshold":2`, `"threshold":0`},
		`rules[0].threshold at 0x59: a string, want a number`:           {`"threshold":2`, `"threshold":"2"`},
		`rules[0].repository: "" is not a pattern`:                      {"registry.example/os/*", ""},
		`rules[0].repository: "[" is not a pattern`:                     {"registry.example/os/*", "["},
		`rules[0].authorities[0].keys: open gone.pub`:                   {"build.pub", "gone.pub"},
		`rules[0].authorities[1].keys: key: PEM block`:                  {`["PEM"]`, `["-----BEGIN X-----\nAAAA\n-----END X-----\n"]`},
		`rules[0].authorities[1].notBefore: "2026-01-01T00:00:00"`:      {"2026-01-01T00:00:00Z", "2026-01-01T00:00:00"},
		`rules[0].authorities[2].identities[0]: issuer: want`:           {"subjectRegexp", "issuerRegexp"},
		`rules[0].attestations[0].predicateTypes[0] at 0x20f: a number`: {`["https://spdx.dev/Document"]`, `[1]`},
		`data after the JSON value`:                                     {`"**"`, `"**"`},
	} {
		text := strings.Replace(policyText, change[0], change[1], 1)
		if change[0] == change[1] {
			text += "{}"
		}
		_, err := parseRules(t, text)
		assert.ErrorContains(t, err, message)
	}
	_, err := cosign.ParseRules([]byte(policyText), nil)
	assert.ErrorContains(t, err, "not PEM text, and no file system was given to read a file from")
}
