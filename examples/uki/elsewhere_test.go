package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// TestSignElsewhere: policies go out, signatures come back, and the image ends up with those of one
// that is signed here.
func TestSignElsewhere(t *testing.T) {
	_, path := workshop(t)
	ok(t, "build", "-stub", path("addon"), "-profile", "ID=reset", "-cmdline", "reset", "-o", path("reset.efi"))
	profiles := []string{"-profile", "ID=main", "-join-profile", path("reset.efi"), "-pcr-banks", "sha256,sha384"}
	object := func(args ...string) (r buildResult) {
		object(t, &r, args...)
		return r
	}
	ok(t, buildArgs(path, "-o", path("plain.efi"))...)
	ok(t, buildArgs(path, append(profiles, "-pcr-private-key", path("pcr.key"))...)...)
	r := object(buildArgs(path, append(profiles, "-policy-digest", "-pcr-public-key", path("pcr.pub"), "-o", path("waiting.efi"))...)...)
	require.False(t, r.PCRSignature)
	require.Contains(t, ok(t, "inspect", path("waiting.efi")), "room for the signatures of 8 policies")

	policies, err := policy.ParsePCRPolicies(r.Policies)
	require.NoError(t, err)
	require.Len(t, policies, 2*2*4)
	key, err := cli.ReadKey(path("pcr.key"))
	require.NoError(t, err)
	signed, err := policies.Sign(key)
	require.NoError(t, err)
	save := func(s policy.Signatures) {
		b, err := s.MarshalJSON()
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path("signed.json"), b, 0o600))
	}
	save(signed)
	join := []string{"build", "-join-pcrsig", path("waiting.efi"), "-pcrsig", "@" + path("signed.json"), "-o", path("joined.efi")}
	require.True(t, object(join...).PCRSignature)
	require.Equal(t, pcrsigs(t, path("out.efi")), pcrsigs(t, path("joined.efi")))

	refused := func(want string, args ...string) {
		t.Helper()
		status, _, stderr := call3(t, args...)
		require.Equal(t, 2, status)
		require.Contains(t, stderr, want)
	}
	refused("is signed already", "build", "-join-pcrsig", path("joined.efi"), "-pcrsig", "@"+path("signed.json"), "-o", path("again.efi"))
	refused("-pcrsig is missing", "build", "-join-pcrsig", path("waiting.efi"), "-o", path("again.efi"))
	refused("no parts and no keys", append(join, "-linux", path("linux"))...)
	refused("-pcrsig without -join-pcrsig", buildArgs(path, "-pcrsig", "{}")...)
	refused("no .pcrsig: build the image with -policy-digest", "build", "-join-pcrsig", path("plain.efi"), "-pcrsig", "@"+path("signed.json"), "-o", path("again.efi"))
	save(signed[1:])
	refused("has no signature for policy "+policies[0].Digest.String(), join...)
	other, err := cli.ReadKey(path("pcr2.key"))
	require.NoError(t, err)
	public, err := readRSA(path("pcr2.pub"))
	require.NoError(t, err)
	fingerprint, err := policy.Fingerprint(public)
	require.NoError(t, err)
	stray := policies[0]
	stray.Fingerprint = fingerprint
	more, err := policy.PCRPolicies{stray}.Sign(other)
	require.NoError(t, err)
	save(append(signed, more...))
	refused("1 of 17 signatures are for policies that", join...)
	signed[0].Value = append([]byte{1}, signed[0].Value[1:]...)
	save(signed)
	refused("-pcrsig: ", join...)
}

// pcrsigs are the contents of an image's .pcrsig sections.
func pcrsigs(t *testing.T, name string) (all []string) {
	t.Helper()
	var r inspectResult
	object(t, &r, "inspect", name)
	for _, s := range r.Sections {
		if s.Name == ".pcrsig" {
			all = append(all, strings.TrimRight(s.Text, " "))
		}
	}
	require.NotEmpty(t, all)
	return all
}
