package testtools

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Root is a file system tree with tools in it: a prepared Debian release, or
// the machine itself. It is not safe to write into.
type Root struct {
	Name  string // "trixie", "forky", "mkosi" or "host"
	dir   string
	limit time.Duration // of one run of a tool; 0: toolTime
}

// Within is the tree with tools that may take longer than others.
func (r Root) Within(limit time.Duration) Root {
	r.limit = limit
	return r
}

// Trixie returns the tree with Debian 13's tools (systemd 257). Without it the
// test is skipped, or fails when OSMITH_REQUIRE_TOOLS=1.
func Trixie(t testing.TB) Root {
	t.Helper()
	return debian(t, "trixie")
}

// Forky returns the tree with Debian testing's tools (systemd 262 or newer). It
// is Trixie's like, but skips the test in any case when hack/tools.sh recorded
// that this machine cannot have the tree.
func Forky(t testing.TB) Root {
	t.Helper()
	skipIfShort(t)
	if reason, err := os.ReadFile(filepath.Join(rootsDir(), "forky.unavailable")); err == nil {
		t.Skipf("forky could not be prepared: %s", strings.TrimSpace(string(reason)))
	}
	return debian(t, "forky")
}

// Mkosi returns the tree with mkosi: that of Forky, and what mkosi needs. It is for OSMITH_LONG=1,
// and hack/mkosi.sh makes it. Below Cache, which goes with the tree, mkosi may keep what it has
// downloaded and installed.
func Mkosi(t testing.TB) Root {
	t.Helper()
	Forky(t)
	return tree(t, "mkosi", "run hack/mkosi.sh as root")
}

// Cache is a directory in the tree that stays from run to run, as the tree sees it.
const Cache = "/var/cache/osmith"

// Host returns the machine itself as a Root, for the firmware files that its
// packages install. Run works as the function Run does.
func Host(t testing.TB) Root {
	t.Helper()
	skipIfShort(t)
	return Root{Name: "host", dir: "/"}
}

func debian(t testing.TB, suite string) Root {
	t.Helper()
	return tree(t, suite, prepare)
}

func tree(t testing.TB, suite, prepare string) Root {
	t.Helper()
	skipIfShort(t)
	dir := filepath.Join(rootsDir(), suite)
	// The recipe is the last file written to a tree.
	if !exists(filepath.Join(dir, ".osmith-recipe")) {
		missing(t, "there is no Debian %s tree in %s: %s", suite, rootsDir(), prepare)
	}
	if os.Geteuid() != 0 {
		missing(t, "the Debian %s tree is entered by chroot, which needs root", suite)
	}
	Require(t, "unshare")
	return Root{Name: suite, dir: dir}
}

// rootsDir is where hack/common.sh puts the trees.
func rootsDir() string {
	if dir := os.Getenv("OSMITH_TOOLS"); dir != "" {
		return filepath.Join(dir, "roots")
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "osmith", "roots")
	}
	return filepath.Join(os.Getenv("HOME"), ".cache", "osmith", "roots")
}

// Path returns the path on this machine of a file in the tree. A link in the
// tree that is absolute points outside of it and is not followed for the caller.
func (r Root) Path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

// parts names what a boot is made of, as patterns in a tree that match one file.
var parts = map[string]string{
	"stub":       "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
	"addon-stub": "usr/lib/systemd/boot/efi/addonx64.efi.stub",
	"loader":     "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
	"kernel":     "opt/kernel/vmlinuz",

	"stub-252":         "opt/stub-252/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
	"stub-252-arm64":   "opt/stub-252-arm64/usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
	"stub-252-ia32":    "opt/stub-252-i386/usr/lib/systemd/boot/efi/linuxia32.efi.stub",
	"loader-252-arm64": "opt/stub-252-arm64/usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
	"kernel-arm64":     "opt/arm64/boot/vmlinuz-*",
	"modules-arm64":    "opt/arm64/lib/modules/*",
	"stub-arm64":       "opt/arm64/usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
	"loader-arm64":     "opt/arm64/usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
	"aavmf-code":       "opt/arm64/usr/share/AAVMF/AAVMF_CODE.secboot.fd",
	"aavmf-vars":       "opt/arm64/usr/share/AAVMF/AAVMF_VARS.fd",

	"curl": "usr/lib/*/libcurl.so.4",

	"modules":   "opt/kernel/lib/modules/*",
	"ovmf-code": "usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
	"ovmf-vars": "usr/share/OVMF/OVMF_VARS_4M.fd",
}

// Part returns the path on this machine of one part of a boot:
//
//	stub, addon-stub  systemd's UKI stub and addon stub
//	loader            systemd-boot, unsigned
//	kernel            Debian's cloud kernel (a Debian tree only)
//	stub-252...       the stubs of Debian 12, and its loader for arm64 (trixie only)
//	kernel-arm64      Debian's cloud kernel for arm64 (trixie only), like the next three
//	modules-arm64     directory lib/modules/VERSION of that kernel
//	stub-arm64, loader-arm64  systemd's UKI stub and boot loader
//	aavmf-code, aavmf-vars    firmware with Secure Boot and a blank variable store
//	modules           its directory lib/modules/VERSION with modules.dep (a Debian tree only)
//	ovmf-code         OVMF with Secure Boot and SMM, 4 MiB variant
//	ovmf-vars         its empty variable store
//	curl              the library with which systemd-sysupdate fetches (forky only)
//
// A tree without the part fails the test as a missing tool does.
func (r Root) Part(t testing.TB, name string) string {
	t.Helper()
	pattern, ok := parts[name]
	if !ok {
		t.Fatalf("testtools: no part is called %q", name)
	}
	found, err := filepath.Glob(r.Path(pattern))
	if err != nil {
		t.Fatalf("testtools: %s: %v", pattern, err)
	}
	if len(found) != 1 {
		missing(t, "%s has no %s (%s): %s", r.Name, name, pattern, prepare)
		return ""
	}
	return found[0]
}
