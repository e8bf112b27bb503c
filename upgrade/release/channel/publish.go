package channel

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// Next is the document that follows: the same with the next number, believed until another time. It
// is then changed, written and signed.
func (d *Document) Next(validUntil time.Time) *Document {
	next := *d
	next.Sequence++
	next.ValidUntil = validUntil.UTC().Truncate(time.Second)
	next.Releases = slices.Clone(d.Releases)
	next.Signers = slices.Clone(d.Signers)
	return &next
}

// An EditError says that a document cannot be changed like that.
type EditError struct {
	Version string
	Err     error
}

func (e *EditError) Error() string { return fmt.Sprintf("version %s: %v", e.Version, e.Err) }

// Unwrap returns the reason.
func (e *EditError) Unwrap() error { return e.Err }

// Reasons of an EditError.
var (
	ErrNoVersion = errors.New("the channel does not have it")
	ErrWithdrawn = errors.New("withdrawn, which is final: publish the content under a new version")
)

func refuse(version string, format string, args ...any) error {
	return prefix.Error("channel", &EditError{version, fmt.Errorf(format, args...)})
}

func (d *Document) find(version string) (*Release, error) {
	r := d.Release(version)
	if r == nil {
		return nil, refuse(version, "%w", ErrNoVersion)
	}
	return r, nil
}

// Publish adds a release, and offers it to a number of cohorts, 0 to 1000. A version stands for one
// digest for ever.
func (d *Document) Publish(version string, of digest.Digest, cohorts int) error {
	r := Release{Version: version, Digest: of, Offered: cohorts, Status: StatusOffered}
	if err := r.check(); err != nil {
		return refuse(version, "%w", err)
	}
	if d.Floor != "" && bootloader.CompareVersions(version, d.Floor) < 0 {
		return refuse(version, "%w", &FloorError{version, d.Floor})
	}
	for _, have := range d.Releases {
		switch {
		case bootloader.CompareVersions(have.Version, version) == 0:
			return refuse(version, "the channel has it already, as %s, %v", have.Digest, have.Status)
		case have.Digest == of:
			return refuse(version, "the channel has %s already, as version %s", of, have.Version)
		}
	}
	if len(d.Releases) == maxReleases {
		return refuse(version, "the channel has %d releases: prune it", maxReleases)
	}
	d.Releases = append(d.Releases, r)
	slices.SortFunc(d.Releases, func(a, b Release) int { return bootloader.CompareVersions(b.Version, a.Version) })
	return nil
}

// Promote offers a release to more cohorts, or again to as many, if it is held.
func (d *Document) Promote(version string, cohorts int) error {
	r, err := d.find(version)
	if err != nil {
		return err
	}
	switch {
	case r.Status == StatusWithdrawn:
		return refuse(version, "%w", ErrWithdrawn)
	case cohorts > Cohorts:
		return refuse(version, "offered to %d cohorts, want at most %d", cohorts, Cohorts)
	case cohorts < r.Offered:
		return refuse(version, "offered to %d cohorts: offering it to only %d does not remove it from machines that have it: hold it instead", r.Offered, cohorts)
	}
	r.Offered, r.Status, r.Reason = cohorts, StatusOffered, ""
	return nil
}

// Support says until when a release is supported and what it fixes, in place of what the channel
// has said of it before.
func (d *Document) Support(version string, until release.Date, fixes []string) error {
	r, err := d.find(version)
	if err != nil {
		return err
	}
	if err := release.CheckSupport(until, fixes); err != nil {
		return refuse(version, "%w", prefix.Bare(err))
	}
	r.SupportedUntil, r.Fixes = until, slices.Clone(fixes)
	return nil
}

// Hold stops a release: no machine gets it until it is promoted again; machines that have it keep
// it.
func (d *Document) Hold(version, reason string) error { return d.stop(version, StatusHeld, reason) }

// Withdraw takes a release back for ever: no machine gets it, and machines that have it are told to
// leave it.
func (d *Document) Withdraw(version, reason string) error {
	return d.stop(version, StatusWithdrawn, reason)
}

func (d *Document) stop(version string, status Status, reason string) error {
	r, err := d.find(version)
	if err != nil {
		return err
	}
	if r.Status == StatusWithdrawn {
		return refuse(version, "%w", ErrWithdrawn)
	}
	stopped := *r
	stopped.Status, stopped.Reason = status, reason
	if err := stopped.check(); err != nil {
		return refuse(version, "%w", err)
	}
	*r = stopped
	return nil
}

// Raise sets the floor. It never goes down: a machine may have acted upon it.
func (d *Document) Raise(floor string) error {
	if err := checkName(floor); err != nil {
		return refuse(floor, "%w", err)
	}
	if d.Floor != "" && bootloader.CompareVersions(floor, d.Floor) < 0 {
		return refuse(floor, "%w", &FloorError{floor, d.Floor})
	}
	d.Floor = floor
	return nil
}

// Trust says who must sign the documents that follow this one. The document itself has to be signed
// by those who were to sign it, or no machine accepts it.
func (d *Document) Trust(signers json.RawMessage) { d.Signers = signers }

// Prune forgets releases: all below the floor, and of the others all but the newest, as many as are
// to be kept. Those that were withdrawn are kept above the floor, since machines may still run
// them. It returns what was forgotten.
func (d *Document) Prune(keep int) (forgotten []Release, err error) {
	if keep < 1 {
		return nil, prefix.Error("channel", fmt.Errorf("prune: %d releases to keep, want at least 1", keep))
	}
	var kept []Release
	good := 0
	for _, r := range d.Releases {
		below := d.Floor != "" && bootloader.CompareVersions(r.Version, d.Floor) < 0
		if !below && r.Status != StatusWithdrawn {
			good++
		}
		if below || r.Status != StatusWithdrawn && good > keep {
			forgotten = append(forgotten, r)
			continue
		}
		kept = append(kept, r)
	}
	d.Releases = kept
	return forgotten, nil
}
