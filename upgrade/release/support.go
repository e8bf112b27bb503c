package release

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Limits of what a release says that it fixes.
const (
	maxFixes = 1024
	maxFix   = 128 // bytes
)

// Date is a day of the calendar as RFC 3339 writes it (full-date), such as 2031-12-31. The zero
// value means that no date is set.
type Date string

// ParseDate reads a date.
func ParseDate(s string) (Date, error) {
	d := Date(s)
	if s == "" {
		return "", prefix.Error("release", errors.New("no date: want one such as 2031-12-31"))
	}
	return d, prefix.Error("release", d.check())
}

func (d Date) check() error {
	if _, err := time.Parse(time.DateOnly, string(d)); err != nil && d != "" {
		return fmt.Errorf("%.40q is not a date: want one such as 2031-12-31", string(d))
	}
	return nil
}

// Over reports whether the last second of the day, in UTC, is before a time. No date is never over.
func (d Date) Over(at time.Time) bool {
	day, err := time.Parse(time.DateOnly, string(d))
	return err == nil && !at.Before(day.AddDate(0, 0, 1))
}

// CheckSupport says what is wrong with the end of a support period and with a list of fixes, as a
// release has them: a date or none; at most 1024 different identifiers of at most 128 printable
// ASCII characters without spaces.
func CheckSupport(until Date, fixes []string) error {
	return prefix.Error("release", checkSupport(until, fixes))
}

func checkSupport(until Date, fixes []string) error {
	if err := until.check(); err != nil {
		return fmt.Errorf("supportedUntil: %w", err)
	}
	if len(fixes) > maxFixes {
		return fmt.Errorf("fixes: %d, at most %d are allowed", len(fixes), maxFixes)
	}
	seen := map[string]bool{}
	for i, f := range fixes {
		switch {
		case len(f) == 0 || len(f) > maxFix:
			return fmt.Errorf("fixes[%d]: %d characters, want 1 to %d", i, len(f), maxFix)
		case slices.ContainsFunc([]byte(f), func(c byte) bool { return c <= ' ' || c > '~' }):
			return fmt.Errorf("fixes[%d]: %q: want printable ASCII characters without spaces, such as CVE-2026-1234", i, f)
		case seen[f]:
			return fmt.Errorf("fixes[%d]: %s is listed twice", i, f)
		}
		seen[f] = true
	}
	return nil
}
