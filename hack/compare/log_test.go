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
	"github.com/osmith-dev/osmith/tpm"
)

// eventLog parses and replays a long log in both of its banks, as tpm2_eventlog does, which also prints it.
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

func digestsOf(text string) map[crypto.Hash][]byte {
	one, two := sha1.Sum([]byte(text)), sha256.Sum256([]byte(text))
	return map[crypto.Hash][]byte{crypto.SHA1: one[:], crypto.SHA256: two[:]}
}
