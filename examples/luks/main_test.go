package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// A bench is a directory with passphrases and a volume.
type bench struct {
	t   *testing.T
	dir string
}

func newBench(t *testing.T) bench {
	t.Helper()
	b := bench{t, t.TempDir()}
	b.file("key", "correct horse")
	b.file("second", "another")
	b.file("wrong", "wrong")
	b.ok("format", b.path("v.img"), "-size", "20971520", "-passphrase-file", b.path("key"), "-kdf", "pbkdf2", "-label", "state", "-uuid", "0f0e0d0c-0b0a-4908-8706-050403020100")
	return b
}

func (b bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b bench) file(name, text string) string {
	b.t.Helper()
	require.NoError(b.t, os.WriteFile(b.path(name), []byte(text), 0o600))
	return b.path(name)
}

// call runs the program; names of files of the bench are found by @name.
func (b bench) call(args ...string) (status int, stdout, stderr string) {
	b.t.Helper()
	for i, a := range args {
		args[i] = strings.Replace(a, "@", b.dir+string(filepath.Separator), 1)
	}
	var out, err bytes.Buffer
	status = program.Run(b.t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

func (b bench) ok(args ...string) string {
	b.t.Helper()
	status, stdout, stderr := b.call(args...)
	require.Zero(b.t, status, stderr)
	require.Empty(b.t, stderr)
	return stdout
}

// object decodes the one object of -json.
func (b bench) object(into any, args ...string) {
	b.t.Helper()
	text := b.ok(append(args, "-json")...)
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	require.NoError(b.t, d.Decode(into), text)
	require.False(b.t, d.More())
}

func (b bench) no(want string, args ...string) {
	b.t.Helper()
	status, stdout, stderr := b.call(args...)
	require.Equal(b.t, 1, status, "%v: %s", args, stderr)
	require.Empty(b.t, stdout)
	require.Contains(b.t, stderr, want)
	require.Regexp(b.t, "(?m)^luks: ", stderr)
	require.Equal(b.t, 1, strings.Count(stderr, "luks: "), stderr)
}

func (b bench) usage(want string, args ...string) {
	b.t.Helper()
	status, stdout, stderr := b.call(args...)
	require.Equal(b.t, 2, status, "%v: %s", args, stderr)
	require.Empty(b.t, stdout)
	require.Contains(b.t, stderr, want)
}

func TestStory(t *testing.T) {
	b := newBench(t)
	var r volumeResult
	b.object(&r, "inspect", "@v.img")
	require.Equal(t, "osmith.luks/1", r.Schema)
	require.Equal(t, "inspect", r.Verb)
	require.Equal(t, []string{"0f0e0d0c-0b0a-4908-8706-050403020100", "state"}, []string{r.UUID, r.Label})
	require.Equal(t, []slotObject{{ID: 0, Type: "luks2", Priority: "normal", KDF: "pbkdf2", Hash: "sha512", Iterations: 600_000, Tokens: []int{}}}, r.Slots)
	require.Equal(t, []dataObject{{"crypt", 16 << 20, 0, "aes-xts-plain64", 4096}}, r.Data)
	require.Contains(t, b.ok("inspect", "@v.img"), "key slot 0: luks2 pbkdf2 (sha512, 600000 iterations), priority normal\n")

	require.Equal(t, "key slot 0 opens\n", b.ok("test", "@v.img", "-passphrase-file", "@key"))
	b.no("no key slot opens", "test", "@v.img", "-passphrase-file", "@wrong")
	b.no("no key slot opens", "test", "@v.img", "-passphrase-file", b.file("newline", "correct horse\n"))
	b.ok("test", "@v.img", "-passphrase-file", "@newline", "-strip-newline")

	// A recovery key is printed once, and opens as a person types it.
	recovery := strings.TrimSpace(b.ok("recovery", "@v.img", "-passphrase-file", "@key"))
	require.Len(t, recovery, 71)
	b.file("typed", strings.ToUpper(strings.ReplaceAll(recovery, "-", ""))+"\n")
	require.Equal(t, "key slot 1 opens\n", b.ok("test", "@v.img", "-passphrase-file", "@typed"))

	// Another slot, with a token; a token for itself.
	b.file("tpm.json", `{"type":"systemd-tpm2","tpm2-blob":"AA=="}`)
	var s slotResult
	b.object(&s, "add", "@v.img", "-passphrase-file", "@typed", "-new-passphrase-file", "@second", "-kdf", "pbkdf2", "-token", "@tpm.json", "-slot", "7")
	require.Equal(t, 7, s.Slot)
	var tk tokenResult
	b.object(&tk, "token", "add", "@v.img", "-token", b.file("note.json", `{"type":"acme-note","b":[1,2]}`))
	require.Equal(t, 2, tk.Token)
	b.object(&r, "inspect", "@v.img")
	require.JSONEq(t, `{"type":"systemd-tpm2","keyslots":["7"],"tpm2-blob":"AA=="}`, string(r.Tokens[1].JSON))
	require.Equal(t, []int{1}, r.Slots[2].Tokens)
	b.no("the only way to unlock key slot 7", "token", "rm", "@v.img", "-id", "1")
	b.ok("token", "rm", "@v.img", "-id", "2")
	b.no("no such token", "token", "rm", "@v.img", "-id", "2")

	// What opens nothing else is no proof that something is left.
	b.no("so whether another slot can be opened is unknown", "remove", "@v.img", "-slot", "0", "-passphrase-file", "@key")
	b.no("so whether another slot can be opened is unknown", "remove", "@v.img", "-slot", "0", "-passphrase-file", "@wrong")
	b.ok("remove", "@v.img", "-slot", "0", "-passphrase-file", "@typed")
	b.no("no key slot opens", "test", "@v.img", "-passphrase-file", "@key")
	b.no("key slot 1 is the last with a passphrase or recovery key", "remove", "@v.img", "-slot", "1", "-passphrase-file", "@second")
	b.no("no such key slot", "remove", "@v.img", "-slot", "5", "-passphrase-file", "@typed")

	// A change in place.
	b.file("tpm-pin.json", `{"type":"systemd-tpm2","tpm2-pin":true}`)
	b.file("third", "a third")
	b.ok("change", "@v.img", "-slot", "7", "-passphrase-file", "@typed", "-new-passphrase-file", "@third", "-kdf", "pbkdf2", "-token", "@tpm-pin.json")
	require.Equal(t, "key slot 7 opens\n", b.ok("test", "@v.img", "-passphrase-file", "@third", "-slot", "7"))
	b.no("no key slot opens", "test", "@v.img", "-passphrase-file", "@second")

	b.ok("remove", "@v.img", "-slot", "1", "-passphrase-file", "@third", "-leave-no-key-for-a-person")
	b.object(&r, "inspect", "@v.img")
	require.Len(t, r.Slots, 1)
}

func TestData(t *testing.T) {
	b := newBench(t)
	plain := bytes.Repeat([]byte("sector "), 100_000)
	b.file("plain", string(plain))
	var d dataResult
	b.object(&d, "encrypt", "@v.img", "-in", "@plain", "-passphrase-file", "@key")
	require.Equal(t, int64(len(plain)), d.Size)
	image, err := os.ReadFile(b.path("v.img"))
	require.NoError(t, err)
	require.NotContains(t, string(image), "sector sector")
	b.object(&d, "decrypt", "@v.img", "-o", "@out", "-passphrase-file", "@key")
	require.Equal(t, int64(4<<20), d.Size)
	out, err := os.ReadFile(b.path("out"))
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(out, plain))
	info, err := os.Stat(b.path("out"))
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o077)

	b.no("room for", "encrypt", "@v.img", "-in", "@v.img", "-passphrase-file", "@key")
	b.no("no key slot opens", "decrypt", "@v.img", "-o", "@none", "-passphrase-file", "@wrong")
	require.NoFileExists(t, b.path("none"))
}

// Nothing that exists is overwritten unless it is asked for.
func TestFormatRefuses(t *testing.T) {
	b := newBench(t)
	b.no("LUKS volume already", "format", "@v.img", "-passphrase-file", "@key", "-kdf", "pbkdf2")
	b.ok("format", "@v.img", "-passphrase-file", "@second", "-kdf", "pbkdf2", "-force", "-key-bits", "256", "-sector-size", "512", "-header-size", "65536")
	b.ok("test", "@v.img", "-passphrase-file", "@second")
	b.file("something", strings.Repeat("x", 20<<20))
	b.no("something is there", "format", "@something", "-passphrase-file", "@key")
	b.usage("keeps its size", "format", "@something", "-size", "1000", "-passphrase-file", "@key")
	b.usage("no such file", "format", "@absent", "-passphrase-file", "@key")
	b.no("the device has", "format", "@absent", "-size", "1000", "-passphrase-file", "@key")
	require.NoFileExists(t, b.path("absent"))
	b.usage("-kdf", "format", "@absent", "-size", "20971520", "-kdf", "scrypt", "-passphrase-file", "@key")
	b.usage("-uuid", "format", "@absent", "-size", "20971520", "-uuid", "x", "-passphrase-file", "@key")
	b.usage("-passphrase-file is missing", "format", "@absent", "-size", "20971520")
	b.usage("header size", "format", "@absent", "-size", "20971520", "-header-size", "5", "-kdf", "pbkdf2", "-passphrase-file", "@key")
	require.NoFileExists(t, b.path("absent"))
	b.no("the passphrase is empty", "format", "@absent", "-size", "20971520", "-passphrase-file", b.file("empty", ""))
}

func TestPartition(t *testing.T) {
	b := newBench(t)
	im, err := partition.Plan(partition.Layout{DiskID: osmith.MustParseGUID("5b3d1e3e-8a55-4b6e-9d0f-2c1a7e4f6b03"), Partitions: []partition.Spec{
		{Type: partition.ESP, ID: osmith.MustParseGUID("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b02"), Name: "esp", Size: 1 << 20},
		{Type: partition.ESP, ID: osmith.MustParseGUID("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b04"), Name: "state", Size: 20 << 20},
	}})
	require.NoError(t, err)
	f, err := os.Create(b.path("disk.img"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(im.Size))
	d, err := osmith.NewDevice(f)
	require.NoError(t, err)
	require.NoError(t, partition.WriteImage(d, im, partition.WriteOptions{}))
	require.NoError(t, d.Close())
	b.no("there is a partition table", "format", "@disk.img", "-passphrase-file", "@key")
	b.ok("format", "@disk.img:state", "-passphrase-file", "@key", "-kdf", "pbkdf2")
	for _, part := range []string{"state", "2", "9C6EA2A5-3D3C-4C3A-9A55-0D1F8F3A6B04"} {
		b.ok("test", "@disk.img:"+part, "-passphrase-file", "@key")
	}
	b.no("no LUKS2 header", "test", "@disk.img:esp", "-passphrase-file", "@key")
	b.no("0 partitions", "test", "@disk.img:none", "-passphrase-file", "@key")
	b.no("", "test", "@v.img:1", "-passphrase-file", "@key")
}

func TestRepair(t *testing.T) {
	b := newBench(t)
	f, err := os.OpenFile(b.path("v.img"), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	var r volumeResult
	b.object(&r, "inspect", "@v.img")
	require.True(t, r.NeedsRepair)
	require.Len(t, r.Problems, 1)
	require.Contains(t, b.ok("inspect", "@v.img"), "problem: primary header")
	require.Contains(t, b.ok("repair", "@v.img"), "repaired: primary header")
	require.Equal(t, "nothing to repair\n", b.ok("repair", "@v.img"))
	b.object(&r, "inspect", "@v.img")
	require.False(t, r.NeedsRepair)
}

func TestUsage(t *testing.T) {
	b := newBench(t)
	for _, args := range [][]string{
		{}, {"format"}, {"shut", "@v.img"}, {"test", "@v.img"}, {"test", "@absent", "-passphrase-file", "@key"}, {"test", "@v.img", "-passphrase-file", "@absent"},
		{"remove", "@v.img", "-passphrase-file", "@key"}, {"change", "@v.img", "-passphrase-file", "@key", "-new-passphrase-file", "@second"},
		{"add", "@v.img", "-passphrase-file", "@key"}, {"token", "add", "@v.img"}, {"token", "rm", "@v.img"}, {"encrypt", "@v.img", "-passphrase-file", "@key"},
		{"decrypt", "@v.img", "-passphrase-file", "@key"}, {"token"},
	} {
		b.usage("", args...)
	}
	status, stdout, _ := b.call("-h")
	require.Zero(t, status)
	require.Empty(t, stdout)
	luks1 := b.file("luks1", "LUKS\xba\xbe\x00\x01"+strings.Repeat("\x00", 8192))
	b.no("LUKS1", "inspect", luks1)
}

// The tokens of systemd 252 and 262 go from a volume to tpm/sealing, and back into one, as they
// are.
func TestSystemdTokens(t *testing.T) {
	b := newBench(t)
	for _, vector := range []string{"sd252-recovery-tpm2.img.gz", "sd262-tpm2-pin-argon2id-signed.header.gz"} {
		b.file("systemd.img", string(testtools.Gunzip(t, "../../partition/luks/testdata/"+vector)))
		var r volumeResult
		b.object(&r, "inspect", "@systemd.img")
		seen := 0
		for _, token := range r.Tokens {
			if token.Type != sealing.TokenType {
				continue
			}
			parsed, err := sealing.ParseToken(token.JSON)
			require.NoError(t, err, vector)
			require.Equal(t, token.Keyslots, parsed.Keyslots)
			text, err := parsed.MarshalJSON()
			require.NoError(t, err)
			b.file("token.json", string(text))
			var added tokenResult
			b.object(&added, "token", "add", "@v.img", "-token", "@token.json")
			var now volumeResult
			b.object(&now, "inspect", "@v.img")
			again, err := sealing.ParseToken(now.Tokens[len(now.Tokens)-1].JSON)
			require.NoError(t, err)
			again.Keyslots = parsed.Keyslots
			require.Equal(t, parsed, again)
			seen++
		}
		require.NotZero(t, seen, vector)
	}
}

// cryptsetup opens what the program has made and changed.
func TestAgainstCryptsetup(t *testing.T) {
	testtools.Require(t, "cryptsetup")
	b := newBench(t)
	b.ok("add", "@v.img", "-passphrase-file", "@key", "-new-passphrase-file", "@second")
	for _, key := range []string{"key", "second"} {
		testtools.Run(t, "cryptsetup", "open", "--test-passphrase", "--key-file", b.path(key), b.path("v.img"))
	}
	b.ok("remove", "@v.img", "-slot", "0", "-passphrase-file", "@second")
	_, err := testtools.Try(t, "cryptsetup", "open", "--test-passphrase", "--key-file", b.path("key"), b.path("v.img"))
	require.Error(t, err)
}
