package oracle

import (
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// EntryKind says what a boot entry is.
type EntryKind int

// The kinds of entries (UAPI.1, the Boot Loader Specification).
const (
	EntryUKI        EntryKind = iota + 1 // Type #2: a Unified Kernel Image in EFI/Linux
	EntryConfLinux                       // Type #1 with linux
	EntryConfEFI                         // Type #1 with efi
	EntryConfUKI                         // Type #1 with uki, since 258
	EntryConfUKIURL                      // Type #1 with uki-url, since 258
)

// String is the kind's name.
func (k EntryKind) String() string {
	return [...]string{"none", "UKI", "linux", "efi", "uki", "uki-url"}[k]
}

// BootEntry is an entry of the boot menu.
type BootEntry struct {
	Kind     EntryKind
	ID       string // as in LoaderEntries
	Path     string // of the UKI or .conf file
	XBOOTLDR bool   // it is on the other file system
	Image    string // path of the program that is started; a URL for EntryConfUKIURL

	SortKey, MachineID, Version string
	HasSortKey                  bool
	Profile                     int // of a UKI, from 0
	Options                     string

	// Counted says that the file name has a counter of tries, of which so many are left and done.
	Counted    bool
	Left, Done int

	base string // the ID without the profile
}

// Bad says that the entry has used up its tries.
func (e *BootEntry) Bad() bool { return e.Counted && e.Left == 0 }

// counts says whether the loader counts the tries of such entries down.
func (e *BootEntry) counts(version int) bool {
	return e.Counted && e.Kind != EntryConfUKIURL && (e.Kind != EntryConfEFI || version < after257)
}

// counter takes the counter out of a file name: the last + and a number, or two with a - between
// them, before the suffix.
func counter(name, suffix string) (stem string, left, done int, ok bool) {
	at, end := strings.LastIndexByte(name, '+'), len(name)-len(suffix)
	if at < 0 || at > end || !equalFold(name[end:], suffix) {
		return "", 0, 0, false
	}
	first, second, two := strings.Cut(name[at+1:end], "-")
	if left, ok = triesOf(first); ok && two {
		done, ok = triesOf(second)
	}
	return name[:at], left, done, ok
}

func triesOf(s string) (int, bool) {
	if s == "" || strings.Trim(s, digits) != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil
}

// countedName is the path after one more try.
func (e *BootEntry) countedName() string {
	dir, name := split(e.Path)
	suffix := name[strings.LastIndexByte(name, '.'):]
	stem, left, done, _ := counter(name, suffix)
	return dir + "/" + stem + "+" + strconv.Itoa(max(left-1, 0)) + "-" + strconv.Itoa(done+1) + strings.ToLower(suffix)
}

// words are the assignments of a configuration file: a key, one of the separators, a value. 257
// leaves out those without a value.
func words(text, separators string, version int) iter.Seq2[string, string] {
	text, _, _ = strings.Cut(text, "\x00")
	return func(yield func(key, value string) bool) {
		for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
			line = strings.Trim(line, " \t")
			at := strings.IndexAny(line, separators)
			if at < 0 || line[0] == '#' {
				continue
			}
			value := strings.TrimLeft(line[at:], separators)
			if n := len(value); n > 0 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
				value = value[1:max(n-1, 1)]
			}
			if value == "" && version < after257 {
				continue
			}
			if !yield(valid(line[:at]), valid(value)) {
				return
			}
		}
	}
}

// valid leaves out bytes that are not UTF-8.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "")
}

// candidates are the files of a directory that may be entries.
func (fs BootFiles) candidates(dir, suffix string) (list []BootFile) {
	for _, f := range fs.list(dir) {
		_, name := split(f.Path)
		if low := strings.Map(lowerASCII, name); !f.Dir && low[0] != '.' && strings.HasSuffix(low, suffix) && !strings.HasPrefix(low, "auto-") {
			list = append(list, f)
		}
	}
	return list
}

func lowerASCII(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		return r - 'A' + 'a'
	}
	return r
}

func lowerCase(s string) string { return strings.Map(lowerASCII, s) }

// entriesOf lists the entries of one file system.
func (m Machine) entriesOf(fs BootFiles, xbootldr bool, version int) (list []*BootEntry) {
	for _, f := range fs.candidates("EFI/Linux", ".efi") {
		for _, e := range m.ukiEntries(f, version) {
			e.XBOOTLDR = xbootldr
			list = append(list, e)
		}
	}
	for _, f := range fs.candidates("loader/entries", ".conf") {
		if e := m.confEntry(fs, f, xbootldr, version); e != nil {
			e.XBOOTLDR = xbootldr
			list = append(list, e)
		}
	}
	return list
}

// named fills in what the file name says, and the profile's.
func (e *BootEntry) named(path, suffix, profile string, version int) {
	_, name := split(path)
	e.Path = path
	stem, left, done, ok := counter(name, suffix)
	if ok {
		e.Counted, e.Left, e.Done = true, left, done
		name = stem + suffix
	}
	if version < after257 {
		// The case of an entry that is counted is not folded, and all its profiles have one ID;
		// what they are sorted by keeps the counter.
		if e.ID, e.base = name, name; !ok {
			e.ID, e.base = lowerCase(name+profile), lowerCase(name)
		}
		if profile != "" {
			_, file := split(path)
			e.base = lowerCase(file)
		}
		return
	}
	// The case of all but UKIs that are counted is folded.
	if e.base = name; !ok || e.Kind != EntryUKI {
		e.base = lowerCase(name)
	}
	e.ID = e.base + profile
}

// ukiEntries are the entries of a UKI: one of each profile that has a name.
func (m Machine) ukiEntries(f BootFile, version int) (list []*BootEntry) {
	im, err := readPE(f)
	if err != nil || im.machine != machineTypes[m.architecture()] {
		return nil
	}
	for number, sections := range im.profiles() {
		text, ok := sections[".osrel"].text(f)
		if !ok {
			continue
		}
		osrel := map[string]string{}
		for key, value := range words(text, "=", version) {
			osrel[key] = value
		}
		first := func(keys ...string) (string, bool) {
			for _, k := range keys {
				if v, ok := osrel[k]; ok {
					return v, true
				}
			}
			return "", false
		}
		if _, ok := first("PRETTY_NAME", "IMAGE_ID", "NAME", "ID"); !ok {
			continue
		}
		e := &BootEntry{Kind: EntryUKI, Image: f.Path, Profile: number}
		e.Version, _ = first("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
		e.SortKey, e.HasSortKey = first("IMAGE_ID", "ID")
		profile := ""
		if number > 0 {
			profile = "@" + strconv.Itoa(number)
			if text, ok := sections[".profile"].text(f); ok {
				for key, value := range words(text, "=", version) {
					if key == "ID" {
						profile = "@" + value
					}
				}
			}
		}
		e.named(f.Path, ".efi", profile, version)
		list = append(list, e)
	}
	return list
}

// confEntry reads a Type #1 entry, nil if the loader leaves it out.
func (m Machine) confEntry(fs BootFiles, f BootFile, xbootldr bool, version int) *BootEntry {
	b, err := f.bytes(0, min(f.Size, maxText))
	if err != nil {
		return nil
	}
	e := new(BootEntry)
	kinds := map[string]EntryKind{"linux": EntryConfLinux, "efi": EntryConfEFI}
	if version >= sinceUKIKeys {
		kinds["uki"], kinds["uki-url"] = EntryConfUKI, EntryConfUKIURL
	}
	for key, value := range words(string(b), " \t", version) {
		switch kind := kinds[key]; {
		case kind == EntryConfUKIURL && strings.HasPrefix(value, ":"):
			return nil // the loader was not started from a URL
		case kind != 0 && e.Kind != 0 && e.Kind != kind && version >= after257:
			// in 257 the last one holds
			return nil
		case kind != 0:
			e.Kind, e.Image = kind, value
			if kind != EntryConfUKIURL {
				e.Image = strings.ReplaceAll(value, `\`, "/")
			}
			if kind == EntryConfEFI && !xbootldr && equalFold(strings.TrimLeft(e.Image, "/"), m.loaderPath()) {
				return nil
			}
		case key == "architecture" && !equalFold(value, m.architecture()):
			return nil
		case key == "version":
			e.Version = value
		case key == "machine-id":
			e.MachineID = value
		case key == "sort-key":
			e.SortKey, e.HasSortKey = value, true
		case key == "options" && e.Options != "":
			e.Options += " " + value
		case key == "options":
			e.Options = value
		case key == "profile" && version >= sinceProfileKey:
			if n, ok := triesOf(value); ok {
				e.Profile = n
			}
		}
	}
	switch {
	case e.Kind == 0:
		return nil
	case e.Kind != EntryConfUKIURL:
		if _, ok := fs.find(e.Image); !ok {
			return nil
		}
	}
	e.named(f.Path, ".conf", "", version)
	return e
}
