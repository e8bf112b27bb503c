package authenticode

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith/internal/cms"
)

// A Timestamp is somebody's statement that a signature existed at a time, added to it later and not covered by it. That it is there does not
// mean that anybody trusts its authority.
type Timestamp struct {
	RFC3161   bool              // a token as RFC 3161 has it; else a PKCS #9 counter-signature, the older kind
	Time      time.Time         // zero when Err is set
	Authority *x509.Certificate // whose statement it is, nil if that cannot be told
	Err       error             // why it is not a valid statement by Authority about this signature; nil if it is
}

func timestamps(sd *cms.SignedData) []Timestamp {
	var list []Timestamp
	for _, t := range sd.Timestamps(&sd.Signers[0]) {
		if t.Err != nil {
			t.Err = fmt.Errorf("authenticode: %w", t.Err)
		}
		list = append(list, Timestamp(t))
	}
	return list
}
