package upgradetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// Machine is a machine with its disk and the firmware variables that the plan assumed.
type Machine struct {
	Disk osmith.Disk
	upgrade.Machine

	// UKIAlone says that the system runs from its initrd: a UKI without a root hash on its command
	// line comes up.
	UKIAlone bool
}

// Outcome says how a power-on ended.
type Outcome string

// The outcomes of one boot.
const (
	Up      Outcome = "up"      // the system runs, every block of its root verified
	Refused Outcome = "refused" // firmware did not start the UKI; the loader rebooted
	Failed  Outcome = "failed"  // the kernel found no root or a damaged one and rebooted
	Stuck   Outcome = "stuck"   // nothing more happens until a person comes
)

// Boot is one power-on.
type Boot struct {
	Outcome Outcome
	// path of the UKI on the ESP, after the loader counted the try; with "xbootldr:" in front on
	// the extended boot loader partition
	Entry    string
	Version  string // IMAGE_VERSION of the UKI
	RootHash []byte
	Reason   string // why it did not come up
	// what was measured; nil unless the UKI was started, and where it cannot be predicted
	Log *tpm.Log

	// Running is what the machine then tells about itself; nil unless it is up.
	Running *upgrade.Running
}

// String is one line for a person.
func (b *Boot) String() string {
	s := string(b.Outcome)
	if b.Version != "" {
		s += ": version " + b.Version
	}
	if b.Entry != "" {
		s += " (" + b.Entry + ")"
	}
	if b.Reason != "" {
		s += ": " + b.Reason
	}
	return s
}

// menuOptions are those of the loader, whose release has to be known.
func (m *Machine) menuOptions(machine *arch.Architecture, loader osmith.Source) (o bootloader.MenuOptions, err error) {
	o = bootloader.MenuOptions{Architecture: machine.EFI, AssumeLoader: m.AssumeLoader}
	if o.LoaderVersion, err = bootloader.LoaderVersion(loader); err != nil && m.AssumeLoader != 0 {
		err = nil
	}
	return o, err
}

// Boot switches the machine on once. An error means that the disk could not be read or written; a
// disk that does not boot is an outcome.
func (m *Machine) Boot(ctx context.Context) (*Boot, error) {
	table, err := partition.Read(m.Disk, partition.ReadOptions{})
	if err != nil {
		return stuck("no partition table: %v", err), nil
	}
	esp, err := m.openESP(table)
	if err != nil {
		return stuck("no EFI system partition: %v", err), nil
	}
	machine, loader, err := findLoader(esp)
	if err != nil {
		return stuck("no boot loader: %v", err), nil
	}
	if _, err := secureboot.ReadShim(loader); err == nil {
		behind := *m
		behind.Shim = loader
		if loader, err = open(esp, path.Join(path.Dir(machine.Loader()), machine.ShimLoader())); err != nil {
			return stuck("shim finds no boot loader: %v", err), nil
		}
		b, err := behind.boot(ctx, table, esp, machine, loader)
		m.Loader = behind.Loader
		return b, err
	}
	return m.boot(ctx, table, esp, machine, loader)
}

// boot is what happens from the moment when firmware or shim starts the loader.
func (m *Machine) boot(ctx context.Context, table *partition.Table, esp *fat.FS, machine *arch.Architecture, loader osmith.Source) (*Boot, error) {
	options, err := m.menuOptions(machine, loader)
	if err != nil {
		return stuck("boot loader: %v", err), nil
	}
	volumes := map[bool]*fat.FS{false: esp}
	if i := slices.IndexFunc(table.Partitions, func(p partition.Partition) bool { return p.Type == partition.XBOOTLDR }); i >= 0 {
		// One that firmware cannot read has no entries.
		if x, err := fat.Open(table.Window(m.Disk, i)); err == nil {
			volumes[true], options.XBOOTLDR = x, x
		}
	}
	menu, err := bootloader.ReadMenu(esp, options)
	if _, unknown := errors.AsType[*bootloader.LoaderVersionError](err); unknown {
		return stuck("%v", err), nil
	}
	if err != nil {
		return nil, err
	}
	var variables bootloader.Variables
	if m.Loader != nil {
		variables = *m.Loader
	}
	entry, _ := menu.Default(variables)
	if entry == nil {
		return stuck("the boot loader has no entry to boot"), nil
	}
	if entry.Profile != 0 {
		return stuck("the boot loader starts profile %d of %s, and only default profiles are simulated", entry.Profile, entry.Path), nil
	}
	if m.Loader != nil {
		left := menu.Started(variables, entry)
		m.Loader = &left
	}
	// Counting comes before starting: whatever happens next, the try is used.
	at, counted, reboots := entry.Path, "", menu.RebootsOnError(entry)
	if from, to := entry.Boot(); from != to && m.FirmwareKind != secureboot.FirmwareUBoot202501 {
		if err := volumes[entry.XBOOTLDR].Rename(from, to); err != nil {
			return nil, err
		}
		at, counted = to, `\`+strings.ReplaceAll(to, "/", `\`)
	}
	b, err := m.start(ctx, table, volumes[entry.XBOOTLDR], loader, at, reboots)
	if err == nil && entry.XBOOTLDR {
		b.Entry = "xbootldr:" + b.Entry
	}
	if err == nil && b.Outcome == Up {
		b.Running = &upgrade.Running{Image: `\` + strings.ReplaceAll(at, "/", `\`), RootHash: b.RootHash, BootCountPath: counted, Log: b.Log}
		if b.RootHash == nil {
			b.Running.Version = b.Version
		}
	}
	return b, err
}

// findLoader finds the boot loader that firmware starts, for a machine of whatever architecture the
// disk is.
func findLoader(esp *fat.FS) (*arch.Architecture, osmith.Source, error) {
	for i := range arch.Table {
		a := &arch.Table[i]
		if a.EFI == "" {
			continue
		}
		if loader, err := open(esp, a.Loader()); !errors.Is(err, fs.ErrNotExist) {
			return a, loader, err
		}
	}
	return nil, nil, fmt.Errorf("%s: %w", arch.X8664.Loader(), fs.ErrNotExist)
}

// start is what happens from the moment when the loader starts a UKI, from one file system.
func (m *Machine) start(ctx context.Context, table *partition.Table, esp *fat.FS, loader osmith.Source, path string, reboots bool) (*Boot, error) {
	b := &Boot{Entry: path}
	image, err := open(esp, path)
	if err != nil {
		return nil, err
	}
	f, err := uki.Open(image)
	if err != nil {
		b.Outcome, b.Reason = Stuck, err.Error()
		return b, nil
	}
	if osrel, err := f.OSRelease(); err == nil {
		b.Version = osrel["IMAGE_VERSION"]
	}
	beside, err := uki.ReadCompanions(esp, path)
	if err != nil {
		return nil, err
	}
	b.Log, err = upgrade.PredictImages(m.Machine, upgrade.BootImages{Loader: loader, UKI: image, Companions: beside})
	var refused *upgrade.SecureBootError
	if errors.As(err, &refused) {
		b.Outcome, b.Reason = Refused, err.Error()
		if !reboots {
			b.Outcome = Stuck
		}
		return b, nil
	}
	unpredicted := []error{upgrade.ErrShimNotPredicted, upgrade.ErrUBootNotPredicted}
	if err != nil && !slices.ContainsFunc(unpredicted, func(target error) bool { return errors.Is(err, target) }) {
		return nil, err
	}
	cmdline, err := m.cmdline(f, beside)
	if err != nil {
		b.Outcome, b.Reason = Failed, err.Error()
		return b, nil
	}
	if alone, err := namesNothing(cmdline); err == nil && alone && m.UKIAlone {
		b.Outcome = Up
		return b, nil
	}
	if b.RootHash, err = m.mountVerified(ctx, table, cmdline); err != nil {
		b.Outcome, b.Reason = Failed, err.Error()
		return b, nil
	}
	b.Outcome = Up
	return b, nil
}

// cmdline is what the kernel gets: the stub joins the UKI's command line with those of the add-ons
// that firmware starts.
func (m *Machine) cmdline(f *uki.File, beside *uki.Companions) (string, error) {
	c := *beside
	for _, list := range []*[]uki.CompanionFile{&c.GlobalAddons, &c.Addons} {
		var started []uki.CompanionFile
		for _, a := range *list {
			im, err := secureboot.ReadImage(a.Content)
			if err != nil {
				continue
			}
			if m.NoSecureBoot || m.Firmware == nil || secureboot.Evaluate(*m.Firmware, im, secureboot.EvaluateOptions{Firmware: m.FirmwareKind, NoShim: m.NoShim}).Allowed {
				started = append(started, a)
			}
		}
		*list = started
	}
	at := uki.Boot{Companions: &c, SecureBoot: !m.NoSecureBoot}
	if m.Hardware != nil {
		at.Hardware = *m.Hardware
	}
	h, err := f.Handover(at)
	if err != nil {
		return "", err
	}
	return h.Cmdline, nil
}

// BootUntilUp switches the machine on, again after each failure, until it is up or stuck, at most
// max times.
func (m *Machine) BootUntilUp(ctx context.Context, max int) ([]*Boot, error) {
	var boots []*Boot
	for len(boots) < max {
		b, err := m.Boot(ctx)
		if err != nil {
			return boots, err
		}
		boots = append(boots, b)
		if b.Outcome == Up || b.Outcome == Stuck {
			break
		}
	}
	return boots, nil
}

func stuck(format string, args ...any) *Boot {
	return &Boot{Outcome: Stuck, Reason: fmt.Sprintf(format, args...)}
}

func (m *Machine) openESP(t *partition.Table) (*fat.FS, error) {
	i := slices.IndexFunc(t.Partitions, func(p partition.Partition) bool { return p.Type == partition.ESP })
	if i < 0 {
		return nil, errors.New("not in the table")
	}
	esp := t.Window(m.Disk, i)
	return fat.Open(esp)
}

func open(esp *fat.FS, name string) (osmith.Source, error) {
	file, err := esp.Open(name)
	if err != nil {
		return nil, err
	}
	image, ok := file.(osmith.Source)
	if !ok {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return image, nil
}

// namesNothing reports whether no root hash is on a command line.
func namesNothing(cmdline string) (bool, error) {
	c, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return false, err
	}
	return c.Root.RootHash == nil && c.Usr.RootHash == nil, nil
}

// mountVerified does what an initrd does with a command line: every file system that it names a
// root hash of must be there and right. It returns the first root hash.
func (m *Machine) mountVerified(ctx context.Context, t *partition.Table, cmdline string) ([]byte, error) {
	c, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return nil, err
	}
	volumes, err := c.Verified()
	if err != nil {
		return nil, err
	}
	signed := slices.Contains(strings.Fields(cmdline), "dm_verity.require_signatures=1")
	for _, v := range volumes {
		if err := m.mount(ctx, t, v, signed); err != nil {
			return volumes[0].RootHash, err
		}
	}
	return volumes[0].RootHash, nil
}

// mount finds the partitions of a root hash by their IDs, whatever their labels say, and reads all
// of the root. Where the command line asks for the signature of the root hash, one of the keyrings
// must have its certificate; without asking there is none, which a kernel may refuse.
func (m *Machine) mount(ctx context.Context, t *partition.Table, v dm.Volume, signed bool) error {
	dataID, treeID, err := partition.VerityIDs(v.RootHash)
	if err != nil {
		return err
	}
	data, tree := t.Find(dataID), t.Find(treeID)
	if data < 0 {
		return fmt.Errorf("no partition %s", dataID)
	}
	if tree < 0 {
		return fmt.Errorf("no partition %s", treeID)
	}
	switch asks := v.Options.RootHashSignature; {
	case asks == "auto":
		if err := m.accept(t, data, v.RootHash); err != nil {
			return err
		}
	case asks == "" && signed:
		return errors.New("the kernel requires a signature of the root hash, and gets none")
	}
	return verity.Verify(ctx, t.Section(m.Disk, data), t.Section(m.Disk, tree), v.RootHash)
}

// accept does what systemd and the kernel do with the signature that lies beside a file system.
func (m *Machine) accept(t *partition.Table, data int, rootHash []byte) error {
	slots, err := partition.FindSlots(t, partition.SlotOptions{Type: t.Partitions[data].Type})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(slots.Slots, func(s *partition.Slot) bool { return s.Data == data })
	if i < 0 || slots.Slots[i].Signature < 0 {
		return errors.New("no partition for the signature of the root hash")
	}
	signature, err := verity.ReadSignature(t.Section(m.Disk, slots.Slots[i].Signature))
	if err != nil {
		return err
	}
	for _, k := range m.VerityKeyrings {
		if k.Name == upgrade.KeyringVerity && !k.Sealed {
			continue // the kernel does not ask it
		}
		if _, err = verity.VerifySignature(signature.PKCS7, rootHash, k.Certificates); err == nil {
			return nil
		}
	}
	return fmt.Errorf("signature of the root hash: required key not available: %w", err)
}
