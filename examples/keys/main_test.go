package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

const (
	global   = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	security = "-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
	noROMs   = "-trust-no-option-roms-at-the-risk-of-a-black-screen"
	nothing  = "-nothing-must-boot"
)

func call3(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1767225600")
	var out, err bytes.Buffer
	status = program.Run(context.Background(), args, &out, &err)
	return status, out.String(), err.String()
}

// ok runs what must work and returns what it prints.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := call3(t, args...)
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	return stdout
}

// object decodes the one object that -json prints.
func object(t *testing.T, text string, into any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	require.NoError(t, dec.Decode(into), text)
	require.False(t, dec.More(), "one object")
}

// made are directories of keys by the name in their certificates, each made once.
var made = map[string]string{}

func TestMain(m *testing.M) {
	status := m.Run()
	for _, dir := range made {
		if err := os.RemoveAll(dir); err != nil {
			status = 1
		}
	}
	os.Exit(status)
}

// generated returns a directory of keys, for the test to do with as it likes.
func generated(t *testing.T, cn string) string {
	t.Helper()
	if made[cn] == "" {
		dir, err := os.MkdirTemp("", "keys")
		require.NoError(t, err)
		made[cn] = dir
		ok(t, "generate", "-o", dir, "-cn", cn, "-owner", "11111111-2222-3333-4444-555555555555", noROMs, nothing)
	}
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.CopyFS(dir, os.DirFS(made[cn])))
	return dir
}

// setup is a machine in Setup Mode.
var setup = osmith.FirmwareVariables{SecureBoot: []byte{0}, SetupMode: []byte{1}}

// machine is a directory of efivarfs.
func machine(t *testing.T, v osmith.FirmwareVariables) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, attributes byte, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), append([]byte{attributes, 0, 0, 0}, content...), 0o600))
	}
	write("SecureBoot"+global, 6, v.SecureBoot)
	write("SetupMode"+global, 6, v.SetupMode)
	for _, name := range []string{"PK", "KEK", "db", "dbx"} {
		vendor, err := secureboot.VendorGUID(name)
		require.NoError(t, err)
		if content := secureboot.Content(v, name); content != nil {
			write(name+"-"+vendor.String(), 0x27, content)
		}
	}
	return dir
}

// owned is a machine with the keys of a directory.
func owned(t *testing.T, keys string) string {
	t.Helper()
	h, err := readHierarchy(keys, false)
	require.NoError(t, err)
	e, err := h.Enroll(secureboot.EnrollOptions{Time: time.Unix(0, 0), OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true},
		NothingMustBoot: true})
	require.NoError(t, err)
	return machine(t, e.Variables)
}

// loader is an image signed by the db keys of some directories.
func loader(t *testing.T, keys ...string) string {
	t.Helper()
	b := petest.Loader("257")
	for _, dir := range keys {
		h, err := readHierarchy(dir, false)
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, authenticode.Sign(&out, bytes.NewReader(b), h.DB.Key, h.DB.Cert, authenticode.SignOptions{}))
		b = out.Bytes()
	}
	name := filepath.Join(t.TempDir(), "loader.efi")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return name
}

func read(t *testing.T, name ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(name...))
	require.NoError(t, err)
	return b
}

func TestGenerate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "keys")
	var r generateResult
	status, stdout, stderr := call3(t, "generate", "-o", dir, "-cn", "Acme OS", "-json", noROMs, nothing)
	require.Zero(t, status, stderr)
	object(t, stdout, &r)
	require.Len(t, r.Files, 16)
	require.Equal(t, "CN=Acme OS Verity Signing Key", r.Keys["verity"].Subject)
	require.Equal(t, "4", r.Owner[14:15], "a random GUID")
	v := setup
	for _, name := range []string{"db", "KEK", "PK"} {
		var err error
		v, err = secureboot.Apply(v, secureboot.Pending{Variable: name, Auth: read(t, dir, name+".auth")})
		require.NoError(t, err)
		require.Equal(t, read(t, dir, name+".esl"), secureboot.Content(v, name))
		require.Equal(t, time.Unix(1767225600, 0).UTC(), v.Times[name])
	}
	require.Equal(t, []byte{1}, v.SecureBoot)
	require.Equal(t, r.Space, secureboot.Space(v))
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name+".key"))
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		}
	}
	_, err := readHierarchy(dir, false)
	require.NoError(t, err)

	// openssl takes the keys for those of the certificates.
	testtools.Require(t, "openssl")
	for _, name := range names {
		public := testtools.Output(t, "openssl", "pkey", "-in", filepath.Join(dir, name+".key"), "-pubout")
		require.Equal(t, public, testtools.Output(t, "openssl", "x509", "-in", filepath.Join(dir, name+".crt"), "-noout", "-pubkey"))
	}
}

// Images have to boot with the keys that are enrolled: here by a certificate that is kept.
func TestGenerateJudges(t *testing.T) {
	vendor := generated(t, "Other")
	dir := filepath.Join(t.TempDir(), "keys")
	var r generateResult
	object(t, ok(t, "generate", "-json", "-o", dir, "-cn", "Acme OS", "-keep", filepath.Join(vendor, "db.crt"), loader(t, vendor)), &r)
	require.Len(t, r.Files, 16)
}

// What a machine has can be kept: its db, its KEK, its dbx.
func TestGenerateKeeps(t *testing.T) {
	vendor := generated(t, "Other")
	fd := testtools.Trixie(t).Path("usr/share/OVMF/OVMF_VARS_4M.ms.fd")
	dir := filepath.Join(t.TempDir(), "keys")
	ok(t, "generate", "-o", dir, "-keep-vars", fd, "-keep", filepath.Join(vendor, "db.crt"), "-option-rom-digest", strings.Repeat("ab", 32), nothing)
	v, err := readVariables(fd)
	require.NoError(t, err)
	require.Contains(t, string(read(t, dir, "db.esl")), string(v.DB))
	require.Contains(t, string(read(t, dir, "db.esl")), strings.Repeat("\xab", 32))
	require.Contains(t, string(read(t, dir, "KEK.esl")), string(v.KEK))
	require.Equal(t, v.DBX, read(t, dir, "dbx.esl"))
	certs, err := readHierarchy(vendor, false)
	require.NoError(t, err)
	require.Contains(t, string(read(t, dir, "db.esl")), string(certs.DB.Cert.Raw))
}

func TestAuthAsEfitools(t *testing.T) {
	testtools.Require(t, "sign-efi-sig-list")
	keys := generated(t, "Acme OS")
	out, theirs := filepath.Join(keys, "out.auth"), filepath.Join(keys, "theirs.auth")
	for _, add := range []bool{false, true} {
		ours := []string{"auth", "-var", "dbx", "-esl", filepath.Join(keys, "db.esl"), "-key", filepath.Join(keys, "KEK.key"), "-cert", filepath.Join(keys, "KEK.crt"), "-time", "2026-03-04T05:06:07Z", "-o", out}
		efitools := []string{"-t", "2026-03-04 05:06:07", "-k", filepath.Join(keys, "KEK.key"), "-c", filepath.Join(keys, "KEK.crt"), "dbx", filepath.Join(keys, "db.esl"), theirs}
		if add {
			ours, efitools = append(ours, "-append"), append([]string{"-a"}, efitools...)
		}
		var r authResult
		object(t, ok(t, append(ours, "-json")...), &r)
		testtools.Run(t, "sign-efi-sig-list", efitools...)
		require.Equal(t, read(t, theirs), read(t, out))
		require.Equal(t, int64(len(read(t, out))), r.Size)
		require.Equal(t, add, r.Append)
	}
	var r authResult
	object(t, ok(t, "auth", "-var", "PK", "-delete", "-key", filepath.Join(keys, "PK.key"), "-cert", filepath.Join(keys, "PK.crt"), "-o", out, "-json"), &r)
	require.Zero(t, r.PayloadSize)
	require.Equal(t, "2026-01-01T00:00:00Z", r.Time)
}

func TestEvaluate(t *testing.T) {
	keys, other := generated(t, "Acme OS"), generated(t, "Other")
	m, good, bad := owned(t, keys), loader(t, keys), loader(t, other)
	require.Contains(t, ok(t, "evaluate", "-vars", m, good), `loader.efi: allowed: db has the certificate "CN=Acme OS Signature Database Key"`)
	status, stdout, stderr := call3(t, "evaluate", "-vars", m, good, bad)
	require.Equal(t, 1, status)
	require.Contains(t, stdout, "refused: signature 0")
	require.Equal(t, "keys: not every image boots\n", stderr)

	// An update that is pending.
	auth := filepath.Join(keys, "dbx.auth")
	ok(t, "auth", "-var", "dbx", "-append", "-esl", filepath.Join(keys, "db.esl"), "-key", filepath.Join(keys, "KEK.key"), "-cert", filepath.Join(keys, "KEK.crt"), "-o", auth)
	var r struct {
		cli.Header
		SecureBoot, SetupMode bool
		Evaluation            struct {
			Schema  string
			Allowed bool
			Changed []string
		}
	}
	status, stdout, _ = call3(t, "evaluate", "-vars", m, "-pending-append", "dbx="+auth, good, "-json")
	require.Equal(t, 1, status)
	object(t, stdout, &r)
	require.Equal(t, cli.Header{Schema: schema, Verb: "evaluate"}, r.Header)
	require.Equal(t, []string{good}, r.Evaluation.Changed)
	require.True(t, r.SecureBoot)
	status, _, stderr = call3(t, "evaluate", "-vars", m, "-pending", "dbx="+auth, good)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "firmware would refuse the update of dbx ("+auth+"): ")

	// shim's level.
	level := filepath.Join(keys, "level")
	require.NoError(t, os.WriteFile(level, []byte("sbat,1,2024010900\nsystemd-boot,99\n"), 0o600))
	status, stdout, _ = call3(t, "evaluate", "-vars", m, "-sbat-level", level, good)
	require.Equal(t, 1, status)
	require.Contains(t, stdout, "revoked by SBAT")
	require.Contains(t, ok(t, "evaluate", "-vars", machine(t, setup), bad), "Setup Mode on")
}

// Debian's signed shim on a machine with Microsoft's keys.
func TestEvaluateShim(t *testing.T) {
	r := testtools.Trixie(t)
	fd := r.Path("usr/share/OVMF/OVMF_VARS_4M.ms.fd")
	out := ok(t, "evaluate", "-vars", fd, "-time", "2027-01-01T00:00:00Z", r.Path("opt/signed/usr/lib/shim/shimx64.efi.signed"))
	require.Contains(t, out, "allowed: db has the certificate \"CN=Microsoft Corporation UEFI CA 2011")
	require.Contains(t, out, "has expired on 2026-06-27; firmware does not care")
	status, out, _ := call3(t, "evaluate", "-vars", fd, r.Path("opt/signed/usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed"))
	require.Equal(t, 1, status)
	require.Contains(t, out, "Debian Secure Boot")
}

// A whole rotation, step by step, by the program alone.
func TestRotate(t *testing.T) {
	old, fresh := generated(t, "Acme OS"), generated(t, "Other")
	m, image := owned(t, old), loader(t, old)
	plan, update := filepath.Join(t.TempDir(), "plan.json"), filepath.Join(t.TempDir(), "step.auth")
	text := ok(t, "rotate", "-plan", plan, "-vars", m, "-old", old, "-new", fresh, "-revoke", noROMs, "-firmware", "edk2-2022.11", image)
	require.Contains(t, string(read(t, plan)), `"firmware": "edk2-2022.11"`)
	require.Equal(t, 7, strings.Count(text, "[ ]"))
	require.Equal(t, text, ok(t, "rotate", "-plan", plan))
	status, _, stderr := call3(t, "rotate", "-plan", plan, "-vars", m, "-old", old, "-new", fresh, noROMs)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "a plan is not overwritten")

	v, err := readVariables(m)
	require.NoError(t, err)
	var actions []string
	boot := 0
	for range 40 {
		var r rotateResult
		object(t, ok(t, "rotate", "-plan", plan, "-vars", m, "-boot-id", strings.Repeat("b", boot+1), "-o", update, image, "-json"), &r)
		actions = append(actions, r.Action)
		require.Equal(t, "osmith.keys/1", r.Schema)
		ok(t, "evaluate", "-vars", m, image)
		switch r.Action {
		case secureboot.ActionWrite:
			v, err = secureboot.Apply(v, secureboot.Pending{Variable: r.Variable, Auth: read(t, update), Append: r.Append})
			require.NoError(t, err)
			m = machine(t, v)
		case secureboot.ActionInstall:
			require.Equal(t, []string{image}, r.Images)
			image = loader(t, fresh)
		case secureboot.ActionReboot:
			boot++
		}
		if r.Action == secureboot.ActionDone {
			break
		}
	}
	require.Equal(t, "write reboot install write reboot write reboot write reboot write reboot write reboot done", strings.Join(actions, " "))
	require.Equal(t, 7, strings.Count(ok(t, "rotate", "-plan", plan), "[x]"))
	status, stdout, _ := call3(t, "evaluate", "-vars", m, loader(t, old))
	require.Equal(t, 1, status)
	require.Contains(t, stdout, "revoked: ")
}

// What firmware could read is printed, whatever crypto/x509 says of its certificates.
func TestInspect(t *testing.T) {
	data := "../../signing/secureboot/testdata/certificates/"
	out := ok(t, "inspect", data+"KEKUpdate_Lenovo_PK10.bin")
	require.Contains(t, out, "signed by a certificate that crypto/x509 does not parse")
	require.Contains(t, out, `"CN=Microsoft Corporation KEK 2K CA 2023,O=Microsoft Corporation,C=US"`)
	var r inspectResult
	object(t, ok(t, "inspect", "-json", data+"KEKUpdate_ECS_PK2.bin"), &r)
	require.Equal(t, []string{"auth", "2010-03-06T19:17:21Z", "CN=Channel Secure Boot - PK"}, []string{r.Kind, r.Time, r.Signer})
	require.Len(t, r.Lists, 1)
	require.Equal(t, "X509", r.Lists[0].Type)
	esl := filepath.Join(generated(t, "Acme OS"), "db.esl")
	object(t, ok(t, "inspect", "-json", esl), &r)
	require.Equal(t, "esl", r.Kind)
	require.Equal(t, "CN=Acme OS Signature Database Key", r.Lists[0].Entries[0].Subject)
	status, _, stderr := call3(t, "inspect", data+"rsa32768.efi")
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "neither an update nor signature lists")
}

// The key of PK is in a safe.
func TestRotateSignedElsewhere(t *testing.T) {
	testtools.Require(t, "openssl")
	old, fresh, safe := generated(t, "Acme OS"), generated(t, "Other"), t.TempDir()
	key, digest, signature := filepath.Join(safe, "PK.key"), filepath.Join(safe, "digest"), filepath.Join(safe, "signature")
	m, plan := owned(t, old), filepath.Join(safe, "plan.json")
	require.NoError(t, os.Rename(filepath.Join(old, "PK.key"), key))
	for _, name := range []string{"KEK.crt", "KEK.key", "db.crt", "db.key"} {
		require.NoError(t, os.Remove(filepath.Join(fresh, name)))
	}
	status, _, stderr := call3(t, "rotate", "-plan", plan, "-vars", m, "-old", old, "-new", fresh)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "-nothing-must-boot")
	ok(t, "rotate", "-plan", plan, "-vars", m, "-old", old, "-new", fresh, "-nothing-must-boot")
	next := []string{"rotate", "-plan", plan, "-vars", m, "-boot-id", "b"}
	require.Contains(t, ok(t, append(next, "-o", digest)...), "sign: have it signed by \"CN=Acme OS Platform Key\"")
	testtools.Run(t, "openssl", "pkeyutl", "-sign", "-inkey", key, "-pkeyopt", "digest:sha256", "-in", digest, "-out", signature)
	status, _, stderr = call3(t, append(next, "-signature", digest)...)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "digest: secureboot: signature to join")
	require.Contains(t, ok(t, append(next, "-signature", signature, "-o", digest)...), "write: replace PK")
	v, err := readVariables(m)
	require.NoError(t, err)
	v, err = secureboot.Apply(v, secureboot.Pending{Variable: "PK", Auth: read(t, digest)})
	require.NoError(t, err)
	require.Equal(t, read(t, fresh, "PK.esl"), v.PK)
	status, _, stderr = call3(t, append(next, "-signature", signature)...)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "the next step needs none")
}
