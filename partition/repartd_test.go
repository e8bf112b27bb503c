package partition

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"encoding/json"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/unitfile"
)

// one reads a single definition.
func one(t *testing.T, text string) Spec {
	t.Helper()
	r, err := ReadRepart(fsOf(map[string]string{"a.conf": "[Partition]\n" + text}), RepartOptions{})
	require.NoError(t, err, text)
	require.Empty(t, r.Warnings)
	require.Len(t, r.Layout.Partitions, 1)
	return r.Layout.Partitions[0]
}

// Sizes are sums with falling units, and 0 is a bound.
func TestRepartSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "010": 10, "+5": 5, "1K": 1024, "1.5K": 1536, "1 K": 1024, "1K 2": 1026, "1M1K": 1049600, "1M 1K": 1049600,
		"1.5M1.5K3": 1574403, "1M+1K": 1049600, "1M\t1K": 1049600, "0.1K": 102, "1.999M": 2096103, "0.3333333G": 357913905,
		"0.1M0.1K": 104959, "1.1T": 1209462790553, "1.": 1, "1B": 1, "1M1B": 1048577, "0.0001K": 0, "1E": 1 << 60,
	} {
		n, err := sizeValue(text)
		require.NoError(t, err, text)
		require.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "-1", "1k", "1KB", "1KiB", "1e3", "1Z", "0x1000", "1K1M", "1M 1M", "1024K1K", ".5M", "1M.5K", "1,5M", "1_000", "auto",
		"infinity", "100%", "\"5M\"", "5M # x", "5M;", "1..5M", "1.5.5M", "+ 1", "++1", "1M-1K", "2E", "16E", "99999999999999999999", "0.1234567890123456789M"} {
		_, err := sizeValue(text)
		require.Error(t, err, text)
	}
	require.Equal(t, int64(1), one(t, "Type=home\nSizeMinBytes=0\n").MinSize)
	require.Equal(t, int64(grain), one(t, "Type=home\nSizeMaxBytes=0\n").MaxSize)
	require.Equal(t, int64(largest), one(t, "Type=home\nSizeMaxBytes=8E\n").MaxSize)
	require.Equal(t, int64(1), one(t, "Type=home\nPaddingMaxBytes=4095\n").PaddingMax)
}

// Numbers are decimal, hexadecimal, octal or binary.
func TestRepartNumbers(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "16": 16, "0x10": 16, "0X1f": 31, "010": 8, "0o10": 8, "0O10": 8, "0b11": 3, "0B11": 3, "+5": 5, "-0": 0} {
		n, err := unitfile.Unsigned(text)
		require.NoError(t, err, text)
		require.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "08", "0x", "0b2", "1.0", "1k", "-5", "+ 5", "0x-5", "1_0", "0x4_0", "18446744073709551616", "\"5\""} {
		_, err := unitfile.Unsigned(text)
		require.Error(t, err, text)
	}
	require.Equal(t, int32(-8), one(t, "Type=home\nPriority=-010\n").Priority)
	require.Equal(t, int32(-1<<31), one(t, "Type=home\nPriority=-2147483648\n").Priority)
	require.Equal(t, uint32(1_000_000), one(t, "Type=home\nWeight=0xF4240\n").Weight)
	require.Equal(t, uint64(5)<<61, one(t, "Type=linux-generic\nFlags=0o1200000000000000000000\n").Attributes)
}

// Lines, sections and files are what systemd-repart takes them for.
func TestRepartFiles(t *testing.T) {
	for text, want := range map[string]string{
		"Label=a\\\n b\\\n# comment\n; c\n c\nPriority=1": "a  b  c",
		"Label=a \\\n    b":                "a      b",
		"Label=a\\":                        "a",
		"Label=a\\\\\nWeight=1":            `a\\`,
		"# foo\\\nLabel=a":                 "a",
		"   Label   =   a   b   ":          "a   b",
		"\tLabel\t=\ta\tb\t":               "a\tb",
		"Label=a\r\nPriority=1\r\n":        "a",
		"Label=a\rPriority=1\r":            "a",
		"Label=a\x00Priority=1":            "a",
		"\ufeffLabel=a":                    "a",
		"X-Foo=1\nLabel=a":                 "a",
		"[X-Foo]\nx\n[Partition]\nLabel=a": "a",
		"Label=b\nLabel=a":                 "a",
		"Label=100%":                       "100%",
		"Label=%%%a":                       "%x86-64",
	} {
		require.Equal(t, want, one(t, "Type=home\n"+text).Name, text)
	}
	home, srv := "[Partition]\nType=home\n", "[Partition]\nType=srv\n"
	dir := fstest.MapFS{
		"10.conf":              {Data: []byte(home)},
		"10.conf.d/b.conf":     {Data: []byte("[Partition]\nLabel=b\nWeight=7\n")},
		"10.conf.d/a.conf":     {Data: []byte("[Partition]\nLabel=a\nPriority=3\n")},
		"10.conf.d/.c.conf":    {Data: []byte("nothing")},
		"10.conf.d/c":          {Data: []byte("nothing")},
		"10.conf.d/empty.conf": {},
		"9.conf":               {Data: []byte("\ufeff" + srv)},
		".20.conf":             {Data: []byte("nothing")},
		"30.conf":              {},
		"30.conf.d/x.conf":     {Data: []byte(home)},
		"40.conf":              {Data: []byte("/dev/null"), Mode: os.ModeSymlink | 0o777},
		"50.conf":              {Data: []byte("9.conf"), Mode: os.ModeSymlink | 0o777},
		"60.conf/x":            {Data: []byte("a directory")},
		"70.conf~":             {Data: []byte("nothing")},
		"80.conf.d/x.conf":     {Data: []byte("a drop-in of nothing")},
		"90.CONF":              {Data: []byte("nothing")},
	}
	r, err := ReadRepart(dir, RepartOptions{})
	require.NoError(t, err)
	require.Empty(t, r.Warnings)
	require.Equal(t, []RepartDefinition{{File: "10.conf", DropIns: []string{"10.conf.d/a.conf", "10.conf.d/b.conf"}}, {File: "50.conf"}, {File: "9.conf"}}, r.Definitions)
	first := r.Layout.Partitions[0]
	require.Equal(t, []any{"b", uint32(7), int32(3), "10"}, []any{first.Name, first.Weight, first.Priority, first.Definition})
	require.Equal(t, []osmith.GUID{Srv, Srv}, []osmith.GUID{r.Layout.Partitions[1].Type, r.Layout.Partitions[2].Type})

	dir["B.conf"] = &fstest.MapFile{Data: []byte("nowhere"), Mode: os.ModeSymlink | 0o777}
	r, err = ReadRepart(dir, RepartOptions{})
	require.Nil(t, r)
	require.ErrorContains(t, err, "B.conf: is a link to nowhere")
	_, err = ReadRepart(fstest.MapFS{"a.conf": {Data: []byte(home)}, "a.conf.d/x.conf": {Data: []byte("/dev/null"), Mode: os.ModeSymlink | 0o777}}, RepartOptions{})
	require.ErrorContains(t, err, "a.conf.d/x.conf: is a link to a device")
	_, err = ReadRepart(fstest.MapFS{"a.conf": {Data: []byte(home)}, "a.conf.d/x.conf": {Data: []byte("[Partition]\n\nWeight=x")}}, RepartOptions{})
	require.ErrorContains(t, err, "a.conf.d/x.conf:3: Weight=x: want a number")
	r, err = ReadRepart(fstest.MapFS{"a.conf": {Data: []byte(home)}, "a.conf.d": {Data: []byte("x")}}, RepartOptions{})
	require.NoError(t, err)
	require.EqualError(t, r.Warnings[0], "a.conf.d: is not a directory of drop-ins")
	for _, none := range []fstest.MapFS{{}, {"a.conf": {}}, {"README": {Data: []byte("x")}}} {
		_, err = ReadRepart(none, RepartOptions{})
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

// Types are those of the local architecture, or of the one that is forced upon all.
func TestRepartTypes(t *testing.T) {
	for _, c := range []struct{ name, local, force, want string }{
		{"root", "", "", "root-x86-64"}, {"usr-verity-sig", "arm64", "", "usr-arm64-verity-sig"}, {"root-secondary", "", "", "root-x86"},
		{"usr-secondary-verity", "", "", "usr-x86-verity"}, {"root-secondary-verity-sig", "arm64", "", "root-arm-verity-sig"},
		{"root-secondary", "", "x86-64", "root-x86-64"}, {"root-arm64", "", "", "root-arm64"}, {"root-arm64", "", "riscv64", "root-riscv64"},
		{"root-amd64", "", "", "root-x86-64"}, {"44479540-f297-41b2-9af7-d131d5f0458a", "", "arm64", "root-arm64"}, {"esp", "", "arm64", "esp"},
		{"0FC63DAF848347728E793D69D8477DE4", "", "", "linux-generic"}, {"21686148-6449-6e6f-744e-656564454649", "", "", "bios-boot"},
	} {
		o := RepartOptions{Architecture: c.local, ForceArchitecture: c.force}
		got, err := o.typeFor(c.name)
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, TypeName(got), c.name)
	}
	for _, name := range []string{"", "ESP", "rot", "root-native", "root-verity-secondary", "linux", "bios-boot", "00000000-0000-0000-0000-000000000000",
		"{0FC63DAF-8483-4772-8E79-3D69D8477DE4}", "0FC63DAF-848347728E793D69D8477DE4"} {
		_, err := (&RepartOptions{}).typeFor(name)
		require.Error(t, err, name)
	}
	_, err := (&RepartOptions{Architecture: "riscv32"}).typeFor("root-secondary")
	require.ErrorContains(t, err, "riscv32 has no secondary architecture")
	for _, o := range []RepartOptions{{Architecture: "vax"}, {ForceArchitecture: "vax"}, {Specifiers: map[byte]string{'z': ""}}} {
		_, err := ReadRepart(fstest.MapFS{}, o)
		require.Error(t, err)
		require.NotErrorIs(t, err, fs.ErrNotExist)
	}
}

// What placement cannot do comes as data.
func TestRepartRequests(t *testing.T) {
	yes, no := true, false
	for text, want := range map[string]*Fill{
		"Type=home\n":                                 nil,
		"Type=home\nFormat=empty\n":                   nil,
		"Type=home\nExcludeFiles=/a\n":                nil,
		"Type=swap\n":                                 {FileSystem: &FileSystemFill{Format: "swap"}},
		"Type=esp\nMakeDirectories=/a\n":              {FAT: &FATFill{Label: "ESP", Files: []Copy{{Target: "/a"}}}},
		"Type=esp\nFormat=vfat\nLabel=x/ü z1234567\n": {FAT: &FATFill{Label: "X__ Z123456"}},
		"Type=home\nAddValidateFS=yes\n":              {FileSystem: &FileSystemFill{Format: "ext4", ValidateFS: &yes}},
		"Type=home\nAddValidateFS=yes\nMountPoint=/a/%a:ro\nMountPoint=/b//c/\n": {FileSystem: &FileSystemFill{Format: "ext4", ValidateFS: &yes, MountPoints: []string{"/a/x86-64", "/b/c"}}},
		"Type=home\nFormat=ext4\nMountPoint=/%M\n":                               {FileSystem: &FileSystemFill{Format: "ext4"}},
		"Type=home\nCopyBlocks=auto\n":                                           {Running: true},
		"Type=home\nCopyBlocks=/a\nEncrypt=yes\n":                                {File: "/a", Encrypt: &EncryptFill{Key: "key-file"}},
		"Type=home\nFormat=empty\nEncrypt=tpm2\n":                                {Encrypt: &EncryptFill{Key: "tpm2"}},
		"Type=home\nFormat=btrfs\nCopyFiles=/a:/b/../c:fsverity=copy\nCopyFiles=/d\nMakeDirectories=\"/x y\" /z\nMakeSymlinks=/l:../t '/m n':/u\n" +
			"ExcludeFiles=/p/ /q\nExcludeFilesTarget=/r\nSubvolumes=/s:ro,nodatacow /v\nDefaultSubvolume=/v\nCompression=zstd\nCompressionLevel=3\n" +
			"AddValidateFS=no\nFileSystemSectorSize=4K\nMinimize=best\n": {Minimize: MinimizeBest, SectorSize: 4096, FileSystem: &FileSystemFill{Format: "btrfs",
			Files: []Copy{{Source: "/a", Target: "/c", FSVerity: true}, {Source: "/d", Target: "/d"}, {Target: "/x y"}, {Target: "/z"}},
			Links: []Link{{Path: "/l", Target: "../t"}, {Path: "/m n", Target: "/u"}}, Exclude: []string{"/p/", "/q"}, ExcludeTarget: []string{"/r"},
			Subvolumes: []Subvolume{{Path: "/s", ReadOnly: true, NoDataCOW: true}, {Path: "/v"}}, DefaultSubvolume: "/v",
			Compression: "zstd", CompressionLevel: "3", ValidateFS: &no}},
		"Type=home\nFormat=ext4\nEncrypt=key-file+tpm2\nVolumeLabel=v\nVolumeName=n\nEncryptKDF=minimal\nKeyFile=/k\nTPM2PCRs=7+11\nDiscard=no\n" +
			"EncryptedVolume=a:b:c\nIntegrity=inline\nIntegrityAlgorithm=hmac-sha512\n": {FileSystem: &FileSystemFill{Format: "ext4"},
			Encrypt: &EncryptFill{Key: "key-file+tpm2", Label: "v", Name: "n", KDF: "minimal", KeyFile: "/k", PCRs: "7+11", Discard: &no, Crypttab: "a:b:c",
				Inline: true, IntegrityAlgorithm: "hmac-sha512"}},
	} {
		got := one(t, text).Fill
		require.Equal(t, want, got, text)
		if got != nil {
			require.NoError(t, got.check())
			require.NotEmpty(t, got.String())
		}
	}
	r, err := ReadRepart(fsOf(map[string]string{"a.conf": "[Partition]\nType=home\nSplitName=%t\nFactoryReset=yes\nMountPoint=/a\nMountPoint=\nMountPoint=/b:ro\nMountPoint=/c\nBlockDeviceReplace=/x\n"}), RepartOptions{})
	require.NoError(t, err)
	require.Equal(t, []RepartDefinition{{File: "a.conf", SplitName: "%t", FactoryReset: true, MountPoints: []string{"/b:ro", "/c"}, BlockDeviceReplace: "/x"}}, r.Definitions)
}

// A flag that the type does not know is a warning, with its line, and changes nothing.
func TestRepartWarnings(t *testing.T) {
	r, err := ReadRepart(fsOf(map[string]string{"a.conf": "[Partition]\nType=linux-generic\n\nNoAuto=yes\nReadOnly=no\n", "b.conf": "[Partition]\nType=esp\nGrowFileSystem=1\nFlags=0x8800000000000000\nNoAuto=no"}), RepartOptions{})
	require.NoError(t, err)
	require.Equal(t, uint64(0), r.Layout.Partitions[0].Attributes)
	require.Equal(t, uint64(0x8800000000000000), r.Layout.Partitions[1].Attributes)
	require.Len(t, r.Warnings, 2)
	require.EqualError(t, r.Warnings[0], "a.conf:4: NoAuto=yes is ignored for a partition of type linux-generic")
	require.EqualError(t, r.Warnings[1], "b.conf:3: GrowFileSystem=yes is ignored for a partition of type esp")
}

func TestReadRepartRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"\n":                                         "a.conf: has no Type=",
		"[Partition]\nSizeMinBytes=1G\n":             "a.conf: has no Type=",
		"[Partition]\nType=rot\n":                    "a.conf:2: Type=rot: no such partition type: want a name",
		"[Partition]\nType=esp\nColour=red\n":        "a.conf:3: Colour=red: unsupported: no such key",
		"[Transfer]\n":                               "a.conf:1: section [Transfer]: unsupported: want [Partition]",
		"[Partition] # x\n":                          "a.conf:1: [Partition] # x is no section: want [Partition]",
		"[partition]\n":                              "a.conf:1: section [partition]",
		"Type=esp\n":                                 "a.conf:1: assignment outside",
		"[Partition]\nType\n":                        `a.conf:2: "Type": want KEY=VALUE`,
		"[Partition]\n=esp\n":                        `a.conf:2: "=esp": want KEY=VALUE`,
		"[Partition]\nType=esp\nLabel=\xff":          "a.conf:3: \"Label=?\" is no UTF-8",
		"[Partition]\n# c\nType=esp\nWeight=1000001": "a.conf:4: Weight=1000001: want 0 to 1000000",
		"[Partition]\nType=esp\nPriority=4294967296": "a.conf:3: Priority=4294967296: want -2147483648 to 2147483647",
		"[Partition]\nType=esp\nSizeMinBytes=9E":     "a.conf:3: SizeMinBytes=9E: is too large: want at most 1E",
		"[Partition]\nType=esp\nSizeMinBytes=5X":     "a.conf:3: SizeMinBytes=5X: want bytes, as in",
		"[Partition]\nType=esp\nLabel=%M":            "a.conf:3: Label=%M: the text for a specifier is not given: %M",
		"[Partition]\nType=esp\nLabel=%z":            "a.conf:3: Label=%z: unknown specifier %z",
		"[Partition]\nType=esp\nLabel=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":         "has 37 UTF-16 units, at most 36 fit",
		"[Partition]\nType=esp\nUUID=null":                                           "a.conf:3: UUID=null: an ID of zeros",
		"[Partition]\nType=esp\nUUID=00000000000000000000000000000000":               "an ID of zeros",
		"[Partition]\nType=esp\nUUID=zz":                                             "a.conf:3: UUID=zz: GUID",
		"[Partition]\nType=esp\nNoAuto=maybe":                                        "a.conf:3: NoAuto=maybe: want yes or no",
		"[Partition]\nType=home\nSizeMinBytes=2M\nSizeMaxBytes=1M":                   "a.conf:4: SizeMaxBytes=: 1048576 is less than SizeMinBytes= (2097152)",
		"[Partition]\nType=home\nSizeMinBytes=4097\nSizeMaxBytes=8191":               "a.conf:4: SizeMaxBytes=: 4096 is less",
		"[Partition]\nType=home\nPaddingMinBytes=1\nPaddingMaxBytes=2":               "a.conf:4: PaddingMaxBytes=: 0 is less than PaddingMinBytes= (4096)",
		"[Partition]\nType=home\nCopyBlocks=/a\nFormat=ext4":                         "a.conf:3: CopyBlocks=: excludes Format=",
		"[Partition]\nType=home\nCopyFiles=/a:b":                                     `a.conf:3: CopyFiles=/a:b: "b": want an absolute path`,
		"[Partition]\nType=home\nCopyFiles=\"/a b\":/c":                              "quotes and escapes: unsupported",
		"[Partition]\nType=home\nCopyFiles=/a:/b:colour":                             "want fsverity=copy",
		"[Partition]\nType=home\nCopyFiles=:/b":                                      "has no source",
		"[Partition]\nType=home\nMakeDirectories=\"/a":                               "is not closed",
		"[Partition]\nType=home\nAddValidateFS=yes\nMountPoint=a":                    `a.conf:4: MountPoint=: "a": want an absolute path`,
		"[Partition]\nType=home\nAddValidateFS=yes\nMountPoint=/%M":                  "the text for a specifier is not given: %M",
		"[Partition]\nType=home\nAddValidateFS=yes\nMountPoint='/a b'":               "MountPoint=: quotes and escapes",
		"[Partition]\nType=home\nMakeDirectories=a":                                  "want an absolute path",
		"[Partition]\nType=home\nMakeSymlinks=/a":                                    "want the path of the link",
		"[Partition]\nType=home\nSubvolumes=/a:rw":                                   `subvolume flag "rw"`,
		"[Partition]\nType=home\nDefaultSubvolume=/a":                                "want one of Subvolumes=",
		"[Partition]\nType=esp\nMakeSymlinks=/a:b":                                   "FAT has no links",
		"[Partition]\nType=swap\nMakeDirectories=/a":                                 "a swap area holds no files",
		"[Partition]\nType=swap\nFormat=empty\nMakeDirectories=/a":                   "empty excludes",
		"[Partition]\nType=home\nFormat=a/b":                                         "want the name of a file system",
		"[Partition]\nType=home\nMinimize=guess":                                     "a.conf:3: Minimize=: requires Format= or Verity=hash",
		"[Partition]\nType=home\nMinimize=best\nFormat=ext4":                         "a.conf:3: Minimize=: best requires Format=erofs",
		"[Partition]\nType=home\nVerity=yes":                                         "want off, data, hash or signature",
		"[Partition]\nType=home\nVerity=data":                                        "requires VerityMatchKey=",
		"[Partition]\nType=home\nVerityMatchKey=a":                                   "requires Verity=data, hash or signature",
		"[Partition]\nType=home\nVerity=hash\nVerityMatchKey=a":                      "0 definitions have Verity=data and VerityMatchKey=a, want one",
		"[Partition]\nType=home\nVerity=hash\nVerityMatchKey=a\nFormat=ext4":         "hash excludes Format=",
		"[Partition]\nType=home\nVerity=signature\nVerityMatchKey=a\nSizeMinBytes=1": "signature excludes SizeMinBytes=",
		"[Partition]\nType=home\nVerityHashBlockSizeBytes=8192":                      "want a power of 2 from 512 to 4096",
		"[Partition]\nType=home\nFileSystemSectorSize=1000":                          "want a power of 2 from 512",
		"[Partition]\nType=home\nEncrypt=maybe":                                      "want off, key-file, tpm2 or key-file+tpm2",
		"[Partition]\nType=home\nVolumeName=a":                                       "requires Encrypt=",
		"[Partition]\nType=home\nIntegrity=inline":                                   "requires Encrypt=",
		"[Partition]\nType=home\nEncryptKDF=md5":                                     "want argon2id, pbkdf2, minimal",
		"[Partition]\nType=home\nSupplementFor=b":                                    "a.conf:3: SupplementFor=: ",
		"[Partition]\nType=home\nSupplementFor=a":                                    "no other partition is defined by that name",
		"[Partition]\nType=home\nSupplementFor=a/b":                                  "want the name of a definition file",
		strings.Repeat("#", unitfile.MaxFile+1):                                      "is not a regular file of at most",
	} {
		r, err := ReadRepart(fstest.MapFS{"a.conf": {Data: []byte(text)}}, RepartOptions{})
		require.Nil(t, r)
		require.ErrorContains(t, err, want, "%.100s", text)
		var at *RepartError
		require.ErrorAs(t, err, &at)
		require.Equal(t, "a.conf", at.File)
	}
	home := "[Partition]\nType=home\n"
	for want, defs := range map[string]map[string]string{
		"that is a supplement itself":            {"a": home, "b": home + "SupplementFor=a\n", "c": home + "SupplementFor=b\n"},
		`that has a supplement already, "b"`:     {"a": home, "b": home + "SupplementFor=a\n", "c": home + "SupplementFor=a\n"},
		"which cannot be merged":                 {"a": home + "Encrypt=tpm2\n", "b": home + "SupplementFor=a\n"},
		"merged into a.conf, the least size":     {"a": home + "SizeMaxBytes=1M\n", "b": home + "SizeMinBytes=2M\nSupplementFor=a\n"},
		"merged into a.conf, the least padding":  {"a": home + "PaddingMinBytes=2M\n", "b": home + "PaddingMaxBytes=1M\nSupplementFor=a\n"},
		"2 definitions have Verity=data":         {"a": home + "Verity=data\nVerityMatchKey=k\n", "b": home + "Verity=data\nVerityMatchKey=k\n", "c": home + "Verity=hash\nVerityMatchKey=k\n"},
		"want one at most":                       {"a": home + "Verity=data\nVerityMatchKey=k\n", "b": home + "Verity=hash\nVerityMatchKey=k\n", "c": home + "Verity=signature\nVerityMatchKey=k\n", "d": home + "Verity=signature\nVerityMatchKey=k\n"},
		"has neither CopyBlocks= nor Minimize=":  {"a": home + "Verity=data\nVerityMatchKey=k\n", "b": home + "Verity=hash\nVerityMatchKey=k\nMinimize=best\n"},
		"its ciphertext is not known":            {"a": home + "CopyBlocks=/x\nVerity=data\nVerityMatchKey=k\nEncrypt=tpm2\n", "b": home + "Verity=hash\nVerityMatchKey=k\nMinimize=best\n"},
		"which has the data, has no CopyBlocks=": {"a": home + "Verity=data\nVerityMatchKey=k\n", "b": home + "Verity=hash\nVerityMatchKey=k\nCopyBlocks=/x\n"},
	} {
		files := map[string]string{}
		for name, text := range defs {
			files[name+".conf"] = text
		}
		_, err := ReadRepart(fsOf(files), RepartOptions{})
		require.ErrorContains(t, err, want)
		var at *RepartError
		require.ErrorAs(t, err, &at)
		require.NotZero(t, at.Line)
	}
	_, err := ReadRepart(fstest.MapFS{}, RepartOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// What is merged is merged as a whole: the files of both, and their contents until the caller makes
// the one for both.
func TestSupplementContents(t *testing.T) {
	l := Layout{Seed: repartSeed, Size: 1 << 30, Repart: true, LayoutOnly: true, Partitions: []Spec{
		{Type: ESP, Definition: "esp", Name: "esp", Content: strings.NewReader("abc"), Fill: &Fill{FAT: &FATFill{Files: []Copy{{Target: "/a"}}, Exclude: []string{"/x"}}}},
		{Type: XBOOTLDR, SupplementFor: "esp", Name: "boot", Content: strings.NewReader("defg"), Fill: &Fill{FAT: &FATFill{Files: []Copy{{Target: "/b"}}, ExcludeTarget: []string{"/y"}}}},
	}}
	im, err := Plan(l)
	require.NoError(t, err)
	require.Len(t, im.Table.Partitions, 1)
	require.Len(t, im.Operations(), 1)
	require.Equal(t, &Fill{FAT: &FATFill{Files: []Copy{{Target: "/a"}, {Target: "/b"}}, Exclude: []string{"/x"}, ExcludeTarget: []string{"/y"}}}, im.Fill(0))
	require.Equal(t, int64(7), im.Content(0).Size())
	_, err = im.Content(0).ReadAt(make([]byte, 1), 0)
	require.ErrorContains(t, err, "SetContent")
	require.NoError(t, im.SetContent(0, strings.NewReader("one for both")))
	require.Equal(t, []Copy{{Target: "/a"}}, l.Partitions[0].Fill.FAT.Files, "the layout stays as it is")

	text, err := json.Marshal(l)
	require.NoError(t, err)
	back, err := ReadLayout(strings.NewReader(string(text)))
	require.NoError(t, err)
	for i := range l.Partitions {
		l.Partitions[i].Content = nil
	}
	l.LayoutOnly = false
	require.Equal(t, l, back)
}

func FuzzReadRepart(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		for name, text := range randomDefinitions(r) {
			if !strings.HasPrefix(name, ".") {
				f.Add(text)
			}
		}
	}
	f.Add("[Partition]\nType=esp\nFormat=vfat\nCopyFiles=/a:/b\\\n c\nMakeDirectories=/x /y\nSizeMinBytes=1.5G\nLabel=%%\nFlags=0x3\n")
	f.Add("[Partition]\nType=usr\nFormat=btrfs\nEncrypt=tpm2\nSubvolumes=/a:ro\nDefaultSubvolume=/a\nMakeSymlinks=\"/a b\":c\nMinimize=best\nMountPoint=/x\n")
	f.Fuzz(func(t *testing.T, text string) {
		out, err := ReadRepart(fstest.MapFS{"a.conf": {Data: []byte(text)}}, RepartOptions{})
		if err != nil {
			require.Nil(t, out)
			return
		}
		l := out.Layout
		require.Len(t, l.Partitions, 1)
		require.Len(t, out.Definitions, 1)
		b, err := json.Marshal(l)
		require.NoError(t, err)
		back, err := ReadLayout(strings.NewReader(string(b)))
		require.NoError(t, err, string(b))
		l.Seed, back.Seed = repartSeed, repartSeed
		l.LayoutOnly, back.LayoutOnly = true, true
		one, err := Plan(l)
		other, err2 := Plan(back)
		require.Equal(t, err, err2)
		if err == nil {
			require.Equal(t, one.Table, other.Table)
			require.NoError(t, one.Table.Check())
		}
	})
}
