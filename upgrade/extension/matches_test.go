package extension_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/extension"
)

// matchCase asks whether an extension goes with an OS; lines are separated by "|". The answers are
// those of systemd-sysext 262, which TestMatchesSysext asks again.
var matchCases = []struct {
	os, ext string
	want    bool
}{
	{"ID=acme", "ID=acme", true},
	{"ID=acme", "ID=acme|VERSION_ID=3", true},
	{"ID=acme", "ID=acme|SYSEXT_LEVEL=4", true},
	{"ID=acme|VERSION_ID=1", "ID=acme|VERSION_ID=1", true},
	{"ID=acme|VERSION_ID=1", "ID=acme|VERSION_ID=2", false},
	{"ID=acme|VERSION_ID=1", "ID=acme", false},
	{"ID=acme|VERSION_ID=1", "ID=acme|VERSION_ID=", false},
	{"ID=acme|VERSION_ID=1.0", "ID=acme|VERSION_ID=1", false},
	{"ID=acme|VERSION_ID=1|SYSEXT_LEVEL=5", "ID=acme|VERSION_ID=1", true},
	{"ID=acme|VERSION_ID=1|SYSEXT_LEVEL=5", "ID=acme|VERSION_ID=2", false},
	{"ID=acme|VERSION_ID=1|SYSEXT_LEVEL=5", "ID=acme|SYSEXT_LEVEL=5", true},
	{"ID=acme|VERSION_ID=1|SYSEXT_LEVEL=5", "ID=acme|SYSEXT_LEVEL=6|VERSION_ID=1", false},
	{"ID=acme|VERSION_ID=1", "ID=acme|SYSEXT_LEVEL=5|VERSION_ID=1", true},
	{"ID=acme|VERSION_ID=1", "ID=acme|SYSEXT_LEVEL=5", false},
	{"ID=acme|VERSION_ID=1", "ID=acme|CONFEXT_LEVEL=5", false},
	{"ID=acme|SYSEXT_LEVEL=5", "ID=acme|VERSION_ID=9", true},
	{"ID=acme|SYSEXT_LEVEL=5", "ID=acme|SYSEXT_LEVEL=4", false},
	{"ID=acme|VERSION_ID=1", "VERSION_ID=1", false},
	{"ID=acme|VERSION_ID=1", "ID=ACME|VERSION_ID=1", false},
	{"ID=acme|VERSION_ID=1|ID_LIKE=\"debian base\"", "ID=base|VERSION_ID=1", true},
	{"ID=acme|VERSION_ID=1|ID_LIKE=\"debian base\"", "ID=base|VERSION_ID=2", false},
	{"ID=acme|VERSION_ID=1", "ID=_any|VERSION_ID=7|SYSEXT_LEVEL=2", true},
	{"ID=acme|VERSION_ID=1", "ID=_any|ARCHITECTURE=arm64", false},
	{"ID=acme|VERSION_ID=1", "ID=_any|ARCHITECTURE=x86-64", true},
	{"ID=acme|VERSION_ID=1", "ID=_any|ARCHITECTURE=_any", true},
	{"ID=acme|VERSION_ID=1", "ID=_any|ARCHITECTURE=x86_64", false},
	{"ID=acme|VERSION_ID=1", "ID=_any|ARCHITECTURE=amd64", false},
	{"ID=acme|VERSION_ID=1", "ID=_any|ARCHITECTURE=", true},
	{"ID=acme|VERSION_ID=1", "ID=acme|VERSION_ID=1|ARCHITECTURE=arm64", false},
	{"ID=acme|VERSION_ID=1", "ID=_any|SYSEXT_SCOPE=initrd", false},
	{"ID=acme|VERSION_ID=1", "ID=_any|SYSEXT_SCOPE=\"initrd system\"", true},
	{"ID=acme|VERSION_ID=1", "ID=_any|SYSEXT_SCOPE=", false},
	{"ID=acme|VERSION_ID=1", "ID=_any|SYSEXT_SCOPE=bogus", false},
	{"ID=_any|VERSION_ID=1", "ID=_any|VERSION_ID=2", true},
	{"ID=acme|VERSION_ID=1", "ID=acme|VERSION_ID=2|VERSION_ID=1", true},
}

func lines(s string) string { return strings.ReplaceAll(s, "|", "\n") + "\n" }

func TestMatches(t *testing.T) {
	for _, c := range matchCases {
		r, err := extension.ParseRelease(extension.KindSysext, []byte(lines(c.ext)))
		require.NoError(t, err)
		release, err := uki.ParseOSRelease([]byte(lines(c.os)))
		require.NoError(t, err)
		err = r.Matches(extension.OS{Release: release, Architecture: "amd64"})
		if err != nil {
			require.ErrorAs(t, err, new(*extension.MismatchError))
		}
		require.Equal(t, c.want, err == nil && r.For("system"), "OS %q, extension %q: %v", c.os, c.ext, err)
	}
	// Not said, not matched.
	r := extension.Release{Kind: extension.KindSysext, ID: "acme", Architecture: "x86-64"}
	require.ErrorContains(t, r.Matches(extension.OS{Release: uki.OSRelease{"ID": "acme"}}), "ARCHITECTURE: want none")
	r = extension.Release{Kind: extension.KindSysext, ID: ""}
	require.ErrorContains(t, r.Matches(extension.OS{Architecture: "amd64"}), "ID: want none, got none")
	c := extension.Release{Kind: extension.KindConfext, ID: "acme", Level: "1"}
	require.ErrorContains(t, c.Matches(extension.OS{Release: uki.OSRelease{"ID": "acme", "CONFEXT_LEVEL": "2"}}), "CONFEXT_LEVEL")
	require.True(t, r.For("system") && r.For("portable") && !r.For("initrd"), "the scope that is implied")
}

// TestMatchesSysext has systemd-sysext merge a directory as an extension, in a tree of its own.
func TestMatchesSysext(t *testing.T) {
	forky := testtools.Forky(t)
	dir := t.TempDir()
	for i, c := range matchCases {
		for name, text := range map[string]string{
			"usr/lib/os-release": c.os,
			"var/lib/extensions/tool/usr/lib/extension-release.d/extension-release.tool": c.ext,
		} {
			name = filepath.Join(dir, fmt.Sprint(i), name)
			require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
			require.NoError(t, os.WriteFile(name, []byte(lines(text)), 0o644))
		}
		require.NoError(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(i), "etc"), 0o755))
		require.NoError(t, os.Symlink("../usr/lib/os-release", filepath.Join(dir, fmt.Sprint(i), "etc/os-release")))
	}
	// /run has to be a mount point, and a tree on a file system that overlayfs takes.
	out := forky.Run(t, dir, "/bin/sh", "-c", fmt.Sprintf(`mount -t tmpfs tmpfs /run && mkdir /run/x && mount -t tmpfs tmpfs /run/x && cd %q && for i in *; do
	cp -a $i /run/x/$i; SYSTEMD_LOG_TARGET=console systemd-sysext --root=/run/x/$i --no-reload merge 2>&1 | sed "s/^/$i: /"; umount -l /run/x/$i/usr 2>/dev/null
done; true`, dir))
	for i, c := range matchCases {
		merged := strings.Contains("\n"+out, fmt.Sprintf("\n%d: Merged extensions into", i))
		refused := strings.Contains("\n"+out, fmt.Sprintf("\n%d: No suitable extensions found", i))
		require.NotEqual(t, merged, refused, "case %d: %s", i, out)
		require.Equal(t, c.want, merged, "OS %q, extension %q:\n%s", c.os, c.ext, out)
	}
}

// TestNameSysext asks systemd-sysext what an extension is called whose file is there under a name
// that ends with .sysext.raw.
func TestNameSysext(t *testing.T) {
	forky := testtools.Forky(t)
	dir := t.TempDir()
	for name, content := range map[string]string{"usr/lib/os-release": "ID=acme\n", "var/lib/extensions/debug-tools.sysext.raw": "x"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	name, _, err := extension.ParseName("debug-tools.sysext.raw")
	require.NoError(t, err)
	out := forky.Output(t, dir, "systemd-sysext", "--root="+dir, "--no-legend", "list")
	require.Equal(t, name, strings.Fields(out)[0], out)
}
