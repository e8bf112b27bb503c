package upgrade

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/verity"
)

// followStarts follows the starts of the machine, by the rules of every loader that it may start,
// from the first of the new entry to a good set.
func (p *Plan) followStarts() {
	var said []string
	differ := false
	for i, version := range p.state.versions() {
		links, last, err := p.state.simulate(p.after(), version).chain(p.goodAfter, p.refusesAfter)
		said = append(said, fmt.Sprintf("%s would start %s", version, chainText(links)))
		if i > 0 {
			differ = differ || (err == nil) != (p.chainErr == nil) || err == nil && !fat.SameName(last.Path, p.fallback.Path)
		}
		p.Chain, p.chainErr = links, err
		if err == nil {
			p.fallback = p.state.atPath(last)
		}
	}
	if differ {
		p.fallback, p.chainErr = nil, &LoaderUnknownError{Version: p.state.rules[0].version, Reason: strings.Join(said, ", ")}
	}
}

// fallbackSize is how much has to be read of the file system that the machine returns to.
func (p *Plan) fallbackSize() int64 {
	if p.fallback == nil || p.fallback.Slot == nil || p.unreadFallback {
		return 0
	}
	tree := p.state.table.Section(p.disk, p.fallback.Slot.Tree)
	sb, err := verity.ReadSuperblock(tree, 0)
	if err != nil {
		return 0 // which the verdict says
	}
	size, err := verity.TreeSize(sb.DataSize(), sb.Params(0))
	if err != nil {
		return 0
	}
	return sb.DataSize() + size
}

// judgeReturns asks whether the starts of the machine end with a good set.
func (p *Plan) judgeReturns(ctx context.Context) Verdict {
	j := Verdict{Proof: ProofReturns}
	if p.machine.Loader == nil {
		j.warn("%v", errLoaderUnknown)
	}
	if err := p.state.xbootldr; err != nil {
		j.fail(err)
	}
	if p.chainErr != nil {
		j.fail(p.chainErr)
		if r := p.state.Running; r != nil && r.Counted {
			j.fail(&UncommittedError{r.Path})
		}
	} else {
		p.judgeFallback(ctx, &j)
	}
	p.judgeCounting(&j)
	p.judgeRefusals(&j)
	p.judgeTable(&j)
	return j
}

// judgeFallback says what the chain ends with, and reads all of it.
func (p *Plan) judgeFallback(ctx context.Context, j *Verdict) {
	end, starts := p.fallback, 0
	for _, l := range p.Chain[:len(p.Chain)-1] {
		starts += l.Starts
	}
	j.pass("after %d failed boots the loader returns to %s%s", starts, end.Path, p.state.by())
	if r := p.state.Running; r != nil && !p.state.sameSet(r, end) {
		j.warn("not to the running %s, which was never committed, or which the loader does not choose", r.Path)
	}
	if im, err := p.state.examineEntry(end); err != nil {
		j.fail(err)
	} else {
		im.judgeStart(j, end.Path)
	}
	p.judgeUnlocksKept(j, end)
	if end.Slot == nil {
		j.pass("%s is the whole set", end.Path)
		return
	}
	if p.unreadFallback {
		j.warn("whether the file system of %s is damaged is unknown: it was not read (TrustFallbackWithoutReadingIt)", end.Path)
		return
	}
	t := p.state.table
	if err := p.verify(ctx, t.Section(p.disk, end.Slot.Data), t.Section(p.disk, end.Slot.Tree), end.RootHash); err != nil {
		j.fail(&ChainError{p.Chain, fmt.Errorf("the file system of %s: %w", end.Path, err)})
		return
	}
	j.pass("slot %s: every block of what %s boots has the root hash %s", end.Slot.Name(), end.Path, hash(end.RootHash))
}

// judgeUnlocksKept asks whether the way back still unlocks, by one look at its UKI.
func (p *Plan) judgeUnlocksKept(j *Verdict, end *Entry) {
	isUKI := end.Type == bootloader.EntryType2 || end.Type == bootloader.EntryType1UKI
	keys := len(p.machine.PCRKeys) > 0 && isUKI // else the unlocks verdict says what is not known
	volumes := p.state.sealedVolumes()
	if !keys && len(volumes) == 0 {
		return
	}
	u, err := (*unified)(nil), fmt.Errorf("%s starts no UKI", end.Path)
	if isUKI {
		u, err = p.state.examineSet(end)
	}
	if keys {
		p.judgeKeysKept(j, end, u, err)
	}
	if len(volumes) > 0 {
		p.state.judgeVolumes(j, end, "after the return to "+end.Path, volumes, u, err)
	}
}

// judgeKeysKept asks whether the way back still unlocks. It does so by the policy in its own UKI,
// and what runs now may have been unlocked in another way, so that this is a restriction.
func (p *Plan) judgeKeysKept(j *Verdict, end *Entry, u *unified, err error) {
	if err == nil {
		err = u.measErr
	}
	if err == nil {
		var ok string
		if ok, err = p.machine.profileUnlocks(u, 0); err == nil {
			j.pass("%s: %s", end.Path, ok)
			return
		}
	}
	j.warn("whether %s unlocks is unknown: %v", end.Path, err)
}

// pathOfUKI is what an entry starts, with the boot counter that the file has.
func (s *State) pathOfUKI(e *Entry) string { return cmp.Or(s.byPath(e.Loader), e).Loader }

// OpenUKI opens the UKI of one of Entries, such as Running, as it is on the disk: for
// [release.PullOptions].OldUKI, or to copy it. It can be read as long as the file is neither
// removed nor written. If the entry's file is missing, the error is an [fs.ErrNotExist].
func (s *State) OpenUKI(e *Entry) (osmith.Source, error) {
	src, err := openFile(s.esp, s.pathOfUKI(e))
	return src, prefix.Error("upgrade", err)
}

// examineSet finds out about the UKI of a set, and what lies beside it, as it is done for that of a
// release.
func (s *State) examineSet(e *Entry) (*unified, error) {
	name := s.pathOfUKI(e)
	src, err := openFile(s.esp, name)
	if err != nil {
		return nil, err
	}
	f, err := uki.Open(src)
	if err != nil {
		return nil, err
	}
	u, err := s.machine.examineUKI(f, src, nil)
	if err != nil {
		return nil, err
	}
	s.machine.judgeUKI(u, e.Path)
	volume, rest := splitVolume(name)
	beside, err := uki.ReadCompanions(volumeFS{s.esp, volume}, rest)
	if err != nil {
		return nil, err
	}
	u.effective = s.machine.effectiveCmdline(f, 0, "", beside)
	return u, nil
}

// goodAfter is why a set is not good enough to return to once the new entry is there.
func (p *Plan) goodAfter(b *bootloader.Entry) error {
	if fat.SameName(uncounted(b.Path), uncounted(p.Entry)) {
		return fmt.Errorf("%s is the new entry itself", b.Path)
	}
	e := p.state.atPath(b)
	if e == nil {
		return &UnboundError{b.Path, nil}
	}
	return p.state.good(e)
}

// refusesAfter is why firmware does not start an entry; of the new one the boots verdict says it.
func (p *Plan) refusesAfter(b *bootloader.Entry) error {
	if fat.SameName(uncounted(b.Path), uncounted(p.Entry)) {
		return nil
	}
	return p.state.refuses(b)
}

// atPath is the set that an entry of a simulated menu boots; nil if it is none of the state.
func (s *State) atPath(b *bootloader.Entry) *Entry {
	i := slices.IndexFunc(s.Entries, func(e *Entry) bool {
		return fat.SameName(uncounted(e.Path), uncounted(b.Path)) && e.Profile == b.Profile
	})
	if i < 0 {
		i = slices.IndexFunc(s.Entries, func(e *Entry) bool { return fat.SameName(uncounted(e.Path), uncounted(b.Path)) })
	}
	if i < 0 {
		return nil
	}
	e := *s.Entries[i]
	e.Entry = b
	return &e
}

// after is the ESP once the plan is applied.
func (p *Plan) after() overlay {
	o := overlay{FS: p.state.esp}
	for _, f := range p.obsolete {
		o.gone = append(o.gone, f.path)
	}
	for _, f := range p.addons {
		o.add(f.path, f.src)
	}
	o.add(p.Entry, p.release.UKI)
	if p.config != nil {
		o.add(configPath, bytesSource(p.config))
	}
	return o
}

// judgeCounting asks whether firmware can rename the new entry, which is how the loader counts its
// tries.
func (p *Plan) judgeCounting(j *Verdict) {
	r := p.state.Running
	switch kind := p.machine.FirmwareKind; {
	case kind == secureboot.FirmwareUBoot202501:
		j.warn("%s renames no files: the tries of the new entry are never used up, and nothing falls back by itself", kind)
	case kind == secureboot.FirmwareUBootLegacy:
		j.warn("whether firmware of the kind %s renames files is unknown: if not, the tries of the new entry are never used up", kind)
	case r != nil && r == p.state.Started && r.Counted && p.machine.Running.BootCountPath == "" && p.state.readOnly(r.Path):
		j.warn("%s, which runs, has a boot counter and is read-only on the ESP: firmware renames no such file, and its tries are never used up. Install UKIs as writable files, as with Mode=0644 in sysupdate.d", r.Path)
	case r != nil && r == p.state.Started && r.Counted && p.machine.Running.BootCountPath == "":
		j.warn("%s, which runs, has a boot counter, and LoaderBootCountPath is not set: firmware may be of a kind that renames no files, and then tries are never used up", r.Path)
	}
}

// readOnly says that a file has the attribute of FAT with which edk2 does not open it for writing,
// and so neither renames it. Linux sets it for a mode without write permission.
func (s *State) readOnly(name string) bool {
	volume, rest, err := s.esp.volume(name)
	if err != nil {
		return false
	}
	info, err := fs.Stat(volume, rest)
	return err == nil && info.Mode()&0o222 == 0
}

// judgeTable notes whether a power cut while the partition table is written may leave a kernel
// without partitions.
func (p *Plan) judgeTable(j *Verdict) {
	for _, f := range p.state.table.Findings() {
		j.warn("partition table: %s", f)
	}
	if p.Target == nil {
		return
	}
	next := *p.state.table
	next.Partitions = slices.Clone(next.Partitions)
	next.Partitions[p.Target.Data].Name = p.identity.label() + " "
	if write, err := next.PlanWrite(); err != nil {
		j.fail(err)
	} else if write.InPlace != nil {
		j.warn("%v", write.InPlace)
	}
}
