package slots

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// SteamOSConfig is a bootconf file of SteamOS, SteamOS/conf/A.conf on its first ESP: lines "key:
// value", read by the loader steamcl and written by steamos-bootconf, as
// https://github.com/randombk/steamos-teardown describes them (docs/boot.md).
type SteamOSConfig struct {
	Image string // "A"; the name of the file without .conf

	raw   []byte
	items []Variable
}

// maxBootconf bounds a file, which has some hundred bytes.
const maxBootconf = 1 << 16

// ParseSteamOSConfig reads a bootconf file. An error is a [*osmith.FormatError].
func ParseSteamOSConfig(image string, text []byte) (c *SteamOSConfig, err error) {
	defer prefix.Add("slots", &err)
	bad := func(at int, err error) (*SteamOSConfig, error) {
		return nil, &osmith.FormatError{Offset: int64(at), Field: "bootconf of image " + strconv.Quote(image), Err: err}
	}
	if len(text) > maxBootconf {
		return bad(0, fmt.Errorf("%d bytes, want %d at most", len(text), maxBootconf))
	}
	c = &SteamOSConfig{Image: image, raw: bytes.Clone(text)}
	at := 0
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		key, value, ok := strings.Cut(trimmed, ":")
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
		case !ok || strings.ContainsAny(key, " \t\x00"):
			return bad(at, errors.New("want a line KEY: VALUE"))
		default:
			c.items = append(c.items, Variable{key, strings.TrimSpace(value)})
		}
		at += len(line)
	}
	return c, nil
}

// MarshalBinary is the file as it was read.
func (c *SteamOSConfig) MarshalBinary() ([]byte, error) { return bytes.Clone(c.raw), nil }

// Get is the value of a key; false if there is none.
func (c *SteamOSConfig) Get(key string) (string, bool) {
	i := slices.IndexFunc(c.items, func(v Variable) bool { return v.Name == key })
	if i < 0 {
		return "", false
	}
	return c.items[i].Value, true
}

// number is the value of a key that is one; a key that is not there is 0. Not ok: it is there
// twice, or no number.
func (c *SteamOSConfig) number(key string) (n uint64, ok bool) {
	found := 0
	ok = true
	for _, v := range c.items {
		if v.Name == key {
			var err error
			found++
			n, err = strconv.ParseUint(v.Value, 10, 64)
			ok = err == nil
		}
	}
	return n, ok && found < 2
}

// SteamOS is the state of slots in the bootconf files of SteamOS: the image with the newest
// boot-requested-at is started, images with image-invalid only after all others, and boot-other
// passes on to the next image. boot-attempts counts starts that no system has confirmed as good;
// this package does not model what the loader does at a large number. The store is read-only in
// this package: no tool of a distribution writes it.
type SteamOS struct{ configs []*SteamOSConfig }

// NewSteamOS makes a store from the files of all images.
func NewSteamOS(configs ...*SteamOSConfig) (s *SteamOS, err error) {
	defer prefix.Add("slots", &err)
	for i, c := range configs {
		if slices.ContainsFunc(configs[:i], func(o *SteamOSConfig) bool { return o.Image == c.Image }) {
			return nil, fmt.Errorf("image %q has two bootconf files: want one", c.Image)
		}
	}
	if len(configs) == 0 {
		return nil, fmt.Errorf("no bootconf file: %w", ErrSlot)
	}
	return &SteamOS{slices.Clone(configs)}, nil
}

// Properties are documented with [Reader].
func (s *SteamOS) Properties() Properties {
	return Properties{
		Name: "bootconf of SteamOS", Evidence: EvidenceSource,
		Counts: AnswerUnknown, FallsBack: AnswerUnknown, TellsGood: AnswerNo, TellsRunning: AnswerNo, KeepsValid: AnswerYes, Torn: AnswerNo,
	}
}

// Slots are documented with [Reader].
func (s *SteamOS) Slots() (all []Slot) {
	for _, c := range s.configs {
		slot := Slot{Name: c.Image, Tries: -1, Priority: -1}
		if n, ok := c.number("image-invalid"); ok && n != 0 {
			slot.Good = AnswerNo // it is started all the same if there is no other
		}
		all = append(all, slot)
	}
	return all
}

// Boot is documented with [Reader]. It is unknown what follows a failed start.
func (s *SteamOS) Boot() (Start, Reader) {
	type image struct {
		name               string
		at, invalid, other uint64
	}
	var all []image
	for _, c := range s.configs {
		i := image{name: c.Image}
		for key, to := range map[string]*uint64{"boot-requested-at": &i.at, "image-invalid": &i.invalid, "boot-other": &i.other} {
			n, ok := c.number(key)
			if !ok {
				return Start{Reason: fmt.Sprintf("%s of image %s: want one number", key, c.Image)}, nil
			}
			*to = n
		}
		i.invalid = min(i.invalid, 1)
		all = append(all, i)
	}
	slices.SortStableFunc(all, func(a, b image) int {
		return cmp.Or(cmp.Compare(a.invalid, b.invalid), cmp.Compare(b.at, a.at))
	})
	for i, a := range all {
		if i+1 < len(all) && all[i+1].at == a.at && all[i+1].invalid == a.invalid {
			return Start{Reason: fmt.Sprintf("images %s and %s were requested at the same time", a.name, all[i+1].name)}, nil
		}
		if a.other == 0 || i+1 == len(all) {
			if a.invalid != 0 {
				return Start{Reason: "every preferred image is invalid: whether the loader starts one of them is unknown"}, nil
			}
			return Start{Outcome: OutcomeSlot, Slot: a.name, Reason: fmt.Sprintf("boot-requested-at is %d", a.at)}, nil
		}
	}
	return Start{Reason: "no image"}, nil
}
