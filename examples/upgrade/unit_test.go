package main

import (
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/examples/internal/machineflags"
)

// strangers are keys of another vendor.
func strangers(t *testing.T) *acmeos.Keys {
	t.Helper()
	k, err := acmeos.GenerateKeys(when)
	require.NoError(t, err)
	return k
}

// flagsOf is an empty set of flags.
func flagsOf(verb string) *flag.FlagSet {
	set := flag.NewFlagSet(verb, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	return set
}

// The unit calls the program as the program wants to be called, and asks for the variable that
// package bootloader reads.
func TestUnit(t *testing.T) {
	b, err := os.ReadFile("upgrade-commit.service")
	require.NoError(t, err)
	settings := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#' || line[0] == '[':
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		require.True(t, ok, line)
		require.NotContains(t, settings, key)
		settings[key] = value
	}
	words := strings.Fields(settings["ExecStart"])
	require.Equal(t, []string{"/usr/bin/upgrade", "commit"}, words[:2])
	for _, v := range program.Verbs {
		if v.Name != words[1] {
			continue
		}
		set := flagsOf(v.Name)
		set.Bool("json", false, "")
		set.String("progress", "", "")
		v.Flags(set)
		require.NoError(t, set.Parse(words[2:]))
		require.Empty(t, set.Args())
		require.Equal(t, settings["RequiresMountsFor"], set.Lookup("esp").Value.String())
	}
	require.Contains(t, settings["ConditionPathExists"], machineflags.EFIVarFS+"/LoaderBootCountPath-")
	require.Contains(t, settings["After"], "boot-complete.target")
}
