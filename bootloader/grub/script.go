package grub

import (
	"fmt"
	"strings"
)

// An UnsupportedError says which part of a configuration this package cannot follow.
type UnsupportedError struct {
	File string // GRUB's name of the file
	Line int    // from 1
	What string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("grub: %s:%d: %s", e.File, e.Line, e.What)
}

// A script is commands, parsed.
type script []statement

// A statement is one of: a simple command, an if, a for, a function.
type statement struct {
	line     int
	words    []word // of a simple command, or what a for goes through
	block    string // of menuentry and submenu: from { to }, as written
	body     script // of that block; of for and function
	name     string // of the function, or of the variable of for
	kind     kind
	branches []branch // of if
}

type kind int

const (
	command kind = iota
	ifElse
	forIn
	function
)

type branch struct {
	condition script // nil: else
	body      script
}

// A word is made of parts, some of which are variables.
type word struct {
	parts  []part
	quoted bool // some of it stood in quotes, so that it is a word even when it is empty
}

type part struct {
	text     string
	variable bool
	quoted   bool // in double quotes
}

// literal is the word if it is text alone, out of quotes, as a reserved word has to be.
func (w word) literal() string {
	if len(w.parts) != 1 || w.parts[0].variable || w.quoted {
		return ""
	}
	return w.parts[0].text
}

// parser reads a script. Errors are panics of *UnsupportedError, caught by parse.
type parser struct {
	file  string
	text  string
	at    int
	line  int
	depth int
}

// maxDepth bounds how deep blocks may be nested.
const maxDepth = 64

func parse(file, text string) (s script, err error) {
	p := &parser{file: file, text: text, line: 1}
	defer func() {
		if e, ok := recover().(*UnsupportedError); ok {
			s, err = nil, e
		} else if e != nil {
			panic(e)
		}
	}()
	s = p.script("")
	return s, nil
}

func (p *parser) fail(format string, args ...any) {
	panic(&UnsupportedError{File: p.file, Line: p.line, What: fmt.Sprintf(format, args...)})
}

// blank skips blanks, comments and escaped line ends, and if ends is set line ends and semicolons,
// too.
func (p *parser) blank(ends bool) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == ' ' || c == '\t' || c == '\r':
			p.at++
		case c == '\\' && strings.HasPrefix(p.text[p.at:], "\\\n"):
			p.at += 2
			p.line++
		case c == '#':
			if i := strings.IndexByte(p.text[p.at:], '\n'); i >= 0 {
				p.at += i
			} else {
				p.at = len(p.text)
			}
		case ends && c == '\n':
			p.at++
			p.line++
		case ends && c == ';':
			p.at++
		default:
			return
		}
	}
}

// peek is the reserved word that comes next, "" for anything else.
func (p *parser) peek() string {
	at, line := p.at, p.line
	defer func() { p.at, p.line = at, line }()
	if p.at < len(p.text) && (p.text[p.at] == '{' || p.text[p.at] == '}') {
		return p.text[p.at : p.at+1]
	}
	w, ok := p.word()
	if !ok {
		return ""
	}
	return w.literal()
}

// script reads statements up to one of the words in ends, which it leaves.
func (p *parser) script(ends ...string) script {
	if p.depth++; p.depth > maxDepth {
		p.fail("blocks are nested deeper than %d levels", maxDepth)
	}
	defer func() { p.depth-- }()
	out := script{}
	for {
		p.blank(true)
		if p.at >= len(p.text) {
			if ends[0] != "" {
				p.fail("the file ends before %s", strings.Join(ends, " or "))
			}
			return out
		}
		next := p.peek()
		for _, end := range ends {
			if next == end && end != "" {
				return out
			}
		}
		out = append(out, p.statement(next))
	}
}

func (p *parser) expect(word string) {
	p.blank(true)
	if got := p.peek(); got != word {
		p.fail("want %s", word)
	}
	if word == "{" || word == "}" {
		p.at++
		return
	}
	p.word()
}

func (p *parser) statement(next string) statement {
	s := statement{line: p.line}
	switch next {
	case "if":
		s.kind = ifElse
		p.word()
		for {
			b := branch{condition: p.script("then")}
			p.expect("then")
			b.body = p.script("elif", "else", "fi")
			s.branches = append(s.branches, b)
			end := p.peek()
			p.word()
			if end == "elif" {
				continue
			}
			if end == "else" {
				s.branches = append(s.branches, branch{body: p.script("fi")})
				p.expect("fi")
			}
			return s
		}
	case "for":
		s.kind = forIn
		p.word()
		p.blank(false)
		name, _ := p.word()
		if s.name = name.literal(); !isName(s.name) {
			p.fail("for: want a variable name")
		}
		p.expect("in")
		s.words = p.words()
		p.expect("do")
		s.body = p.script("done")
		p.expect("done")
	case "function":
		s.kind = function
		p.word()
		p.blank(false)
		name, _ := p.word()
		if s.name = name.literal(); s.name == "" {
			p.fail("function: want a name")
		}
		p.expect("{")
		s.body = p.script("}")
		p.expect("}")
	case "while", "until", "{", "}", "then", "elif", "else", "fi", "do", "done", "case", "!", "time":
		p.fail("%s is not modelled", next)
	default:
		s.words = p.words()
		if name := s.words[0].literal(); name == "menuentry" || name == "submenu" {
			p.menuBlock(&s)
		}
	}
	return s
}

func (p *parser) menuBlock(s *statement) {
	p.blank(true)
	if p.at >= len(p.text) || p.text[p.at] != '{' {
		p.fail("%s: want a block in braces", s.words[0].literal())
	}
	start := p.at
	p.at++
	s.body = p.script("}")
	p.expect("}")
	s.block = p.text[start:p.at]
}

// words reads the words of a command, up to its end.
func (p *parser) words() []word {
	var out []word
	for {
		p.blank(false)
		if p.at < len(p.text) && p.text[p.at] == '{' {
			break
		}
		w, ok := p.word()
		if !ok {
			break
		}
		out = append(out, w)
	}
	if len(out) == 0 {
		p.fail("%q where a command should be", p.text[p.at:min(len(p.text), p.at+1)])
	}
	return out
}

// word reads one word, if there is one before the end of the command.
func (p *parser) word() (w word, ok bool) {
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch c {
		case ' ', '\t', '\r', '\n', ';', '}':
			return w, ok
		case '{':
			if ok {
				w.add(part{text: "{"})
				p.at++
				continue
			}
			return w, ok
		case '|', '&', '<', '>':
			p.fail("%q is not modelled", c)
		case '\'':
			end := strings.IndexByte(p.text[p.at+1:], '\'')
			if end < 0 {
				p.fail("quotation mark is not closed")
			}
			text := p.text[p.at+1 : p.at+1+end]
			p.line += strings.Count(text, "\n")
			w.add(part{text: text, quoted: true})
			w.quoted, ok = true, true
			p.at += end + 2
		case '"':
			p.at++
			w.quoted, ok = true, true
			p.doubleQuoted(&w)
		case '\\':
			if p.at+1 >= len(p.text) {
				p.fail("the file ends with a backslash")
			}
			if p.text[p.at+1] == '\n' {
				p.line++
				p.at += 2
				continue
			}
			w.add(part{text: p.text[p.at+1 : p.at+2], quoted: true})
			w.quoted, ok = true, true
			p.at += 2
		case '$':
			p.variable(&w, false)
			ok = true
		default:
			w.add(part{text: p.text[p.at : p.at+1]})
			ok = true
			p.at++
		}
	}
	return w, ok
}

// add joins text to what stands before it.
func (w *word) add(x part) {
	if n := len(w.parts); n > 0 && !x.variable && !w.parts[n-1].variable {
		w.parts[n-1].text += x.text
		return
	}
	w.parts = append(w.parts, x)
}

func (p *parser) doubleQuoted(w *word) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; c {
		case '"':
			p.at++
			return
		case '\\':
			if p.at+1 >= len(p.text) {
				p.fail("quotation mark is not closed")
			}
			switch next := p.text[p.at+1]; next {
			case '"', '\\', '$':
				w.add(part{text: string(next), quoted: true})
			case '\n':
				p.line++
			default:
				w.add(part{text: p.text[p.at : p.at+2], quoted: true})
			}
			p.at += 2
		case '$':
			p.variable(w, true)
		default:
			if c == '\n' {
				p.line++
			}
			w.add(part{text: string(c), quoted: true})
			p.at++
		}
	}
	p.fail("quotation mark is not closed")
}

// variable reads $name, ${name}, $1 and $?.
func (p *parser) variable(w *word, quoted bool) {
	p.at++
	rest := p.text[p.at:]
	name := ""
	switch {
	case strings.HasPrefix(rest, "{"):
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			p.fail("${ is not closed")
		}
		name = rest[1:end]
		p.at += end + 1
	case rest != "" && rest[0] == '?':
		name = "?"
		p.at++
	case rest != "" && rest[0] >= '0' && rest[0] <= '9':
		name = rest[:1]
		p.at++
	default:
		n := 0
		for n < len(rest) && isNameByte(rest[n], n > 0) {
			n++
		}
		name = rest[:n]
		p.at += n
	}
	if name != "?" && !isName(name) && !(len(name) == 1 && name[0] >= '0' && name[0] <= '9') {
		p.fail("variable $%s is not modelled", name)
	}
	w.parts = append(w.parts, part{text: name, variable: true, quoted: quoted})
}

func isNameByte(c byte, digits bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || digits && c >= '0' && c <= '9'
}

func isName(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i], i > 0) {
			return false
		}
	}
	return s != ""
}
