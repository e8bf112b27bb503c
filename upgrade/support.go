package upgrade

import (
	"fmt"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/upgrade/release"
)

// SupportState says whether a version is still supported by its vendor.
type SupportState string

// The states of support.
const (
	// the release states no end date, or the plan has no time
	SupportUnknown SupportState = "unknown"
	SupportLasts   SupportState = "supported"
	SupportEnded   SupportState = "ended" // the vendor no longer promises fixes
)

// Support is what a release states about its support. It is the vendor's claim, and the signature
// of the release covers it. A version whose support has ended is accepted nevertheless: it may be
// the best one available for a machine.
type Support struct {
	Until release.Date `json:"until"` // the last day; "": the release does not say
	State SupportState `json:"state"`
	Fixes []string     `json:"fixes"` // such as CVE-2026-1234
}

// supportOf judges the support of a release at a time; nil if the release says nothing.
func supportOf(r *release.Release, at time.Time) *Support {
	if r.SupportedUntil == "" && len(r.Fixes) == 0 {
		return nil
	}
	s := &Support{Until: r.SupportedUntil, State: SupportUnknown, Fixes: append([]string{}, r.Fixes...)}
	switch {
	case at.IsZero() || s.Until == "":
	case s.Until.Over(at):
		s.State = SupportEnded
	default:
		s.State = SupportLasts
	}
	return s
}

// shownFixes is how many fixes a line for a person lists.
const shownFixes = 8

// String is the support for a person, in complete lines; "" for nil.
func (s *Support) String() string {
	if s == nil {
		return ""
	}
	var b strings.Builder
	switch {
	case s.State == SupportEnded:
		fmt.Fprintf(&b, "  support  ENDED on %s: the vendor promises no more security fixes for this version; look for a newer one\n", s.Until)
	case s.Until != "":
		fmt.Fprintf(&b, "  support  until %s\n", s.Until)
	}
	if n := len(s.Fixes); n > 0 {
		list := strings.Join(s.Fixes[:min(n, shownFixes)], ", ")
		if n > shownFixes {
			list += fmt.Sprintf(" and %d more", n-shownFixes)
		}
		fmt.Fprintf(&b, "  fixes    %s\n", list)
	}
	return b.String()
}
