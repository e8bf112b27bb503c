package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

const schema = "osmith.lifecycle/1"

// result is what -json prints.
type result struct {
	Schema        string            `json:"schema"`
	Parts         string            `json:"parts"`
	StandIn       bool              `json:"standIn"`
	Disk          string            `json:"disk,omitempty"`
	Version       string            `json:"version"`
	RootHash      string            `json:"rootHash"`
	PCRs          map[string]string `json:"pcrs"` // SHA-256 bank
	Recorded      *recordedResult   `json:"recorded"`
	ReleaseDigest string            `json:"releaseDigest"`
	Plan          *upgrade.Plan     `json:"plan"`
	Cuts          cutsResult        `json:"cuts"`
	Refused       string            `json:"refused"` // what became of the tampered release
	Boots         []bootResult      `json:"boots"`
	// what became of a release that would have locked the state partition
	Locked string         `json:"locked"`
	Volume []openedResult `json:"volume"` // who opened the state partition at each boot
}

type bootResult struct {
	At        string              `json:"at"`
	Outcome   upgradetest.Outcome `json:"outcome"`
	Version   string              `json:"version"`
	Entry     string              `json:"entry"`
	Simulated bool                `json:"simulated"`
}

// cutsResult is what became of the upgrade cut at its writes: all of them with stand-ins, some of
// the many of real parts. The boots are simulated.
type cutsResult struct {
	Tried     int  `json:"tried"`
	Booted    int  `json:"booted"` // the old version or the new one
	Simulated bool `json:"simulated"`
}

// brokenPromise is what osmith says cannot happen.
type brokenPromise struct{ what string }

func (b *brokenPromise) Error() string { return "this must not happen: " + b.what }

// story is one run, from keys to fallback.
type story struct {
	ctx   context.Context
	w     io.Writer
	dir   string
	parts *acmeos.Parts
	when  time.Time

	builder *acmeos.Builder
	sets    map[string]*acmeos.Set // by version
	state   state
	machine upgrade.Machine
	disk    *acmeos.ImageFile
	closers []io.Closer
	result  result
}

func (s *story) close() {
	for _, c := range slices.Backward(s.closers) {
		c.Close()
	}
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.w, format+"\n", args...) }

func (s *story) chapter(title string) { s.say("\n── %s", title) }

// tell runs the chapters in order; each builds on the disk that the one before left.
func (s *story) tell() error {
	s.result = result{Schema: schema, Parts: s.parts.Origin, StandIn: s.parts.StandIn}
	if s.parts.StandIn {
		s.say("No boot stub, boot loader, kernel and initrd found here: using small stand-ins that have their form and boot nothing.")
	} else {
		s.say("Boot stub, boot loader, kernel and initrd: %s.", s.parts.Origin)
	}
	v1, err := s.buildFirstDisk()
	if err != nil {
		return err
	}
	if err := s.predict(v1); err != nil {
		return err
	}
	if err := s.compareRecorded(); err != nil {
		return err
	}
	if err := s.expect("first boot", "1"); err != nil {
		return err
	}
	v2, err := s.releaseTwo()
	if err != nil {
		return err
	}
	if err := s.upgradeWithPowerCut(v2); err != nil {
		return err
	}
	if err := s.versionThree(); err != nil {
		return err
	}
	return s.newPolicyKey()
}

func (s *story) buildFirstDisk() (*acmeos.Set, error) {
	s.chapter("Build version 1: keys, root file system, hash tree, UKI, disk")
	keys, err := acmeos.GenerateKeys(s.when)
	if err != nil {
		return nil, err
	}
	s.builder = &acmeos.Builder{Keys: keys, Parts: s.parts, Seed: [16]byte{0xac, 0x3e}, Time: s.when, Cmdline: "console=ttyS0 quiet"}
	if s.machine, err = s.builder.Machine(); err != nil {
		return nil, err
	}
	set, err := s.build("1")
	if err != nil {
		return nil, err
	}
	volume, err := s.makeState()
	if err != nil {
		return nil, err
	}
	image, err := s.builder.Disk(set, acmeos.DiskOptions{RootSize: 8 << 20, State: volume})
	if err != nil {
		return nil, err
	}
	name := filepath.Join(s.dir, "disk.img")
	if s.disk, err = acmeos.CreateImage(name, image.Size); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.disk)
	if err := partition.WriteImage(s.disk, image, partition.WriteOptions{TargetIsZero: true}); err != nil {
		return nil, err
	}
	s.say("root hash  %x", set.RootHash)
	s.say("disk       %s, %d MiB", name, image.Size>>20)
	s.say("state      encrypted; it opens by the TPM in any state of PCR 11 that our key has signed for, and by the recovery key %s\n", s.state.recovery)
	s.say("%s", partition.Diagram(image.Table, image.Size, 100))
	s.result.Disk, s.result.Version, s.result.RootHash = name, set.Version, hex.EncodeToString(set.RootHash)
	return set, nil
}

// build makes the files of one version.
func (s *story) build(version string) (*acmeos.Set, error) {
	root := filepath.Join(s.dir, acmeos.ID+"_"+version+".root.raw")
	err := acmeos.WriteRoot(root, version, map[string][]byte{
		"/usr/share/acme/motd": []byte("This is Acme OS " + version + ".\n"),
		"/usr/share/acme/data": slices.Repeat([]byte("version "+version+" "), 1<<15),
	})
	if err != nil {
		return nil, err
	}
	set, err := s.builder.Build(s.ctx, s.dir, version, root)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, set)
	if s.sets == nil {
		s.sets = map[string]*acmeos.Set{}
	}
	s.sets[version] = set
	return set, nil
}

func (s *story) predict(set *acmeos.Set) error {
	s.chapter("Predict what its boot will measure, with Secure Boot on and our keys enrolled")
	loader, err := s.builder.SignedLoader()
	if err != nil {
		return err
	}
	log, err := upgrade.PredictBoot(s.machine, loader, set.Release().UKI)
	if err != nil {
		return err
	}
	if s.result.PCRs, err = pcrs(log); err != nil {
		return err
	}
	for _, n := range []string{"4", "7", "11"} {
		s.say("PCR %-2s  sha256  %s", n, s.result.PCRs[n])
	}
	return nil
}

func pcrs(log *tpm.Log) (map[string]string, error) {
	banks, err := log.Replay(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, n := range []int{4, 7, 11} {
		values[fmt.Sprint(n)] = hex.EncodeToString(banks[crypto.SHA256].PCR(n))
	}
	return values, nil
}

// releaseTwo takes version 2 the way of every release: packed, signed, carried elsewhere, verified,
// opened by digest.
func (s *story) releaseTwo() (*release.Release, error) {
	s.chapter("Release version 2: pack it as an OCI artifact, sign it, verify it")
	set, err := s.build("2")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "release")
	packed, err := release.Pack(dir, "v2", set.Release())
	if err != nil {
		return nil, err
	}
	store, err := cosign.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	if err := cosign.Sign(s.ctx, store, packed, s.builder.Keys.Release, cosign.SignOptions{}); err != nil {
		return nil, err
	}
	opened, err := s.fetch(dir, "v2")
	if err != nil {
		return nil, err
	}
	s.say("%s  signed in both cosign formats, served as files, verified, pulled", opened.Descriptor.Digest)
	s.result.ReleaseDigest = opened.Descriptor.Digest.String()
	return opened, nil
}

func (s *story) upgradeWithPowerCut(r *release.Release) error {
	s.chapter("Upgrade to version 2, and cut the power in the middle")
	plan, err := s.plan(r)
	if err != nil {
		return err
	}
	s.say("%s", plan)
	s.result.Plan = plan
	if err := s.cutEverywhere(r); err != nil {
		return err
	}
	s.disk.CutAfter(plan.Steps[3].Bytes / 2)
	err = plan.Apply(s.ctx, nil)
	if !errors.Is(err, acmeos.ErrPowerCut) {
		return &brokenPromise{fmt.Sprintf("the power was cut and Apply says %v", err)}
	}
	s.say("power cut: %v", err)
	s.disk.Restore()
	if err := s.expect("after the power cut", "1"); err != nil {
		return err
	}
	if plan, err = s.plan(r); err != nil {
		return err
	}
	if err := plan.Apply(s.ctx, nil); err != nil {
		return err
	}
	s.say("planned again, applied: %s is the next entry", plan.Entry)
	if err := s.expect("after the upgrade", "2"); err != nil {
		return err
	}
	name, err := upgrade.Commit(s.disk, s.machine, plan.Entry)
	if err != nil {
		return err
	}
	s.say("version 2 found itself good and is committed: %s has no counter any more", name)
	return nil
}

// maxCuts is how many writes of an upgrade with real parts are cut: a boot of them takes a while,
// although it is simulated.
const maxCuts = 40

// cutEverywhere applies the upgrade to copies of the disk, and cuts the power behind its writes.
func (s *story) cutEverywhere(r *release.Release) error {
	m := upgradetest.Machine{Disk: s.disk, Machine: s.machine}
	var faults upgradetest.Faults
	if !s.parts.StandIn {
		faults.MaxCuts = maxCuts
	}
	apply := func(disk osmith.Disk) error {
		plan, err := upgrade.NewPlan(s.ctx, disk, r, s.machine, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
		if err != nil {
			return err
		}
		return plan.Apply(s.ctx, nil)
	}
	cuts := cutsResult{Simulated: true}
	for cut, err := range m.Cuts(s.ctx, apply, faults) {
		if err != nil {
			return err
		}
		cuts.Tried++
		if last := cut.Last(); last.Outcome != upgradetest.Up || last.Version != "1" && last.Version != "2" {
			return &brokenPromise{fmt.Sprintf("%s: %s", cut.Fault, last)}
		}
		cuts.Booted++
	}
	s.say("%d of %d cuts boot: the power was cut behind writes of the upgrade on copies of the disk, and firmware, loader and kernel are simulated (upgrade/upgradetest)", cuts.Booted, cuts.Tried)
	s.result.Cuts = cuts
	return nil
}

func (s *story) plan(r *release.Release) (*upgrade.Plan, error) {
	return upgrade.NewPlan(s.ctx, s.disk, r, s.machine, upgrade.PlanOptions{})
}

// versionThree comes twice: tampered with on the way, and genuine but damaged on the disk.
func (s *story) versionThree() error {
	s.chapter("Refuse a tampered version 3")
	set, err := s.build("3")
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, "release")
	packed, err := release.Pack(dir, "v3", set.Release())
	if err != nil {
		return err
	}
	_, err = s.fetch(dir, "v3")
	if !errors.Is(err, cosign.ErrUnsigned) {
		return &brokenPromise{fmt.Sprintf("an unsigned release was met with: %v", err)}
	}
	s.say("unsigned:  %v", err)
	store, err := cosign.OpenDir(dir)
	if err != nil {
		return err
	}
	if err := cosign.Sign(s.ctx, store, packed, s.builder.Keys.Release, cosign.SignOptions{}); err != nil {
		return err
	}
	layer, err := layerFile(dir, set)
	if err != nil {
		return err
	}
	undo, err := flip(layer, 4096)
	if err != nil {
		return err
	}
	_, err = s.fetch(dir, "v3")
	var wrong *osmith.DigestError
	if !errors.As(err, &wrong) {
		return &brokenPromise{fmt.Sprintf("a tampered release was met with: %v", err)}
	}
	s.say("tampered:  %v", err)
	s.result.Refused = err.Error()
	if err := undo(); err != nil {
		return err
	}

	s.chapter("Install the genuine version 3, damage its slot, and fall back")
	r, err := s.fetch(dir, "v3")
	if err != nil {
		return err
	}
	plan, err := s.plan(r)
	if err != nil {
		return err
	}
	if err := plan.Apply(s.ctx, nil); err != nil {
		return err
	}
	if err := s.damageSlot(r.RootHash); err != nil {
		return err
	}
	if err := s.expect("after the damage", "2"); err != nil {
		return err
	}
	if plan, err = s.plan(r); err != nil {
		return err
	}
	if err, failed := errors.AsType[*upgrade.FailedError](plan.Refused()); !failed {
		return &brokenPromise{fmt.Sprintf("a release that has failed here was met with: %v", plan.Refused())}
	} else {
		s.say("again:     %v", err)
	}
	return nil
}

// damageSlot changes one byte in the middle of an installed root file system.
func (s *story) damageSlot(rootHash []byte) error {
	off, _, err := acmeos.PartitionOf(s.disk, rootHash)
	if err != nil {
		return err
	}
	var b [1]byte
	if _, err := s.disk.ReadAt(b[:], off+8192); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = s.disk.WriteAt(b[:], off+8192)
	return err
}

// expect boots until something runs, and insists on its version.
func (s *story) expect(at, version string) error {
	m := upgradetest.Machine{Disk: s.disk, Machine: s.machine}
	boots, err := m.BootUntilUp(s.ctx, 8)
	if err != nil {
		return err
	}
	for _, b := range boots {
		s.say("simulated boot: %s", b)
		s.result.Boots = append(s.result.Boots, bootResult{at, b.Outcome, b.Version, b.Entry, true})
	}
	if last := boots[len(boots)-1]; last.Outcome != upgradetest.Up || last.Version != version {
		return &brokenPromise{fmt.Sprintf("%s the machine should run version %s: %s", at, version, last)}
	}
	// From here on the machine is one that runs, and says what.
	s.machine.Offline, s.machine.Running = false, boots[len(boots)-1].Running
	return s.openState(at, version)
}
