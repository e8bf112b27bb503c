package verity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// TestCmdlineSystemd has systemd's generator read what Encode wrote.
func TestCmdlineSystemd(t *testing.T) {
	const generator = "/usr/lib/systemd/system-generators/systemd-veritysetup-generator"
	r := testtools.Trixie(t)
	table, err := ParseTable(`1 /dev/a\ b c 4096 4096 300 1 sha256 ` + digest32 + " -")
	require.NoError(t, err)
	text, err := Cmdline{
		Root:   Volume{RootHash: signedRoot, Options: VolumeOptions{Corruption: PanicOnCorruption, RootHashSignature: "base64:AAEC"}},
		Usr:    Volume{RootHash: signedRoot, Data: `/dev/disk/by-label/a à\ b`, Hash: "PARTUUID=00112233-4455-6677-8899-aabbccddeeff"},
		Create: []EarlyDevice{{Name: "x", Targets: []Target{table.Target()}}},
	}.Encode()
	require.NoError(t, err)
	dir := t.TempDir()
	r.Run(t, dir, "env", "SYSTEMD_PROC_CMDLINE=quiet "+text+" rw", "SYSTEMD_IN_INITRD=yes", generator, dir, dir, dir)
	want := map[string]string{
		"root": ` 'root' '/dev/disk/by-partuuid/855dbba5-d611-145e-870a-35fad02e6c22' '/dev/disk/by-partuuid/9e173c05-59c6-7bc1-d305-0cac845aca0f'` +
			` '` + digest32 + `' 'panic-on-corruption,root-hash-signature=base64:AAEC'`,
		"usr": ` 'usr' '/dev/disk/by-label/a à\ b' '/dev/disk/by-partuuid/00112233-4455-6677-8899-aabbccddeeff' '` + digest32 + `' ''`,
	}
	for name, arguments := range want {
		b, err := os.ReadFile(filepath.Join(dir, "systemd-veritysetup@"+name+".service"))
		require.NoError(t, err)
		_, unit, _ := strings.Cut(string(b), "systemd-veritysetup attach")
		start, _, _ := strings.Cut(unit, "\n")
		require.Equal(t, arguments, start)
	}
}
