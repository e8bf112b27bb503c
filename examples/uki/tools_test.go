package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// TestBuildAsUkify: the same words on the command line give the same bytes as ukify 262's. (257
// ends .sbat with a NUL byte.) Files are in the directory of the test.
func TestBuildAsUkify(t *testing.T) {
	r := testtools.Forky(t)
	dir, path := workshop(t)
	for name, part := range map[string]string{"stub": "stub", "addon": "addon-stub"} {
		require.NoError(t, os.WriteFile(path(name), readPart(t, r, part), 0o600))
	}
	require.NoError(t, os.WriteFile(path("cmdline"), []byte(" as  it is\n"), 0o600))
	require.NoError(t, os.WriteFile(path("sbat"), []byte("sbat,1,SBAT Version,sbat,1,https://example.org\nacme,1,Acme,acme,1,https://example.org\n"), 0o600))
	require.NoError(t, os.WriteFile(path("linux.gz"), compressed(t, read(t, path("linux"))), 0o600))
	require.NoError(t, os.Mkdir(path("hw"), 0o755))
	require.NoError(t, os.WriteFile(path("hw/acme.json"), []byte(`{"type": "devicetree", "name": "Acme One", "compatible": "acme,one",
		"hwids": ["11111111-2222-3333-4444-555555555555", "11111111-2222-3333-4444-666666666666"]}`), 0o600))
	image := []string{"--stub=stub", "--linux=linux", "--os-release=@osrel"}
	for name, args := range map[string][]string{
		"plain":    append(image, "--initrd=initrd", "--initrd=osrel", "--cmdline= two\twords \n"),
		"files":    append(image, "--cmdline=@cmdline", "--sbat=@sbat", "--section=.acme:text", "--section=.file:@initrd", "--uname=1.2", "--splash=initrd"),
		"no-osrel": {"--stub=stub", "--linux=linux", "--os-release=", "--microcode=initrd", "--devicetree=initrd"},
		"gzip":     {"--stub=stub", "--linux=linux.gz", "--os-release=@osrel", "--uname=1.2"},
		"policies": append(image, "--cmdline=x", "--pcr-private-key=pcr.key", "--pcr-public-key=pcr.pub", "--pcr-banks=sha384,sha256"),
		"two-keys": append(image, "--pcr-private-key=pcr.key", "--pcr-public-key=pcr.pub", "--phases=enter-initrd,enter-initrd:leave-initrd",
			"--pcr-private-key=pcr2.key", "--pcr-public-key=pcr2.pub", "--phases=enter-initrd"),
		"hardware": append(image, "--devicetree-auto=initrd", "--devicetree-auto=osrel", "--hwids=hw"),
		"profile":  {"--stub=addon", "--profile=ID=reset\nTITLE=Factory reset", "--cmdline=reset  now", "--os-release="},
		"joined":   append(image, "--profile=ID=main", "--join-profile=reset.efi", "--cmdline=x", "--pcr-private-key=pcr.key", "--pcr-public-key=pcr.pub"),
		"addon":    {"--stub=addon", "--cmdline=debug  now", "--uname=1.2"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "joined" {
				ok(t, "build", "-stub", path("addon"), "-profile", "ID=reset\nTITLE=Factory reset", "-cmdline", "reset now", "-o", path("reset.efi"))
			}
			theirs, ours := path(name+".theirs"), path(name+".ours")
			r.Run(t, dir, "ukify", append([]string{"build", "--hwids=", "--output=" + theirs}, args...)...)
			verb := "build"
			if name == "addon" {
				verb = "addon"
			}
			ok(t, append([]string{verb, "-output", ours}, inDirectory(dir, args)...)...)
			require.True(t, bytes.Equal(read(t, theirs), read(t, ours)))
		})
	}
}

// inDirectory makes names of files absolute: ukify runs in the directory, we do not.
func inDirectory(dir string, args []string) (out []string) {
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch prefix, file, isFile := strings.Cut(value, "@"); {
		case name == "--stub", name == "--linux", name == "--initrd", name == "--splash", name == "--microcode", name == "--hwids",
			strings.HasPrefix(name, "--devicetree"), name == "--join-profile", strings.HasSuffix(name, "-key"):
			value = filepath.Join(dir, value)
		case isFile:
			value = prefix + "@" + filepath.Join(dir, file)
		}
		out = append(out, name+"="+value)
	}
	return out
}

func compressed(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(b)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return out.Bytes()
}

func readPart(t *testing.T, r testtools.Root, name string) []byte {
	t.Helper()
	return read(t, r.Part(t, name))
}

// TestMeasureAsSystemdMeasure: what is printed is what systemd-measure prints for the same parts.
func TestMeasureAsSystemdMeasure(t *testing.T) {
	r := testtools.Forky(t)
	dir, path := workshop(t)
	require.NoError(t, os.WriteFile(path("cmdline"), []byte("quiet"), 0o600))
	require.NoError(t, os.WriteFile(path("uname"), []byte("1.2"), 0o600))
	ok(t, "build", "-stub", path("stub"), "-linux", path("linux"), "-initrd", path("initrd"), "-os-release", "@"+path("osrel"),
		"-cmdline", "@"+path("cmdline"), "-uname", "1.2", "-o", path("out.efi"))
	var inspected inspectResult
	object(t, &inspected, "inspect", path("out.efi"))
	for _, s := range inspected.Sections {
		if s.Name == ".sbat" {
			require.NoError(t, os.WriteFile(path("sbat"), []byte(s.Text), 0o600))
		}
	}
	want := r.Output(t, dir, "/usr/lib/systemd/systemd-measure", "calculate", "--linux=linux", "--initrd=initrd", "--osrel=osrel", "--cmdline=cmdline",
		"--uname=uname", "--sbat=sbat", "--phase=enter-initrd", "--phase=enter-initrd:leave-initrd")
	ours := ok(t, "measure", path("out.efi"), "-phases", "enter-initrd enter-initrd:leave-initrd")
	require.Equal(t, want, regexp.MustCompile("(?m)^#.*\n").ReplaceAllString(ours, ""), "the comments are on its standard error")
}

// TestSignaturesOfOthers: sbverify accepts ours, verify accepts sbsign's.
func TestSignaturesOfOthers(t *testing.T) {
	_, path := workshop(t)
	ok(t, buildArgs(path)...)
	ok(t, "sign", "-key", path("db.key"), "-cert", path("db.crt"), "-o", path("ours.efi"), path("out.efi"))
	require.Contains(t, testtools.Run(t, "sbverify", "--cert", path("db.crt"), path("ours.efi")), "Signature verification OK")
	testtools.Run(t, "sbsign", "--key", path("db.key"), "--cert", path("db.crt"), "--output", path("theirs.efi"), path("out.efi"))
	ok(t, "verify", "-cert", path("db.crt"), path("theirs.efi"))
}
