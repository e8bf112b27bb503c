package fat

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// crowd is a volume with a directory of n files.
func crowd(t testing.TB, n int) *faultio.Disk {
	var files []osmith.ESPFile
	for i := range n {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("crowd/a file of the crowd %d.conf", i), Content: strings.NewReader("x")})
	}
	return build(t, files, BuildOptions{Size: 512 << 20, Kind: 32})
}

// BenchmarkChange changes a directory of 10,000 files.
func BenchmarkChange(b *testing.B) {
	d := crowd(b, 10_000)
	f, err := Open(d)
	require.NoError(b, err)
	require.NoError(b, f.WriteFile("first", strings.NewReader("")))
	b.ReportAllocs()
	b.ResetTimer()
	name := "crowd/a file of the crowd 5000.conf"
	for i := range b.N { // three changes
		require.NoError(b, f.Remove(name))
		name = fmt.Sprintf("crowd/new file %d.conf", i)
		require.NoError(b, f.WriteFile(name, strings.NewReader("x")))
		again := fmt.Sprintf("crowd/now file %d.conf", i)
		require.NoError(b, f.Rename(name, again))
		name = again
	}
}

// A change of a directory of 10,000 files decodes what it changes, and not all names.
func TestChangeOfManyNames(t *testing.T) {
	d := crowd(t, 10_000)
	f, err := Open(d)
	require.NoError(t, err)
	require.NoError(t, f.WriteFile("crowd/first", strings.NewReader("")))
	i := 0
	allocs := testing.AllocsPerRun(5, func() {
		i++
		name := fmt.Sprintf("crowd/new file %d.conf", i)
		require.NoError(t, f.WriteFile(name, strings.NewReader("x")))
		require.NoError(t, f.Rename(name, fmt.Sprintf("crowd/now file %d.conf", i)))
		require.NoError(t, f.Remove(fmt.Sprintf("crowd/a file of the crowd %d.conf", i)))
	})
	require.Less(t, allocs, 2000.0)
	names, err := f.ReadDir("crowd")
	require.NoError(t, err)
	require.Len(t, names, 10_001)
}

// 40,000 files are planned and built in 64 MiB.
func TestBuildMemory(t *testing.T) {
	var files []osmith.ESPFile
	for i := range 40_000 {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("dir %d/a file of the crowd %d.conf", i%8, i), Content: zeros(1)})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, Build(discard{}, files, BuildOptions{Size: 512 << 20, TargetIsZero: true}))
	runtime.ReadMemStats(&after)
	all := after.TotalAlloc - before.TotalAlloc // more than there ever is at once
	t.Logf("%d KiB allocated for 40,000 files", all>>10)
	require.LessOrEqual(t, all, uint64(64<<20))
}

// discard is a target that keeps nothing.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
