package sysupdate

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/unitfile"
	"github.com/osmith-dev/osmith/partition"
)

// ResourceType is what a version of a resource is (sysupdate.d(5), "Resource Types").
type ResourceType string

const (
	URLFile     ResourceType = "url-file"
	URLTar      ResourceType = "url-tar"
	Tar         ResourceType = "tar"
	RegularFile ResourceType = "regular-file"
	Directory   ResourceType = "directory"
	Subvolume   ResourceType = "subvolume"
	Partition   ResourceType = "partition"
)

var (
	sourceTypes = []ResourceType{URLFile, URLTar, Tar, RegularFile, Directory, Subvolume}
	targetTypes = []ResourceType{Partition, RegularFile, Directory, Subvolume}
)

// fits are the targets that a source can be written to.
var fits = map[ResourceType][]ResourceType{
	URLFile: {RegularFile, Partition}, RegularFile: {RegularFile, Partition},
	URLTar: {Directory, Subvolume}, Tar: {Directory, Subvolume}, Directory: {Directory, Subvolume}, Subvolume: {Directory, Subvolume},
}

// Base is what a path is relative to.
type Base string

const (
	BaseRoot     Base = "root"
	BaseESP      Base = "esp"
	BaseXBOOTLDR Base = "xbootldr"
	BaseBoot     Base = "boot"     // the extended boot loader partition, or else the ESP
	BaseExplicit Base = "explicit" // a directory that --transfer-source= names
)

// Transfer is one resource: where its versions come from and where they go to.
type Transfer struct {
	Name    string   // "30-uki" of 30-uki.transfer
	File    string   // "usr/lib/sysupdate.d/30-uki.transfer"
	DropIns []string // in the order in which they were read
	Enabled bool     // by the features that it belongs to

	MinVersion                  string   // older ones are obsolete; "": none is
	ProtectVersions             []string // are never given up
	Verify                      bool     // the signature of the manifest
	ChangeLogs, AppStreams      []string
	Features, RequisiteFeatures []string

	Source TransferSource
	Target TransferTarget
}

// TransferSource is where versions come from.
type TransferSource struct {
	Type     ResourceType
	Path     string // absolute, or a URL for what begins with url-
	Base     Base
	Patterns []*Pattern
}

// TransferTarget is where versions go to.
type TransferTarget struct {
	Type     ResourceType
	Path     string // absolute; of a partition, that of the disk, or "auto"
	Base     Base
	Patterns []*Pattern // the first one is that of new versions

	PartitionType  osmith.GUID // of partitions; the type of linux-generic if nothing is said
	PartitionUUID  *osmith.GUID
	PartitionFlags *uint64
	NoAuto         *bool
	GrowFileSystem *bool

	ReadOnly *bool
	Mode     *uint32
	// TriesLeft and TriesDone are what @l and @d stand for in the name of a new version.
	TriesLeft, TriesDone *uint64
	// InstancesMax is how many versions there may be, the new one included; 0: nothing is said.
	InstancesMax uint64
	// KeepTemporary is RemoveTemporary=no: what an earlier attempt has left stays.
	KeepTemporary  bool
	CurrentSymlink string
}

// transfers reads *.transfer, or *.conf where there are none.
func (r *reader) transfers() error {
	dirs := r.directories()
	suffix := ".transfer"
	files, err := r.files(dirs, suffix)
	if err == nil && len(files) == 0 {
		suffix = ".conf"
		if files, err = r.files(dirs, suffix); len(files) > 0 {
			r.finding(path.Dir(files[0].name), 0, errors.New("transfer definitions are named *.transfer since systemd 257: *.conf files are read only where no *.transfer exists"))
		}
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		t := &Transfer{Name: strings.TrimSuffix(f.base, suffix), File: f.name, Verify: true, Source: TransferSource{Base: BaseRoot}, Target: TransferTarget{Base: BaseRoot, PartitionType: partition.LinuxGeneric}}
		dropIns, names, err := r.dropIns(dirs, f.base)
		if err != nil {
			return err
		}
		t.DropIns = names
		for _, f := range append([]found{f}, dropIns...) {
			err := r.parse(f, []string{"Transfer", "Source", "Target"}, func(section, key, value string, _ int) error {
				switch section {
				case "Transfer":
					return r.setTransfer(t, key, value)
				case "Source":
					return r.setSource(&t.Source, key, value)
				}
				return r.setTarget(&t.Target, key, value)
			})
			if err != nil {
				return err
			}
		}
		if err := r.finish(t); err != nil {
			return &DefinitionError{File: f.name, Err: err}
		}
		r.d.Transfers = append(r.d.Transfers, t)
	}
	return nil
}

func (r *reader) setTransfer(t *Transfer, key, value string) error {
	switch key {
	case "MinVersion":
		return r.version(&t.MinVersion, value)
	case "ProtectVersion":
		if value == "" {
			t.ProtectVersions = nil
			return nil
		}
		version := ""
		if err := r.version(&version, value); err != nil || version == "" {
			return err
		}
		t.ProtectVersions = append(t.ProtectVersions, version)
		return nil
	case "Verify":
		return boolean(&t.Verify, value)
	case "ChangeLog":
		return r.urls(&t.ChangeLogs, value)
	case "AppStream":
		return r.urls(&t.AppStreams, value)
	case "Features":
		return names(&t.Features, value)
	case "RequisiteFeatures":
		return names(&t.RequisiteFeatures, value)
	}
	return unknownKey("Transfer")
}

func (r *reader) setSource(s *TransferSource, key, value string) error {
	switch key {
	case "Type":
		return oneOf(&s.Type, value, append(sourceTypes, Partition))
	case "Path":
		return r.path(&s.Path, value)
	case "PathRelativeTo":
		return oneOf(&s.Base, value, []Base{BaseRoot, BaseESP, BaseXBOOTLDR, BaseBoot, BaseExplicit})
	case "MatchPattern":
		return r.patterns(&s.Patterns, value, true)
	}
	return unknownKey("Source")
}

func (r *reader) setTarget(t *TransferTarget, key, value string) error {
	switch key {
	case "Type":
		return oneOf(&t.Type, value, append(targetTypes, URLFile, URLTar, Tar))
	case "Path":
		return r.path(&t.Path, value)
	case "PathRelativeTo":
		return oneOf(&t.Base, value, []Base{BaseRoot, BaseESP, BaseXBOOTLDR, BaseBoot, BaseExplicit})
	case "MatchPattern":
		return r.patterns(&t.Patterns, value, false)
	case "MatchPartitionType":
		if value == "" {
			t.PartitionType = partition.LinuxGeneric
			return nil
		}
		id, err := partition.LocalTypeByName(value, r.o.Architecture)
		if err != nil {
			return ignore(err)
		}
		t.PartitionType = id
		return nil
	case "PartitionUUID":
		if value == "" {
			t.PartitionUUID = nil
			return nil
		}
		id, err := unitfile.UUID(value)
		if err != nil {
			return ignore(err)
		}
		t.PartitionUUID = &id
		return nil
	case "PartitionFlags":
		if value == "" {
			t.PartitionFlags = nil
			return nil
		}
		n, err := hexadecimal(value)
		if err != nil {
			return ignore(err)
		}
		t.PartitionFlags = &n
		return nil
	case "PartitionNoAuto":
		return optional(&t.NoAuto, value)
	case "PartitionGrowFileSystem":
		return optional(&t.GrowFileSystem, value)
	case "ReadOnly":
		return optional(&t.ReadOnly, value)
	case "Mode":
		n, err := octal(value)
		if err != nil || n > 0o7777 {
			return ignore(errors.New("want an octal number up to 07777"))
		}
		m := uint32(n)
		t.Mode = &m
		return nil
	case "TriesLeft":
		return number(&t.TriesLeft, value)
	case "TriesDone":
		return number(&t.TriesDone, value)
	case "InstancesMax":
		return t.setInstances(value)
	case "RemoveTemporary":
		remove := !t.KeepTemporary
		err := boolean(&remove, value)
		t.KeepTemporary = !remove
		return err
	case "CurrentSymlink":
		text, err := r.o.expand(value)
		if err != nil {
			return err
		}
		if text != "" && slices.Contains(strings.Split(text, "/"), "..") {
			return ignore(errors.New("want a path without \"..\" in it"))
		}
		t.CurrentSymlink = text
		return nil
	}
	return unknownKey("Target")
}

// least is how many versions a target must have room for: what runs, and what comes next.
const least = 2

func (t *TransferTarget) setInstances(value string) error {
	if value == "" {
		t.InstancesMax = 0
		return nil
	}
	n, err := unitfile.Unsigned(value)
	if err != nil {
		return ignore(err)
	}
	if t.InstancesMax = max(n, least); n < least {
		return ignore(fmt.Errorf("%d counts as %d: what runs and what comes next", n, least))
	}
	return nil
}

// version reads one version; "" unsets it.
func (r *reader) version(to *string, value string) error {
	text, err := r.o.expand(value)
	if err != nil {
		return err
	}
	if value != "" && !ValidVersion(text) {
		return ignore(fmt.Errorf("%q: want a version of letters, digits and . _ + - ~ ^", text))
	}
	*to = text
	return nil
}

// urls reads one address more; "" takes those before away.
func (r *reader) urls(to *[]string, value string) error {
	if value == "" {
		*to = nil
		return nil
	}
	text := ""
	if err := r.url(&text, value); err != nil {
		return err
	}
	*to = append(*to, text)
	return nil
}

// names reads names of features; "" takes those before away.
func names(to *[]string, value string) error {
	if value == "" {
		*to = nil
		return nil
	}
	if strings.ContainsAny(value, `"'\`) {
		return fmt.Errorf("quotes and escapes: %w", ErrUnsupported)
	}
	for _, name := range strings.FieldsFunc(value, isSpace) {
		if !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	return nil
}

func isSpace(c rune) bool { return strings.ContainsRune(unitfile.Space, c) }

// path reads where a resource is.
func (r *reader) path(to *string, value string) error {
	text, err := r.o.expand(value)
	if err != nil {
		return err
	}
	if text != "/" {
		text = strings.TrimSuffix(text, "/")
	}
	*to = text
	return nil
}

// patterns reads patterns, which come behind those before; "" takes these away.
func (r *reader) patterns(to *[]*Pattern, value string, source bool) error {
	if value == "" {
		*to = nil
		return nil
	}
	if strings.Contains(value, `\`) {
		return fmt.Errorf("escapes: %w", ErrUnsupported)
	}
	for _, word := range strings.FieldsFunc(value, isSpace) {
		text, err := r.o.expand(word)
		if err != nil {
			return err
		}
		p, err := parsePattern(text)
		if err != nil {
			return err
		}
		if p.recursive && !source {
			return fmt.Errorf("%q: **/ is for sources alone", text)
		}
		*to = append(*to, p)
	}
	return nil
}

// oneOf reads one of some names.
func oneOf[T ~string](to *T, value string, of []T) error {
	if !slices.Contains(of, T(value)) {
		var names []string
		for _, name := range of {
			names = append(names, string(name))
		}
		return ignore(fmt.Errorf("want one of %s", strings.Join(names, ", ")))
	}
	*to = T(value)
	return nil
}

func boolean(to *bool, value string) error {
	b, err := unitfile.Boolean(value)
	if err == nil {
		*to = b
	}
	return ignore(err)
}

func optional(to **bool, value string) error {
	b, err := unitfile.OptionalBoolean(value)
	if err == nil {
		*to = b
	}
	return ignore(err)
}

func number(to **uint64, value string) error {
	n, err := unitfile.Unsigned(value)
	if err == nil {
		*to = &n
	}
	return ignore(err)
}

// finish checks the parts of a transfer against each other.
func (r *reader) finish(t *Transfer) error {
	t.Enabled = r.d.enabled(t)
	s, target := &t.Source, &t.Target
	switch {
	case !slices.Contains(sourceTypes, s.Type):
		return fmt.Errorf("[Source] Type=%s: want one of %v", s.Type, sourceTypes)
	case !slices.Contains(targetTypes, target.Type):
		return fmt.Errorf("[Target] Type=%s: want one of %v", target.Type, targetTypes)
	case !slices.Contains(fits[s.Type], target.Type):
		return fmt.Errorf("[Target] Type=%s: %s can only be written to %v", target.Type, s.Type, fits[s.Type])
	case (s.Type == URLFile || s.Type == URLTar) && !isURL(s.Path, sourceSchemes):
		return fmt.Errorf("[Source] Path=%s: want an address that begins with https://, http:// or file:///", s.Path)
	case s.Type != URLFile && s.Type != URLTar && !isAbsolute(s.Path):
		return fmt.Errorf("[Source] Path=%s: want an absolute path without \".\" or \"..\" in it", s.Path)
	case onVolume(s.Base) && s.Type != RegularFile && s.Type != Directory:
		return fmt.Errorf("[Source] PathRelativeTo=%s: only %s and %s can be there", s.Base, RegularFile, Directory)
	case onVolume(target.Base) && target.Type != RegularFile && target.Type != Directory:
		return fmt.Errorf("[Target] PathRelativeTo=%s: only %s and %s can be there", target.Base, RegularFile, Directory)
	case target.Base == BaseExplicit:
		return errors.New("[Target] PathRelativeTo=explicit is for sources alone")
	case !isAbsolute(target.Path) && !(target.Type == Partition && target.Path == "auto"):
		return fmt.Errorf("[Target] Path=%s: want an absolute path without \".\" or \"..\" in it", target.Path)
	case len(s.Patterns) == 0:
		return errors.New("[Source] has no MatchPattern=")
	case target.Type == Partition && target.CurrentSymlink != "" && !isAbsolute(target.CurrentSymlink):
		return fmt.Errorf("[Target] CurrentSymlink=%s: want an absolute path, since the target is a partition", target.CurrentSymlink)
	}
	if (s.Type == Directory || s.Type == Subvolume) && slices.ContainsFunc(s.Patterns, (*Pattern).Recursive) {
		return errors.New("[Source] MatchPattern=: **/ is for files alone")
	}
	if len(target.Patterns) == 0 {
		r.finding(t.File, 0, errors.New("[Target] has no MatchPattern=: that of [Source] counts"))
		target.Patterns = s.Patterns
	}
	return nil
}

// onVolume says that a path is one of a boot partition.
func onVolume(b Base) bool { return b == BaseESP || b == BaseXBOOTLDR || b == BaseBoot }

func isAbsolute(p string) bool { return strings.HasPrefix(p, "/") && path.Clean(p) == p }
