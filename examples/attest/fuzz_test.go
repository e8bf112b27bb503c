package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/tpm"
)

// FuzzEvidence judges what a hostile machine may send: nothing panics, and nothing is trusted that
// no TPM signed.
func FuzzEvidence(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f, err)
	log, err := tpm.ParseLog(swtpm.EventLog(version("kernel 1")...))
	require.NoError(f, err)
	values, err := log.Values(crypto.SHA256)
	require.NoError(f, err)
	r := &reference{bank: crypto.SHA256, pcrs: []int{7}, boots: []boot{{"v1.log", log, map[int][]byte{7: values[7]}}}}
	s := &session{endorsementKey: []byte("ek"), key: &key.PublicKey, nonce: []byte("nonce"), answer: []byte("answer")}
	seed, err := json.Marshal(evidence{
		Answer: s.answer, Attest: []byte("\xffTCG\x80\x18"), Signature: []byte{0, 0x18, 0, 0x0b}, PCRs: encodePCRs(values), Log: swtpm.EventLog(version("kernel 2")...),
	})
	require.NoError(f, err)
	f.Add(seed)
	f.Add([]byte(`{"answer": "YW5zd2Vy", "pcrs": {"7": "00"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var e evidence
		if json.Unmarshal(text, &e) != nil {
			return
		}
		v := r.judge(s, &e)
		require.False(t, v.Trusted)
		require.NotEmpty(t, v.Problems)
		_ = v.text()
		// As if it had been signed: the log and the values are looked at, too.
		if claimed, err := decodePCRs(e.PCRs); err == nil {
			log, err := eventLog(&e)
			v = r.explain(verdict{}, claimed, log, err)
			_ = v.text()
		}
	})
}
