package main

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The unit's call is one that the program takes, about the file system that the unit waits for and
// the variable that package bootloader reads.
func TestUnit(t *testing.T) {
	f, err := os.Open("boot-bless.service")
	require.NoError(t, err)
	defer f.Close()
	has := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), "="); ok && !strings.HasPrefix(key, "#") {
			has[key] = value
		}
	}
	words := strings.Fields(has["ExecStart"])
	require.Greater(t, len(words), 2)
	require.Equal(t, "/usr/bin/boot", words[0])
	require.Contains(t, words, has["RequiresMountsFor"])
	require.Equal(t, "/sys/firmware/efi/efivars/LoaderBootCountPath-"+vendor.String(), has["ConditionPathExists"])
	require.Equal(t, "boot-complete.target", has["After"])

	// On an ESP and variables of our own.
	b := newBench(t)
	b.directory("efi", three())
	b.store("vars", 2000, "LoaderBootCountPath", `\EFI\Linux\os_2+3.efi`)
	line := strings.NewReplacer("/efi", "@efi", "efivarfs", "@vars").Replace(strings.Join(words[1:], " "))
	require.Equal(t, "good: EFI/Linux/os_2.efi, which was os_2+3.efi\n", b.ok(line))
}
