package howto_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/verity"
)

const module = "github.com/osmith-dev/osmith"

// maxLines is what fits on a page, comments and imports included.
const maxLines = 70

// lessons are the names of the programs.
func lessons(t *testing.T) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	require.GreaterOrEqual(t, len(names), 15)
	return names
}

// A lesson is one file that can be copied out of here: it needs only packages that other modules
// may import.
func TestRules(t *testing.T) {
	private := regexp.MustCompile(`(^|/)(internal|examples|e2e|hack)(/|$)`)
	for _, name := range lessons(t) {
		files, err := os.ReadDir(name)
		require.NoError(t, err)
		require.Len(t, files, 1, name)
		text, err := os.ReadFile(filepath.Join(name, "main.go"))
		require.NoError(t, err)
		require.LessOrEqual(t, bytes.Count(text, []byte("\n")), maxLines, name)
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
		require.NoError(t, err)
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			require.NoError(t, err)
			require.NotEqual(t, "flag", path, name)
			own, ours := strings.CutPrefix(path, module)
			first, _, _ := strings.Cut(path, "/")
			require.True(t, ours && !private.MatchString(own) || !strings.Contains(first, "."), "%s imports %s", name, path)
		}
		head := f.Doc.Text()
		require.True(t, strings.HasPrefix(head, name+" "), "the comment of %s begins with something else", name)
		require.Contains(t, head, "\n\t"+name+" ", "%s does not say how it is called", name)
		for _, d := range f.Decls {
			// methods would make several lessons, but those of a crypto.Signer
			if fun, ok := d.(*ast.FuncDecl); ok && fun.Recv != nil {
				require.Contains(t, []string{"Public", "Sign"}, fun.Name.Name, name)
			}
		}
	}
}

// service signs as a key that is elsewhere does: a bare signature over a digest.
func service(t *testing.T, pair tls.Certificate, digest []byte, name string) {
	t.Helper()
	signature, err := pair.PrivateKey.(*rsa.PrivateKey).Sign(rand.Reader, digest, crypto.SHA256)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, signature, 0o644))
}

func compile(t *testing.T, bin string, programs ...string) {
	t.Helper()
	build := []string{"build", "-ldflags=-s -w", "-o", bin + string(filepath.Separator)}
	for _, name := range programs {
		build = append(build, "./"+name)
	}
	out, err := exec.CommandContext(t.Context(), "go", build...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestPrograms compiles the lessons and calls them as their comments say, in an order in which one
// makes what another takes.
func TestPrograms(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	programs := lessons(t)
	if testing.Short() { // linking takes most of the time
		programs = []string{"keys-generate", "root-hash-elsewhere", "verity-format", "verity-verify"}
	}
	compile(t, bin, programs...)
	in := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	read := func(name string) []byte {
		b, err := os.ReadFile(in(name))
		require.NoError(t, err)
		return b
	}
	write := func(name string, content []byte) {
		require.NoError(t, os.MkdirAll(filepath.Dir(in(name)), 0o755))
		require.NoError(t, os.WriteFile(in(name), content, 0o644))
	}
	run := func(program string, operands ...string) (stdout, stderr string, status int) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, program), operands...)
		var o, e bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &o, &e
		err := cmd.Run()
		require.NotNil(t, cmd.ProcessState, "%s does not run: %v", program, err)
		return o.String(), e.String(), cmd.ProcessState.ExitCode()
	}

	for _, name := range programs {
		stdout, stderr, status := run(name)
		require.Equal(t, 2, status, name)
		require.Empty(t, stdout, name)
		require.Regexp(t, "^usage: "+name+" [^\n]+\n$", stderr)
	}

	write("root.raw", bytes.Repeat([]byte("a root file system of 48 bytes, again and again."), 4096))
	write("parts/stub", petest.Stub("262"))
	write("parts/loader", petest.Loader("262"))
	write("parts/kernel", petest.Kernel("6.18.0-acme"))
	write("parts/initrd", []byte("initrd"))
	write("parts/root", read("root.raw"))
	write("parts/os-release", []byte("ID=acme\nIMAGE_VERSION=1\nPRETTY_NAME=\"Acme OS 1\"\n"))
	write("os-release-2", []byte("ID=acme\nIMAGE_VERSION=2\n"))
	write("tree/etc/hostname", []byte("acme\n"))
	write("tree/boot/loader/loader.conf", []byte("timeout 0\n"))
	write("repart.d/10-esp.conf", []byte("[Partition]\nType=esp\nFormat=vfat\nSizeMinBytes=40M\nSizeMaxBytes=40M\nCopyFiles=/boot:/\n"))
	write("repart.d/20-root.conf", []byte("[Partition]\nType=root\nFormat=erofs\nCopyFiles=/etc:/etc\nVerity=data\nVerityMatchKey=root\nMinimize=best\n"))
	write("repart.d/21-verity.conf", []byte("[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n"))
	write("volume", make([]byte, 20<<20))
	write("passphrase", []byte("correct horse\n"))
	const boots = "../../tpm/testdata/boot/"
	for name, boot := range map[string]string{"a.log": "a-sb-sdboot-262", "b.log": "b-setupmode-262"} {
		b, err := os.ReadFile(filepath.FromSlash(boots + boot + "/binary_bios_measurements"))
		require.NoError(t, err)
		write(name, b)
	}
	for _, name := range []string{"keys", "out"} {
		require.NoError(t, os.Mkdir(in(name), 0o755))
	}
	pair := func(name string) tls.Certificate {
		p, err := tls.LoadX509KeyPair(in("keys/"+name+".crt"), in("keys/"+name+".key"))
		require.NoError(t, err)
		return p
	}

	called := map[string]bool{"sign-pe-pkcs11": true} // by TestHSM
	for _, c := range []struct {
		before func()
		call   string // program and operands
		want   string // regular expression for stdout
		status int
	}{
		{nil, "keys-generate keys", "^enrol in this order", 0},
		{nil, "verity-format root.raw", `^roothash=[0-9a-f]{64}\n$`, 0},
		{nil, "verity-verify root.raw", "^verified\n$", 0},
		{nil, "root-hash-elsewhere root.roothash keys/verity.crt", "^to be signed, SHA-256", 0},
		{func() { service(t, pair("verity"), read("root.digest"), in("signature")) },
			"root-hash-elsewhere root.roothash keys/verity.crt signature", "^$", 0},
		{func() { write("root.raw", append(read("root.raw")[:5000], make([]byte, 4096*48-5000)...)) },
			"verity-verify root.raw", "^damaged: data blocks 1-47", 1},

		{nil, "initrd-pack tree initrd.gz", "^$", 0},
		{nil, "erofs-pack tree root.erofs", "^$", 0},
		{nil, "squashfs-pack tree root.squashfs zstd", `^\d+ bytes\n$`, 0},
		{nil, "squashfs-pack tree other.squashfs lzo", "^$", 1},
		{nil, "ext4-pack tree", `^at least \d+ bytes\n$`, 0},
		{nil, "ext4-pack tree var.ext4 16", "^$", 0},
		{nil, "ext4-pack tree none.ext4 0x", "^$", 1},
		{nil, "uki-build parts/stub parts/kernel initrd.gz parts/os-release acme_1.efi", `^\d+ bytes, Authenticode digest [0-9a-f]{64}\n$`, 0},
		{nil, "uki-inspect acme_1.efi", `^acme 1: stub 262, kernel 6.18.0-acme, command line "quiet", signed: false\n(?s).*\.linux +\d+ bytes`, 0},
		{nil, "uki-pcr11 acme_1.efi", `^# enter-initrd\n11:sha256=[0-9a-f]{64}\n11:sha384=`, 0},
		{nil, "uki-pcrsig acme_1.efi keys/PCR.key", `^\{"sha256": \[\{"pcrs": \[11\],`, 0},
		{func() {
			key, err := x509.MarshalPKIXPublicKey(pair("PCR").Leaf.PublicKey)
			require.NoError(t, err)
			write("pcr.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key}))
		}, "uki-pcrsig-elsewhere acme_1.efi pcr.pub", `^(acme_1.efi.policy\d.tosign\n){4}$`, 0},
		{func() {
			for _, n := range []string{"1", "2", "3", "4"} {
				digest := sha256.Sum256(read("acme_1.efi.policy" + n + ".tosign"))
				service(t, pair("PCR"), digest[:], in("policy"+n))
			}
		}, "uki-pcrsig-elsewhere acme_1.efi pcr.pub policy1 policy2 policy3 policy4", `^\{"sha256": \[\{"pcrs": \[11\],`, 0},
		{nil, "uki-pcrsig-elsewhere acme_1.efi pcr.pub policy2 policy1 policy3 policy4", "^$", 1},
		{nil, "sign-pe acme_1.efi keys/db.key keys/db.crt signed.efi", "^signed by CN=Acme OS Signature Database Key\n$", 0},
		{nil, "uki-inspect signed.efi", "signed: true", 0},
		{nil, "sign-pe-elsewhere acme_1.efi keys/db.crt", "^SHA-256 of what is to be signed", 0},
		{func() {
			digest := sha256.Sum256(read("acme_1.efi.tosign"))
			service(t, pair("db"), digest[:], in("signature"))
		}, "sign-pe-elsewhere acme_1.efi keys/db.crt signature", "^$", 0},

		{nil, "product parts keys out", "^acme 1: roothash=[0-9a-f]{64}, sha256:", 0},
		{nil, "disk-inspect out/disk.img", "acme_1_verity  root-x86-64-verity", 0},
		{nil, "esp-files out/disk.img", "(?m)^EFI/Linux/acme_1.efi$", 0},
		{nil, "esp-files out/disk.img loader/entries.srel", "^type1\n$", 0},
		{nil, "boot-menu out/disk.img", "^acme_1.efi: Acme OS 1, bad: false\nboots acme_1.efi, first in the menu\n$", 0},
		{nil, "boot-predict signed.efi parts/loader", `(?m)^PCR 4: exact .* [0-9a-f]{64}$`, 0},
		{func() { write("tree/boot/EFI/Linux/acme_1+3.efi", read("acme_1.efi")) }, "image-from-repart repart.d tree repart.img", "esp", 0},
		{nil, "esp-files repart.img loader/loader.conf", "^timeout 0\n$", 0},
		{nil, "boot-menu repart.img", "and renames EFI/Linux/acme_1.3.efi to EFI/Linux/acme_1.2-1.efi", 0},
		{nil, "luks-create volume passphrase", `^state [-0-9a-f]{36}: data at 16777216, 2 key slots\nrecovery key in slot 1: ([a-z]{8}-){7}[a-z]{8}\n$`, 0},
		{nil, "log-explain a.log b.log", `^\d+ events differ, for \d+ causes\nPCR `, 0},

		{nil, "uki-build parts/stub parts/kernel initrd.gz os-release-2 acme_2.efi", "bytes", 0},
		{func() {
			// cosign's key, and its public half for those who verify.
			key, err := x509.MarshalPKIXPublicKey(pair("PCR").Leaf.PublicKey)
			require.NoError(t, err)
			write("cosign.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key}))
		}, "release-pack acme_1.efi keys/PCR.key one", "^sha256:[0-9a-f]{64}\n$", 0},
		{nil, "release-pack acme_2.efi keys/PCR.key two", "^sha256:", 0},
		{nil, "release-verify one cosign.pub", `^acme 1 amd64 \d+ bytes\n$`, 0},
		{nil, "release-verify out/oci cosign.pub", "^$", 1}, // it is not signed
		{nil, "release-compare one two", "IMAGE_VERSION=2", 0},
	} {
		words := strings.Fields(c.call)
		if !slices.Contains(programs, words[0]) {
			continue
		}
		if c.before != nil {
			c.before()
		}
		called[words[0]] = true
		stdout, stderr, status := run(words[0], words[1:]...)
		require.Equal(t, c.status, status, "%s: %s", c.call, stderr)
		require.Regexp(t, c.want, stdout, c.call)
	}
	for _, name := range programs {
		require.True(t, called[name], name)
	}

	root, err := hex.DecodeString(string(read("root.roothash")))
	require.NoError(t, err)
	_, err = verity.VerifySignature(read("root.roothash.p7s"), root, []*x509.Certificate{pair("verity").Leaf})
	require.NoError(t, err)
	if testing.Short() {
		return
	}
	require.Equal(t, read("signed.efi"), read("acme_1.efi.signed"), "RSA signatures are the same, wherever they are made")
}

var included = regexp.MustCompile("(?s)<!-- include (\\S+) -->\n```go\n(.*?)\n```\n")

// docs/howto.md has each program as it is.
func TestDocument(t *testing.T) {
	const name = "../../docs/howto.md"
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	var shown []string
	want := included.ReplaceAllStringFunc(string(text), func(block string) string {
		file := included.FindStringSubmatch(block)[1]
		program, err := os.ReadFile("../../" + file)
		require.NoError(t, err)
		shown = append(shown, filepath.Base(filepath.Dir(file)))
		return "<!-- include " + file + " -->\n```go\n" + string(program) + "```\n"
	})
	if os.Getenv("OSMITH_UPDATE") == "1" {
		require.NoError(t, os.WriteFile(name, []byte(want), 0o644))
	} else {
		require.Equal(t, want, string(text), "OSMITH_UPDATE=1 writes it")
	}
	for _, lesson := range shown {
		require.Contains(t, want, "\n## "+lesson+"\n")
		require.True(t, strings.Contains(want, "(#"+lesson+")"), "the table does not lead to %s", lesson)
	}
	slices.Sort(shown)
	require.Equal(t, lessons(t), shown)
}
