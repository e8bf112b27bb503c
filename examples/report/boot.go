package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/tokens"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/upgrade"
)

// registers say what is measured into PCRs.
var registers = [16]string{
	"firmware code", "firmware configuration, boot order", "code of plug-in cards", "configuration of plug-in cards",
	"boot loader, UKI and add-ons, by their Authenticode hashes", "partition table, loader.conf", "the maker of the machine",
	"Secure Boot: db, dbx and the certificates that were used", "command line, with GRUB", "initrds and command line, as the kernel gets them", "files, by IMA",
	"the UKI, section by section, then the phases of the boot", "command lines and add-ons from outside the UKI", "extensions", "shim's keys", "what identifies system and volumes",
}

// pcrPartitionTable depends on the disk of each machine.
const pcrPartitionTable = 5

// machine is what the call says about the machine that boots a release.
type machine struct {
	upgrade.Machine
	loader      osmith.Source // in place of the release's; nil: that of the release
	baseline    *tpm.Log
	day         time.Time // of the report; zero: none was given
	phasesAlone bool
	pin         bool
}

// readBaseline reads the event log of an earlier boot.
func readBaseline(file string) (*tpm.Log, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	log, err := tpm.ParseLog(raw)
	if err != nil {
		return nil, fmt.Errorf("-baseline %s: %w", file, err)
	}
	return log, nil
}

// errNoLoader says why the chain of a boot is not known.
var errNoLoader = errors.New("the release has no boot loader: give one with -loader")

// boots predicts what the machine measures when it boots the release from its usual disk, up to the
// phases; none: until the kernel starts.
func (m *machine) boots(ctx context.Context, o *opened, phases ...string) (tpm.Alternatives, error) {
	loader := m.loader
	if loader == nil {
		loader = o.Loader
	}
	if loader == nil {
		return nil, errNoLoader
	}
	// The identifiers on the disk go into PCR 5, which is not claimed.
	disk, err := build.Disk(ctx, o.Release, build.DiskOptions{Seed: osmith.GUID{1}, Loader: &bootloader.Installation{Loader: loader}})
	if err != nil {
		return nil, err
	}
	options := build.BootOptions{Variables: m.Firmware, Baseline: m.baseline, Firmware: m.FirmwareKind, NoShim: m.NoShim, Phases: phases, Banks: []crypto.Hash{crypto.SHA256}}
	if m.phasesAlone {
		options.Userspace = tpm.PhasesAlone()
	}
	return build.Boot(ctx, disk, options)
}

// pcrs fills in the registers. Without predictions they say why.
func (r *report) pcrs(old, next tpm.Alternatives, why error) error {
	var changes *tpm.Changes
	if old != nil && next != nil {
		var err error
		if changes, err = tpm.CompareBoots(old, next); err != nil {
			return err
		}
	}
	before, err := values(old)
	if err != nil {
		return err
	}
	after, err := values(next)
	if err != nil {
		return err
	}
	for n, holds := range registers {
		p := register{PCR: n, Holds: holds, Effect: tpm.EffectUnknown.String(), Old: []string{}, New: []string{}}
		switch {
		case why != nil:
			p.Note = text(why.Error())
		case n == pcrPartitionTable:
			p.Note = "it depends on the partition table of each machine"
		default:
			p.Note = note(next, n)
			p.Old, p.New = append(p.Old, before[n]...), append(p.New, after[n]...)
			if changes != nil {
				p.Effect = changes.PCRs[n].Effect.String()
				if changes.PCRs[n].Note != "" {
					p.Note = text(changes.PCRs[n].Note)
				}
			}
		}
		r.PCRs = append(r.PCRs, p)
	}
	if changes == nil {
		return nil
	}
	for i, c := range changes.Causes {
		if i < maxList && c.PCR != pcrPartitionTable {
			r.Change.Causes = append(r.Change.Causes, text(c.String()))
		}
	}
	return nil
}

// values are the possible ones of each PCR that is predicted.
func values(ways tpm.Alternatives) (map[int][]string, error) {
	out := map[int][]string{}
	if ways == nil {
		return out, nil
	}
	all, err := ways.Values(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	for n, list := range all {
		for _, v := range list {
			out[n] = append(out[n], hex.EncodeToString(v))
		}
	}
	return out, nil
}

// note is what a prediction says of a PCR besides its value.
func note(ways tpm.Alternatives, pcr int) string {
	for _, log := range ways {
		for _, c := range log.Coverage {
			if c.PCR == pcr && c.Note != "" {
				return text(c.Note)
			}
		}
	}
	return ""
}

// answers are those of package sealing.
var answers = map[sealing.Verdict]answer{sealing.VerdictOpens: yes, sealing.VerdictDoesNotOpen: no, sealing.VerdictUnknown: unknown}

// tokens asks of each token whether the TPM opens it in the initrd of the boots.
func (r *report) tokens(ctx context.Context, files []string, m *machine, all []*opened) error {
	var boots []*tokens.Boots
	var unknownBoot []string // reasons, of each release
	for _, o := range all {
		b, why := new(tokens.Boots), ""
		ways, err := m.boots(ctx, o, "enter-initrd")
		if err != nil {
			why = text(err.Error())
		} else {
			b.Add(ways, o.policies)
		}
		boots, unknownBoot = append(boots, b), append(unknownBoot, why)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, file := range files {
		list, _, err := tokens.Read(file)
		if err != nil {
			return err
		}
		for _, t := range list {
			s := secret{File: name(file), Token: t.ID, Old: unknown, Reasons: []string{}}
			for i, b := range boots {
				got, reasons := unknown, []string{unknownBoot[i]}
				if unknownBoot[i] == "" {
					a, err := b.Worst(t.Token, m.pin)
					if err != nil {
						return fmt.Errorf("%s: %w", file, err)
					}
					got, reasons = answers[a.Verdict], []string{}
					for _, reason := range a.Reasons {
						reasons = append(reasons, reason.String())
					}
				}
				if i == len(boots)-1 {
					s.New, s.Reasons = got, texts(reasons)
				} else {
					s.Old = got
				}
			}
			r.Tokens = append(r.Tokens, s)
		}
	}
	return nil
}

// starts is what firmware says to an image.
func (m *machine) starts(src osmith.Source) (answer, string) {
	if m.NoSecureBoot {
		return yes, "firmware verifies nothing (-no-secure-boot)"
	}
	if m.Firmware == nil {
		return unknown, "the Secure Boot variables of the machine are not known"
	}
	im, err := secureboot.ReadImage(src)
	if err != nil {
		return no, text(err.Error())
	}
	kind := m.FirmwareKind
	if kind == "" {
		kind = secureboot.FirmwareAny
	}
	v := secureboot.Evaluate(*m.Firmware, im, secureboot.EvaluateOptions{Firmware: kind, NoShim: m.NoShim})
	switch {
	case v.Allowed:
		return yes, text(v.Reason)
	case v.Unknown:
		return unknown, text(v.Reason)
	}
	return no, text(v.Reason)
}
