package uki

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// An Edit is a list of changes to an image, a profile or an add-on. The original image is not
// changed: Assemble makes a new image, which reads unchanged parts from the original.
//
// A section whose new content fits into its old place stays where it is, with zeros after the
// content. Otherwise the section and all sections after it are laid out again, as ukify would have
// done. Sections of the stub never move. A change that would silently invalidate or remove
// something listed under [Loss] is an error, a [*LossError], unless the loss is named to Lose.
//
// Profiles are counted as in [SectionInfo]: -1 are the sections shared by all. In an image without
// profiles 0 is the same as -1.
type Edit struct {
	f     *File
	rows  []row
	lose  map[Loss]bool
	strip bool
}

// A row is one section of the result.
type row struct {
	name    string
	profile int
	old     int           // index in the image, -1: there was none
	content osmith.Source // nil: as it is
}

// Edit begins to change an image.
func (f *File) Edit() *Edit {
	e := &Edit{f: f, lose: make(map[Loss]bool)}
	for i, s := range f.sections {
		e.rows = append(e.rows, row{s.Name, s.Profile, i, nil})
	}
	return e
}

// Lose allows the changes to cause the named losses. A named loss that does not occur is not an
// error.
func (e *Edit) Lose(what ...Loss) *Edit {
	for _, l := range what {
		e.lose[l] = true
	}
	return e
}

// Strip removes all Secure Boot signatures.
func (e *Edit) Strip() *Edit {
	e.strip = true
	return e.Lose(LossSignatures)
}

// Replace changes the content of a section. A profile may have several .dtbauto and .efifw
// sections: for those see ReplaceAt.
func (e *Edit) Replace(name string, profile int, content osmith.Source) (err error) {
	defer prefix.Add("uki", &err)
	n, err := e.find(name, profile)
	if err != nil {
		return err
	}
	return e.replace(n, content)
}

// ReplaceAt changes the content of the i-th of the Sections of the image.
func (e *Edit) ReplaceAt(i int, content osmith.Source) (err error) {
	defer prefix.Add("uki", &err)
	n, err := e.at(i)
	if err != nil {
		return err
	}
	return e.replace(n, content)
}

func (e *Edit) replace(n int, content osmith.Source) error {
	r := e.rows[n]
	if r.old >= 0 && r.old < e.f.firstPayload() && r.name != ".sbat" {
		return editError(r.name, "belongs to the stub, which is not changed")
	}
	if err := e.checkContent(r.name, content); err != nil {
		return err
	}
	e.rows[n].content = content
	return nil
}

// Remove removes a section. A .profile can be removed only with its whole profile: see
// RemoveProfile.
func (e *Edit) Remove(name string, profile int) (err error) {
	defer prefix.Add("uki", &err)
	n, err := e.find(name, profile)
	if err != nil {
		return err
	}
	return e.remove(n)
}

// RemoveAt removes the i-th of the Sections of the image.
func (e *Edit) RemoveAt(i int) (err error) {
	defer prefix.Add("uki", &err)
	n, err := e.at(i)
	if err != nil {
		return err
	}
	return e.remove(n)
}

func (e *Edit) remove(n int) error {
	r := e.rows[n]
	switch {
	case r.old >= 0 && r.old < e.f.firstPayload():
		return editError(r.name, "belongs to the stub, which is not changed")
	case r.name == ".profile":
		return editError(r.name, "begins profile %d: remove the whole profile instead", r.profile)
	}
	e.rows = append(e.rows[:n:n], e.rows[n+1:]...)
	return nil
}

// Add puts a section at the end of the shared ones or of a profile, but before its .pcrsig, so that
// the .pcrsig still comes after all sections that it covers.
func (e *Edit) Add(name string, profile int, content osmith.Source) (err error) {
	defer prefix.Add("uki", &err)
	profile = e.normal(profile)
	if err := checkName(name); err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	if err := e.checkContent(name, content); err != nil {
		return err
	}
	if name == ".profile" {
		return editError(name, "begins a profile: see AddProfile")
	}
	at, found := len(e.rows), profile < 0
	for n, r := range e.rows {
		if r.profile == profile {
			found = true
			if k := sdstub.SectionOf(name); r.name == name && (k == nil || !k.Repeats) {
				return editError(name, "is there already: see Replace")
			}
			if r.name == ".pcrsig" && name != ".pcrsig" {
				at = min(at, n)
			}
		}
		if r.profile > profile {
			at = min(at, n)
		}
		if r.old >= 0 && r.old < e.f.firstPayload() && r.name == name {
			return editError(name, "belongs to the stub")
		}
	}
	if !found {
		return editError(name, "profile %d: the image has %d", profile, e.profiles())
	}
	e.rows = append(e.rows[:at:at], append([]row{{name, profile, -1, content}}, e.rows[at:]...)...)
	return nil
}

// AddProfile appends a profile and returns its index. Its text has the fields ID and TITLE. The
// first profile of an image is number 0, the default.
func (e *Edit) AddProfile(text []byte, sections ...Section) (_ int, err error) {
	defer prefix.Add("uki", &err)
	if len(text) == 0 {
		return 0, editError(".profile", "%w", ErrMissing)
	}
	n := e.profiles()
	before := e.rows
	e.rows = append(e.rows[:len(e.rows):len(e.rows)], row{".profile", n, -1, bytes.NewReader(text)})
	for _, s := range sections {
		if err := e.Add(s.Name, n, s.Content); err != nil {
			e.rows = before
			return 0, err
		}
	}
	return n, nil
}

// RemoveProfile removes a profile with all its sections; the profiles after it are renumbered.
func (e *Edit) RemoveProfile(profile int) (err error) {
	defer prefix.Add("uki", &err)
	if profile < 0 || profile >= e.profiles() {
		return editError(".profile", "profile %d: the image has %d", profile, e.profiles())
	}
	var rows []row
	for _, r := range e.rows {
		if r.profile == profile {
			continue
		}
		if r.profile > profile {
			r.profile--
		}
		rows = append(rows, r)
	}
	e.rows = rows
	return nil
}

// JoinPCRSignature puts a signature, the JSON text of a .pcrsig, into the space reserved for it:
// the section that counts in that profile, its own or the shared one. The section becomes as long
// as the text, with zeros after it, as with ukify build --join-pcrsig=; a text of more bytes than
// the section has in the file is a [*SpaceError].
func (e *Edit) JoinPCRSignature(profile int, signature []byte) (err error) {
	defer prefix.Add("uki", &err)
	n, err := e.find(".pcrsig", profile)
	if errors.Is(err, ErrMissing) && profile >= 0 && profile < max(e.profiles(), 1) {
		n, err = e.find(".pcrsig", -1)
	}
	if err != nil {
		return err
	}
	room := int64(math.MaxInt64)
	if old := e.rows[n].old; old >= 0 {
		room = e.f.room(old)
	}
	if int64(len(signature)) > room {
		return &SpaceError{fmt.Sprintf("section .pcrsig of profile %d", profile), int64(len(signature)), room}
	}
	return e.replace(n, bytes.NewReader(signature))
}

func (e *Edit) profiles() int {
	n := 0
	for _, r := range e.rows {
		n = max(n, r.profile+1)
	}
	return n
}

// normal is the profile that sections of an image without profiles are counted in.
func (e *Edit) normal(profile int) int {
	if profile == 0 && e.profiles() == 0 {
		return -1
	}
	return profile
}

// find is the only section of that name in a profile.
func (e *Edit) find(name string, profile int) (int, error) {
	profile = e.normal(profile)
	found := -1
	for n, r := range e.rows {
		if r.name != name || r.profile != profile {
			continue
		}
		if found >= 0 {
			return 0, editError(name, "profile %d has several: name one by its place in the image", profile)
		}
		found = n
	}
	if found < 0 {
		return 0, editError(name, "profile %d: %w", profile, ErrMissing)
	}
	return found, nil
}

func (e *Edit) at(i int) (int, error) {
	for n, r := range e.rows {
		if r.old == i && i >= 0 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("edit: section number %d: %w", i, ErrMissing)
}

// checkContent checks a kernel, of which the image's own headers depend; all else is the stub's
// business.
func (e *Edit) checkContent(name string, content osmith.Source) error {
	if content == nil {
		return editError(name, "%w", ErrMissing)
	}
	if content.Size() == 0 {
		return editError(name, "empty, which the stub treats as absent: remove the section instead")
	}
	if name != ".linux" {
		return nil
	}
	p, err := pe.Parse(content, content.Size())
	if err != nil {
		return editError(name, "%w", formatError(err).Err)
	}
	if !sameArchitecture(e.f.pe.Machine, p.Machine) {
		return editError(name, "machine type %#04x, the image's is %#04x", p.Machine, e.f.pe.Machine)
	}
	return nil
}

func editError(section, format string, args ...any) error {
	return fmt.Errorf("edit: section %s: %w", section, fmt.Errorf(format, args...))
}

// A Loss is a property of an image that a change can invalidate or remove.
type Loss int

// The losses that [Edit.Lose] can allow.
const (
	// LossSignatures: the Secure Boot signatures, which cover all bytes.
	LossSignatures Loss = iota + 1
	// LossPCRSignatures: each .pcrsig whose policies no longer match, because a section that it
	// covers changes, and the .pcrsig is not replaced in the same edit. The section stays, blank,
	// as space for a new signature.
	LossPCRSignatures
	// LossTrailingData: bytes after the last section that belong to no section, if sections have to
	// move.
	LossTrailingData
	// LossSymbols: the COFF symbol table, if it lies where sections have to move.
	LossSymbols
	// LossDebugDirectory: the debug directory, if what it points to has to move.
	LossDebugDirectory
	// LossStart: the certainty that the stub starts the kernel, if the stub refuses a new kernel or
	// it is unknown whether it does ([KernelError]).
	LossStart
)

var lossNames = map[Loss]string{
	LossSignatures:     "its Secure Boot signatures (LossSignatures)",
	LossPCRSignatures:  "PCR signatures for what it contained before (LossPCRSignatures)",
	LossTrailingData:   "the data behind its last section (LossTrailingData)",
	LossSymbols:        "its COFF symbol table (LossSymbols)",
	LossDebugDirectory: "its debug directory (LossDebugDirectory)",
	LossStart:          "a kernel that its stub starts (LossStart)",
}

func (l Loss) String() string {
	if s, ok := lossNames[l]; ok {
		return s
	}
	return fmt.Sprintf("loss %d", int(l))
}

// LossError is returned for an [Edit] that would cause a loss which [Edit.Lose] does not allow.
type LossError struct {
	Losses []Loss       // all of them, in the order of the constants
	Kernel *KernelError // with LossStart: why the stub does not start the kernel
}

// Unwrap returns Kernel.
func (e *LossError) Unwrap() error {
	if e.Kernel == nil {
		return nil
	}
	return e.Kernel
}

func (e *LossError) Error() string {
	var names []string
	for _, l := range e.Losses {
		names = append(names, l.String())
	}
	text := "edit: the image would lose " + strings.Join(names, ", ") + ": Edit.Lose allows that"
	if e.Kernel != nil {
		text += "; " + e.Kernel.Error()
	}
	return text
}
