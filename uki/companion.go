package uki

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"sort"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/newc"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// CompanionFile is a file next to a unified kernel image that the stub passes to the kernel. Names
// are plain file names.
type CompanionFile struct {
	Name    string
	Content osmith.Source
}

// Companions are the files on the partition of an image that its stub looks for: those in the
// directory IMAGE.extra.d next to it, and global ones in loader/. systemd-stub(7), "Companion
// Files".
type Companions struct {
	Credentials       []CompanionFile // IMAGE.extra.d/*.cred
	GlobalCredentials []CompanionFile // loader/credentials/*.cred
	Sysexts           []CompanionFile // IMAGE.extra.d/*.raw that are no confexts
	GlobalSysexts     []CompanionFile // loader/extensions/*.raw that are no confexts
	Confexts          []CompanionFile // IMAGE.extra.d/*.confext.raw
	GlobalConfexts    []CompanionFile // loader/extensions/*.confext.raw
	Addons            []CompanionFile // IMAGE.extra.d/*.addon.efi
	GlobalAddons      []CompanionFile // loader/addons/*.addon.efi

	// Counted says that the image has a boot counter in its name, which is not part of the name
	// IMAGE.extra.d. (For stubs before systemd 254 it is.)
	Counted bool
}

// ReadCompanions finds the companions of the image at a path of a partition, such as
// EFI/Linux/os_2+3.efi. As for the firmware, case does not matter in paths and suffixes; nor does
// the boot counter in the image's name. A missing directory has no files. Files are opened only
// when they are read.
//
// A boot with Secure Boot ignores add-ons that are not signed: remove add-ons that the firmware
// will refuse from Addons and GlobalAddons.
func ReadCompanions(esp fs.FS, image string) (_ *Companions, err error) {
	defer prefix.Add("uki", &err)
	if !fs.ValidPath(image) || image == "." {
		return nil, fmt.Errorf("companions: %q is not a path within the partition", image)
	}
	plain := withoutCounter(image)
	c := &Companions{Counted: plain != image}
	for _, d := range []struct {
		dir                                   string
		credentials, sysexts, confexts, addon *[]CompanionFile
	}{
		{plain + ".extra.d", &c.Credentials, &c.Sysexts, &c.Confexts, &c.Addons},
		{"loader/credentials", &c.GlobalCredentials, nil, nil, nil},
		{"loader/extensions", nil, &c.GlobalSysexts, &c.GlobalConfexts, nil},
		{"loader/addons", nil, nil, nil, &c.GlobalAddons},
	} {
		files, err := companionFiles(esp, d.dir)
		if err != nil {
			return nil, fmt.Errorf("companions: %w", err)
		}
		for _, f := range files {
			list := d.credentials
			switch name := strings.ToLower(f.Name); {
			case strings.HasSuffix(name, ".cred"):
			case strings.HasSuffix(name, ".confext.raw"):
				list = d.confexts
			case strings.HasSuffix(name, ".raw"):
				list = d.sysexts
			case strings.HasSuffix(name, ".addon.efi"):
				list = d.addon
			default:
				continue
			}
			if list != nil {
				*list = append(*list, f)
			}
		}
	}
	return c, nil
}

// withoutCounter removes the boot counter, "+3" or "+3-1", from a path. The stub looks for the
// first plus sign of the whole path, and a counter ends at a dot or at the end (systemd 262,
// src/boot/util.c, remove_boot_count).
func withoutCounter(image string) string {
	prefix, tail, ok := strings.Cut(image, "+")
	digits := func() bool {
		rest := strings.TrimLeft(tail, "0123456789")
		n := len(tail) - len(rest)
		tail = rest
		return n > 0
	}
	if !ok || !digits() {
		return image
	}
	if strings.HasPrefix(tail, "-") {
		if tail = tail[1:]; !digits() {
			return image
		}
	}
	if tail != "" && tail[0] != '.' {
		return image
	}
	return prefix + tail
}

// companionFiles lists the files of a directory that the stub considers, in the order in which it
// takes them.
func companionFiles(esp fs.FS, dir string) ([]CompanionFile, error) {
	found, err := findFold(esp, dir)
	if err != nil || found == "" {
		return nil, err
	}
	entries, err := fs.ReadDir(esp, found)
	if err != nil {
		return nil, err
	}
	var files []CompanionFile
	for _, e := range entries {
		if !stubTakes(e.Name()) || e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			// not on a real ESP, but in a directory that is one for a test
			if info, err = fs.Stat(esp, path.Join(found, e.Name())); err != nil {
				return nil, err
			}
		}
		if info.Mode().IsRegular() {
			files = append(files, CompanionFile{e.Name(), &fsFile{esp, path.Join(found, e.Name()), info.Size()}})
		}
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Name < files[j].Name })
	return files, nil
}

// stubTakes says whether the stub considers a file of that name: hidden files, names that are not
// ASCII and very long ones are passed over.
func stubTakes(name string) bool { return name != "" && name[0] != '.' && plainName(name) }

func plainName(name string) bool {
	return len(name) <= 255 && strings.IndexFunc(name, func(r rune) bool { return r > 0x7f }) < 0
}

// findFold finds a directory whatever the case of its name is; "" if there is none.
func findFold(esp fs.FS, dir string) (string, error) {
	at := "."
	for _, name := range strings.Split(dir, "/") {
		entries, err := fs.ReadDir(esp, at)
		if err != nil {
			return "", err
		}
		exact, folded := "", ""
		for _, e := range entries {
			switch {
			case e.Name() == name:
				exact = e.Name()
			case folded == "" && strings.EqualFold(e.Name(), name):
				folded = e.Name()
			}
		}
		if exact == "" {
			exact = folded
		}
		if exact == "" {
			return "", nil
		}
		at = path.Join(at, exact)
		if info, err := fs.Stat(esp, at); err != nil {
			return "", err
		} else if !info.IsDir() {
			return "", nil
		}
	}
	return at, nil
}

// An fsFile is a file of a directory tree that is open only while it is read.
type fsFile struct {
	tree fs.FS
	path string
	size int64
}

func (f *fsFile) Size() int64 { return f.size }

func (f *fsFile) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	file, err := f.tree.Open(f.path)
	if err != nil {
		return 0, err
	}
	n, err := readFileAt(file, b, off)
	if closeErr := file.Close(); closeErr != nil && (err == nil || err == io.EOF) {
		err = closeErr
	}
	return n, err
}

// readFileAt reads at an offset, in the best way that the file offers.
func readFileAt(file fs.File, b []byte, off int64) (int, error) {
	if r, ok := file.(io.ReaderAt); ok {
		return r.ReadAt(b, off)
	}
	if s, ok := file.(io.Seeker); ok {
		if _, err := s.Seek(off, io.SeekStart); err != nil {
			return 0, err
		}
	} else if _, err := io.CopyN(io.Discard, file, off); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(file, b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// maxEntryExtra is the size above which systemd-boot ignores a file.
const maxEntryExtra = 1536 << 20

// EntryExtras predicts what systemd-boot, since release 261, does with the files named in the
// "extra" lines of a Boot Loader Specification entry for a unified kernel image: events that it
// measures before the image starts, and an initrd, which is [Boot].Previous for the image's stub.
// files are in the order of the lines, with their plain names; previous is an initrd that was set
// up before, or nil. Credentials, *.sysext.raw and *.confext.raw are taken; other files and empty
// ones are ignored. If no file is taken, previous stays as it is. (systemd 262, src/boot/boot.c,
// load_extras.)
func EntryExtras(files []CompanionFile, previous osmith.Source) (_ *Handover, err error) {
	defer prefix.Add("uki", &err)
	kinds := []struct {
		suffix, event string
		target        *cpioTarget
		archive       *cpioWriter
	}{
		{".cred", "Entry credentials initrd", &cpioCredentials, nil},
		{".sysext.raw", "Entry system extension initrd", &cpioSysexts, nil},
		{".confext.raw", "Entry configuration extension initrd", &cpioConfexts, nil},
	}
	inode := new(uint32) // the archives count in common
	for _, f := range files {
		for i := range kinds {
			k := &kinds[i]
			if !strings.HasSuffix(strings.ToLower(f.Name), k.suffix) {
				continue
			}
			if !plainName(f.Name) || f.Content != nil && (f.Content.Size() == 0 || f.Content.Size() > maxEntryExtra) {
				break
			}
			if k.archive == nil {
				k.archive = &cpioWriter{new(view), inode}
			}
			k.archive.directories(k.target) // once more for each file
			if err := k.archive.file(k.target, f); err != nil {
				return nil, err
			}
			break
		}
	}
	h := new(Handover)
	for _, k := range kinds {
		if k.archive == nil {
			continue
		}
		k.archive.trailer()
		h.Events = append(h.Events, StubEvent{Kind: osmith.HandoverArchive, PCR: k.target.pcr, Description: k.event, Data: k.archive.view})
		if len(h.Initrds) == 0 && previous != nil && previous.Size() > 0 {
			h.Initrds = append(h.Initrds, InitrdPart{"previous initrd", previous})
		}
		h.Initrds = append(h.Initrds, InitrdPart{k.event, k.archive.view})
	}
	return h, nil
}

// A cpioTarget is a directory of the initrd into which the stub puts files that it found or made,
// and how: systemd 262, src/boot/cpio.c.
type cpioTarget struct {
	dir               string
	dirMode, fileMode uint32
	pcr               int    // 0: not measured
	event             string // description in the event log
}

var (
	cpioCredentials       = cpioTarget{".extra/credentials", 0o500, 0o400, sdstub.PCRConfig, "Credentials initrd"}
	cpioGlobalCredentials = cpioTarget{".extra/global_credentials", 0o500, 0o400, sdstub.PCRConfig, "Global credentials initrd"}
	cpioSysexts           = cpioTarget{".extra/sysext", 0o555, 0o444, sdstub.PCRSysexts, "System extension initrd"}
	cpioGlobalSysexts     = cpioTarget{".extra/global_sysext", 0o555, 0o444, sdstub.PCRSysexts, "Global system extension initrd"}
	cpioConfexts          = cpioTarget{".extra/confext", 0o555, 0o444, sdstub.PCRConfig, "Configuration extension initrd"}
	cpioGlobalConfexts    = cpioTarget{".extra/global_confext", 0o555, 0o444, sdstub.PCRConfig, "Global configuration extension initrd"}
	cpioMeta              = cpioTarget{dir: ".extra", dirMode: 0o555, fileMode: 0o444}
	cpioSecret            = cpioTarget{dir: ".extra", dirMode: 0o555, fileMode: 0o400}
)

// archive packs files into a cpio archive as the stub does: the directory with those above it, the
// files, a trailer. Nothing is read before the result is.
func (t *cpioTarget) archive(files []CompanionFile) (*view, error) {
	w := cpioWriter{view: new(view), inode: new(uint32)}
	w.directories(t)
	for _, f := range files {
		if err := w.file(t, f); err != nil {
			return nil, err
		}
	}
	w.trailer()
	return w.view, nil
}

// A cpioWriter appends to an archive. Inodes are numbered from 1.
type cpioWriter struct {
	*view
	inode *uint32
}

func (w *cpioWriter) entry(mode uint32, name string, src osmith.Source) {
	size := int64(0)
	if src != nil {
		size = src.Size()
	}
	*w.inode++
	h := cpioHeader(*w.inode, mode, uint32(size), name)
	w.add("cpio header", bytes.NewReader(h), int64(len(h)))
	w.padTo(4)
	if src != nil {
		w.add(name, src, size)
		w.padTo(4)
	}
}

func (w *cpioWriter) directories(t *cpioTarget) {
	for i, c := range t.dir {
		if c == '/' {
			w.entry(newc.Directory|0o555, t.dir[:i], nil)
		}
	}
	w.entry(newc.Directory|t.dirMode, t.dir, nil)
}

func (w *cpioWriter) file(t *cpioTarget, f CompanionFile) error {
	if f.Content == nil {
		return fmt.Errorf("companion file %q: %w", f.Name, ErrMissing)
	}
	if n := f.Content.Size(); n > math.MaxUint32 {
		return &SpaceError{"cpio archive, file " + f.Name, n, math.MaxUint32}
	}
	w.entry(newc.Regular|t.fileMode, t.dir+"/"+f.Name, f.Content)
	return nil
}

func (w *cpioWriter) trailer() {
	h := cpioHeader(0, 0, 0, newc.Trailer)
	w.add("cpio trailer", bytes.NewReader(h), int64(len(h)))
	w.padTo(4)
}

// cpioHeader is a header as the stub writes it: times and owners are zero, so that measurements are
// stable, and directories have one link.
func cpioHeader(inode, mode, size uint32, name string) []byte {
	digits := newc.Lower
	if name == newc.Trailer {
		digits = newc.Upper // a constant of the stub
	}
	return newc.Header{Inode: inode, Mode: mode, Links: 1, Size: size, Name: name}.Append(nil, digits)
}
