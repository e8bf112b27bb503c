package build

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// BootOptions are what is known of the machine that boots a disk, and the moment that is asked
// about. PCRs that depend on a missing field are not claimed: [tpm.Coverage] says which and why.
type BootOptions struct {
	// Variables are the Secure Boot configuration of the machine; a disk that enrols keys
	// ([DiskOptions].Enroll) has them in [DiskImage].Enrollment. Nil: not known: no image is
	// judged, and PCR 7 is not predicted.
	Variables *osmith.FirmwareVariables

	// Baseline is the event log of an earlier boot of the machine, whatever that started: by it the
	// firmware's own measurements are known.
	Baseline *tpm.Log

	// Firmware is the row that judges images: [secureboot.FirmwareEDK2Stable202608] if it is empty.
	Firmware secureboot.Firmware
	// NoShim says that the machine's firmware has nothing of shim's. It needs not be said of a disk
	// with a shim of its own.
	NoShim bool

	// SMBIOS are the structures of the machine, as in /sys/firmware/dmi/tables/DMI: by them the
	// stub picks device trees, and they may add to the command line.
	SMBIOS []byte

	// Profile is the number of the UKI's profile that is booted.
	Profile int

	// BootSecret is what stubs since systemd 261 hand over ([uki.Boot]), or NoBootSecret says that
	// there is none.
	BootSecret   []byte
	NoBootSecret bool
	// Consoles are what stubs since systemd 261 append to a command line without a console
	// ([uki.Boot]).
	Consoles []string

	// Phases are what userspace extends PCR 11 with up to the moment, and Userspace what it
	// measures into others. None: the moment when the kernel starts.
	Phases    []string
	Userspace *tpm.Userspace

	// Banks are the PCR banks. None: all that systemd knows.
	Banks []crypto.Hash
}

// RefusedImageError says that a machine does not start something on the disk, or that it is not
// known whether it does.
type RefusedImageError struct {
	Path    string // on the ESP
	Verdict secureboot.Verdict
}

func (e *RefusedImageError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Verdict.Reason) }

// Boot predicts what a machine measures when it boots the disk, in the entry that [Disk] made: one
// log for each possible way of the boot, mostly one. Everything is read from the plan: partition
// table, boot loader and its configuration, UKI and what lies beside it. A program that the machine
// refuses is a [*RefusedImageError], as nothing is measured behind it; with add-ons on the ESP,
// Variables must be known, as they decide which of them count.
func Boot(ctx context.Context, d *DiskImage, o BootOptions) (ways tpm.Alternatives, err error) {
	defer prefix.Add("build", &err)
	b := &bootBuilder{disk: d, o: o, boot: tpm.Boot{Banks: o.Banks, Firmware: o.Baseline, Variables: o.Variables, NoShim: o.NoShim, SMBIOS: o.SMBIOS, Phases: o.Phases, Userspace: o.Userspace}}
	if len(b.boot.Banks) == 0 {
		b.boot.Banks = tpm.Banks()
	}
	for _, step := range []func() error{b.volume, b.programs, b.handover} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step(); err != nil {
			return nil, prefix.Bare(err)
		}
	}
	ways, err = tpm.PredictAll(b.boot)
	return ways, prefix.Bare(err)
}

// bootBuilder puts a boot into values.
type bootBuilder struct {
	disk *DiskImage
	o    BootOptions
	boot tpm.Boot

	esp        *fat.FS
	uki        *uki.File
	companions *uki.Companions
	shim       *secureboot.Shim // that the ESP has
}

// volume opens what the plan has for the ESP, and takes the table.
func (b *bootBuilder) volume() (err error) {
	if b.disk.ESP < 0 || b.disk.Entry == "" || b.disk.Loader == nil {
		return errors.New("boot: the disk has no system")
	}
	if b.esp, err = fat.OpenReader(b.disk.Content(b.disk.ESP)); err != nil {
		return fmt.Errorf("the ESP: %w", prefix.Bare(err))
	}
	var gpt tpm.PartitionTable
	if gpt.Header, gpt.Entries, err = b.disk.Table.MarshalPrimary(); err != nil {
		return err
	}
	b.boot.GPT = &gpt
	src, err := b.open(b.disk.Entry)
	if err != nil {
		return err
	}
	if b.uki, err = uki.Open(src); err != nil {
		return err
	}
	if b.boot.Stub, err = b.uki.StubVersion(); err != nil {
		return err
	}
	b.companions, err = uki.ReadCompanions(b.esp, b.disk.Entry)
	return err
}

// open is a file on the ESP.
func (b *bootBuilder) open(name string) (osmith.Source, error) {
	f, err := b.esp.Open(name)
	if err != nil {
		return nil, err
	}
	src, ok := f.(io.ReaderAt)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s cannot be read at an offset", name)
	}
	return io.NewSectionReader(src, 0, info.Size()), nil
}

// program is one that is started, with the verdict on it.
func (b *bootBuilder) program(name string, src osmith.Source) (app tpm.Application, v secureboot.Verdict, err error) {
	im, err := secureboot.ReadImage(src, b.boot.Banks...)
	if err != nil {
		return app, v, fmt.Errorf("%s: %w", name, prefix.Bare(err))
	}
	app = tpm.Application{Path: name, Size: src.Size(), Digests: im.Digests}
	variables := b.o.Variables
	if variables == nil {
		return app, secureboot.Verdict{Allowed: true}, nil
	}
	o := secureboot.EvaluateOptions{Firmware: b.o.Firmware, NoShim: b.o.NoShim, Shim: b.shim}
	v = secureboot.Evaluate(*variables, im, o)
	if app.Authority, err = v.AuthorityEvent(); err != nil {
		return app, v, prefix.Bare(err)
	}
	return app, v, nil
}

// started is a program that has to start.
func (b *bootBuilder) started(name string, src osmith.Source) (tpm.Application, error) {
	app, v, err := b.program(name, src)
	if err == nil && !v.Allowed {
		err = &RefusedImageError{name, v}
	}
	return app, err
}

// programs are what the firmware is asked to start: shim, the boot loader, the UKI and its add-ons.
func (b *bootBuilder) programs() error {
	in := b.disk.installation
	name, err := in.BootFile()
	if err != nil {
		return err
	}
	if in.Shim != nil {
		shim, err := secureboot.ReadShim(in.Shim, b.boot.Banks...)
		if err != nil {
			return fmt.Errorf("shim: %w", prefix.Bare(err))
		}
		app, err := b.started(name, in.Shim)
		if err != nil {
			return err
		}
		p := &tpm.Shim{Application: app}
		if variables := b.o.Variables; variables != nil {
			p.Variables = shim.Measured(*variables)
		}
		b.boot.Chain, b.shim = append(b.boot.Chain, p), shim
		name = "the boot loader behind " + name
	}
	app, err := b.started(name, in.Loader)
	if err != nil {
		return err
	}
	loader := &tpm.SystemdBoot{Application: app}
	if loader.Version, err = bootloader.LoaderVersion(in.Loader); err != nil {
		return err
	}
	conf, err := b.open("loader/loader.conf")
	if err != nil {
		return err
	}
	if loader.Conf, err = readAll(conf); err != nil {
		return err
	}
	b.boot.Chain = append(b.boot.Chain, loader)
	src, err := b.open(b.disk.Entry)
	if err != nil {
		return err
	}
	if b.boot.UKI, err = b.started(b.disk.Entry, src); err != nil {
		return err
	}
	for _, list := range []*[]uki.CompanionFile{&b.companions.GlobalAddons, &b.companions.Addons} {
		var kept []uki.CompanionFile
		for _, file := range *list {
			if b.o.Variables == nil {
				return fmt.Errorf("boot: whether the machine starts the add-on %s is unknown: give BootOptions.Variables", file.Name)
			}
			app, v, err := b.program(file.Name, file.Content)
			if err != nil {
				return err
			}
			if v.Allowed { // the stub passes over others
				kept, b.boot.Addons = append(kept, file), append(b.boot.Addons, app)
			}
		}
		*list = kept
	}
	return nil
}

// handover is what the stub measures and passes to the kernel.
func (b *bootBuilder) handover() error {
	boot := uki.Boot{Profile: b.o.Profile, Companions: b.companions, BootSecret: b.o.BootSecret, NoBootSecret: b.o.NoBootSecret, Consoles: b.o.Consoles}
	if v := b.o.Variables; v != nil {
		boot.SecureBoot = len(v.SecureBoot) == 1 && v.SecureBoot[0] == 1
	}
	if b.o.SMBIOS != nil {
		var err error
		if boot.Hardware.SMBIOS, err = hwid.ParseSMBIOS(b.o.SMBIOS); err != nil {
			return err
		}
	}
	variant, err := b.uki.Choose(b.o.Profile, boot.Hardware)
	if err != nil {
		return err
	}
	if b.boot.Sections, err = b.uki.MeasureVariant(variant, b.boot.Banks...); err != nil {
		return err
	}
	handover, err := b.uki.Handover(boot)
	if err != nil {
		return err
	}
	if len(handover.Addons) != len(b.boot.Addons) {
		return fmt.Errorf("boot: the stub would apply %d of %d add-ons that firmware starts: how the others are measured is unknown", len(handover.Addons), len(b.boot.Addons))
	}
	b.boot.Handover, err = handover.Measure(b.boot.Banks...)
	return err
}
