package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

const published = "../../signing/secureboot/testdata/microsoft/"

// withMicrosoft is a machine with our PK and Microsoft's KEK of 2023.
func withMicrosoft(t *testing.T, dbx []byte) string {
	t.Helper()
	h, err := readHierarchy(generated(t, "Acme OS"), false)
	require.NoError(t, err)
	pk, err := secureboot.AppendSignatureLists(nil, secureboot.CertificateList(h.Owner, h.PK.Cert))
	require.NoError(t, err)
	a, err := secureboot.ParseAuth(read(t, "../../signing/secureboot/testdata/certificates/KEKUpdate_ECS_PK2.bin"))
	require.NoError(t, err)
	return machine(t, osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: pk, KEK: a.Payload, DBX: dbx})
}

// What a machine does not revoke yet, and which of the published files it takes.
func TestMissing(t *testing.T) {
	old, err := filepath.Glob(published + "signedbykek2011/dbx_x64_*")
	require.NoError(t, err)
	require.Len(t, old, 3)
	fresh := filepath.FromSlash(published + "signedbykek2023/dbx_x64.efiauth2")
	m := withMicrosoft(t, nil)
	var r struct {
		Schema, Verb          string
		Updates               []updateResult
		Missing, StillMissing []missingResult
	}
	status, stdout, stderr := call3(t, append([]string{"missing", "-json", "-vars", m, fresh, published + "DBXUpdateSVN.bin"}, old...)...)
	require.Equal(t, 1, status)
	require.Equal(t, "keys: the machine lacks entries of the updates\n", stderr)
	object(t, stdout, &r)
	require.Equal(t, []string{"osmith.keys/1", "missing"}, []string{r.Schema, r.Verb})
	require.Equal(t, updateResult{Name: fresh, Variable: "dbx", Append: true, Taken: true, New: 291}, r.Updates[0])
	for _, u := range r.Updates[1:] {
		require.False(t, u.Taken)
		require.Contains(t, u.Refused, "is not signed by a trusted certificate")
	}
	require.Len(t, r.Missing, 294)
	require.Len(t, r.StillMissing, 3, "what KEK 2011 signs alone")
	require.Equal(t, &svnResult{Application: osmith.MustParseGUID("9d132b61-59d5-4388-ab1c-185c3cb2eb92"), Name: "bootmgfw.efi", Version: "9.0"}, r.StillMissing[0].SVN)
	status, stdout, _ = call3(t, "missing", "-vars", m, fresh, published+"DBXUpdateSVN.bin")
	require.Equal(t, 1, status)
	for _, text := range []string{
		fresh + ": the machine takes it: new in dbx: 291\n",
		"DBXUpdateSVN.bin: the machine does not take it: secureboot: firmware would refuse the update of dbx: ",
		"missing now: dbx, SHA256 of owner 77fa9abd-0359-4d32-bd60-28f4e78f784b\n",
		"missing after what the machine takes: dbx, SHA256 of owner 9d132b6c-59d5-4388-ab1c-185cfcb2eb92\n" +
			"  bootmgfw.efi 9.0 at least (security version number, application 9d132b61-59d5-4388-ab1c-185c3cb2eb92), the machine asks for none\n",
	} {
		require.Contains(t, stdout, text)
	}

	// A machine that has them, an older version, and files that are none.
	a, err := secureboot.ParseAuth(read(t, fresh))
	require.NoError(t, err)
	b, err := secureboot.ParseAuth(read(t, published+"DBXUpdate2024.bin"))
	require.NoError(t, err)
	m = withMicrosoft(t, append(bytes.Clone(a.Payload), b.Payload...))
	out := ok(t, append([]string{"missing", "-vars", m, fresh}, old...)...)
	require.Contains(t, out, "missing now: nothing\nmissing after what the machine takes: nothing\n")
	_, out, _ = call3(t, "missing", "-vars", m, published+"DBXUpdateSVN.bin")
	require.Contains(t, out, "bootmgfw.efi 9.0 at least (security version number, application 9d132b61-59d5-4388-ab1c-185c3cb2eb92), the machine asks for 2.0\n")
	status, out, stderr = call3(t, "missing", "-vars", m, fresh, filepath.FromSlash("../../signing/secureboot/testdata/certificates/KEKUpdate_ECS_PK1.bin"))
	require.Equal(t, 1, status)
	require.Contains(t, out, "the machine does not take it: secureboot: firmware would refuse the update: ")
	require.Contains(t, stderr, "1 of the updates cannot be read or were signed for no variable")
	// The row of firmware counts: the rules of U-Boot for updates are not known.
	for row, taken := range map[string]bool{"edk2-2026.08": true, "edk2-2022.11": true, "any": true, "u-boot-2026.10": false} {
		_, out, _ = call3(t, "missing", "-vars", withMicrosoft(t, nil), "-firmware", row, fresh)
		require.Equal(t, taken, strings.Contains(out, "the machine takes it"), "%s: %s", row, out)
	}
	for _, args := range [][]string{{"missing", fresh}, {"missing", "-vars", m}, {"missing", "-vars", m, "nofile"}, {"missing", "-vars", "nodir", fresh}, {"missing", "-vars", m, "-firmware", "bios", fresh}} {
		status, _, stderr := call3(t, args...)
		require.Equal(t, 2, status, args)
		require.NotEmpty(t, stderr)
	}
}

// The call fails only where firmware could not read the file either.
func TestInspectReadsWhatFirmwareReads(t *testing.T) {
	file := func(b []byte) string {
		name := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(name, b, 0o600))
		return name
	}
	svn := read(t, published+"DBXUpdateSVN.bin")
	a, err := secureboot.ParseAuth(svn)
	require.NoError(t, err)
	message := len(svn) - len(a.Payload)
	change := func(at int, to ...byte) []byte {
		b := bytes.Clone(svn)
		copy(b[at:], to)
		return b
	}
	empty := bytes.Clone(a.Payload[:28])
	copy(empty[16:], []byte{28, 0, 0, 0})
	const other = 2 // it is neither, whose exit status is 1
	for name, c := range map[string]struct {
		b      []byte
		status int
		text   string // on stdout, or of the error if it is something else
	}{
		"as it is":                  {svn, 0, "update of 2010-03-06T19:17:21Z that appends to dbx, signed by"},
		"its lists":                 {a.Payload, 0, "list 0: 3 x SHA256"},
		"no list":                   {nil, 0, ""},
		"a list without signatures": {empty, 0, "list 0: 0 x SHA256"},
		"unknown type":              {append([]byte{1}, a.Payload[1:]...), 0, "list 0: 3 x "},
		// its signature does not fit any more
		"time that is no date":     {change(2, 13), 1, "update of no date, signed by"},
		"changed":                  {change(len(svn)-1, 1), 1, "its signature is for no variable"},
		"unreadable signature":     {change(40, 0xff, 0xff, 0xff, 0xff), 1, "update whose signature cannot be read: "},
		"SHA-1 for SHA-256":        {change(40+13, 0xff), 1, "update whose signature cannot be read: "},
		"time with nanoseconds":    {change(8, 1), 1, "update whose signature cannot be read: "},
		"cut off in its lists":     {svn[:len(svn)-1], other, "an update whose signature lists cannot be read: secureboot: "},
		"cut off in its signature": {svn[:message-1], other, "neither an update nor signature lists"},
		"cut off lists":            {a.Payload[:len(a.Payload)-1], other, "neither an update nor signature lists"},
		"another certificate type": {change(24, 0), other, "neither an update nor signature lists"},
		"digest of 31 bytes":       {append(bytes.Clone(a.Payload[:24]), append([]byte{47}, a.Payload[25:]...)...), other, "neither an update"},
	} {
		status, stdout, stderr := call3(t, "inspect", file(c.b))
		require.Equal(t, min(c.status, 1), status, "%s: %s", name, stderr)
		if c.status == other {
			require.Contains(t, stderr, c.text, name)
			continue
		}
		require.Contains(t, stdout, c.text, name)
		if c.status == 1 {
			require.Contains(t, stderr, "firmware takes the update in Setup Mode alone", name)
			// Which it does.
			_, err := secureboot.Apply(setup, secureboot.Pending{Variable: "dbx", Auth: c.b, Append: true})
			require.NoError(t, err, name)
		}
	}
	var r inspectResult
	object(t, ok(t, "inspect", "-json", published+"DBXUpdateSVN.bin"), &r)
	require.Equal(t, "dbx", r.Variable)
	require.True(t, r.Append)
	require.Equal(t, "9.0", r.Lists[0].Entries[0].SVN.Version)
	require.NotEmpty(t, r.Lists[0].Entries[0].Data)
}

// The two authorities of Microsoft for others' images are told apart: that for boot loaders decides
// nothing about option ROMs.
func TestGenerateTellsAuthoritiesApart(t *testing.T) {
	for file, status := range map[string]int{"DBUpdate3P2023.bin": 1, "DBUpdate2024.bin": 1, "DBUpdateOROM2023.bin": 0} {
		a, err := secureboot.ParseAuth(read(t, published+file))
		require.NoError(t, err)
		lists, err := secureboot.ParseSignatureLists(a.Payload)
		require.NoError(t, err)
		certs, err := secureboot.Certificates(lists)
		require.NoError(t, err)
		crt := filepath.Join(t.TempDir(), "microsoft.crt")
		text, _, err := secureboot.KeyPair{Cert: certs[0]}.MarshalPEM()
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(crt, text, 0o600))
		vars := machine(t, osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, DB: a.Payload})
		for flag, value := range map[string]string{"-keep": crt, "-keep-vars": vars} {
			got, _, stderr := call3(t, "generate", "-o", filepath.Join(t.TempDir(), "keys"), flag, value, nothing)
			require.Equal(t, status, got, "%s %s: %s", file, flag, stderr)
			if status == 1 {
				require.Contains(t, stderr, "no decision on option ROMs")
			}
		}
	}
}

// A file of lists may begin with one that has no signatures.
func TestHierarchyWithEmptyList(t *testing.T) {
	keys := generated(t, "Acme OS")
	esl := read(t, keys, "PK.esl")
	empty := append(bytes.Clone(esl[:16]), 28, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0)
	require.NoError(t, os.WriteFile(filepath.Join(keys, "PK.esl"), append(empty, esl...), 0o600))
	h, err := readHierarchy(keys, false)
	require.NoError(t, err)
	require.Equal(t, "11111111-2222-3333-4444-555555555555", h.Owner.String())
}
