package partition

import (
	"errors"
	"fmt"
	"math/bits"
	"path"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/unitfile"
)

// Values of definition files, as systemd-repart 262 reads them (observed: what it takes and what it
// says it ignores).

// sizeValue reads a size such as 4096, 512K, 1.5G or "1G 512M": a sum of numbers, each with a
// smaller unit than the one before, to the base of 1024. Each is rounded down to bytes.
func sizeValue(value string) (int64, error) {
	const units = "EPTGMKB"
	bad := errors.New("want bytes, as in 4096, 512K, 1.5G or 1G 512M, with the units E, P, T, G, M, K and B from large to small")
	total, last := uint64(0), -1
	rest := strings.TrimLeft(value, unitfile.Space)
	if rest == "" {
		return 0, bad
	}
	for rest != "" {
		rest = strings.TrimPrefix(rest, "+")
		whole, after := digits(rest)
		if whole == "" {
			return 0, bad
		}
		fraction, rational := "", false
		if after, rational = strings.CutPrefix(after, "."); rational {
			fraction, after = digits(after)
		}
		after = strings.TrimLeft(after, unitfile.Space)
		unit := len(units) - 1
		if after != "" {
			if n := strings.IndexByte(units, after[0]); n >= 0 {
				unit, after = n, after[1:]
			}
		}
		if unit <= last {
			return 0, bad
		}
		last, rest = unit, strings.TrimLeft(after, unitfile.Space)
		n, err := scaled(whole, fraction, 10*(len(units)-1-unit))
		if err != nil {
			return 0, err
		}
		if total += n; total > largest {
			return 0, errTooLarge
		}
	}
	return int64(total), nil
}

var errTooLarge = errors.New("is too large: want at most 1E")

// scaled is a decimal number times a power of 2, rounded down.
func scaled(whole, fraction string, power int) (uint64, error) {
	n, err := strconv.ParseUint(whole, 10, 64)
	if err != nil {
		return 0, errTooLarge
	}
	hi, lo := bits.Mul64(n, 1<<power)
	if hi != 0 || lo > largest {
		return 0, errTooLarge
	}
	if fraction == "" {
		return lo, nil
	}
	if len(fraction) > 18 {
		return 0, errors.New("has more than 18 decimals")
	}
	f, err := strconv.ParseUint(fraction, 10, 64)
	if err != nil {
		return 0, err
	}
	ten := uint64(1)
	for range fraction {
		ten *= 10
	}
	fhi, flo := bits.Mul64(f, 1<<power)
	part, _ := bits.Div64(fhi, flo, ten) // f < ten, so that the quotient fits
	return lo + part, nil
}

func digits(s string) (number, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

// boundValue is a size, rounded to 4096.
func boundValue(value string, roundsUp bool) (int64, error) {
	n, err := sizeValue(value)
	switch {
	case err != nil:
		return 0, err
	case roundsUp:
		return up(n), nil
	}
	return n / grain * grain, nil
}

func signed(value string) (int32, error) {
	negative, n, err := unitfile.Integer(value)
	switch {
	case err != nil:
		return 0, err
	case n > 1<<31 || n == 1<<31 && !negative:
		return 0, errors.New("want -2147483648 to 2147483647")
	case negative:
		return int32(-int64(n)), nil
	}
	return int32(n), nil
}

func weight(value string) (uint32, error) {
	n, err := unitfile.Unsigned(value)
	if err == nil && n > 1_000_000 {
		err = errors.New("want 0 to 1000000")
	}
	return uint32(n), err
}

// powerOf2 reads a sector or block size; "" is 0.
func powerOf2(value string, most int) (int, error) {
	if value == "" {
		return 0, nil
	}
	n, err := sizeValue(value)
	if err == nil && (n < 512 || n > int64(most) || n&(n-1) != 0) {
		err = fmt.Errorf("want a power of 2 from 512 to %d", most)
	}
	return int(n), err
}

// parseID reads a GUID with or without dashes.
func parseID(s string) (osmith.GUID, error) {
	if len(s) == 32 && !strings.Contains(s, "-") {
		s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	}
	return osmith.ParseGUID(s)
}

// words splits a value at unitfile.Space, except within quotes.
func words(value string) ([]string, error) {
	if strings.Contains(value, `\`) {
		return nil, fmt.Errorf("escapes: %w", ErrRepartKey)
	}
	var out []string
	var word strings.Builder
	in, quote := false, rune(0)
	for _, r := range value {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, in = r, true
		case strings.ContainsRune(unitfile.Space, r):
			if in {
				out = append(out, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if in {
		out = append(out, word.String())
	}
	return out, nil
}

// expand replaces specifiers.
func (o *RepartOptions) expand(value string) (string, error) {
	return unitfile.Expand(value, func(letter byte) (string, error) {
		text, given := o.Specifiers[letter]
		switch {
		case given:
			return text, nil
		case letter == 'a':
			return o.local(), nil
		case strings.IndexByte(specifierLetters, letter) >= 0:
			return "", fmt.Errorf("%w: %%%c", ErrSpecifier, letter)
		}
		return "", fmt.Errorf("unknown specifier %s: want one of %s after the percent sign, or %%%%", printable("%"+string(rune(letter))), specifierLetters)
	})
}

// cleanTarget is an absolute path in the file system to be made.
func cleanTarget(p string) (string, error) {
	if !path.IsAbs(p) {
		return "", fmt.Errorf("%q: want an absolute path", printable(p))
	}
	return path.Clean(p), nil
}
