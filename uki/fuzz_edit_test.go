package uki_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// smallImages are seeds that have everything which is looked at.
func smallImages() [][]byte {
	sections := []petest.Section{
		{Name: ".text", Content: []byte{0xf4}, Code: true},
		{Name: ".sbat", Content: []byte("sbat,1,x,x,1,x\nsystemd-stub,1,x,x,1,x\n"), RawSize: 512},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262-1 ####")},
		{Name: ".linux", Content: []byte("kernel")},
		{Name: ".osrel", Content: []byte("ID=x\n")},
		{Name: ".cmdline", Content: []byte("ro")},
		{Name: ".dtbauto", Content: []byte{0xd0, 0x0d, 0xfe, 0xed}},
		{Name: ".hwids", Content: make([]byte, 29)},
		{Name: ".efifw", Content: []byte{0xad, 0xde, 0xed, 0xfe, 16}},
		{Name: ".profile", Content: []byte("ID=main\nTITLE='x'")},
		{Name: ".pcrsig", Content: []byte(`{"sha256":[{"tbs":""}]}`)},
		{Name: ".profile", Content: []byte("ID=other")},
		{Name: ".x", Content: []byte("x")},
	}
	var out [][]byte
	for _, n := range []int{4, 6, 9, 11, 13} {
		out = append(out, petest.Image{SizeOfHeaders: 1024, DllCharacteristics: 0x160, Sections: sections[:n]}.Bytes())
	}
	addon := append(append([]petest.Section(nil), sections[:3]...), sections[5])
	return append(out, petest.Image{SizeOfHeaders: 1024, Sections: addon}.Bytes())
}

// FuzzCheck also asks for all that can be told of an image.
func FuzzCheck(f *testing.F) {
	for _, b := range smallImages() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, open := range []func(osmith.Source) (*uki.File, error){uki.Open, uki.OpenAddon, uki.OpenProfile} {
			u, err := open(source(b))
			if (u == nil) != (err != nil) {
				t.Fatal(u, err)
			}
			if err != nil {
				continue
			}
			for _, found := range append(u.Check(), u.CheckAddon(u)...) {
				if found.Text == "" || found.Code == "" {
					t.Fatal(found)
				}
			}
			_, _ = u.KernelVersion()
			for _, p := range u.Profiles() {
				_, _ = u.ProfileOSRelease(p.Index)
				_, _ = u.ProfileCmdline(p.Index)
			}
			if tooMuch(u) {
				continue
			}
			if ms, err := u.MeasureVariants(); (ms == nil) != (err != nil) {
				t.Fatal(ms, err)
			}
		}
	})
}

// tooMuch is for images that claim megabytes of zeros, which take time and show nothing.
func tooMuch(u *uki.File) bool {
	for _, s := range u.Sections() {
		if s.Size > 1<<20 {
			return true
		}
	}
	return false
}

// FuzzEdit changes one section and adds another: the result says so, and all else is as it was.
func FuzzEdit(f *testing.F) {
	for i, b := range smallImages() {
		f.Add(b, uint8(i), "new content")
		f.Add(b, uint8(5), strings.Repeat("long content ", 100))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint8, text string) {
		u, err := uki.Open(source(b))
		if err != nil || tooMuch(u) || int(at) >= len(u.Sections()) {
			return
		}
		e := u.Edit().Strip().Lose(uki.LossPCRSignatures, uki.LossTrailingData, uki.LossSymbols, uki.LossDebugDirectory)
		if e.ReplaceAt(int(at), strings.NewReader(text)) != nil {
			return
		}
		added := e.Add(".new", -1, strings.NewReader(text)) == nil
		a, err := e.Assemble()
		if (a == nil) != (err != nil) {
			t.Fatal(a, err)
		}
		if err != nil {
			return
		}
		var out bytes.Buffer
		if _, err := a.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		g, err := uki.Open(source(out.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		content := func(u *uki.File, i int) string {
			c, err := io.ReadAll(u.SectionData(i))
			if err != nil {
				t.Fatal(err)
			}
			return string(c)
		}
		i := 0
		for n, s := range g.Sections() {
			if added && s.Name == ".new" && i < len(u.Sections()) && u.Sections()[i].Name != ".new" {
				added = false
				continue
			}
			if i >= len(u.Sections()) {
				continue
			}
			want := content(u, i)
			if i == int(at) {
				want = text
			} else if s.Name == ".pcrsig" {
				want = content(g, n) // may be blank now
			}
			if got := content(g, n); got != want {
				t.Fatalf("section %d %s: %q, want %q", n, s.Name, got, want)
			}
			i++
		}
		var streamed bytes.Buffer
		if _, err := a.WriteStream(&streamed, uki.WriteOptions{}); err == nil && !bytes.Equal(streamed.Bytes(), out.Bytes()) {
			t.Fatal("streamed otherwise than written")
		}
	})
}
