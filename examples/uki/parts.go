package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// partFlags are the flags for what goes into an image.
type partFlags struct {
	stub, linux, microcode, splash, deviceTree, hwids string
	initrds, deviceTrees, firmware, extra, joined     cli.List
	sbat                                              cli.List
	cmdline, osRelease, profile, uname, pcrsig        text
	joinPCRSig                                        string
	refusedKernel                                     bool
	assume                                            *int
}

func addPartFlags(set *flag.FlagSet) *partFlags {
	p := new(partFlags)
	set.StringVar(&p.linux, "linux", "", "kernel, a PE image, or one compressed with gzip, zstd or xz: `file` for .linux")
	p.addCommon(set)
	set.Var(&p.osRelease, "os-release", "`TEXT|@FILE` for .osrel, empty: none; without it no boot loader lists the image")
	set.StringVar(&p.splash, "splash", "", "`BMP` for .splash")
	set.Var(&p.firmware, "efifw", "`directory` named as the firmware, with the one file of it, for .efifw; may be repeated")
	set.Var(&p.profile, "profile", "`TEXT|@FILE` for .profile, such as ID=main; without -linux: a profile alone, to be joined to an image")
	set.StringVar(&p.joinPCRSig, "join-pcrsig", "", "image of -policy-digest to be completed by -pcrsig, in place of the parts: `file`")
	set.Var(&p.pcrsig, "pcrsig", "`TEXT|@FILE`: the policies of -policy-digest, signed")
	set.BoolVar(&p.refusedKernel, "allow-kernel-that-the-stub-refuses", false, "build an image though its stub does not start the kernel, or though that is not known")
	p.assume = addAssume(set)
	set.Var(&p.joined, "join-profile", "image of a profile to be added: `file`; may be repeated")
	return p
}

// addCommon declares the flags that add-ons have too.
func (p *partFlags) addCommon(set *flag.FlagSet) {
	set.StringVar(&p.stub, "stub", "", "systemd-stub: `file` such as linuxx64.efi.stub (default: where systemd installs it)")
	set.Var(&p.initrds, "initrd", "initrd: `file` for .initrd; repeated ones follow each other")
	set.Var(&p.cmdline, "cmdline", "kernel command line, `TEXT|@FILE` for .cmdline")
	set.Var(&p.uname, "uname", "`version` of the kernel for .uname, empty: none (default: found in the kernel)")
	set.StringVar(&p.microcode, "microcode", "", "microcode: `file` for .ucode")
	set.StringVar(&p.deviceTree, "devicetree", "", "device tree for every machine: `file` for .dtb")
	set.Var(&p.deviceTrees, "devicetree-auto", "device tree of which the stub picks one by hardware: `file` for .dtbauto; may be repeated")
	set.StringVar(&p.hwids, "hwids", "", "`directory` of ukify's hardware descriptions for .hwids")
	set.Var(&p.sbat, "sbat", "`TEXT|@FILE` to be merged into .sbat; may be repeated")
	set.Var(&p.extra, "section", "`NAME:TEXT|@FILE` for a further section; may be repeated")
}

// image opens the parts and describes the image.
func (p *partFlags) image(c *cli.Call) (*uki.Image, error) {
	if !p.osRelease.given {
		return nil, cli.Usagef("-os-release is missing: no boot loader lists an image without one (-os-release '' is none)")
	}
	im := &uki.Image{Uname: p.uname.value, OmitUname: p.uname.given && p.uname.value == "", AllowKernelThatTheStubRefuses: p.refusedKernel, AssumeStub: *p.assume}
	var err error
	read := reader{c: c, err: &err}
	im.Stub = read.source(cmp.Or(p.stub, defaultStub((*arch.Architecture).Stub)))
	im.Linux = read.kernel(p.linux)
	if !p.uname.given && err == nil {
		if im.Uname, err = unameOf(im.Linux); err != nil {
			err = cannot("-linux", err)
		}
	}
	im.Initrd = read.sources(p.initrds)
	im.Microcode = read.source(p.microcode)
	im.Splash = read.source(p.splash)
	im.DeviceTree = read.source(p.deviceTree)
	im.DeviceTreeAuto = read.sources(p.deviceTrees)
	im.Cmdline = read.words(&p.cmdline)
	im.OSRelease = read.text(&p.osRelease)
	im.Profile = read.text(&p.profile)
	im.SBAT = read.sbat(p.sbat)
	im.HWIDs = read.hwids(p.hwids)
	im.Firmware = read.firmware(p.firmware)
	im.Sections = read.sections(p.extra)
	im.Profiles = read.profiles(p.joined)
	return im, err
}

// profileAlone describes an image that holds nothing but a profile.
func (p *partFlags) profileAlone(c *cli.Call) (*uki.Profile, osmith.Source, error) {
	for _, f := range []struct {
		name  string
		given bool
	}{{"sbat", len(p.sbat) > 0}, {"join-profile", len(p.joined) > 0}} {
		if f.given {
			return nil, nil, cli.Usagef("-%s without -linux", f.name)
		}
	}
	var err error
	read := reader{c: c, err: &err}
	profile := &uki.Profile{
		Profile:        read.text(&p.profile),
		OSRelease:      read.text(&p.osRelease),
		Cmdline:        read.words(&p.cmdline),
		Uname:          p.uname.value,
		DeviceTree:     read.source(p.deviceTree),
		DeviceTreeAuto: read.sources(p.deviceTrees),
		HWIDs:          read.hwids(p.hwids),
		Splash:         read.source(p.splash),
		Initrd:         read.sources(p.initrds),
		Microcode:      read.source(p.microcode),
		Firmware:       read.firmware(p.firmware),
		Sections:       read.sections(p.extra),
	}
	return profile, read.source(cmp.Or(p.stub, defaultStub((*arch.Architecture).AddonStub))), err
}

// reader opens and reads what flags name. After the first error it does nothing more.
type reader struct {
	c   *cli.Call
	err *error
}

func (r reader) fail(err error) {
	if *r.err == nil {
		*r.err = err
	}
}

// source opens a file; no name is no part. A nil *cli.Input would be a part, so that it must not
// come out.
func (r reader) source(name string) osmith.Source {
	if name == "" || *r.err != nil {
		return nil
	}
	in, err := r.c.Open(name)
	if err != nil {
		r.fail(err)
		return nil
	}
	return in
}

func (r reader) kernel(name string) osmith.Source {
	if *r.err != nil {
		return nil
	}
	in, err := openKernel(r.c, name)
	if err != nil {
		r.fail(err)
		return nil
	}
	return in
}

func (r reader) sources(names cli.List) (out []osmith.Source) {
	for _, name := range names {
		out = append(out, r.source(name))
	}
	return out
}

func (r reader) text(t *text) []byte {
	b, err := t.bytes()
	if err != nil {
		r.fail(err)
	}
	return b
}

func (r reader) words(t *text) string {
	s, err := t.words()
	if err != nil {
		r.fail(err)
	}
	return s
}

// sbat puts texts below each other.
func (r reader) sbat(values cli.List) []byte {
	var out []byte
	for _, value := range values {
		out = append(append(out, bytes.TrimRight(r.text(&text{value: value}), "\n")...), '\n')
	}
	return out
}

func (r reader) hwids(dir string) []hwid.Record {
	if dir == "" || *r.err != nil {
		return nil
	}
	ids, err := hwid.Read(os.DirFS(dir))
	if err != nil {
		r.fail(about{"-hwids " + dir, err})
	}
	return ids
}

// firmware takes the name of a directory for the id of the firmware, as ukify does.
func (r reader) firmware(dirs cli.List) (out []uki.Firmware) {
	for _, dir := range dirs {
		found, err := os.ReadDir(dir)
		if err != nil {
			r.fail(err)
			return nil
		}
		if len(found) != 1 {
			r.fail(fmt.Errorf("-efifw %s: %d files, want one", dir, len(found)))
			return nil
		}
		path, err := filepath.Abs(dir)
		if err != nil {
			r.fail(err)
			return nil
		}
		out = append(out, uki.Firmware{ID: filepath.Base(path), Payload: r.source(filepath.Join(dir, found[0].Name()))})
	}
	return out
}

func (r reader) sections(values cli.List) (out []uki.Section) {
	for _, value := range values {
		name, content, ok := strings.Cut(value, ":")
		if !ok || name == "" {
			r.fail(cli.Usagef("-section %q: want NAME:TEXT or NAME:@FILE", value))
			return nil
		}
		var src osmith.Source = strings.NewReader(content)
		if file, isFile := strings.CutPrefix(content, "@"); isFile {
			src = r.source(file)
		}
		out = append(out, uki.Section{Name: name, Content: src})
	}
	return out
}

// profiles takes all profiles of each file: of one that holds nothing else, or of another image.
func (r reader) profiles(names cli.List) (out []uki.Profile) {
	for _, name := range names {
		src := r.source(name)
		if src == nil {
			return nil
		}
		f, err := uki.OpenProfile(src)
		if err != nil {
			r.fail(cannot("-join-profile "+name, err))
			return nil
		}
		for i := range f.Profiles() {
			p, err := uki.ProfileOf(f, i)
			if err != nil {
				r.fail(cannot("-join-profile "+name, err))
				return nil
			}
			p.PCRSignature = nil // it was made for the image that the profile comes from
			out = append(out, p)
		}
	}
	return out
}
