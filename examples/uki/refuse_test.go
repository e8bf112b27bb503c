package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRefused: what cannot be done is said in words that name the flag or the file, with the right
// status, and leaves nothing behind.
func TestRefused(t *testing.T) {
	dir, path := workshop(t)
	ok(t, buildArgs(path)...)
	write := func(name, content string) { require.NoError(t, os.WriteFile(path(name), []byte(content), 0o600)) }
	write("text", "not a PE")
	write("empty", "")
	require.NoError(t, os.MkdirAll(path("two/fw"), 0o755))
	write("two/fw/a", "a")
	write("two/fw/b", "b")
	cut := read(t, path("out.efi"))
	write("cut.efi", string(cut[:len(cut)/2]))
	packed := compressed(t, read(t, path("linux")))
	write("cut.gz", string(packed[:len(packed)/2]))
	hole := read(t, path("out.efi"))
	for at := 64 + 24 + 240; ; at += 40 {
		// a section with less of the file than lies before the next
		if string(hole[at:at+7]) == ".linux\x00" {
			binary.LittleEndian.PutUint32(hole[at+16:], 512)
			break
		}
	}
	write("hole.efi", string(hole))
	write("xz", "\xfd7zXZ\x00 and more")
	write("lz4", "\x02\x21\x4c\x18 and more")
	t.Setenv("TMPDIR", dir)
	before := names(t, dir)
	with := func(args ...string) []string { return append(buildArgs(path, "-o", path("new.efi")), args...) }
	tests := map[string]struct {
		args   []string
		status int
		want   string
	}{
		"no verb":           {[]string{"assemble"}, 2, `no verb "assemble"`},
		"no flags":          {[]string{"build"}, 2, "-o is missing"},
		"no linux":          {[]string{"build", "-stub", path("stub"), "-os-release", "", "-o", path("new.efi")}, 2, "-linux is missing"},
		"no os-release":     {[]string{"build", "-stub", path("stub"), "-linux", path("linux"), "-o", path("new.efi")}, 2, "-os-release is missing"},
		"operand":           {with("extra"), 2, `unexpected argument "extra"`},
		"stub absent":       {with("-stub", path("absent")), 2, path("absent")},
		"stub is text":      {with("-stub", path("text")), 2, "uki: -stub: "},
		"kernel is text":    {with("-linux", path("text")), 2, "uki: -linux: not a PE"},
		"kernel is dir":     {with("-linux", dir), 2, "is a directory"},
		"kernel cut gzip":   {with("-linux", path("cut.gz")), 2, path("cut.gz") + ": "},
		"kernel bad xz":     {with("-linux", path("xz")), 2, path("xz") + ": xz: checksum of a header is wrong"},
		"kernel lz4":        {with("-linux", path("lz4")), 2, "uki: -linux: not a PE image: compressed with lz4: decompress it first"},
		"initrd absent":     {with("-initrd", path("absent")), 2, path("absent")},
		"initrd empty name": {with("-initrd", ""), 2, "the file is empty"},
		"cmdline absent":    {with("-cmdline", "@"+path("absent")), 2, path("absent")},
		"at alone":          {with("-cmdline", "@"), 2, "no file name behind the @"},
		"cmdline NUL":       {with("-cmdline", "a\x00b"), 2, "uki: -cmdline: contains a NUL"},
		"section form":      {with("-section", "noname"), 2, "want NAME:TEXT"},
		"section name":      {with("-section", ".toolongname:x"), 2, "uki: -section: "},
		"section absent":    {with("-section", ".a:@"+path("absent")), 2, path("absent")},
		"hwids absent":      {with("-hwids", path("absent")), 2, "absent"},
		"efifw two":         {with("-efifw", path("two/fw")), 2, "2 files, want one"},
		"join text":         {with("-join-profile", path("text")), 2, "-join-profile " + path("text")},
		"join image":        {with("-join-profile", path("out.efi")), 2, "-join-profile " + path("out.efi")},
		"out is dir":        {append(buildArgs(path), "-o", dir), 2, "is a directory"},
		"out nowhere":       {append(buildArgs(path), "-o", path("absent/new.efi")), 2, "create " + path("absent/new.efi")},
		"cert alone":        {with("-secureboot-certificate", path("db.crt")), 2, "without -secureboot-private-key"},
		"key alone":         {with("-secureboot-private-key", path("db.key")), 2, "without -secureboot-certificate"},
		"other key":         {with("-secureboot-private-key", path("pcr.key"), "-secureboot-certificate", path("db.crt")), 2, "is not the key of the certificate"},
		"key is cert":       {with("-secureboot-private-key", path("db.crt"), "-secureboot-certificate", path("db.crt")), 2, "no private key in PEM"},
		"pcr key is EC":     {with("-pcr-private-key", path("ec.key")), 2, "signed with RSA"},
		"pcr key pair":      {with("-pcr-private-key", path("pcr.key"), "-pcr-public-key", path("pcr2.pub")), 2, "not the public half"},
		"pcr keys":          {with("-pcr-private-key", path("pcr.key"), "-pcr-private-key", path("pcr2.key"), "-pcr-public-key", path("pcr2.pub")), 2, "given 1 times"},
		"phases alone":      {with("-phases", "enter-initrd"), 2, "-phases is given 1 times for 0 private keys"},
		"phases empty word": {with("-pcr-private-key", path("pcr.key"), "-phases", "a::b"), 2, "empty phase"},
		"phases none":       {with("-pcr-private-key", path("pcr.key"), "-phases", ","), 2, "no path"},
		"banks":             {with("-pcr-private-key", path("pcr.key"), "-pcr-banks", "md5"), 2, "md5"},
		"banks alone":       {with("-pcr-banks", "sha256"), 2, "-pcr-banks without a key"},
		"digest and key":    {with("-pcr-private-key", path("pcr.key"), "-policy-digest"), 2, "sign here or elsewhere"},
		"digest no key":     {with("-policy-digest"), 2, "needs -pcr-public-key"},
		"profile and key":   {[]string{"build", "-stub", path("addon"), "-profile", "ID=x", "-pcr-private-key", path("pcr.key"), "-o", path("new.efi")}, 2, "sign the image that it is joined to"},
		"profile and sbat":  {[]string{"build", "-stub", path("addon"), "-profile", "ID=x", "-sbat", "x", "-o", path("new.efi")}, 2, "-sbat without -linux"},
		"addon empty":       {[]string{"addon", "-stub", path("addon"), "-o", path("new.efi")}, 2, "none of the sections that a stub applies"},
		"addon no output":   {[]string{"addon", "-cmdline", "x"}, 2, "-o is missing"},
		"inspect text":      {[]string{"inspect", path("text")}, 1, "not a PE image"},
		"inspect lz4":       {[]string{"inspect", path("lz4")}, 1, path("lz4") + ": MS-DOS header at 0x0: not a PE image: compressed with lz4: decompress it first"},
		"check xz":          {[]string{"measure", path("xz")}, 1, "compressed with xz: decompress it first (package uki/decompress does)"},
		"sign in place":     {[]string{"sign", "-key", path("db.key"), "-cert", path("db.crt"), path("cut.efi")}, 1, path("cut.efi") + ": section "},
		"sign hole":         {[]string{"sign", "-key", path("db.key"), "-cert", path("db.crt"), path("hole.efi")}, 1, path("hole.efi") + ": section data at "},
		"inspect empty":     {[]string{"inspect", path("empty")}, 1, path("empty") + ": MS-DOS header"},
		"inspect kernel":    {[]string{"inspect", path("linux")}, 1, "no .linux section"},
		"inspect cut":       {[]string{"inspect", path("cut.efi")}, 1, path("cut.efi") + ": "},
		"inspect absent":    {[]string{"inspect", path("absent")}, 2, path("absent")},
		"inspect two":       {[]string{"inspect", path("out.efi"), path("out.efi")}, 2, "unexpected argument"},
		"measure profile":   {[]string{"measure", path("out.efi"), "-profile", "1"}, 2, "-profile 1: the image has profiles 0 to 0"},
		"measure phases":    {[]string{"measure", path("out.efi"), "-phases", ":"}, 2, "empty phase"},
		"sign no key":       {[]string{"sign", path("out.efi")}, 2, "-key is missing"},
		"sign text":         {[]string{"sign", "-key", path("db.key"), "-cert", path("db.crt"), path("text")}, 1, path("text") + ": "},
		"verify no cert":    {[]string{"verify", path("out.efi")}, 2, "-cert is missing"},
		"verify unsigned":   {[]string{"verify", "-cert", path("db.crt"), path("out.efi")}, 1, "not signed"},
		"verify text":       {[]string{"verify", "-cert", path("db.crt"), path("text")}, 1, path("text")},
		"verify key":        {[]string{"verify", "-cert", path("db.key"), path("out.efi")}, 2, "no certificate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := call3(t, tt.args...)
			assert.Equal(t, tt.status, status, stderr)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, tt.want)
			assert.NotRegexp(t, "uki: .*(uki|authenticode): ", stderr)
			assert.Equal(t, before, names(t, dir), "something was left behind")
		})
	}
	status, _, stderr := call3(t, "build", "-h")
	assert.Zero(t, status)
	assert.Contains(t, stderr, "example: uki build")
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	status, _, stderr = call3(t, "sign", "-key", path("db.key"), "-cert", path("db.crt"), path("out.efi"))
	assert.Equal(t, 2, status)
	assert.Contains(t, stderr, "SOURCE_DATE_EPOCH=yesterday")

	// A time at which the certificate is not valid would make an image that U-Boot refuses.
	signedBefore := read(t, path("out.efi"))
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	for _, args := range [][]string{{"sign", "-key", path("db.key"), "-cert", path("db.crt"), path("out.efi")},
		buildArgs(path, "-secureboot-private-key", path("db.key"), "-secureboot-certificate", path("db.crt"), "-o", path("other.efi"))} {
		status, _, stderr = call3(t, args...)
		assert.Equal(t, 2, status)
		assert.Contains(t, stderr, "SOURCE_DATE_EPOCH=1 is 1970-01-01T00:00:01Z: the certificate \"CN=")
		assert.Contains(t, stderr, path("db.crt")+" is valid from ")
		assert.Contains(t, stderr, "set a time in between, or unset it")
	}
	assert.Equal(t, signedBefore, read(t, path("out.efi")))
	assert.NoFileExists(t, path("other.efi"))
}

// TestRefusedAsJSON: a no is an object, too.
func TestRefusedAsJSON(t *testing.T) {
	_, path := workshop(t)
	ok(t, buildArgs(path)...)
	status, stdout, _ := call3(t, "verify", "-json", "-cert", path("db.crt"), path("out.efi"))
	require.Equal(t, 1, status)
	var r verifyResult
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.Equal(t, "unsigned", r.Reason)
	require.Equal(t, 1, strings.Count(stdout, "\n"))
	require.Equal(t, "osmith.uki/1", r.Schema)
	require.Equal(t, filepath.Base(path("out.efi")), filepath.Base(r.File))
}
