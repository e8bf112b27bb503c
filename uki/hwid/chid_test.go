package hwid_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// A machine is one vector of systemd-analyze.
type machine struct {
	SMBIOS struct {
		hwid.SMBIOS
		EDID string // its first bytes
	}
	CHIDs map[string]osmith.GUID
}

func machines(t testing.TB) []machine {
	b, err := os.ReadFile("testdata/chid-262.json")
	require.NoError(t, err)
	var ms []machine
	require.NoError(t, json.Unmarshal(b, &ms))
	require.NotEmpty(t, ms)
	return ms
}

func (m *machine) panel(t testing.TB) string {
	if m.SMBIOS.EDID == "" {
		return ""
	}
	edid, err := hex.DecodeString(m.SMBIOS.EDID)
	require.NoError(t, err)
	panel, err := hwid.PanelID(append(edid, make([]byte, 128-len(edid))...))
	require.NoError(t, err)
	return panel
}

func TestCHIDs(t *testing.T) {
	panels := 0
	for _, m := range machines(t) {
		panel := m.panel(t)
		if panel != "" {
			panels++
		}
		for kind, id := range m.SMBIOS.CHIDs(panel) {
			require.Equal(t, m.CHIDs[strconv.Itoa(kind)], id, "%+v type %d", m.SMBIOS, kind)
		}
	}
	require.Positive(t, panels)
}

// The ids that fwupd and systemd publish for one machine (systemd 262,
// hwids/aa64/sc8280xp-lenovo-thinkpad-x13s-21bx.json).
func TestCHIDsPublished(t *testing.T) {
	want := map[int]string{3: "ddf28a3f-43fc-54a4-a6a7-4cba5ad46b3e", 4: "4df470e6-7878-5b0f-b2e0-733d5d9fa228",
		5: "3ad863ab-0181-5a2f-9cc1-70eedc446da9", 6: "69c47e1e-fde2-5062-b777-acbeab73784b", 7: "3486eccc-d0ac-534a-9e2f-a1c18bc310c6",
		8: "c869f39e-f205-5ca0-be7b-d90f90ef5556", 9: "b470d002-ad8e-5d5c-a7bf-bb1333f2ce4b", 10: "64b71f12-4341-5e5c-b7cd-25b6503799e3"}
	for name, s := range map[string]hwid.SMBIOS{
		"exact":  {Manufacturer: "LENOVO", Family: "ThinkPad X13s Gen 1", ProductName: "21BXCTO1WW", SKU: "LENOVO_MT_21BX_BU_Think_FM_ThinkPad X13s Gen 1", BoardVendor: "LENOVO", BoardName: "21BXCTO1WW"},
		"padded": {Manufacturer: "  LENOVO ", Family: "000ThinkPad X13s Gen 1  ", ProductName: " 021BXCTO1WW", SKU: "LENOVO_MT_21BX_BU_Think_FM_ThinkPad X13s Gen 1", BoardVendor: "LENOVO", BoardName: "21BXCTO1WW"},
	} {
		ids := s.CHIDs("")
		for kind, id := range want {
			require.Equal(t, id, ids[kind].String(), "%s, type %d", name, kind)
		}
		require.True(t, ids[0].IsZero(), "no BIOS given")
		require.True(t, ids[17].IsZero(), "no display given")
	}
}

func TestPanelID(t *testing.T) {
	edid := make([]byte, 128)
	copy(edid, []byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x30, 0xe4, 0xa1, 0x05})
	id, err := hwid.PanelID(edid)
	require.NoError(t, err)
	require.Equal(t, "LGD05a1", id)

	_, err = hwid.PanelID(edid[:127])
	require.ErrorContains(t, err, "127 bytes, want 128")
	edid[8] = 0x7f
	_, err = hwid.PanelID(edid)
	require.ErrorContains(t, err, "letter 31")
	edid[0] = 1
	_, err = hwid.PanelID(edid)
	require.ErrorContains(t, err, "starts with 01ff")
}
