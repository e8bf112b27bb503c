package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	_, path := workshop(t)
	ok(t, build(path)...)
	ok(t, "addon", "-stub", path("addon"), "-cmdline", "debug", "-uname", "6.12.0-stand-in", "-o", path("good.addon.efi"))
	ok(t, "addon", "-stub", path("addon"), "-cmdline", "debug", "-uname", "3.4", "-o", path("other.addon.efi"))
	require.NoError(t, os.WriteFile(path("text"), []byte("not a PE"), 0o600))
	check := func(status int, args ...string) (r checkResult) {
		t.Helper()
		got, stdout, stderr := call3(t, append([]string{"check", "-json"}, args...)...)
		require.Equal(t, status, got, stderr)
		require.NoError(t, json.Unmarshal([]byte(stdout), &r))
		require.Equal(t, status == 0, r.Good)
		return r
	}
	require.Empty(t, check(0, path("out.efi"), path("good.addon.efi")).Findings)
	require.Empty(t, ok(t, "check", path("out.efi")))

	r := check(1, path("out.efi"), path("other.addon.efi"), path("out.efi"), path("text"))
	require.Len(t, r.Findings, 3)
	require.Equal(t, "addon-uname", r.Findings[0].Code)
	require.Equal(t, path("other.addon.efi"), r.Findings[0].File)
	require.Equal(t, "no-addon", r.Findings[1].Code)
	require.Equal(t, "malformed", r.Findings[2].Code)

	ok(t, build(path, "-os-release", "")...)
	require.Equal(t, "no-osrel", check(1, path("out.efi")).Findings[0].Code)
	status, stdout, stderr := call3(t, "check", path("out.efi"))
	require.Equal(t, 1, status)
	require.Contains(t, stdout, path("out.efi")+": error: ")
	require.Equal(t, "uki: 1 error found\n", stderr)

	status, stdout, _ = call3(t, "check", path("out.efi"), path("absent"))
	require.Equal(t, 2, status)
	require.Empty(t, stdout)
}
