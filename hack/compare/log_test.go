package compare

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm"
)

// eventLog parses and replays a long log in both of its banks, as tpm2_eventlog does, which also
// prints it.
func eventLog(b *testing.B) sides {
	const events = 10_000
	first, err := tpm.Predict(tpm.Boot{Stub: "262", Banks: []crypto.Hash{crypto.SHA1, crypto.SHA256}, Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}},
		UKI: tpm.Application{Path: `\EFI\Linux\acme.efi`, Digests: digestsOf("uki")}, Sections: []osmith.Measurement{{Section: ".linux", Size: 6, Digests: digestsOf("kernel")}}})
	require.NoError(b, err)
	log := &tpm.Log{Events: first.Events}
	for i := len(log.Events); i < events; i++ {
		text := fmt.Sprintf("word %d", i)
		log.Events = append(log.Events, tpm.Event{PCR: i % 16, Type: tpm.EventIPL, Digests: digestsOf(text), Data: []byte(text + "\x00")})
	}
	raw, err := log.MarshalBinary()
	require.NoError(b, err)
	path := filepath.Join(b.TempDir(), "log")
	require.NoError(b, os.WriteFile(path, raw, 0o600))
	return sides{
		ours: func() error {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			l, err := tpm.ParseLog(raw)
			if err != nil {
				return err
			}
			if len(l.Events) != events {
				return fmt.Errorf("%d events", len(l.Events))
			}
			_, err = l.Replay()
			return err
		},
		reference: host(b, "tpm2_eventlog '"+path+"' >/dev/null", "tpm2_eventlog"),
	}
}

// diffLogs compares two long logs with the same events in the opposite order, the shape that takes
// longest; the tools print both and compare the lines.
func diffLogs(b *testing.B) sides {
	const events = 10_000
	var paths []string
	for n, of := range []func(i int) int{func(i int) int { return i }, func(i int) int { return events - 1 - i }} {
		log := &tpm.Log{}
		for i := range events {
			text := fmt.Sprintf("word %d", of(i))
			log.Events = append(log.Events, tpm.Event{PCR: 8, Type: tpm.EventIPL, Digests: digestsOf(text), Data: []byte(text + "\x00")})
		}
		raw, err := log.MarshalBinary()
		require.NoError(b, err)
		paths = append(paths, filepath.Join(b.TempDir(), fmt.Sprint(n)))
		require.NoError(b, os.WriteFile(paths[n], raw, 0o600))
	}
	script := fmt.Sprintf("tpm2_eventlog '%s' >'%s.yaml'; tpm2_eventlog '%s' >'%s.yaml'; diff '%s.yaml' '%s.yaml' >/dev/null || test $? = 1",
		paths[0], paths[0], paths[1], paths[1], paths[0], paths[1])
	return sides{
		ours: func() error {
			var logs []*tpm.Log
			for _, path := range paths {
				raw, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				l, err := tpm.ParseLog(raw)
				if err != nil {
					return err
				}
				logs = append(logs, l)
			}
			c, err := tpm.Compare(logs[0], logs[1])
			if err == nil && len(c.Causes()) != events-1 {
				return fmt.Errorf("%d causes", len(c.Causes()))
			}
			return err
		},
		reference: host(b, script, "tpm2_eventlog"),
	}
}

// predictBoot reads the logs of a real boot's firmware and userspace and predicts the next boot of
// that machine up to its last phase. systemd-pcrlock reads the same two; what it predicts needs a
// TPM.
func predictBoot(b *testing.B) sides {
	r := testtools.Forky(b)
	dir := b.TempDir()
	for _, name := range []string{"binary_bios_measurements", "tpm2-measure.log"} {
		raw, err := os.ReadFile(filepath.Join("../../tpm/testdata/mkosi/b1", name))
		require.NoError(b, err)
		require.NoError(b, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
	}
	firmware, userspace := filepath.Join(dir, "binary_bios_measurements"), filepath.Join(dir, "tpm2-measure.log")
	return sides{
		ours: func() error {
			raw, err := os.ReadFile(firmware)
			if err != nil {
				return err
			}
			boot := tpm.Boot{Stub: "262", Banks: []crypto.Hash{crypto.SHA256}, Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}},
				Chain: []tpm.Program{&tpm.SystemdBoot{Application: tpm.Application{Digests: digestsOf("loader")}, Conf: []byte("timeout 0\n")}}, UKI: tpm.Application{Digests: digestsOf("uki")},
				Sections:  []osmith.Measurement{{Section: ".linux", Size: 6, Digests: digestsOf("kernel")}},
				Handover:  &osmith.Handover{LoadOptions: []byte{'q', 0, 0, 0}, Initrd: digestsOf("initrd")},
				Userspace: &tpm.Userspace{}}
			if boot.Firmware, err = tpm.ParseLog(raw); err != nil {
				return err
			}
			if raw, err = os.ReadFile(userspace); err != nil {
				return err
			}
			if boot.Userspace.Earlier, err = tpm.ParseUserspaceLog(raw); err != nil {
				return err
			}
			boot.Phases = boot.Userspace.Earlier.Phases()
			log, err := tpm.Predict(boot)
			if err != nil {
				return err
			}
			values, err := log.Values(crypto.SHA256)
			if err == nil && len(values) != 15 {
				return fmt.Errorf("%d PCRs are predicted", len(values))
			}
			return err
		},
		reference: inTree(b, r, dir, "env", "SYSTEMD_MEASURE_LOG_FIRMWARE="+firmware, "SYSTEMD_MEASURE_LOG_USERSPACE="+userspace, "/usr/lib/systemd/systemd-pcrlock", "cel"),
	}
}

func digestsOf(text string) map[crypto.Hash][]byte {
	one, two := sha1.Sum([]byte(text)), sha256.Sum256([]byte(text))
	return map[crypto.Hash][]byte{crypto.SHA1: one[:], crypto.SHA256: two[:]}
}
