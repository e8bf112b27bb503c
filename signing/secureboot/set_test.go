package secureboot_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/secureboot"
)

const sbatText = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\nsystemd-boot,1,The systemd Developers,systemd,257,https://systemd.io/\n"

func TestEvaluateSBATAndDates(t *testing.T) {
	h := hierarchy(t)
	v := enrolled(t, h).Variables
	long := when.AddDate(50, 0, 0)
	leaf := issue(t, "leaf", false, h.KEK, h.DB)
	for _, c := range []struct {
		name        string
		level, sbat string
		by          secureboot.KeyPair
		at          time.Time
		allowed     bool
		revoked     bool
		reason      string
		warnings    int
	}{
		{"no shim", "", "", h.DB, time.Time{}, true, false, "db has", 0},
		{"good generation", "sbat,1,2024010900\nsystemd-boot,1\n", sbatText, h.DB, time.Time{}, true, false, "db has", 0},
		{"too old", "sbat,1,2024010900\nsystemd-boot,2\n", sbatText, h.DB, time.Time{}, false, true, `revoked by SBAT: component "systemd-boot" is of generation 1, the level asks for 2 (SbatLevel 2024010900)`, 0},
		{"broken section", "sbat,1\n", "sbat,1\n", h.DB, time.Time{}, false, true, "shim cannot parse", 0},
		{"no section", "sbat,1\n", "", h.DB, time.Time{}, true, false, "db has", 1},
		{"broken level", "x", sbatText, h.DB, time.Time{}, true, false, "db has", 1},
		{"refused anyway", "sbat,1\nsystemd-boot,2\n", sbatText, h.PK, time.Time{}, false, false, "no certificate in db leads there", 0},
		{"expired", "", "", h.DB, long, true, false, "db has", 1},
		{"signer expired too", "", "", leaf, long, true, false, "which leads to the signer", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, im := v, signed("image", c.by)
			if c.level != "" {
				m.SbatLevel = []byte(c.level)
			}
			if c.sbat != "" {
				im.SBAT = []byte(c.sbat)
			}
			r := secureboot.Evaluate(m, im, secureboot.EvaluateOptions{At: c.at})
			require.Equal(t, c.allowed, r.Allowed, r.Reason)
			require.Equal(t, c.revoked, r.Revoked)
			require.Contains(t, r.Reason, c.reason)
			require.Len(t, r.Warnings, c.warnings, "%v", r.Warnings)
			m.SecureBoot = []byte{0}
			require.True(t, secureboot.Evaluate(m, im, secureboot.EvaluateOptions{At: c.at}).Allowed)
		})
	}
}

func TestEvaluateSet(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	v := enrolled(t, h).Variables
	images := []secureboot.Image{signed("loader", h.DB), signed("old UKI", h.DB), signed("foreign", f.DB)}
	e := secureboot.EvaluateSet(v, images[:2], secureboot.EvaluateSetOptions{})
	require.True(t, e.Allowed())
	require.Nil(t, e.After)

	dbx := auth(t, h.KEK, secureboot.Update{Variable: "dbx", Payload: lists(t, secureboot.SHA256List(owner, [32]byte(images[1].Digests[5]))), Time: when, Append: true})
	db := auth(t, h.KEK, secureboot.Update{Variable: "db", Payload: lists(t, secureboot.CertificateList(owner, f.DB.Cert)), Time: when, Append: true})
	e = secureboot.EvaluateSet(v, images, secureboot.EvaluateSetOptions{Pending: []secureboot.Pending{{Variable: "dbx", Auth: dbx, Append: true}, {Variable: "db", Auth: db, Append: true}}})
	require.False(t, e.Allowed())
	require.Equal(t, []string{"old UKI", "foreign"}, e.Changed())
	require.Contains(t, e.String(), "loader: allowed: db has the certificate")
	require.Contains(t, e.String(), "old UKI: allowed: db has the certificate")
	require.Contains(t, e.String(), "  with the pending updates: revoked: dbx has the digest of the image")
	require.Contains(t, e.String(), "foreign: refused: signature 0: signed by")
	b, err := json.Marshal(e)
	require.NoError(t, err)
	var o struct {
		Schema  string
		Allowed bool
		Changed []string
		Images  []struct {
			Name       string
			Now, After struct {
				Allowed, Revoked               bool
				Reason, Authority, Certificate string
			}
		}
	}
	require.NoError(t, json.Unmarshal(b, &o))
	require.Equal(t, secureboot.EvaluationSchema, o.Schema)
	require.True(t, o.Images[1].After.Revoked)
	require.NotEmpty(t, o.Images[0].Now.Authority)
	require.Len(t, o.Images[0].Now.Certificate, 64)

	// An update that firmware would not take is no update.
	e = secureboot.EvaluateSet(v, images[:1], secureboot.EvaluateSetOptions{Pending: []secureboot.Pending{{Variable: "dbx", Auth: dbx}}})
	require.ErrorIs(t, e.Refused, secureboot.ErrSignature)
	require.False(t, e.Allowed())
	require.Nil(t, e.Images[0].After)
	require.Contains(t, e.String(), "pending: secureboot: firmware would refuse the update of dbx")
	b, err = json.Marshal(e)
	require.NoError(t, err)
	require.Contains(t, string(b), `"pendingRefused":"secureboot: firmware would refuse`)
}
