package partition

import (
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
)

// Fill says, as data, what a partition is to be filled with. This package does not make the
// contents: the caller makes the bytes and sets [Spec.Content], or [Image.SetContent] once the size
// of the partition is known. At most one of File, Running, FAT and FileSystem is set; Verity,
// Encrypt and Minimize modify that content; a Verity hash tree or signature is a content of its
// own.
type Fill struct {
	// File is the path of a file whose bytes are the content.
	File string `json:"file,omitempty"`
	// Running asks for a copy of the partition of this type that the machine runs from
	// (CopyBlocks=auto).
	Running bool `json:"running,omitempty"`
	// FAT is a FAT file system, as an ESP has.
	FAT *FATFill `json:"fat,omitempty"`
	// FileSystem is any other file system, or a swap area.
	FileSystem *FileSystemFill `json:"fileSystem,omitempty"`
	// Verity is the part that the partition has in a dm-verity volume.
	Verity *VerityFill `json:"verity,omitempty"`
	// Encrypt puts the content into a LUKS2 volume.
	Encrypt *EncryptFill `json:"encrypt,omitempty"`
	// Minimize makes the partition as small as its content allows; the content must then be known
	// before [Plan].
	Minimize Minimize `json:"minimize,omitempty"`
	// SectorSize is that of the file system, the LUKS2 volume and the hash tree, in bytes; 0:
	// [Layout.FileSystemSectorSize]. It is never less than the sector size of the disk.
	SectorSize int `json:"sectorSize,omitempty"`
}

// FATFill is a FAT file system to be made of files.
type FATFill struct {
	Label string `json:"label,omitempty"` // volume label; "": none
	Files []Copy `json:"files,omitempty"`
	// Exclude are paths of the host that are not copied; one that ends with a slash keeps the
	// directory itself.
	Exclude []string `json:"exclude,omitempty"`
	// ExcludeTarget are paths in the file system to which no file is copied.
	ExcludeTarget []string `json:"excludeTarget,omitempty"`
}

// FileSystemFill is a file system to be made of files. Its UUID is [FileSystemID] of the partition,
// its label the name of the partition.
type FileSystemFill struct {
	Format        string   `json:"format"` // "ext4", "btrfs", "erofs", "swap", ...
	Files         []Copy   `json:"files,omitempty"`
	Exclude       []string `json:"exclude,omitempty"`       // as in FATFill
	ExcludeTarget []string `json:"excludeTarget,omitempty"` // as in FATFill
	// symbolic links, made after all copies
	Links []Link `json:"links,omitempty"`

	Subvolumes       []Subvolume `json:"subvolumes,omitempty"` // of btrfs
	DefaultSubvolume string      `json:"defaultSubvolume,omitempty"`
	Compression      string      `json:"compression,omitempty"`
	CompressionLevel string      `json:"compressionLevel,omitempty"`
	// ValidateFS asks for the extended attributes that systemd-validatefs reads, or for none; nil:
	// the default of the program that makes the file system, which is none in package build, and
	// all in systemd-repart.
	ValidateFS *bool `json:"validateFS,omitempty"`
	// MountPoints are the places for ValidateFS where the file system may be mounted; none: those of
	// the partition's type.
	MountPoints []string `json:"mountPoints,omitempty"`
}

// Copy puts a file, or a directory with all that is in it, into a file system.
type Copy struct {
	// path of a file or directory; "": only make the directory Target
	Source   string `json:"source,omitempty"`
	Target   string `json:"target"`             // where it goes, from the root of the file system
	FSVerity bool   `json:"fsverity,omitempty"` // files keep fs-verity where the source has it
}

// Link is a symbolic link to be made.
type Link struct {
	Path   string `json:"path"`   // from the root of the file system
	Target string `json:"target"` // target that the link names
}

// Subvolume makes a directory of a btrfs a subvolume.
type Subvolume struct {
	Path      string `json:"path"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
	NoDataCOW bool   `json:"noDataCOW,omitempty"`
}

// VerityRole is the part of a dm-verity volume that a partition has.
type VerityRole string

// The roles.
const (
	// it has the data, whose hash tree is in another partition
	VerityData      VerityRole = "data"
	VerityHash      VerityRole = "hash"      // it has the hash tree
	VeritySignature VerityRole = "signature" // it has the signature of the root hash
)

// VerityFill is the part that a partition has in a dm-verity volume. Unless the layout gives IDs,
// the IDs of data and hash tree are those that [VerityIDs] derives from the root hash.
type VerityFill struct {
	Role VerityRole `json:"role"`
	// the same for the partitions of one volume
	MatchKey string `json:"matchKey"`
	// bytes, of the hash partition; 0: Fill.SectorSize
	DataBlockSize int `json:"dataBlockSize,omitempty"`
	HashBlockSize int `json:"hashBlockSize,omitempty"` // likewise
}

// EncryptFill is a LUKS2 volume to be made in a partition. Its UUID is [LUKSID] of the partition.
type EncryptFill struct {
	Key string `json:"key"` // "key-file", "tpm2" or "key-file+tpm2"
	// of the LUKS2 header; "": "luks-" and the name of the partition
	Label string `json:"label,omitempty"`
	// of the device under /dev/mapper while the partition is made
	Name string `json:"name,omitempty"`
	// "argon2id", "pbkdf2", "minimal"; "": the default of the program that makes the volume
	KDF     string `json:"kdf,omitempty"`
	KeyFile string `json:"keyFile,omitempty"` // path
	// PCRs to which a TPM key is bound, as in "7+11:sha256"
	PCRs string `json:"pcrs,omitempty"`
	// discards are passed through; nil: the default of the program that makes the volume
	Discard            *bool  `json:"discard,omitempty"`
	Inline             bool   `json:"inline,omitempty"` // authenticated encryption
	IntegrityAlgorithm string `json:"integrityAlgorithm,omitempty"`
	// EncryptedVolume=: name, key, options and extra options, with colons between
	Crypttab string `json:"crypttab,omitempty"`
}

// Minimize says how small a partition gets.
type Minimize string

// The ways to minimize.
const (
	MinimizeBest  Minimize = "best"  // no larger than its content needs
	MinimizeGuess Minimize = "guess" // about as large as its content needs
)

// check refuses what no file and no definition can mean.
func (f *Fill) check() error {
	contents, all := 0, 0
	for _, set := range []bool{f.File != "", f.Running, f.FAT != nil, f.FileSystem != nil} {
		if set {
			contents++
		}
	}
	if all = contents; f.Verity != nil {
		all++
	}
	if f.Encrypt != nil {
		all++
	}
	switch {
	case contents > 1:
		return errors.New(`want at most one of "file", "running", "fat" and "fileSystem"`)
	case all == 0:
		return errors.New(`want one of "file", "running", "fat", "fileSystem", "verity" and "encrypt"`)
	case f.FileSystem != nil && f.FileSystem.Format == "":
		return errors.New(`the file system has no "format"`)
	case f.Minimize != "" && f.Minimize != MinimizeBest && f.Minimize != MinimizeGuess:
		return fmt.Errorf("minimize %q: want best or guess", printable(string(f.Minimize)))
	case f.SectorSize != 0 && (f.SectorSize < 512 || f.SectorSize > 1<<20 || f.SectorSize&(f.SectorSize-1) != 0):
		return fmt.Errorf("sector size %d: want a power of 2 from 512", f.SectorSize)
	}
	if v := f.Verity; v != nil {
		switch v.Role {
		case VerityData:
		case VerityHash, VeritySignature:
			if contents > 0 && f.File == "" || f.Encrypt != nil {
				return fmt.Errorf("a partition with the %s of a dm-verity volume holds nothing else", v.Role)
			}
		default:
			return fmt.Errorf("verity role %q: want data, hash or signature", printable(string(v.Role)))
		}
		if v.MatchKey == "" {
			return errors.New("verity: the match key is missing")
		}
		for _, n := range []int{v.DataBlockSize, v.HashBlockSize} {
			if n != 0 && (n < 512 || n > 4096 || n&(n-1) != 0) {
				return fmt.Errorf("verity: block size %d: want a power of 2 from 512 to 4096", n)
			}
		}
	}
	return nil
}

// String says what is to be made: "an ext4 file system, encrypted".
func (f *Fill) String() string {
	var out []string
	switch {
	case f.File != "":
		out = append(out, "the file "+printable(f.File))
	case f.Running:
		out = append(out, "a copy of the partition that the machine runs from")
	case f.FAT != nil:
		out = append(out, "a FAT file system")
	case f.FileSystem != nil && f.FileSystem.Format == formatSwap:
		out = append(out, "a swap area")
	case f.FileSystem != nil:
		out = append(out, "a file system of type "+printable(f.FileSystem.Format))
	case f.Verity != nil && f.Verity.Role == VerityHash:
		out = append(out, "the hash tree of "+printable(f.Verity.MatchKey))
	case f.Verity != nil && f.Verity.Role == VeritySignature:
		out = append(out, "the root hash signature of "+printable(f.Verity.MatchKey))
	default:
		out = append(out, "the content")
	}
	if f.Encrypt != nil {
		out = append(out, "encrypted")
	}
	if f.Verity != nil && f.Verity.Role == VerityData {
		out = append(out, "as the data of "+printable(f.Verity.MatchKey))
	}
	if f.Minimize != "" {
		out = append(out, "as small as can be")
	}
	return strings.Join(out, ", ")
}

const formatSwap = "swap"

// format is what systemd-repart calls the file system; "" when there is none.
func (f *Fill) format() string {
	switch {
	case f == nil:
	case f.FAT != nil:
		return "vfat"
	case f.FileSystem != nil:
		return f.FileSystem.Format
	}
	return ""
}

// The least size of a file system by systemd-repart 262, in bytes (observed with --json and
// --dry-run; the two of the ESP are also in repart.d(5), SizeMinBytes=). It has no least size for
// other formats.
const (
	leastExt4   = 32 << 20
	leastBtrfs  = 256 << 20
	leastXFS    = 300 << 20
	leastESP512 = 100 << 20 // an ESP or XBOOTLDR with sectors of less than 4096 bytes
	leastESP4K  = 260 << 20

	defaultLeast = 10 << 20 // SizeMinBytes= where it is not given
	signatureFix = 16 << 10 // what a partition for a root hash signature always has
)

// LUKSOverhead is how many bytes systemd-repart adds to the size of a content that it encrypts:
// room for the LUKS2 header.
const LUKSOverhead = 32 << 20

// least is the size in bytes that systemd-repart takes for the least of a new partition of type t,
// for what is in it. ss is the sector size of file systems.
func (f *Fill) least(t osmith.GUID, ss int) int64 {
	if f == nil {
		return 0
	}
	n := int64(0)
	switch f.format() {
	case "vfat":
		switch {
		case t != ESP && t != XBOOTLDR:
		case ss < 4096:
			n = leastESP512
		default:
			n = leastESP4K
		}
	case "ext4":
		n = leastExt4
	case "btrfs":
		n = leastBtrfs
	case "xfs":
		n = leastXFS
	}
	if f.Encrypt != nil {
		n = max(n, grain) + LUKSOverhead
	}
	return n
}

// growsFromNothing says that systemd-repart has no default for the least size: what is in the
// partition decides it. So it is for all parts of a dm-verity volume, its data too.
func (f *Fill) growsFromNothing() bool {
	if f == nil {
		return false
	}
	switch f.format() {
	case "erofs", "squashfs":
		return true
	}
	return f.Verity != nil
}

// sectorSize is that of file systems in a partition.
func (l *Layout) sectorSizeOf(f *Fill) int {
	disk := max(l.SectorSize, 512)
	n := l.FileSystemSectorSize
	if f != nil && f.SectorSize != 0 {
		n = f.SectorSize
	}
	if n == 0 {
		n = disk
	}
	return max(n, disk)
}

// treeSize is the size in bytes of a dm-verity superblock and hash tree over data, with SHA-256
// (Documentation/admin-guide/device-mapper/verity.rst).
func treeSize(data int64, dataBlock, hashBlock int) int64 {
	perBlock := int64(hashBlock / 32)
	blocks := int64(1) // the superblock
	n := (data + int64(dataBlock) - 1) / int64(dataBlock)
	for more := true; more; more = n > 1 {
		n = max((n+perBlock-1)/perBlock, 1) // systemd-repart counts one block for no data, too
		blocks += n
	}
	return blocks * int64(hashBlock)
}

// treeOf is what the hash tree of s needs, when the size of the data decides it: the most that the
// data partition may have, if the hash partition has no bounds of its own; or the content of the
// data partition, if the hash partition is to be minimized. 0: it is not decided.
func (l *Layout) treeOf(s *Spec) int64 {
	f := s.Fill
	if f == nil || f.Verity == nil || f.Verity.Role != VerityHash {
		return 0
	}
	ss := l.sectorSizeOf(f)
	dataBlock, hashBlock := ss, ss
	if f.Verity.DataBlockSize != 0 {
		dataBlock = f.Verity.DataBlockSize
	}
	if f.Verity.HashBlockSize != 0 {
		hashBlock = f.Verity.HashBlockSize
	}
	for i := range l.Partitions {
		d := &l.Partitions[i]
		if d.Fill == nil || d.Fill.Verity == nil || d.Fill.Verity.Role != VerityData || d.Fill.Verity.MatchKey != f.Verity.MatchKey {
			continue
		}
		switch {
		case s.MinSize == 0 && s.MaxSize == 0 && d.MaxSize > 0:
			return treeSize(min(d.MaxSize, largest)/grain*grain, dataBlock, hashBlock)
		case f.Minimize != "" && d.Content != nil:
			return treeSize(min(max(d.Content.Size(), 0), largest), dataBlock, hashBlock)
		}
	}
	return 0
}
