package channel

import (
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
)

// A Machine is what is known of the machine that asks.
type Machine struct {
	// ID of the machine, such as the content of /etc/machine-id. "": not known, and nothing is
	// offered that is not offered to all.
	ID string

	// Running is the version that runs. "": none, as while the system is being installed.
	Running string
}

// A Choice is what a document means for a machine.
type Choice struct {
	// Release is what to install; nil: nothing. It is never what runs.
	Release *Release

	// Leave says that what runs was withdrawn. Release may then be older than what runs, but not
	// below the floor.
	Leave error // a *WithdrawnError

	// Passed are newer releases that were passed over, the newest first, and why.
	Passed []Passed

	running string
}

// Passed is a release that is not for this machine, or not yet.
type Passed struct {
	Version string
	Err     error // a *NotYetError, *HeldError, *WithdrawnError or *FloorError
}

// A NotYetError says that a release is offered to some cohorts, and not yet to this machine's.
type NotYetError struct {
	Version string
	Cohort  int // of the machine; -1: its ID is not known
	Offered int // cohorts
}

func (e *NotYetError) Error() string {
	if e.Cohort < 0 {
		return fmt.Sprintf("version %s is offered to %d of %d cohorts, but the cohort of this machine is unknown", e.Version, e.Offered, Cohorts)
	}
	return fmt.Sprintf("version %s is not yet offered to this machine: the machine is in cohort %d, and only the first %d of %d have it", e.Version, e.Cohort, e.Offered, Cohorts)
}

// A HeldError says that a release is not offered to any machine for now.
type HeldError struct{ Version, Reason string }

func (e *HeldError) Error() string {
	return fmt.Sprintf("version %s is held%s", e.Version, because(e.Reason))
}

// A WithdrawnError says that a release was withdrawn.
type WithdrawnError struct{ Version, Reason string }

func (e *WithdrawnError) Error() string {
	return fmt.Sprintf("version %s was withdrawn%s", e.Version, because(e.Reason))
}

// A FloorError says that a release is older than any that may be installed.
type FloorError struct{ Version, Floor string }

func (e *FloorError) Error() string {
	return fmt.Sprintf("version %s is older than the channel's floor %s", e.Version, e.Floor)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// Choose says what a machine is to install: the newest release that is offered to it and not older
// than what runs, or, if what runs was withdrawn, the newest that is offered to it.
func (d *Document) Choose(m Machine) *Choice {
	c := &Choice{running: m.Running}
	if r := d.Release(m.Running); r != nil && r.Status == StatusWithdrawn {
		c.Leave = &WithdrawnError{r.Version, r.Reason}
	}
	for i := range d.Releases {
		r := &d.Releases[i]
		if r.Version == m.Running && c.Leave != nil {
			continue
		}
		if m.Running != "" && c.Leave == nil && bootloader.CompareVersions(r.Version, m.Running) <= 0 {
			break
		}
		if err := d.offers(r, m.ID); err != nil {
			c.Passed = append(c.Passed, Passed{r.Version, err})
			continue
		}
		found := *r
		c.Release = &found
		break
	}
	return c
}

// offers returns why a release is not for a machine, if it is not.
func (d *Document) offers(r *Release, machineID string) error {
	switch {
	case r.Status == StatusWithdrawn:
		return &WithdrawnError{r.Version, r.Reason}
	case r.Status == StatusHeld:
		return &HeldError{r.Version, r.Reason}
	case r.Status != StatusOffered:
		return fmt.Errorf("version %s has %v", r.Version, r.Status)
	case d.Floor != "" && bootloader.CompareVersions(r.Version, d.Floor) < 0:
		return &FloorError{r.Version, d.Floor}
	case r.Offered >= Cohorts:
		return nil
	case machineID == "":
		return &NotYetError{r.Version, -1, r.Offered}
	}
	if n := Cohort(d.Product, d.Channel, r.Version, machineID); n >= r.Offered {
		return &NotYetError{r.Version, n, r.Offered}
	}
	return nil
}

// Downgrade reports whether the release is older than what runs, which was withdrawn then.
func (c *Choice) Downgrade() bool {
	return c.Release != nil && c.running != "" && bootloader.CompareVersions(c.Release.Version, c.running) < 0
}

// Err is why there is nothing to install although there is something newer, or what runs was
// withdrawn; nil if there is something, or nothing newer.
func (c *Choice) Err() error {
	if c.Release != nil {
		return nil
	}
	var all []error
	if c.Leave != nil {
		all = append(all, c.Leave)
	}
	for _, p := range c.Passed {
		all = append(all, p.Err)
	}
	return errors.Join(all...)
}

// String is the choice for a person.
func (c *Choice) String() string {
	var lines []string
	switch {
	case c.Release != nil:
		lines = append(lines, "version "+c.Release.Version)
	case c.running != "":
		lines = append(lines, "nothing to install: version "+c.running+" runs")
	default:
		lines = append(lines, "nothing to install")
	}
	if c.Leave != nil {
		lines = append(lines, "what runs: "+c.Leave.Error())
	}
	for _, p := range c.Passed {
		lines = append(lines, p.Err.Error())
	}
	return strings.Join(lines, "\n")
}
