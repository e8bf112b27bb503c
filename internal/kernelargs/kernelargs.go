// Package kernelargs cuts a kernel command line into arguments, once as systemd does and once as
// the kernel. They differ: to systemd single quotes are quotes too, and quotes can be anywhere in a
// word; the kernel takes quotes off around a value or a whole parameter only, and knows more white
// space. Behind "--" the kernel has no parameters of its own, while systemd reads on.
package kernelargs

import "strings"

// SystemdSpace is what separates words for systemd.
const SystemdSpace = " \t\n\r"

// Systemd calls yield with every word of a line and its offset. A quotation that does not end
// reaches to the end of the line. A backslash is a character like any other.
func Systemd(line string, yield func(word string, at int)) {
	for i := 0; i < len(line); {
		if strings.IndexByte(SystemdSpace, line[i]) >= 0 {
			i++
			continue
		}
		var b []byte
		var quote byte // that the current quotation ends with, or 0
		start := i
		for ; i < len(line) && (quote != 0 || strings.IndexByte(SystemdSpace, line[i]) < 0); i++ {
			switch c := line[i]; {
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote != 0 && c == quote:
				quote = 0
			default:
				b = append(b, c)
			}
		}
		yield(string(b), start)
	}
}

// SameName compares names of parameters: dashes and underscores are the same, to systemd and to the
// kernel.
func SameName(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// IsSpace is isspace of the kernel (lib/ctype.c), which reads Latin-1: 0xa0, the
// no-break space there, is the second byte of an à in UTF-8.
func IsSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r' || c == 0xa0
}

// A Parameter is one word of a command line, to the kernel.
type Parameter struct {
	Key, Value string
	Text       string // as it is written
	At         int    // offset in the line
}

// Kernel follows next_arg of the kernel (lib/cmdline.c) up to "--": white space ends a
// parameter except between double quotes, which nothing escapes and which are taken off only around
// a value or a whole parameter.
func Kernel(line string) []Parameter {
	var all []Parameter
	for i := 0; i < len(line); {
		if IsSpace(line[i]) {
			i++
			continue
		}
		start, equals, quoted := i, -1, false
		for ; i < len(line) && (quoted || !IsSpace(line[i])); i++ {
			switch {
			case line[i] == '"':
				quoted = !quoted
			case line[i] == '=' && equals < 0 && i > start:
				equals = i - start
			}
		}
		p := Parameter{Key: line[start:i], Text: line[start:i], At: start}
		if p.Key[0] == '"' {
			p.Key = strings.TrimSuffix(p.Key[1:], `"`)
			equals--
		}
		if equals > 0 {
			p.Key, p.Value = p.Key[:equals], p.Key[equals+1:]
			if v, ok := strings.CutPrefix(p.Value, `"`); ok {
				p.Value = strings.TrimSuffix(v, `"`)
			}
		}
		if p.Key == "--" && equals <= 0 {
			return all
		}
		all = append(all, p)
	}
	return all
}
