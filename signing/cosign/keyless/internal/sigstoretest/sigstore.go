// Package sigstoretest is a Sigstore of its own for tests, and writes what its clients would have
// written.
package sigstoretest

import (
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
)

// A Sigstore is a Fulcio, a Rekor and a timestamp authority of its own.
type Sigstore struct {
	*ca.VirtualSigstore
}

// New starts a Sigstore.
func New(t testing.TB) Sigstore {
	t.Helper()
	s, err := ca.NewVirtualSigstore()
	require.NoError(t, err)
	return Sigstore{s}
}

// TrustedRoot is the trusted root of this Sigstore.
func (s Sigstore) TrustedRoot(t testing.TB) []byte {
	t.Helper()
	logs := func(m map[string]*root.TransparencyLog) map[string]*root.TransparencyLog {
		m = maps.Clone(m)
		for id, l := range m {
			// The library's test log has the text of its ID where the ID belongs.
			raw, err := hex.DecodeString(id)
			require.NoError(t, err)
			l.ID, l.SignatureHashFunc = raw, crypto.SHA256
		}
		return m
	}
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, s.FulcioCertificateAuthorities(), logs(s.CTLogs()), s.TimestampingAuthorities(), logs(s.RekorLogs()))
	require.NoError(t, err)
	b, err := r.MarshalJSON()
	require.NoError(t, err)
	return b
}

// promised is a log entry with the promise of the log, which the library's test entity keeps to
// itself.
func (s Sigstore) promised(t testing.TB, e *tlog.Entry) *rekor.TransparencyLogEntry {
	t.Helper()
	tle := e.TransparencyLogEntry()
	set, err := s.RekorSignPayload(tlog.RekorPayload{Body: base64.StdEncoding.EncodeToString(tle.CanonicalizedBody), IntegratedTime: tle.IntegratedTime,
		LogIndex: tle.LogIndex, LogID: hex.EncodeToString(tle.LogId.KeyId)})
	require.NoError(t, err)
	tle.InclusionPromise = &rekor.InclusionPromise{SignedEntryTimestamp: set}
	var body struct{ Kind, APIVersion string }
	require.NoError(t, json.Unmarshal(tle.CanonicalizedBody, &body))
	tle.KindVersion = &rekor.KindVersion{Kind: body.Kind, Version: body.APIVersion}
	return tle
}

// BundleOf writes an entity of the virtual Sigstore as the bundle that a client would have written.
func (s Sigstore) BundleOf(t testing.TB, e *ca.TestEntity, version string) *protobundle.Bundle {
	t.Helper()
	content, err := e.VerificationContent()
	require.NoError(t, err)
	cert := &protocommon.X509Certificate{RawBytes: content.Certificate().Raw}
	b := &protobundle.Bundle{
		MediaType:            "application/vnd.dev.sigstore.bundle.v0.3+json",
		VerificationMaterial: &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_Certificate{Certificate: cert}},
	}
	if version != "0.3" {
		b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=" + version
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{
			X509CertificateChain: &protocommon.X509CertificateChain{Certificates: []*protocommon.X509Certificate{cert}}}
	}
	entries, err := e.TlogEntries()
	require.NoError(t, err)
	for _, entry := range entries {
		b.VerificationMaterial.TlogEntries = append(b.VerificationMaterial.TlogEntries, s.promised(t, entry))
	}
	stamps, err := e.Timestamps()
	require.NoError(t, err)
	b.VerificationMaterial.TimestampVerificationData = new(protobundle.TimestampVerificationData)
	for _, stamp := range stamps {
		b.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps = append(b.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps,
			&protocommon.RFC3161SignedTimestamp{SignedTimestamp: stamp})
	}
	signed, err := e.SignatureContent()
	require.NoError(t, err)
	if env := signed.EnvelopeContent(); env != nil {
		raw := env.RawEnvelope()
		payload, err := raw.DecodeB64Payload()
		require.NoError(t, err)
		b.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: raw.PayloadType, Signatures: []*protodsse.Signature{{Sig: signed.Signature()}}}}
		return b
	}
	b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
		MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: signed.MessageSignatureContent().Digest()},
		Signature:     signed.Signature(),
	}}
	return b
}

// BundleJSON is the text of a bundle.
func BundleJSON(t testing.TB, b *protobundle.Bundle) []byte {
	t.Helper()
	text, err := protojson.Marshal(b)
	require.NoError(t, err)
	return text
}
