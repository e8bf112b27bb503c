package bootloader_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/testtools"
)

var (
	_ bootloader.VariableStore = (*bootloader.MemoryVariables)(nil)
	_ bootloader.VariableStore = (*bootloader.VariableImage)(nil)
)

var global = osmith.MustParseGUID(globalVendor)

// kept is a variable of the firmware's boot menu.
func kept(name string, data ...byte) bootloader.EFIVariable {
	return bootloader.EFIVariable{Name: name, Vendor: global, Attributes: bootloader.VariableKept, Data: data}
}

// storedVariable is a variable as edk2 has it in flash, with a time.
func storedVariable(name, vendor string, attributes uint32, data ...byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte{0xaa, 0x55, 0x3f, 0}, attributes)
	b = append(b, 1, 2, 3, 4, 5, 6, 7, 8) // monotonic count
	// EFI_TIME, index of the key
	b = append(b, 0xea, 7, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0)
	b = le.AppendUint32(b, uint32(2*len(name)+2))
	b = le.AppendUint32(b, uint32(len(data)))
	b = append(append(efi.AppendGUID(b, osmith.MustParseGUID(vendor)), wide(name)...), data...)
	for len(b)%4 != 0 {
		b = append(b, 0xff)
	}
	return b
}

// variableVolume is a firmware volume of edk2 with room for size bytes of variables, and more of
// the volume behind it.
func variableVolume(size int, variables ...[]byte) []byte {
	le := binary.LittleEndian
	b := efi.AppendGUID(make([]byte, 16), osmith.MustParseGUID("fff12b8d-7696-4c8b-a985-2747075b4f50"))
	b = append(le.AppendUint64(b, uint64(100+size+64)), "_FVH"...)
	b = le.AppendUint16(le.AppendUint32(b, 0x4feff), 72)
	b = append(append(b, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 1, 0, 0), make([]byte, 8)...)
	var sum uint16
	for i := 0; i < 72; i += 2 {
		sum += le.Uint16(b[i:])
	}
	le.PutUint16(b[50:], -sum)
	b = le.AppendUint32(efi.AppendGUID(b, osmith.MustParseGUID("aaf32c78-947b-439a-a180-2e144ec37792")), uint32(28+size))
	b = append(append(b, 0x5a, 0xfe, 0, 0, 0, 0, 0, 0), bytes.Join(variables, nil)...)
	return append(b, bytes.Repeat([]byte{0xff}, 100+size+64-len(b))...)
}

func image(t testing.TB, size int, variables ...[]byte) *bootloader.VariableImage {
	t.Helper()
	v, err := bootloader.ParseVariableImage(variableVolume(size, variables...))
	require.NoError(t, err)
	return v
}

// What holds for every store that is empty, and takes variables of 100 bytes.
func testStore(t *testing.T, store bootloader.VariableStore) {
	_, err := bootloader.ReadVariable(store, "Boot0001", global)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, store.Delete("Boot0001", global), fs.ErrNotExist)

	one, data := kept("Boot0001", 1, 2, 3), []byte{4, 5}
	require.NoError(t, store.Set(one))
	require.NoError(t, store.Set(kept("BootOrder", data...)))
	data[0] = 99
	for _, want := range []bootloader.EFIVariable{one, kept("BootOrder", 4, 5)} {
		got, err := bootloader.ReadVariable(store, want.Name, global)
		require.NoError(t, err)
		require.Equal(t, want, got, "what the caller does with the slice later is not in it")
	}
	_, err = bootloader.ReadVariable(store, "Boot0001", osmith.MustParseGUID(loaderVendor))
	require.ErrorIs(t, err, fs.ErrNotExist, "the same name of another vendor")
	for _, v := range []bootloader.EFIVariable{kept("Boot0001", 1), kept("Boot0001", bytes.Repeat([]byte{7}, 100)...), kept("Boot0001", 2, 2)} {
		require.NoError(t, store.Set(v))
		got, err := bootloader.ReadVariable(store, "Boot0001", global)
		require.NoError(t, err)
		require.Equal(t, v, got)
	}
	for want, v := range map[string]bootloader.EFIVariable{
		"want the name":      {Name: "a/b", Vendor: global, Attributes: 7, Data: []byte{1}},
		`name ""`:            {Vendor: global, Attributes: 7, Data: []byte{1}},
		"name \"a\\x00\"":    {Name: "a\x00", Vendor: global, Attributes: 7, Data: []byte{1}},
		"attributes 0x27":    {Name: "db", Vendor: global, Attributes: 0x27, Data: []byte{1}},
		"want boot service":  {Name: "x", Vendor: global, Attributes: 5, Data: []byte{1}},
		"no content":         {Name: "Boot0001", Vendor: global, Attributes: 7},
		"no firmware stores": {Name: "x", Vendor: global, Attributes: 7, Data: make([]byte, 1<<20)},
	} {
		var e *bootloader.VariableError
		require.ErrorAs(t, store.Set(v), &e)
		require.ErrorContains(t, e, want)
		require.Equal(t, v.Name, e.Name)
	}
	other := kept("Boot0001", 2, 2)
	other.Attributes = 3
	require.ErrorIs(t, store.Set(other), bootloader.ErrVariableRefused, "a write cannot change attributes")
	require.ErrorContains(t, store.Set(other), "bootloader: variable Boot0001: refused by the firmware: a write cannot change its attributes from 0x7 to 0x")

	v, err := bootloader.ReadVariables(store)
	require.NoError(t, err)
	require.Equal(t, []uint16{0x0504}, v.Order)
	require.NoError(t, store.Delete("Boot0001", global))
	_, err = bootloader.ReadVariable(store, "Boot0001", global)
	require.ErrorIs(t, err, fs.ErrNotExist)
	got, err := bootloader.ReadVariable(store, "BootOrder", global)
	require.NoError(t, err)
	require.Equal(t, kept("BootOrder", 4, 5), got)
	require.NoError(t, fstest.TestFS(store, "BootOrder-"+globalVendor))
}

func TestMemoryVariables(t *testing.T) {
	m := &bootloader.MemoryVariables{}
	testStore(t, m)

	// What is written already is no write.
	m = &bootloader.MemoryVariables{Quota: 2*10 + 2 + 2*9 + 4}
	require.NoError(t, m.Set(kept("BootOrder", 1, 0)))
	require.NoError(t, m.Set(kept("BootOrder", 1, 0)))
	require.Equal(t, 1, m.Writes)
	require.NoError(t, m.Set(kept("Boot0001", 1, 2, 3, 4)))
	require.Equal(t, 2, m.Writes)
	err := m.Set(kept("Boot0001", 1, 2, 3, 4, 5))
	require.ErrorIs(t, err, bootloader.ErrNoSpace)
	require.ErrorIs(t, err, bootloader.ErrVariableRefused)
	require.NotErrorIs(t, err, bootloader.ErrVariableReadOnly)
	require.ErrorContains(t, err, "45 bytes in all, the limit is ")
	require.NoError(t, m.Set(kept("Boot0001", 9)), "a smaller one fits in the place of the old one")
	require.Equal(t, 3, m.Writes)
	require.NoError(t, m.Delete("Boot0001", global))
	require.Equal(t, 4, m.Writes)

	files := efivars(machine())
	files["no variable"] = &fstest.MapFile{}
	m, err = bootloader.CopyVariables(files)
	require.NoError(t, err)
	want, err := bootloader.ReadVariables(files)
	require.NoError(t, err)
	got, err := bootloader.ReadVariables(m)
	require.NoError(t, err)
	require.Equal(t, want, got)
	files["Boot0001-"+globalVendor].Data = []byte{7, 0}
	_, err = bootloader.CopyVariables(files)
	require.ErrorContains(t, err, "variable Boot0001: 2 bytes, want at least 4 bytes of attributes")
	_, err = bootloader.CopyVariables(unreadable{files})
	require.ErrorIs(t, err, errUnreadable)

	// efivarfs has an empty file while the first write is not done.
	files["Boot0001-"+globalVendor].Data = nil
	_, err = bootloader.ReadVariable(files, "Boot0001", global)
	require.ErrorIs(t, err, fs.ErrNotExist)
	v, err := bootloader.ReadVariables(files)
	require.NoError(t, err)
	require.Empty(t, v.Problems)
	_, ok := v.Option(1)
	require.False(t, ok)
}

func TestVariableImage(t *testing.T) {
	testStore(t, image(t, 1024))

	const security = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
	db := storedVariable("db", security, 0x27, 1, 2, 3, 4)
	order := storedVariable("BootOrder", globalVendor, 7, 1, 0)
	deleted := storedVariable("Boot0001", globalVendor, 7, 1)
	deleted[2] = 0x3d
	input := variableVolume(300, db, deleted, order)
	before := bytes.Clone(input)
	v, err := bootloader.ParseVariableImage(input)
	require.NoError(t, err)
	require.Equal(t, int64(300-len(db)-len(order)), v.Free())
	input[len(input)-1] = 0
	require.Equal(t, before, v.Bytes(), "what the caller does with the image later is not in it")
	input[len(input)-1] = 0xff
	require.NoError(t, v.Set(kept("BootOrder", 1, 0)))
	require.Equal(t, before, v.Bytes(), "what is there is not written, not even without what was deleted")

	require.NoError(t, v.Set(kept("BootOrder", 2, 0)))
	require.Equal(t, before, input, "the image that was parsed is the caller's")
	after := v.Bytes()
	require.True(t, bytes.Contains(after, db), "times, counts and keys are kept")
	require.Equal(t, before[len(before)-64:], after[len(after)-64:], "behind the store")
	require.NotContains(t, string(after), string(deleted))
	order[len(order)-2-2] = 2
	require.Equal(t, variableVolume(300, db, order), after)
	after[0] = 9
	require.NotEqual(t, after, v.Bytes())

	// What is full is full before anything is changed.
	now := v.Bytes()
	full := kept("Boot0001", make([]byte, v.Free()-60-18+1)...)
	err = v.Set(full)
	require.ErrorIs(t, err, bootloader.ErrNoSpace)
	require.Equal(t, now, v.Bytes())
	full.Data = full.Data[1:]
	require.NoError(t, v.Set(full))
	require.Zero(t, v.Free())
	require.NoError(t, v.Delete("Boot0001", global))
	require.Equal(t, now, v.Bytes())

	// Secure Boot's variables are written with a signature only.
	require.ErrorIs(t, v.Set(bootloader.EFIVariable{Name: "db", Vendor: osmith.MustParseGUID(security), Attributes: 7, Data: []byte{1}}), bootloader.ErrVariableReadOnly)
	require.ErrorIs(t, v.Delete("db", osmith.MustParseGUID(security)), bootloader.ErrVariableReadOnly)
	require.ErrorIs(t, v.Set(bootloader.EFIVariable{Name: "x", Vendor: global, Attributes: 6, Data: []byte{1}}), bootloader.ErrVariableRefused, "what is volatile is not in flash")
	require.Equal(t, now, v.Bytes())

	_, err = bootloader.ParseVariableImage([]byte("no volume"))
	var format *osmith.FormatError
	require.ErrorAs(t, err, &format)
}

func TestSetLoaderVariable(t *testing.T) {
	m := &bootloader.MemoryVariables{}
	for name, text := range map[string]string{"LoaderEntryOneShot": "acmé_2+3.efi", "LoaderEntryDefault": "@saved", "LoaderEntryPreferred": "acme_*", "LoaderEntrySysFail": "rescue.conf",
		"LoaderConfigTimeout": "menu-hidden", "LoaderConfigTimeoutOneShot": "5"} {
		require.NoError(t, bootloader.SetLoaderVariable(m, name, text))
		v, err := bootloader.ReadVariable(m, name, osmith.MustParseGUID(loaderVendor))
		require.NoError(t, err)
		require.Equal(t, bootloader.EFIVariable{Name: name, Vendor: osmith.MustParseGUID(loaderVendor), Attributes: 7, Data: wide(text)}, v)
	}
	v, err := bootloader.ReadVariables(m)
	require.NoError(t, err)
	require.Equal(t, bootloader.Variables{EntryOneShot: "acmé_2+3.efi", EntryDefault: "@saved", EntryPreferred: "acme_*", EntrySysFail: "rescue.conf"}, v.Variables)
	writes := m.Writes
	require.NoError(t, bootloader.SetLoaderVariable(m, "LoaderEntryDefault", "@saved"))
	require.Equal(t, writes, m.Writes)
	for range 2 {
		require.NoError(t, bootloader.SetLoaderVariable(m, "LoaderEntryDefault", ""))
	}
	require.Equal(t, writes+1, m.Writes)
	require.ErrorIs(t, func() error {
		_, err := bootloader.ReadVariable(m, "LoaderEntryDefault", osmith.MustParseGUID(loaderVendor))
		return err
	}(), fs.ErrNotExist)

	for _, name := range []string{"LoaderInfo", "LoaderEntrySelected", "LoaderBootCountPath", "StubInfo", "LoaderSystemToken", "BootOrder", "loaderentrydefault", ""} {
		for _, text := range []string{"x", ""} {
			require.ErrorContains(t, bootloader.SetLoaderVariable(m, name, text), "not a text variable of systemd-boot that an operating system writes")
		}
	}
	for name, text := range map[string]string{"LoaderEntryDefault": "a\x00b", "LoaderEntryOneShot": "\xff", "LoaderConfigTimeout": "soon", "LoaderConfigTimeoutOneShot": "-1"} {
		require.ErrorIs(t, bootloader.SetLoaderVariable(m, name, text), bootloader.ErrConfigValue)
	}
	require.Equal(t, writes+1, m.Writes)
	require.ErrorIs(t, bootloader.SetLoaderVariable(refusing{m}, "LoaderEntryDefault", "x"), bootloader.ErrVariableReadOnly)
	require.ErrorIs(t, bootloader.SetLoaderVariable(refusing{m}, "LoaderEntryOneShot", ""), bootloader.ErrVariableReadOnly)
}

// refusing is a store that takes no write.
type refusing struct{ *bootloader.MemoryVariables }

func (refusing) Set(bootloader.EFIVariable) error    { return bootloader.ErrVariableReadOnly }
func (refusing) Delete(string, osmith.GUID) error    { return bootloader.ErrVariableReadOnly }
func (r refusing) Open(name string) (fs.File, error) { return r.MemoryVariables.Open(name) }

// failing is a store in which nothing can be read.
type failing struct{ *bootloader.MemoryVariables }

func (failing) Open(string) (fs.File, error) { return nil, errUnreadable }

func TestSetSystemToken(t *testing.T) {
	token := bytes.Repeat([]byte{7}, bootloader.SystemTokenSize)
	other := bytes.Repeat([]byte{8}, bootloader.SystemTokenSize)
	m := &bootloader.MemoryVariables{}
	read := func() []byte {
		v, err := bootloader.ReadVariable(m, "LoaderSystemToken", osmith.MustParseGUID(loaderVendor))
		require.NoError(t, err)
		require.Equal(t, bootloader.VariableKept, v.Attributes)
		return v.Data
	}
	for _, size := range []int{0, 31, 33} {
		_, err := bootloader.SetSystemToken(m, make([]byte, size))
		require.ErrorContains(t, err, "bytes, want 32")
	}
	_, err := bootloader.SetSystemToken(failing{m}, token)
	require.ErrorIs(t, err, errUnreadable, "what cannot be read may be a token")
	require.Zero(t, m.Writes)
	written, err := bootloader.SetSystemToken(refusing{m}, token)
	require.ErrorIs(t, err, bootloader.ErrVariableReadOnly)
	require.False(t, written)

	require.NoError(t, m.Set(bootloader.EFIVariable{Name: "LoaderSystemToken", Vendor: osmith.MustParseGUID(loaderVendor), Attributes: 7, Data: token[:31]}))
	written, err = bootloader.SetSystemToken(m, token)
	require.NoError(t, err)
	require.True(t, written, "one that is too short is none")
	require.Equal(t, token, read())
	written, err = bootloader.SetSystemToken(m, other)
	require.NoError(t, err)
	require.False(t, written)
	require.Equal(t, token, read())
}

// virt-fw-vars reads from Debian's stores what was written to them, and everything else as before,
// times among it.
func TestVirtFwVarsReadsVariableImage(t *testing.T) {
	r := testtools.Trixie(t)
	type variable struct {
		Name       string
		GUID       osmith.GUID
		Attr       uint32
		Data, Time string
	}
	for _, name := range []string{"OVMF_VARS_4M.fd", "OVMF_VARS_4M.ms.fd"} {
		b, err := os.ReadFile(r.Path("usr/share/OVMF", name))
		require.NoError(t, err)
		dir := t.TempDir()
		judged := func(b []byte) (text string, all map[string]variable) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "vars.fd"), b, 0o600))
			text = r.Run(t, dir, "virt-fw-vars", "-i", "vars.fd", "--print", "--verbose", "--output-json", "vars.json")
			out, err := os.ReadFile(filepath.Join(dir, "vars.json"))
			require.NoError(t, err)
			var o struct{ Variables []variable }
			require.NoError(t, json.Unmarshal(out, &o))
			all = map[string]variable{}
			for _, v := range o.Variables {
				all[v.Name+"-"+v.GUID.String()] = v
			}
			require.Len(t, all, len(o.Variables))
			return text, all
		}
		_, want := judged(b)
		v, err := bootloader.ParseVariableImage(b)
		require.NoError(t, err)
		for _, size := range []byte{200, 1} { // what is in the way is deleted again
			require.NoError(t, v.Set(kept("OsmithTest", make([]byte, size)...)))
		}
		plan := planned(t, v, bootloader.BootPlanOptions{})
		_, err = plan.Apply(v)
		require.NoError(t, err)
		require.NoError(t, bootloader.SetLoaderVariable(v, "LoaderEntryDefault", "acme_*"))
		require.NoError(t, v.Delete("OsmithTest", global))
		for _, c := range plan.Changes {
			want[c.Name+"-"+globalVendor] = variable{Name: c.Name, GUID: global, Attr: 7, Data: hex.EncodeToString(c.After)}
		}
		want["LoaderEntryDefault-"+loaderVendor] = variable{Name: "LoaderEntryDefault", GUID: osmith.MustParseGUID(loaderVendor), Attr: 7, Data: hex.EncodeToString(wide("acme_*"))}
		text, got := judged(v.Bytes())
		require.Equal(t, want, got)
		require.Contains(t, text, `boot entry: title="Linux Boot Manager" devpath=Partition(nr=1)/FilePath(\EFI\systemd\systemd-bootx64.efi)`)
	}
}
