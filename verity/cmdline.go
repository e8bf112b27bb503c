package verity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A Cmdline is what a kernel command line says about verity, to systemd
// (https://www.freedesktop.org/software/systemd/man/latest/systemd-veritysetup-generator.html)
// and to the kernel itself
// (https://docs.kernel.org/admin-guide/device-mapper/dm-init.html). The zero value says
// nothing.
type Cmdline struct {
	Root, Usr Volume        // roothash=, usrhash= and what belongs to them: systemd
	Create    []EarlyDevice // dm-mod.create=: the kernel makes these before any initrd
	WaitFor   []string      // dm-mod.waitfor=: devices that the kernel waits for first (Linux 6.2)
}

// A Volume is a verity device that systemd makes, /dev/mapper/root or
// /dev/mapper/usr.
type Volume struct {
	// RootHash is roothash= or usrhash=; nil if there is none, and then no volume.
	// Alone it is enough on a disk with Discoverable Partitions, whose PARTUUIDs are
	// the two ends of it.
	RootHash []byte

	Data, Hash string // systemd.verity_root_data=, _hash=: paths or PARTUUID=...; "" for the PARTUUIDs
	Options    VolumeOptions
}

// Parameters that make up a volume, in the order in which they are written.
var (
	rootParameters = [...]string{"roothash", "systemd.verity_root_data", "systemd.verity_root_hash", "systemd.verity_root_options"}
	usrParameters  = [...]string{"usrhash", "systemd.verity_usr_data", "systemd.verity_usr_hash", "systemd.verity_usr_options"}
)

const (
	createParameter  = "dm-mod.create"
	waitForParameter = "dm-mod.waitfor"
)

// Encode returns the parameters, separated by spaces and quoted where they must be;
// they can stand anywhere in a command line before a "--". A value that the kernel
// and systemd would not read alike, or would refuse, is an error.
func (c Cmdline) Encode() (string, error) {
	var words []string
	add := func(key, value string) error {
		w, err := quoteParameter(key, value)
		if err != nil {
			return fmt.Errorf("verity: command line: %s: %w", key, err)
		}
		words = append(words, w)
		return nil
	}
	for _, v := range []struct {
		Volume
		names [4]string
	}{{c.Root, rootParameters}, {c.Usr, usrParameters}} {
		options, err := v.Options.encode()
		if err != nil {
			return "", fmt.Errorf("verity: command line: %s: %w", v.names[3], err)
		}
		if v.RootHash == nil {
			if v.Data != "" || v.Hash != "" || options != "" {
				return "", fmt.Errorf("verity: command line: %s: it is missing, with other parameters of the volume given", v.names[0])
			}
			continue
		}
		if err := checkRootHash(v.RootHash); err != nil {
			return "", fmt.Errorf("verity: command line: %s: %w", v.names[0], err)
		}
		for i, value := range []string{hex.EncodeToString(v.RootHash), v.Data, v.Hash, options} {
			if value == "" {
				continue
			}
			if err := add(v.names[i], value); err != nil {
				return "", err
			}
		}
	}
	if len(c.Create) > 0 {
		value, err := encodeCreate(c.Create)
		if err != nil {
			return "", fmt.Errorf("verity: command line: %s: %w", createParameter, err)
		}
		if err := add(createParameter, value); err != nil {
			return "", err
		}
	}
	if len(c.WaitFor) > 0 {
		if err := checkWaitFor(c.WaitFor); err != nil {
			return "", fmt.Errorf("verity: command line: %s: %w", waitForParameter, err)
		}
		if err := add(waitForParameter, strings.Join(c.WaitFor, ",")); err != nil {
			return "", err
		}
	}
	return strings.Join(words, " "), nil
}

// ParseCmdline reads what a whole command line says about verity and passes over all
// other parameters. Of a parameter that is given twice the last one counts, as for
// kernel and systemd; dashes and underscores are the same in a name, and behind "--"
// the kernel reads no more. An option that is not known is an error, since systemd would
// ignore it. The error is a *TextError.
func ParseCmdline(line string) (*Cmdline, error) {
	parameters, err := splitParameters(line)
	if err != nil {
		return nil, err
	}
	c := new(Cmdline)
	kernel := true
	for _, p := range parameters {
		if p.key == "--" && !p.hasValue {
			kernel = false
			continue
		}
		if field, err := c.set(p, kernel); err != nil {
			return nil, &TextError{Text: "command line", Offset: int64(p.at), Field: field, Err: err}
		}
	}
	for _, v := range []struct {
		Volume
		names [4]string
	}{{c.Root, rootParameters}, {c.Usr, usrParameters}} {
		if options, err := v.Options.encode(); v.RootHash == nil && (v.Data != "" || v.Hash != "" || options != "" || err != nil) {
			return nil, &TextError{Text: "command line", Offset: int64(len(line)), Field: v.names[0],
				Err: errors.New("it is missing, with other parameters of the volume given")}
		}
	}
	return c, nil
}

// set takes one parameter if it is one of ours, and returns its canonical name.
func (c *Cmdline) set(p parameter, kernel bool) (field string, err error) {
	for _, v := range []struct {
		*Volume
		names [4]string
	}{{&c.Root, rootParameters}, {&c.Usr, usrParameters}} {
		for i, name := range v.names {
			if sameName(p.key, name) {
				if !p.hasValue || p.value == "" {
					return name, errors.New("no value")
				}
				return name, v.set(i, p.value)
			}
		}
	}
	switch {
	case !kernel:
	case sameName(p.key, createParameter):
		c.Create, err = parseCreate(p.value)
		return createParameter, err
	case sameName(p.key, waitForParameter):
		c.WaitFor = strings.Split(p.value, ",")
		return waitForParameter, checkWaitFor(c.WaitFor)
	}
	return "", nil
}

func (v *Volume) set(i int, value string) (err error) {
	switch i {
	case 0:
		if v.RootHash, err = parseHex(value); err == nil {
			err = checkRootHash(v.RootHash)
		}
	case 1:
		v.Data = value
	case 2:
		v.Hash = value
	case 3:
		v.Options, err = parseVolumeOptions(value)
	}
	return err
}

func sameName(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// A parameter is one word of a command line.
type parameter struct {
	key, value string
	hasValue   bool
	at         int
}

// splitParameters follows next_arg of the kernel (lib/cmdline.c): white space ends a
// parameter except between double quotes, which nothing escapes and which are
// taken off only around a value or a whole parameter.
func splitParameters(line string) ([]parameter, error) {
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
		if quoted {
			return nil, &TextError{Text: "command line", Offset: int64(start), Field: "parameter", Err: errors.New("a quotation has no end")}
		}
		p := parameter{key: line[start:i], at: start}
		whole := p.key[0] == '"'
		if whole {
			p.key = strings.TrimSuffix(p.key[1:], `"`)
			equals--
		}
		if equals > 0 {
			p.key, p.value, p.hasValue = p.key[:equals], p.key[equals+1:], true
			if v, ok := strings.CutPrefix(p.value, `"`); ok {
				p.value = strings.TrimSuffix(v, `"`)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// quoteParameter writes a parameter so that kernel and systemd read the same: to
// systemd single quotes are quotes too, and a backslash protects a quote.
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
