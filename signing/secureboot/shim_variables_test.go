package secureboot_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/internal/varstore"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// What is and is not known of shim after reading efivarfs.
func TestReadShimVariables(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, attributes byte, content ...byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), append([]byte{attributes, 0, 0, 0}, content...), 0o600))
	}
	shim := func(name string) string { return name + "-" + shimVendor.String() }
	read := func() osmith.FirmwareVariables {
		v, err := secureboot.ReadVariables(os.DirFS(dir))
		require.NoError(t, err)
		return v
	}
	put("SecureBoot-"+secureboot.GlobalVariable.String(), 6, 1)
	put("SetupMode-"+secureboot.GlobalVariable.String(), 6, 0)
	v := read()
	for _, nothing := range [][]byte{v.SbatLevel, v.SbatPolicy, v.MokList, v.MokListX, v.MokListRT, v.MokListXRT, v.MokSBState, v.MokDBState, v.MokPolicy, v.MokListTrustedRT} {
		require.Nil(t, nothing)
	}
	put(shim("MokListRT"), 6, 'l')
	put(shim("MokListXRT"), 6, 'x')
	v = read()
	require.Equal(t, []byte("l"), v.MokListRT)
	require.Equal(t, []byte("x"), v.MokListXRT)
	for _, none := range [][]byte{v.SbatPolicy, v.MokSBState, v.MokDBState, v.MokPolicy, v.MokListTrustedRT} {
		require.Equal(t, []byte{}, none)
	}
	require.Nil(t, v.SbatLevel)
	put(shim("MokSBStateRT"), 6, 1)
	put(shim("MokIgnoreDB"), 6, 2)
	put(shim("MokPolicyRT"), 6, 3)
	put(shim("MokListTrustedRT"), 6, 4)
	put(shim("SbatPolicy"), 7, 5)
	put(shim("SbatLevelRT"), 6, 6)
	v = read()
	require.Equal(t, []byte{1, 2, 3, 4, 5, 6}, joined(v.MokSBState, v.MokDBState, v.MokPolicy, v.MokListTrustedRT, v.SbatPolicy, v.SbatLevel))
	for _, name := range []string{"MokListRT1", "MokListXRT1"} {
		put(shim(name), 6, 's')
		v = read()
		require.Nil(t, v.MokListRT)
		require.Nil(t, v.MokListXRT)
		require.NoError(t, os.Remove(filepath.Join(dir, shim(name))))
	}
	// A copy that an operating system has made itself is none.
	put(shim("MokListRT"), 7, 'l')
	_, err := secureboot.ReadVariables(os.DirFS(dir))
	var a *secureboot.AttributesError
	require.ErrorAs(t, err, &a)
	require.Equal(t, "MokListRT", a.Variable)
}

// What is known of shim from a variable store.
func TestParseStoreShim(t *testing.T) {
	store := testtools.Gunzip(t, filepath.Join("testdata", "firmware", "VARS.fd.gz"))
	v, err := secureboot.ParseStore(store)
	require.NoError(t, err)
	for _, none := range [][]byte{v.SbatLevel, v.SbatPolicy, v.MokList, v.MokListX, v.MokSBState, v.MokDBState, v.MokPolicy} {
		require.Equal(t, []byte{}, none)
	}
	require.Equal(t, []byte{1}, v.MokListTrustedRT)
	require.Nil(t, v.MokListRT)
	require.Nil(t, v.MokListXRT)
	s, err := varstore.Parse(store)
	require.NoError(t, err)
	all := s.Variables
	for i, name := range []string{"MokList", "MokListX", "MokSBState", "MokDBState", "MokPolicy", "SbatLevel", "MokListTrusted"} {
		all = append(all, varstore.Variable{Name: name, Vendor: shimVendor, Attributes: 3, Data: []byte{byte(i + 1)}})
	}
	all = append(all, varstore.Variable{Name: "SbatPolicy", Vendor: shimVendor, Attributes: 7, Data: []byte{8}})
	full, err := s.Replace(all)
	require.NoError(t, err)
	v, err = secureboot.ParseStore(full)
	require.NoError(t, err)
	require.Equal(t, []byte{1, 2, 3, 4, 5, 6, 8}, joined(v.MokList, v.MokListX, v.MokSBState, v.MokDBState, v.MokPolicy, v.SbatLevel, v.SbatPolicy))
	require.Equal(t, []byte{}, v.MokListTrustedRT)
	// What an operating system may write is as if it were not there.
	for i := range all[len(s.Variables):] {
		all[len(s.Variables)+i].Attributes = 7
	}
	full, err = s.Replace(all)
	require.NoError(t, err)
	v, err = secureboot.ParseStore(full)
	require.NoError(t, err)
	require.Equal(t, []byte{8}, joined(v.MokList, v.MokListX, v.MokSBState, v.MokDBState, v.MokPolicy, v.SbatLevel, v.SbatPolicy))
	require.Equal(t, []byte{}, v.MokListTrustedRT)
}

// What shim measures of its variables is what the shims of real boots measured; what cannot be told
// is nil.
func TestShimMeasured(t *testing.T) {
	w := newWorld(t)
	got := w.s.Measured(w.v)
	list, err := w.s.MokListRT(w.v)
	require.NoError(t, err)
	require.Equal(t, list, got.MokList)
	require.NotEmpty(t, got.MokListX)
	require.Equal(t, "sbat", string(got.SbatLevel[:4]))
	require.Equal(t, [][]byte{{}, {}, {}}, [][]byte{got.MokSBState, got.MokListTrusted, got.MokPolicy})

	require.Equal(t, osmith.ShimVariables{}, (&secureboot.Shim{}).Measured(osmith.FirmwareVariables{}))
	w.v.SecureBoot = nil
	require.Nil(t, w.s.Measured(w.v).SbatLevel)
	w.v.SetupMode = []byte{1}
	require.NotNil(t, w.s.Measured(w.v).SbatLevel, "the level is that of Secure Boot that is off")
}
