package osmith

import "fmt"

// FormatError says where input does not follow its format. Every parser of this module returns it,
// wrapped with the name of the package: [errors.As] finds it, whichever package the input went
// through.
type FormatError struct {
	// in bytes from the start of the input, or of the structure that Field names; negative: not
	// known, as for a member of a JSON document
	Offset int64
	Field  string // what was being read: "primary header: NumberOfPartitionEntries"
	Err    error  // what is wrong with it, without the name of a package
}

func (e *FormatError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s: %v", e.Field, e.Err)
	}
	return fmt.Sprintf("%s at 0x%x: %v", e.Field, e.Offset, e.Err)
}

// Unwrap returns what is wrong with the field.
func (e *FormatError) Unwrap() error { return e.Err }

// DigestError says that a blob is not the one that its digest and size name. Every package that
// reads blobs by digest returns it.
type DigestError struct {
	// as OCI writes digests, "sha256:" and hexadecimal digits; Got is empty when the size differs
	Want, Got         string
	WantSize, GotSize int64 // in bytes; when GotSize is the larger one, there may be more
}

func (e *DigestError) Error() string {
	switch {
	case e.GotSize > e.WantSize:
		return fmt.Sprintf("blob %s: %d bytes or more, want %d", e.Want, e.GotSize, e.WantSize)
	case e.GotSize < e.WantSize:
		return fmt.Sprintf("blob %s: %d bytes, want %d", e.Want, e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("blob %s: the content has digest %s", e.Want, e.Got)
}
