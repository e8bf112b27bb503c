package secureboot_test

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

const (
	global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	image  = "-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
	shim   = "-605dab50-e046-4300-abb6-3dd810dd8b23"
)

// efivars is a copy of /sys/firmware/efi/efivars of a real boot.
func efivars(t testing.TB) fstest.MapFS {
	t.Helper()
	dir := fstest.MapFS{"BootOrder" + global: {Data: []byte{7, 0, 0, 0, 0, 0}}}
	for _, name := range []string{"SecureBoot" + global, "SetupMode" + global, "PK" + global, "KEK" + global, "db" + image, "dbx" + image} {
		b, err := os.ReadFile(filepath.Join("testdata", "boot", name))
		require.NoError(t, err)
		dir[name] = &fstest.MapFile{Data: b}
	}
	return dir
}

func TestReadVariables(t *testing.T) {
	v, err := secureboot.ReadVariables(os.DirFS("testdata/boot"))
	require.NoError(t, err)
	b := bootVariables(t)
	require.Equal(t, osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: b["PK"], KEK: b["KEK"], DB: b["db"], DBX: b["dbx"]}, v)
	dir := efivars(t)
	require.Equal(t, b["dbx"], secureboot.Content(v, "dbx"))
	require.Nil(t, secureboot.Content(v, "dbt"))
	require.Nil(t, secureboot.Content(v, "Boot0000"))

	dir["SbatLevelRT"+shim] = &fstest.MapFile{Data: []byte("\x06\x00\x00\x00sbat,1,2024010900\n")}
	dir["dbt"+image] = dir["db"+image]
	delete(dir, "dbx"+image)
	v, err = secureboot.ReadVariables(dir)
	require.NoError(t, err)
	require.Equal(t, "sbat,1,2024010900\n", string(v.SbatLevel))
	require.Equal(t, b["db"], v.DBT)
	require.Nil(t, v.DBX)

	// Firmware that cannot verify anything has neither variable; a directory that is not the one of
	// the variables does not look like it.
	dir = efivars(t)
	delete(dir, "SecureBoot"+global)
	delete(dir, "SetupMode"+global)
	delete(dir, "BootOrder"+global)
	_, err = secureboot.ReadVariables(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "want the directory of all variables")
	dir["BootOrder"+global] = &fstest.MapFile{Data: []byte{7, 0, 0, 0, 1, 0}}
	v, err = secureboot.ReadVariables(dir)
	require.NoError(t, err)
	require.Equal(t, [][]byte{{}, {}}, [][]byte{v.SecureBoot, v.SetupMode})
	_, err = secureboot.ReadVariables(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)

	for name, c := range map[string]struct {
		file string
		data []byte // nil: absent
		want string
	}{
		"SecureBoot missing":          {"SecureBoot" + global, nil, "file does not exist"},
		"SetupMode missing":           {"SetupMode" + global, nil, "file does not exist"},
		"SecureBoot without bytes":    {"SecureBoot" + global, []byte{6, 0, 0, 0}, "want one byte"},
		"SecureBoot 2":                {"SecureBoot" + global, []byte{6, 0, 0, 0, 2}, "want one byte"},
		"short":                       {"db" + image, []byte{0x27, 0, 0}, "attributes of db at 0x0"},
		"db without authentication":   {"db" + image, []byte{7, 0, 0, 0}, "variable db has the attributes 0x00000007, want 0x00000027"},
		"no attributes in front":      {"PK" + global, b["PK"], "attributes"},
		"broken list":                 {"KEK" + global, []byte{0x27, 0, 0, 0, 1}, "KEK: signature list at 0x4"},
		"SbatLevelRT set by somebody": {"SbatLevelRT" + shim, []byte{7, 0, 0, 0, 1}, "want 0x00000006"},
		"too large":                   {"dbx" + image, make([]byte, 1<<20+1), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := efivars(t)
			delete(dir, c.file)
			if c.data != nil {
				dir[c.file] = &fstest.MapFile{Data: c.data}
			}
			v, err := secureboot.ReadVariables(dir)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, osmith.FirmwareVariables{}, v)
			require.Equal(t, c.data == nil, errors.Is(err, fs.ErrNotExist))
		})
	}
	_, err = secureboot.ParseVariableFile("Boot0000", make([]byte, 8))
	require.ErrorContains(t, err, `variable "Boot0000"`)
}

// noShim is what is known of a machine on which no shim has kept anything.
func noShim(v osmith.FirmwareVariables) osmith.FirmwareVariables {
	for _, none := range []*[]byte{&v.SbatLevel, &v.SbatPolicy, &v.MokList, &v.MokListX, &v.MokSBState, &v.MokDBState, &v.MokPolicy} {
		*none = []byte{}
	}
	v.MokListTrustedRT = []byte{1}
	return v
}

// Debian's variable stores, and what virt-fw-vars and we write into an empty one.
func TestStores(t *testing.T) {
	r := testtools.Trixie(t)
	debian := func(name string) []byte { return read(t, r.Path("usr/share/OVMF", name)) }
	empty, err := secureboot.ParseStore(debian("OVMF_VARS_4M.fd"))
	require.NoError(t, err)
	require.Equal(t, noShim(osmith.FirmwareVariables{SecureBoot: []byte{0}, SetupMode: []byte{1}, Times: map[string]time.Time{}}), empty)

	ms, err := secureboot.ParseStore(debian("OVMF_VARS_4M.ms.fd"))
	require.NoError(t, err)
	require.Equal(t, []byte{1}, ms.SecureBoot)
	require.Equal(t, []byte{0}, ms.SetupMode)
	require.Equal(t, time.Date(2026, 1, 4, 18, 19, 20, 0, time.UTC).Year(), ms.Times["PK"].Year())

	h := hierarchy(t)
	want := enrolled(t, h).Variables
	want.DBX = lists(t, secureboot.SHA256List(owner, sha256.Sum256(nil)))
	b, err := secureboot.WriteStore(debian("OVMF_VARS_4M.fd"), want, when)
	require.NoError(t, err)
	got, err := secureboot.ParseStore(b)
	require.NoError(t, err)
	want.Times = map[string]time.Time{"PK": when, "KEK": when, "db": when, "dbx": when}
	require.Equal(t, noShim(want), got)

	// virt-fw-vars, given the same lists, stores the same.
	dir := t.TempDir()
	_, pk := pemFiles(t, h.PK)
	_, kek := pemFiles(t, h.KEK)
	_, db := pemFiles(t, h.DB)
	for name, from := range map[string]string{"pk.pem": pk, "kek.pem": kek, "db.pem": db} {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	r.Run(t, dir, "virt-fw-vars", "-i", "/usr/share/OVMF/OVMF_VARS_4M.fd", "-o", filepath.Join(dir, "out.fd"), "--secure-boot",
		"--set-pk", owner.String(), filepath.Join(dir, "pk.pem"), "--add-kek", owner.String(), filepath.Join(dir, "kek.pem"),
		"--add-db", owner.String(), filepath.Join(dir, "db.pem"))
	theirs, err := os.ReadFile(filepath.Join(dir, "out.fd"))
	require.NoError(t, err)
	v, err := secureboot.ParseStore(theirs)
	require.NoError(t, err)
	require.Equal(t, want.PK, v.PK)
	require.Equal(t, want.KEK, v.KEK)
	require.Equal(t, want.DB, v.DB)
	require.Equal(t, []byte{1}, v.SecureBoot)

	// Ours replaces theirs, and they can be read by virt-fw-vars.
	other := enrolled(t, foreignHierarchy(t)).Variables
	other.SecureBoot = []byte{0}
	b, err = secureboot.WriteStore(theirs, other, when)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ours.fd"), b, 0o600))
	out := r.Run(t, dir, "virt-fw-vars", "-i", filepath.Join(dir, "ours.fd"), "--print", "--verbose")
	require.Contains(t, out, "Acme OS Platform Key")
	got, err = secureboot.ParseStore(b)
	require.NoError(t, err)
	require.Equal(t, other.PK, got.PK)
	require.Empty(t, got.DBX)
	require.Equal(t, []byte{0}, got.SecureBoot)

	// virt-fw-vars takes our dbx update out of its .auth file.
	payload := lists(t, secureboot.SHA256List(owner, [32]byte{1}, [32]byte{2}))
	dbx, err := h.SignUpdate(secureboot.Update{Variable: "dbx", Payload: payload, Time: when})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dbx.auth"), dbx, 0o600))
	r.Run(t, dir, "virt-fw-vars", "-i", filepath.Join(dir, "ours.fd"), "-o", filepath.Join(dir, "dbx.fd"), "--set-dbx", filepath.Join(dir, "dbx.auth"))
	v, err = secureboot.ParseStore(read(t, filepath.Join(dir, "dbx.fd")))
	require.NoError(t, err)
	require.Equal(t, payload, v.DBX)

	// forky's store has a dbx of thousands of bytes that Microsoft published.
	v, err = secureboot.ParseStore(read(t, testtools.Forky(t).Path("usr/share/OVMF/OVMF_VARS_4M.ms.fd")))
	require.NoError(t, err)
	l, err := secureboot.ParseSignatureLists(v.DBX)
	require.NoError(t, err)
	require.Equal(t, v.DBX, lists(t, l...))
	require.Greater(t, len(v.DBX), 20000)

	for _, bad := range [][]byte{nil, []byte("x"), debian("OVMF_CODE_4M.fd")} {
		_, err := secureboot.ParseStore(bad)
		_, ok := errors.AsType[*osmith.FormatError](err)
		require.True(t, ok, "%v", err)
		_, err = secureboot.WriteStore(bad, want, when)
		require.Error(t, err)
	}
	want.DB = make([]byte, 300<<10)
	_, err = secureboot.WriteStore(theirs, want, when)
	require.ErrorContains(t, err, "are free")
}

func FuzzParseVariableFile(f *testing.F) {
	for name, file := range efivars(f) {
		f.Add(name[:2], file.Data)
	}
	f.Add("SbatLevelRT", []byte("\x06\x00\x00\x00sbat,1,2024010900\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		b, err := secureboot.ParseVariableFile(name, data)
		if (b == nil) != (err != nil) {
			t.Fatalf("%x and error %v", b, err)
		}
	})
}
