package bootloader_test

import (
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
)

const (
	loaderVendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	globalVendor = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// wide is a text in UTF-16LE with its NUL.
func wide(s string) (b []byte) {
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// efivars are files of efivarfs: variables by name, with four bytes of attributes.
func efivars(variables map[string][]byte) fstest.MapFS {
	files := fstest.MapFS{}
	for name, content := range variables {
		vendor := loaderVendor
		if strings.HasPrefix(name, "Boot") {
			vendor = globalVendor
		}
		files[name+"-"+vendor] = &fstest.MapFile{Data: append([]byte{6, 0, 0, 0}, content...)}
	}
	return files
}

// option is a load option whose path leads to a file on a partition:
// HD(1,GPT,ID,0x800,0x1000)/File, as edk2 writes them.
func option(attributes uint32, title string, id osmith.GUID, file string, data []byte) []byte {
	var path []byte
	if !id.IsZero() {
		path = append(path, 4, 1, 42, 0)
		path = binary.LittleEndian.AppendUint32(path, 1)
		path = binary.LittleEndian.AppendUint64(path, 0x800)
		path = binary.LittleEndian.AppendUint64(path, 0x1000)
		path = append(path, id[3], id[2], id[1], id[0], id[5], id[4], id[7], id[6])
		path = append(path, id[8:]...)
		path = append(path, 2, 2)
	}
	name := wide(file)
	path = append(path, 4, 4, byte(4+len(name)), byte((4+len(name))>>8))
	path = append(path, name...)
	path = append(path, 0x7f, 0xff, 4, 0)
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, wide(title)...)
	return append(append(b, path...), data...)
}

var (
	firstESP  = osmith.MustParseGUID("11111111-2222-3333-4444-555555555555")
	secondESP = osmith.MustParseGUID("66666666-7777-8888-9999-aaaaaaaaaaaa")
)

// machine are variables as a machine has them.
func machine() map[string][]byte {
	return map[string][]byte{
		"LoaderInfo": wide("systemd-boot 262.2-1"), "LoaderFeatures": {1, 2, 3, 4, 5, 6, 7, 8}, "LoaderImageIdentifier": wide(`\EFI\systemd\systemd-bootx64.efi`),
		"LoaderDevicePartUUID": wide(strings.ToUpper(firstESP.String())), "LoaderEntries": append(wide("acme_2.efi"), wide("acmé_1.efi")...), "LoaderEntrySelected": wide("acme_2.efi"),
		"LoaderBootCountPath": wide(`\EFI\Linux\acme_2+2-1.efi`), "LoaderEntryDefault": wide("acme_*"), "LoaderEntryOneShot": wide("acme_1.efi"), "LoaderEntryLastBooted": wide("acme_2.efi"),
		"LoaderTpm2ActivePcrBanks": wide("0x00000016"),
		"StubInfo":                 wide("systemd-stub 262.2-1"), "StubFeatures": {0xff, 0, 0, 0, 0, 0, 0, 0x80}, "StubImageIdentifier": wide(`\EFI\Linux\acme_2+2-1.efi`), "StubDevicePartUUID": wide(secondESP.String()), "StubProfile": wide("0"),
		"BootOrder": {3, 0, 1, 0, 0x0a, 0, 9, 0, 2, 0}, "BootCurrent": {1, 0}, "BootNext": {0x0a, 0},
		"Boot0001": option(1, "Linux Boot Manager", firstESP, `\EFI\systemd\systemd-bootx64.efi`, []byte("args")), "Boot0002": option(0, "Abgeschaltet: größer 😀", firstESP, `\EFI\old\loader.efi`, nil),
		"Boot0003": option(1, "another disk", secondESP, `\EFI\other\loader.efi`, nil), "Boot000A": option(9, "anywhere", osmith.GUID{}, `\EFI\BOOT\BOOTX64.EFI`, nil),
		"Boot00ab": option(1, "no number for firmware", firstESP, `\x`, nil), "BootOptionSupport": {1, 2, 3, 4},
	}
}

func TestReadVariables(t *testing.T) {
	v, err := bootloader.ReadVariables(efivars(machine()))
	require.NoError(t, err)
	require.Empty(t, v.Problems)
	require.Equal(t, bootloader.Variables{EntryDefault: "acme_*", EntryOneShot: "acme_1.efi", EntryLastBooted: "acme_2.efi"}, v.Variables)
	require.Equal(t, []string{"systemd-boot 262.2-1", `\EFI\systemd\systemd-bootx64.efi`, "acme_2.efi", `\EFI\Linux\acme_2+2-1.efi`, "systemd-stub 262.2-1", `\EFI\Linux\acme_2+2-1.efi`, "0"},
		[]string{v.LoaderInfo, v.LoaderImage, v.EntrySelected, v.BootCountPath, v.StubInfo, v.StubImage, v.StubProfile})
	require.Equal(t, uint64(0x0807060504030201), v.LoaderFeatures)
	require.Equal(t, uint64(0x80000000000000ff), v.StubFeatures)
	require.Equal(t, firstESP, v.LoaderPartition)
	require.Equal(t, secondESP, v.StubPartition)
	require.Equal(t, []string{"acme_2.efi", "acmé_1.efi"}, v.Entries)
	require.Equal(t, []crypto.Hash{crypto.SHA256, crypto.SHA384}, v.Banks, "0x10 is SM3")
	require.Equal(t, []uint16{3, 1, 10, 9, 2}, v.Order)
	require.Equal(t, uint16(1), *v.Current)
	require.Equal(t, uint16(10), *v.Next)
	require.Len(t, v.Options, 4)
	one, ok := v.Option(1)
	require.True(t, ok)
	require.Equal(t, "HD(1,GPT,11111111-2222-3333-4444-555555555555,0x800,0x1000)/\\EFI\\systemd\\systemd-bootx64.efi", one.Path)
	require.Equal(t, []any{true, false, "Linux Boot Manager", firstESP, `\EFI\systemd\systemd-bootx64.efi`, "args"},
		[]any{one.Active, one.Hidden, one.Description, one.Partition, one.File, string(one.Data)})
	two, _ := v.Option(2)
	require.Equal(t, "Abgeschaltet: größer 😀", two.Description)
	require.False(t, two.Active)
	ten, _ := v.Option(10)
	require.True(t, ten.Hidden)
	_, ok = v.Option(9)
	require.False(t, ok, "BootOrder names one that is not there")
	require.Equal(t, []string{"EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"}, v.LoaderPaths(firstESP))
	require.Equal(t, []string{"EFI/other/loader.efi", "EFI/BOOT/BOOTX64.EFI"}, v.LoaderPaths(secondESP))
	v.Order = nil
	require.Equal(t, []string{}, v.LoaderPaths(firstESP), "none, and not unknown")
}

// Variables of real machines, as efivarfs had them: edk2 with systemd-boot and stub of 262 and 257,
// and a UKI that firmware starts itself.
func TestReadVariablesOfMachines(t *testing.T) {
	for dir, want := range map[string][]string{
		"a-sb-sdboot-262":  {"systemd-boot 262", "systemd-stub 262"},
		"o-systemd-257":    {"systemd-boot 257", "systemd-stub 257"},
		"c-direct-uki-262": {"", "systemd-stub 262"},
	} {
		b, err := os.ReadFile(filepath.Join("..", "tpm", "testdata", "boot", dir, "efivars.json"))
		require.NoError(t, err)
		var dump map[string]struct {
			Attr  uint32
			Size  int
			Value any // hexadecimal, a text, or several
		}
		require.NoError(t, json.Unmarshal(b, &dump))
		files, options := fstest.MapFS{}, 0
		for name, d := range dump {
			var content []byte
			switch value := d.Value.(type) {
			case string:
				if content, err = hex.DecodeString(value); err != nil || len(content) != d.Size {
					content = wide(value)
				}
			case []any:
				for _, text := range value {
					content = append(content, wide(text.(string))...)
				}
			}
			files[name] = &fstest.MapFile{Data: append(binary.LittleEndian.AppendUint32(nil, d.Attr), content...)}
			if regexp.MustCompile(`^Boot[0-9A-F]{4}-`).MatchString(name) {
				options++
			}
		}
		v, err := bootloader.ReadVariables(files)
		require.NoError(t, err)
		require.Empty(t, v.Problems, dir)
		require.Len(t, v.Options, options, dir)
		require.Positive(t, options)
		require.True(t, strings.HasPrefix(v.LoaderInfo, want[0]), v.LoaderInfo)
		require.True(t, strings.HasPrefix(v.StubInfo, want[1]), v.StubInfo)
		require.False(t, v.LoaderPartition.IsZero(), "a stub that firmware has started says it as well")
		require.False(t, v.StubPartition.IsZero())
		for _, n := range v.Order {
			o, ok := v.Option(n)
			require.True(t, ok, "%s: Boot%04X", dir, n)
			require.NotEmpty(t, o.Description)
			require.NotEmpty(t, o.Path)
			require.NotContains(t, o.Path, "…", "all of it was understood: %s", o.Path)
		}
		require.Equal(t, want[0] != "", len(v.Entries) > 0)
	}
}

// What has another form than it must is a problem with the variable's name, and counts as not set.
func TestReadVariablesProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		content []byte
		want    string
		unset   func(v *bootloader.MachineVariables) bool
	}{
		"LoaderInfo":               {[]byte("abc"), "3 bytes: want UTF-16, an even number of bytes", func(v *bootloader.MachineVariables) bool { return v.LoaderInfo == "" }},
		"LoaderEntries":            {append(wide("a"), 7), "an odd byte at the end of the UTF-16 text", nil},
		"LoaderFeatures":           {[]byte{1}, "1 bytes, want 8", func(v *bootloader.MachineVariables) bool { return v.LoaderFeatures == 0 }},
		"LoaderDevicePartUUID":     {wide("not a GUID"), "want 36", func(v *bootloader.MachineVariables) bool { return v.LoaderPartition.IsZero() }},
		"LoaderTpm2ActivePcrBanks": {wide("0xyz"), `"0xyz": want a number`, func(v *bootloader.MachineVariables) bool { return v.Banks == nil }},
		"BootOrder":                {[]byte{1, 0, 2}, "an odd byte at the end of the UTF-16 text", func(v *bootloader.MachineVariables) bool { return len(v.Order) == 1 }},
		"BootNext":                 {[]byte{1}, "1 bytes, want 2", func(v *bootloader.MachineVariables) bool { return v.Next == nil }},
		"Boot0001":                 {[]byte{1, 0, 0, 0, 4, 0, 'x', 0}, "Description at 0x6: not terminated", func(v *bootloader.MachineVariables) bool { _, ok := v.Option(1); return !ok }},
		"Boot0002":                 {option(1, "x", firstESP, `\x`, nil)[:30], "FilePathList", func(v *bootloader.MachineVariables) bool { _, ok := v.Option(2); return !ok }},
		"Boot0003":                 {[]byte{1}, "1 bytes, want 8 at least", nil},
		"StubInfo":                 {nil, "bytes, want at least 4 bytes of attributes", nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine()
			m[name] = tt.content
			files := efivars(m)
			if tt.content == nil {
				files[name+"-"+loaderVendor].Data = []byte{6, 0}
			}
			v, err := bootloader.ReadVariables(files)
			require.NoError(t, err)
			require.Len(t, v.Problems, 1)
			require.ErrorContains(t, v.Problems[0], "variable "+name+": ")
			require.ErrorContains(t, v.Problems[0], tt.want)
			var problem *bootloader.VariableError
			require.ErrorAs(t, v.Problems[0], &problem)
			require.Equal(t, name, problem.Name)
			require.True(t, tt.unset == nil || tt.unset(v))
		})
	}
	_, err := bootloader.ReadVariables(fstest.MapFS{"boot.img": &fstest.MapFile{}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = bootloader.ReadVariables(unreadable{efivars(machine())})
	require.ErrorIs(t, err, errUnreadable)
	v, err := bootloader.ReadVariables(vanished{efivars(machine())})
	require.NoError(t, err)
	require.Empty(t, v.Problems, "a variable that is deleted while they are read is not set")
	require.Empty(t, v.EntryOneShot)

	m := machine()
	m["LoaderSysFailReason"] = wide("boot-failed")
	v, err = bootloader.ReadVariables(efivars(m))
	require.NoError(t, err)
	require.True(t, v.FirmwareFailed)
	m["Boot0001"] = option(1, "\x1b[2J", firstESP, "\\\x1b[2J", nil)
	v, err = bootloader.ReadVariables(efivars(m))
	require.NoError(t, err)
	o, _ := v.Option(1)
	require.NotContains(t, o.Path, "\x1b")
}

var errUnreadable = errors.New("input/output error")

type unreadable struct{ fstest.MapFS }

func (unreadable) ReadDir(string) ([]fs.DirEntry, error) { return nil, errUnreadable }

type vanished struct{ fstest.MapFS }

func (v vanished) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, "LoaderEntryOneShot") {
		return nil, fs.ErrNotExist
	}
	return v.MapFS.Open(name)
}

func FuzzReadVariables(f *testing.F) {
	for name, content := range machine() {
		f.Add(name, content)
	}
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		v, err := bootloader.ReadVariables(efivars(map[string][]byte{name: content, "BootOrder": {1, 0}}))
		if err != nil {
			return // no name of a file
		}
		for _, o := range v.Options {
			again, ok := v.Option(o.Number)
			require.True(t, ok)
			require.Equal(t, o, again)
		}
		v.LoaderPaths(firstESP)
	})
}

func ExampleReadVariables() {
	v, err := bootloader.ReadVariables(efivars(machine())) // os.DirFS("/sys/firmware/efi/efivars")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.LoaderInfo, "has started", v.StubImage)
	for _, n := range v.Order {
		if o, ok := v.Option(n); ok && o.Active {
			fmt.Printf("Boot%04X %q %s\n", n, o.Description, o.File)
		}
	}
	// Output:
	// systemd-boot 262.2-1 has started \EFI\Linux\acme_2+2-1.efi
	// Boot0003 "another disk" \EFI\other\loader.efi
	// Boot0001 "Linux Boot Manager" \EFI\systemd\systemd-bootx64.efi
	// Boot000A "anywhere" \EFI\BOOT\BOOTX64.EFI
}
