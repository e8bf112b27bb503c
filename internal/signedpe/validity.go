package signedpe

import "time"

// OutsideValidity reports whether U-Boot refuses a signing time, with the validity of the signer's
// certificate, for being outside of it. Both ends are inside.
func OutsideValidity(at, notBefore, notAfter time.Time) bool {
	return at.Before(notBefore) || at.After(notAfter)
}

// OutsideValidityToMbedTLS is the same for builds of U-Boot with MbedTLS, 2025.01 and 2026.10. They
// compare dates as if each were in the month before: the 31st of May is the 31st of April, that is
// the 1st of May, as is the 1st of June. So a time up to three days after NotBefore, or before
// NotAfter, is refused where the end of a month lies in between (of 48 images that were booted, 24;
// and 3 from outside ran).
func OutsideValidityToMbedTLS(at, notBefore, notAfter time.Time) bool {
	return OutsideValidity(monthBefore(at), monthBefore(notBefore), monthBefore(notAfter))
}

func monthBefore(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month()-1, t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}
