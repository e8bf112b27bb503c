package partition

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// set follows one assignment.
func (d *definition) set(key, value string) (err error) {
	s := &d.s
	switch key {
	case "Type":
		var ok bool
		if s.Type, ok = d.o.typeFor(value); !ok {
			return errors.New("no such partition type")
		}
		d.typed = true
	case "Label":
		if s.Name, err = d.expand(value); err == nil && efi.UTF16Len(s.Name) > MaxName {
			return fmt.Errorf("has %d UTF-16 units, at most %d fit", efi.UTF16Len(s.Name), MaxName)
		}
		d.labelled = true
	case "VolumeLabel":
		d.fat.Label, err = d.expand(value)
	case "UUID":
		if s.ID, err = parseID(value); err == nil && s.ID.IsZero() {
			return fmt.Errorf("an ID of zeros is %w", ErrRepartKey)
		}
	case "Priority":
		var n int64
		n, err = strconv.ParseInt(value, 10, 32)
		s.Priority = int32(n)
	case "Weight":
		s.Weight, err = weight(value)
	case "PaddingWeight":
		s.PaddingWeight, err = weight(value)
	case "SizeMinBytes":
		s.MinSize, err = sizeValue(value, true)
		d.hasMin = true
	case "SizeMaxBytes":
		s.MaxSize, err = sizeValue(value, false)
	case "PaddingMinBytes":
		s.PaddingMin, err = sizeValue(value, true)
	case "PaddingMaxBytes":
		s.PaddingMax, err = sizeValue(value, false)
	case "CopyBlocks":
		var name string
		if name, err = d.expand(value); err == nil {
			if name == "" || name == "auto" {
				return fmt.Errorf("without a path: %w", ErrRepartKey)
			}
			s.Fill = &Fill{File: name}
		}
	case "Format":
		if value != "vfat" && value != "empty" {
			return fmt.Errorf("file system: %w", ErrRepartKey)
		}
		d.format = value
	case "CopyFiles":
		err = d.copy(value)
	case "MakeDirectories":
		err = d.directories(value)
	case "Flags":
		var n uint64
		if n, err = strconv.ParseUint(value, 0, 64); err == nil {
			d.flags = &n
		}
	case "NoAuto":
		d.noAuto, err = boolean(value)
	case "ReadOnly":
		d.readOnly, err = boolean(value)
	case "GrowFileSystem":
		d.growFS, err = boolean(value)
	case "SplitName", "FactoryReset", "MountPoint":
	case "Encrypt", "Verity", "Minimize", "Integrity":
		if value != "off" && value != "no" && value != "" {
			return ErrRepartKey
		}
	default:
		return ErrRepartKey
	}
	return err
}

// copy reads SOURCE[:TARGET].
func (d *definition) copy(value string) error {
	value, err := d.expand(value)
	if err != nil {
		return err
	}
	if strings.ContainsAny(value, `"'\`) {
		return fmt.Errorf("quotes and escapes: %w", ErrRepartKey)
	}
	source, target, ok := strings.Cut(value, ":")
	if !ok {
		target = source
	}
	if target, option, ok := strings.Cut(target, ":"); ok || target == "" && option == "" {
		return fmt.Errorf("options of a copy: %w", ErrRepartKey)
	}
	if source == "" {
		return errors.New("has no source")
	}
	if target, err = cleanTarget(target); err != nil {
		return err
	}
	d.copyFiles = true
	d.fat.Files = append(d.fat.Files, Copy{Source: source, Target: target})
	return nil
}

func (d *definition) directories(value string) error {
	value, err := d.expand(value)
	if err != nil {
		return err
	}
	for _, dir := range strings.Fields(value) {
		if dir, err = cleanTarget(dir); err != nil {
			return err
		}
		d.makeDirectories = true
		d.fat.Files = append(d.fat.Files, Copy{Target: dir})
	}
	return nil
}

// expand replaces specifiers.
func (d *definition) expand(value string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' {
			out.WriteByte(value[i])
			continue
		}
		if i++; i == len(value) {
			return "", errors.New("ends with a percent sign")
		}
		text, ok := d.o.Specifiers[value[i]]
		switch {
		case value[i] == '%':
			text = "%"
		case !ok:
			return "", fmt.Errorf("specifier %%%s is not given: %w", printable(string(rune(value[i]))), ErrRepartKey)
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

func weight(value string) (uint32, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err == nil && n > 1_000_000 {
		err = errors.New("want at most 1000000")
	}
	return uint32(n), err
}

func boolean(value string) (*bool, error) {
	var v bool
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		v = true
	case "0", "no", "n", "false", "f", "off":
	default:
		return nil, errors.New("want yes or no")
	}
	return &v, nil
}

// sizeValue reads a size such as 4096, 512K or 1.5G, to the base of 1024, and rounds it to 4096, up or down.
func sizeValue(value string, roundsUp bool) (int64, error) {
	number, unit := value, uint64(1)
	if i := strings.IndexFunc(value, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }); i >= 0 {
		const units = "BKMGTPE"
		n := strings.Index(units, value[i:])
		if n < 0 || len(value[i:]) != 1 {
			return 0, errors.New("want a number with one of the units K, M, G, T, P and E")
		}
		number, unit = value[:i], 1<<(10*n)
	}
	whole, fraction, _ := strings.Cut(number, ".")
	n, err := strconv.ParseUint(whole, 10, 64)
	if err != nil {
		return 0, errors.New("want a number of bytes")
	}
	hi, lo := bits.Mul64(n, unit)
	if hi != 0 || lo > math.MaxInt64/2 {
		return 0, errors.New("is too large")
	}
	if fraction != "" {
		if len(fraction) > 9 {
			return 0, errors.New("has more than nine decimals")
		}
		f, err := strconv.ParseUint(fraction, 10, 64)
		if err != nil {
			return 0, errors.New("want a number of bytes")
		}
		power := uint64(1)
		for range fraction {
			power *= 10
		}
		hi, part := bits.Mul64(f, unit)
		part, _ = bits.Div64(hi, part, power)
		lo += part
	}
	if lo > largest {
		return 0, errors.New("is too large")
	}
	if roundsUp {
		return up(int64(lo)), nil
	}
	return int64(lo) / grain * grain, nil
}

// parseID reads a GUID with or without dashes.
func parseID(s string) (osmith.GUID, error) {
	if len(s) == 32 && !strings.Contains(s, "-") {
		s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	}
	return osmith.ParseGUID(s)
}
