package upgrade

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// Unlock holds the facts, besides PCRs and signatures, that decide whether the TPM opens the
// volumes of the disk by their tokens.
type Unlock struct {
	// Phases are the words that systemd has measured into PCR 11 when it requests the secret:
	// "enter-initrd" for a volume that the initrd opens, followed by "leave-initrd" for a volume
	// that the system opens. Nil: unknown, and a token must open at both moments.
	Phases []string

	// Banks are the banks that the TPM has allocated; they decide for tokens that name no bank, as
	// those of systemd-repart. Nil: unknown.
	Banks []crypto.Hash

	// PCRLock is the policy that, according to pcrlock.json, the NV index of systemd-pcrlock will
	// hold at the next boot. Nil: unknown.
	PCRLock *policy.PCRLock

	// Counters are values of NV counters of the TPM. A counter that is missing from the map is
	// unknown.
	Counters map[uint32]uint64
}

// A Volume is an encrypted volume in a partition of the disk that is in no slot, usually a state
// partition.
type Volume struct {
	Partition int    // number in the table, from 1
	Name      string // label of the partition
	UUID      string // of the volume
	Tokens    []luks.Token

	// Err says why it is unknown what opens the volume: its header is damaged, or needs newer
	// software.
	Err error

	slots  []luks.Slot
	unread bool // Err is that of the medium
}

// String is `volume "state" in partition 6`.
func (v *Volume) String() string {
	return fmt.Sprintf("volume %q in partition %d", v.Name, v.Partition)
}

// findVolumes reads the headers of the encrypted volumes. Slots are left out: their content has a
// hash.
func findVolumes(disk io.ReaderAt, t *partition.Table) (list []*Volume) {
	_, slots, _ := findSlots(t) // those that there are
	for i := range t.Partitions {
		if slices.ContainsFunc(slots, func(s *Slot) bool { return i == s.Data || i == s.Tree || i == s.Signature }) {
			continue
		}
		if v := readVolume(t.Section(disk, i)); v != nil {
			v.Partition, v.Name = t.Partitions[i].Number, t.Partitions[i].Name
			list = append(list, v)
		}
	}
	return list
}

// readVolume is nil for a partition that has something else. A volume of LUKS1 has no tokens.
func readVolume(src osmith.Source) *Volume {
	h, err := luks.Read(src)
	switch {
	case errors.Is(err, luks.ErrLUKS1):
		return &Volume{}
	case errors.Is(err, luks.ErrNotLUKS):
		there, unread := hasMagic(src)
		switch {
		case there:
			return &Volume{Err: err}
		case unread != nil:
			return &Volume{Err: fmt.Errorf("whether there is a LUKS2 header is unknown: %w", unread), unread: true}
		}
		return nil
	case err != nil:
		return &Volume{Err: err, unread: true}
	}
	return &Volume{UUID: h.UUID, Tokens: h.Tokens, slots: h.Slots, Err: h.Unsupported}
}

// hasMagic reports whether either copy of a LUKS2 header may be there, whole or not (LUKS2 On-Disk
// Format Specification 1.1.4, 2.1): the second one is behind a first one of each size. The error is
// that of a place that cannot be read, which may have one.
func hasMagic(src osmith.Source) (there bool, unread error) {
	at := func(off int64, want string) bool {
		if off+int64(len(want)) > src.Size() {
			return false
		}
		magic := make([]byte, len(want))
		if _, err := io.ReadFull(io.NewSectionReader(src, off, int64(len(want))), magic); err != nil {
			unread = err
			return false
		}
		return string(magic) == want
	}
	there = at(0, "LUKS\xba\xbe")
	for size := int64(16 << 10); size <= 4<<20; size *= 2 {
		there = at(size, "SKUL\xba\xbe") || there
	}
	return there, unread
}

// digest is of all that a verdict depends on.
func (v *Volume) digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	add := func(text string) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	add(v.UUID)
	for _, t := range v.Tokens {
		add(fmt.Sprintf("token %d %v %s", t.ID, t.Keyslots, t.JSON))
	}
	for _, s := range v.slots {
		add(fmt.Sprintf("slot %d %d", s.ID, s.Priority))
	}
	if v.Err != nil {
		add(v.Err.Error())
	}
	h.Sum(sum[:0])
	return sum
}

// VolumeError says that no token of a volume will open it any more: a person has to enter a
// passphrase or recovery key.
type VolumeError struct {
	Volume string   // `volume "state" in partition 6`
	After  string   // "after the upgrade"
	Tokens []string // why each token does not open it
	Left   []string // what still opens it: "the recovery key of key slot 1"
}

func (e *VolumeError) Error() string {
	left := "nothing else opens it"
	if len(e.Left) > 0 {
		left = strings.Join(e.Left, " and ") + " would be left"
	}
	return fmt.Sprintf("the TPM does not open %s %s, and %s: %s; first enrol a token for it beside the old one", e.Volume, e.After, left, strings.Join(e.Tokens, "; "))
}

// tpmToken reports whether a token is of a kind that sealing judges.
func tpmToken(t luks.Token) bool {
	return t.Type == sealing.TokenType || t.Type == sealing.OwnTokenType
}

// persons are the kinds of tokens by which a person opens a volume.
var persons = map[string]string{
	"systemd-recovery": "the recovery key",
	"systemd-fido2":    "the FIDO2 key",
	"systemd-pkcs11":   "the PKCS #11 key",
}

// judge asks whether the TPM opens the volume, in all of the states that the boot may be in when it
// is asked.
func (v *Volume) judge(j *Verdict, after string, states []sealing.State) {
	if v.Err != nil {
		j.warn("whether %s opens %s is unknown: %v", v, after, v.Err)
		return
	}
	var opens, closed, unknown []string
	bound := map[int]bool{} // key slots that have a token
	tpms := 0
	e := &VolumeError{Volume: v.String(), After: after}
	for _, t := range v.Tokens {
		for _, n := range t.Keyslots {
			bound[n] = true
		}
		name := fmt.Sprintf("token %d (%s)", t.ID, t.Type)
		person, known := persons[t.Type]
		switch {
		case known:
			e.Left = append(e.Left, person+" of "+keySlots(t.Keyslots))
		case !tpmToken(t):
			unknown = append(unknown, name+" is of no kind that is known here")
		default:
			tpms++
			verdict, text := v.ask(t, states)
			text = name + " " + text
			switch verdict {
			case sealing.VerdictOpens:
				opens = append(opens, text)
			case sealing.VerdictDoesNotOpen:
				closed = append(closed, text)
			default:
				unknown = append(unknown, text)
			}
		}
	}
	for _, s := range v.slots {
		if !bound[s.ID] {
			e.Left = append(e.Left, "the passphrase of "+keySlots([]int{s.ID}))
		}
	}
	e.Tokens = closed
	switch all := strings.Join(slices.Concat(opens, closed, unknown), "; "); {
	case len(opens) > 0:
		j.pass("%s %s: %s", v, after, all)
	case len(unknown) > 0:
		j.warn("whether %s opens %s is unknown: %s", v, after, all)
	case tpms > 0:
		j.fail(e)
	}
}

// keySlots is "key slot 1" or "key slots 1, 2".
func keySlots(list []int) string {
	text := make([]string, len(list))
	for i, n := range list {
		text[i] = fmt.Sprint(n)
	}
	if len(list) == 1 {
		return "key slot " + text[0]
	}
	return "key slots " + strings.Join(text, ", ")
}

// ask is whether a token opens the volume in all of the states, and why not.
func (v *Volume) ask(t luks.Token, states []sealing.State) (sealing.Verdict, string) {
	usable := slices.ContainsFunc(v.slots, func(s luks.Slot) bool { return slices.Contains(t.Keyslots, s.ID) && s.Priority != luks.PriorityIgnore })
	ignored := slices.ContainsFunc(v.slots, func(s luks.Slot) bool { return slices.Contains(t.Keyslots, s.ID) })
	switch {
	case !usable && ignored:
		return sealing.VerdictUnknown, "is for a key slot that is only tried if it is asked for"
	case !usable:
		return sealing.VerdictDoesNotOpen, "is for no key slot that there is"
	}
	token, err := sealing.ParseToken(t.JSON)
	if err != nil {
		return sealing.VerdictUnknown, fmt.Sprintf("cannot be read: %v", err)
	}
	var first *sealing.Answer
	var at int
	same := true
	for i, s := range states {
		a, err := token.Check(s)
		if err != nil {
			return sealing.VerdictUnknown, fmt.Sprintf("cannot be judged: %v", err)
		}
		switch {
		case first == nil:
			first = a
		case a.Verdict != first.Verdict:
			same = false
			if a.Verdict != sealing.VerdictOpens { // which has no reasons
				first, at = a, i
			}
		}
	}
	switch {
	case first == nil:
		return sealing.VerdictUnknown, "cannot be judged: nothing is known of the boot"
	case same && first.Verdict == sealing.VerdictOpens:
		text := "opens it"
		if token.PIN {
			text += " with its PIN"
		}
		return first.Verdict, text
	case same && first.Verdict == sealing.VerdictDoesNotOpen:
		return first.Verdict, "does not: " + reasons(first)
	case same:
		return sealing.VerdictUnknown, "might: " + reasons(first)
	}
	return sealing.VerdictUnknown, fmt.Sprintf("does not open it at every moment when it may be asked for (Machine.Unlock.Phases), or in every way to boot; at %d of %d: %s", at+1, len(states), reasons(first))
}

func reasons(a *sealing.Answer) string {
	var list []string
	for _, r := range a.Reasons {
		if r.Verdict == a.Verdict {
			list = append(list, r.String())
		}
	}
	return strings.Join(list, ", ")
}

// unlockPhases are the moments at which a secret may be asked for.
func (m *Machine) unlockPhases() [][]string {
	if m.Unlock.Phases != nil {
		return [][]string{m.Unlock.Phases}
	}
	return [][]string{{"enter-initrd"}, {"enter-initrd", "leave-initrd"}}
}

// unlockStates are the states in which the machine may be when the TPM is asked, of a boot of that
// UKI in its default profile: one for each moment, and where it is not known which variant is
// booted, for each of them. runs says that this very set runs: another one need not measure again
// what Userspace.Earlier has of this boot.
func (m *Machine) unlockStates(loader osmith.Source, u *unified, runs bool) (states []sealing.State, err error) {
	signatures := policy.Signatures{}
	switch text, there, err := text(u.file, 0, ".pcrsig"); {
	case err != nil:
		return nil, err
	case there:
		if signatures, err = policy.ParseSignatures(text); err != nil {
			return nil, fmt.Errorf(".pcrsig: %w", err)
		}
	}
	add := func(s sealing.State) {
		s.Banks, s.Signatures, s.PCRLock, s.Counters, s.PIN = m.Unlock.Banks, signatures, m.Unlock.PCRLock, m.Unlock.Counters, true
		states = append(states, s)
	}
	for _, phases := range m.unlockPhases() {
		log, why := m.predict(loader, u, phases...)
		if why == nil {
			s, err := sealing.StateOf(log, nil)
			if err != nil {
				return nil, err
			}
			if !runs && m.Userspace != nil && m.Userspace.Earlier != nil {
				forgetEarlier(&s)
			}
			add(s)
			continue
		}
		if u.measErr != nil {
			return nil, u.measErr
		}
		// What the stub measures is known without all that.
		for _, v := range u.ofProfile(0) {
			s := sealing.State{PCRs: map[crypto.Hash]map[int][]byte{}, Unknown: map[int]string{}}
			for n := range tpm.PCRCount {
				s.Unknown[n] = why.Error()
			}
			for _, h := range m.hashes() {
				value, err := tpm.PCR11(h, v.Sections, phases...)
				if err != nil {
					return nil, err
				}
				s.PCRs[h] = map[int][]byte{tpm.PCRKernel: value}
			}
			add(s)
		}
	}
	return states, nil
}

// forgetEarlier takes the values out of a state that hold if userspace does again what it did, or
// did not do, in an earlier boot: all but that of PCR 11, whose phases are given. The systemd of
// another version may measure something else.
func forgetEarlier(s *sealing.State) {
	for n := range tpm.PCRCount {
		if n == tpm.PCRKernel {
			continue
		}
		for _, values := range s.PCRs {
			delete(values, n)
		}
		s.Unknown[n] = "what userspace measures is known of another version (Machine.Userspace.Earlier), and this one may measure something else"
	}
}

// sealedVolumes are the volumes about which a TPM, or something that is not known, decides.
func (s *State) sealedVolumes() (list []*Volume) {
	for _, v := range s.Volumes {
		if v.Err != nil || slices.ContainsFunc(v.Tokens, func(t luks.Token) bool { return persons[t.Type] == "" }) {
			list = append(list, v)
		}
	}
	return list
}

// judgeNewVolumes says of each volume whether it opens after the upgrade.
func (p *Plan) judgeNewVolumes(j *Verdict) {
	volumes := p.state.sealedVolumes()
	if len(volumes) == 0 {
		return
	}
	states, err := p.machine.unlockStates(p.state.loader, p.unified, false)
	if err != nil {
		j.warn("whether the volumes of the disk open after the upgrade is unknown: %v", err)
		return
	}
	for _, v := range volumes {
		v.judge(j, "after the upgrade", states)
	}
	if !p.machine.NothingSealed {
		return
	}
	for _, v := range volumes {
		for _, t := range v.Tokens {
			if token, err := sealing.ParseToken(t.JSON); tpmToken(t) && err == nil && token.PublicKey != nil {
				j.warn("Machine.NothingSealed says that nothing is sealed to a signed PCR policy, and token %d of %s is", t.ID, v)
			}
		}
	}
}

// judgeVolumes says of each volume whether a set that is installed opens it, when it is started by
// the loader of the state. err is why nothing is known of its UKI.
func (s *State) judgeVolumes(j *Verdict, e *Entry, when string, volumes []*Volume, u *unified, err error) {
	var states []sealing.State
	if err == nil {
		err = startsPlainly(e)
	}
	if err == nil {
		states, err = s.machine.unlockStates(s.loader, u, s.Running != nil && s.sameSet(s.Running, e))
	}
	if err != nil {
		j.warn("whether the volumes of the disk open %s is unknown: %v", when, err)
		return
	}
	for _, v := range volumes {
		v.judge(j, when, states)
	}
}

// startsPlainly is an error for an entry that does not start its UKI as it is predicted: in the
// default profile, without options.
func startsPlainly(e *Entry) error {
	if e.Profile != 0 || e.Options != "" && e.Type == bootloader.EntryType1UKI {
		return fmt.Errorf("%s starts a profile other than the default one, or passes options", e.Path)
	}
	return nil
}

// summary is a line for a person.
func (v *Volume) summary() string {
	var tokens []string
	for _, t := range v.Tokens {
		tokens = append(tokens, fmt.Sprintf("token %d (%s) for %s", t.ID, t.Type, keySlots(t.Keyslots)))
	}
	if v.Err != nil {
		tokens = append(tokens, v.Err.Error())
	}
	return strings.TrimRight(fmt.Sprintf("%s in partition %d  %s", v.Name, v.Partition, strings.Join(tokens, ", ")), " ")
}

type volumeJSON struct {
	Partition int         `json:"partition"`
	Name      string      `json:"name"`
	UUID      string      `json:"uuid"`
	Tokens    []tokenJSON `json:"tokens"`
	Problem   string      `json:"problem"`
}

type tokenJSON struct {
	ID       int    `json:"id"`
	Type     string `json:"type"`
	KeySlots []int  `json:"keySlots"`
}

// MarshalJSON writes the volume for a program.
func (v *Volume) MarshalJSON() ([]byte, error) {
	j := volumeJSON{Partition: v.Partition, Name: v.Name, UUID: v.UUID, Tokens: []tokenJSON{}}
	for _, t := range v.Tokens {
		j.Tokens = append(j.Tokens, tokenJSON{t.ID, t.Type, append([]int{}, t.Keyslots...)})
	}
	if v.Err != nil {
		j.Problem = v.Err.Error()
	}
	return json.Marshal(j)
}
