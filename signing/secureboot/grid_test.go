package secureboot_test

import (
	"bytes"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/firmwaregrid"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// undecided are the questions of the grid that the model leaves open, and why.
var undecided = map[secureboot.Firmware]map[string]string{
	secureboot.FirmwareEDK2Stable202608: {
		"ec-k256-l": "a curve other than", "ec-k256-d": "a curve other than", "ec-k256-s": "a curve other than", "message-ec-k256": "a curve other than",
		"ed25519-l":                               "keys of the algorithm 1.3.101.112",
		"message-message-digest-of-two-values":    "not in DER",
		"message-attribute-of-length-not-minimal": "not in DER", "message-attributes-of-length-not-minimal": "not in DER",
	},
	secureboot.FirmwareEDK2Stable202211: {
		"ed25519-l":                               "keys of the algorithm 1.3.101.112",
		"message-message-digest-of-two-values":    "not in DER",
		"message-attribute-of-length-not-minimal": "not in DER", "message-attributes-of-length-not-minimal": "not in DER",
	},
}

// What two builds of edk2 did with the images of the grid: the model gives the same answer, or says
// that it cannot tell.
func TestFirmwareGrid(t *testing.T) {
	g := firmwaregrid.Images()
	answers, err := g.Answers()
	require.NoError(t, err)
	v := osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, DB: g.DB, DBX: g.DBX}
	for row, recorded := range answers {
		require.Len(t, recorded, len(g.Cases))
		open := undecided[secureboot.Firmware(row)]
		for i, c := range g.Cases {
			if strconv.IntSize == 32 && i%3 != 0 && open[c.Name] == "" {
				continue // large numbers take their time there, and are the same
			}
			im, err := secureboot.ReadImage(bytes.NewReader(c.Image))
			require.NoError(t, err, c.Name)
			r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Firmware: secureboot.Firmware(row)})
			ran := bool(recorded[c.Name])
			why := open[c.Name]
			switch {
			case r.Unknown != (why != ""):
				t.Errorf("%s: %s: ran %v; cannot be told %v: %s", row, c.Name, ran, r.Unknown, r.Reason)
			case r.Unknown:
				require.False(t, r.Allowed)
				require.Contains(t, r.Reason, why)
			case ran != r.Allowed:
				t.Errorf("%s: %s: ran %v, verdict %v: %s", row, c.Name, ran, r.Allowed, r.Reason)
			}
		}
	}
}

// What two builds of edk2 said to the updates of the grid, one after the other: the model says the
// same, or that it cannot tell.
func TestUpdateGrid(t *testing.T) {
	u := firmwaregrid.VariableUpdates()
	answers, err := u.Answers()
	require.NoError(t, err)
	for row, recorded := range answers {
		require.Len(t, recorded, len(u.Writes))
		v := osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: u.PK, KEK: u.KEK, DB: u.DB, Times: map[string]time.Time{}}
		for _, name := range []string{"PK", "KEK", "db"} {
			v.Times[name] = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		for i, w := range u.Writes {
			if w.Attributes&^0x40 != 0x27 {
				continue // a Pending always has the attributes that key variables have
			}
			p := secureboot.Pending{Variable: w.Variable, Auth: w.Data, Append: w.Attributes&0x40 != 0}
			a, err := secureboot.ApplyWith(v, p, secureboot.ApplyOptions{Firmware: secureboot.Firmware(row)})
			var refused *secureboot.RefusedError
			if errors.As(err, &refused) && refused.Unknown {
				require.Equal(t, "bytes behind the lists", w.Name, err)
				require.False(t, bool(recorded[i]), "what is taken and cannot be told ends the comparison")
				continue
			}
			require.Equal(t, bool(recorded[i]), err == nil, "%s: %s: %v", row, w.Name, err)
			if err == nil {
				v = a.Variables
			}
		}
		require.NotEmpty(t, v.PK)
		require.Equal(t, []byte{0}, v.SetupMode, "the last writes enrol a platform key")
	}
}

// What Debian's shim did with the images of its grid: the model never allows one that shim refused,
// and never says of one that ran that it is refused.
func TestShimGrid(t *testing.T) {
	g := firmwaregrid.Shim()
	recorded, err := g.Answers()
	require.NoError(t, err)
	require.Len(t, recorded, len(g.Cases))
	v := osmith.FirmwareVariables{
		SecureBoot: []byte{1}, SetupMode: []byte{0}, DB: g.DB, DBX: g.DBX, MokList: g.MokList, MokListX: g.MokListX, SbatLevel: []byte(g.Level),
		SbatPolicy: []byte{}, MokSBState: []byte{}, MokDBState: []byte{}, MokPolicy: []byte{}, MokListTrustedRT: []byte{},
	}
	shim := debianShim(t)
	open := 0
	for _, c := range g.Cases {
		r := secureboot.Evaluate(v, readImageBytes(t, c.Image), secureboot.EvaluateOptions{Shim: shim})
		ran := bool(recorded[c.Name])
		if r.Unknown {
			open++
			require.False(t, r.Allowed)
			require.Equal(t, secureboot.RuleNotModelled, r.Rule, "%s: %s", c.Name, r.Reason)
		} else if ran != r.Allowed && len(r.Warnings) == 0 {
			t.Errorf("%s: ran %v, verdict %v: %s", c.Name, ran, r.Allowed, r.Reason)
		}
	}
	t.Logf("%d images, %d of which cannot be told", len(g.Cases), open)
	require.Less(t, open, len(g.Cases)/4)
}
