package cosign

import (
	"fmt"
)

const dssePayloadType = "application/vnd.in-toto+json"

// parseDSSE reads a document that is a DSSE envelope.
func parseDSSE(document string, b []byte) (*envelope, error) {
	o, err := parseObject(document, b)
	if err != nil {
		return nil, err
	}
	return parseEnvelope(o)
}

// parseEnvelope reads a DSSE envelope around an in-toto statement (DSSE 1.0, envelope.md).
func parseEnvelope(o object) (*envelope, error) {
	if err := o.expect("payloadType", dssePayloadType); err != nil {
		return nil, err
	}
	payload, err := o.base64("payload")
	if err != nil {
		return nil, err
	}
	list, err := o.objects("signatures")
	if err != nil {
		return nil, err
	}
	// sigstore_bundle.proto demands exactly one, and cosign writes no others.
	if len(list) != 1 {
		return nil, o.errorf("signatures", "%d, want 1", len(list))
	}
	sig, err := list[0].base64("sig")
	if err != nil {
		return nil, err
	}
	if len(sig) == 0 {
		return nil, list[0].errorf("sig", "empty")
	}
	return &envelope{
		message:   preAuthenticationEncoding(dssePayloadType, payload),
		signature: sig,
		payload:   payload,
		read:      readStatement,
	}, nil
}

// preAuthenticationEncoding is the PAE of DSSE 1.0, protocol.md, "Signature
// Definition".
func preAuthenticationEncoding(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// A dsseEnvelope has the members in the order in which cosign writes them.
type (
	dsseEnvelope struct {
		Payload     []byte          `json:"payload"`
		PayloadType string          `json:"payloadType"`
		Signatures  []dsseSignature `json:"signatures"`
	}
	dsseSignature struct {
		Sig []byte `json:"sig"`
	}
)

func newEnvelope(payload, sig []byte) dsseEnvelope {
	return dsseEnvelope{Payload: payload, PayloadType: dssePayloadType, Signatures: []dsseSignature{{sig}}}
}
