package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
)

func TestCheck(t *testing.T) {
	_, path := workshop(t)
	ok(t, buildArgs(path)...)
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

	ok(t, buildArgs(path, "-os-release", "")...)
	require.Equal(t, "no-osrel", check(1, path("out.efi")).Findings[0].Code)
	status, stdout, stderr := call3(t, "check", path("out.efi"))
	require.Equal(t, 1, status)
	require.Contains(t, stdout, path("out.efi")+": error: ")
	require.Equal(t, "uki: 1 error found\n", stderr)

	// A stub that does not say its version, or a version that is too new, is taken for the one that
	// is named.
	require.NoError(t, os.WriteFile(path("stub"), petest.Stub("999"), 0o600))
	ok(t, buildArgs(path)...)
	require.Equal(t, "stub-unknown", check(0, path("out.efi")).Findings[0].Code)
	require.Empty(t, check(0, "-assume-stub", "262", path("out.efi")).Findings)
	require.Contains(t, ok(t, "measure", "-assume-stub", "262", path("out.efi")), "11:sha256=")
	require.Contains(t, ok(t, "inspect", "-assume-stub", "262", path("out.efi")), "PCR 11 (sha256)")
	status, _, stderr = call3(t, "measure", path("out.efi"))
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "newer than 262")
	status, _, stderr = call3(t, "measure", "-assume-stub", "1", path("out.efi"))
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "want release 252 to 262")
	status, _, _ = call3(t, buildArgs(path, "-pcr-private-key", path("pcr.key"))...)
	require.NotZero(t, status)
	ok(t, buildArgs(path, "-pcr-private-key", path("pcr.key"), "-assume-stub", "262")...)
	require.NoError(t, os.WriteFile(path("stub"), petest.Stub("262"), 0o600))

	// A command line that becomes too long, by itself or with add-ons, names what is lost.
	long := strings.Repeat("x=0123456 ", 100)
	ok(t, buildArgs(path, "-cmdline", long+long+"roothash=00")...)
	ok(t, "addon", "-stub", path("addon"), "-cmdline", long+" addon=1", "-uname", "6.12.0-stand-in", "-o", path("long.addon.efi"))
	require.Empty(t, check(0, path("out.efi"), path("good.addon.efi")).Findings)
	found := check(1, path("out.efi"), path("good.addon.efi"), path("long.addon.efi")).Findings
	require.Len(t, found, 1)
	require.Equal(t, []string{"cmdline-too-long", path("out.efi")}, []string{found[0].Code, found[0].File})
	require.Contains(t, found[0].Text, `"x=0123456" and all options behind it are lost`)
	ok(t, buildArgs(path, "-cmdline", long+long+"abcdefg="+strings.Repeat("0", 31)+" roothash=00")...)
	found = check(1, path("out.efi"), path("long.addon.efi")).Findings
	require.Len(t, found, 1, "said once")
	require.Contains(t, found[0].Text, `"roothash=00" and all`)

	// What the stub refuses, and what is not known of it, is built if that is asked for by name,
	// and is a no.
	for _, c := range []struct{ kernel, stub, code, severity, text string }{
		{"linux-relocations", "262", "linux-relocations", "error", "uki: 1 error found\n"},
		{"linux-directories", "261", "linux-directories", "unknown", "uki: 0 errors found, 1 not known\n"},
	} {
		for _, k := range petest.RefusedKernels(petest.Kernel("6.12.0")) {
			if k.Name == c.kernel {
				require.NoError(t, os.WriteFile(path("refused"), k.Kernel, 0o600))
			}
		}
		require.NoError(t, os.WriteFile(path("stub"), petest.Stub(c.stub), 0o600))
		status, _, stderr = call3(t, buildArgs(path, "-linux", path("refused"))...)
		require.Equal(t, 2, status)
		require.Contains(t, stderr, "uki: -linux: ")
		ok(t, buildArgs(path, "-linux", path("refused"), "-allow-kernel-that-the-stub-refuses")...)
		found = check(1, path("out.efi")).Findings
		require.Len(t, found, 1)
		require.Equal(t, []string{c.code, c.severity}, []string{found[0].Code, found[0].Severity})
		_, _, stderr = call3(t, "check", path("out.efi"))
		require.Equal(t, c.text, stderr)
	}

	status, stdout, _ = call3(t, "check", path("out.efi"), path("absent"))
	require.Equal(t, 2, status)
	require.Empty(t, stdout)
}
