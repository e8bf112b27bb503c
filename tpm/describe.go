package tpm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// maxText bounds the description of one event, in bytes before escaping.
const maxText = 160

// Describe returns one line for people on what the event's data says: the name of a variable, the
// path of a program, a section, a text. It is made from the data that the firmware wrote, which is
// unverified unless [Event.Attested].
func (e *Event) Describe() string {
	p, err := e.payload()
	if err != nil {
		return describeText(e.Data)
	}
	s := e.Subject
	if s.Kind == SubjectUnknown {
		s = new(subjectReader).subject(e)
	}
	if v, ok := p.(Variable); ok && e.Type == EventEFIVariableAuthority && v.isAuthority() {
		return v.authority() + " let a program in"
	}
	if s.Kind == SubjectSectionName {
		// the stub writes the name beside its digest and beside that of the data
		return p.String() + " (name)"
	}
	if text, ok := contentsText(e.contents); ok && text != "" {
		return p.String() + " " + quote(strings.TrimRight(text, "\n"))
	}
	return p.String()
}

// describeText is the data as text if they are text, else as bytes.
func describeText(b []byte) string {
	if s, ok := textOf(b); ok {
		return escape(s)
	}
	return describeBytes(b)
}

// describeBytes is the start of data that are not text, or the text that they begin with.
func describeBytes(b []byte) string {
	const show, least = 16, 3
	if n := bytes.IndexByte(b, 0); n >= least && validText(string(b[:n])) {
		return fmt.Sprintf("%d bytes, %s and more", len(b), quote(string(b[:n])))
	}
	if len(b) > show {
		return fmt.Sprintf("%d bytes, %x…", len(b), b[:show])
	}
	return fmt.Sprintf("%d bytes, %x", len(b), b)
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t' }) < 0
}

func validText(s string) bool { return utf8.ValidString(s) && printable(s) }

// escape makes firmware's text safe to print and bounds its length.
func escape(s string) string { return escapeTo(s, maxText) }

func escapeTo(s string, limit int) string {
	cut := len(s) > limit
	if cut {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}

// quote is a text between quotation marks, safe to print: those that it does not hold.
func quote(s string) string { return quoteEscaped(escape(s)) }

// maxLine bounds what is told of command lines in differences, in bytes: a root hash alone has 64.
const maxLine = 1024

// quoteLine is [quote] for a command line or words of it.
func quoteLine(s string) string { return quoteEscaped(escapeTo(s, maxLine)) }

// quoteEscaped is [quote] for what is safe to print.
func quoteEscaped(s string) string {
	switch {
	case !strings.Contains(s, "'"):
		return "'" + s + "'"
	case !strings.Contains(s, `"`):
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `\u0027`) + "'"
}

// String lists the log, one line per event: PCR, type, the start of a digest (of the strongest bank
// the event has up to sha256, else of any), and what the data says.
func (l *Log) String() string {
	var b strings.Builder
	for i := range l.Events {
		b.WriteString(l.Events[i].String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String is the event's line in [Log.String].
func (e *Event) String() string {
	register := fmt.Sprintf("%3d", e.PCR)
	switch {
	case e.cc:
		register = fmt.Sprintf("%-6s", RegistersCC.Name(e.PCR))
	case e.PCR == -1 && !e.extends():
		register = "  -"
	}
	return fmt.Sprintf("%s  %-32s  %-17s  %s", register, e.Type, shortDigest(e), e.Describe())
}

// shortDigest is the start of the digest by which people know an event.
func shortDigest(e *Event) string {
	if !e.extends() {
		return "-"
	}
	for _, i := range []int{1, 0, 2, 3} { // sha256 first
		if d, ok := e.Digests[pcrbank.All[i].Hash]; ok && len(d) > 8 {
			return hex.EncodeToString(d[:8]) + "…"
		}
	}
	if d := e.foreign[AlgorithmSM3]; len(d) > 8 {
		return hex.EncodeToString(d[:8]) + "…"
	}
	return "-"
}
