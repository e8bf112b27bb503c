package verity

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// VolumeOptions are the options of systemd.verity_root_options= and its sibling,
// which are those of /etc/veritytab
// (https://www.freedesktop.org/software/systemd/man/latest/veritytab.html). The zero
// value gives none.
type VolumeOptions struct {
	// Params are those of the image. Where there is a superblock it has them all but
	// for HashOffset, and nothing else of Params need be given; without one, DataBlocks must be
	// given too.
	Params     Params
	DataBlocks int64 // data-blocks=; 0 for all that the superblock or the device has

	Corruption       Reaction // ignore-corruption, restart-on-corruption or panic-on-corruption
	IgnoreZeroBlocks bool     // ignore-zero-blocks
	CheckAtMostOnce  bool     // check-at-most-once

	FECDevice string // fec-device=; "" for no error correction
	FECOffset int64  // fec-offset= in bytes
	FECRoots  int    // fec-roots=, 2 to 24; 0 for systemd's default of 2

	// RootHashSignature is where the PKCS #7 signature of the root hash is: an
	// absolute path, "base64:" and the signature, or "auto" for the verity-sig
	// partition.
	RootHashSignature string

	// MeasureNvPCR is tpm2-measure-nvpcr= (systemd 260); "" for the default.
	MeasureNvPCR string

	// Other holds options that say when and not how: "_netdev", "noauto", "nofail",
	// "x-initrd.attach".
	Other []string
}

var otherOptions = []string{"_netdev", "noauto", "nofail", "x-initrd.attach"}

// check says what systemd or the kernel would refuse.
func (o VolumeOptions) check() error {
	if err := o.Params.withDefaults().check(); err != nil {
		return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "verity: "))
	}
	switch {
	case o.Corruption != ReturnError && o.Corruption.argument() == "":
		return fmt.Errorf("corruption: unknown reaction %d", o.Corruption)
	case o.DataBlocks < 0:
		return fmt.Errorf("data-blocks: %d", o.DataBlocks)
	case o.FECDevice == "" && (o.FECOffset != 0 || o.FECRoots != 0):
		return errors.New("fec-device: it is missing, with other values for error correction given")
	case o.FECOffset < 0 || o.FECOffset%512 != 0:
		return fmt.Errorf("fec-offset: %d is not a multiple of 512", o.FECOffset)
	case o.FECRoots != 0 && (o.FECRoots < minFECRoots || o.FECRoots > maxFECRoots):
		return fmt.Errorf("fec-roots: %d, want %d to %d", o.FECRoots, minFECRoots, maxFECRoots)
	}
	switch s := o.RootHashSignature; {
	case s == "" || s == "auto" || strings.HasPrefix(s, "/"):
	case strings.HasPrefix(s, "base64:"):
		if b, err := base64.StdEncoding.Strict().DecodeString(s[len("base64:"):]); err != nil || len(b) == 0 {
			return errors.New("root-hash-signature: not base64 of a signature")
		}
	default:
		return fmt.Errorf("root-hash-signature: %q is no absolute path, base64:... or auto", s)
	}
	for i, other := range o.Other {
		if !slices.Contains(otherOptions, other) {
			return fmt.Errorf("option %q is not known", other)
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
	var list []string
	add := func(condition bool, option string) {
		if condition {
			list = append(list, option)
		}
	}
	p := o.Params
	hash := p.Hash
	if p.UUID != ([16]byte{}) {
		hash = p.withDefaults().Hash // systemd 254 took uuid= for the hash: a hash= behind it puts that right
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
	add(p.UUID != [16]byte{}, "uuid="+formatUUID(p.UUID))
	add(hash != "", "hash="+hash)
	add(o.Corruption != ReturnError, strings.ReplaceAll(o.Corruption.argument(), "_", "-"))
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

// parseVolumeOptions reads the list; each option may be there once.
func parseVolumeOptions(text string) (o VolumeOptions, err error) {
	seen := map[string]bool{}
	for _, option := range strings.Split(text, ",") {
		name, value, hasValue := strings.Cut(option, "=")
		kind := name
		if strings.HasSuffix(name, "-corruption") {
			kind = "corruption"
		}
		if seen[kind] {
			return VolumeOptions{}, fmt.Errorf("option %q: given twice, or with another of its kind", name)
		}
		seen[kind] = true
		if hasValue {
			if value == "" || strings.Contains(value, `\`) {
				return VolumeOptions{}, fmt.Errorf("option %q: %q is no value", name, value)
			}
			err = o.setValue(name, value)
		} else {
			err = o.setFlag(name)
		}
		if err != nil {
			return VolumeOptions{}, fmt.Errorf("option %q: %w", name, err)
		}
	}
	if err := o.check(); err != nil {
		return VolumeOptions{}, err
	}
	return o, nil
}

var errUnknownOption = errors.New("not known")

func (o *VolumeOptions) setFlag(name string) error {
	switch name {
	case "ignore-corruption":
		o.Corruption = IgnoreCorruption
	case "restart-on-corruption":
		o.Corruption = RestartOnCorruption
	case "panic-on-corruption":
		o.Corruption = PanicOnCorruption
	case "ignore-zero-blocks":
		o.IgnoreZeroBlocks = true
	case "check-at-most-once":
		o.CheckAtMostOnce = true
	default:
		if !slices.Contains(otherOptions, name) {
			return errUnknownOption
		}
		o.Other = append(o.Other, name)
	}
	return nil
}

func (o *VolumeOptions) setValue(name, value string) (err error) {
	p := &o.Params
	switch name {
	case "superblock":
		p.NoSuperblock, err = parseNo(value)
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
		if value != "-" {
			p.Salt, err = hex.DecodeString(value)
		}
	case "uuid":
		p.UUID, err = parseUUID(value)
	case "hash":
		p.Hash = value
	case "fec-device":
		o.FECDevice = value
	case "fec-offset":
		o.FECOffset, err = parseSize(value)
	case "fec-roots":
		var n int64
		n, err = parseNumber(value)
		o.FECRoots = int(min(n, math.MaxInt32))
	case "root-hash-signature":
		o.RootHashSignature = value
	case "tpm2-measure-nvpcr":
		o.MeasureNvPCR = value
	default:
		return errUnknownOption
	}
	return err
}

// parseNo reads a boolean as systemd does and returns its opposite.
func parseNo(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		return false, nil
	case "0", "no", "n", "false", "f", "off":
		return true, nil
	}
	return false, fmt.Errorf("%q is not a boolean", value)
}

// parseSize reads bytes, or with one of the letters K, M, G or T so many times 1024 of
// them.
func parseSize(value string) (int64, error) {
	digits, shift := value, 0
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
	if err == nil {
		err = checkBlockSize(n)
	}
	return int(n), err
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func parseUUID(text string) (u [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(u) {
		return u, errors.New(strconv.Quote(text) + " is not a UUID")
	}
	if u = [16]byte(b); formatUUID(u) != strings.ToLower(text) {
		return [16]byte{}, errors.New(strconv.Quote(text) + " is not a UUID")
	}
	return u, nil
}
