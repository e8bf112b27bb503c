package partition

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// shown parses the output of systemd-id128 show.
func shown(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] != "NAME" {
			out[f[0]] = f[1]
		}
	}
	return out
}

// requireTypes checks our names against systemd's, both ways.
func requireTypes(t *testing.T, theirs map[string]string) {
	t.Helper()
	require.Greater(t, len(theirs), 200)
	typesByArchitecture := 0
	for _, a := range arch.Table {
		if !a.Types[arch.Root].IsZero() {
			typesByArchitecture += len(a.Types)
		}
	}
	canonical := 0
	for name, hex := range theirs {
		// These stand for the architecture of the machine that runs the tool.
		if native := strings.TrimPrefix(strings.TrimPrefix(name, "root"), "usr"); native != name &&
			(native == "" || strings.HasPrefix(native, "-verity") || strings.HasPrefix(native, "-secondary")) {
			continue
		}
		id, ok := TypeByName(name)
		require.True(t, ok, name)
		require.Equal(t, hex, strings.ReplaceAll(id.String(), "-", ""), name)
		ours := TypeName(id)
		require.Equal(t, hex, theirs[ours], "%s is called %s", name, ours)
		if ours == name {
			canonical++
		}
	}
	require.Equal(t, typesByArchitecture+len(typeNames), canonical)
}

func TestTypesGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/types-systemd-262.txt")
	require.NoError(t, err)
	requireTypes(t, shown(string(text)))
	for _, name := range []string{"", "root", "usr", "root-", "root-verity", "usr--verity", "usr-secondary", "root-x86-64-verity-sig-verity", "home-arm64"} {
		_, ok := TypeByName(name)
		require.False(t, ok, name)
	}
	require.Equal(t, diskID.String(), TypeName(diskID))
	id, ok := TypeByName("usr-riscv64-verity")
	require.True(t, ok)
	require.Equal(t, "8f1056be-9b05-47c4-81d6-be53128e5b54", id.String())
	for _, v := range []struct {
		id   osmith.GUID
		name string
	}{
		{RootX8664, "root-x86-64"}, {RootX8664Verity, "root-x86-64-verity"}, {RootX8664VeritySig, "root-x86-64-verity-sig"},
		{UsrX8664, "usr-x86-64"}, {UsrX8664Verity, "usr-x86-64-verity"}, {UsrX8664VeritySig, "usr-x86-64-verity-sig"},
		{RootARM64, "root-arm64"}, {RootARM64Verity, "root-arm64-verity"}, {RootARM64VeritySig, "root-arm64-verity-sig"},
		{UsrARM64, "usr-arm64"}, {UsrARM64Verity, "usr-arm64-verity"}, {UsrARM64VeritySig, "usr-arm64-verity-sig"},
	} {
		require.Equal(t, v.name, TypeName(v.id))
	}
}

func TestTypesAgainstSystemd(t *testing.T) {
	requireTypes(t, shown(testtools.Trixie(t).Run(t, t.TempDir(), "systemd-id128", "show")))
}

// The types of other systems are those of gdisk, which it writes for its own codes.
func TestForeignTypesAgainstGdisk(t *testing.T) {
	codes := []string{"ef02", "7f00", "7f01", "7f02", "7f03", "7f04", "7f05", "8500", "8501", "8502", "8503",
		"a000", "a001", "a002", "a003", "a004", "a005", "a006", "a007", "a008", "a009", "a00a", "a00b", "a00c", "a00d", "a00e", "a010", "a011"}
	name := filepath.Join(t.TempDir(), "types.img")
	require.NoError(t, os.WriteFile(name, nil, 0o644))
	require.NoError(t, os.Truncate(name, 64<<20))
	var args []string
	for _, code := range codes {
		args = append(args, "-n", "0:0:+1M", "-t", "0:"+code)
	}
	testtools.Run(t, "sgdisk", append(args, name)...)
	d := load(t, name)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	var want []osmith.GUID
	for _, f := range foreignTypes {
		if !strings.HasPrefix(f.name, "bottlerocket-") { // gdisk does not know these
			want = append(want, f.id)
		}
	}
	require.Len(t, table.Partitions, len(want))
	for i, p := range table.Partitions {
		require.Equal(t, want[i], p.Type, codes[i])
	}
	seen := map[osmith.GUID]bool{}
	for _, f := range foreignTypes {
		require.False(t, seen[f.id], f.name)
		seen[f.id] = true
		require.Equal(t, f.name, TypeName(f.id))
		id, ok := TypeByName(f.name)
		require.True(t, ok)
		require.Equal(t, f.id, id)
	}
}

func TestAttributes(t *testing.T) {
	require.Equal(t, []string{"required", "grow-file-system", "no-auto"}, AttributeNames(AttrRequired|AttrGrowFileSystem|AttrNoAuto|1<<50))
	for _, a := range attributeNames {
		bit, ok := AttributeByName(a.name)
		require.True(t, ok)
		require.Equal(t, a.bit, bit)
	}
	_, ok := AttributeByName("growfs")
	require.False(t, ok)
}

func TestVerityIDs(t *testing.T) {
	hash := []byte("0123456789abcdefFEDCBA9876543210")
	data, tree, err := VerityIDs(hash)
	require.NoError(t, err)
	require.Equal(t, "30313233-3435-3637-3839-616263646566", data.String())
	require.Equal(t, "46454443-4241-3938-3736-353433323130", tree.String())
	long := append(hash[:16:16], make([]byte, 32)...)
	_, tree, err = VerityIDs(long)
	require.NoError(t, err)
	require.True(t, tree.IsZero())
	for _, n := range []int{0, 16, 20, 31, 65} {
		_, _, err := VerityIDs(make([]byte, n))
		require.ErrorIs(t, err, ErrRootHash)
		require.ErrorContains(t, err, "32 to 64")
	}
}

// The two IDs were computed from the source of systemd 262 for usr-x86-64.
func TestSysupdateTypes(t *testing.T) {
	require.Equal(t, "dc0226f3-2b45-4572-844b-c7575b748b24", PartialType(UsrX8664).String())
	require.Equal(t, "ac8558b5-455e-4869-8c5e-d8272455c06a", PendingType(UsrX8664).String())
}
