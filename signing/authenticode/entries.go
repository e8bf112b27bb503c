package authenticode

import "github.com/osmith-dev/osmith"

// An Entry is a signature as it stands in the certificate table, with what surrounds it there and is not signed.
type Entry struct {
	Signature

	Offset  int64  // of Message in the file, in bytes
	Message []byte // PKCS #7 SignedData, DER, without padding: see [Attach]

	// Timestamps are the counter-signatures that say when the signature was there. Firmware does not look at them, nor does [Verify].
	Timestamps []Timestamp
}

// Entries lists the signatures of an image like [Signatures], with more about each.
func Entries(src osmith.Source) ([]Entry, error) {
	f, err := parse(src)
	if err != nil {
		return nil, err
	}
	_, table, err := readTable(f, src)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(table))
	for _, e := range table {
		if e.data == nil {
			continue
		}
		sd, err := parseMessage(e.data, e.offset)
		if err != nil {
			return nil, err
		}
		s, err := newSignature(sd, e.offset)
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Signature: s, Offset: e.offset, Message: sd.Raw, Timestamps: timestamps(sd)})
	}
	return entries, nil
}
