package osmith

import "fmt"

// FormatError says where input does not follow its format. Every parser of this module returns it, wrapped with the name of
// the package: [errors.As] finds it, whichever package the input went through.
type FormatError struct {
	Offset int64  // in bytes from the start of the input, or of the structure that Field names
	Field  string // what was being read: "primary header: NumberOfPartitionEntries"
	Err    error  // what is wrong with it, without the name of a package
}

func (e *FormatError) Error() string { return fmt.Sprintf("%s at 0x%x: %v", e.Field, e.Offset, e.Err) }

// Unwrap returns what is wrong with the field.
func (e *FormatError) Unwrap() error { return e.Err }
