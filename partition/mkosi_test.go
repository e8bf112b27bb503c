package partition

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// readDump reads what sfdisk --dump prints.
func readDump(t *testing.T, name string, size int64) *Table {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "mkosi", name))
	require.NoError(t, err)
	table := &Table{SectorSize: 512, Size: size, FirstUsableLBA: 2048} // first-lba of both
	line := regexp.MustCompile(`^disk\.img(\d+) : start= *(\d+), size= *(\d+), type=(\S+), uuid=(\S+), name="([^"]*)"(?:, attrs="GUID:([\d,]+)")?$`)
	for s := range strings.Lines(string(text)) {
		s = strings.TrimSpace(s)
		if id, ok := strings.CutPrefix(s, "label-id: "); ok {
			table.DiskID = osmith.MustParseGUID(id)
		}
		m := line.FindStringSubmatch(s)
		if m == nil {
			continue
		}
		number := func(s string) uint64 {
			n, err := strconv.ParseUint(s, 10, 64)
			require.NoError(t, err)
			return n
		}
		p := Partition{Number: int(number(m[1])), FirstLBA: number(m[2]), Type: osmith.MustParseGUID(m[4]), ID: osmith.MustParseGUID(m[5]), Name: m[6]}
		p.LastLBA = p.FirstLBA + number(m[3]) - 1
		for bit := range strings.SplitSeq(m[7], ",") {
			if bit != "" {
				p.Attributes |= 1 << number(bit)
			}
		}
		table.Partitions = append(table.Partitions, p)
	}
	require.NotEmpty(t, table.Partitions)
	return table
}

// placesOf is what two tables are compared by, without the IDs from another source.
func placesOf(t *Table, withID func(i int) bool) string {
	var out strings.Builder
	for i, p := range t.Partitions {
		id := ""
		if withID(i) {
			id = p.ID.String()
		}
		fmt.Fprintf(&out, "%d %s %s %q %d-%d %x\n", p.Number, TypeName(p.Type), id, p.Name, p.FirstLBA, p.LastLBA, p.Attributes)
	}
	return out.String()
}

// The image that mkosi 27.1 built with systemd-repart 262, and its disk after the first boot, when
// systemd-repart added the other slot and the root file system: both sets of definitions are read,
// and give the same tables.
func TestMkosiImage(t *testing.T) {
	specifiers := map[byte]string{'M': "vendoros", 'A': "1"}
	r, err := ReadRepart(os.DirFS(filepath.Join("testdata", "mkosi", "build")), RepartOptions{Specifiers: specifiers})
	require.NoError(t, err)
	require.Empty(t, r.Warnings)
	require.Equal(t, "%t.%U", r.Definitions[1].SplitName)
	parts := r.Layout.Partitions
	require.Equal(t, &Fill{FAT: &FATFill{Label: "ESP", Files: []Copy{{Source: "/efi", Target: "/"}, {Source: "/boot", Target: "/"}}}}, parts[0].Fill)
	require.Equal(t, &Fill{Verity: &VerityFill{Role: VeritySignature, MatchKey: "usr"}}, parts[1].Fill)
	require.Equal(t, &Fill{Verity: &VerityFill{Role: VerityHash, MatchKey: "usr"}}, parts[2].Fill)
	require.Equal(t, &Fill{FileSystem: &FileSystemFill{Format: "erofs", Files: []Copy{{Source: "/usr", Target: "/"}}},
		Verity: &VerityFill{Role: VerityData, MatchKey: "usr"}}, parts[3].Fill)
	r.Layout.Seed = osmith.MustParseGUID("0f5c1e2a-6b1d-4c3e-9a77-2d5b8f4e6a10")
	_, err = Plan(r.Layout)
	require.ErrorIs(t, err, ErrUnfilled)
	r.Layout.LayoutOnly = true
	im, err := Plan(r.Layout)
	require.NoError(t, err)
	built := readDump(t, "build.sfdisk", (3180575+34)*512)
	require.Equal(t, built.DiskID, im.Table.DiskID)
	require.Equal(t, built.Size, im.Size, "--size=auto")
	require.Equal(t, built.FirstUsableLBA, im.Table.FirstUsableLBA)
	derived := func(i int) bool { // the others come from the root hash
		f := im.Fill(i)
		return f.Verity == nil || f.Verity.Role == VeritySignature
	}
	require.Equal(t, placesOf(built, derived), placesOf(im.Table, derived))

	r, err = ReadRepart(os.DirFS(filepath.Join("testdata", "mkosi", "first-boot")), RepartOptions{Specifiers: specifiers})
	require.NoError(t, err)
	require.Empty(t, r.Warnings)
	require.True(t, r.Definitions[7].FactoryReset)
	require.Equal(t, &Fill{FileSystem: &FileSystemFill{Format: "ext4"}, Encrypt: &EncryptFill{Key: "tpm2"}}, r.Layout.Partitions[7].Fill)
	r.Layout.Seed, r.Layout.LayoutOnly = repartSeed, true
	require.NoError(t, built.Resize(4<<30))
	im, err = PlanOnto(built, r.Layout)
	require.NoError(t, err)
	there := func(i int) bool { return i < 4 } // the others come from the machine ID
	require.Equal(t, placesOf(readDump(t, "first-boot.sfdisk", 4<<30), there), placesOf(im.Table, there))

	_, err = ReadRepart(os.DirFS(filepath.Join("testdata", "mkosi", "build")), RepartOptions{})
	require.ErrorIs(t, err, ErrSpecifier)
	require.ErrorContains(t, err, "10-usr-verity-sig.conf:3: Label=%M_%A_verity_sig: ")
}
