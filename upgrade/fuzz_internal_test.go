package upgrade

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
)

// A release that fails again is remembered once, as the latest.
func TestRemember(t *testing.T) {
	a, b := FailedRelease{UKI: "a"}, FailedRelease{UKI: "b"}
	require.Equal(t, []FailedRelease{b, a}, remember([]FailedRelease{a, b}, a))
}

// What is remembered is read or refused, and what was read comes back the same.
func FuzzReadFailed(f *testing.F) {
	f.Add([]byte(`{"schema":"osmith.failed/1","releases":[{"product":"acme","version":"2","uki":"00"}]}`))
	f.Add([]byte(`{"schema":"osmith.failed/1","releases":null}`))
	f.Add([]byte(`{"schema":"osmith.failed/2"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := readFailed(fstest.MapFS{failedPath: {Data: b}})
		if err != nil {
			require.ErrorIs(t, err, errMemory)
			require.Nil(t, list)
			return
		}
		again, err := marshalFailed(list)
		require.NoError(t, err)
		if len(again) > maxFailedBytes {
			return
		}
		same, err := readFailed(fstest.MapFS{failedPath: {Data: again}})
		require.NoError(t, err)
		require.Equal(t, append([]FailedRelease{}, list...), same)
	})
}

// A preference is what the loader reads, whatever else is in loader.conf, and taking it away leaves
// what was there.
func FuzzPrefer(f *testing.F) {
	for _, s := range []string{"", "timeout 0", "preferred x\r\ndefault y\n", "# c\n\x00preferred z\n", preferMark + "\npreferred old.efi\ntimeout 3\n", preferMark} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, conf string) {
		base := withoutPreference([]byte(conf))
		got := preferring(base, "acme_1.efi")
		require.Equal(t, "acme_1.efi", bootloader.ParseConfig(got).Preferred)
		read, _, _ := strings.Cut(string(base), "\x00")
		back := withoutPreference(got)
		require.Equal(t, *bootloader.ParseConfig([]byte(read)), *bootloader.ParseConfig(back))
		require.Equal(t, bytes.TrimRight([]byte(read), "\n"), bytes.TrimRight(back, "\n"))
	})
}
