package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOutput(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(name, []byte("old"), 0o600))

	o, err := Create(name)
	require.NoError(t, err)
	_, err = o.Write([]byte("new"))
	require.NoError(t, err)
	o.Drop()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "old", string(content))

	require.NoError(t, WriteFile(name, []byte("new")))
	content, err = os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "new", string(content))
	info, err := os.Stat(name)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Zero(t, info.Mode().Perm()&0o077)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)

	require.ErrorContains(t, WriteFile(dir, nil), "is a directory")
	require.ErrorContains(t, WriteFile(filepath.Join(dir, "absent", "out"), nil), "create "+filepath.Join(dir, "absent", "out"))
	if _, err := os.Stat(os.DevNull); err == nil {
		require.NoError(t, WriteFile(os.DevNull, []byte("gone")))
	}
}

func TestPEMRefused(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		"": "no ",
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n": "",
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n":                     "",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n":                     "",
		"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n":                       "",
		"0\x03xyz": "",
	} {
		name := filepath.Join(dir, "pem")
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		_, err := ReadKey(name)
		require.ErrorContains(t, err, want)
		_, err = ReadCertificates(name)
		require.ErrorContains(t, err, want)
		_, err = ReadPublicKey(name)
		require.ErrorContains(t, err, want)
	}
}
