package tpm

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// What was once written stays so: testdata/compat holds bytes of released versions. OSMITH_UPDATE=1
// writes those that are not there yet.
func TestCompat(t *testing.T) {
	block, _ := pem.Decode(read(t, "testdata/example-key.pem"))
	require.NotNil(t, block)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	require.NoError(t, err)

	states, err := PCR11States(golden(), nil, nil)
	require.NoError(t, err)
	sigs, err := policy.Sign(key, states, "")
	require.NoError(t, err)
	pcrsig, err := sigs.MarshalJSON()
	require.NoError(t, err)

	states, err = PCR11States(golden(), []crypto.Hash{crypto.SHA256}, nil)
	require.NoError(t, err)
	policies, err := policy.Prepare(&key.PublicKey, states, "initrd")
	require.NoError(t, err)
	unsigned, err := policies.MarshalJSON()
	require.NoError(t, err)

	program := func(path string) Application {
		a := Application{Path: path, Size: int64(len(path)), Digests: make(map[crypto.Hash][]byte)}
		for _, h := range Banks() {
			a.Digests[h] = pcrbank.Sum(h, []byte(path))
		}
		return a
	}
	boot := Boot{
		Variables: &osmith.FirmwareVariables{SecureBoot: []byte{1}, PK: []byte("pk"), KEK: []byte("kek"), DB: []byte("0123456789abcdef-db"), DBT: []byte("dbt")},
		Chain:     []Program{&SystemdBoot{Application: program(`\EFI\BOOT\BOOTX64.EFI`)}}, UKI: program(`\EFI\Linux\os.efi`),
		Sections: append(golden(), measure(".profile", "ID=x\n")...), Phases: []string{PhaseEnterInitrd}, Stub: "262",
		Handover: &osmith.Handover{Passed: "@2", Events: []osmith.HandoverEvent{profileEvent("2")}},
	}
	boot.authorize([]byte("0123456789abcdef-db"))
	log, err := Predict(boot)
	require.NoError(t, err)
	raw, err := log.MarshalBinary()
	require.NoError(t, err)

	for name, got := range map[string][]byte{"pcrsig.json": pcrsig, "policies.json": unsigned, "predicted.bin": raw} {
		path := filepath.Join("testdata/compat/v0", name)
		want, err := os.ReadFile(path)
		if os.IsNotExist(err) && os.Getenv("OSMITH_UPDATE") == "1" {
			require.NoError(t, os.WriteFile(path, got, 0o644))
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), name)
	}
}
