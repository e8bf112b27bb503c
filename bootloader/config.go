package bootloader

import (
	"bytes"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Config is loader/loader.conf. Empty fields are absent from the file, and the loader's defaults
// hold.
type Config struct {
	Timeout string // seconds, or menu-force, menu-hidden, menu-disabled
	// id or pattern (? * [set]) of the entry to boot, or @saved; boots even entries marked bad
	Default string
	// the same, but skips entries that have no tries left; systemd-boot 260 and later
	Preferred string

	Editor             Switch // may the command line be edited? Default yes (without Secure Boot)
	AutoEntries        Switch // list loaders of other systems; default yes
	AutoFirmware       Switch // list "Reboot Into Firmware Interface"; default yes
	AutoPoweroff       Switch
	AutoReboot         Switch
	Beep               Switch
	RebootForBitlocker Switch

	RebootOnError              string // yes, no or auto (default); 258 and later
	SecureBootEnroll           string // off, manual, if-safe (default), force
	SecureBootEnrollAction     string // reboot (default), shutdown
	SecureBootEnrollTimeoutSec string // seconds or hidden; 259 and later
	ConsoleMode                string // number, auto, max, keep (default)
	// emerg, alert, crit, err, warning, notice, info, debug; 259 and later
	LogLevel string

	// Ignored lists lines of the file that the loader ignores.
	Ignored []IgnoredLine
}

// Switch is a yes-or-no setting that may be absent.
type Switch uint8

const (
	SwitchUnset Switch = iota
	SwitchYes
	SwitchNo
)

// IgnoredLine is an assignment without effect.
type IgnoredLine struct {
	Line       int
	Key, Value string
	Reason     string
}

// A configKey is one key of loader.conf: how its value is checked and where it is kept.
type configKey struct {
	name string
	text func(*Config) *string
	flag func(*Config) *Switch
	ok   func(string) bool // for text

	since int // the first release of systemd-boot that reads it; 0: all that are known
}

// configKeys is every key that systemd-boot 262 reads (src/boot/boot.c,
// config_defaults_load_from_file), in the order in which they are written.
var configKeys = []configKey{
	{name: "timeout", text: func(c *Config) *string { return &c.Timeout }, ok: timeoutValue},
	{name: "default", text: func(c *Config) *string { return &c.Default }, ok: entryPattern},
	{name: "preferred", text: func(c *Config) *string { return &c.Preferred }, ok: entryPattern, since: 260},
	{name: "editor", flag: func(c *Config) *Switch { return &c.Editor }},
	{name: "auto-entries", flag: func(c *Config) *Switch { return &c.AutoEntries }},
	{name: "auto-firmware", flag: func(c *Config) *Switch { return &c.AutoFirmware }},
	{name: "auto-poweroff", flag: func(c *Config) *Switch { return &c.AutoPoweroff }, since: 255},
	{name: "auto-reboot", flag: func(c *Config) *Switch { return &c.AutoReboot }, since: 255},
	{name: "beep", flag: func(c *Config) *Switch { return &c.Beep }},
	{name: "reboot-for-bitlocker", flag: func(c *Config) *Switch { return &c.RebootForBitlocker }},
	{name: "reboot-on-error", text: func(c *Config) *string { return &c.RebootOnError }, ok: either(isSwitch, "auto"), since: 258},
	{name: "secure-boot-enroll", text: func(c *Config) *string { return &c.SecureBootEnroll }, ok: either(nil, "off", "manual", "if-safe", "force")},
	{name: "secure-boot-enroll-action", text: func(c *Config) *string { return &c.SecureBootEnrollAction }, ok: either(nil, "reboot", "shutdown"), since: 258},
	{name: "secure-boot-enroll-timeout-sec", text: func(c *Config) *string { return &c.SecureBootEnrollTimeoutSec }, ok: either(number(1<<32-2), "hidden"), since: 259},
	{name: "console-mode", text: func(c *Config) *string { return &c.ConsoleMode }, ok: either(number(1<<31-1), "auto", "max", "keep")},
	{name: "log-level", text: func(c *Config) *string { return &c.LogLevel }, ok: either(nil, "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"), since: 259},
}

var timeoutValue = either(number(1<<32-1), "menu-force", "menu-hidden", "menu-disabled")

func either(other func(string) bool, words ...string) func(string) bool {
	return func(s string) bool {
		for _, w := range words {
			if s == w {
				return true
			}
		}
		return other != nil && other(s)
	}
}

func number(most uint64) func(string) bool {
	return func(s string) bool {
		n, err := strconv.ParseUint(s, 10, 64)
		return err == nil && n <= most && s[0] != '+'
	}
}

func entryPattern(s string) bool { return !strings.HasPrefix(s, "@") || equalFold(s, "@saved") }

func isSwitch(s string) bool {
	_, ok := parseSwitch(s)
	return ok
}

func parseSwitch(s string) (Switch, bool) {
	switch s {
	case "1", "yes", "y", "true", "t", "on":
		return SwitchYes, true
	case "0", "no", "n", "false", "f", "off":
		return SwitchNo, true
	}
	return SwitchUnset, false
}

// ParseConfig reads loader.conf as systemd-boot 262 does. It never fails: lines that the loader
// would ignore are listed in Ignored, and the last valid assignment of a key counts.
func ParseConfig(b []byte) *Config { return parseConfig(b, newest()) }

func parseConfig(b []byte, r Release) *Config {
	c := new(Config)
	for l := range lines(b, " \t", r.rules) {
		if reason := c.set(l, r); reason != "" {
			c.Ignored = append(c.Ignored, IgnoredLine{l.number, l.key, l.value, reason})
		}
	}
	return c
}

func (c *Config) set(l line, r Release) (ignored string) {
	for _, k := range configKeys {
		switch {
		case k.name != l.key:
			continue
		case k.since > r.Number:
			return fmt.Sprintf("systemd-boot %d does not read it, %d and later do", r.Number, k.since)
		case k.flag != nil:
			s, ok := parseSwitch(l.value)
			if !ok {
				return "not a yes or no"
			}
			*k.flag(c) = s
		case !k.ok(l.value):
			return "not a value of this key"
		default:
			*k.text(c) = l.value
		}
		return ""
	}
	return "unknown key"
}

// MarshalText writes the file, one line for each field that is set. If a value could not be read
// back, the error wraps [ErrConfigValue]. Comments and unknown keys of a parsed file are not kept.
func (c *Config) MarshalText() (text []byte, err error) {
	defer prefix.Add("bootloader", &err)
	var b bytes.Buffer
	for _, k := range configKeys {
		value, err := k.value(c)
		if err != nil {
			return nil, err
		}
		if value != "" {
			fmt.Fprintf(&b, "%s %s\n", k.name, value)
		}
	}
	return b.Bytes(), nil
}

// value is what is written for the key, empty if it is not set. What would not be read back is an
// error.
func (k configKey) value(c *Config) (string, error) {
	if k.flag != nil {
		switch *k.flag(c) {
		case SwitchUnset:
			return "", nil
		case SwitchYes:
			return "yes", nil
		case SwitchNo:
			return "no", nil
		}
		return "", fmt.Errorf("loader.conf: %s: Switch(%d): %w", k.name, *k.flag(c), ErrConfigValue)
	}
	value := *k.text(c)
	if value != "" && (!k.ok(value) || !survives(value)) {
		return "", fmt.Errorf("loader.conf: %s %q: %w", k.name, value, ErrConfigValue)
	}
	return value, nil
}

// survives reports whether a value comes back the same when it is read from a line.
func survives(value string) bool {
	n := 0
	for l := range lines([]byte("key "+value+"\n"), " \t", newest().rules) {
		if n++; n > 1 || l.key != "key" || l.value != value {
			return false
		}
	}
	return n == 1
}

// A line is one assignment in a configuration file.
type line struct {
	number     int // from 1
	key, value string

	start, end        int // of the line in the text; its line end is a part of it
	valueAt, valueEnd int // of the value there, with quotes around it
}

// lines yields the assignments in b as systemd-boot reads them (systemd 262, src/boot/efi-string.c,
// line_get_key_value): the text ends at a NUL byte; lines end at CR or LF; blanks around a line and
// lines that begin with # are dropped; the key ends at the first separator, the value begins behind
// the last one that follows, and loses a pair of quotes around it. Lines without a separator are
// dropped, and so are bytes that are not UTF-8.
func lines(b []byte, separators string, r rules) iter.Seq[line] {
	return func(yield func(line) bool) {
		if i := bytes.IndexByte(b, 0); i >= 0 {
			b = b[:i]
		}
		number := 1
		for at, next := 0, 0; at < len(b); at = next {
			stop := len(b)
			if i := bytes.IndexAny(b[at:], "\r\n"); i >= 0 {
				stop = at + i
			}
			next = min(stop+1, len(b))
			if next < len(b) && b[stop] == '\r' && b[next] == '\n' {
				next++
			}
			l := line{number: number, start: at, end: next}
			number += bytes.Count(b[stop:next], []byte("\n"))

			text := strings.TrimRight(string(b[at:stop]), " \t")
			l.valueEnd = at + len(text)
			text = strings.TrimLeft(text, " \t")
			i := strings.IndexAny(text, separators)
			if strings.HasPrefix(text, "#") || i < 0 {
				continue
			}
			key, value := text[:i], strings.TrimLeft(text[i:], separators)
			l.valueAt = l.valueEnd - len(value)
			if value != "" && (value[0] == '"' || value[0] == '\'' && !r.doubleQuotes) && value[len(value)-1] == value[0] {
				value = value[1:max(len(value)-1, 1)]
			}
			l.key, l.value = strings.ToValidUTF8(key, ""), strings.ToValidUTF8(value, "")
			if !yield(l) {
				return
			}
		}
	}
}

// equalFold compares as systemd-boot does: letters of ASCII only.
func equalFold(a, b string) bool { return lower(a) == lower(b) }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && equalFold(s[len(s)-len(suffix):], suffix)
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
