package slots

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// GPTAttributes are the attributes of a GPT entry (UEFI Specification 2.10, table 5.6), whose bits
// 48 to 56 ChromeOS gave a meaning
// (https://chromium.org/chromium-os/developer-library/reference/device/disk-format): 48 to 51 are
// the priority, 52 to 55 the tries that are left, 56 says that the system has declared itself
// successful.
type GPTAttributes uint64

// Where the bits are, by the source of vboot (firmware/lib/cgptlib/include/cgptlib_internal.h).
const (
	priorityShift = 48
	triesShift    = 52
	successfulBit = 1 << 56
	// Bottlerocket, on its private partition: a system has declared itself good once (signpost,
	// gptprio.rs)
	hasBootedBit   = 1 << 57
	maxPriority    = 15
	maxGPTTries    = 15
	gptprioAllBits = maxPriority<<priorityShift | maxGPTTries<<triesShift | successfulBit
)

// Priority is 0 to 15. The highest is started first, and 0 never.
func (a GPTAttributes) Priority() int { return int(a >> priorityShift & maxPriority) }

// Tries is how many tries are left, 0 to 15.
func (a GPTAttributes) Tries() int { return int(a >> triesShift & maxGPTTries) }

// Successful says that the slot was declared good.
func (a GPTAttributes) Successful() bool { return a&successfulBit != 0 }

// HasBooted is bit 57, which Bottlerocket sets on its private partition when a system of either
// slot declares itself good.
func (a GPTAttributes) HasBooted() bool { return a&hasBootedBit != 0 }

// with keeps all bits that are not gptprio's.
func (a GPTAttributes) with(priority, tries int, successful bool) GPTAttributes {
	a &^= gptprioAllBits
	a |= GPTAttributes(priority)<<priorityShift | GPTAttributes(tries)<<triesShift
	if successful {
		a |= successfulBit
	}
	return a
}

// eligible is what loaders ask of a slot: a priority, and either tries or success.
func (a GPTAttributes) eligible() bool {
	return a.Priority() > 0 && (a.Tries() > 0 || a.Successful())
}

// GPTProfile says which system's meaning of the bits applies. The bits do not show it: Qualcomm's
// Android loaders give different meanings to bits 50, 54 and 55.
type GPTProfile uint8

// The profiles. There is no default.
const (
	// firmware of ChromeOS, vboot: tries of a successful slot are left alone
	GPTChromeOS GPTProfile = iota + 1
	// GRUB of Flatcar and CoreOS, by the USR partitions: a slot with tries loses one, successful or
	// not
	GPTFlatcar
	// GRUB of Bottlerocket, by the BOOT partitions, as Flatcar's; bit 57
	GPTBottlerocket
)

// String is "ChromeOS", "Flatcar" or "Bottlerocket".
func (p GPTProfile) String() string {
	return name("GPTProfile", int(p), 1, "ChromeOS", "Flatcar", "Bottlerocket")
}

var gptSlotTypes = map[GPTProfile]osmith.GUID{
	GPTChromeOS:     osmith.MustParseGUID("fe3a2a5d-4f32-41a7-b725-accc3285a309"), // kernel
	GPTFlatcar:      osmith.MustParseGUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"), // coreos-usr
	GPTBottlerocket: osmith.MustParseGUID("6b636168-7420-6568-2070-6c616e657421"), // boot
}

// bottlerocketPrivate is the type of the partition that has bit 57.
var bottlerocketPrivate = osmith.MustParseGUID("440408bb-eb0b-4328-a6e5-a29038fad706")

// SlotType is the partition type of the slots of a profile; zero for one that does not exist.
func (p GPTProfile) SlotType() osmith.GUID { return gptSlotTypes[p] }

// GPTPartition has the facts about a partition that the store needs.
type GPTPartition struct {
	Number     int // its place in the table, from 1
	Type       osmith.GUID
	Attributes GPTAttributes
}

// maxGPTPartitions bounds a table: four times what one has as a rule.
const maxGPTPartitions = 512

// GPTPrio keeps the state of slots in the attributes of GPT entries. A slot is named by the number
// of its partition: "3".
//
// The [Write]s of a change are of eight bytes, the attributes as they are in an entry of the table
// (little-endian, at byte 48). Make them in one update of the table, or each in an update of its
// own: in between, the machine starts a valid slot. The writer of the table must make sure that the
// table survives a power cut, as package partition does.
type GPTPrio struct {
	profile    GPTProfile
	partitions []GPTPartition
}

// NewGPTPrio makes a store from all partitions of a table, in the order of their numbers. Those of
// the profile's type are the slots.
func NewGPTPrio(profile GPTProfile, partitions []GPTPartition) (g *GPTPrio, err error) {
	defer prefix.Add("slots", &err)
	if profile.SlotType().IsZero() {
		return nil, fmt.Errorf("profile %v: want ChromeOS, Flatcar or Bottlerocket", profile)
	}
	if len(partitions) > maxGPTPartitions {
		return nil, fmt.Errorf("%d partitions, want at most %d", len(partitions), maxGPTPartitions)
	}
	for i, p := range partitions {
		if p.Number < 1 || i > 0 && p.Number <= partitions[i-1].Number {
			return nil, fmt.Errorf("partition %d: want ascending numbers from 1", p.Number)
		}
	}
	g = &GPTPrio{profile, slices.Clone(partitions)}
	if len(g.slots()) == 0 {
		return nil, fmt.Errorf("no partition of type %v, which slots of %v have: %w", profile.SlotType(), profile, ErrSlot)
	}
	return g, nil
}

// Partitions are all partitions given to [NewGPTPrio], with their attributes in the store.
func (g *GPTPrio) Partitions() []GPTPartition { return slices.Clone(g.partitions) }

// slots are indices of partitions.
func (g *GPTPrio) slots() (all []int) {
	for i, p := range g.partitions {
		if p.Type == g.profile.SlotType() {
			all = append(all, i)
		}
	}
	return all
}

// Properties are documented with [Reader].
func (g *GPTPrio) Properties() Properties {
	return Properties{
		Name: "gptprio of " + g.profile.String(), Evidence: EvidenceTool, MaxTries: maxGPTTries,
		Counts: AnswerYes, FallsBack: AnswerYes, TellsGood: AnswerYes, TellsRunning: AnswerNo,
		KeepsValid: answer(g.profile == GPTBottlerocket), Torn: AnswerNo,
	}
}

// Slots are documented with [Reader].
func (g *GPTPrio) Slots() (all []Slot) {
	for _, i := range g.slots() {
		p := g.partitions[i]
		s := Slot{Name: strconv.Itoa(p.Number), Bootable: answer(p.Attributes.eligible()), Good: answer(p.Attributes.Successful()),
			Tries: p.Attributes.Tries(), Priority: p.Attributes.Priority()}
		if s.Good == AnswerYes && g.profile == GPTChromeOS {
			s.Tries = -1 // vboot does not look at them
		}
		all = append(all, s)
	}
	return all
}

// chosen is the index of the partition that is started: the highest priority, and of equal ones the
// first.
func (g *GPTPrio) chosen() (int, bool) {
	best, found := 0, false
	for _, i := range g.slots() {
		a := g.partitions[i].Attributes
		if a.eligible() && (!found || a.Priority() > g.partitions[best].Attributes.Priority()) {
			best, found = i, true
		}
	}
	return best, found
}

// Boot is documented with [Reader].
func (g *GPTPrio) Boot() (Start, Reader) {
	i, ok := g.chosen()
	if !ok {
		return Start{Outcome: OutcomeNothing, Reason: "no slot has a priority with tries left or marked successful"}, nil
	}
	p := g.partitions[i]
	a := p.Attributes
	start := Start{Outcome: OutcomeSlot, Slot: strconv.Itoa(p.Number), Reason: fmt.Sprintf("priority %d", a.Priority())}
	if a.Tries() == 0 || g.profile == GPTChromeOS && a.Successful() {
		return start, g
	}
	start.Reason += fmt.Sprintf(", %d tries left", a.Tries())
	return start, g.set(i, a.with(a.Priority(), a.Tries()-1, a.Successful()))
}

// set is the store with other attributes of a partition.
func (g *GPTPrio) set(i int, a GPTAttributes) *GPTPrio {
	g = &GPTPrio{g.profile, slices.Clone(g.partitions)}
	g.partitions[i].Attributes = a
	return g
}

// gptChange collects writes.
type gptChange struct {
	g      *GPTPrio
	writes []Write
}

func (c *gptChange) set(i int, a GPTAttributes) {
	p := c.g.partitions[i]
	if p.Attributes == a {
		return
	}
	c.g = c.g.set(i, a)
	c.writes = append(c.writes, Write{Object: fmt.Sprintf("attributes of partition %d", p.Number), Number: p.Number,
		Before: binary.LittleEndian.AppendUint64(nil, uint64(p.Attributes)), After: binary.LittleEndian.AppendUint64(nil, uint64(a))})
}

// above makes room over all slots but one, and returns the priority that is there. Priorities are
// lowered from the lowest up, so that their order is the same after each write.
func (c *gptChange) above(slot int) (int, error) {
	var used []int
	for _, i := range c.g.slots() {
		if n := c.g.partitions[i].Attributes.Priority(); i != slot && n > 0 && !slices.Contains(used, n) {
			used = append(used, n)
		}
	}
	slices.Sort(used)
	if len(used) == 0 {
		return 1, nil
	}
	if top := used[len(used)-1]; top < maxPriority {
		return top + 1, nil
	}
	if len(used) == maxPriority {
		return 0, fmt.Errorf("%w: the other slots use all %d priorities", ErrNoSpace, maxPriority)
	}
	for rank, n := range used {
		for _, i := range c.g.slots() {
			if a := c.g.partitions[i].Attributes; i != slot && a.Priority() == n {
				c.set(i, a.with(rank+1, a.Tries(), a.Successful()))
			}
		}
	}
	return len(used) + 1, nil
}

// Mark is documented with [Store].
//
// Priority, tries and success of a slot to be tried are first cleared, so that its old state does
// not make it start while the other slots are changed. Bottlerocket's cancelled slots lose their
// priority but keep their tries, so that signpost takes them for valid.
func (g *GPTPrio) Mark(m Mark) (change *Change, err error) {
	defer prefix.Add("slots", &err)
	if err := m.check(g); err != nil {
		return nil, err
	}
	slot := slices.IndexFunc(g.partitions, func(p GPTPartition) bool { return strconv.Itoa(p.Number) == m.Slot })
	c := &gptChange{g: g}
	have := g.partitions[slot].Attributes
	switch m.As {
	case AsTrying:
		if m.judge(g) == nil && !have.Successful() && have.Tries() == m.Tries {
			break // it is so already
		}
		c.set(slot, have.with(0, 0, false))
		top, err := c.above(slot)
		if err != nil {
			return nil, err
		}
		c.set(slot, have.with(top, m.Tries, false))
	case AsGood:
		if err := c.good(slot); err != nil {
			return nil, err
		}
	case AsCancelled:
		tries := 0
		if g.profile == GPTBottlerocket {
			tries = have.Tries()
		}
		c.set(slot, have.with(0, tries, false))
	case AsBad:
		c.set(slot, have.with(0, 0, false))
	}
	return m.done(&Change{Writes: c.writes, After: c.g})
}

// good declares a slot good, and puts it first.
func (c *gptChange) good(slot int) error {
	first, ok := c.g.chosen()
	a := c.g.partitions[slot].Attributes
	priority := a.Priority()
	if !ok || first != slot {
		top, err := c.above(slot)
		if err != nil {
			return err
		}
		priority = top
	}
	c.set(slot, a.with(priority, 0, true))
	if c.g.profile == GPTBottlerocket {
		for i, p := range c.g.partitions {
			if p.Type == bottlerocketPrivate {
				c.set(i, p.Attributes|hasBootedBit)
			}
		}
	}
	return nil
}
