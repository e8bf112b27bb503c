package secureboot

import (
	"fmt"
	"strings"
	"time"
)

// A LockoutError says that something that has to boot would not.
type LockoutError struct {
	When   string // today, or the step after which it would be so
	Images []string
	Reason string // about the first
}

func (e *LockoutError) Error() string {
	return fmt.Sprintf("secureboot: rotation: %s: the machine would not boot %s: %s", e.When, strings.Join(e.Images, ", "), e.Reason)
}

func lockout(v Variables, images []Image, when string) error {
	if e := blocked(v, images, when); e != nil {
		return e
	}
	return nil
}

func blocked(v Variables, images []Image, when string) *LockoutError {
	var e *LockoutError
	for _, im := range images {
		r := v.EvaluateImage(im, time.Time{})
		if r.Allowed {
			continue
		}
		if e == nil {
			e = &LockoutError{When: when, Reason: r.Reason}
		}
		e.Images = append(e.Images, im.Name)
	}
	return e
}
