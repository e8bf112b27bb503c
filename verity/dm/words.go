package dm

import (
	"fmt"
	"strings"
)

// How systemd and how the kernel cut a command line into parameters. They differ: to systemd single
// quotes are quotes too, and quotes can be anywhere in a word; the kernel takes quotes off around a
// value or a whole parameter only, knows more white space, and reads no further than "--".

// systemdSpace is what separates words for systemd.
const systemdSpace = " \t\n\r"

// systemdWords calls yield with every word of a line and its offset. A quotation that does not end
// reaches to the end of the line. A backslash is a character like any other.
func systemdWords(line string, yield func(word string, at int)) {
	for i := 0; i < len(line); {
		if strings.IndexByte(systemdSpace, line[i]) >= 0 {
			i++
			continue
		}
		var b []byte
		var quote byte // that the current quotation ends with, or 0
		start := i
		for ; i < len(line) && (quote != 0 || strings.IndexByte(systemdSpace, line[i]) < 0); i++ {
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

// systemdSays is what systemd's generator keeps of a command line: as text, unchecked.
type systemdSays struct {
	disabled bool
	volumes  [2][4]said // as in volumeParameters
}

// said is the last value of a parameter. given is false if it is not there, or has no "=".
type said struct {
	value string
	at    int
	given bool
}

// readSystemd reads a command line as systemd's generator does in an initrd, where "rd." in front
// of a name means nothing.
func readSystemd(line string) (s systemdSays) {
	systemdWords(line, func(word string, at int) {
		key, value, given := strings.Cut(word, "=")
		key = strings.TrimPrefix(key, "rd.")
		if sameName(key, switchParameter) {
			on, err := parseBoolean(value)
			if !given {
				on, err = true, nil
			}
			if err == nil { // otherwise what was said before holds
				s.disabled = !on
			}
		}
		for i, names := range volumeParameters {
			for j, name := range names {
				if given && sameName(key, name) {
					s.volumes[i][j] = said{value, at, true}
				}
			}
		}
	})
	return s
}

// parseBoolean reads what systemd takes for one.
func parseBoolean(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is not a boolean", value)
}

// sameName compares names of parameters: dashes and underscores are the same, to systemd and to the
// kernel.
func sameName(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// A parameter is one word of a command line, to the kernel.
type parameter struct {
	key, value string
	at         int
}

// splitKernel follows next_arg of the kernel (lib/cmdline.c) up to "--": white space ends a
// parameter except between double quotes, which nothing escapes and which are taken off only around
// a value or a whole parameter.
func splitKernel(line string) []parameter {
	var all []parameter
	for i := 0; i < len(line); {
		if isSpace(line[i]) {
			i++
			continue
		}
		start, equals, quoted := i, -1, false
		for ; i < len(line) && (quoted || !isSpace(line[i])); i++ {
			switch {
			case line[i] == '"':
				quoted = !quoted
			case line[i] == '=' && equals < 0 && i > start:
				equals = i - start
			}
		}
		p := parameter{key: line[start:i], at: start}
		if p.key[0] == '"' {
			p.key = strings.TrimSuffix(p.key[1:], `"`)
			equals--
		}
		if equals > 0 {
			p.key, p.value = p.key[:equals], p.key[equals+1:]
			if v, ok := strings.CutPrefix(p.value, `"`); ok {
				p.value = strings.TrimSuffix(v, `"`)
			}
		}
		if p.key == "--" && equals <= 0 {
			return all
		}
		all = append(all, p)
	}
	return all
}

// quoteParameter writes a parameter so that kernel and systemd read the same.
func quoteParameter(key, value string) (string, error) {
	space := false
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\'':
			return "", fmt.Errorf("%q: a quotation mark cannot be written", value)
		case c < ' ' || c == 0x7f:
			return "", fmt.Errorf("%q: a control character cannot be written", value)
		case isSpace(c):
			space = true
		}
	}
	if !space {
		return key + "=" + value, nil
	}
	if strings.HasSuffix(value, `\`) {
		return "", fmt.Errorf("%q: a backslash cannot be the last character of a value that is quoted", value)
	}
	return key + `="` + value + `"`, nil
}
