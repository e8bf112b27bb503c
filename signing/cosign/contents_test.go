package cosign_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// A rule that demands contents is satisfied by a predicate that has all of them, and by no other;
// the reason names what is there instead.
func TestContents(t *testing.T) {
	ctx := context.Background()
	const predicate = `{"runDetails": {"builder": {"id": "https://build.example/1"}}, "result": "PASSED", "tests": 12, "ok": true, "none": null, "a/b": "slash", "m~n": "tilde",
		"list": [{"name": "first"}, "second"], "twice": {"x": "1", "x": "2"}, "bad": "\ud83d\ude00"}`
	contents := func(pointer string, values ...string) cosign.Content {
		return cosign.Content{Pointer: pointer, Values: values}
	}
	for name, tt := range map[string]struct {
		content cosign.Content
		want    string // of the reason; empty: it is satisfied
	}{
		"string":            {contents("/result", "PASSED"), ""},
		"one of some":       {contents("/result", "WARNED", "PASSED"), ""},
		"deep":              {contents("/runDetails/builder/id", "https://build.example/1"), ""},
		"regexp":            {cosign.Content{Pointer: "/runDetails/builder/id", Regexp: `https://build\.example/[0-9]`}, ""},
		"number":            {contents("/tests", "12"), ""},
		"bool":              {contents("/ok", "true"), ""},
		"slash":             {contents("/a~1b", "slash"), ""},
		"tilde":             {contents("/m~0n", "tilde"), ""},
		"element":           {contents("/list/0/name", "first"), ""},
		"other value":       {contents("/result", "FAILED"), `/result is "PASSED"`},
		"part of it":        {cosign.Content{Pointer: "/runDetails/builder/id", Regexp: `https://build`}, `/runDetails/builder/id is "https://build.example/1"`},
		"absent":            {contents("/runDetails/builder/version", "1"), "https://acme.example/built by a key of the policy: the predicate does not match the policy: no /runDetails/builder/version"},
		"other letter case": {contents("/Result", "PASSED"), "https://acme.example/built by a key of the policy: the predicate does not match the policy: no /Result"},
		"null":              {contents("/none", "null"), "https://acme.example/built by a key of the policy: the predicate does not match the policy: no /none"},
		"object":            {contents("/runDetails", "{}"), "https://acme.example/built by a key of the policy: the predicate does not match the policy: no /runDetails"},
		"beyond the list":   {contents("/list/2", "x"), "https://acme.example/built by a key of the policy: the predicate does not match the policy: no /list/2"},
		"behind the list":   {contents("/list/-", "x"), "https://acme.example/built by a key of the policy: the predicate does not match the policy: no /list/-"},
		"leading zero":      {contents("/list/00", "x"), "https://acme.example/built by a key of the policy: the predicate does not match the policy: no /list/00"},
		"inside of text":    {contents("/result/x", "PASSED"), "https://acme.example/built by a key of the policy: the predicate does not match the policy: no /result/x"},
		"twice":             {contents("/twice/x", "1"), "appears twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir, artifact := newArtifact(t)
			require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
			text := predicate
			if name != "twice" {
				text = strings.Replace(text, `"x": "2"`, `"y": "2"`, 1)
			}
			err := cosign.Attest(ctx, dir, artifact, "https://acme.example/built", []byte(text), testKeys()["p256"], cosign.SignOptions{})
			if name == "twice" {
				// it is refused when it is signed, and so it cannot be read in two ways
				require.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			rule := cosign.AttestationRule{PredicateTypes: []string{"https://acme.example/built"}, Contents: []cosign.Content{contents("/ok", "true"), tt.content}}
			_, err = cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("p256"), Attestations: []cosign.AttestationRule{rule}})
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			var untrusted *cosign.UntrustedError
			require.ErrorAs(t, err, &untrusted)
			require.Len(t, untrusted.Missing, 1)
			require.Len(t, untrusted.Missing[0].Reasons, 1)
			assert.ErrorIs(t, untrusted.Missing[0].Reasons[0], cosign.ErrOtherContent)
			assert.ErrorContains(t, untrusted.Missing[0].Reasons[0], tt.want)
			assert.ErrorContains(t, err, tt.content.String())
		})
	}
}

// A predicate of very many values is not taken apart.
func TestContentsOfManyValues(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	many := `{"result": "PASSED", "more": [0` + strings.Repeat(",0", 1<<16) + `]}`
	require.NoError(t, cosign.Attest(ctx, dir, artifact, "https://acme.example/test", []byte(many), testKeys()["p256"], cosign.SignOptions{}))
	_, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("p256"), Attestations: []cosign.AttestationRule{{
		PredicateTypes: []string{"https://acme.example/test"}, Contents: []cosign.Content{{Pointer: "/result", Values: []string{"PASSED"}}}}}})
	var untrusted *cosign.UntrustedError
	require.ErrorAs(t, err, &untrusted)
	assert.ErrorIs(t, untrusted.Missing[0].Reasons[0], cosign.ErrTooLarge)
}

// A signature counts for the name that it was made for, and a bundle, which says none, for no name.
func TestReferences(t *testing.T) {
	ctx := context.Background()
	both := []cosign.Format{cosign.FormatSimpleSigning, cosign.FormatBundle}
	for name, tt := range map[string]struct {
		made    string
		formats []cosign.Format
		demands []string
		want    string
	}{
		"same":          {"registry.example/os/acme", both[:1], []string{"registry.example/os/acme"}, ""},
		"pattern":       {"registry.example/os/acme", both, []string{"registry.example/else", "registry.example/os/*"}, ""},
		"nothing asked": {"", both, nil, ""},
		"other":         {"registry.example/test/acme", both[:1], []string{"registry.example/os/*"}, `signed for "registry.example/test/acme"`},
		"longer":        {"registry.example/os/acme/evil", both[:1], []string{"registry.example/os/*"}, `signed for "registry.example/os/acme/evil"`},
		"none":          {"", both[:1], []string{"registry.example/os/*"}, "no docker-reference"},
		"bundle":        {"registry.example/os/acme", both[1:], []string{"registry.example/os/acme"}, "no docker-reference"},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir, artifact := newArtifact(t)
			require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{Formats: tt.formats, Reference: tt.made}))
			result, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("p256"), References: tt.demands})
			if tt.want == "" {
				require.NoError(t, err)
				assert.Equal(t, tt.made, result.Signatures[0].Reference)
				return
			}
			var untrusted *cosign.UntrustedError
			require.ErrorAs(t, err, &untrusted)
			require.Len(t, untrusted.Rejected, 1)
			assert.ErrorIs(t, untrusted.Rejected[0].Err, cosign.ErrOtherReference)
			assert.ErrorContains(t, untrusted.Rejected[0].Err, tt.want)
		})
	}
}

func TestContentsErrors(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	for want, c := range map[string]cosign.Content{
		`"result": want a JSON Pointer`:                    {Pointer: "result", Values: []string{"x"}},
		`"": want a JSON Pointer`:                          {Values: []string{"x"}},
		`"/a~2": write ~ as ~0, and / in a name as ~1`:     {Pointer: "/a~2", Values: []string{"x"}},
		"/a: want either values or a regular expression":   {Pointer: "/a"},
		"/b: want either values or a regular expression":   {Pointer: "/b", Values: []string{"x"}, Regexp: "x"},
		"/a: error parsing regexp: missing closing ): `(`": {Pointer: "/a", Regexp: "("},
	} {
		p := cosign.Policy{Keys: public("p256"), Attestations: []cosign.AttestationRule{{PredicateTypes: []string{"x"}, Contents: []cosign.Content{c}}}}
		_, err := cosign.Verify(ctx, dir, artifact, p)
		assert.ErrorContains(t, err, "attestation 0: contents: "+want)
		assert.NotErrorIs(t, err, cosign.ErrUnsigned)
	}
	for _, pattern := range []string{"", "["} {
		_, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("p256"), References: []string{pattern}})
		assert.ErrorContains(t, err, fmt.Sprintf("reference %q is not a pattern", pattern))
	}
}

// The JSON form has what the values have, and refuses what they refuse.
func TestParseRulesContents(t *testing.T) {
	text := func(rule string) []byte {
		return []byte(`{"schema": "osmith.policy/1", "rules": [{"repository": "**", "authorities": [], ` + rule + `}]}`)
	}
	rules, err := cosign.ParseRules(text(`"references": ["registry.example/os/*"], "attestations": [{"predicateTypes": ["x"], "contents": [
		{"pointer": "/result", "values": ["PASSED"]}, {"pointer": "/id", "regexp": "a+"}]}]`), nil)
	require.NoError(t, err)
	p := rules[0].Policy
	assert.Equal(t, []string{"registry.example/os/*"}, p.References)
	assert.Equal(t, []cosign.Content{{Pointer: "/result", Values: []string{"PASSED"}}, {Pointer: "/id", Regexp: "a+"}}, p.Attestations[0].Contents)
	written, err := rules.MarshalJSON()
	require.NoError(t, err)
	again, err := cosign.ParseRules(written, nil)
	require.NoError(t, err)
	assert.Equal(t, rules, again)
	for want, rule := range map[string]string{
		`rules[0].references[1]: "[" is not a pattern`:                              `"references": ["a", "["]`,
		`rules[0].attestations[0].contents[0]: "x": want a JSON Pointer`:            `"attestations": [{"predicateTypes": ["x"], "contents": [{"pointer": "x", "values": ["y"]}]}]`,
		"rules[0].attestations[0].contents[0]: /x: want either values or a regular": `"attestations": [{"predicateTypes": ["x"], "contents": [{"pointer": "/x"}]}]`,
	} {
		_, err := cosign.ParseRules(text(rule), nil)
		assert.ErrorContains(t, err, want)
	}
}
