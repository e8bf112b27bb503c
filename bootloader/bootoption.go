package bootloader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// BootProgram is a program on a partition for which firmware is to have a boot option.
type BootProgram struct {
	// File is its path on the file system of the partition, with slashes, as [Installation.Files]
	// has it.
	File string

	// The partition's row in the GPT: its unique ID, its place in the table from 1, and its first
	// and last LBA, in logical blocks of the disk.
	Partition         osmith.GUID
	PartitionNumber   uint32
	FirstLBA, LastLBA uint64

	// Description is what the menu of the firmware shows for a new option; "": "Linux Boot
	// Manager", as `bootctl install` writes. The description of an existing option stays.
	Description string
}

// BootPlanOptions says what [PlanBootOption] does besides making sure that there is an option. The
// zero value leaves options of other programs, and choices that a person made, as they are.
type BootPlanOptions struct {
	// First moves the option to the front of BootOrder also if it is already listed there. A new
	// option is put in front in any case.
	First bool

	// Activate switches the option on. Without Activate, an option that a person or the firmware's
	// setup has switched off stays off, and keeps its place in BootOrder ([BootPlan].Inactive).
	Activate bool

	// DropDangling removes numbers without a variable from BootOrder. Firmware skips them.
	DropDangling bool

	// Former are the unique IDs of partitions that had this program and no longer exist, as the
	// caller knows from the old partition table. Options that start the program from one of them
	// are removed. A partition that cannot be found is not enough evidence: every disk with
	// systemd-boot has the program in the same place, and a disk may be unplugged.
	Former []osmith.GUID
}

// BootPlan is the result of [PlanBootOption].
type BootPlan struct {
	Number uint16 // number of the option that starts the program

	// Changes are in the order in which they must be made. None: nothing needs to change.
	Changes []VariableChange

	// the option is switched off and stays off: firmware does not start it by itself
	Inactive bool
	Dangling []uint16 // numbers in BootOrder without a variable

	// Left are options that also start the program, or would start it from a partition that is
	// gone, but are not removed, because BootNext names them or they pass different data to the
	// program.
	Left []uint16

	// Malformed are options that firmware cannot read, each as a [*VariableError]. They are not
	// changed.
	Malformed []error
}

// VariableChange is one write to a variable, or its deletion. Its attributes are [VariableKept].
type VariableChange struct {
	Name   string
	Vendor osmith.GUID

	Before, After []byte // content; nil: there is no such variable
}

// String is such as "create Boot0003", "change BootOrder" or "delete Boot0007".
func (c VariableChange) String() string {
	switch {
	case c.Before == nil:
		return "create " + c.Name
	case c.After == nil:
		return "delete " + c.Name
	}
	return "change " + c.Name
}

// ChangeResult is the result of a change.
type ChangeResult struct {
	Change VariableChange

	// Err is nil if the variable now has its new value. [ErrVariableRefused] and its cases say that
	// firmware refused the change, [ErrNotAttempted] that an earlier change failed.
	Err error
}

// ErrNotAttempted: a change was not made because an earlier one failed.
var ErrNotAttempted = errors.New("not attempted")

// PlanBootOption plans the changes that make firmware start a program: its option Boot#### (UEFI
// Specification 2.10, section 3.1.3) and its place in BootOrder. It also restores an option that
// firmware has lost.
//
// An option belongs to the program if the ID of the partition and the path match, in any letter
// case; the description does not matter; options of a category other than boot, which firmware does
// not start by itself, are ignored. Of several such options, the one that firmware starts first is
// kept, and those that pass the same data to the program are removed. If the kept option's device
// path has the partition in a different place, only that is corrected. A new option gets the first
// place, and the lowest number that no variable has and that BootOrder and BootNext do not name.
// Options of other programs are never changed or removed.
//
// The option's content is written first, BootOrder second, deletions come last: after a power cut
// at any write the machine starts what it would have started before or after.
//
// Unreadable variables are errors: a BootOrder or BootNext that cannot be read or has another form,
// and an option that cannot be read ([*VariableError]). A malformed option is not an error: its
// number counts as taken, its place is kept, and it is in Malformed.
func PlanBootOption(have *MachineVariables, program BootProgram, o BootPlanOptions) (plan *BootPlan, err error) {
	defer prefix.Add("bootloader", &err)
	drive, file, err := program.target()
	if err != nil {
		return nil, err
	}
	p := &BootPlan{}
	taken, err := p.known(have)
	if err != nil {
		return nil, err
	}
	listed := func(n uint16) bool { return slices.Contains(have.Order, n) }
	var ours, former []LoadOption
	for _, option := range have.Options {
		h, path, attributes, err := option.target()
		switch {
		case err != nil:
			return nil, err
		case path != lower(file) || attributes&efi.LoadOptionCategory != 0:
		case h.ID == drive.ID:
			ours = append(ours, option)
		case slices.Contains(o.Former, h.ID):
			former = append(former, option)
		}
	}
	// The one that firmware starts first is kept; where it starts none, that which a person has
	// switched off, before one that is in no order.
	rank := func(option LoadOption) (r int) {
		if r = slices.Index(have.Order, option.Number); r < 0 {
			r = 2 * len(have.Order)
		}
		if !option.Active {
			r += len(have.Order)
		}
		return r
	}
	slices.SortStableFunc(ours, func(a, b LoadOption) int { return rank(a) - rank(b) })
	active := true
	if len(ours) == 0 {
		err = p.create(func(n uint16) bool {
			return !taken[n] && !listed(n) && (have.Next == nil || *have.Next != n)
		}, drive, file, program.Description)
	} else {
		active = ours[0].Active || o.Activate
		p.Number, p.Inactive = ours[0].Number, !active
		err = p.repair(ours[0], drive, active)
	}
	if err != nil {
		return nil, err
	}

	removed := former
	for _, option := range ours[min(1, len(ours)):] {
		if bytes.Equal(option.Data, ours[0].Data) {
			removed = append(removed, option)
		} else {
			p.Left = append(p.Left, option.Number)
		}
	}
	removed = slices.DeleteFunc(removed, func(option LoadOption) bool {
		next := have.Next != nil && *have.Next == option.Number
		if next {
			p.Left = append(p.Left, option.Number)
		}
		return next
	})
	var order []uint16
	first := active && (o.First || len(ours) == 0 || !listed(p.Number))
	if first {
		order = append(order, p.Number)
	}
	for _, n := range have.Order {
		gone := slices.ContainsFunc(removed, func(option LoadOption) bool { return option.Number == n })
		dangling := !taken[n]
		if dangling && !slices.Contains(p.Dangling, n) {
			p.Dangling = append(p.Dangling, n)
		}
		if gone || dangling && o.DropDangling || n == p.Number && slices.Contains(order, n) {
			continue
		}
		order = append(order, n)
	}
	p.change("BootOrder", orderContent(have.Order), orderContent(order))
	for _, option := range removed {
		p.change(optionName(option.Number), option.Raw, nil)
	}
	return p, nil
}

// target is the partition of the program, and its path as device paths have it.
func (b *BootProgram) target() (h efi.HardDrive, file string, err error) {
	switch {
	case !fs.ValidPath(b.File) || b.File == "." || strings.Contains(b.File, `\`):
		return h, "", fmt.Errorf("program %q: want its path on the partition, with slashes, without a leading slash", b.File)
	case b.Partition.IsZero() || b.PartitionNumber == 0 || b.FirstLBA == 0 || b.LastLBA < b.FirstLBA || b.LastLBA == math.MaxUint64:
		return h, "", fmt.Errorf("partition %v, number %d, LBA %d to %d: want an ID, a number from 1 and a start after the partition table", b.Partition, b.PartitionNumber, b.FirstLBA, b.LastLBA)
	}
	return efi.HardDrive{Number: b.PartitionNumber, FirstLBA: b.FirstLBA, SizeLBA: b.LastLBA - b.FirstLBA + 1, ID: b.Partition}, `\` + strings.ReplaceAll(b.File, "/", `\`), nil
}

// target is what an option starts: a partition, zero if its path names none by a GPT ID, and the
// path, with small letters.
func (o *LoadOption) target() (h efi.HardDrive, file string, attributes uint32, err error) {
	option, err := efi.ParseLoadOption(o.Raw)
	if err != nil {
		return h, "", 0, &VariableError{optionName(o.Number), fmt.Errorf("its Raw: %w", err)}
	}
	h, _ = efi.PathHardDrive(option.Path)
	return h, `\` + lower(strings.Trim(efi.PathFile(option.Path), `\`)), option.Attributes, nil
}

// known refuses variables of which it is not known what they say, and has the numbers that options
// have.
func (p *BootPlan) known(have *MachineVariables) (taken map[uint16]bool, err error) {
	taken = map[uint16]bool{}
	for _, option := range have.Options {
		taken[option.Number] = true
	}
	for _, problem := range have.Problems {
		e, ok := errors.AsType[*VariableError](problem)
		if !ok {
			return nil, problem
		}
		n, isOption := optionNumber(e.Name)
		_, wasRead := errors.AsType[*osmith.FormatError](problem)
		switch {
		case isOption && wasRead:
			taken[n] = true
			p.Malformed = append(p.Malformed, problem)
		case isOption || e.Name == "BootOrder" || e.Name == "BootNext":
			return nil, fmt.Errorf("what firmware starts is unknown: %w", problem)
		}
	}
	return taken, nil
}

// create adds the change that makes a new option.
func (p *BootPlan) create(free func(uint16) bool, h efi.HardDrive, file, description string) error {
	n := 0
	for ; !free(uint16(n)); n++ {
		if n == math.MaxUint16 {
			return errors.New("no boot option number is free: all 65536 are in use")
		}
	}
	p.Number = uint16(n)
	if description == "" {
		description = "Linux Boot Manager"
	}
	path, err := efi.AppendFile(efi.AppendHardDrive(nil, h), file)
	if err != nil {
		return err
	}
	content, err := efi.AppendLoadOption(nil, efi.LoadOption{Attributes: efi.LoadOptionActive, Description: description, Path: efi.AppendPathEnd(path)})
	p.change(optionName(p.Number), nil, content)
	return err
}

// repair adds the change that puts an option right, if it needs one.
func (p *BootPlan) repair(option LoadOption, h efi.HardDrive, active bool) error {
	content := bytes.Clone(option.Raw)
	o, err := efi.ParseLoadOption(content) // its path points into content
	if err != nil {
		return err
	}
	efi.Relocate(o.Path, h)
	if active {
		content[0] |= efi.LoadOptionActive
	}
	p.change(optionName(option.Number), option.Raw, content)
	return nil
}

func (p *BootPlan) change(name string, before, after []byte) {
	if !bytes.Equal(before, after) {
		p.Changes = append(p.Changes, VariableChange{name, efi.GlobalVariable, before, after})
	}
}

func optionName(n uint16) string { return fmt.Sprintf("Boot%04X", n) }

// orderContent is the content of BootOrder, nil for an empty one.
func orderContent(order []uint16) (b []byte) {
	for _, n := range order {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	return b
}

// Apply makes the changes of a plan in their order, up to the first one that fails, whose error is
// returned. There is a result for each change. If the error is [ErrVariableRefused], a caller can
// go on without a boot option, since the ESP also has the loader as its fallback.
//
// Nothing is written if a variable has neither the value that the plan has read nor the value that
// it would write ([*VariableMismatchError]): make a new plan. A variable that is already correct is
// not written, so that an interrupted plan can be applied again.
func (p *BootPlan) Apply(store VariableStore) (results []ChangeResult, err error) {
	defer prefix.Add("bootloader", &err)
	todo := make([]bool, len(p.Changes))
	for i, c := range p.Changes {
		results = append(results, ChangeResult{Change: c, Err: ErrNotAttempted})
		if todo[i], err = c.pending(store); err != nil {
			results[i].Err = err
			return append(results, notAttempted(p.Changes[i+1:])...), err
		}
	}
	for i, c := range p.Changes {
		if todo[i] {
			err = c.apply(store)
		}
		if results[i].Err = err; err != nil {
			return results, err
		}
	}
	return results, nil
}

func notAttempted(changes []VariableChange) (results []ChangeResult) {
	for _, c := range changes {
		results = append(results, ChangeResult{c, ErrNotAttempted})
	}
	return results
}

// pending reports whether a change has to be made.
func (c VariableChange) pending(store VariableStore) (bool, error) {
	variable := func(content []byte) *EFIVariable {
		if content == nil {
			return nil
		}
		return &EFIVariable{c.Name, c.Vendor, VariableKept, content}
	}
	same := func(a, b *EFIVariable) bool { return a == nil && b == nil || a != nil && b != nil && a.equal(*b) }
	var got *EFIVariable
	switch v, err := readVariable(store, c.Name, c.Vendor); {
	case err == nil:
		got = &v
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	before, after := variable(c.Before), variable(c.After)
	switch {
	case same(got, after):
		return false, nil
	case same(got, before):
		return true, nil
	}
	return false, &VariableError{c.Name, &VariableMismatchError{Want: before, Got: got}}
}

func (c VariableChange) apply(store VariableStore) error {
	if c.After == nil {
		return store.Delete(c.Name, c.Vendor)
	}
	return store.Set(EFIVariable{c.Name, c.Vendor, VariableKept, c.After})
}
