package keyless_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"slices"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/stretchr/testify/require"
)

// annotationsOf writes the same entity as cosign 1 and 2 do.
func annotationsOf(t testing.TB, b *protobundle.Bundle) map[string]string {
	t.Helper()
	chain := b.VerificationMaterial.GetX509CertificateChain().Certificates
	entry := b.VerificationMaterial.TlogEntries[0]
	log, err := json.Marshal(map[string]any{
		"SignedEntryTimestamp": entry.InclusionPromise.SignedEntryTimestamp,
		"Payload": map[string]any{
			"body": entry.CanonicalizedBody, "integratedTime": entry.IntegratedTime, "logIndex": entry.LogIndex, "logID": hex.EncodeToString(entry.LogId.KeyId),
		},
	})
	require.NoError(t, err)
	stamp, err := json.Marshal(map[string]any{"SignedRFC3161Timestamp": b.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps[0].SignedTimestamp})
	require.NoError(t, err)
	sig := b.GetMessageSignature().GetSignature()
	if env := b.GetDsseEnvelope(); env != nil {
		sig = slices.Clone(env.Signatures[0].Sig)
	}
	return map[string]string{
		"dev.cosignproject.cosign/signature":      base64.StdEncoding.EncodeToString(sig),
		"dev.sigstore.cosign/certificate":         string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0].RawBytes})),
		"dev.sigstore.cosign/chain":               "",
		"dev.sigstore.cosign/bundle":              string(log),
		"dev.sigstore.cosign/rfc3161timestamp":    string(stamp),
		"dev.sigstore.cosign/something-of-others": "ignored",
	}
}
