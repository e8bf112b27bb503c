package signedpe

import (
	"testing"
	"time"
)

func TestOutsideValidity(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		at, from, to string
		want, mbed   bool
	}{
		{"2026-06-01 12:00:00", "2026-01-01 00:00:00", "2036-01-01 00:00:00", false, false},
		{"2026-01-01 00:00:00", "2026-01-01 00:00:00", "2036-01-01 00:00:00", false, false},
		{"2036-01-01 00:00:00", "2026-01-01 00:00:00", "2036-01-01 00:00:00", false, false},
		{"2036-01-01 00:00:01", "2026-01-01 00:00:00", "2036-01-01 00:00:00", true, true},
		{"2000-12-31 23:59:59", "2001-01-01 00:00:00", "2036-01-01 00:00:00", true, false},
		{"2000-11-30 23:59:59", "2001-01-01 00:00:00", "2036-01-01 00:00:00", true, true},
		{"2020-06-01 12:00:00", "2020-05-31 13:00:00", "2036-01-01 00:00:00", false, true},
		{"2020-06-01 14:00:00", "2020-05-31 13:00:00", "2036-01-01 00:00:00", false, false},
		{"2020-05-31 13:00:00", "2020-06-01 12:00:00", "2036-01-01 00:00:00", true, false},
		{"2021-04-01 14:00:00", "2021-03-31 13:00:00", "2036-01-01 00:00:00", false, true},
		{"2021-05-01 12:00:00", "2021-04-30 13:00:00", "2036-01-01 00:00:00", false, false},
		{"2020-05-31 13:00:00", "2001-01-01 00:00:00", "2020-06-01 12:00:00", false, true},
		{"2021-01-01 12:00:00", "2020-12-31 13:00:00", "2036-01-01 00:00:00", false, true},
	} {
		if got := OutsideValidity(at(c.at), at(c.from), at(c.to)); got != c.want {
			t.Errorf("%s in %s to %s: %v", c.at, c.from, c.to, got)
		}
		if got := OutsideValidityToMbedTLS(at(c.at), at(c.from), at(c.to)); got != c.mbed {
			t.Errorf("%s in %s to %s to MbedTLS: %v", c.at, c.from, c.to, got)
		}
	}
}
