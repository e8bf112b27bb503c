package upgrade

import (
	"context"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

// SlotSpaceError says that a part of the set does not fit its partition.
type SlotSpaceError struct {
	Slot       string // "A", "B"
	Part       string // "root file system", "hash tree"
	Need, Have int64  // bytes
}

func (e *SlotSpaceError) Error() string {
	return fmt.Sprintf("upgrade: the %s needs %d bytes, its partition in slot %s has %d: %d bytes are missing",
		e.Part, e.Need, e.Slot, e.Have, e.Need-e.Have)
}

// ESPSpaceError says that the UKI does not fit the ESP at the worst moment, when the old and the new one are there.
type ESPSpaceError struct {
	Need, Have int64 // bytes, in whole clusters
}

func (e *ESPSpaceError) Error() string {
	return fmt.Sprintf("upgrade: the UKI needs %d bytes on the ESP, %d will be free: %d bytes are missing", e.Need, e.Have, e.Need-e.Have)
}

// judgeFits compares the set with the target slot and with what the ESP has free once the entry of the slot's old version
// is gone.
func (p *Plan) judgeFits() Judgement {
	j := Judgement{Verdict: Fits}
	t := p.Target
	for _, x := range []struct {
		part       string
		need, have int64
	}{
		{"root file system", p.release.Root.Size(), t.rootSize},
		{"hash tree", p.release.Tree.Size(), t.treeSize},
	} {
		if x.need > x.have {
			j.fail(&SlotSpaceError{t.Name(), x.part, x.need, x.have})
		} else {
			j.pass("%s: %d of %d bytes of its partition in slot %s", x.part, x.need, x.have, t.Name())
		}
	}
	cluster := p.state.esp.ClusterSize()
	clusters := func(n int64) int64 { return (n + cluster - 1) / cluster * cluster }
	if p.leftover.err != nil {
		j.fail(p.leftover.err)
		return j
	}
	if p.leftover.any() {
		j.pass("an interrupted upgrade left %s on the ESP, which the first step puts right", p.leftover.repaired)
	}
	have := p.leftover.free
	need := clusters(p.release.UKI.Size())
	for _, old := range p.obsolete {
		have += clusters(old.size)
	}
	// The directory may need one more cluster for the new name.
	need += cluster
	if need > have {
		j.fail(&ESPSpaceError{need, have})
	} else {
		j.pass("UKI: %d bytes of %d free on the ESP, %d releases of this size left", need, have, have/need)
	}
	return j
}

// judgeBoots asks whether loader and firmware accept the UKI, and whether the kernel will find and accept its root.
func (p *Plan) judgeBoots(ctx context.Context) Judgement {
	j := Judgement{Verdict: Boots}
	if err := p.unified.stubErr; err != nil {
		j.fail(err)
	}
	if err := checkArchitecture(p.release.UKI, p.state.loader); err != nil {
		j.fail(err)
	}
	if err := p.unified.imageErr; err != nil {
		j.fail(err)
	} else if err := p.unified.image.refused(); err != nil {
		j.fail(err)
	} else {
		j.pass("firmware: %s", p.unified.image.verdict.Reason)
	}
	p.judgeChoice(&j)
	if err := checkSet(ctx, &p.release, p.identity.file); err != nil {
		j.fail(err)
	} else {
		j.pass("root file system, hash tree and the UKI's command line have the root hash %s", hash(p.release.RootHash))
	}
	return j
}

// checkArchitecture compares the machine types of UKI and loader.
func checkArchitecture(ukiImage, loader osmith.Source) error {
	a, err := pe.Parse(ukiImage, ukiImage.Size())
	if err != nil {
		return fmt.Errorf("upgrade: UKI: %w", err)
	}
	b, err := pe.Parse(loader, loader.Size())
	if err != nil {
		return fmt.Errorf("upgrade: boot loader on the ESP: %w", err)
	}
	if a.Machine != b.Machine {
		return fmt.Errorf("upgrade: the UKI is for machine type %#x, the boot loader on the ESP for %#x", a.Machine, b.Machine)
	}
	return nil
}
