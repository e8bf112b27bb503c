package main

import (
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade"
)

const schema = "osmith.upgrade/1"

// head is what all objects begin with.
type head struct {
	cli.Header
	Disk    string `json:"disk"`    // the file or device
	Offline bool   `json:"offline"` // the machine is taken as one that is off
	// what could not be read of a machine that runs; what depends on it is not known
	Unread []string `json:"unread"`
}

// inspectResult is the object of inspect.
type inspectResult struct {
	head
	State *upgrade.State `json:"state"` // docs/schema/state.json
}

// planResult is the object of plan and apply, also of a plan that is refused.
type planResult struct {
	head
	Release releaseObject `json:"release"`
	Plan    *upgrade.Plan `json:"plan"` // docs/schema/plan.json
	// of apply: everything was carried out. False, too, if there was nothing to do: plan.installed,
	// and no changes in plan.loader
	Applied bool `json:"applied"`

	before *upgrade.State // the disk as it was planned for
}

type releaseObject struct {
	Digest  string `json:"digest"` // of the manifest, "sha256:..."
	Version string `json:"version"`
	// who has signed it, by the policy or the keys; none if it was accepted unsigned
	Signers []string `json:"signers"`
}

// entryResult is the object of commit and rollback.
type entryResult struct {
	head
	Entry string `json:"entry"` // path on the ESP that the entry has now
}

// cancelResult is the object of cancel.
type cancelResult struct {
	head
	Removed []string `json:"removed"` // paths on the ESP; none if there was nothing
}

// installResult is the object of install, also of one that is refused.
type installResult struct {
	head
	Release releaseObject `json:"release"`
	// what goes on with an installation that was interrupted
	Seed    string               `json:"seed"`
	Plan    *upgrade.InstallPlan `json:"plan"`    // docs/schema/install.json
	Applied bool                 `json:"applied"` // the disk is installed
	// why firmware has no boot option, though one was asked for; "" if it has
	BootOption string `json:"bootOption"`
}

// resetResult is the object of factory-reset.
type resetResult struct {
	head
	Reset []resetObject `json:"reset"`
}

type resetObject struct {
	Number int    `json:"number"` // of the partition
	ID     string `json:"id"`     // PARTUUID
	Name   string `json:"name"`
	Held   string `json:"held"` // what was recognised in it; "" if nothing was
}
