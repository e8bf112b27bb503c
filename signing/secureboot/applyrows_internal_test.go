package secureboot

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// Firmware of which nothing is known takes what all rows take with the same result, and a refusal
// comes before what cannot be told.
func TestAnyFirmware(t *testing.T) {
	refused, unknown := errors.New("refused"), edk2.Unknown("unknown")
	content := func(b byte) osmith.FirmwareVariables { return osmith.FirmwareVariables{DBX: []byte{b}} }
	for _, c := range []struct {
		name   string
		after  []byte // of each row
		errs   []error
		takes  bool
		open   bool // it cannot be told
		reason string
	}{
		{"the same", []byte{1, 1}, []error{nil, nil}, true, false, ""},
		{"other content", []byte{1, 2}, []error{nil, nil}, false, true, "edk2-2022.11 leaves different content from edk2-2026.08"},
		{"one refuses", []byte{1, 1}, []error{nil, refused}, false, false, "refused"},
		{"the other refuses", []byte{1, 1}, []error{refused, nil}, false, false, "refused"},
		{"of one it cannot be told", []byte{1, 1}, []error{nil, unknown}, false, true, "unknown"},
		{"and the other refuses", []byte{1, 1}, []error{unknown, refused}, false, false, "refused"},
	} {
		i := -1
		a, err := applyRows(osmith.FirmwareVariables{}, Pending{Variable: "dbx", Name: "a.auth"}, FirmwareAny, func(updateRow) (osmith.FirmwareVariables, error) {
			i++
			return content(c.after[i]), c.errs[i]
		})
		if c.takes {
			require.NoError(t, err, c.name)
			require.Equal(t, content(1), a.Variables)
			continue
		}
		require.ErrorContains(t, err, c.reason, c.name)
		e, ok := errors.AsType[*RefusedError](err)
		require.True(t, ok)
		require.Equal(t, c.open, e.Unknown, c.name)
		require.Equal(t, Applied{}, a)
	}
	// A row without rules for updates.
	list := updateRows
	defer func() { updateRows = list }()
	updateRows = list[:1]
	_, err := applyRows(osmith.FirmwareVariables{}, Pending{Variable: "dbx", Name: "a.auth"}, FirmwareEDK2Stable202211, func(updateRow) (osmith.FirmwareVariables, error) { return content(1), nil })
	require.ErrorContains(t, err, "whether firmware accepts the update of dbx (a.auth) is unknown: how edk2-2022.11 applies updates to variables is unknown")
	a, err := applyRows(osmith.FirmwareVariables{}, Pending{Variable: "dbx", Name: "a.auth"}, FirmwareAny, func(updateRow) (osmith.FirmwareVariables, error) { return content(1), nil })
	require.NoError(t, err)
	require.Contains(t, a.Undecided, FirmwareEDK2Stable202211)
}
