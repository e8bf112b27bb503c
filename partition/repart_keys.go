package partition

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/unitfile"
)

// definition is one definition file, with its drop-ins, while it is read.
type definition struct {
	name     string // of the file
	o        *RepartOptions
	s        Spec
	rest     RepartDefinition
	warnings []*RepartError
	lines    map[string]RepartError // where a key was set last

	format, copyBlocks           string
	typed, labelled              bool
	noAuto, readOnly, growFS     *bool
	flags                        uint64
	tree                         FileSystemFill // what the file system is to hold
	verity                       VerityFill
	encrypt                      EncryptFill
	minimize                     Minimize
	integrity                    string
	sectorSize                   int
	hasMin, hasMax               bool
	maxBytes                     int64 // SizeMaxBytes=, or the largest number there is
	hasPaddingMin, hasPaddingMax bool
}

// set follows one assignment. A value of "" unsets what may be unset.
func (d *definition) set(key, value string) (err error) {
	s := &d.s
	switch key {
	case "Type":
		s.Type, err = d.o.typeFor(value)
		d.typed = true
	case "Label":
		if s.Name, err = d.o.expand(value); err == nil && efi.UTF16Len(s.Name) > MaxName {
			return fmt.Errorf("has %d UTF-16 units, at most %d fit", efi.UTF16Len(s.Name), MaxName)
		}
		d.labelled = true
	case "UUID":
		switch {
		case value == "":
			s.ID = osmith.GUID{}
		case value == "null":
			return fmt.Errorf("an ID of zeros is %w: a table must not have it", ErrRepartKey)
		default:
			if s.ID, err = parseID(value); err == nil && s.ID.IsZero() {
				return fmt.Errorf("an ID of zeros is %w: a table must not have it", ErrRepartKey)
			}
		}
	case "Priority":
		s.Priority, err = signed(value)
	case "Weight":
		s.Weight, err = weight(value)
	case "PaddingWeight":
		s.PaddingWeight, err = weight(value)
	case "SizeMinBytes", "SizeMaxBytes", "PaddingMinBytes", "PaddingMaxBytes":
		return d.bound(key, value)
	case "Flags":
		d.flags, err = unitfile.Unsigned(value)
	case "NoAuto":
		d.noAuto, err = unitfile.OptionalBoolean(value)
	case "ReadOnly":
		d.readOnly, err = unitfile.OptionalBoolean(value)
	case "GrowFileSystem":
		d.growFS, err = unitfile.OptionalBoolean(value)
	case "SupplementFor":
		if s.SupplementFor = value; strings.Contains(value, "/") {
			return errors.New("want the name of a definition file without .conf")
		}
	case "SplitName":
		d.rest.SplitName = value
	case "FactoryReset":
		d.rest.FactoryReset, err = unitfile.Boolean(value)
	case "MountPoint":
		if d.rest.MountPoints = append(d.rest.MountPoints, value); value == "" {
			d.rest.MountPoints = nil
		}
	case "BlockDeviceReplace":
		d.rest.BlockDeviceReplace = value
	default:
		return d.setContent(key, value)
	}
	return err
}

// setContent follows the keys about what a partition is filled with.
func (d *definition) setContent(key, value string) (err error) {
	switch key {
	case "CopyBlocks":
		d.copyBlocks, err = d.o.expand(value)
	case "Format":
		if d.format = value; value == "" || strings.Contains(value, "/") || value == "." || value == ".." {
			return errors.New("want the name of a file system, such as ext4, or swap or empty")
		}
	case "CopyFiles":
		err = d.copy(value)
	case "MakeDirectories":
		err = d.paths(value, func(p string) error {
			p, err := cleanTarget(p)
			d.tree.Files = append(d.tree.Files, Copy{Target: p})
			return err
		})
	case "MakeSymlinks":
		err = d.paths(value, func(p string) error {
			at, target, ok := strings.Cut(p, ":")
			if !ok || target == "" {
				return fmt.Errorf("%q: want the path of the link, a colon and where it points to", printable(p))
			}
			at, err := cleanTarget(at)
			d.tree.Links = append(d.tree.Links, Link{Path: at, Target: target})
			return err
		})
	case "ExcludeFiles":
		err = d.paths(value, func(p string) error { d.tree.Exclude = append(d.tree.Exclude, p); return absolute(p) })
	case "ExcludeFilesTarget":
		err = d.paths(value, func(p string) error { d.tree.ExcludeTarget = append(d.tree.ExcludeTarget, p); return absolute(p) })
	case "Subvolumes":
		err = d.paths(value, d.subvolume)
	case "DefaultSubvolume":
		d.tree.DefaultSubvolume, err = d.o.expand(value)
	case "Compression":
		d.tree.Compression = value
	case "CompressionLevel":
		d.tree.CompressionLevel = value
	case "AddValidateFS":
		d.tree.ValidateFS, err = unitfile.OptionalBoolean(value)
	case "FileSystemSectorSize":
		d.sectorSize, err = powerOf2(value, 1<<20)
	case "Minimize":
		d.minimize, err = minimize(value)
	case "Verity":
		switch d.verity.Role = VerityRole(value); value {
		case "off":
			d.verity.Role = ""
		case "", string(VerityData), string(VerityHash), string(VeritySignature):
		default:
			return errors.New("want off, data, hash or signature")
		}
	case "VerityMatchKey":
		d.verity.MatchKey = value
	case "VerityDataBlockSizeBytes":
		d.verity.DataBlockSize, err = powerOf2(value, 4096)
	case "VerityHashBlockSizeBytes":
		d.verity.HashBlockSize, err = powerOf2(value, 4096)
	default:
		return d.setEncryption(key, value)
	}
	return err
}

func (d *definition) setEncryption(key, value string) (err error) {
	e := &d.encrypt
	oneOf := func(to *string, names ...string) error {
		if *to = value; value != "" && !slices.Contains(names, value) {
			return fmt.Errorf("want %s", strings.Join(names, ", "))
		}
		return nil
	}
	switch key {
	case "Encrypt":
		switch value {
		case "", "off", "key-file", "tpm2", "key-file+tpm2":
			e.Key = strings.TrimSuffix(value, "off")
		default:
			on, err := unitfile.Boolean(value)
			if err != nil {
				return errors.New("want off, key-file, tpm2 or key-file+tpm2")
			}
			if e.Key = ""; on {
				e.Key = "key-file"
			}
		}
	case "VolumeLabel":
		e.Label, err = d.o.expand(value)
	case "VolumeName":
		e.Name = value
	case "EncryptKDF":
		err = oneOf(&e.KDF, "argon2id", "pbkdf2", "minimal")
	case "KeyFile":
		e.KeyFile = value
	case "TPM2PCRs":
		e.PCRs = value
	case "EncryptedVolume":
		e.Crypttab = value
	case "Discard":
		e.Discard, err = unitfile.OptionalBoolean(value)
	case "Integrity":
		err = oneOf(&d.integrity, "off", "inline")
	case "IntegrityAlgorithm":
		err = oneOf(&e.IntegrityAlgorithm, "hmac-sha1", "hmac-sha256", "hmac-sha512")
	default:
		return fmt.Errorf("%w: no such key in repart.d(5) of systemd 262", ErrRepartKey)
	}
	return err
}

// bound reads a size. 0 is a bound like any other, while a Spec has 0 for none: the least that is
// one stands for it.
func (d *definition) bound(key, value string) error {
	s := &d.s
	n, err := boundValue(value, strings.HasSuffix(key, "MinBytes"))
	if err == errTooLarge && strings.HasSuffix(key, "MaxBytes") {
		n, err = largest, nil // no disk is larger
	}
	if err != nil {
		return err
	}
	switch key {
	case "SizeMinBytes":
		s.MinSize, d.hasMin = max(n, 1), true
	case "SizeMaxBytes":
		s.MaxSize, d.hasMax, d.maxBytes = n, true, n
	case "PaddingMinBytes":
		s.PaddingMin, d.hasPaddingMin = n, true
	case "PaddingMaxBytes":
		s.PaddingMax, d.hasPaddingMax = n, true
	}
	return nil
}

func minimize(value string) (Minimize, error) {
	switch value {
	case "", "off", "best", "guess":
		return Minimize(strings.TrimSuffix(value, "off")), nil
	}
	on, err := unitfile.Boolean(value)
	switch {
	case err != nil:
		return "", errors.New("want off, best or guess")
	case on:
		return MinimizeBest, nil
	}
	return "", nil
}

func absolute(p string) error {
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("%q: want an absolute path", printable(p))
	}
	return nil
}

// paths reads words with specifiers.
func (d *definition) paths(value string, add func(p string) error) error {
	list, err := words(value)
	if err != nil {
		return err
	}
	for _, p := range list {
		if p, err = d.o.expand(p); err != nil {
			return err
		}
		if err := add(p); err != nil {
			return err
		}
	}
	return nil
}

// mountPoint is the path of PATH[:OPTIONS].
func (d *definition) mountPoint(value string) (string, error) {
	if strings.ContainsAny(value, `"'\`) {
		return "", fmt.Errorf("quotes and escapes: %w", ErrRepartKey)
	}
	place, _, _ := strings.Cut(value, ":")
	place, err := d.o.expand(place)
	if err != nil {
		return "", err
	}
	return cleanTarget(place)
}

// copy reads SOURCE[:TARGET[:OPTIONS]].
func (d *definition) copy(value string) error {
	if strings.ContainsAny(value, `"'\`) {
		return fmt.Errorf("quotes and escapes: %w", ErrRepartKey)
	}
	parts := strings.SplitN(value, ":", 3)
	for i := range parts[:min(len(parts), 2)] {
		var err error
		if parts[i], err = d.o.expand(parts[i]); err != nil {
			return err
		}
	}
	c := Copy{Source: parts[0], Target: parts[0]}
	if len(parts) > 1 {
		c.Target = parts[1]
	}
	if len(parts) > 2 {
		switch parts[2] {
		case "", "fsverity=off":
		case "fsverity=copy":
			c.FSVerity = true
		default:
			return fmt.Errorf("options %q: %w: want fsverity=copy or fsverity=off", printable(parts[2]), ErrRepartKey)
		}
	}
	if c.Source == "" {
		return errors.New("has no source: want SOURCE:TARGET")
	}
	var err error
	if c.Target, err = cleanTarget(c.Target); err == nil {
		d.tree.Files = append(d.tree.Files, c)
	}
	return err
}

func (d *definition) subvolume(p string) error {
	at, flags, _ := strings.Cut(p, ":")
	at, err := cleanTarget(at)
	if err != nil {
		return err
	}
	v := Subvolume{Path: at}
	for flag := range strings.SplitSeq(flags, ",") {
		switch flag {
		case "":
		case "ro":
			v.ReadOnly = true
		case "nodatacow":
			v.NoDataCOW = true
		default:
			return fmt.Errorf("subvolume flag %q: want ro or nodatacow", printable(flag))
		}
	}
	d.tree.Subvolumes = append(d.tree.Subvolumes, v)
	return nil
}

// finish applies what systemd-repart does with a whole definition.
func (d *definition) finish() error {
	s := &d.s
	d.rest.File = d.name
	if !d.typed {
		return &RepartError{File: d.name, Err: errors.New("has no Type=")}
	}
	if d.format == "empty" && !d.labelled {
		s.Name, d.labelled = EmptyName, true
	}
	s.DefaultName = !d.labelled
	if d.hasMin && d.hasMax && s.MinSize > 1 && s.MaxSize < s.MinSize {
		return d.fail("SizeMaxBytes", fmt.Errorf("%d is less than SizeMinBytes= (%d)", s.MaxSize, s.MinSize))
	}
	if d.hasMax {
		s.MaxSize = max(s.MaxSize, grain) // no partition is smaller
	}
	if d.hasPaddingMax && s.PaddingMax < s.PaddingMin {
		return d.fail("PaddingMaxBytes", fmt.Errorf("%d is less than PaddingMinBytes= (%d)", s.PaddingMax, s.PaddingMin))
	}
	if d.hasPaddingMax {
		s.PaddingMax = max(s.PaddingMax, 1)
	}
	if err := d.fill(); err != nil {
		return err
	}
	d.attributes()
	return nil
}

// merged are the bounds of d with a supplement merged into it. repart.d(5) says that they are the
// larger minimum and the smaller maximum. So they are where both definitions have one; of a minimum
// that only one has, systemd-repart 262 loses what the target says, and the padding of both.
func (d *definition) merged(other *definition) (*Bounds, error) {
	t, s, b := &d.s, &other.s, &Bounds{}
	if b.MinSize = s.MinSize; d.hasMin && other.hasMin {
		b.MinSize = max(t.MinSize, s.MinSize)
	}
	if d.hasPaddingMin && other.hasPaddingMin {
		b.PaddingMin = max(t.PaddingMin, s.PaddingMin)
	}
	b.MaxSize, b.PaddingMax = smaller(t.MaxSize, s.MaxSize), smaller(t.PaddingMax, s.PaddingMax)
	// It compares all that is given. As a minimum 0 is a Spec's 1, and as a maximum its 4096.
	low, high := max(t.MinSize, s.MinSize), min(d.maxBytes, other.maxBytes)
	if low > 1 && low > high {
		return nil, fmt.Errorf("merged into %s, the least size %d is more than the largest, %d", d.name, low, high)
	}
	if low := max(t.PaddingMin, s.PaddingMin); b.PaddingMax > 0 && low > b.PaddingMax {
		return nil, fmt.Errorf("merged into %s, the least padding %d is more than the largest, %d", d.name, low, b.PaddingMax)
	}
	return b, nil
}

// fill is what the partition is to be filled with.
func (d *definition) fill() error {
	s, t := &d.s, &d.tree
	wanted := t.Files != nil || t.Links != nil || d.format != "" && d.format != "empty"
	role := d.verity.Role
	switch {
	case d.copyBlocks != "" && (wanted || d.format != ""):
		return d.fail("CopyBlocks", errors.New("excludes Format=, CopyFiles=, MakeDirectories= and MakeSymlinks="))
	case role == "" && d.verity.MatchKey != "":
		return d.fail("VerityMatchKey", errors.New("requires Verity=data, hash or signature"))
	case role != "" && d.verity.MatchKey == "":
		return d.fail("Verity", errors.New("requires VerityMatchKey="))
	case (role == VerityHash || role == VeritySignature) && (wanted || d.format != "" || d.encrypt.Key != ""):
		return d.fail("Verity", fmt.Errorf("%s excludes Format=, CopyFiles=, MakeDirectories=, MakeSymlinks= and Encrypt=", role))
	case role == VeritySignature && (d.hasMin || d.hasMax):
		return d.fail("Verity", errors.New("signature excludes SizeMinBytes= and SizeMaxBytes="))
	case d.integrity == "inline" && d.encrypt.Key == "":
		return d.fail("Integrity", errors.New("inline requires Encrypt="))
	case d.encrypt.Name != "" && d.encrypt.Key == "":
		return d.fail("VolumeName", errors.New("requires Encrypt="))
	case t.DefaultSubvolume != "" && !slices.ContainsFunc(t.Subvolumes, func(v Subvolume) bool { return v.Path == t.DefaultSubvolume }):
		return d.fail("DefaultSubvolume", errors.New("want one of Subvolumes="))
	}
	validate := t.ValidateFS != nil && *t.ValidateFS
	if validate {
		for _, m := range d.rest.MountPoints {
			place, err := d.mountPoint(m)
			if err != nil {
				return d.fail("MountPoint", err)
			}
			t.MountPoints = append(t.MountPoints, place)
		}
	}
	t.Format = d.format
	if t.Format == "empty" {
		t.Format = ""
	}
	if d.format == "" && d.copyBlocks == "" && role != VerityHash && role != VeritySignature &&
		(wanted || validate || d.encrypt.Key != "" || s.Type == Swap) {
		switch s.Type {
		case ESP, XBOOTLDR:
			t.Format = "vfat"
		case Swap:
			t.Format = formatSwap
		default:
			t.Format = "ext4"
		}
	}
	if err := d.minimized(); err != nil {
		return err
	}
	f := &Fill{Minimize: d.minimize, SectorSize: d.sectorSize}
	switch {
	case d.copyBlocks == "auto":
		f.Running = true
	case d.copyBlocks != "":
		f.File = d.copyBlocks
	case t.Format == "vfat" && t.Links != nil:
		return d.fail("MakeSymlinks", errors.New("FAT has no links"))
	case t.Format == "vfat":
		f.FAT = &FATFill{Files: t.Files, Exclude: t.Exclude, ExcludeTarget: t.ExcludeTarget}
	case t.Format == formatSwap && t.Files != nil:
		return d.fail("CopyFiles", errors.New("a swap area holds no files"))
	case t.Format != "":
		f.FileSystem = t
	case wanted:
		return d.fail("Format", errors.New("empty excludes CopyFiles=, MakeDirectories= and MakeSymlinks="))
	}
	if role != "" {
		f.Verity = &d.verity
	}
	if d.encrypt.Key != "" {
		d.encrypt.Inline = d.integrity == "inline"
		f.Encrypt = &d.encrypt
	}
	if f.File != "" || f.Running || f.FAT != nil || f.FileSystem != nil || f.Verity != nil || f.Encrypt != nil {
		s.Fill = f
	}
	return nil
}

func (d *definition) minimized() error {
	hash := d.verity.Role == VerityHash
	switch {
	case d.minimize == "" || hash:
		return nil
	case d.tree.Format == "":
		return d.fail("Minimize", errors.New("requires Format= or Verity=hash"))
	case d.minimize == MinimizeBest && !slices.Contains([]string{"erofs", "squashfs", "btrfs"}, d.tree.Format):
		return d.fail("Minimize", fmt.Errorf("best requires Format=erofs, squashfs or btrfs, or Verity=hash, got %s: want guess", cmp.Or(d.tree.Format, "none")))
	}
	return nil
}

// attributes are Flags= with the bits that a key or a default decides.
func (d *definition) attributes() {
	s := &d.s
	s.Attributes = d.flags
	yes := true
	kind := kindOf(s.Type)
	if d.format == "empty" && d.noAuto == nil && kind.noAuto {
		d.noAuto = &yes
	}
	if d.readOnly == nil && (kind.verity || kind.readOnly && d.verity.Role == VerityData) {
		d.readOnly = &yes
	}
	// systemd-repart does not ask for GrowFileSystem= here, so that =no has no effect.
	if kind.growFS && (d.readOnly == nil || !*d.readOnly) {
		d.growFS = &yes
	}
	for _, f := range []struct {
		name  string
		bit   uint64
		value *bool
		known bool
	}{
		{"NoAuto", AttrNoAuto, d.noAuto, kind.noAuto},
		{"ReadOnly", AttrReadOnly, d.readOnly, kind.readOnly},
		{"GrowFileSystem", AttrGrowFileSystem, d.growFS, kind.growFS},
	} {
		switch {
		case f.value == nil, !f.known && !*f.value:
		case f.known && !*f.value:
			s.Attributes &^= f.bit
		case !f.known:
			at := d.lines[f.name]
			at.Err = fmt.Errorf("%s=yes is ignored for a partition of type %s", f.name, TypeName(s.Type))
			d.warnings = append(d.warnings, &at)
		default:
			s.Attributes |= f.bit
		}
	}
}

// kind says which attributes a type knows (Discoverable Partitions Specification, "Partition
// Attribute Flags"; what systemd-repart 262 takes for known was observed).
type kind struct{ noAuto, readOnly, growFS, verity bool }

func kindOf(t osmith.GUID) kind {
	name := TypeName(t)
	sig, verity := strings.HasSuffix(name, "-verity-sig"), strings.HasSuffix(name, "-verity")
	system := strings.HasPrefix(name, "root-") || strings.HasPrefix(name, "usr-")
	switch {
	case system && sig:
		return kind{readOnly: true, verity: true}
	case system && verity:
		return kind{noAuto: true, readOnly: true, verity: true}
	case system, t == Home, t == Srv, t == Var, t == Tmp, t == XBOOTLDR:
		return kind{noAuto: true, readOnly: true, growFS: true}
	}
	return kind{noAuto: t == Swap}
}

func isVeritySig(t osmith.GUID) bool { return strings.HasSuffix(TypeName(t), "-verity-sig") }
