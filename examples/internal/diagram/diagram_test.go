package diagram

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// hostile is what a stranger may call something.
const hostile = `</text><script>alert(1)</script>"'&` + "\x1b[2J\u202e\u0000"

// wellFormed reads an SVG as a strict reader does, and returns the elements and the texts.
func wellFormed(t *testing.T, svg string) (elements map[string]int, texts []string) {
	t.Helper()
	elements = map[string]int{}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements, texts
		}
		require.NoError(t, err, svg)
		switch x := token.(type) {
		case xml.StartElement:
			elements[x.Name.Local]++
			for _, a := range x.Attr {
				require.False(t, strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href", "%v", x)
			}
		case xml.CharData:
			texts = append(texts, string(x))
		}
	}
}

func requireHarmless(t *testing.T, svg string) []string {
	t.Helper()
	elements, texts := wellFormed(t, svg)
	for _, name := range []string{"script", "foreignObject", "image", "a", "use"} {
		require.Zero(t, elements[name], name)
	}
	for _, name := range []string{"title", "desc", "style"} {
		require.Equal(t, 1, elements[name], name)
	}
	for _, bad := range []string{"\x1b", "\u202e", "\x00"} {
		require.NotContains(t, svg, bad)
	}
	require.Contains(t, svg, "prefers-color-scheme:dark")
	return texts
}

func image() *UKI {
	return &UKI{Name: "acme.efi", Size: 30 << 20, Groups: []Group{
		{Title: "shared by all profiles", Sections: []Section{{".text", 60 << 10, false}, {".linux", 12 << 20, true}, {".initrd", 17 << 20, true}, {".cmdline", 90, true}, {".pcrsig", 8400, false}}},
		{Title: "profile 1 reset: Factory reset", Sections: []Section{{".profile", 40, true}, {".cmdline", 20, true}}},
	}}
}

func TestUKI(t *testing.T) {
	u := image()
	texts := requireHarmless(t, u.SVG())
	for _, want := range []string{"acme.efi, 30 MiB", "kernel", "initrd", "17 MiB", "measured into PCR 11", "profile 1 reset: Factory reset", "signed PCR policies"} {
		require.Contains(t, texts, want)
	}
	require.Equal(t, `acme.efi, 30 MiB
┌─ shared by all profiles
│ .text     █·······················     60 KiB  stub
│ .linux    ████████████████········     12 MiB  kernel, PCR 11
│ .initrd   ████████████████████████     17 MiB  initrd, PCR 11
│ .cmdline  █·······················       90 B  command line, PCR 11
│ .pcrsig   █·······················    8.2 KiB  signed PCR policies
┌─ profile 1 reset: Factory reset
│ .profile  █·······················       40 B  begins a profile, PCR 11
│ .cmdline  █·······················       20 B  command line, PCR 11
`, u.String())
	require.Equal(t, u.SVG(), image().SVG())
}

// Whatever an image calls its sections, a drawing stays one, and of a size that can be shown.
func TestHostileUKI(t *testing.T) {
	u := &UKI{Name: strings.Repeat(hostile, 100), Size: 1 << 62, Groups: []Group{{Title: hostile}}}
	for i := range 5000 {
		u.Groups[0].Sections = append(u.Groups[0].Sections, Section{fmt.Sprint(hostile, i), int64(i) << 40, true})
	}
	texts := requireHarmless(t, u.SVG())
	require.Contains(t, texts, "and 4936 more sections")
	require.Less(t, len(u.SVG()), 64<<10)
	text := u.String()
	require.NotContains(t, text, "\x1b")
	require.Contains(t, text, "and 4936 more sections\n")
	empty := &UKI{Name: "empty"}
	requireHarmless(t, empty.SVG())
	require.Equal(t, "empty, 0 B\n", empty.String())
}

// plan is an upgrade of slot B.
func plan() (*upgrade.State, *upgrade.Plan) {
	slot := func(i int, state partition.SlotState, version string) *upgrade.Slot {
		return &upgrade.Slot{Slot: &partition.Slot{Index: i, State: state, Version: version}}
	}
	s := &upgrade.State{Slots: []*upgrade.Slot{slot(0, partition.SlotInstalled, "2"), slot(1, partition.SlotInstalled, "1")},
		Entries: []*upgrade.Entry{{Entry: &bootloader.Entry{Path: "EFI/Linux/acme_2.efi"}}, {Entry: &bootloader.Entry{Path: "EFI/Linux/acme_1.efi"}}}}
	p := &upgrade.Plan{Version: "3", From: "EFI/Linux/acme_2.efi", Entry: "EFI/Linux/acme_3+3.efi", Target: s.Slots[1]}
	p.Steps = []upgrade.Step{
		{Kind: upgrade.StepRemoveEntry, Target: "EFI/Linux/acme_1.efi"}, {Kind: upgrade.StepMarkPartial, Target: "slot B"},
		{Kind: upgrade.StepWriteRoot, Target: "slot B", Bytes: 64 << 20}, {Kind: upgrade.StepWriteTree, Target: "slot B", Bytes: 1 << 20},
		{Kind: upgrade.StepVerifySlot, Target: "slot B"}, {Kind: upgrade.StepActivateSlot, Target: "slot B"},
		{Kind: upgrade.StepStageUKI, Target: "EFI/Linux/acme_3.osmith-staged", Bytes: 30 << 20},
		{Kind: upgrade.StepAddEntry, Target: "EFI/Linux/acme_3.osmith-staged", To: "EFI/Linux/acme_3+3.efi"},
	}
	return s, p
}

func TestUpgrade(t *testing.T) {
	u := OfUpgrade(plan())
	require.Equal(t, `                  ESP                              slot A  slot B                         next start
before            acme_2.efi acme_1.efi            2       1                              acme_2.efi
1  remove-entry   acme_2.efi                       2       1                              acme_2.efi
2  mark-partial   acme_2.efi                       2       partial                        acme_2.efi
3  write-root     acme_2.efi                       2       root                           acme_2.efi
4  write-tree     acme_2.efi                       2       root hash tree                 acme_2.efi
5  verify-slot    acme_2.efi                       2       read back: root hash is right  acme_2.efi
6  activate-slot  acme_2.efi                       2       3                              acme_2.efi
7  stage-uki      acme_2.efi acme_3.osmith-staged  2       3                              acme_2.efi
8  add-entry      acme_2.efi acme_3+3.efi          2       3                              acme_3+3.efi
`, u.String())
	texts := requireHarmless(t, u.SVG())
	for _, want := range []string{"before", "slot B", "partial", "acme_3+3.efi", "next start", "64 MiB"} {
		require.Contains(t, texts, want)
	}

	// A step behind the new entry decides what starts, if there is one.
	s, p := plan()
	p.Steps = append(p.Steps, upgrade.Step{Kind: upgrade.StepPreferEntry, Target: "loader/loader.conf"})
	rows := OfUpgrade(s, p).Rows
	require.Equal(t, "acme_2.efi", rows[len(rows)-2].Boots)
	require.Equal(t, "acme_3+3.efi", rows[len(rows)-1].Boots)
}

func TestHostileUpgrade(t *testing.T) {
	s, p := plan()
	p.Version, p.Entry, p.Target = hostile, "EFI/Linux/"+hostile, nil
	s.Slots[0].Version = strings.Repeat(hostile, 50)
	for range 1000 {
		s.Entries = append(s.Entries, &upgrade.Entry{Entry: &bootloader.Entry{Path: hostile}})
		p.Steps = append(p.Steps, upgrade.Step{Kind: hostile, Target: hostile, Cut: hostile})
	}
	u := OfUpgrade(s, p)
	requireHarmless(t, u.SVG())
	require.Less(t, len(u.SVG()), 256<<10)
	require.NotContains(t, u.String(), "\x1b")
	requireHarmless(t, OfUpgrade(&upgrade.State{}, &upgrade.Plan{}).SVG())
}

func TestInline(t *testing.T) {
	drawing, style := Inline(image().SVG())
	require.Equal(t, styleSheet(), style)
	require.NotContains(t, drawing, "<style>")
	require.NotContains(t, drawing, `class="ground"`)
	wellFormed(t, drawing)
	im, err := partition.Plan(partition.Layout{Seed: [16]byte{1}, Size: 64 << 20, Partitions: []partition.Spec{{Type: partition.ESP, MinSize: 32 << 20}}})
	require.NoError(t, err)
	svg := partition.SVG(im.Table, im.Size)
	requireHarmless(t, svg)
	drawing, style = Inline(svg)
	require.Contains(t, style, ".gpt")
	require.NotContains(t, drawing, `class="ground"`)
	drawing, style = Inline("no document")
	require.Equal(t, "no document", drawing)
	require.Empty(t, style)
}
