package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition/fat"
)

// answer runs a call that ends with a status, with -json, and decodes its object.
func answer[T any](t *testing.T, status int, args ...string) (r T) {
	t.Helper()
	got, stdout, stderr := call3(t, append(args, "-json")...)
	require.Equal(t, status, got, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &r), stdout)
	return r
}

// addonShop is a workshop with an image, and a maker of signed add-ons.
func addonShop(t *testing.T) (path func(string) string, addon func(name string, args ...string) string) {
	t.Helper()
	_, path = workshop(t)
	ok(t, buildArgs(path, "-cmdline", "quiet roothash=00")...)
	return path, func(name string, args ...string) string {
		t.Helper()
		ok(t, append([]string{"addon", "-stub", path("addon"), "-secureboot-private-key", path("db.key"), "-secureboot-certificate", path("db.crt"), "-o", path(name)}, args...)...)
		return path(name)
	}
}

func codes(r addonResult) (list []string) {
	for _, f := range r.Findings {
		list = append(list, f.Severity+" "+f.Code)
	}
	return list
}

func TestAddonCheck(t *testing.T) {
	path, addon := addonShop(t)
	check := func(status int, file string, more ...string) addonResult {
		t.Helper()
		return answer[addonResult](t, status, append([]string{"addon", "check", file, "-uki", path("out.efi")}, more...)...)
	}
	trusted := []string{"-cert", path("db.crt")}
	console := addon("console.addon.efi", "-cmdline", "console=ttyS0", "-uname", "6.12.0-stand-in")
	r := check(0, console, trusted...)
	require.Equal(t, []string{"osmith.uki/1", "addon check", "accepted", "console=ttyS0", "6.12.0-stand-in"}, []string{r.Schema, r.Verb, r.Signature, r.Cmdline, r.Uname})
	require.Equal(t, "quiet roothash=00 console=ttyS0", r.KernelCmdline)
	require.Empty(t, r.Findings)
	require.Empty(t, r.Refusals)
	require.Len(t, r.PCR12, 64)
	require.Equal(t, strings.Repeat("0", 64), r.PCR12Before)
	require.Contains(t, ok(t, append([]string{"addon", "check", console, "-uki", path("out.efi")}, trusted...)...), "PCR 12        sha256 "+r.PCR12)

	// Unknown is not yes, until an option names it.
	require.Equal(t, []string{"unknown signature"}, codes(check(1, console)))
	require.Equal(t, "unknown", check(0, console, "-override", "signature").Signature)
	unsigned := path("unsigned.addon.efi")
	ok(t, "addon", "-stub", path("addon"), "-cmdline", "debug", "-o", unsigned)
	require.Equal(t, []string{"error signature"}, codes(check(1, unsigned, trusted...)))
	require.Equal(t, []string{"error signature"}, codes(check(1, unsigned, append(trusted, "-override", "signature")...)), "firmware refuses it all the same")

	other := addon("other.addon.efi", "-cmdline", "debug", "-uname", "3.4")
	r = check(1, other, trusted...)
	require.Equal(t, []string{"error addon-uname"}, codes(r))
	require.Contains(t, r.Findings[0].Text, `"3.4"`)
	require.Equal(t, []string{"error addon-name"}, codes(check(1, addon("other.efi", "-cmdline", "debug"), trusted...)))

	// The refusal list, and its override by name.
	root := addon("root.addon.efi", "-cmdline", `debug root=/dev/sda "init=/bin/sh -x" rd.break`)
	r = check(1, root, trusted...)
	require.Len(t, r.Refusals, 3)
	require.Equal(t, []string{"error refused", "error refused", "error refused"}, codes(r))
	r = check(1, root, append(trusted, "-override", "root", "-override", "init")...)
	require.Equal(t, []string{"error refused"}, codes(r))
	require.True(t, r.Refusals[0].Overridden)
	require.Contains(t, r.Findings[0].Text, "-override 'rd.break'")
	check(0, root, append(trusted, "-override", "root", "-override", "init", "-override", "rd.break")...)
	require.Equal(t, "quiet roothash=00 console=ttyS0", check(0, console, trusted...).KernelCmdline)
	for _, flag := range []string{"-initrd", "-microcode"} {
		part := addon("part.addon.efi", flag, path("initrd"))
		r = check(1, part, trusted...)
		require.Equal(t, []string{"error refused"}, codes(r))
		check(0, part, append(trusted, "-override", r.Refusals[0].Name)...)
	}

	// What is no add-on is a no, and what is not there no answer.
	require.Equal(t, []string{"error malformed"}, codes(check(1, path("osrel"), append(trusted, "-override", "x")...))[1:])
	for status, args := range map[int][]string{
		2: {"addon", "check", path("absent"), "-uki", path("out.efi")},
		1: {"addon", "check", console, "-uki", path("osrel")},
	} {
		got, _, stderr := call3(t, args...)
		require.Equal(t, status, got, stderr)
	}
	for _, args := range [][]string{{console}, {console, "-uki", path("out.efi"), "-cert", path("db.crt"), "-vars", t.TempDir()}, {console, "-uki", path("out.efi"), "-firmware", "x"}} {
		got, _, stderr := call3(t, append([]string{"addon", "check"}, args...)...)
		require.Equal(t, 2, got, stderr)
	}
}

// esps are an ESP in a directory and one in an image, with an image whose starts are counted.
func esps(t *testing.T, path func(string) string) map[string]func(name string) []byte {
	t.Helper()
	image := read(t, path("out.efi"))
	dir := path("esp")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "EFI", "Linux"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "EFI", "Linux", "acme_1+3.efi"), image, 0o600))
	volume, err := os.Create(path("esp.img"))
	require.NoError(t, err)
	require.NoError(t, volume.Truncate(8<<20))
	require.NoError(t, fat.Build(volume, []osmith.ESPFile{{Path: "EFI/Linux/acme_1+3.efi", Content: bytes.NewReader(image)}}, fat.BuildOptions{Size: 8 << 20}))
	require.NoError(t, volume.Close())
	return map[string]func(string) []byte{
		dir: func(name string) []byte {
			b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
			if err != nil {
				return nil
			}
			return b
		},
		path("esp.img"): func(name string) []byte {
			f, err := os.Open(path("esp.img"))
			require.NoError(t, err)
			defer f.Close()
			fsys, err := fat.OpenReader(sized{f, 8 << 20})
			require.NoError(t, err)
			b, err := fsys.ReadFile(name)
			if err != nil {
				return nil
			}
			return b
		},
	}
}

type sized struct {
	*os.File
	size int64
}

func (s sized) Size() int64 { return s.size }

func TestAddonInstallAndList(t *testing.T) {
	path, addon := addonShop(t)
	console := addon("console.addon.efi", "-cmdline", "console=ttyS0", "-uname", "6.12.0-stand-in")
	all := addon("all.addon.efi", "-cmdline", "debug")
	other := addon("other.addon.efi", "-cmdline", "debug", "-uname", "3.4")
	trusted := []string{"-cert", path("db.crt")}
	const place = "EFI/Linux/acme_1.efi.extra.d/console.addon.efi"
	for esp, content := range esps(t, path) {
		install := func(status int, args ...string) addonResult {
			t.Helper()
			return answer[addonResult](t, status, append(append([]string{"addon", "install", "-esp", esp}, args...), trusted...)...)
		}
		list := func(args ...string) addonImage {
			t.Helper()
			r := answer[addonList](t, 0, append([]string{"addon", "list", "-esp", esp}, args...)...)
			require.Len(t, r.Images, 1)
			return r.Images[0]
		}
		require.Empty(t, list(trusted...).Addons)
		require.False(t, install(1, other, "acme_1.efi").Installed)
		require.False(t, install(1, other).Installed, "no image on the ESP would take it")
		require.Nil(t, content("EFI/Linux/acme_1.efi.extra.d/other.addon.efi"), "what is refused is not written")
		require.Nil(t, content("loader/addons/other.addon.efi"))

		r := install(0, console, "acme_1.efi")
		require.Equal(t, []any{place, true, false}, []any{r.Place, r.Installed, r.Unchanged})
		require.Equal(t, read(t, console), content(place))
		require.True(t, install(0, console, "EFI/Linux/acme_1+3.efi").Unchanged)
		r = install(0, all)
		require.Equal(t, "loader/addons/all.addon.efi", r.Place)
		require.Equal(t, read(t, all), content(r.Place))
		require.Equal(t, "quiet roothash=00 debug console=ttyS0", r.KernelCmdline)

		got := list(append(trusted, "acme_1.efi")...)
		require.Equal(t, []string{"EFI/Linux/acme_1+3.efi", "6.12.0-stand-in", r.KernelCmdline, r.PCR12}, []string{got.Path, got.Uname, got.KernelCmdline, got.PCR12})
		require.Len(t, got.Addons, 2)
		require.Equal(t, []string{"loader/addons/all.addon.efi", "accepted", "accepted"}, []string{got.Addons[0].Path, got.Addons[0].Verdict, got.Addons[0].Signature})
		require.Equal(t, []string{place, "accepted", "console=ttyS0"}, []string{got.Addons[1].Path, got.Addons[1].Verdict, got.Addons[1].Cmdline})
		require.Equal(t, []string{"CN=Acme db"}, got.Addons[1].Signers)
		text := ok(t, append([]string{"addon", "list", "-esp", esp}, trusted...)...)
		require.Contains(t, text, "  2. accepted "+place+"\n")
		require.Contains(t, text, "command line: quiet roothash=00 debug console=ttyS0\n")

		// Another content takes the place of the one that is there.
		ok(t, "addon", "-stub", path("addon"), "-cmdline", "console=tty0", "-secureboot-private-key", path("db.key"), "-secureboot-certificate", path("db.crt"), "-o", path("new"))
		require.NoError(t, os.MkdirAll(path("next"), 0o755))
		require.NoError(t, os.Rename(path("new"), path("next/console.addon.efi")))
		r = install(0, path("next/console.addon.efi"), "acme_1.efi")
		require.Equal(t, "quiet roothash=00 debug console=tty0", r.KernelCmdline)
		require.Equal(t, read(t, path("next/console.addon.efi")), content(place))

		// Without keys nothing is known, and nothing is written.
		require.Equal(t, "unknown", list().Addons[0].Verdict)
		require.NotEmpty(t, list().Error)
		status, _, _ := call3(t, "addon", "install", console, "-esp", esp, "acme_1.efi")
		require.Equal(t, 1, status)
		require.Equal(t, read(t, path("next/console.addon.efi")), content(place))
		status, _, stderr := call3(t, "addon", "list", "-esp", esp, "acme_2.efi")
		require.Equal(t, 1, status, stderr)
	}

	// What was put there by hand is shown with the reason why it has no effect.
	dir := filepath.Join(path("esp"), "EFI", "Linux", "acme_1.efi.extra.d")
	for name, file := range map[string]string{"n-other.addon.efi": other, "o-text.addon.efi": path("osrel")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), read(t, file), 0o600))
	}
	ok(t, "addon", "-stub", path("addon"), "-cmdline", "debug", "-o", filepath.Join(dir, "p-unsigned.addon.efi"))
	r := answer[addonList](t, 0, append([]string{"addon", "list", "-esp", path("esp")}, trusted...)...).Images[0]
	require.Len(t, r.Addons, 5)
	for i, reason := range []string{`for kernel "3.4"`, "not a PE image", "firmware refuses it"} {
		require.Equal(t, "skipped", r.Addons[2+i].Verdict)
		require.Contains(t, r.Addons[2+i].Reason, reason)
	}
	require.Equal(t, "quiet roothash=00 debug console=tty0", r.KernelCmdline)

	// A stub of which nothing is known is not guessed at.
	require.NoError(t, os.WriteFile(path("stub"), petest.Stub("999"), 0o600))
	ok(t, buildArgs(path, "-o", filepath.Join(path("esp"), "EFI", "Linux", "acme_1+3.efi"))...)
	require.Contains(t, answer[addonList](t, 0, append([]string{"addon", "list", "-esp", path("esp")}, trusted...)...).Images[0].Error, "999")
	require.Equal(t, []string{"unknown stub-unknown"}, codes(answer[addonResult](t, 1, append([]string{"addon", "install", console, "-esp", path("esp"), "acme_1.efi"}, trusted...)...)))
}

// A badMedium has another content than was written.
type badMedium struct{ fstest.MapFS }

func (b badMedium) Put(name string, _ osmith.Source) error {
	b.MapFS[name] = &fstest.MapFile{Data: []byte("something else")}
	return nil
}

func (badMedium) Rename(string, string) error { return errors.ErrUnsupported }
func (badMedium) Remove(string) error         { return errors.ErrUnsupported }

// What was written is read back.
func TestAddonOnBadMedium(t *testing.T) {
	_, err := put(badMedium{fstest.MapFS{}}, "loader/addons/a.addon.efi", []byte("an add-on"))
	require.ErrorContains(t, err, "9 bytes were written, and other 14 are there")
}
