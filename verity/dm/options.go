package dm

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity"
)

// VolumeOptions are the options of systemd.verity_root_options= and its sibling, which are those of
// /etc/veritytab (https://www.freedesktop.org/software/systemd/man/latest/veritytab.html). The zero
// value has no options.
type VolumeOptions struct {
	// Params are the parameters of the image. With a superblock, only HashOffset need be given,
	// because the superblock has the others; without one, DataBlocks must be given too.
	Params     verity.Params
	DataBlocks int64 // data-blocks=; 0 for all data blocks of the superblock or the device

	Corruption       Corruption // ignore-corruption, restart-on-corruption or panic-on-corruption
	IgnoreZeroBlocks bool       // ignore-zero-blocks
	CheckAtMostOnce  bool       // check-at-most-once

	FECDevice string // fec-device=: an absolute path or PARTUUID=...; "" for no error correction
	FECOffset int64  // fec-offset= in bytes
	FECRoots  int    // fec-roots=, 2 to 24; 0 for systemd's default of 2

	// RootHashSignature is the place of the PKCS #7 signature of the root hash: an absolute path,
	// "base64:" and the signature, or "auto" for the verity-sig partition.
	RootHashSignature string

	// MeasureNvPCR is tpm2-measure-nvpcr= (systemd 260); "" for the default.
	MeasureNvPCR string

	// Other holds options about when the device is set up, not how: "_netdev", "auto", "fail",
	// "noauto", "nofail", "x-initrd.attach".
	Other []string

	// Unknown holds options that systemd ignores with a warning, such as misspelt ones. It is read,
	// never written.
	Unknown []string
}

var otherOptions = []string{"_netdev", "auto", "fail", "noauto", "nofail", "x-initrd.attach"}

// check says what systemd or the kernel would refuse.
func (o VolumeOptions) check() error {
	if _, err := verity.TreeStart(o.Params); err != nil {
		return prefix.Bare(err)
	}
	switch {
	case !o.Corruption.valid():
		return fmt.Errorf("corruption: unknown reaction %d", o.Corruption)
	case o.DataBlocks < 0:
		return fmt.Errorf("data-blocks: %d", o.DataBlocks)
	case o.FECDevice == "" && (o.FECOffset != 0 || o.FECRoots != 0):
		return errors.New("fec-device= is required with the other fec- options")
	case o.FECDevice != "" && (!strings.HasPrefix(devicePath(o.FECDevice), "/") || checkVolumeDevice(o.FECDevice) != nil):
		return fmt.Errorf("fec-device: %q is not an absolute path", o.FECDevice)
	case o.FECOffset < 0 || o.FECOffset%512 != 0:
		return fmt.Errorf("fec-offset: %d is not a multiple of 512", o.FECOffset)
	}
	if err := checkFECRoots(o.FECRoots); err != nil && o.FECRoots != 0 {
		return fmt.Errorf("fec-roots: %w", err)
	}
	switch s := o.RootHashSignature; {
	case s == "" || s == "auto" || strings.HasPrefix(s, "/"):
	case strings.HasPrefix(s, "base64:"):
		if b, err := base64.StdEncoding.Strict().DecodeString(s[len("base64:"):]); err != nil || len(b) == 0 {
			return errors.New("root-hash-signature: not base64 of a signature")
		}
	default:
		return fmt.Errorf("root-hash-signature: %q: want an absolute path, base64:... or auto", s)
	}
	for i, other := range o.Other {
		if !slices.Contains(otherOptions, other) {
			return fmt.Errorf("unknown option %q", other)
		}
		if slices.Contains(o.Other[:i], other) {
			return fmt.Errorf("option %q is given twice", other)
		}
	}
	return nil
}

// encode returns the list, "" for the zero value.
func (o VolumeOptions) encode() (string, error) {
	if err := o.check(); err != nil {
		return "", err
	}
	if len(o.Unknown) > 0 {
		return "", fmt.Errorf("unknown option %q", o.Unknown[0])
	}
	var list []string
	add := func(condition bool, option string) {
		if condition {
			list = append(list, option)
		}
	}
	p := o.Params
	hash := p.Hash
	if p.UUID != ([16]byte{}) {
		// systemd 254 took uuid= for the hash: a hash= behind it puts that right
		hash = cmp.Or(p.Hash, "sha256")
	}
	add(p.NoSuperblock, "superblock=no")
	add(p.ChromeOS, "format=0")
	add(p.DataBlockSize != 0, fmt.Sprintf("data-block-size=%d", p.DataBlockSize))
	add(p.HashBlockSize != 0, fmt.Sprintf("hash-block-size=%d", p.HashBlockSize))
	add(o.DataBlocks != 0, fmt.Sprintf("data-blocks=%d", o.DataBlocks))
	add(p.HashOffset != 0, fmt.Sprintf("hash-offset=%d", p.HashOffset))
	switch {
	case len(p.Salt) > 0:
		list = append(list, "salt="+hex.EncodeToString(p.Salt))
	case p.NoSuperblock:
		list = append(list, "salt=-") // systemd takes 32 bytes of salt for granted
	}
	add(p.UUID != [16]byte{}, "uuid="+osmith.GUID(p.UUID).String())
	add(hash != "", "hash="+hash)
	add(o.Corruption != CorruptionFail, strings.ReplaceAll(corruptionArguments[o.Corruption], "_", "-"))
	add(o.IgnoreZeroBlocks, "ignore-zero-blocks")
	add(o.CheckAtMostOnce, "check-at-most-once")
	add(o.FECDevice != "", "fec-device="+o.FECDevice)
	add(o.FECOffset != 0, fmt.Sprintf("fec-offset=%d", o.FECOffset))
	add(o.FECRoots != 0, fmt.Sprintf("fec-roots=%d", o.FECRoots))
	add(o.RootHashSignature != "", "root-hash-signature="+o.RootHashSignature)
	add(o.MeasureNvPCR != "", "tpm2-measure-nvpcr="+o.MeasureNvPCR)
	list = append(list, o.Other...)
	for _, option := range list {
		if strings.ContainsAny(option, `,\`) {
			return "", fmt.Errorf("%q: a comma or a backslash cannot be written", option)
		}
	}
	return strings.Join(list, ","), nil
}

// parseVolumeOptions reads the list as systemd-veritysetup does: of an option that is given twice
// the last counts, and one that is not known is passed over.
func parseVolumeOptions(text string) (o VolumeOptions, err error) {
	if text == "-" {
		return o, nil
	}
	list, err := splitOptions(text)
	if err != nil {
		return o, err
	}
	for _, option := range list {
		name, value, hasValue := strings.Cut(option, "=")
		switch {
		case option == "":
			continue
		case !hasValue:
			err = o.setFlag(name)
		default:
			err = o.setValue(name, value)
		}
		if err == errUnknownOption {
			o.Unknown = append(o.Unknown, option)
		} else if err != nil {
			return VolumeOptions{}, fmt.Errorf("option %q: %w", name, err)
		}
	}
	if o.FECDevice == "" {
		o.FECOffset, o.FECRoots = 0, 0 // they mean nothing alone
	}
	if err := o.check(); err != nil {
		return VolumeOptions{}, err
	}
	return o, nil
}

// splitOptions cuts at commas. A backslash takes its meaning from a comma or another backslash, and
// may stand nowhere else.
func splitOptions(text string) ([]string, error) {
	list := []string{""}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ',':
			list = append(list, "")
			continue
		case c == '\\':
			if i++; i == len(text) || text[i] != ',' && text[i] != '\\' {
				return nil, fmt.Errorf("%q: a backslash with nothing to escape", text)
			}
		}
		list[len(list)-1] += text[i : i+1]
	}
	return list, nil
}

var errUnknownOption = errors.New("not known")

func (o *VolumeOptions) setFlag(name string) error {
	if c := slices.Index(corruptionArguments, strings.ReplaceAll(name, "-", "_")); c > 0 && !strings.Contains(name, "_") {
		if o.Corruption != CorruptionFail && o.Corruption != Corruption(c) {
			return errors.New("conflicts with another option of the same kind: the kernel refuses both together")
		}
		o.Corruption = Corruption(c)
		return nil
	}
	switch name {
	case "ignore-zero-blocks":
		o.IgnoreZeroBlocks = true
	case "check-at-most-once":
		o.CheckAtMostOnce = true
	default:
		if !slices.Contains(otherOptions, name) {
			return errUnknownOption
		}
		if !slices.Contains(o.Other, name) {
			o.Other = append(o.Other, name)
		}
	}
	return nil
}

func (o *VolumeOptions) setValue(name, value string) (err error) {
	p := &o.Params
	switch name {
	case "superblock":
		var has bool
		has, err = parseBoolean(value)
		p.NoSuperblock = !has
	case "format":
		if value != "0" && value != "1" {
			return fmt.Errorf("%q, want 0 or 1", value)
		}
		p.ChromeOS = value == "0"
	case "data-block-size":
		p.DataBlockSize, err = parseBlockSize(value)
	case "hash-block-size":
		p.HashBlockSize, err = parseBlockSize(value)
	case "data-blocks":
		o.DataBlocks, err = parseNumber(value)
	case "hash-offset":
		p.HashOffset, err = parseSize(value)
	case "salt":
		if p.Salt = nil; value != "-" && value != "" {
			p.Salt, err = hex.DecodeString(value)
		}
	case "uuid":
		var id osmith.GUID
		id, err = osmith.ParseGUID(value)
		p.UUID = id
	case "hash":
		p.Hash = value
	case "fec-device":
		if value == "" {
			return errors.New("no value")
		}
		o.FECDevice = value
	case "fec-offset":
		if o.FECOffset, err = parseSize(value); err == nil && o.FECOffset%512 != 0 {
			err = fmt.Errorf("%s is not a multiple of 512", value)
		}
	case "fec-roots":
		var n int64
		if n, err = parseNumber(value); err == nil {
			o.FECRoots = int(min(n, math.MaxInt32))
			err = checkFECRoots(o.FECRoots)
		}
	case "root-hash-signature":
		if value == "" {
			return errors.New("no value")
		}
		o.RootHashSignature = value
	case "tpm2-measure-nvpcr":
		o.MeasureNvPCR = value
	default:
		return errUnknownOption
	}
	return err
}

// parseSize reads bytes, or with one of the letters K, M, G or T so many times 1024 of
// them.
func parseSize(value string) (int64, error) {
	digits, shift := value, 0
	if value == "" {
		return 0, errors.New("no value")
	}
	if i := strings.IndexByte("KMGT", value[len(value)-1]); i >= 0 {
		digits, shift = value[:len(value)-1], 10*(i+1)
	}
	n, err := parseNumber(digits)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%s is too large", value)
	}
	return n << shift, nil
}

func parseBlockSize(value string) (int, error) {
	n, err := parseSize(value)
	if err == nil && (n > maxBlockSize || checkPowerOfTwo(int(n)) != nil) {
		err = fmt.Errorf("%s bytes, want a power of two from %d to %d", value, minBlockSize, maxBlockSize)
	}
	return int(n), err
}
