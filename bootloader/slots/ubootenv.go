package slots

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// UBootScheme says how U-Boot finds the newer of two copies of its environment, by the byte after
// the checksum.
type UBootScheme uint8

// The schemes. The copies do not show which scheme they have: NOR flash has UBootActive, all other
// media UBootSerial, as in U-Boot's tools.
const (
	UBootSingle UBootScheme = iota // there is one copy, without that byte
	// a counter: each write has the next number, and 0 comes after 255
	UBootSerial
	// 1 in the copy that counts, 0 in the other, which is changed after the first was written
	UBootActive
)

// String is "single", "serial" or "active".
func (s UBootScheme) String() string {
	return name("UBootScheme", int(s), 0, "single", "serial", "active")
}

// UBootOptions say how an environment is laid out. The zero value is one copy with a little-endian
// checksum.
type UBootOptions struct {
	Scheme    UBootScheme
	BigEndian bool // the checksum has the order of bytes of the machine that runs U-Boot
}

// maxUBootEnvironment bounds a copy. Boards have 8 to 256 KiB.
const maxUBootEnvironment = 4 << 20

// UBootEnvironment is the environment of U-Boot
// (https://docs.u-boot.org/en/latest/usage/environment.html): a CRC-32, with two copies a byte that
// tells the newer one, then NAME=VALUE with a NUL behind each and one more at the end. What is not
// changed in it stays as it is, the padding too.
//
// The variables are those of U-Boot. libubootenv (fw_printenv, RAUC) reads some items in another
// way: it knows empty variables, takes blanks as part of a name, and keeps backslashes.
type UBootEnvironment struct {
	o      UBootOptions
	copies [][]byte
	valid  []bool
	active int
	items  []string
}

func (o UBootOptions) header() int {
	if o.Scheme == UBootSingle {
		return 4
	}
	return 5
}

func (o UBootOptions) order() binary.ByteOrder {
	if o.BigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// ParseUBootEnvironment reads one copy, or the two of a redundant environment in the order in which
// U-Boot has them. Each is as long as the environment is: the checksum covers all of it. If no copy
// is right the error is [ErrChecksum]: U-Boot takes its built-in environment then, as it does for a
// variable whose name is empty, which is an error too.
func ParseUBootEnvironment(o UBootOptions, copies ...[]byte) (e *UBootEnvironment, err error) {
	defer prefix.Add("slots", &err)
	want := 2
	if o.Scheme == UBootSingle {
		want = 1
	}
	if o.Scheme > UBootActive || len(copies) != want {
		return nil, fmt.Errorf("U-Boot environment: %d copies of scheme %v, want %d", len(copies), o.Scheme, want)
	}
	e = &UBootEnvironment{o: o}
	for i, c := range copies {
		if len(c) < o.header()+2 || len(c) > maxUBootEnvironment || len(c) != len(copies[0]) {
			return nil, &osmith.FormatError{Field: fmt.Sprintf("copy %d: size", i+1),
				Err: fmt.Errorf("%d bytes, want %d to %d, the same for all copies", len(c), o.header()+2, maxUBootEnvironment)}
		}
		e.copies = append(e.copies, bytes.Clone(c))
		e.valid = append(e.valid, o.order().Uint32(c) == crc32.ChecksumIEEE(c[o.header():]))
	}
	if !slices.Contains(e.valid, true) {
		return nil, &osmith.FormatError{Field: "CRC", Err: fmt.Errorf("%w: no copy is valid; U-Boot would use its built-in environment",
			ErrChecksum)}
	}
	if want == 2 && (!e.valid[0] || e.valid[1] && newer(e.copies[1][4], e.copies[0][4])) {
		e.active = 1
	}
	e.items, err = ubootItems(e.copies[e.active], o.header())
	if err != nil {
		return nil, err
	}
	return e, nil
}

// newer reports whether a copy's byte makes it come after the other. Of equal ones U-Boot takes the
// first copy.
func newer(a, b byte) bool {
	return a > b && !(a == 255 && b == 0) || a == 0 && b == 255
}

// ubootItems takes a copy apart.
func ubootItems(c []byte, at int) (items []string, err error) {
	for at < len(c) {
		n := bytes.IndexByte(c[at:], 0)
		switch {
		case n < 0:
			return nil, &osmith.FormatError{Offset: int64(at), Field: "variable", Err: errors.New("the variable does not end with a NUL")}
		case n == 0:
			return items, nil
		}
		item := string(c[at : at+n])
		if name, value := cutItem(item); name == "" && value != "" {
			return nil, &osmith.FormatError{Offset: int64(at), Field: "variable",
				Err: fmt.Errorf("%.60q has no name: U-Boot would use its built-in environment", item)}
		}
		items = append(items, item)
		at += n + 1
	}
	return nil, &osmith.FormatError{Offset: int64(at), Field: "variables", Err: errors.New("the last variable is not followed by a NUL")}
}

// cutItem takes an item apart as U-Boot does when it imports an environment: blanks before a name
// are not part of it, and an item without a value unsets the variable.
func cutItem(item string) (name, value string) {
	name, value, _ = strings.Cut(item, "=")
	return strings.TrimLeft(name, " \t"), value
}

// Copies are the copies, the bytes that were read or those of a change.
func (e *UBootEnvironment) Copies() (all [][]byte) {
	for _, c := range e.copies {
		all = append(all, bytes.Clone(c))
	}
	return all
}

// Active is the number of the copy that U-Boot takes, from 1.
func (e *UBootEnvironment) Active() int { return e.active + 1 }

// Damaged are the numbers of the copies with a wrong checksum, from 1. The next write repairs one.
func (e *UBootEnvironment) Damaged() (all []int) {
	for i, ok := range e.valid {
		if !ok {
			all = append(all, i+1)
		}
	}
	return all
}

// Variables are those of the copy that U-Boot takes, each with its last value, in the order of the
// copy. A variable whose last item has no value is unset, and left out, as by U-Boot; its items
// stay.
func (e *UBootEnvironment) Variables() (all []Variable) {
	at := map[string]int{} // index in all, plus 1
	for _, item := range e.items {
		name, value := cutItem(item)
		i := at[name]
		switch {
		case value == "" && i > 0:
			all[i-1].Name = "" // unset; no variable has an empty name
			delete(at, name)
		case value == "":
		case i > 0:
			all[i-1].Value = unescaped(value)
		default:
			all = append(all, Variable{name, unescaped(value)})
			at[name] = len(all)
		}
	}
	return slices.DeleteFunc(all, func(v Variable) bool { return v.Name == "" })
}

// Get is the value of a variable, which is never empty; false if U-Boot has no such variable.
func (e *UBootEnvironment) Get(name string) (string, bool) {
	for _, v := range e.Variables() {
		if v.Name == name {
			return v.Value, true
		}
	}
	return "", false
}

// Set works out the writes that give variables these values, with one write of the environment for
// all of them. An empty value unsets a variable. A value with a backslash is refused: U-Boot and
// libubootenv read it differently.
//
// With two copies the older one is written, so that a write that is cut off anywhere leaves the
// other one. With [UBootActive] a second write of one byte makes the copy of before the older one;
// between the two the first copy holds, which is the old state or the new one. With one copy the
// change [NeedsWhole]: what a power cut leaves of it has a wrong checksum, and U-Boot takes its
// built-in environment.
func (e *UBootEnvironment) Set(variables ...Variable) (after *UBootEnvironment, writes []Write, needs Needs, err error) {
	defer prefix.Add("slots", &err)
	items := slices.Clone(e.items)
	changed := false
	for _, v := range variables {
		if v.Name == "" || strings.ContainsAny(v.Name, " \t=\x00\\") || strings.ContainsAny(v.Value, "\x00\\") {
			return nil, nil, NeedsWhole, fmt.Errorf(`variable %q, value %q: want a name without blanks and =, and no NUL or \ in either`, v.Name, v.Value)
		}
		is := func(item string) bool {
			name, _ := cutItem(item)
			return name == v.Name
		}
		i := slices.IndexFunc(items, is)
		item := v.Name + "=" + v.Value
		switch {
		case i < 0 && v.Value == "":
			continue
		case i < 0:
			items = append(items, item)
		case slices.ContainsFunc(items[i+1:], is):
			return nil, nil, NeedsWhole, fmt.Errorf("variable %s is set twice in the environment: unset it with fw_setenv first", v.Name)
		case items[i] == item:
			continue
		case v.Value == "":
			items = slices.Delete(items, i, i+1)
		default:
			items[i] = item
		}
		changed = true
	}
	if !changed {
		return e, nil, NeedsNothing, nil
	}
	content, err := e.content(items)
	if err != nil {
		return nil, nil, NeedsWhole, err
	}
	copies, needs := e.Copies(), NeedsNothing
	if e.o.Scheme == UBootSingle {
		needs = NeedsWhole
	}
	write := func(i, at int, b []byte) {
		object := "environment"
		if len(copies) > 1 {
			object = fmt.Sprintf("copy %d", i+1)
		}
		writes = append(writes, Write{Object: object, Number: i + 1, Offset: int64(at), Before: bytes.Clone(copies[i][at : at+len(b)]), After: b})
		copy(copies[i][at:], b)
	}
	to := (e.active + 1) % len(copies)
	write(to, 0, content)
	if e.o.Scheme == UBootActive && e.valid[e.active] && copies[e.active][4] != 0 {
		write(e.active, 4, []byte{0})
	}
	if after, err = ParseUBootEnvironment(e.o, copies...); err != nil {
		return nil, nil, NeedsWhole, prefix.Bare(err)
	}
	return after, writes, needs, nil
}

// content is a copy with these variables, newer than the one that holds.
func (e *UBootEnvironment) content(items []string) ([]byte, error) {
	old, header := e.copies[e.active], e.o.header()
	c := make([]byte, header, len(old))
	for _, item := range items {
		c = append(append(c, item...), 0)
	}
	if c = append(c, 0); len(c) > len(old) {
		return nil, fmt.Errorf("environment: %w: %d bytes, want at most %d", ErrNoSpace, len(c), len(old))
	}
	pad := old[len(old)-1] // mkenvimage pads with 0xff, U-Boot with 0
	if pad != 0xff {
		pad = 0
	}
	c = append(c, bytes.Repeat([]byte{pad}, len(old)-len(c))...)
	switch e.o.Scheme {
	case UBootSerial:
		c[4] = old[4] + 1
	case UBootActive:
		c[4] = 1
	}
	e.o.order().PutUint32(c, crc32.ChecksumIEEE(c[header:]))
	return c, nil
}
