package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/uki"
)

// ukifyMore is what ukify 262 shows unasked besides the sections that the stub knows.
const ukifyMore = ".sbom"

// maxUkifyText bounds a section whose content is printed.
const maxUkifyText = 16 << 20

// ukifySection is what ukify prints of a section.
type ukifySection struct {
	Size   int64   `json:"size"` // in the file, without padding
	SHA256 string  `json:"sha256"`
	Text   *string `json:"text,omitempty"`
}

// ukifyProfile are the sections of a profile by name, in the order in which they first appear.
type ukifyProfile struct {
	names    []string
	sections map[string][]ukifySection
}

func (p *ukifyProfile) add(name string, s ukifySection) {
	if p.sections == nil {
		p.sections = make(map[string][]ukifySection)
	}
	if _, ok := p.sections[name]; !ok {
		p.names = append(p.names, name)
	}
	p.sections[name] = append(p.sections[name], s)
}

// members are the members of the JSON object.
func (p *ukifyProfile) members() (out []string, err error) {
	for _, name := range p.names {
		var value any = p.sections[name]
		// What may repeat is always an array; others are, if a profile has several of them.
		if k := sdstub.SectionOf(name); len(p.sections[name]) == 1 && (k == nil || !k.Repeats) {
			value = p.sections[name][0]
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		out = append(out, string(key)+":"+string(b))
	}
	return out, nil
}

// ukifyJSON is the object that `ukify inspect --json=pretty` of systemd 262 prints: the sections
// that all profiles share by name, and the others in _profiles.
func ukifyJSON(f *uki.File) (string, error) {
	var base ukifyProfile
	var profiles []*ukifyProfile
	type place struct{ offset, rawSize, size int64 }
	known := make(map[place]ukifySection)
	for i, s := range f.Sections() {
		k := sdstub.SectionOf(s.Name)
		text := k != nil && k.Text
		if s.Name == ".profile" {
			profiles = append(profiles, new(ukifyProfile))
		}
		if k == nil && s.Name != ukifyMore {
			continue
		}
		at := place{s.Offset, s.RawSize, s.Size}
		d, ok := known[at]
		if !ok || text {
			var err error
			if d, err = ukifyDescribe(f.SectionData(i), min(s.Size, s.RawSize), text); err != nil {
				return "", fmt.Errorf("section %s: %w", s.Name, err)
			}
			known[at] = d
		}
		to := &base
		if len(profiles) > 0 {
			to = profiles[len(profiles)-1]
		}
		if !text {
			d.Text = nil
		}
		to.add(s.Name, d)
	}
	members, err := base.members()
	if err != nil {
		return "", err
	}
	if len(profiles) > 0 {
		var list []string
		for _, p := range profiles {
			own, err := p.members()
			if err != nil {
				return "", err
			}
			list = append(list, "{"+strings.Join(own, ",")+"}")
		}
		members = append(members, `"_profiles":[`+strings.Join(list, ",")+"]")
	}
	var out bytes.Buffer
	if err := json.Indent(&out, []byte("{"+strings.Join(members, ",")+"}"), "", "    "); err != nil {
		return "", err
	}
	return out.String() + "\n", nil
}

func ukifyDescribe(data io.Reader, size int64, text bool) (d ukifySection, err error) {
	d.Size = size
	h := sha256.New()
	var content bytes.Buffer
	var to io.Writer = h
	if text {
		if size > maxUkifyText {
			return d, fmt.Errorf("%d bytes of text, more than %d", size, int64(maxUkifyText))
		}
		to = io.MultiWriter(h, &content)
	}
	if _, err := io.Copy(to, io.LimitReader(data, size)); err != nil {
		return d, err
	}
	d.SHA256 = hex.EncodeToString(h.Sum(nil))
	if text {
		s := "(not valid UTF-8)"
		if b := bytes.ReplaceAll(bytes.TrimRight(content.Bytes(), "\x00"), []byte{0}, []byte(`\0`)); utf8.Valid(b) {
			s = string(b)
		}
		d.Text = &s
	}
	return d, nil
}
