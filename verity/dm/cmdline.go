package dm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/kernelargs"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// A Cmdline holds the verity parameters of a kernel command line, for systemd and for the kernel
// itself (https://docs.kernel.org/admin-guide/device-mapper/dm-init.html). The zero value has no
// parameters.
type Cmdline struct {
	// Disabled is systemd.verity=0 or rd.systemd.verity=0: systemd makes no verity device, even if
	// Root and Usr are set.
	Disabled bool

	Root, Usr Volume        // roothash=, usrhash= and their parameters, for systemd
	Create    []EarlyDevice // dm-mod.create=: the kernel makes these before any initrd
	WaitFor   []string      // dm-mod.waitfor=: devices that the kernel waits for first (Linux 6.2)
}

// A Volume is a verity device that systemd makes, /dev/mapper/root or /dev/mapper/usr.
type Volume struct {
	// RootHash is roothash= or usrhash=, 16 to 64 bytes; nil if there is none, and then there is no
	// volume. It is sufficient on a disk with Discoverable Partitions, whose PARTUUIDs are the two
	// ends of the root hash.
	RootHash []byte

	// systemd.verity_root_data=, _hash=: paths or PARTUUID=...; "" for the PARTUUIDs. See Devices.
	Data, Hash string
	Options    VolumeOptions
}

// ErrNotVerified says that the system does not boot from a verified file system.
var ErrNotVerified = errors.New("the system is not verified")

// Verified returns the volumes that a system with this command line boots from and verifies: root,
// /usr, or both in this order, so at least one. The error is ErrNotVerified if there is none:
// without a root hash, with verity switched off, or with an option that lets damaged blocks
// through. Devices that the kernel makes by itself (Create) are not counted, because these
// parameters do not say which of them are mounted.
func (c *Cmdline) Verified() ([]Volume, error) {
	if c.Disabled {
		return nil, fmt.Errorf("dm: command line: %w: %s=0 switches verity off", ErrNotVerified, switchParameter)
	}
	var volumes []Volume
	for i, v := range []Volume{c.Root, c.Usr} {
		if v.RootHash == nil {
			continue
		}
		if v.Options.Corruption == CorruptionIgnore {
			return nil, fmt.Errorf("dm: command line: %w: ignore-corruption in %s= lets damaged blocks through",
				ErrNotVerified, volumeParameters[i][optionsParameter])
		}
		volumes = append(volumes, v)
	}
	if volumes == nil {
		return nil, fmt.Errorf("dm: command line: %w: neither roothash= nor usrhash= is given", ErrNotVerified)
	}
	return volumes, nil
}

// Devices returns the paths of the data device and of the hash device as systemd interprets them: a
// missing device is the partition whose PARTUUID is the first or the last half of a 32-byte root
// hash, and PARTUUID=, PARTLABEL=, UUID= and LABEL= are links of udev. Without a root hash both are
// "".
func (v Volume) Devices() (data, hash string) {
	if len(v.RootHash) < minVolumeHash {
		return "", ""
	}
	byID := func(b []byte) string { return "/dev/disk/by-partuuid/" + osmith.GUID(b).String() }
	data, hash = byID(v.RootHash[:16]), byID(v.RootHash[len(v.RootHash)-16:])
	if v.Data != "" {
		data = devicePath(v.Data)
	}
	if v.Hash != "" {
		hash = devicePath(v.Hash)
	}
	return data, hash
}

// The parameters of the two volumes, in the order in which they are written.
const (
	hashParameter = iota
	dataParameter
	treeParameter
	optionsParameter
)

var volumeParameters = [2][4]string{
	{"roothash", "systemd.verity_root_data", "systemd.verity_root_hash", "systemd.verity_root_options"},
	{"usrhash", "systemd.verity_usr_data", "systemd.verity_usr_hash", "systemd.verity_usr_options"},
}

const (
	switchParameter  = "systemd.verity"
	createParameter  = "dm-mod.create"
	waitForParameter = "dm-mod.waitfor"
)

// Root hashes that systemd can use are this long: it needs 128 bits for a PARTUUID, and no hash in
// use has more than 64 bytes.
const (
	minVolumeHash = 16
	maxVolumeHash = maxDigest
)

// ParseCmdline reads the verity parameters of a whole command line, as systemd's veritysetup
// generator reads them in an initrd, and ignores all other parameters; the package documentation
// has the rules. dm-mod.create= and dm-mod.waitfor=, which the kernel itself reads, are read by the
// kernel's rules.
//
// The error is an *osmith.FormatError for a line with which systemd fails to make a device that the
// line asks for: a root hash that is not hexadecimal, a device without a root hash, options that it
// refuses. An option that systemd ignores with a warning is not an error: an unknown option is in
// VolumeOptions.Unknown.
func ParseCmdline(line string) (*Cmdline, error) {
	c, err := parseCmdline(line)
	return c, prefix.Error("dm", err)
}

func parseCmdline(line string) (*Cmdline, error) {
	if i := strings.IndexByte(line, 0); i >= 0 {
		return nil, cmdlineError(i, "parameter", errors.New("contains a NUL byte, which a kernel command line cannot hold"))
	}
	said := readSystemd(line)
	c := &Cmdline{Disabled: said.disabled}
	for i, v := range []*Volume{&c.Root, &c.Usr} {
		at, field, err := v.read(said.volumes[i], volumeParameters[i])
		if err != nil && !c.Disabled {
			if at < 0 {
				at = len(line)
			}
			return nil, cmdlineError(at, field, err)
		}
		if err != nil {
			*v = Volume{}
		}
	}
	for _, p := range kernelargs.Kernel(line) {
		var err error
		switch {
		case kernelargs.SameName(p.Key, createParameter):
			c.Create, err = parseCreate(p.Value)
		case kernelargs.SameName(p.Key, waitForParameter):
			c.WaitFor = strings.Split(p.Value, ",")
			err = checkWaitFor(c.WaitFor)
		}
		if err != nil {
			return nil, cmdlineError(p.At, p.Key, err)
		}
	}
	return c, nil
}

func cmdlineError(at int, field string, err error) error {
	return &osmith.FormatError{Offset: int64(at), Field: "command line: " + field, Err: err}
}

// read takes what systemd keeps of the parameters of one volume. It returns, with an error, where
// it is, or -1 for something that is missing.
func (v *Volume) read(said [4]said, names [4]string) (at int, field string, err error) {
	root := said[hashParameter]
	if !root.given {
		for _, i := range []int{dataParameter, treeParameter} {
			if said[i].given {
				return -1, names[hashParameter], fmt.Errorf("missing: required with %s=", names[i])
			}
		}
		return 0, "", nil // systemd passes over options alone
	}
	if v.RootHash, err = parseVolumeHash(root.value); err != nil {
		return root.at, names[hashParameter], err
	}
	v.Data, v.Hash = said[dataParameter].value, said[treeParameter].value
	for _, i := range []int{dataParameter, treeParameter} {
		if !said[i].given {
			continue
		}
		if err := checkVolumeDevice(said[i].value); err != nil {
			return said[i].at, names[i], err
		}
	}
	if v.Options, err = parseVolumeOptions(said[optionsParameter].value); err != nil {
		return said[optionsParameter].at, names[optionsParameter], err
	}
	return 0, "", nil
}

// parseVolumeHash reads hexadecimal digits of either case, with white space between them, as
// systemd does.
func parseVolumeHash(text string) ([]byte, error) {
	b, err := hex.DecodeString(strings.Map(func(r rune) rune {
		if strings.ContainsRune(kernelargs.SystemdSpace, r) {
			return -1
		}
		return r
	}, text))
	if err != nil {
		return nil, err
	}
	return b, checkVolumeHash(b)
}

func checkVolumeHash(root []byte) error {
	if len(root) < minVolumeHash || len(root) > maxVolumeHash {
		return fmt.Errorf("root hash: %d bytes, want %d to %d", len(root), minVolumeHash, maxVolumeHash)
	}
	return nil
}

// Encode returns the parameters, separated by spaces and quoted where they must be; they can stand
// anywhere in a command line before a "--". A value that the kernel and systemd would read
// differently, or would refuse, is an error.
func (c Cmdline) Encode() (string, error) {
	text, err := c.encode()
	if err != nil {
		return "", fmt.Errorf("dm: command line: %w", err)
	}
	return text, nil
}

func (c Cmdline) encode() (string, error) {
	var words []string
	add := func(key, value string) error {
		w, err := quoteParameter(key, value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		words = append(words, w)
		return nil
	}
	if c.Disabled {
		words = append(words, switchParameter+"=0")
	}
	for i, v := range []Volume{c.Root, c.Usr} {
		names := volumeParameters[i]
		values, err := v.encode(names)
		if err != nil {
			return "", err
		}
		for i, value := range values {
			if value == "" {
				continue
			}
			if err := add(names[i], value); err != nil {
				return "", err
			}
		}
	}
	if len(c.Create) > 0 {
		value, err := encodeCreate(c.Create)
		if err != nil {
			return "", fmt.Errorf("%s: %w", createParameter, err)
		}
		if err := add(createParameter, value); err != nil {
			return "", err
		}
	}
	if len(c.WaitFor) > 0 {
		if err := checkWaitFor(c.WaitFor); err != nil {
			return "", fmt.Errorf("%s: %w", waitForParameter, err)
		}
		if err := add(waitForParameter, strings.Join(c.WaitFor, ",")); err != nil {
			return "", err
		}
	}
	return strings.Join(words, " "), nil
}

// encode returns the values of the four parameters, "" for one that is not to be written.
func (v Volume) encode(names [4]string) (values [4]string, err error) {
	options, err := v.Options.encode()
	if err != nil {
		return values, fmt.Errorf("%s: %w", names[optionsParameter], err)
	}
	if v.RootHash == nil {
		if v.Data != "" || v.Hash != "" || options != "" {
			return values, fmt.Errorf("%s is required with the other parameters of the volume", names[hashParameter])
		}
		return values, nil
	}
	if err := checkVolumeHash(v.RootHash); err != nil {
		return values, fmt.Errorf("%s: %w", names[hashParameter], err)
	}
	values = [4]string{hex.EncodeToString(v.RootHash), v.Data, v.Hash, options}
	for _, i := range []int{dataParameter, treeParameter} {
		if values[i] == "" {
			continue
		}
		if err := checkVolumeDevice(values[i]); err != nil {
			return values, fmt.Errorf("%s: %w", names[i], err)
		}
	}
	return values, nil
}

// Limits of Linux for a path (include/uapi/linux/limits.h).
const (
	maxPath = 4095
	maxName = 255
)

// checkVolumeDevice refuses what systemd cannot make the name of a unit of.
func checkVolumeDevice(device string) error {
	p := devicePath(device)
	names := strings.Split(p, "/")
	switch {
	case device == "":
		return errors.New("no value")
	case len(p) > maxPath || slices.ContainsFunc(names, func(n string) bool { return len(n) > maxName }):
		return fmt.Errorf("%d bytes, too long for a device path", len(p))
	case slices.Contains(names, "..") || path.Clean(p) == ".":
		return fmt.Errorf("%q is not a device path", device)
	}
	return nil
}

// deviceTags are the forms of a device that systemd turns into the path of udev's link.
var deviceTags = [...][2]string{{"PARTUUID=", "by-partuuid"}, {"PARTLABEL=", "by-partlabel"}, {"UUID=", "by-uuid"}, {"LABEL=", "by-label"}}

func devicePath(device string) string {
	for _, t := range deviceTags {
		if value, ok := strings.CutPrefix(device, t[0]); ok {
			if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
				value = value[1 : n-1]
			}
			return "/dev/disk/" + t[1] + "/" + encodeLink(value)
		}
	}
	return device
}

// encodeLink spells a label as udev does in the name of a link.
func encodeLink(label string) string {
	var b strings.Builder
	for len(label) > 0 {
		r, n := utf8.DecodeRuneInString(label)
		// no character of Unicode is there
		plain := n > 1 && r&0xfffe != 0xfffe && (r < 0xfdd0 || r > 0xfdef)
		if n == 1 {
			c := label[0]
			plain = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("#+-.:=@_", c) >= 0
		}
		if plain {
			b.WriteString(label[:n])
		} else {
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, label[i])
			}
		}
		label = label[n:]
	}
	return b.String()
}
