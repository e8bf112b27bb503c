package sysupdate_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing/fstest"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// machine is a root file system with the definition of a UKI.
func machine() fstest.MapFS {
	const definition = `[Transfer]
ProtectVersion=%A
Sparkle=yes

[Source]
Type=url-file
Path=https://acme.example/updates
MatchPattern=acme_@v.efi

[Target]
Type=regular-file
PathRelativeTo=esp
Path=/EFI/Linux
MatchPattern=acme_@v+@l-@d.efi acme_@v.efi
TriesLeft=3
TriesDone=0
InstancesMax=2
`
	return fstest.MapFS{
		"usr/lib/sysupdate.d/30-uki.transfer":            {Data: []byte(definition)},
		"usr/lib/sysupdate.firmware.d/10-shim.transfer":  {Data: []byte(definition)},
		"efi/EFI/Linux/acme_1.efi":                       {Data: []byte("UKI")},
		"efi/EFI/Linux/acme_2+2-1.efi":                   {Data: []byte("UKI")},
		"efi/EFI/Linux/.sysupdate.pending.acme_3.efi":    {Data: []byte("UKI")},
		"var/lib/systemd/sysupdate/installdb/" + example: {Data: []byte("/efi/EFI/Linux/./acme_@v.efi"), Mode: fs.ModeSymlink | 0o777},
	}
}

var example = sysupdate.RecordName("/efi/EFI/Linux/./acme_@v.efi")

// A name says the version and how often its UKI may still be tried, and is made of them.
func ExampleParsePattern() {
	p, err := sysupdate.ParsePattern("acme_@v+@l-@d.efi")
	if err != nil {
		panic(err)
	}
	f, ok := p.Match("acme_1.2+3-0.efi")
	fmt.Println(ok, f.Version, *f.TriesLeft, *f.TriesDone)
	*f.TriesLeft, *f.TriesDone = 2, 1
	fmt.Println(p.Format(f))
	_, err = sysupdate.ParsePattern("acme.efi")
	fmt.Println(err)
	// Output:
	// true 1.2 3 0
	// acme_1.2+2-1.efi <nil>
	// sysupdate: pattern at 0x0: no pattern: @v is missing, which says where the version is
}

// Definitions, and what systemd-sysupdate passes over in them.
func ExampleReadDefinitions() {
	d, err := sysupdate.ReadDefinitions(machine(), sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': "2"}})
	if err != nil {
		panic(err)
	}
	for _, t := range d.Transfers {
		fmt.Println(t.Name, t.Target.Type, t.Target.Base, t.Target.Path, t.Target.Patterns, t.ProtectVersions)
	}
	for _, f := range d.Findings {
		fmt.Println(f)
	}
	fmt.Println(sysupdate.Components(machine()))
	// Output:
	// 30-uki regular-file esp /EFI/Linux [acme_@v+@l-@d.efi acme_@v.efi] [2]
	// usr/lib/sysupdate.d/30-uki.transfer:3: Sparkle=yes: unknown to systemd-sysupdate 262 key in [Transfer]
	// [firmware] <nil>
}

// What is installed, and what was only fetched.
func ExampleReadState() {
	d, err := sysupdate.ReadDefinitions(machine(), sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': "2"}})
	if err != nil {
		panic(err)
	}
	esp, err := fs.Sub(machine(), "efi")
	if err != nil {
		panic(err)
	}
	s, err := sysupdate.ReadState(d, sysupdate.Places{ESP: esp})
	if err != nil {
		panic(err)
	}
	for _, v := range s.Versions {
		fmt.Println(v.Version, v.Wholeness, v.Usable(), v.Pending, v.Instances[0].Path)
	}
	// Output:
	// 3 complete false true .sysupdate.pending.acme_3.efi
	// 2 complete true false acme_2+2-1.efi
	// 1 complete true false acme_1.efi
}

// Without the definitions, all that they had would be removed, the UKI that runs as well.
func ExampleFindOrphans() {
	root := machine()
	database, err := fs.Sub(root, strings.TrimPrefix(sysupdate.InstallDatabase, "/"))
	if err != nil {
		panic(err)
	}
	records, _, err := sysupdate.ReadRecords(database, "")
	if err != nil {
		panic(err)
	}
	esp, err := fs.Sub(root, "efi")
	if err != nil {
		panic(err)
	}
	for _, left := range []bool{true, false} {
		if !left {
			delete(root, "usr/lib/sysupdate.d/30-uki.transfer")
		}
		d, err := sysupdate.ReadDefinitions(root, sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': "2"}})
		if err != nil {
			panic(err)
		}
		c, err := sysupdate.FindOrphans(d, records, sysupdate.Places{ESP: esp, ESPMount: "/efi"})
		if err != nil {
			panic(err)
		}
		for _, o := range c.Orphans {
			fmt.Println(o.Path)
		}
		fmt.Println(len(c.Orphans), len(c.Unknown))
	}
	// Output:
	// 0 0
	// /efi/EFI/Linux/acme_1.efi
	// /efi/EFI/Linux/acme_2+2-1.efi
	// 2 0
}

// Components that have records.
func ExampleRecordComponents() {
	database, err := fs.Sub(machine(), strings.TrimPrefix(sysupdate.InstallDatabase, "/"))
	if err != nil {
		panic(err)
	}
	names, err := sysupdate.RecordComponents(database)
	fmt.Printf("%q %v\n", names, err)
	// Output:
	// [""] <nil>
}

// A release that is a UKI alone, as files for a web server, with the list of them and the
// definition for the machines.
func ExampleExport() {
	parts := acmeos.StandIns() // or acmeos.FindParts
	image := uki.Image{Stub: parts.Stub, Linux: parts.Linux, OSRelease: []byte("ID=acme\nIMAGE_ID=acme\nIMAGE_VERSION=2\n")}
	a, err := image.Assemble()
	if err != nil {
		panic(err)
	}
	var unified bytes.Buffer
	if _, err := a.WriteTo(&unified); err != nil {
		panic(err)
	}
	x, err := sysupdate.Export(&release.Release{UKI: bytes.NewReader(unified.Bytes())}, sysupdate.ExportOptions{Source: "https://acme.example/updates"})
	if err != nil {
		panic(err)
	}
	m := &sysupdate.Manifest{}
	for _, f := range x.Files {
		sum := sha256.New()
		if _, err := io.Copy(sum, io.NewSectionReader(f.Content, 0, f.Content.Size())); err != nil {
			panic(err)
		}
		if err := m.Set(f.Name, [32]byte(sum.Sum(nil))); err != nil {
			panic(err)
		}
		fmt.Println(f.Name)
	}
	if _, err := m.SetBestBefore("2030-12-31"); err != nil {
		panic(err)
	}
	fmt.Println(m.Names())
	fmt.Print(x.Transfers[0].Name, "\n", x.Transfers[0].Text)
	// Output:
	// acme_2.efi
	// [BEST-BEFORE-2030-12-31 acme_2.efi]
	// 010-uki.transfer
	// # acme: made by osmith for systemd-sysupdate 262.
	// [Transfer]
	// ProtectVersion=%A
	//
	// [Source]
	// Type=url-file
	// Path=https://acme.example/updates
	// MatchPattern=acme_@v.efi
	//
	// [Target]
	// Type=regular-file
	// Path=/EFI/Linux
	// PathRelativeTo=esp
	// MatchPattern=acme_@v+@l-@d.efi \
	//     acme_@v+@l.efi \
	//     acme_@v.efi
	// Mode=0644
	// TriesLeft=3
	// TriesDone=0
	// InstancesMax=2
}

// The list of a server is read and written.
func ExampleReadManifest() {
	m, err := sysupdate.ReadManifest(strings.NewReader("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 *BEST-BEFORE-2030-12-31\n"))
	if err != nil {
		panic(err)
	}
	fmt.Println(m.BestBefore())
	if _, err := m.SetBestBefore("2031-06-30"); err != nil {
		panic(err)
	}
	if _, err := m.WriteTo(os.Stdout); err != nil {
		panic(err)
	}
	// Output:
	// 2030-12-31
	// e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 *BEST-BEFORE-2031-06-30
}
