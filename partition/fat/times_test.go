package fat

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// entryTimes finds the short entries of a name on a volume and returns, for each, the bytes of the
// three times in it: of creation (13 to 17: tenths, time, date), of the last access (18 and 19:
// date) and of the last write (22 to 25: time, date).
func entryTimes(t *testing.T, d *faultio.Disk, name string) (found []string) {
	t.Helper()
	b := make([]byte, d.Size())
	_, err := d.ReadAt(b, 0)
	require.NoError(t, err)
	for ; len(b) >= entrySize; b = b[entrySize:] {
		if string(b[:11]) == name && b[11]&attrLongMask != attrLong {
			found = append(found, fmt.Sprintf("%s %s %s", hex.EncodeToString(b[13:18]), hex.EncodeToString(b[18:20]), hex.EncodeToString(b[22:26])))
		}
	}
	return found
}

// TestTimes: an entry has the time that was given as that of its creation, of its last access and
// of its last write, in files and directories, whether they were built in or added. Tools show one
// of the three or another.
func TestTimes(t *testing.T) {
	// 05:06:08 is 5<<11 | 6<<5 | 8/2 = 0x28c4, 2026-03-04 is 46<<9 | 3<<5 | 4 = 0x5c64;
	// little-endian, and no tenths.
	// 0x5c21 is 2026-01-01
	const built, added = "00c428645c 645c c428645c", "000000215c 215c 0000215c"
	d := build(t, []osmith.ESPFile{{Path: "LOADER/EMPTY", Content: strings.NewReader("")}, {Path: "LOADER/ENTRIES/"}},
		BuildOptions{Size: 64 << 20, Time: time.Date(2026, 3, 4, 5, 6, 9, 999, time.FixedZone("UTC", 0))})
	for name, want := range map[string]int{"LOADER     ": 1, "EMPTY      ": 1, "ENTRIES    ": 1, ".          ": 2, "..         ": 2} {
		found := entryTimes(t, d, name)
		require.Len(t, found, want, name)
		for _, times := range found {
			require.Equal(t, built, times, name)
		}
	}

	f, err := Open(d)
	require.NoError(t, err)
	f.Time = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	require.NoError(t, f.WriteFile("LOADER/NEW", strings.NewReader("x")))
	require.NoError(t, f.MkdirAll("OTHER"))
	for _, name := range []string{"NEW        ", "OTHER      "} {
		require.Equal(t, []string{added}, entryTimes(t, d, name), name)
	}
	require.Equal(t, []string{built}, entryTimes(t, d, "EMPTY      "), "what was there keeps its times")
}
