package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// List is a flag that may be given several times.
type List []string

func (l *List) String() string { return strings.Join(*l, " ") }

// Set is the flag's.
func (l *List) Set(value string) error {
	if value == "" {
		return errors.New("the file is empty")
	}
	*l = append(*l, value)
	return nil
}

// Required takes names and values of flags, and refuses the first that is empty.
func Required(nameValue ...string) error {
	for i := 0; i < len(nameValue); i += 2 {
		if nameValue[i+1] == "" {
			return Usagef("-%s is missing", nameValue[i])
		}
	}
	return nil
}

// SourceDate is the time of SOURCE_DATE_EPOCH
// (https://reproducible-builds.org/specs/source-date-epoch/), so that the same call gives the same
// bytes; without it, the one given.
func SourceDate(otherwise time.Time) (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return otherwise, nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s: want seconds since 1970", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
