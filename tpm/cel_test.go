package tpm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// systemd-pcrlock reads the same logs, and prints the same records. Of logs with several banks it
// prints fewer digests.
func TestInteropCEL(t *testing.T) {
	r := testtools.Forky(t)
	logs := foreignLogs(t)
	for _, v := range bootVectors(t) {
		logs[v.name] = v.log
	}
	compared := 0
	for name, raw := range logs {
		log, err := ParseLog(raw)
		require.NoError(t, err)
		if log.sha1Only {
			continue // which it refuses
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "log")
		require.NoError(t, os.WriteFile(file, raw, 0o644))
		out := r.Output(t, dir, "env", "SYSTEMD_MEASURE_LOG_FIRMWARE="+file, "SYSTEMD_MEASURE_LOG_USERSPACE="+filepath.Join(dir, "none"),
			"/usr/lib/systemd/systemd-pcrlock", "cel")
		var theirs, ours []celRecord
		require.NoError(t, json.Unmarshal([]byte(out), &theirs))
		text, err := log.CEL()
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &ours))
		require.Len(t, ours, len(theirs), name)
		for i := range theirs {
			assert.Subset(t, ours[i].Digests, theirs[i].Digests)
			ours[i].Digests = theirs[i].Digests
			assert.Equal(t, theirs[i], ours[i], name)
			compared++
		}
	}
	require.Greater(t, compared, 300)
}

func TestCELError(t *testing.T) {
	_, err := (&Log{Events: []Event{{PCR: 24, Type: EventAction}}}).CEL()
	assert.ErrorContains(t, err, "event 0 is for PCR 24")
	text, err := (&Log{}).CEL()
	require.NoError(t, err)
	assert.Equal(t, "[]", string(text))
}

// The kernel's own boot_aggregate in a boot that measured nothing else: PCR 10 is the extension of
// one record.
func TestBootAggregate(t *testing.T) {
	v := bootVectors(t)[1]
	require.Equal(t, "b-setupmode-262", v.name)
	log, err := ParseLog(v.log)
	require.NoError(t, err)
	banks, err := log.Replay()
	require.NoError(t, err)
	for h, b := range banks {
		aggregate := b.BootAggregate()
		// Template ima-sig: digest with algorithm, name, signature, each behind its length.
		field := append([]byte("sha256:\x00"), aggregate...)
		record := append([]byte{byte(len(field)), 0, 0, 0}, field...)
		record = append(append(record, 15, 0, 0, 0), "boot_aggregate\x00"...)
		record = append(record, 0, 0, 0, 0)
		require.NoError(t, b.Measure(PCRIMA, record))
		assert.Equal(t, v.pcrs[10], b.PCR(PCRIMA), BankName(h))
	}
}
