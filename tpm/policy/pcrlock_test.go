package policy_test

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/tpm/policy"
)

func TestPCRLockDigest(t *testing.T) {
	one, err := policy.PCRLockDigest(crypto.SHA256, map[int][][]byte{4: {value(1)}, 7: {value(2)}})
	require.NoError(t, err)
	want, err := policy.PolicyPCR(policy.Digest{}, crypto.SHA256, map[int][]byte{4: value(1), 7: value(2)})
	require.NoError(t, err)
	assert.Equal(t, want, one)
	var many [][]byte
	for i := range policy.MaxPolicyOR + 1 {
		many = append(many, value(byte(i)))
	}
	_, err = policy.PCRLockDigest(crypto.SHA256, map[int][][]byte{4: many})
	var tooMany *policy.TooManyValuesError
	require.ErrorAs(t, err, &tooMany)
	assert.Equal(t, policy.TooManyValuesError{PCR: 4, Values: 9}, *tooMany)
	assert.EqualError(t, err, "policy: pcrlock policy: PCR 4 has 9 possible values, want at most 8: systemd unlocks for no more")
	_, err = policy.PCRLockDigest(crypto.SHA256, map[int][][]byte{4: many[:8]})
	assert.NoError(t, err)
	_, err = policy.PCRLockDigest(crypto.SHA256, map[int][][]byte{4: {}})
	assert.ErrorContains(t, err, "PCR 4 has no value")
	_, err = policy.PCRLockDigest(crypto.SHA256, nil)
	assert.ErrorContains(t, err, "no PCRs")
	_, err = policy.PCRLockDigest(crypto.MD5, map[int][][]byte{4: {value(1)}})
	assert.ErrorIs(t, err, policy.ErrBank)
}

func TestPCRLock(t *testing.T) {
	p := &policy.PCRLock{Bank: crypto.SHA256, Values: map[int][][]byte{7: {value(7)}, 4: {value(1), value(2)}}, NVIndex: 0x1800001, SRKHandle: []byte{1}}
	b, err := p.MarshalJSON()
	require.NoError(t, err)
	assert.Equal(t, `{"pcrBank":"sha256","pcrValues":[{"pcr":4,"values":["`+hex.EncodeToString(value(1))+`","`+hex.EncodeToString(value(2))+
		`"]},{"pcr":7,"values":["`+hex.EncodeToString(value(7))+`"]}],"nvIndex":25165825,"srkHandle":"AQ=="}`, string(b))
	again, err := policy.ParsePCRLock(b)
	require.NoError(t, err)
	assert.Equal(t, p, again)
	ok, bad := p.Allows(map[int][]byte{4: value(2), 7: value(7), 9: value(9)})
	assert.True(t, ok)
	assert.Empty(t, bad)
	ok, bad = p.Allows(map[int][]byte{4: value(3)})
	assert.False(t, ok)
	assert.Equal(t, []int{4, 7}, bad)
	ok, _ = (&policy.PCRLock{}).Allows(nil)
	assert.False(t, ok)

	for _, c := range []struct{ in, want string }{
		{"", "JSON at 0x0: the document ends here"},
		{`{"pcrBank":"md5"}`, `pcrBank: bank "md5"`},
		{`{"pcrBank":"sha256","pcrValues":[{"pcr":24,"values":["00"]}]}`, "PCR 24: want each PCR"},
		{`{"pcrBank":"sha256","pcrValues":[{"pcr":1}]}`, "PCR 1: want each PCR"},
		{`{"pcrBank":"sha256","pcrValues":[{"pcr":1,"values":["0g"]}]}`, `PCR 1: value "0g": want 64`},
		{`{"pcrBank":"sha256","nvPublic":"%"}`, "nvPublic at 0x1f: not base64"},
	} {
		p, err := policy.ParsePCRLock([]byte(c.in))
		require.ErrorContains(t, err, "policy: pcrlock.json: "+c.want)
		assert.Nil(t, p)
	}
	_, err = (&policy.PCRLock{Bank: crypto.SHA256, Values: map[int][][]byte{1: {{1}}}}).MarshalJSON()
	assert.ErrorContains(t, err, "a value of 1 bytes")
	_, err = (&policy.PCRLock{}).MarshalJSON()
	assert.ErrorIs(t, err, policy.ErrBank)
}

// FuzzParsePCRLock: no panic, nil exactly with an error, one form per value.
func FuzzParsePCRLock(f *testing.F) {
	f.Add([]byte(`{"pcrBank":"sha1","pcrValues":[{"pcr":5,"values":["bb4b26be1892ac2ff20f1e97a78a87967134c6f5"]}],"nvIndex":25165825,"nvPublic":"AQ=="}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := policy.ParsePCRLock(raw)
		require.Equal(t, err != nil, p == nil)
		if p == nil {
			return
		}
		b, err := json.Marshal(p)
		require.NoError(t, err)
		again, err := policy.ParsePCRLock(b)
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
