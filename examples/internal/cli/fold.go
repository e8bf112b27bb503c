package cli

import (
	"bytes"
	"slices"
	"strings"
)

// errorMembers are members of objects that hold errors, alone or in lists, in all programs.
var errorMembers = []string{"error", "reason", "problem", "problems", "refused", "leave", "note", "unread", "partial", "unsupported", "bootoption", "systemtoken"}

// isErrorMember tells them, and those that are named for what they are about, such as
// "primaryError".
func isErrorMember(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(errorMembers, name) || strings.HasSuffix(name, "error") || strings.HasSuffix(name, "reason")
}

// foldErrors writes every error in an encoded object on one line. Several that were joined have a
// line each, which a person reads on a terminal, and a program that shows one line does not.
func foldErrors(object []byte) []byte {
	if !bytes.Contains(object, []byte(`\n`)) {
		return object
	}
	var out []byte
	var names []string // of the members around the current place, "" around elements of lists
	name := ""
	for i := 0; i < len(object); i++ {
		switch c := object[i]; c {
		case '{', '[':
			names = append(names, name)
			if c == '{' {
				name = ""
			}
		case '}', ']':
			name, names = names[len(names)-1], names[:len(names)-1]
		case '"':
			end := i + 1
			for ; object[end] != '"'; end++ {
				if object[end] == '\\' {
					end++
				}
			}
			text := object[i : end+1]
			if end+1 < len(object) && object[end+1] == ':' {
				name = string(text[1 : len(text)-1])
			} else if isErrorMember(name) {
				text = foldText(text)
			}
			out = append(out, text...)
			i = end
			continue
		}
		out = append(out, object[i])
	}
	return out
}

// foldText puts "; " in place of the line breaks of an encoded string, and nothing at its end.
func foldText(text []byte) []byte {
	var lines []string
	var line []byte
	for i := 1; i < len(text)-1; i++ {
		if text[i] != '\\' {
			line = append(line, text[i])
			continue
		}
		if i++; text[i] == 'n' {
			lines, line = append(lines, strings.TrimRight(string(line), " \t")), nil
			continue
		}
		line = append(line, '\\', text[i])
	}
	lines = append(lines, string(line))
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	return []byte(`"` + strings.Join(lines, "; ") + `"`)
}
