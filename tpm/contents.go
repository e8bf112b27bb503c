package tpm

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// maxContents bounds what an event knows of what was measured, in bytes: texts, not programs and
// initrds.
const maxContents = 1 << 16

// WithContents returns the log with the texts that its events measured, as far as they are among
// the given texts: loader.conf, .cmdline and .osrel of a UKI, the kernel's command line of
// /proc/cmdline. Most events have only a name beside the digest; with the contents on both sides a
// [Difference] says which words or lines differ. A text belongs to an event only if its digest is
// that of the event, so a wrong text does no harm. Texts of more than 64 KiB are ignored.
func (l *Log) WithContents(contents ...[]byte) *Log {
	out := *l
	out.Events = slices.Clone(l.Events)
	known := make(map[string][]byte) // by digest
	banks := l.Banks()
	for _, c := range contents {
		if len(c) > maxContents {
			continue
		}
		c = bytes.Clone(c)
		forms := [][]byte{c}
		if s := strings.TrimRight(string(c), "\n\x00"); validText(s) {
			// a command line, as the stub and the kernel measure it
			forms = append(forms, []byte(s), append([]byte(s), 0), utf16z(s))
		}
		for _, f := range forms {
			for _, h := range banks {
				known[string(pcrbank.Sum(h, f))] = c
			}
		}
	}
	for i := range out.Events {
		e := &out.Events[i]
		for _, d := range e.Digests {
			if c, ok := known[string(d)]; ok && len(e.contents) == 0 && hashedInForm(e, c) {
				e.contents = c
				break
			}
		}
	}
	return &out
}

// hashedInForm reports whether all digests of an event are of a text, in one of its forms.
func hashedInForm(e *Event, c []byte) bool {
	s := strings.TrimRight(string(c), "\n\x00")
	return slices.ContainsFunc([][]byte{c, []byte(s), append([]byte(s), 0), utf16z(s)}, func(f []byte) bool { return hashedAs(e, f) })
}

// setContents finds the kernel's command line among those that the log holds as text: one that the
// loader passed, and that of GRUB.
func (l *Log) setContents() {
	if !slices.ContainsFunc(l.Events, func(e Event) bool { return e.Subject.Kind == SubjectLoadOptions && e.contents == nil }) {
		return
	}
	lines := make(map[string]bool)
	for i := range l.Events {
		e := &l.Events[i]
		text, ok := textOf(e.Data)
		switch {
		case !ok || e.Type != EventIPL || !attestedText(e):
		case e.Subject.Kind.isCommandLine():
			lines[text] = true
		default:
			if line, ok := strings.CutPrefix(text, grubCmdline); ok {
				lines["BOOT_IMAGE="+line] = true
			}
		}
	}
	for i := range l.Events {
		e := &l.Events[i]
		if e.Subject.Kind != SubjectLoadOptions || e.contents != nil {
			continue
		}
		for _, line := range slices.Sorted(maps.Keys(lines)) {
			if hashedAs(e, utf16z(line)) {
				e.contents = utf16z(line)
			}
		}
	}
}
