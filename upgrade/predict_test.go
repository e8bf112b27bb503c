package upgrade_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade"
)

// With phases the PCRs that systemd measures words into are claimed if it is known which; before
// the first phase they are in any case.
func TestPredictBootPhases(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2").Release().UKI
	for _, c := range []struct {
		name      string
		userspace *tpm.Userspace
		phases    []string
		want      []int // of 4, 7, 11
	}{
		{"the kernel starts", nil, nil, []int{4, 7, 11}},
		{"the kernel starts, whatever is known of later", &tpm.Userspace{Separator: tpm.MeasuredYes}, nil, []int{4, 7, 11}},
		{"nothing known", nil, []string{tpm.PhaseEnterInitrd}, []int{11}},
		{"nothing else", tpm.PhasesAlone(), []string{tpm.PhaseEnterInitrd}, []int{4, 7, 11}},
		{"an old systemd", &tpm.Userspace{Systemd: "257"}, []string{tpm.PhaseEnterInitrd}, []int{4, 7, 11}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := s.machine
			m.Userspace = c.userspace
			log, err := upgrade.PredictBoot(m, nil, set, c.phases...)
			require.NoError(t, err)
			var got []int
			for _, n := range []int{4, 7, 11} {
				if log.Coverage[n].Prediction != tpm.PredictionNone {
					got = append(got, n)
				}
			}
			require.Equal(t, c.want, got)
			if c.phases == nil {
				before, err := upgrade.PredictBoot(s.machine, nil, set)
				require.NoError(t, err)
				require.Equal(t, before.Events, log.Events)
			}
		})
	}
}

// What U-Boot measures is in another order, with other events: a prediction by edk2's would be
// wrong.
func TestUBootIsNotPredicted(t *testing.T) {
	s := newSystem(t, "")
	for _, kind := range []secureboot.Firmware{secureboot.FirmwareUBoot202610, secureboot.FirmwareUBoot202501, secureboot.FirmwareUBootLegacy} {
		s.machine.FirmwareKind = kind
		_, err := upgrade.PredictBoot(s.machine, nil, s.build("2").Release().UKI)
		require.ErrorIs(t, err, upgrade.ErrUBootNotPredicted)
	}
}
