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

// smallStub keeps seeds small: the engine's own work grows with the size of the input.
func smallStub(sbat string) []byte {
	return petest.Image{SizeOfHeaders: 1536, DllCharacteristics: 0x160, Sections: []petest.Section{
		{Name: ".text", Content: []byte{0xf4}, Code: true},
		{Name: ".sbat", Content: []byte(sbat), RawSize: 512},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262-1 ####")},
	}}.Bytes()
}

// Whatever stub and kernel are, assembling says no or makes an image that can be opened and
// measured.
func FuzzAssemble(f *testing.F) {
	kernel := petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".text", Content: []byte(banner), Code: true}}}.Bytes()
	f.Add(smallStub("sbat,1,x,x,1,x\n"), kernel)
	f.Add(withSymbolTable(smallStub("sbat,1,x,x,1,x\n")), kernel)
	f.Add(petest.AddonStub("262-1"), gzipped(f, kernel))
	unaligned := smallStub("sbat,1,x,x,1,x\n")
	copy(row(f, unaligned, ".sdmagic")[16:], "\x29\x00") // SizeOfRawData
	f.Add(unaligned, kernel)
	f.Fuzz(func(t *testing.T, stub, kernel []byte) {
		p := uki.Profile{Profile: []byte("ID=x"), Cmdline: "debug", Initrd: []osmith.Source{strings.NewReader("i")}}
		im := uki.Image{Stub: source(stub), Linux: source(kernel), OSRelease: []byte("ID=x"), Profiles: []uki.Profile{p}}
		a, err := im.Assemble()
		if (a == nil) != (err != nil) {
			t.Fatal(a, err)
		}
		if err == nil {
			var out bytes.Buffer
			if _, err := a.WriteTo(&out); err != nil {
				t.Fatal(err)
			}
			opened, err := uki.Open(source(out.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := uki.ProfileOf(opened, 1); err != nil {
				t.Fatal(err)
			}
		}
		add := uki.Addon{Stub: source(stub), Cmdline: "x"}
		if a, err := add.Assemble(); (a == nil) != (err != nil) {
			t.Fatal(a, err)
		}
		if a, err := p.Assemble(source(stub)); (a == nil) != (err != nil) {
			t.Fatal(a, err)
		}
	})
}

func FuzzProbeUname(f *testing.F) {
	f.Add(withBanner(20))
	f.Add(gzipped(f, withBanner(20)))
	f.Add(zboot("gzip", gzipped(f, withBanner(20))))
	f.Add(setupHeader(0x200, "6.12 (x)"))
	f.Fuzz(func(t *testing.T, b []byte) {
		uname, err := uki.ProbeUname(source(b))
		if (uname == "") != (err != nil) {
			t.Fatal(uname, err)
		}
	})
}

// The merged SBAT holds each line once more, and merging it again changes nothing.
func FuzzSBAT(f *testing.F) {
	f.Add([]byte("sbat,1,SBAT Version,x,1,x\nours,1,We,x,1,x\n"))
	f.Add([]byte("ours,1,We,x,1,x\r\n\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 300 {
			return
		}
		sbat := func(im uki.Image) []byte {
			a, err := im.Assemble()
			if err != nil {
				return nil
			}
			f, err := uki.Open(a)
			if err != nil {
				t.Fatal(err)
			}
			s, _ := f.Section(".sbat")
			out, err := io.ReadAll(s)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		kernel := petest.Kernel("6.12.0")
		// no .sbat of its own
		bare := petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}}}}.Bytes()
		once := sbat(uki.Image{Stub: source(bare), Linux: source(kernel), SBAT: b})
		if once == nil {
			return
		}
		if again := sbat(uki.Image{Stub: source(bare), Linux: source(kernel), SBAT: once}); !bytes.Equal(once, again) {
			t.Fatalf("%q becomes %q", once, again)
		}
		// As the stub's own section.
		stub := petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}}, {Name: ".sbat", Content: b, RawSize: 1024}}}
		_ = sbat(uki.Image{Stub: source(stub.Bytes()), Linux: source(kernel)})
	})
}

// A profile that can be read can be carried on, and is the same when it is read again.
func FuzzProfileOf(f *testing.F) {
	for _, p := range []uki.Profile{everything(), {Profile: []byte("ID=x"), Cmdline: "c", Sections: section(".pcrpkey")}} {
		p.Linux, p.OmitUname = nil, true
		p.Uname = ""
		a, err := p.Assemble(source(smallStub("sbat,1,x,x,1,x\n")))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(written(f, a))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := uki.OpenProfile(source(b))
		if err != nil {
			return
		}
		p, err := uki.ProfileOf(u, 0)
		if err != nil {
			return
		}
		p.OmitUname = true
		p.Uname = ""
		a, err := p.Assemble(source(smallStub("sbat,1,x,x,1,x\n")))
		if err != nil {
			return
		}
		again, err := uki.OpenProfile(a)
		if err != nil {
			t.Fatal(err)
		}
		q, err := uki.ProfileOf(again, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p.Profile, q.Profile) || p.Cmdline != q.Cmdline || len(p.Sections) != len(q.Sections) || len(p.HWIDs) != len(q.HWIDs) {
			t.Fatalf("%+v\n%+v", p, q)
		}
	})
}
