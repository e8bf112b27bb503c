package hwid_test

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// structure is an SMBIOS structure with its strings.
func structure(kind byte, area []byte, texts ...string) []byte {
	b := append([]byte{kind, byte(4 + len(area)), 0, 0}, area...)
	for _, s := range texts {
		b = append(append(b, s...), 0)
	}
	if len(texts) == 0 {
		b = append(b, 0)
	}
	return append(b, 0)
}

func TestParseSMBIOSOfVM(t *testing.T) {
	table, err := os.ReadFile("testdata/dmi-qemu.bin")
	require.NoError(t, err)
	s, err := hwid.ParseSMBIOS(table)
	require.NoError(t, err)
	require.Equal(t, &hwid.SMBIOS{Manufacturer: "QEMU", ProductName: "Standard PC (Q35 + ICH9, 2009)", BIOSVendor: "Debian distribution of EDK II",
		BIOSVersion: "2026.08+ds-2", BIOSRelease: "0.0", EnclosureType: "1"}, s)
}

func TestParseSMBIOS(t *testing.T) {
	system := append([]byte{2, 1, 0, 0}, make([]byte, 19)...)
	system[0x19-4], system[0x1a-4] = 3, 9 // SKU is the third string, family one that is not there
	table := structure(11, []byte{3}, "a=b", "io.systemd.stub.kernel-cmdline-extra=quiet splash", "io.systemd.stub.kernel-cmdline-extra=second")
	table = append(table, structure(1, system, "product", "vendor", "sku")...)
	table = append(table, structure(1, system, "second", "second", "second")...)
	table = append(table, structure(2, []byte{1, 2, 0, 0}, "board vendor", "board")...)
	table = append(table, structure(3, []byte{0, 0x8a})...)
	table = append(table, structure(0, make([]byte, 4), "too short")...)
	want := &hwid.SMBIOS{Manufacturer: "vendor", ProductName: "product", SKU: "sku", BoardVendor: "board vendor", BoardName: "board",
		EnclosureType: "10", OEMStrings: []string{"a=b", "io.systemd.stub.kernel-cmdline-extra=quiet splash", "io.systemd.stub.kernel-cmdline-extra=second"}}

	s, err := hwid.ParseSMBIOS(table)
	require.NoError(t, err)
	require.Equal(t, want, s)
	extra, ok := s.CmdlineExtra()
	require.True(t, ok)
	require.Equal(t, "quiet splash", extra)

	s, err = hwid.ParseSMBIOS(append(append(table, structure(127, nil)...), "what follows the end is not read"...))
	require.NoError(t, err)
	require.Equal(t, want, s)
	_, ok = new(hwid.SMBIOS).CmdlineExtra()
	require.False(t, ok)
}

func TestParseSMBIOSRefuses(t *testing.T) {
	good := structure(1, make([]byte, 23), "vendor")
	for name, c := range map[string]struct {
		table  []byte
		offset int64
		text   string
	}{
		"length":  {append(append([]byte(nil), good...), 2, 3, 0, 0), int64(len(good)) + 1, "3, want 4 to 4"},
		"cut off": {good[:20], 1, "27, want 4 to 20"},
		"strings": {good[:len(good)-1], 27, "no end"},
		"none":    {good[:27], 27, "no end"},
	} {
		s, err := hwid.ParseSMBIOS(c.table)
		require.Nil(t, s, name)
		var f *osmith.FormatError
		require.True(t, errors.As(err, &f), "%s: %v", name, err)
		require.Equal(t, c.offset, f.Offset, name)
		require.ErrorContains(t, err, c.text, name)
	}
}

func FuzzSMBIOS(f *testing.F) {
	table, err := os.ReadFile("testdata/dmi-qemu.bin")
	require.NoError(f, err)
	f.Add(table)
	f.Add(structure(1, make([]byte, 23), "vendor"))
	f.Fuzz(func(t *testing.T, table []byte) {
		s, err := hwid.ParseSMBIOS(table)
		require.Equal(t, err != nil, s == nil)
		if err == nil {
			s.CHIDs("ABC1234")
		}
	})
}
