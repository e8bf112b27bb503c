package tpm

import (
	"crypto"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// What systemd 262's own tools wrote in a real boot. Every digest in it is that of its word.
func TestUserspaceLog(t *testing.T) {
	u, err := ParseUserspaceLog(read(t, "testdata/userspace/tpm2-measure.log"))
	require.NoError(t, err)
	require.Len(t, u.Records, 23)
	assert.Empty(t, u.Findings)
	first := u.Records[0]
	assert.Equal(t, Record{
		Word: "os-separator", EventType: "os-separator", BootID: "6967d24ca6e74b99935bf8690cf5b5fc", Timestamp: 8758385, Digests: first.Digests,
	}, first)
	last := u.Records[22]
	assert.Equal(t, 15, last.PCR)
	assert.Equal(t, "filesystem", last.EventType)
	events := u.Events()
	require.Len(t, events, 23)
	for i, e := range events {
		assert.True(t, e.Attested(), i)
	}
}

// A firmware's log and userspace's together replay to what phases predict.
func TestWithUserspace(t *testing.T) {
	v := bootVectors(t)[0]
	log, err := ParseLog(v.log)
	require.NoError(t, err)
	u, err := ParseUserspaceLog(read(t, "testdata/userspace/tpm2-measure.log"))
	require.NoError(t, err)
	values, err := log.WithUserspace(u).Values(crypto.SHA256)
	require.NoError(t, err)
	assert.Equal(t, v.phases["enter-initrd:leave-initrd:sysinit:ready"], hexOf(values[11]))
	before, err := log.Values(crypto.SHA256)
	require.NoError(t, err)
	assert.NotEqual(t, before[15], values[15])
	assert.Equal(t, v.pcrs[15], before[15])
}

func TestUserspaceLogErrors(t *testing.T) {
	zero := strings.Repeat("00", 32)
	for _, c := range []struct{ name, in, want string }{
		{"no separator", `{"pcr":1}`, "userspace log: record 0: start at 0x0: no record separator"},
		{"not JSON", "\x1e{\n", "record 0: record at 0x3: the document ends here"},
		{"no PCR", "\x1e{}\n", "want either a PCR from 0 to 23 or an NV index"},
		{"PCR and index", "\x1e" + `{"pcr":1,"nv_index":3}` + "\n", "want either a PCR from 0 to 23 or an NV index"},
		{"PCR 24", "\x1e" + `{"pcr":24}` + "\n", "want either a PCR from 0 to 23 or an NV index"},
		{"short digest", "\x1e" + `{"pcr":1,"digests":[{"hashAlg":"sha256","digest":"00"}]}` + "\n", "a sha256 digest of 1 bytes, want 32"},
		{"no hex", "\x1e" + `{"pcr":1,"digests":[{"hashAlg":"sha256","digest":"0g"}]}` + "\n", "invalid byte"},
		{"digest twice", "\x1e" + `{"pcr":1,"digests":[{"hashAlg":"sha256","digest":"` + zero + `"},{"hashAlg":"sha256","digest":"` + zero + `"}]}` + "\n", "two sha256 digests"},
		{"long", "\x1e" + strings.Repeat(" ", maxRecord+1), "want 1048576 or fewer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := ParseUserspaceLog([]byte(c.in))
			require.ErrorContains(t, err, c.want)
			assert.Nil(t, u)
			var format *osmith.FormatError
			assert.ErrorAs(t, err, &format)
		})
	}
}

func TestUserspaceLogFindings(t *testing.T) {
	zero := strings.Repeat("00", 32)
	rec := "\x1e" + `{"pcr":11,"digests":[{"hashAlg":"sha256","digest":"` + zero + `"},{"hashAlg":"sm3","digest":"00"}],"content":{"string":"ready","bootId":"a"}}` + "\n"
	u, err := ParseUserspaceLog([]byte(rec + "\x1e" + `{"pcr":1,"content":{"bootId":"b"}}` + "\n\x1e{\"pc"))
	require.NoError(t, err)
	require.Len(t, u.Records, 2)
	var got []string
	for _, f := range u.Findings {
		got = append(got, f.Text)
	}
	assert.Equal(t, []string{"a word whose digest is not its own: ready", "no digest of a known bank", "of another boot: b", "the last record is cut after 4 bytes"}, got)
}
