package uki

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// stalePCRSignatures finds each .pcrsig that stays while something changes that it covers, and blanks it if that is
// allowed.
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
			l.loses(LosePCRSignatures)
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

// covered is what a profile measures: original sections by their number, changed ones by less than -1.
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
	row, err := knownRelease(l.f.version, l.f.versionErr, 0)
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

// Indices of data directories, and the size of one entry of the debug directory with the fields that say where its data
// is (Microsoft PE Format, "Optional Header Data Directories" and "Debug Directory").
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
	count := int64(le.Uint32(l.header[at-4:])) // checked by the reader of the headers
	for i := range count {
		entry := l.header[at+8*i:][:8]
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
		l.loses(LoseDebugDirectory)
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

// debugData is touched for what the entries of the debug directory point to, in memory and in the file. A directory
// that cannot be read points nowhere.
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
