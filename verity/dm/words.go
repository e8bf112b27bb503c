package dm

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/internal/kernelargs"
)

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
	kernelargs.Systemd(line, func(word string, at int) {
		key, value, given := strings.Cut(word, "=")
		key = strings.TrimPrefix(key, "rd.")
		if kernelargs.SameName(key, switchParameter) {
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
				if given && kernelargs.SameName(key, name) {
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

// quoteParameter writes a parameter so that kernel and systemd read the same.
func quoteParameter(key, value string) (string, error) {
	space := false
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\'':
			return "", fmt.Errorf("%q: a quotation mark cannot be written", value)
		case c < ' ' || c == 0x7f:
			return "", fmt.Errorf("%q: a control character cannot be written", value)
		case kernelargs.IsSpace(c):
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
