package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Measured says whether userspace measures something up to the moment of interest.
type Measured int

const (
	MeasuredUnknown Measured = iota // unknown: PCRs that depend on it are not predicted
	MeasuredYes
	MeasuredNo
)

// Word is what userspace extends a PCR or an NvPCR with.
type Word struct {
	Text string

	// Digests are the digests that extend it, by bank; nil means the hash of Text. The records of
	// volume keys ("cryptsetup:…" in PCR 15) need them: their digest is an HMAC of the text with
	// the key of the volume, and stays the same as long as the volume's key, name and UUID do.
	Digests map[crypto.Hash][]byte
}

// Userspace is what systemd's services measure after the kernel has started, beside the phases, up
// to the moment that [Boot.Phases] lead to. A field that is not set is unknown, and the PCRs that
// depend on it are not predicted, with phases or without; [PhasesAlone] says that systemd measures
// nothing else. With Earlier, leave out all fields but NVWords: their values come from Earlier.
type Userspace struct {
	// Systemd is the version of systemd in initrd and system, which need not be that of the stub.
	// Older versions do not measure everything: "os-separator" is missing before 261, NvPCRs before
	// 259, "nvpcr-separator" before 262, anything in PCR 15 before 253. "": unknown.
	Systemd osmith.Version

	// Separator says whether the word "os-separator" is measured, in the initrd, into PCRs 0 to 7,
	// 9 and 12 to 14. systemd measures it at the same time as "enter-initrd", in no fixed order,
	// and before it unlocks volumes.
	Separator Measured

	// NVPCRs are the words that begin with "nvpcr-init:", in their order, in PCR 9. Nil: unknown;
	// empty: none.
	NVPCRs []string

	// NVSeparator says whether the word "nvpcr-separator" is measured after them.
	NVSeparator Measured

	// Identity are the words measured into PCR 15, in their order: see [MachineIDWord] and
	// [FileSystem.Word], and [Word] for volume keys. Nil: unknown; empty: none.
	Identity []Word

	// NVWords are the words that extend NvPCRs after their initialisation, by the name of the NvPCR
	// ("verity", "cryptsetup", "hardware", "login"): see [VerityWord] and [KeyslotWord]. They do
	// not affect PCRs, only the result of [Boot.NVPCRs].
	NVWords map[string][]Word

	// Earlier is systemd's log of this boot or of an earlier boot of this machine: its records are
	// expected again, with the same digests, and the claims are [PredictionBaseline]. If its phases
	// are those of the boot, all records count; if it has more phases, records after the record of
	// the boot's last phase do not count. [UserspaceLog.Until] cuts the log elsewhere: volumes are
	// unlocked after "nvpcr-separator".
	Earlier *UserspaceLog
}

// PhasesAlone is a userspace that measures only phases: an initrd in which no other service of
// systemd measures.
func PhasesAlone() *Userspace {
	return &Userspace{Separator: MeasuredNo, NVPCRs: []string{}, NVSeparator: MeasuredNo, Identity: []Word{}}
}

// Words that userspace measures, and what others begin with.
const (
	wordSeparator   = "os-separator"
	wordNVSeparator = "nvpcr-separator"
	wordNVInit      = "nvpcr-init:"
	wordMachineID   = "machine-id:"
	wordFileSystem  = "file-system:"
	wordVolumeKey   = "cryptsetup:"
)

// eventVolumeKey is how systemd's log calls the record of a volume key.
const eventVolumeKey = "volume-key"

// The releases of systemd that were the first to measure something (NEWS of 253, 259, 261 and 262;
// units of 252 and 253).
const (
	firstIdentity    = 253
	firstNVPCR       = 259
	firstSeparator   = 261
	firstNVSeparator = 262
)

// pcrIdentity is the PCR of machine ID, file systems and volume keys.
const pcrIdentity = 15

// separatorPCRs are those that systemd 261 ends the firmware's part of, from the initrd.
var separatorPCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14}

// keyed reports whether the digest is made with a volume key.
func (w Word) keyed() bool { return strings.HasPrefix(w.Text, wordVolumeKey) }

// in are the digests in some banks. One that is not given is that of the text, unless those that
// are given are not.
func (w Word) in(banks []crypto.Hash) map[crypto.Hash][]byte {
	out := make(map[crypto.Hash][]byte, len(banks))
	plain := !w.keyed() && (len(w.Digests) == 0 || hashedAs(&Event{Digests: w.Digests}, []byte(w.Text)))
	for _, h := range banks {
		switch d, ok := w.Digests[h]; {
		case ok:
			out[h] = bytes.Clone(d)
		case plain:
			out[h] = pcrbank.Sum(h, []byte(w.Text))
		}
	}
	return out
}

func (w Word) check() error {
	if w.Text == "" && len(w.Digests) == 0 {
		return errors.New("an empty word")
	}
	for h, d := range w.Digests {
		if err := pcrbank.Check(h); err != nil {
			return fmt.Errorf("\"%s\": %w", escape(w.Text), err)
		}
		if len(d) != h.Size() {
			return fmt.Errorf("\"%s\": a digest of %d bytes, want %d for %s", escape(w.Text), len(d), h.Size(), BankName(h))
		}
	}
	return nil
}

// known is the description with what follows from the version of systemd.
func (u *Userspace) known() (Userspace, error) {
	if u == nil {
		return Userspace{}, nil
	}
	k := *u
	if u.Systemd == "" {
		return k, nil
	}
	n, err := u.Systemd.Release()
	if err != nil {
		return k, fmt.Errorf("userspace: %w", err)
	}
	for _, of := range []struct {
		first int
		name  string
		said  bool
		none  func()
		asks  bool
	}{
		{firstSeparator, `"` + wordSeparator + `"`, u.Separator == MeasuredYes, func() { k.Separator = MeasuredNo }, u.Separator == MeasuredUnknown},
		{firstNVPCR, "NvPCRs", len(u.NVPCRs) > 0, func() { k.NVPCRs = []string{} }, u.NVPCRs == nil},
		{firstNVSeparator, `"` + wordNVSeparator + `"`, u.NVSeparator == MeasuredYes, func() { k.NVSeparator = MeasuredNo }, u.NVSeparator == MeasuredUnknown},
		{firstIdentity, "words for PCR 15", len(u.Identity) > 0, func() { k.Identity = []Word{} }, u.Identity == nil},
	} {
		switch {
		case n >= of.first:
		case of.said:
			return k, fmt.Errorf("userspace: systemd %d does not measure %s: systemd does since %d", n, of.name, of.first)
		case of.asks:
			of.none()
		}
	}
	return k, nil
}

func (b *Boot) checkUserspace() error {
	u := b.Userspace
	if u == nil {
		return nil
	}
	for _, m := range []Measured{u.Separator, u.NVSeparator} {
		if m < MeasuredUnknown || m > MeasuredNo {
			return fmt.Errorf("userspace: unknown value %d of Measured", m)
		}
	}
	for _, w := range u.NVPCRs {
		if !strings.HasPrefix(w, wordNVInit) {
			return fmt.Errorf("\"%s\": want nvpcr-init:NAME:INDEX:NAME of the index", escape(w))
		}
	}
	for _, w := range u.Identity {
		if err := w.check(); err != nil {
			return fmt.Errorf("PCR 15: %w", err)
		}
	}
	for name, words := range u.NVWords {
		for _, w := range words {
			if err := w.check(); err != nil {
				return fmt.Errorf("NvPCR %s: %w", escape(name), err)
			}
		}
	}
	if u.Earlier != nil && (u.Systemd != "" || u.Separator != MeasuredUnknown || u.NVPCRs != nil || u.NVSeparator != MeasuredUnknown || u.Identity != nil) {
		return errors.New("userspace: both the log of an earlier boot and words are given: want one of them")
	}
	_, err := b.userspace()
	return err
}

// userspaceMoment is what is known of userspace at the moment of interest.
type userspaceMoment struct {
	Userspace
	measuredRecords // of Earlier
}

func (b *Boot) userspace() (m userspaceMoment, err error) {
	if m.Userspace, err = b.Userspace.known(); err != nil || m.Earlier == nil {
		return m, err
	}
	m.measuredRecords, err = m.Earlier.upTo(b.Phases)
	return m, err
}

// words are those that are measured into PCRs, with digests of their own.
func (m *userspaceMoment) words() []Word {
	if m.Earlier == nil {
		return m.Identity
	}
	var out []Word
	for _, r := range m.records {
		if r.PCR >= 0 {
			out = append(out, r.word())
		}
	}
	return out
}

// measuredRecords are the records of an earlier log up to the moment of interest.
type measuredRecords struct {
	records []Record
	later   []Record // that the log has behind them
}

// upTo cuts the log behind the last of these phases, unless it has no others.
func (u *UserspaceLog) upTo(phases []string) (m measuredRecords, err error) {
	for i, r := range u.Records {
		if r.BootID != u.Records[0].BootID {
			return m, fmt.Errorf("userspace: record %d of the earlier log is of boot %s, those before it of %s: want one boot", i, escape(r.BootID), escape(u.Records[0].BootID))
		}
		for h, d := range r.Digests {
			if pcrbank.Check(h) != nil || len(d) != h.Size() {
				return m, fmt.Errorf("userspace: record %d of the earlier log has a digest of %d bytes for %s", i, len(d), BankName(h))
			}
		}
		if r.PCR >= 0 && len(r.Digests) == 0 {
			return m, fmt.Errorf("userspace: record %d of the earlier log has no digest of a known bank", i)
		}
		if r.PCR >= PCRCount {
			return m, fmt.Errorf("userspace: record %d of the earlier log is of PCR %d: want 0 to %d", i, r.PCR, PCRCount-1)
		}
	}
	has := u.Phases()
	if len(phases) > len(has) || !slices.Equal(has[:len(phases)], phases) {
		return m, fmt.Errorf("userspace: the earlier log has the phases \"%s\", want those of the boot, \"%s\"", escape(strings.Join(has, ":")), escape(strings.Join(phases, ":")))
	}
	if len(phases) == len(has) {
		if slices.ContainsFunc(u.Findings, func(f Finding) bool { return f.Event < 0 }) {
			return m, errors.New("userspace: the earlier log ends with a truncated record: want a moment before that record")
		}
		return measuredRecords{records: u.Records}, nil
	}
	end, seen := 0, 0
	for i, r := range u.Records {
		if seen == len(phases) {
			break
		}
		if r.PCR == PCRKernel {
			end, seen = i+1, seen+1
		}
	}
	return measuredRecords{u.Records[:end], u.Records[end:]}, nil
}

// Phases are the words that extended PCR 11, in their order: [Boot.Phases] for the moment at which
// the log ends.
func (u *UserspaceLog) Phases() []string {
	var out []string
	for _, r := range u.Records {
		if r.PCR == PCRKernel {
			out = append(out, r.Word)
		}
	}
	return out
}

// Until returns the log up to and including the last record of the word; it is an error if the log
// lacks the word.
func (u *UserspaceLog) Until(word string) (*UserspaceLog, error) {
	for i := len(u.Records) - 1; i >= 0; i-- {
		if u.Records[i].Word == word {
			out := &UserspaceLog{Records: u.Records[: i+1 : i+1]}
			for _, f := range u.Findings {
				if f.Event >= 0 && f.Event <= i {
					out.Findings = append(out.Findings, f)
				}
			}
			return out, nil
		}
	}
	return nil, fmt.Errorf("tpm: userspace log: no record of the word \"%s\"", escape(word))
}

// wantsOfUserspace are the digests of words that are given with digests. That they can be worked
// out was checked before.
func (b *Boot) wantsOfUserspace() (out []wanted) {
	m, _ := b.userspace()
	for _, w := range m.words() {
		if len(w.Digests) > 0 {
			out = append(out, wanted{fmt.Sprintf("\"%s\" of userspace: a digest", escape(w.Text)), w.in(pcrbank.Hashes())})
		}
	}
	return out
}

func (r *Record) word() Word { return Word{r.Word, r.Digests} }

// userspace is what systemd measures after the kernel has started.
func (p *predictor) userspace() {
	u := &p.user
	if u.Earlier != nil {
		p.userspaceAgain()
		return
	}
	text := func(kind SubjectKind, pcr int, w string) {
		p.data(Subject{Kind: kind, Name: w}, pcr, EventIPL, []byte(w))
	}
	if u.Separator == MeasuredYes {
		for _, pcr := range separatorPCRs {
			text(SubjectSeparator, pcr, wordSeparator)
		}
	}
	for _, phase := range p.boot.Phases {
		text(SubjectPhase, PCRKernel, phase)
	}
	for _, w := range u.NVPCRs {
		text(SubjectNVPCR, 9, w)
	}
	if u.NVSeparator == MeasuredYes {
		text(SubjectSeparator, 9, wordNVSeparator)
	}
	for _, w := range u.Identity {
		digests := w.in(p.banks)
		if len(digests) < len(p.banks) {
			return // a volume key's: PCR 15 is not claimed
		}
		kind := SubjectIdentity
		switch {
		case strings.HasPrefix(w.Text, wordMachineID):
			kind = SubjectMachineID
		case strings.HasPrefix(w.Text, wordFileSystem):
			kind = SubjectFileSystem
		}
		p.add(Subject{Kind: kind, Name: w.Text}, pcrIdentity, EventIPL, digests, []byte(w.Text))
	}
}

// userspaceAgain repeats what an earlier boot's userspace measured.
func (p *predictor) userspaceAgain() {
	reader := subjectReader{stub: true}
	for _, r := range p.user.records {
		if r.PCR < 0 {
			continue
		}
		w := r.word()
		e := Event{PCR: r.PCR, Type: EventIPL, Digests: w.in(p.banks), Data: []byte(w.Text)}
		p.add(reader.ipl(&e), e.PCR, e.Type, e.Digests, e.Data)
	}
}

// userspaceDoubts are PCRs whose part of userspace is not known.
func (p *predictor) userspaceDoubts() doubts {
	d := doubts{}
	u := &p.user
	if u.Earlier != nil {
		u.doubts(d)
		return d
	}
	if p.boot.Userspace == nil && len(p.boot.Phases) == 0 {
		return d // the kernel starts
	}
	if u.Separator == MeasuredUnknown {
		d.add(`whether userspace measured "os-separator" by then, as systemd 261 and later do in the initrd, is not said: want it in Userspace, or the log of an earlier boot, or the version of systemd that is too old for it`,
			separatorPCRs...)
	}
	if u.NVPCRs == nil || u.NVSeparator == MeasuredUnknown {
		d.add(`which NvPCRs userspace initialised by then, as systemd 259 and later do in the initrd, and whether "nvpcr-separator" of 262 followed, is not said: want it in Userspace, or the log of an earlier boot`, 9)
	}
	if u.Identity == nil {
		d.add("machine ID, file systems and volume keys that userspace measured by then are not said: want them in Userspace, or the log of an earlier boot", pcrIdentity)
	}
	for _, w := range u.Identity {
		if w.keyed() && len(w.Digests) == 0 {
			d.add(fmt.Sprintf("the digest of \"%s\" is made with the volume key and is not that of the word: want it, or the log of an earlier boot", escape(w.Text)), pcrIdentity)
		}
	}
	return d
}

// doubts are about records that systemd's services measure in no fixed order around the moment.
func (m measuredRecords) doubts(d doubts) {
	if len(m.records) == 0 {
		return // the kernel starts
	}
	of := func(records []Record, want func(*Record) bool) (n int) {
		for i := range records {
			if records[i].PCR >= 0 && want(&records[i]) {
				n++
			}
		}
		return n
	}
	separator := func(r *Record) bool { return r.PCR != PCRKernel && r.Word == wordSeparator }
	nv := func(r *Record) bool {
		return r.PCR == 9 && (strings.HasPrefix(r.Word, wordNVInit) || r.Word == wordNVSeparator)
	}
	identity := func(r *Record) bool { return r.PCR == pcrIdentity }
	last := "" // the phase that the records end with
	if r := m.records[len(m.records)-1]; r.PCR == PCRKernel {
		last = r.Word
	}
	const remedy = ": want a moment behind both, such as nvpcr-separator"
	switch before, after := of(m.records, separator), of(m.later, separator); {
	case before+after == 0 && (last != PhaseEnterInitrd || len(m.later) > 0):
		// an initrd that does not measure it
	case last == PhaseEnterInitrd:
		d.add(`userspace measures "os-separator" at the same time as "enter-initrd", in no fixed order`+remedy, separatorPCRs...)
	case after > 0 || before%len(separatorPCRs) != 0:
		d.add(`the earlier log has "os-separator" for some PCRs before this moment, and for others behind it`+remedy, separatorPCRs...)
	}
	if last == PhaseEnterInitrd && (len(m.later) == 0 || of(m.records, nv)+of(m.later, nv) > 0) {
		d.add(`userspace may initialise NvPCRs before or after it measures "enter-initrd"`+remedy, 9)
	}
	fileSystem := func(r *Record) bool { return identity(r) && strings.HasPrefix(r.Word, wordFileSystem) }
	if late := last != PhaseEnterInitrd && last != PhaseLeaveInitrd && last != ""; late && (of(m.later, identity) > 0 || len(m.later) > 0 && of(m.records, fileSystem) > 0) {
		d.add(fmt.Sprintf("userspace measures file systems and more into PCR 15 before or after %q, in no fixed order: want a moment behind all of them", last), pcrIdentity)
	}
}

// coverUserspace is about the part of userspace in a PCR that is otherwise known.
func (p *predictor) coverUserspace(c *Coverage) {
	u := &p.user
	if c.PCR == pcrIdentity && c.Prediction != PredictionNone && len(u.Identity) > 0 {
		c.Note = "the words given"
	}
	if c.PCR == sdstub.PCRConfig && c.Prediction != PredictionNone && u.Earlier == nil && u.Separator == MeasuredYes {
		c.Note += "; holds if userspace measures no user data of a cloud, as systemd-imdsd of 261 does"
	}
	if len(u.records) == 0 || c.PCR != pcrIdentity && !slices.Contains(separatorPCRs, c.PCR) {
		return
	}
	if c.Prediction == PredictionExact {
		c.Prediction = PredictionBaseline
	}
	switch {
	case c.PCR == pcrIdentity:
		c.Note = "userspace as in its earlier log"
	case c.Prediction != PredictionNone:
		c.Note += "; userspace as in its earlier log"
	}
}
