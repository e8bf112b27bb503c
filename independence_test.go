package osmith_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/osmith-dev/osmith"

// cosignModules is what verifying a cosign signature links: sigstore's key handling and the OCI
// types.
var cosignModules = []string{
	"github.com/opencontainers/go-digest",
	"github.com/opencontainers/image-spec",
	"github.com/secure-systems-lab/go-securesystemslib",
	"github.com/sigstore/protobuf-specs",
	"github.com/sigstore/sigstore",
	"golang.org/x/crypto",
	"golang.org/x/sys",
	"golang.org/x/term",
	"google.golang.org/genproto/googleapis/api",
	"google.golang.org/protobuf",
	// sigstore's payload type names images by go-containerregistry's reference type, its key loader
	// reads PKCS#8 by youmark's.
	"github.com/google/go-containerregistry",
	"github.com/youmark/pkcs8",
}

// allowed says which packages outside the standard library a public package may link, directly or
// not: packages of this module (besides internal/*, which all may) and modules of others.
// ARCHITECTURE.md gives the reasons.
var allowed = map[string]struct{ own, modules []string }{
	"verity":    {modules: []string{"golang.org/x/sys"}},
	"verity/dm": {own: []string{"verity"}, modules: []string{"golang.org/x/sys"}},
	"verity/fec": {own: []string{"verity"}, modules: []string{
		"github.com/klauspost/cpuid/v2", "github.com/klauspost/reedsolomon", "golang.org/x/sys",
	}},
	"partition":          {modules: []string{"golang.org/x/sys"}},
	"partition/ext4":     {modules: []string{"golang.org/x/sys"}}, // device numbers
	"partition/fat":      {own: []string{"partition"}, modules: []string{"golang.org/x/sys"}},
	"partition/layouts":  {own: []string{"partition"}, modules: []string{"golang.org/x/sys"}},
	"partition/squashfs": {modules: []string{"github.com/klauspost/compress", "golang.org/x/sys"}},
	// crypto: Argon2, which asks sys for the processor
	"partition/luks":   {modules: []string{"golang.org/x/crypto", "golang.org/x/sys"}},
	"uki":              {own: []string{"uki/hwid"}, modules: []string{"golang.org/x/sys"}},
	"uki/hwid":         {},
	"uki/decompress":   {own: []string{"uki", "uki/hwid"}, modules: []string{"github.com/klauspost/compress", "github.com/ulikunitz/xz", "golang.org/x/sys"}},
	"bootloader":       {modules: []string{"golang.org/x/sys"}},
	"bootloader/grub":  {},
	"bootloader/slots": {},
	"tpm":              {},
	"tpm/policy":       {}, // a signer of a .pcrsig links no event log, so not package tpm
	"tpm/sealing": {own: []string{"tpm", "tpm/policy"}, modules: []string{
		// crypto: Argon2id of PINs since systemd 262
		"github.com/google/go-tpm", "golang.org/x/crypto", "golang.org/x/sys",
	}},
	"signing":              {},
	"signing/authenticode": {},
	"signing/secureboot":   {},
	"signing/cosign":       {modules: cosignModules},
	"build": { // composes, on the vendor's side
		own: []string{"verity", "verity/dm", "partition", "partition/ext4", "partition/fat", "partition/luks", "partition/squashfs", "uki", "uki/hwid", "bootloader", "tpm", "tpm/policy",
			"signing/authenticode", "signing/secureboot", "upgrade/release", "upgrade/extension"},
		modules: []string{"golang.org/x/crypto", "golang.org/x/sys", "github.com/erofs/go-erofs", "github.com/klauspost/compress", "github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec"},
	},
	// the judge of extensions, for a release and for a plan
	"upgrade/extension": {own: []string{"partition", "verity", "verity/dm", "uki", "uki/hwid"}, modules: []string{"golang.org/x/sys"}},
	// of which the judge of a set is made
	"upgrade/release": {own: []string{"verity", "verity/dm", "partition", "uki", "uki/hwid", "upgrade/extension"}, modules: []string{
		"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec", "golang.org/x/sys",
	}},
	"upgrade/release/weblayout": {own: []string{"upgrade/release", "upgrade/extension", "partition", "verity", "verity/dm", "uki", "uki/hwid"}, modules: []string{
		"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec", "golang.org/x/sys",
	}},
	// bootloader: the order of versions
	"upgrade/release/channel": {own: []string{"upgrade/release", "upgrade/extension", "partition", "verity", "verity/dm", "uki", "uki/hwid", "bootloader"}, modules: []string{
		"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec", "golang.org/x/sys",
	}},
	"upgrade": {
		own: []string{"verity", "verity/dm", "partition", "partition/fat", "partition/luks", "uki", "uki/hwid", "bootloader", "bootloader/slots", "tpm", "tpm/policy", "tpm/sealing",
			"signing/authenticode", "signing/secureboot", "upgrade/release", "upgrade/extension"},
		modules: []string{"golang.org/x/crypto", "golang.org/x/sys", "github.com/google/go-tpm",
			"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec"},
	},
	"upgrade/sysupdate": {
		// the judge and the parts of a set, its slots and its ESP
		own:     []string{"verity", "verity/dm", "partition", "partition/fat", "uki", "uki/hwid", "bootloader", "upgrade/release", "upgrade/extension"},
		modules: []string{"golang.org/x/sys", "github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec"},
	},
	"upgrade/upgradetest": {
		own: []string{"upgrade", "verity", "verity/dm", "partition", "partition/fat", "partition/luks", "uki", "uki/hwid", "bootloader", "bootloader/slots", "tpm", "tpm/policy", "tpm/sealing",
			"signing/authenticode", "signing/secureboot", "upgrade/release", "upgrade/extension"},
		modules: []string{"golang.org/x/crypto", "golang.org/x/sys", "github.com/google/go-tpm",
			"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec"},
	},
}

// composers may import any public package: they are what the packages are for.
var composers = []string{"examples/", "e2e", "hack/"}

// internal reports whether a package of this module is no one's to import from outside: those of
// the root are for all, those of a package for it and its sub-packages.
func internal(name string) bool {
	return strings.HasPrefix(name, "internal/") || strings.Contains(name, "/internal/")
}

type listed struct {
	ImportPath string
	Standard   bool
	Deps       []string
	Module     *struct{ Path string }
}

func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Deps,Module"}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("go list: %s", exit.Stderr)
	}
	require.NoError(t, err)
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}

func TestIndependence(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the go command about every package")
	}
	byPath := map[string]listed{}
	for _, p := range goList(t, "-deps", "./...") {
		byPath[p.ImportPath] = p
	}
	for _, dep := range byPath[module].Deps {
		require.True(t, byPath[dep].Standard, "the vocabulary imports the standard library only, not %s", dep)
	}
	seen := 0
	for path, p := range byPath {
		name, ours := strings.CutPrefix(path, module+"/")
		if !ours || internal(name) ||
			slices.ContainsFunc(composers, func(c string) bool { return strings.HasPrefix(name, c) }) {
			continue
		}
		rule, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the table: say what it may import", name)
			continue
		}
		seen++
		for _, dep := range p.Deps {
			d := byPath[dep]
			switch own, ours := strings.CutPrefix(dep, module+"/"); {
			case d.Standard || dep == module || ours && internal(own):
			case ours:
				if !slices.Contains(rule.own, own) {
					t.Errorf("%s imports %s", name, own)
				}
			case d.Module == nil || !slices.Contains(rule.modules, d.Module.Path):
				t.Errorf("%s links %s", name, dep)
			}
		}
	}
	require.Equal(t, len(allowed), seen, "the table names packages that do not exist")
}

// TestRequirements pins the modules the root go.mod asks for by itself: each becomes a version
// floor for everybody who imports any package, so one more is a decision.
func TestRequirements(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	var direct []string
	for _, line := range strings.Split(string(b), "\n") {
		if m := regexp.MustCompile(`^\t(\S+) v\S+$`).FindStringSubmatch(line); m != nil {
			direct = append(direct, m[1])
		}
		require.NotContains(t, line, "sigstore-go")
		require.NotContains(t, line, "oras-go")
	}
	require.Equal(t, []string{
		"github.com/diskfs/go-diskfs",          // tests: a second opinion on GPT and ESP
		"github.com/erofs/go-erofs",            // examples and e2e: root file systems
		"github.com/google/go-eventlog",        // tests: an oracle for event logs
		"github.com/google/go-tpm",             // tpm/sealing: TPM commands; tests: policy digests
		"github.com/klauspost/compress",        // uki/decompress: zstd
		"github.com/klauspost/reedsolomon",     // verity/fec
		"github.com/opencontainers/go-digest",  // cosign, upgrade/release
		"github.com/opencontainers/image-spec", // cosign, upgrade/release
		"github.com/sigstore/sigstore",         // cosign: keys
		"github.com/stretchr/testify",          // tests
		"github.com/ulikunitz/xz",              // uki/decompress: LZMA2
		// tpm/sealing: Argon2id, as PINs of systemd 262 have it; partition/luks: key slots
		"golang.org/x/crypto",
		"golang.org/x/sys", // _linux.go files
	}, direct)
}
