package upgrade_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade"
)

// shimFor is a shim that firmware starts for the signature of by, and that trusts a certificate of
// its own.
func shimFor(t *testing.T, by secureboot.KeyPair, trusts *x509.Certificate) osmith.Source {
	t.Helper()
	return shimOf(t, by, trusts, 4, "sbat,1,2024010900\n")
}

// shimOf is one of a generation, that puts a level into SbatLevel.
func shimOf(t *testing.T, by secureboot.KeyPair, trusts *x509.Certificate, generation int, level string) osmith.Source {
	t.Helper()
	level += "\x00"
	le := binary.LittleEndian
	vendor := le.AppendUint32(le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, uint32(len(trusts.Raw))), 0), 16), uint32(16+len(trusts.Raw)))
	levels := append(le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, 0), 8), 8+uint32(len(level))), level+level...)
	b := petest.Shim(append(vendor, trusts.Raw...), levels, fmt.Appendf(nil, "sbat,1,x,x,1,x\nshim,%d,x,x,1,x\n", generation), 0, ".vendor_cert\x00.sbatlevel\x00")
	var out bytes.Buffer
	require.NoError(t, authenticode.Sign(&out, bytes.NewReader(b), by.Key, by.Cert, authenticode.SignOptions{Time: when}))
	return source(out.Bytes())
}

// What starts a UKI on a machine with shim is shim; and a UKI that shim refuses never boots there.
func TestShim(t *testing.T) {
	k, err := keys()
	require.NoError(t, err)
	other, err := foreign()
	require.NoError(t, err)
	foreignCert := other.SecureBoot.DB.Cert
	list := func(c *x509.Certificate) []byte {
		b, err := secureboot.AppendSignatureLists(nil, secureboot.CertificateList(osmith.GUID{1}, c))
		require.NoError(t, err)
		return b
	}
	none := []byte{}
	for _, c := range []struct {
		name   string
		change func(s *system)
		reason string // why it boots
		want   string // or why not
		as     any
	}{
		{"firmware", func(s *system) { s.machine.Shim = nil }, "firmware: db has the certificate", "", nil},
		{"db", func(*system) {}, "shim: db has the certificate", "", nil},
		{"a stranger's signature", func(s *system) { s.builder.Foreign = other }, "", "shim will not start EFI/Linux/acme_2+3.efi: signature 0: signed by", new(*upgrade.SecureBootError)},
		{"shim's own certificate", func(s *system) {
			s.builder.Foreign = other
			s.machine.Shim = shimFor(t, k.SecureBoot.DB, foreignCert)
		}, "shim: shim trusts the certificate", "", nil},
		{"shim's own certificate, without shim", func(s *system) {
			s.builder.Foreign = other
			s.machine.Shim = nil
		}, "", "firmware will not start EFI/Linux/acme_2+3.efi", new(*upgrade.SecureBootError)},
		{"MokList", func(s *system) { s.builder.Foreign = other; s.machine.Firmware.MokList = list(foreignCert) }, "shim: MokList has the certificate", "", nil},
		{"MokListX", func(s *system) { s.machine.Firmware.MokListX = list(k.SecureBoot.DB.Cert) }, "", "shim will not start EFI/Linux/acme_2+3.efi: MokListX has the certificate", new(*upgrade.SecureBootError)},
		{"MokListX, no shim", func(s *system) {
			s.machine.Firmware.MokListX = list(k.SecureBoot.DB.Cert)
			s.machine.Shim, s.machine.NoShim = nil, true
		}, "firmware: db has the certificate", "", nil},
		{"SbatLevel", func(s *system) { s.machine.Firmware.SbatLevel = []byte("sbat,1,2030010100\nuki,2\n") }, "", "shim will not start EFI/Linux/acme_2+3.efi: revoked by SBAT", new(*upgrade.SecureBootError)},
		{"SbatLevel, shim or not", func(s *system) {
			s.machine.Firmware.SbatLevel = []byte("sbat,1,2030010100\nuki,2\n")
			s.machine.Shim = nil
		}, "", "firmware will not start EFI/Linux/acme_2+3.efi: revoked by SBAT", new(*upgrade.SecureBootError)},
		{"SbatLevel, no shim", func(s *system) {
			s.machine.Firmware.SbatLevel = []byte("sbat,1,2030010100\nuki,2\n")
			s.machine.Shim, s.machine.NoShim = nil, true
		}, "firmware: db has the certificate", "", nil},
		{"shim that firmware refuses", func(s *system) { s.machine.Shim = shimFor(t, other.SecureBoot.DB, foreignCert) }, "", "firmware will not start shim: signature 0", new(*upgrade.SecureBootError)},
		{"shim's state is unknown", func(s *system) { s.machine.Firmware.MokListX = nil }, "", "cannot be told: shim's state is unknown: MokListX", new(*upgrade.SecureBootError)},
		{"no shim at all", func(s *system) { s.machine.Shim = source(petest.Loader("262")) }, "", "shim: secureboot: shim", new(*osmith.FormatError)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSystem(t, "")
			s.machine.FirmwareKind = secureboot.FirmwareEDK2Stable202608
			s.machine.Shim = shimFor(t, k.SecureBoot.DB, k.SecureBoot.PK.Cert)
			f := *s.machine.Firmware
			f.SbatLevel, f.SbatPolicy, f.MokList, f.MokListX, f.MokSBState, f.MokDBState, f.MokPolicy = none, none, none, none, none, none, none
			s.machine.Firmware = &f
			c.change(s)
			p, err := upgrade.NewPlan(context.Background(), s.disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
			require.NoError(t, err)
			i := slices.IndexFunc(p.Verdicts, func(v upgrade.Verdict) bool { return v.Proof == upgrade.ProofBoots })
			texts := ""
			for _, r := range p.Verdicts[i].Reasons {
				texts += r.Text + "\n"
			}
			if c.want != "" {
				require.Equal(t, upgrade.OutcomeFail, p.Verdicts[i].Outcome)
				require.Contains(t, texts, c.want)
				require.ErrorAs(t, p.Refused(), c.as)
				require.Nil(t, p.Predicted)
				return
			}
			require.NotEqual(t, upgrade.OutcomeFail, p.Verdicts[i].Outcome, texts)
			require.Contains(t, texts, c.reason)
			require.NotNil(t, p.Predicted)
			log, err := upgrade.PredictBoot(s.machine, nil, s.build("3").Release().UKI)
			require.NoError(t, err)
			// Shim's lists are measured into PCR 14, what MokListTrusted is was not said; and the
			// level into PCR 7, with what lets shim start in front of it.
			var sevens []string
			for _, e := range log.Events {
				if e.PCR == 7 && e.Type == tpm.EventEFIVariableAuthority {
					sevens = append(sevens, e.Subject.Name)
				}
			}
			if s.machine.Shim == nil {
				require.Equal(t, []string{"db"}, sevens)
				require.Equal(t, tpm.PredictionExact, log.Coverage[14].Prediction)
				return
			}
			require.Equal(t, []string{"db", "SbatLevel"}, sevens[:2])
			require.Len(t, sevens, 3)
			require.Equal(t, tpm.PredictionExact, log.Coverage[7].Prediction)
			require.Equal(t, tpm.PredictionNone, log.Coverage[14].Prediction)
			require.Contains(t, log.Coverage[14].Note, "MokListTrusted")
		})
	}
	// Where shim may start the UKI, nothing is predicted either.
	s := newSystem(t, "")
	f := *s.machine.Firmware
	f.SbatLevel = []byte("sbat,1,2024010900\n")
	s.machine.Firmware, s.machine.FirmwareKind = &f, secureboot.FirmwareEDK2Stable202608
	_, err = upgrade.PredictBoot(s.machine, nil, s.build("2").Release().UKI)
	require.ErrorIs(t, err, upgrade.ErrShimNotPredicted)
	s.machine.NoShim = true
	log, err := upgrade.PredictBoot(s.machine, nil, s.build("2").Release().UKI)
	require.NoError(t, err)
	for _, pcr := range []int{4, 7, 14} {
		require.Equal(t, tpm.PredictionExact, log.Coverage[pcr].Prediction, log.Coverage[pcr])
	}
}
