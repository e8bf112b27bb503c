package sysupdate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// ExportOptions say where the machines are that a release is exported for. The zero value is a disk
// as package upgrade writes it: slots of root, hash tree and, if the release has one, signature,
// and UKIs on the ESP.
type ExportOptions struct {
	// SourceType and Source are where machines find the files: [URLFile] (also "") and the address
	// of the directory, or [RegularFile] and its path there. Only [Exported.Transfers] needs them.
	SourceType ResourceType
	Source     string
	// Unsigned definitions take manifests without a signature (Verify=no): for tests.
	Unsigned bool

	Disk string // Path= of the partitions; "": "auto", the disk with the root file system
	Boot Base   // of UKIs: BaseESP (also ""), BaseXBOOTLDR or BaseBoot
	// DataType is the type of the partitions for the root file system. Zero: that of root or usr,
	// as the UKI's command line has roothash= or usrhash=, of the release's architecture.
	DataType osmith.GUID

	Tries        uint64 // that a new UKI has; 0: 3
	InstancesMax uint64 // 0: 2
	// SignatureSize is the size of the partition for the signature of the root hash; 0: 16384. The
	// file has it, too, so that nothing of an earlier signature stays behind it.
	SignatureSize int64
}

// Exported is a release as systemd-sysupdate takes it.
type Exported struct {
	// Files are what belongs into a directory, or onto a web server, beside SHA256SUMS.
	Files []ExportedFile
	// Transfers are the definitions for the machines. They are the same for every version of a
	// system, as long as the parts are the same.
	Transfers []Definition
	// Left are the parts of the release that systemd-sysupdate has no place for, as media types.
	Left []string
}

// ExportedFile is one file of a release.
type ExportedFile struct {
	Name    string
	Content osmith.Source
	Pattern *Pattern // of files of other versions
}

// Definition is a file for sysupdate.d.
type Definition struct{ Name, Text string }

// Export makes files and definitions of a release, by which systemd-sysupdate 262 installs it into
// the slots of a disk, as package upgrade does: labels ID_VERSION, ID_VERSION_verity and
// ID_VERSION_verity_sig, partition IDs by the root hash, read-only, and a UKI ID_VERSION+3-0.efi
// with its add-ons and extensions beside it, which is put into place last. Nothing is copied: the
// contents are those of the release.
//
// It is an error if systemd-sysupdate would read a different version, or could not write
// the label.
func Export(r *release.Release, o ExportOptions) (x *Exported, err error) {
	defer prefix.Add("sysupdate", &err)
	e := &exporter{o: o, r: *r, x: &Exported{}}
	if err := e.prepare(); err != nil {
		return nil, err
	}
	if err := e.parts(); err != nil {
		return nil, err
	}
	return e.x, nil
}

// maxParts is how many transfers there may be: their names have three digits, by which they are
// sorted.
const maxParts = 99

// exporter makes one of each part.
type exporter struct {
	o     ExportOptions
	r     release.Release
	x     *Exported
	types [3]osmith.GUID // data, hash tree, signature
	step  int
}

func (e *exporter) prepare() error {
	if err := e.r.Identify(); err != nil {
		return err
	}
	o := &e.o
	o.SourceType, o.Disk, o.Boot = cmp.Or(o.SourceType, URLFile), cmp.Or(o.Disk, "auto"), cmp.Or(o.Boot, BaseESP)
	o.Tries, o.InstancesMax, o.SignatureSize = cmp.Or(o.Tries, 3), cmp.Or(o.InstancesMax, least), cmp.Or(o.SignatureSize, 16384)
	switch {
	case !ValidVersion(e.r.Version):
		return fmt.Errorf("version %q: systemd-sysupdate takes letters, digits and . _ + - ~ ^", e.r.Version)
	case e.r.ID == "" || strings.ContainsAny(e.r.ID, "/*?[]@%\\\"' \t"):
		return fmt.Errorf("ID %q: would be misread in a file name", e.r.ID)
	case o.SourceType != URLFile && o.SourceType != RegularFile:
		return fmt.Errorf("source type %q: want %s or %s", o.SourceType, URLFile, RegularFile)
	case o.Source != "" && (o.SourceType == URLFile && !isURL(o.Source, sourceSchemes) || o.SourceType == RegularFile && !isAbsolute(o.Source)):
		return fmt.Errorf("source %q: want the address of a directory for %s, or an absolute path for %s", o.Source, URLFile, RegularFile)
	case strings.ContainsAny(o.Source+o.Disk, "%\\\n\r"):
		return fmt.Errorf("source %q, disk %q: want neither %%, backslashes nor line feeds", o.Source, o.Disk)
	case o.Disk != "auto" && !isAbsolute(o.Disk):
		return fmt.Errorf("disk %q: want auto or an absolute path", o.Disk)
	case !onVolume(o.Boot):
		return fmt.Errorf("UKIs on %q: want %s, %s or %s", o.Boot, BaseESP, BaseXBOOTLDR, BaseBoot)
	case o.InstancesMax < least:
		return fmt.Errorf("%d instances: want at least %d, one that runs and one to update", o.InstancesMax, least)
	case o.SignatureSize <= 0 || o.SignatureSize > verity.MaxSignaturePartition || o.SignatureSize%4096 != 0:
		return fmt.Errorf("a signature partition of %d bytes: want a multiple of 4096 up to %d", o.SignatureSize, verity.MaxSignaturePartition)
	}
	return e.slotTypes()
}

// slotTypes finds the types of the partitions.
func (e *exporter) slotTypes() error {
	if len(e.r.RootHash) == 0 {
		return nil // the UKI is all of it
	}
	if e.r.Root == nil || e.r.Tree == nil {
		return errors.New("a release with a root hash needs a root file system and its hash tree")
	}
	t := e.o.DataType
	if t.IsZero() {
		a, ok := arch.ByGo(e.r.Architecture)
		if !ok {
			return fmt.Errorf("architecture %q: there are no partition types for it", e.r.Architecture)
		}
		t = a.Types[arch.Root]
		usr, err := e.r.Usr()
		if err != nil {
			return prefix.Bare(err)
		}
		if usr {
			t = a.Types[arch.Usr]
		}
	}
	a, role, ok := arch.ByType(t)
	if !ok || role != arch.Root && role != arch.Usr {
		return fmt.Errorf("partition type %s: want one of root or usr of an architecture", partition.TypeName(t))
	}
	copy(e.types[:], a.Types[role:role+3])
	return nil
}

// parts makes the files and definitions in the order in which systemd-sysupdate is to install them:
// what boots the rest comes last.
func (e *exporter) parts() error {
	id, r := e.r.ID, &e.r
	if len(r.RootHash) > 0 {
		data, tree, err := partition.VerityIDs(r.RootHash)
		if err != nil {
			return err
		}
		if err := e.slot("verity", id+"_@v_@u.verity.raw", id+"_@v_verity", r.Tree, 1, &tree); err != nil {
			return err
		}
		if r.RootHashSignature != nil {
			content, err := e.signature()
			if err != nil {
				return err
			}
			if err := e.slot("verity-sig", id+"_@v.verity-sig.raw", id+"_@v_verity_sig", content, 2, nil); err != nil {
				return err
			}
		}
		if err := e.slot("root", id+"_@v_@u.root.raw", id+"_@v", r.Root, 0, &data); err != nil {
			return err
		}
	}
	for _, a := range r.Addons {
		// By a name that ended with .efi, it would be a UKI of another version.
		if err := e.beside("addon", a.Name, a.Name+".raw", a.Content); err != nil {
			return err
		}
	}
	for _, x := range r.Extensions {
		if err := e.beside("extension", x.Name, x.Name, x.Content); err != nil {
			return err
		}
	}
	if e.step >= maxParts {
		return fmt.Errorf("%d parts, want at most %d: the names of their definitions cannot distinguish more", e.step+1, maxParts)
	}
	tries := fmt.Sprintf("TriesLeft=%d\nTriesDone=0\n", e.o.Tries)
	if err := e.add("uki", id+"_@v.efi", Fields{}, r.UKI, []string{id + "_@v+@l-@d.efi", id + "_@v+@l.efi", id + "_@v.efi"}, tries); err != nil {
		return err
	}
	for _, f := range e.x.Files {
		for _, other := range e.x.Files {
			if _, ok := other.Pattern.Match(f.Name); ok && other.Name != f.Name {
				return fmt.Errorf("%s would be mistaken for a version of %s", f.Name, other.Name)
			}
		}
	}
	for _, left := range []struct {
		src       osmith.Source
		mediaType string
	}{{r.Loader, release.MediaTypeLoader}, {r.PCRs, release.MediaTypePCRs}} {
		if left.src != nil {
			e.x.Left = append(e.x.Left, left.mediaType)
		}
	}
	for _, s := range r.SBOMs {
		e.x.Left = append(e.x.Left, s.MediaType)
	}
	return nil
}

// beside adds a file that the stub finds beside the UKI.
func (e *exporter) beside(kind, name, file string, content osmith.Source) error {
	if strings.ContainsAny(name, "@%") {
		return fmt.Errorf("%s %q: would be misread in a pattern", kind, name)
	}
	return e.add(kind+"-"+name, e.r.ID+"_@v."+file, Fields{}, content, []string{e.r.ID + "_@v.efi.extra.d/" + name}, "")
}

// signature is the content of the partition for it, filled to its end.
func (e *exporter) signature() (osmith.Source, error) {
	s, err := e.r.Signature()
	if err != nil {
		return nil, prefix.Bare(err)
	}
	content, err := s.Partition(e.o.SignatureSize)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(content), nil
}

// slot adds what goes into a partition.
func (e *exporter) slot(name, source, label string, content osmith.Source, part int, id *osmith.GUID) error {
	p, err := e.file(source, Fields{PartitionUUID: id}, content)
	if err != nil {
		return err
	}
	labels, err := parsePattern(label)
	if err != nil {
		return err
	}
	text, err := labels.Format(Fields{Version: e.r.Version})
	if err != nil {
		return prefix.Bare(err)
	}
	if n := efi.UTF16Len(text); n > partition.MaxName {
		return fmt.Errorf("the label %q has %d UTF-16 units, at most %d fit", text, n, partition.MaxName)
	}
	// ReadOnly=yes would say the same as the flag, but systemd 262 does nothing for it: when it
	// sets attributes, the partition has the type of a pending one, which it does not know.
	e.define(name, p, fmt.Sprintf("Type=partition\nPath=%s\nMatchPartitionType=%s\nMatchPattern=%s\nPartitionFlags=%#x\nInstancesMax=%d\n", e.o.Disk, partition.TypeName(e.types[part]), label, partition.AttrReadOnly, e.o.InstancesMax))
	return nil
}

// add adds what goes onto a boot partition.
func (e *exporter) add(name, source string, f Fields, content osmith.Source, targets []string, more string) error {
	p, err := e.file(source, f, content)
	if err != nil {
		return err
	}
	for _, text := range targets { // by every name that it may have in its life, it is this version
		p, err := parsePattern(text)
		if err != nil {
			return err
		}
		if _, err := p.Format(Fields{Version: e.r.Version, TriesLeft: &e.o.Tries, TriesDone: new(uint64)}); err != nil {
			return prefix.Bare(err)
		}
	}
	// Without write permission the file would be read-only on the ESP, where edk2 renames none, and
	// the loader could not count its tries.
	e.define(name, p, fmt.Sprintf("Type=regular-file\nPath=/EFI/Linux\nPathRelativeTo=%s\nMatchPattern=%s\nMode=0644\n%sInstancesMax=%d\n", e.o.Boot, strings.Join(targets, " \\\n    "), more, e.o.InstancesMax))
	return nil
}

// file adds a file under a name by a pattern.
func (e *exporter) file(pattern string, f Fields, content osmith.Source) (*Pattern, error) {
	p, err := parsePattern(pattern)
	if err != nil {
		return nil, err
	}
	f.Version = e.r.Version
	name, err := p.Format(f)
	if err != nil {
		return nil, prefix.Bare(err)
	}
	if slices.ContainsFunc(e.x.Files, func(have ExportedFile) bool { return have.Name == name }) {
		return nil, fmt.Errorf("two parts of the release would be %s", name)
	}
	e.x.Files = append(e.x.Files, ExportedFile{Name: name, Content: content, Pattern: p})
	return p, nil
}

// define adds the definition of a transfer.
func (e *exporter) define(name string, source *Pattern, target string) {
	e.step++
	text := "# " + e.r.ID + ": made by osmith for systemd-sysupdate 262.\n[Transfer]\nProtectVersion=%A\n"
	if e.o.Unsigned {
		text += "Verify=no\n"
	}
	text += fmt.Sprintf("\n[Source]\nType=%s\nPath=%s\nMatchPattern=%s\n\n[Target]\n%s", e.o.SourceType, e.o.Source, source, target)
	if e.o.Source != "" {
		e.x.Transfers = append(e.x.Transfers, Definition{Name: fmt.Sprintf("%03d-%s.transfer", 10*e.step, name), Text: text})
	}
}
