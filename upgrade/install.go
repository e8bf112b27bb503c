package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// InstallOptions describe the installed disk. Layout and Seed must be given.
type InstallOptions struct {
	// Layout lists the partitions of the disk: an ESP, slots as [partition.FindSlots] finds them,
	// unless the release is a UKI alone, and any other partitions of the system. The first slot
	// gets the release, the others are labelled [partition.EmptyName]. ESP and slots must have a
	// size, which has to be large enough for all later releases. The layout's Size, DiskID, Seed
	// and SectorSize are ignored in favour of those of the disk and of these options, and it must
	// not give IDs, since every machine has its own. For any other partition, Content is written
	// ([partition.Spec]); without Content, the places of all known signatures are zeroed, so that
	// systemd-repart or systemd-makefs formats the partition at the first boot by its own
	// definitions: Fill is ignored.
	Layout partition.Layout

	// Seed is the value from which the identifiers of this disk are derived, as systemd-repart
	// derives them ([partition.SeedDiskID], [partition.SeedPartitionID]): 16 random bytes. Give the
	// same seed again to continue an interrupted installation.
	Seed osmith.GUID

	// SectorSize is the logical sector size in bytes, 512 or 4096. 0: that of the disk, or 512.
	SectorSize int

	// EraseForEverTheDiskWithThisDigest is [DiskContents].Digest of the contents that a person has
	// agreed to lose. "": only an empty disk is installed.
	EraseForEverTheDiskWithThisDigest string

	// Loader is systemd-boot with its settings, the keys that it may enrol and the shim in front of
	// it. Nil: the loader of the release, without settings or shim. It is always installed in
	// EFI/BOOT, too, since a variable of firmware may be lost. Loader's Shim judges loader and
	// images on the disk; Machine.Shim is ignored.
	Loader *bootloader.Installation

	// RandomSeed is 32 random bytes for loader/random-seed of this disk. Nil: there is none.
	RandomSeed []byte

	// Recovery is an entry beside the system that updates leave unchanged. Nil: there is none.
	Recovery *RecoverySystem

	// Volumes are encrypted volumes that are made in partitions of the layout without Content.
	Volumes []NewVolume

	// Variables is where the boot option of firmware goes ([bootloader.PlanBootOption]). Nil: none
	// is made, and firmware finds the loader in EFI/BOOT.
	Variables bootloader.VariableStore

	// Tries is how often the loader starts the entry before it is committed ([Commit]); then it
	// starts the recovery system. 1 to 99. 0: starts are not counted, since there is no other
	// version yet.
	Tries int

	// Override lists proofs whose failure [InstallPlan.Apply] ignores.
	Override []Proof

	// Labels are patterns of the partitions' labels, as in [PlanOptions].
	Labels partition.Labels

	// ExtensionFileSystem opens the file system of an extension of the release, as in
	// [PlanOptions].
	ExtensionFileSystem func(osmith.Source) (fs.FS, error)

	// Time is the time stamp of the files of the ESP. The zero value is 1980-01-01.
	Time time.Time

	// At is the time of the plan, as in [PlanOptions].
	At time.Time

	// Progress is called while the release's hash tree is read, with bytes of all.
	Progress func(done, total int64)
}

// RecoverySystem is a UKI that runs from its initrd, for a person, or for the loader when the tries
// of the system are used up.
type RecoverySystem struct {
	// Name is that of its file in EFI/Linux, without ".efi". "": "recovery". It must not be that of
	// a version: it has no boot counter, and does not begin with the product's name and "_".
	Name string

	// UKI is the image. Its os-release must name a different product than the release's, by
	// IMAGE_ID or ID and VARIANT_ID, so that updates do not take it for a version of the system.
	UKI osmith.Source
}

// NewVolume is a LUKS2 volume in a partition that is made.
type NewVolume struct {
	Partition string // the partition's Name in the layout

	// Passphrase opens the first key slot. Nil: there is no such key slot, and Keys must add one.
	Passphrase []byte

	// Format are the choices of [luks.Format]. Rand must be given. Without a UUID it is that of
	// systemd-repart for the partition ([partition.LUKSID]).
	Format luks.FormatOptions

	// Keys adds keys and tokens, such as a recovery key and a token for the TPM, before anything is
	// written. Nil: there is only the passphrase.
	Keys func(v *luks.Volume, key *luks.Key) error
}

// InstallPlan is an installation that is computed and judged, but not yet written.
type InstallPlan struct {
	Version string
	Entry   string // path that the UKI will have on the ESP
	Table   *partition.Table
	Slot    string // slot that gets the release; "" if the release is a UKI alone

	// Erases lists the contents of the disk that will be lost. Nil: the disk is empty.
	Erases *DiskContents
	// Resumes says that the disk holds this installation, interrupted: the disk's former contents
	// are already gone.
	Resumes bool
	// Installed says that the disk holds this installation complete. Any steps then repair the
	// table or write the boot option.
	Installed bool

	Support   *Support  // support of the release; nil: the release does not state it
	Verdicts  []Verdict // on fits, boots, unlocks, returns and follows
	Chain     []Link    // of starts, if the system is never found good
	Steps     []Step
	Predicted *tpm.Log // prediction of the first boot; nil if there is none

	// BootOption is the change of firmware's variables; nil without InstallOptions.Variables, or if
	// BootOptionErr says why it is unknown.
	BootOption    *bootloader.BootPlan
	BootOptionErr error

	disk      *checkedDisk
	machine   Machine // that will boot the disk
	options   InstallOptions
	set       *Plan // the release as it will be installed on a disk in memory
	slots     *partition.Slots
	image     *partition.Image
	espIndex  int
	esp       osmith.Source // the whole file system
	signature []byte        // content of the slot's partition for it
	state     []stateContent
	planned   *scratch         // the disk as it will be
	claim     *partition.Table // of the disk meanwhile: it has none of the partitions
	seen      *DiskContents    // as it was judged
	repairs   bool             // the table of what is lost is made whole first
	wipes     []extent
	applied   bool
}

// stateContent is what is written into a partition that is neither ESP nor slot.
type stateContent struct {
	index   int // of the partition
	content osmith.Source
	volume  *scratch // an encrypted volume, of which only what was formatted is written
}

// ErrRunsFromDisk says that the machine was started from the disk to be installed: start it from a
// different medium.
var ErrRunsFromDisk = errors.New("the machine was started from this disk: start it from a different disk to reinstall this one")

// RecoveryError says why a recovery system might be taken for a version of the system.
type RecoveryError struct {
	Name   string // of its file
	Reason string
}

func (e *RecoveryError) Error() string {
	return fmt.Sprintf("the recovery system %s: %s", e.Name, e.Reason)
}

// PlanInstall reads a disk and a release and computes how to make the disk boot the release: a
// partition table with identifiers of its own, an ESP with the boot loader, keys and the UKI, the
// file system in the first slot, the contents of state partitions, a recovery system and the boot
// option of firmware. It writes nothing.
//
// If the disk is not empty ([ReadContents]), the error is an [*OccupiedError] that lists its
// contents, unless the options have their digest. If they do, [StepClaimDisk] is the point of no
// return. An interrupted installation with the same seed is continued, and a complete one needs no
// steps; once a machine has changed the disk, it counts as occupied like any other. If the machine
// was started from the disk, the error is [ErrRunsFromDisk].
//
// The verdicts are those of [NewPlan], by the same code, on the disk as it will be, which is made
// in memory: fits, boots and unlocks, with keys on the ESP and headers of encrypted volumes as they
// will be. returns says what follows if the system does not start: there is no earlier version.
// follows depends only on Machine.Floor. Machine is the machine that will boot the disk; what it
// runs now is the installer.
func PlanInstall(ctx context.Context, disk osmith.Disk, r *release.Release, m Machine, o InstallOptions) (plan *InstallPlan, err error) {
	defer prefix.Add("upgrade", &err)
	p := &InstallPlan{disk: checked(disk), machine: m, options: o}
	if err := p.check(); err != nil {
		return nil, err
	}
	if err := p.readRelease(r); err != nil {
		return nil, err
	}
	p.Support = supportOf(r, o.At)
	fits := Verdict{Proof: ProofFits}
	if err := p.layOut(&fits); err != nil {
		return nil, err
	}
	if err := p.lookAtDisk(ctx); err != nil {
		return nil, err
	}
	if fits.Outcome != OutcomeFail {
		p.planBootOption()
		p.steps()
	}
	if p.Installed {
		p.Verdicts = []Verdict{}
		return p, nil
	}
	return p, p.judge(ctx, fits)
}

// check refuses options that contradict each other, or lack something.
func (p *InstallPlan) check() error {
	o, m := &p.options, &p.machine
	if m.Running == nil && !m.Offline {
		return ErrRunningUnknown
	}
	if err := m.check(); err != nil {
		return err
	}
	if err := checkProofs(o.Override); err != nil {
		return err
	}
	if s := p.disk.SectorSize(); o.SectorSize == 0 {
		o.SectorSize = max(s, 512)
	} else if s != 0 && s != o.SectorSize {
		return fmt.Errorf("sectors of %d bytes: the disk has sectors of %d", o.SectorSize, s)
	}
	switch {
	case o.Seed.IsZero():
		return errors.New("the installation has no Seed: give 16 random bytes, by which its identifiers are its own")
	case o.Tries < 0 || o.Tries > 99:
		return fmt.Errorf("%d tries: want 1 to 99, or 0 for starts that are not counted", o.Tries)
	case o.Loader != nil && o.Loader.OmitFallback:
		return errors.New("the boot loader is left out of EFI/BOOT, but an installed disk needs it there, because firmware may lose its variables")
	case !o.Layout.DiskID.IsZero() || slices.ContainsFunc(o.Layout.Partitions, func(s partition.Spec) bool { return !s.ID.IsZero() }):
		return errors.New("the layout gives fixed IDs, which every disk made from it would have: leave them out to derive them from the Seed")
	case !o.Layout.Seed.IsZero() && o.Layout.Seed != o.Seed:
		return fmt.Errorf("the layout has the seed %s, and the options have %s", o.Layout.Seed, o.Seed)
	}
	if err := p.checkRunning(); err != nil {
		return err
	}
	// What runs is the installer; the planned disk is of a machine that is off.
	m.Running, m.Offline, m.Mounted, m.Keep = nil, true, nil, nil
	return pastCache(p.disk)
}

// checkRunning refuses a disk that the machine was started from, or runs from, by what it says of
// itself.
func (p *InstallPlan) checkRunning() error {
	r := p.machine.Running
	if r == nil {
		return nil
	}
	t, err := partition.Read(p.disk, partition.ReadOptions{})
	if err != nil {
		return nil // there are no partitions to be started from
	}
	ids := []osmith.GUID{r.ESP}
	if data, tree, err := partition.VerityIDs(r.RootHash); err == nil {
		ids = append(ids, data, tree)
	} else if r.ESP.IsZero() {
		return fmt.Errorf("%w (Running.ESP and Running.RootHash tell, and are missing)", ErrRunsFromDisk)
	}
	for _, id := range ids {
		if !id.IsZero() && t.Find(id) >= 0 {
			return ErrRunsFromDisk
		}
	}
	return nil
}

// readRelease finds out about the release, as for an upgrade.
func (p *InstallPlan) readRelease(r *release.Release) (err error) {
	s := &Plan{machine: p.machine, tries: p.options.Tries, override: p.options.Override, extensionFS: p.options.ExtensionFileSystem}
	p.set = s
	if s.release, err = pinRelease(r); err != nil {
		return err
	}
	if s.identity, err = identify(&s.release); err != nil {
		return err
	}
	p.Version, s.Version = s.identity.Version, s.identity.Version
	if err := p.chooseLoader(r.Loader); err != nil {
		return err
	}
	s.machine = p.machine
	if s.unified, err = s.machine.examineUKI(s.identity.file, s.release.UKI, s.release.UKIDigests); err != nil {
		return err
	}
	s.digests, err = digestRelease(&s.release, s.unified)
	if err != nil {
		return err
	}
	if s.patterns, err = expandPatterns(p.options.Labels, s.identity.ID); err != nil {
		return err
	}
	s.signature, s.signer, err = osset.RootHashSignature("signature of the root hash", r.RootHashSignature, r.RootHash)
	if err != nil {
		return rootHashError(err)
	}
	name := s.identity.label() + ".efi"
	if p.options.Tries > 0 {
		if name, err = bootloader.CountedName(s.identity.label(), p.options.Tries); err != nil {
			return err
		}
	}
	p.Entry = path.Join(entryDir, name)
	s.Entry = p.Entry
	return p.checkRecovery()
}

// chooseLoader is the loader of the options or of the release. Through a shim goes what is on the
// disk if the disk gets one, however the machine was started otherwise.
func (p *InstallPlan) chooseLoader(ofRelease osmith.Source) error {
	if p.options.Loader == nil {
		if ofRelease == nil {
			return bootloader.ErrMissingLoader
		}
		p.options.Loader = &bootloader.Installation{Loader: ofRelease}
	}
	own := *p.options.Loader
	if own.Shim != nil {
		content, err := readShimFile(own.Shim)
		if err != nil {
			return fmt.Errorf("shim: %w", err)
		}
		own.Shim = content
	}
	p.options.Loader = &own
	p.machine.Shim, p.machine.NoShim = own.Shim, p.machine.NoShim && own.Shim == nil
	return nil
}

// checkRecovery refuses a recovery system that an update might take for a version of the system.
func (p *InstallPlan) checkRecovery() error {
	if p.options.Recovery == nil {
		return nil
	}
	own := *p.options.Recovery
	if own.Name == "" {
		own.Name = "recovery"
	}
	own.UKI = pin(own.UKI, "the recovery system")
	p.options.Recovery = &own
	name := own.Name + ".efi"
	refuse := func(format string, args ...any) error {
		return &RecoveryError{name, fmt.Sprintf(format, args...)}
	}
	if own.UKI == nil {
		return refuse("there is no UKI")
	}
	_, _, counted := bootloader.ParseName(name, ".efi")
	product := p.set.identity.Product
	switch {
	case strings.ContainsAny(own.Name, `/\+`) || counted:
		return refuse("the name has a slash or a boot counter: want one without")
	case strings.HasPrefix(fold(own.Name), fold(product.ID+"_")) || fat.SameName(own.Name, product.ID):
		return refuse("the name is that of a version of %s: give it another one", product.ID)
	}
	f, err := uki.Open(own.UKI)
	if err != nil {
		return fmt.Errorf("the recovery system %s: %w", name, err)
	}
	is, err := osset.ProductOf(f)
	if err != nil {
		return fmt.Errorf("the recovery system %s: %w", name, err)
	}
	if is.ID == product.ID && is.Variant == product.Variant {
		return refuse("its os-release is of the product %s, as that of the release, so that an update would take it for one of its versions: give it an IMAGE_ID or a VARIANT_ID of its own", strings.Join(nonEmpty(is.ID, is.Variant), " "))
	}
	if text, _ := f.Cmdline(); len(rootHashes(text)) > 0 {
		return refuse("its command line names a root hash: want one that runs from its initrd")
	}
	if f.Machine() != p.set.identity.file.Machine() {
		return refuse("it is for machine type %#x, the release for %#x", f.Machine(), p.set.identity.file.Machine())
	}
	return nil
}

func (p *InstallPlan) recoveryPath() string {
	if p.options.Recovery == nil {
		return ""
	}
	return path.Join(entryDir, p.options.Recovery.Name+".efi")
}

// lookAtDisk finds out what is on the disk, and refuses it if that may not be lost.
func (p *InstallPlan) lookAtDisk(ctx context.Context) (err error) {
	places := p.places()
	if p.seen, err = readContents(p.disk, places); err != nil {
		return err
	}
	if p.image != nil {
		if p.Installed, err = p.isInstalled(ctx); err != nil || p.Installed {
			return err
		}
		if p.Resumes, err = p.isBegun(places); err != nil || p.Resumes {
			return err
		}
	}
	if p.seen.Empty() {
		return nil
	}
	if agreed := p.options.EraseForEverTheDiskWithThisDigest; agreed != p.seen.Digest {
		return &OccupiedError{Contents: p.seen, Agreed: agreed}
	}
	p.Erases = p.seen
	if t := p.seen.table; t != nil {
		p.repairs = t.UsedBackup || t.PrimaryErr != nil || t.BackupErr != nil || slices.ContainsFunc(t.Findings(), func(f partition.Finding) bool { return f.Code == "backup-place" })
		p.repairs = p.repairs && !t.HybridMBR // whose sector 0 goes first
	}
	return nil
}

// places are where the new partitions begin and end; none of a layout that does not fit.
func (p *InstallPlan) places() (list []extent) {
	if p.image == nil {
		return nil
	}
	for i := range p.Table.Partitions {
		off, size := p.Table.Extent(i)
		list = append(list, extent{off, size}.ends(probedOfPartition)...)
	}
	return list
}

// isBegun reports whether the disk has this installation, interrupted: a table with its disk ID and
// no partitions, or nothing but pieces of the tables that it writes.
func (p *InstallPlan) isBegun(places []extent) (bool, error) {
	if t := p.seen.table; t != nil {
		return t.DiskID == p.claim.DiskID && len(t.Partitions) == 0 && len(t.BadEntries) == 0 && t.SectorSize == p.claim.SectorSize, nil
	}
	if p.seen.Empty() {
		return false, nil
	}
	// A cut of the first table leaves some of its sectors, on a disk that was empty.
	claimed := &scratch{&plannedDisk{size: p.disk.Size()}, map[int64][scratchSector]byte{}}
	if err := p.claim.Write(claimed); err != nil {
		return false, err
	}
	rest := &scratch{p.disk, map[int64][scratchSector]byte{}}
	for off, want := range claimed.written {
		var have [scratchSector]byte
		if _, err := p.disk.ReadAt(have[:], off); err != nil {
			return false, err
		}
		if have == want {
			rest.written[off] = [scratchSector]byte{}
		}
	}
	c, err := readContents(rest, places)
	return err == nil && c.Empty(), err
}

// isInstalled reports whether the disk has this installation, whole but for one of its tables: what
// a machine has not changed since.
func (p *InstallPlan) isInstalled(ctx context.Context) (bool, error) {
	if p.seen.table == nil || !p.sameTable(p.seen.table) {
		return false, nil
	}
	m := p.machine
	state, err := inspect(p.disk, &m)
	if err != nil {
		return false, nil // it is not whole, and what it is the list of contents says
	}
	on := &Plan{disk: p.disk, state: state, release: p.set.release, digests: p.set.digests}
	for _, e := range state.Entries {
		if fat.SameName(uncounted(e.Path), uncounted(p.Entry)) {
			return on.isInstalled(ctx, e)
		}
	}
	return false, nil
}

// sameTable reports whether a table that was read has what the installation writes.
func (p *InstallPlan) sameTable(t *partition.Table) bool {
	if t.DiskID != p.Table.DiskID || t.SectorSize != p.Table.SectorSize || len(t.Partitions) != len(p.Table.Partitions) || len(t.BadEntries) > 0 {
		return false
	}
	for _, want := range p.Table.Partitions {
		i := t.Find(want.ID)
		if i < 0 {
			return false
		}
		have := t.Partitions[i]
		if have.Number != want.Number || have.Type != want.Type || have.Name != want.Name || have.FirstLBA != want.FirstLBA || have.LastLBA != want.LastLBA || have.Attributes != want.Attributes {
			return false
		}
	}
	return true
}

// Refused returns the verdicts that keep [InstallPlan.Apply] from writing, as a [*RefusedError];
// nil means that Apply will write.
func (p *InstallPlan) Refused() error { return refused(p.Verdicts) }

// planBootOption works out what firmware is told.
func (p *InstallPlan) planBootOption() {
	if p.options.Variables == nil {
		return
	}
	have, err := bootloader.ReadVariables(p.options.Variables)
	if errors.Is(err, fs.ErrNotExist) { // no machine was started with them
		have, err = &bootloader.MachineVariables{}, nil
	}
	if err != nil {
		p.BootOptionErr = err
		return
	}
	esp := p.Table.Partitions[p.espIndex]
	file, err := p.options.Loader.BootFile()
	if err != nil {
		p.BootOptionErr = err
		return
	}
	program := bootloader.BootProgram{File: file, Partition: esp.ID, PartitionNumber: uint32(esp.Number), FirstLBA: esp.FirstLBA, LastLBA: esp.LastLBA}
	o := bootloader.BootPlanOptions{}
	if p.Erases != nil && p.Erases.table != nil {
		for _, q := range p.Erases.table.Partitions {
			if q.Type == partition.ESP {
				o.Former = append(o.Former, q.ID)
			}
		}
	}
	p.BootOption, p.BootOptionErr = bootloader.PlanBootOption(have, program, o)
}
