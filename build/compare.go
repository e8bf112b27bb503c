package build

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// ComparisonSchema is the value of "schema" in a comparison.
const ComparisonSchema = "osmith.comparison/1"

// Comparison says how two releases differ.
type Comparison struct {
	Schema string         `json:"schema"`
	Old    ReleaseSummary `json:"old"`
	New    ReleaseSummary `json:"new"`

	Sections []SectionChange `json:"sections"` // of the UKIs, all, in the order of the new one
	Root     *RootChange     `json:"root"`     // null if one of the two has no file system
	// of profile 0, as the kernel starts and at each point that is signed for; none if a stub is
	// not known
	PCR11 []PCRChange `json:"pcr11"`

	// Unlocks says of each key in the old UKI's .pcrsig or .pcrpkey whether the new UKI has
	// signatures by it: what was sealed to the key opens for the new version, too.
	Unlocks []KeyChange `json:"unlocks"`

	Fixes []string `json:"fixes"` // that the new release states, and the old one does not

	// boot loader, add-ons, extensions and SBOMs that are not the same
	Files []FileChange `json:"files"`
}

// ReleaseSummary is one of the two.
type ReleaseSummary struct {
	ID       string `json:"id"`
	Version  string `json:"version"`
	Size     int64  `json:"size"` // bytes of all parts
	RootHash string `json:"rootHash,omitempty"`
	// the last day of support; absent: the release does not say
	SupportedUntil release.Date `json:"supportedUntil,omitempty"`

	Stub   string `json:"stub"`   // version of systemd; "" if it does not say
	Kernel string `json:"kernel"` // `uname -r`; "" if it does not say
	// subjects of those who have signed the UKI, as they claim to be
	Signers []string `json:"signers"`
}

// ChangeKind says how a part changed.
type ChangeKind string

// The kinds of changes.
const (
	ChangeSame    ChangeKind = "same"
	ChangeChanged ChangeKind = "changed"
	ChangeAdded   ChangeKind = "added"
	ChangeRemoved ChangeKind = "removed"
)

// SectionChange is a section of the UKI, of several with one name the n-th of each.
type SectionChange struct {
	Name    string     `json:"name"`
	Kind    ChangeKind `json:"kind"`
	OldSize int64      `json:"oldSize"`
	NewSize int64      `json:"newSize"`
	// of texts that changed: "-" and "+" with a space and the line; of the command line, each
	// argument
	Lines []string `json:"lines,omitempty"`
}

// RootChange is about the file systems, by their hash trees.
type RootChange struct {
	Blocks  int64 `json:"blocks"`  // of the new one
	Changed int64 `json:"changed"` // that the old one has nowhere
	Moved   int64 `json:"moved"`   // that it has elsewhere
	Bytes   int64 `json:"bytes"`   // to be fetched by a machine with the old one, tree not counted
	// Unknown is why the trees cannot be compared, such as different salts: then all blocks are
	// taken as changed.
	Unknown string `json:"unknown,omitempty"`
}

// PCRChange is a value of PCR 11.
type PCRChange struct {
	Phase string     `json:"phase"` // "" as the kernel starts
	Kind  ChangeKind `json:"kind"`
	Old   string     `json:"old"` // SHA-256 bank, hexadecimal
	New   string     `json:"new"`
}

// KeyChange is a key that PCR policies are signed by.
type KeyChange struct {
	Fingerprint string `json:"fingerprint"` // as .pcrsig has it: SHA-256 of its public half
	// Signed says that the new UKI has a signature by this key, which was verified, for each point
	// that is signed for by default: over the value that PCR 11 will have there, in the SHA-256
	// bank.
	Signed  bool     `json:"signed"`
	Missing []string `json:"missing,omitempty"` // "sha256 enter-initrd", or why it is not known
}

// FileChange is a file beside the UKI and the file system.
type FileChange struct {
	What    string     `json:"what"` // "boot loader", "add-on", "extension", "SBOM"
	Name    string     `json:"name"`
	Kind    ChangeKind `json:"kind"`
	OldSize int64      `json:"oldSize"`
	NewSize int64      `json:"newSize"`
}

// Compare says what an upgrade from one release to another changes:
// sections of the UKI, blocks of the root file system, PCR 11, whether secrets that are sealed to
// signed policies open, and all else that is released. It reads both.
func Compare(ctx context.Context, before, next *release.Release) (c *Comparison, err error) {
	defer prefix.Add("build", &err)
	b := &comparer{ctx: ctx, c: &Comparison{Schema: ComparisonSchema, Sections: []SectionChange{}, PCR11: []PCRChange{}, Unlocks: []KeyChange{}, Fixes: []string{}, Files: []FileChange{}}}
	for i, r := range []*release.Release{before, next} {
		if err := b.read(i, r); err != nil {
			return nil, fmt.Errorf("%s release: %w", []string{"old", "new"}[i], prefix.Bare(err))
		}
	}
	b.c.Old, b.c.New = b.sides[0].summary, b.sides[1].summary
	for _, fix := range next.Fixes {
		if !slices.Contains(before.Fixes, fix) {
			b.c.Fixes = append(b.c.Fixes, fix)
		}
	}
	for _, step := range []func() error{b.sections, b.root, b.pcr11, b.files} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step(); err != nil {
			return nil, prefix.Bare(err)
		}
	}
	return b.c, nil
}

// comparer holds two releases side by side.
type comparer struct {
	ctx   context.Context
	c     *Comparison
	sides [2]side
}

type side struct {
	release  release.Release
	uki      *uki.File
	summary  ReleaseSummary
	measured []osmith.Measurement // of profile 0; nil: not known
}

func (b *comparer) read(i int, r *release.Release) (err error) {
	s := &b.sides[i]
	s.release = *r
	if err := s.release.Identify(); err != nil {
		return err
	}
	if s.uki, err = uki.Open(r.UKI); err != nil {
		return err
	}
	s.summary = ReleaseSummary{ID: s.release.ID, Version: s.release.Version, RootHash: hex.EncodeToString(s.release.RootHash), Kernel: s.uki.Uname(), Signers: []string{}}
	s.summary.SupportedUntil = s.release.SupportedUntil
	if v, err := s.uki.StubVersion(); err == nil {
		s.summary.Stub = string(v)
	}
	for _, src := range []osmith.Source{r.UKI, r.Root, r.Tree, r.RootHashSignature, r.Loader, r.PCRs} {
		if src != nil {
			s.summary.Size += src.Size()
		}
	}
	for _, f := range besides(&s.release) {
		if f.what != "boot loader" {
			s.summary.Size += f.content.Size()
		}
	}
	signatures, err := authenticode.Signatures(r.UKI)
	if err != nil && !errors.Is(err, authenticode.ErrUnsigned) {
		return err
	}
	for _, sig := range signatures {
		if sig.Signer != nil {
			s.summary.Signers = append(s.summary.Signers, sig.Signer.Subject.String())
		}
	}
	s.measured, err = s.uki.Measurements(crypto.SHA256)
	if errors.Is(err, uki.ErrUnknownStub) || errors.Is(err, uki.ErrHardwareDependent) {
		err = nil
	}
	return err
}

// What is compared by lines: texts for people, of so many bytes, with no longer line.
const (
	maxText = 64 << 10
	maxLine = 1 << 10
)

func (b *comparer) sections() error {
	type named struct {
		name string
		n    int
	}
	list := func(f *uki.File) (order []named, of map[named]int) {
		of = map[named]int{}
		count := map[string]int{}
		for i, s := range f.Sections() {
			k := named{s.Name, count[s.Name]}
			count[s.Name]++
			order, of[k] = append(order, k), i
		}
		return order, of
	}
	oldOrder, before := list(b.sides[0].uki)
	newOrder, next := list(b.sides[1].uki)
	for _, k := range oldOrder {
		if _, ok := next[k]; !ok {
			newOrder = append(newOrder, k)
		}
	}
	for _, k := range newOrder {
		ch := SectionChange{Name: k.name}
		var sums [2][]byte
		var data [2]*io.SectionReader
		for i, of := range []map[named]int{before, next} {
			n, ok := of[k]
			if !ok {
				continue
			}
			data[i] = b.sides[i].uki.SectionData(n)
			sum, err := digest(b.ctx, data[i])
			if err != nil {
				return fmt.Errorf("section %s: %w", k.name, err)
			}
			sums[i] = sum
			*[]*int64{&ch.OldSize, &ch.NewSize}[i] = data[i].Size()
		}
		ch.Kind = kindOf(sums[0], sums[1])
		if ch.Kind != ChangeSame {
			var err error
			if ch.Lines, err = textChange(k.name, data); err != nil {
				return fmt.Errorf("section %s: %w", k.name, err)
			}
		}
		b.c.Sections = append(b.c.Sections, ch)
	}
	return nil
}

// kindOf compares digests, of which nil is that of nothing.
func kindOf(before, next []byte) ChangeKind {
	switch {
	case before == nil:
		return ChangeAdded
	case next == nil:
		return ChangeRemoved
	case bytes.Equal(before, next):
		return ChangeSame
	}
	return ChangeChanged
}

// digest is the SHA-256 of a source.
func digest(ctx context.Context, src osmith.Source) ([]byte, error) {
	h := sha256.New()
	_, err := io.Copy(&interruptible{ctx, h}, io.NewSectionReader(src, 0, src.Size()))
	return h.Sum(nil), err
}

// textChange are the lines that only one of two texts has, in their order; none if one of them is
// not text.
func textChange(name string, data [2]*io.SectionReader) (out []string, err error) {
	var lines [2][]string
	for i, d := range data {
		if d == nil {
			continue
		}
		if d.Size() > maxText {
			return nil, nil
		}
		text, err := readAll(d)
		if err != nil {
			return nil, err
		}
		plain := strings.TrimRight(string(text), "\x00\n")
		if name == ".cmdline" {
			lines[i] = strings.Fields(plain)
		} else {
			lines[i] = strings.Split(plain, "\n")
		}
		if !utf8.ValidString(plain) || strings.ContainsRune(plain, 0) || slices.ContainsFunc(lines[i], func(line string) bool { return len(line) > maxLine }) {
			return nil, nil
		}
	}
	for i, sign := range []string{"- ", "+ "} {
		rest := slices.Clone(lines[1-i])
		for _, line := range lines[i] {
			if n := slices.Index(rest, line); n >= 0 {
				rest = slices.Delete(rest, n, n+1)
				continue
			}
			out = append(out, sign+line)
		}
	}
	return out, nil
}

func (b *comparer) root() error {
	before, next := &b.sides[0].release, &b.sides[1].release
	if before.Tree == nil || next.Tree == nil {
		return nil
	}
	ch := &RootChange{}
	b.c.Root = ch
	tree := func(r *release.Release) verity.Tree { return verity.Tree{Source: r.Tree, RootHash: r.RootHash} }
	d, err := verity.Diff(b.ctx, tree(before), tree(next), verity.DiffOptions{})
	if _, ok := errors.AsType[*verity.IncompatibleError](err); ok {
		ch.Unknown = prefix.Bare(err).Error()
		d, err = verity.Diff(b.ctx, verity.Tree{}, tree(next), verity.DiffOptions{})
	}
	if err != nil {
		return err
	}
	ch.Blocks, ch.Changed, ch.Moved = d.Blocks, d.Total(verity.OriginFetch), d.Total(verity.OriginMoved)
	ch.Bytes = ch.Changed * int64(d.BlockSize)
	return nil
}

func (b *comparer) pcr11() error {
	before, next := &b.sides[0], &b.sides[1]
	if before.measured == nil || next.measured == nil {
		return b.unlocks()
	}
	for _, phases := range append([][]string{nil}, tpm.DefaultPhasePaths()...) {
		var sums [2][]byte
		for i := range b.sides {
			sum, err := tpm.PCR11(crypto.SHA256, b.sides[i].measured, phases...)
			if err != nil {
				return err
			}
			sums[i] = sum
		}
		b.c.PCR11 = append(b.c.PCR11, PCRChange{strings.Join(phases, ":"), kindOf(sums[0], sums[1]), hex.EncodeToString(sums[0]), hex.EncodeToString(sums[1])})
	}
	return b.unlocks()
}

// unlocks asks of each key of the old UKI whether it has signed the new one.
func (b *comparer) unlocks() error {
	public := map[[sha256.Size]byte]*rsa.PublicKey{}
	var signed [2]policy.Signatures
	var order [][sha256.Size]byte // keys of the old UKI
	for i, which := range []string{"old", "new"} {
		key, err := publicKeyOf(b.sides[i].uki)
		if err == nil {
			signed[i], err = signaturesOf(b.sides[i].uki)
		}
		if err != nil {
			return fmt.Errorf("%s release: %w", which, err)
		}
		if key == nil {
			continue
		}
		f, err := policy.Fingerprint(key)
		if err != nil {
			return fmt.Errorf("%s release: .pcrpkey: %w", which, prefix.Bare(err))
		}
		if public[f] = key; i == 0 {
			order = append(order, f)
		}
	}
	for _, s := range signed[0] {
		if !slices.Contains(order, s.Fingerprint) {
			order = append(order, s.Fingerprint)
		}
	}
	for _, f := range order {
		ch, err := b.unlock(f, public[f], signed[1])
		if err != nil {
			return err
		}
		b.c.Unlocks = append(b.c.Unlocks, ch)
	}
	return nil
}

// unlock looks for a signature by the key at every usual point, over what PCR 11 will be.
func (b *comparer) unlock(fingerprint [sha256.Size]byte, key *rsa.PublicKey, have policy.Signatures) (KeyChange, error) {
	ch := KeyChange{Fingerprint: hex.EncodeToString(fingerprint[:])}
	measured := b.sides[1].measured
	switch {
	case measured == nil:
		ch.Missing = []string{"what PCR 11 will be is not known"}
		return ch, nil
	case key == nil:
		ch.Missing = []string{"the key is in neither UKI: no signature by it can be verified"}
		return ch, nil
	}
	for _, phases := range tpm.DefaultPhasePaths() {
		sum, err := tpm.PCR11(crypto.SHA256, measured, phases...)
		if err != nil {
			return ch, err
		}
		want, err := policy.PolicyPCR(policy.Digest{}, crypto.SHA256, map[int][]byte{tpm.PCRKernel: sum})
		if err != nil {
			return ch, err
		}
		if !slices.ContainsFunc(have, func(s policy.Signature) bool {
			return s.Fingerprint == fingerprint && s.Bank == crypto.SHA256 && s.Digest == want && s.Verify(key) == nil
		}) {
			ch.Missing = append(ch.Missing, "sha256 "+strings.Join(phases, ":"))
		}
	}
	ch.Signed = len(ch.Missing) == 0
	return ch, nil
}

// maxPCRSig is more than any .pcrsig has, in bytes.
const maxPCRSig = 16 << 20

// signaturesOf are those of profile 0, as yet unverified.
func signaturesOf(f *uki.File) (policy.Signatures, error) {
	section, ok := f.ProfileSection(0, ".pcrsig")
	if !ok {
		return nil, nil
	}
	if section.Size() > maxPCRSig {
		return nil, fmt.Errorf(".pcrsig has %d bytes, want at most %d", section.Size(), maxPCRSig)
	}
	text, err := readAll(section)
	if err != nil {
		return nil, err
	}
	list, err := policy.ParseSignatures(text)
	if err != nil {
		return nil, fmt.Errorf(".pcrsig: %w", prefix.Bare(err))
	}
	return list, nil
}

// publicKeyOf is the key in .pcrpkey; nil: there is none.
func publicKeyOf(f *uki.File) (*rsa.PublicKey, error) {
	section, ok := f.ProfileSection(0, ".pcrpkey")
	if !ok || section.Size() > maxText {
		return nil, nil
	}
	text, err := readAll(section)
	if err != nil {
		return nil, err
	}
	key, err := policy.ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf(".pcrpkey: %w", prefix.Bare(err))
	}
	return key, nil
}

// beside is a file of a release beside UKI and file system.
type beside struct {
	what, name string
	content    osmith.Source
}

func besides(r *release.Release) (list []beside) {
	if r.Loader != nil {
		list = append(list, beside{"boot loader", "", r.Loader})
	}
	for _, a := range r.Addons {
		list = append(list, beside{"add-on", a.Name, a.Content})
	}
	for _, x := range r.Extensions {
		list = append(list, beside{"extension", x.Name, x.Content})
	}
	for _, s := range r.SBOMs {
		list = append(list, beside{"SBOM", s.Name, s.Content})
	}
	return list
}

func (b *comparer) files() error {
	before, next := besides(&b.sides[0].release), besides(&b.sides[1].release)
	find := func(list []beside, f beside) *beside {
		i := slices.IndexFunc(list, func(g beside) bool { return g.what == f.what && g.name == f.name })
		if i < 0 {
			return nil
		}
		return &list[i]
	}
	for _, f := range append(slices.Clone(next), before...) {
		from, to := find(before, f), find(next, f)
		if slices.ContainsFunc(b.c.Files, func(ch FileChange) bool { return ch.What == f.what && ch.Name == f.name }) {
			continue
		}
		ch := FileChange{What: f.what, Name: f.name}
		var sums [2][]byte
		for i, g := range []*beside{from, to} {
			if g == nil {
				continue
			}
			var err error
			if sums[i], err = digest(b.ctx, g.content); err != nil {
				return fmt.Errorf("%s %s: %w", f.what, f.name, err)
			}
			*[]*int64{&ch.OldSize, &ch.NewSize}[i] = g.content.Size()
		}
		if ch.Kind = kindOf(sums[0], sums[1]); ch.Kind != ChangeSame {
			b.c.Files = append(b.c.Files, ch)
		}
	}
	return nil
}
