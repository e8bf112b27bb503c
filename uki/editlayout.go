package uki

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// A relayout is the result of an edit in the making.
type relayout struct {
	headers
	f       *File
	rows    []row
	fixed   int   // so many rows stay where they are
	cut     int64 // so many bytes of the file do
	out     *Assembled
	moving  bool // sections are added, removed or moved
	lose    map[Loss]bool
	missing map[Loss]bool // what would be lost and is not in lose
	refused *KernelError  // why the stub does not start a new kernel
}

// Assemble makes the image with the changes. If a part does not fit, the error is a [*SpaceError];
// for a loss that is not allowed it is a [*LossError]. Of unchanged parts, only headers are read.
func (e *Edit) Assemble() (_ *Assembled, err error) {
	defer prefix.Add("uki", &err)
	l := &relayout{headers: headers{pe: e.f.pe}, f: e.f, rows: append([]row(nil), e.rows...), lose: e.lose, missing: make(map[Loss]bool), out: &Assembled{assume: e.f.assume}}
	changed := len(l.rows) != len(e.f.sections)
	for i, r := range l.rows {
		changed = changed || r.content != nil || r.old != i
	}
	if !changed && !(e.strip && e.f.Signed()) {
		l.out.data.add("image", e.f.src, e.f.src.Size())
		return l.finish()
	}
	for _, step := range []func() error{l.stalePCRSignatures, l.place, l.readHeader, l.checkDirectories, l.kernels, l.build} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := l.losses(); err != nil {
		return nil, err
	}
	return l.finish()
}

// finish opens the result, which is the last check.
func (l *relayout) finish() (*Assembled, error) {
	f, err := open(&l.out.data, l.f.kind)
	if err != nil {
		return nil, fmt.Errorf("edit: the edited image would not boot: %w", err)
	}
	l.out.free = int(int64(f.pe.SizeOfHeaders)-f.pe.Fields.SectionTable)/sectionHeaderSize - len(f.sections)
	return l.out, nil
}

func (l *relayout) loses(what Loss) {
	if !l.lose[what] {
		l.missing[what] = true
	}
}

func (l *relayout) losses() error {
	if len(l.missing) == 0 {
		return nil
	}
	e := &LossError{Kernel: l.refused}
	for what := range l.missing {
		e.Losses = append(e.Losses, what)
	}
	sort.Slice(e.Losses, func(a, b int) bool { return e.Losses[a] < e.Losses[b] })
	return e
}

// firstPayload is the first section that was added to the stub. All before it are the stub's own.
func (f *File) firstPayload() int {
	for i, s := range f.sections {
		if sdstub.SectionOf(s.Name) != nil && s.Name != ".sbat" {
			return i
		}
	}
	return len(f.sections)
}

// room is how long the content of a section can be without moving anything: in the file and up to
// the next section in memory.
func (f *File) room(i int) int64 {
	s := f.sections[i]
	room := s.RawSize
	for j, o := range f.sections {
		if j != i && o.VirtualAddress > s.VirtualAddress {
			room = min(room, o.VirtualAddress-s.VirtualAddress)
		}
	}
	return room
}

// kernels finds out whether the stub starts the new kernels.
func (l *relayout) kernels() error {
	row := stubRow(l.f.version, l.f.versionErr, l.f.assume)
	for _, r := range l.rows {
		if r.name != ".linux" || r.content == nil || l.f.kind != kindImage {
			continue
		}
		k, err := pe.Parse(r.content, r.content.Size())
		if err != nil {
			return editError(r.name, "%w", formatError(err).Err)
		}
		found, err := kernelFindings(k, r.content, l.f.pe.Machine, row, r.profile)
		if err != nil {
			return editError(r.name, "%w", err)
		}
		if len(found) > 0 {
			l.loses(LossStart)
			l.refused = &KernelError{found}
		}
	}
	return nil
}

// place finds how much of the image can stay where it is.
func (l *relayout) place() error {
	f := l.f
	for l.fixed < len(l.rows) && l.rows[l.fixed].old == l.fixed {
		if c := l.rows[l.fixed].content; c != nil && c.Size() > f.room(l.fixed) {
			break
		}
		l.fixed++
	}
	l.moving = l.fixed < len(f.sections) || l.fixed < len(l.rows)
	if !l.moving {
		return nil
	}
	payload := f.firstPayload()
	if l.fixed < payload && l.fixed < len(f.sections) {
		s := f.sections[l.fixed]
		if l.fixed < len(l.rows) && l.rows[l.fixed].old == l.fixed {
			return &SpaceError{"section " + s.Name + " of the stub", l.rows[l.fixed].content.Size(), f.room(l.fixed)}
		}
		return editError(s.Name, "belongs to the stub and cannot move")
	}
	stays := int64(f.pe.SizeOfHeaders)
	for _, s := range f.sections[:l.fixed] {
		if s.RawSize > 0 {
			stays = max(stays, s.Offset+s.RawSize)
		}
	}
	l.cut = f.pe.DataEnd()
	for i, s := range f.sections[l.fixed:] {
		if s.RawSize > 0 {
			l.cut = min(l.cut, s.Offset)
		}
		c := f.pe.Sections[l.fixed+i].Characteristics
		const code, execute, write = 0x20, 0x20000000, 0x80000000
		runs := int64(f.pe.EntryPoint) >= s.VirtualAddress && int64(f.pe.EntryPoint) < s.VirtualAddress+max(s.Size, 1)
		if runs || sdstub.SectionOf(s.Name) == nil && c&(code|execute|write) != 0 {
			return editError(s.Name, "is program code or data after the changed section, and cannot move")
		}
	}
	if l.cut < stays {
		return &osmith.FormatError{Offset: l.cut, Field: "section table", Err: fmt.Errorf("out of file order: the unchanged part of the image ends at %#x", stays)}
	}
	return nil
}

// readHeader takes the headers into memory.
func (l *relayout) readHeader() error {
	p := l.f.pe
	b, err := readAll(l.f.src, int64(p.SizeOfHeaders), maxHeaders)
	if err != nil {
		return &osmith.FormatError{Offset: 0, Field: "headers", Err: err}
	}
	l.b = b
	end := p.Fields.SectionTable + int64(len(p.Sections))*sectionHeaderSize
	need := p.Fields.SectionTable + int64(len(l.rows))*sectionHeaderSize
	if need > int64(len(b)) {
		return &SpaceError{"header of the image", need, int64(len(b))}
	}
	if need > end && len(bytes.Trim(b[end:need], "\x00")) > 0 {
		return &osmith.FormatError{Offset: end, Field: "headers", Err: fmt.Errorf("other data occupies the space for %d more section headers", len(l.rows)-len(p.Sections))}
	}
	return nil
}

// build lays the file out and writes the headers.
func (l *relayout) build() error {
	f, p := l.f, l.f.pe
	l.out.data.add("headers", bytes.NewReader(l.b), int64(len(l.b)))
	if err := l.keep(); err != nil {
		return err
	}
	l.table = append(l.table, p.Sections[:l.fixed]...)
	initialised := int64(p.SizeOfInitializedData)
	for _, s := range f.sections[l.fixed:] {
		initialised -= s.Size
	}
	var memory int64
	for n, r := range l.rows {
		if n < l.fixed {
			if r.content != nil {
				l.table[n].VirtualSize = uint32(r.content.Size())
			}
		} else if err := l.append(r, memory); err != nil {
			return err
		}
		s := l.table[n]
		memory = max(memory, int64(s.VirtualAddress)+int64(s.VirtualSize))
		if n >= l.fixed { // ukify does not count what is exchanged in place
			initialised += int64(s.VirtualSize)
		}
	}
	image := roundUp(memory, int64(p.SectionAlignment))
	if end := max(image, l.out.data.size, initialised); end > math.MaxUint32 {
		return &SpaceError{"image", end, math.MaxUint32}
	}
	l.image, l.initialised = uint32(image), uint32(max(initialised, 0))
	return l.patch()
}

// keep adds what stays of the file behind the headers, with the sections in it that are exchanged
// in place.
func (l *relayout) keep() error {
	f := l.f
	end, err := l.keptEnd()
	if err != nil {
		return err
	}
	var changed []row
	for _, r := range l.rows[:l.fixed] {
		if r.content != nil {
			changed = append(changed, r)
		}
	}
	sort.Slice(changed, func(a, b int) bool { return f.sections[changed[a].old].Offset < f.sections[changed[b].old].Offset })
	for _, r := range changed {
		s := f.sections[r.old]
		for i, o := range f.sections {
			if i != r.old && o.Offset < s.Offset+s.RawSize && s.Offset < o.Offset+o.RawSize {
				return &osmith.FormatError{Offset: s.Offset, Field: "section " + s.Name, Err: fmt.Errorf("shares bytes of the file with section %s", o.Name)}
			}
		}
		l.out.data.add("image", offsetReader{f.src, l.out.data.size}, s.Offset-l.out.data.size)
		l.out.data.add(r.name, r.content, r.content.Size())
		l.out.data.size = s.Offset + s.RawSize
	}
	if l.out.data.size < end {
		l.out.data.add("image", offsetReader{f.src, l.out.data.size}, end-l.out.data.size)
	}
	return nil
}

// keptEnd is where the part of the file ends that is kept.
func (l *relayout) keptEnd() (int64, error) {
	p := l.f.pe
	end, data := p.Size, p.DataEnd()
	if p.Certificates.Size > 0 {
		l.loses(LossSignatures)
		clear(l.b[p.Fields.CertificateDirectory:][:8])
		if p.Certificates.End() < end {
			l.loses(LossTrailingData)
		}
		end = p.Certificates.Offset
		// Signers pad to eight bytes before they add the table.
		if pad := end - data; pad < 8 {
			b, err := readAll(offsetReader{l.f.src, data}, pad, 8)
			if err != nil {
				return 0, &osmith.FormatError{Offset: data, Field: "padding", Err: err}
			}
			if len(bytes.Trim(b, "\x00")) == 0 {
				end = data
			}
		}
	}
	if !l.moving {
		return end, nil
	}
	symbols, texts, err := symbolTable(l.f.src, p)
	if err == nil && symbols.End() > p.Size {
		err = fmt.Errorf("ends at %d, the file at %d", symbols.End(), p.Size)
	}
	if err != nil {
		return 0, &osmith.FormatError{Offset: p.Fields.COFF, Field: "symbol table", Err: err}
	}
	symbols.Size = min(symbols.Size+texts, p.Size-symbols.Offset)
	if symbols.Size > 0 && symbols.End() > l.cut {
		l.loses(LossSymbols)
		l.dropSymbols()
		if symbols.Offset == data {
			data = symbols.End()
		}
	}
	if end > data {
		l.loses(LossTrailingData)
	}
	return l.cut, nil
}

// append lays one section out behind what is there.
func (l *relayout) append(r row, memory int64) error {
	p := l.f.pe
	l.out.data.padTo(int64(p.FileAlignment))
	offset := l.out.data.size
	address := roundUp(max(memory, int64(p.SizeOfHeaders)), int64(p.SectionAlignment))
	s := pe.Section{Name: r.name, Characteristics: flagsOf(r.name)}
	var size, raw int64
	switch {
	case r.content != nil:
		size = r.content.Size()
		raw = roundUp(size, int64(p.FileAlignment))
		l.out.data.add(r.name, r.content, size)
	default:
		old := l.f.sections[r.old]
		size = old.Size
		raw = roundUp(old.RawSize, int64(p.FileAlignment))
		l.out.data.add("section "+r.name, offsetReader{l.f.src, old.Offset}, old.RawSize)
	}
	if r.old >= 0 {
		s.Characteristics = p.Sections[r.old].Characteristics
	}
	if end := max(address+size, offset+raw); end > math.MaxUint32 {
		return &SpaceError{"image, at section " + r.name, end, math.MaxUint32}
	}
	l.out.data.size = offset + raw
	s.VirtualSize, s.VirtualAddress, s.RawSize, s.Offset = uint32(size), uint32(address), uint32(raw), uint32(offset)
	l.table = append(l.table, s)
	return nil
}

// patch writes the headers.
func (l *relayout) patch() error {
	for _, r := range l.rows {
		l.old = append(l.old, r.old)
	}
	l.write()
	for _, r := range l.rows {
		if r.name != ".linux" || r.content == nil {
			continue
		}
		k, err := pe.Parse(r.content, r.content.Size())
		if err != nil {
			return editError(r.name, "%w", formatError(err).Err)
		}
		l.promiseNX(k)
	}
	return nil
}

// stalePCRSignatures finds each .pcrsig that stays while something changes that it covers, and
// blanks it if that is allowed.
func (l *relayout) stalePCRSignatures() error {
	before := make([]row, 0, len(l.f.sections))
	for i, s := range l.f.sections {
		before = append(before, row{s.Name, s.Profile, i, nil})
	}
	was, is := l.coverage(before), l.coverage(l.rows)
	for n, r := range l.rows {
		if r.name != ".pcrsig" || r.old < 0 || r.content != nil {
			continue
		}
		stale := false
		for _, c := range was[r.old] {
			stale = stale || !slices.ContainsFunc(is[r.old], func(d covered) bool { return slices.Equal(c, d) })
		}
		if !stale {
			continue
		}
		blank, err := l.isBlank(r.old)
		if err != nil {
			return err
		}
		if !blank {
			l.loses(LossPCRSignatures)
			l.rows[n].content = blankSignature(l.f.sections[r.old].Size)
		}
	}
	return nil
}

// coverage is, for each .pcrsig of the image, what the profiles measure in which it counts.
func (l *relayout) coverage(rows []row) map[int][]covered {
	profiles := 0
	for _, r := range rows {
		if r.name == ".profile" {
			profiles++
		}
	}
	m := make(map[int][]covered)
	for p := range min(max(profiles, 1), maxProfiles) {
		if i, c := l.covers(rows, p); i >= 0 && rows[i].old >= 0 {
			m[rows[i].old] = append(m[rows[i].old], c)
		}
	}
	return m
}

// covered is what a profile measures: original sections by their number, changed ones by less than
// -1.
type covered []int

// covers finds the .pcrsig that counts in a profile of the rows, and what that profile measures.
func (l *relayout) covers(rows []row, profile int) (int, covered) {
	list := make([]content, len(rows))
	for i, r := range rows {
		list[i].name = r.name
		if list[i].size = 1; r.content == nil {
			list[i].size = l.f.sections[r.old].Size
		}
	}
	row, err := knownRelease(l.f.version, l.f.versionErr, l.f.assume)
	release := row.Number
	if err != nil || release < sdstub.SectionOf(".profile").Since {
		release = sdstub.Newest() // what older ones do not know makes no difference to them
	}
	s, err := scopeOf(list, profile, release)
	if err != nil {
		return -1, nil
	}
	var c covered
	for _, k := range sdstub.Sections() {
		if !k.Measured {
			continue
		}
		sections := s.candidates(k.Name)
		if !k.Repeats {
			sections = []int{s.effective(k.Name)}
		}
		for _, i := range sections {
			switch {
			case i < 0:
			case rows[i].content != nil:
				c = append(c, -2-i)
			default:
				c = append(c, rows[i].old)
			}
		}
	}
	return s.effective(".pcrsig"), c
}

// isBlank tells a reserve from a signature.
func (l *relayout) isBlank(i int) (bool, error) {
	s := l.f.sections[i]
	if s.Size > maxText {
		return false, nil
	}
	b, err := l.f.text(i)
	if err != nil {
		return false, err
	}
	b = bytes.Trim(b, " \x00\t\r\n")
	return len(b) == 0 || string(b) == "{}", nil
}

// blankSignature is a .pcrsig without signatures, of that size.
func blankSignature(size int64) osmith.Source {
	b := bytes.Repeat([]byte{' '}, int(min(size, maxText)))
	copy(b, "{}"[:min(len(b), 2)])
	return bytes.NewReader(b)
}

// Indices of data directories, and the size of one entry of the debug directory with the fields
// that say where its data is (Microsoft PE Format, "Optional Header Data Directories" and "Debug
// Directory").
const (
	directoryCertificates = 4
	directoryDebug        = 6
	debugEntrySize        = 28
	maxDebugEntries       = 64
)

// checkDirectories refuses to move or change what a data directory points to.
func (l *relayout) checkDirectories() error {
	p, le := l.f.pe, binary.LittleEndian
	at := p.Fields.OptionalHeader + 96
	if p.PE32Plus {
		at += 16
	}
	count := int64(le.Uint32(l.b[at-4:])) // checked by the reader of the headers
	for i := range count {
		entry := l.b[at+8*i:][:8]
		address, size := int64(le.Uint32(entry)), int64(le.Uint32(entry[4:]))
		if i == directoryCertificates || size == 0 {
			continue
		}
		section := l.touched(address, size)
		if section == "" && i == directoryDebug {
			section = l.debugData(address, size)
		}
		if section == "" {
			continue
		}
		if i != directoryDebug {
			return editError(section, "data directory %d of the image points there", i)
		}
		l.loses(LossDebugDirectory)
		clear(entry)
	}
	return nil
}

// touched is the name of a section that is changed or moved and that a range of memory meets.
func (l *relayout) touched(address, size int64) string {
	for i, s := range l.f.sections {
		if i < l.fixed && l.rows[i].content == nil || address >= s.VirtualAddress+max(s.Size, s.RawSize) || address+size <= s.VirtualAddress {
			continue
		}
		return s.Name
	}
	return ""
}

// debugData is touched for what the entries of the debug directory point to, in memory and in the
// file. A directory that cannot be read points nowhere.
func (l *relayout) debugData(address, size int64) string {
	if size > maxDebugEntries*debugEntrySize {
		return ""
	}
	for _, s := range l.f.pe.Sections {
		from := address - int64(s.VirtualAddress)
		if from < 0 || from+size > int64(s.RawSize) {
			continue
		}
		b, err := readAll(offsetReader{l.f.src, int64(s.Offset) + from}, size, size)
		if err != nil {
			return ""
		}
		le := binary.LittleEndian
		for ; len(b) >= debugEntrySize; b = b[debugEntrySize:] {
			size, memory, file := int64(le.Uint32(b[16:])), int64(le.Uint32(b[20:])), int64(le.Uint32(b[24:]))
			if name := l.touched(memory, size); size > 0 && memory > 0 && name != "" {
				return name
			}
			if l.moving && file > 0 && file+size > l.cut {
				return fmt.Sprintf("at offset %#x", file)
			}
		}
		return ""
	}
	return ""
}
