//go:build linux

package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/luks"
)

// takeover is the name of the system of testdata/mkosi.
const takeover = "takeover"

// takeoverSteps are what the guest runs, by the version that runs; it has the second disk as
// /run/payload. Nothing in them tells osmith what version runs, where the disk is, or what is
// sealed: it reads that from the machine.
var takeoverSteps = map[string][]guestStep{
	"1": slices.Concat(lookAround, []guestStep{
		osmithStep("inspect", "inspect"),
		osmithStep("osmith", "apply", "-release", "/run/payload/v2", "-key", "/run/payload/release.pem"),
	}),
	"2": slices.Concat(lookAround, []guestStep{
		osmithStep("inspect", "inspect"),
		osmithStep("commit", "commit"),
		{Name: "list", Args: []string{"/usr/lib/systemd/systemd-sysupdate", "list", "--json=short"}},
		{Name: "sysupdate", Args: []string{"/usr/lib/systemd/systemd-sysupdate", "update"}},
	}),
	"3": slices.Concat(lookAround, []guestStep{
		osmithStep("inspect", "inspect"),
		osmithStep("osmith", "apply", "-release", "/run/payload/v4", "-key", "/run/payload/release.pem"),
	}),
	"4": slices.Concat(lookAround, []guestStep{
		osmithStep("inspect", "inspect"),
		osmithStep("commit", "commit"),
		{Name: "list", Args: []string{"/usr/lib/systemd/systemd-sysupdate", "list", "--json=short"}},
	}),
}

// lookAround is what each boot tells. The ESP is an automount, which the first step has mounted.
var lookAround = []guestStep{
	{Name: "ESP", Args: []string{"ls", "/boot/EFI/Linux"}},
	{Name: "mounts", Args: []string{"cat", "/proc/self/mounts"}},
	{Name: "unlocked", Args: []string{"journalctl", "-b", "-o", "cat", "-u", "systemd-cryptsetup@root.service"}},
	{Name: "failed", Args: []string{"systemctl", "--failed", "--no-legend", "--plain"}},
}

// osmithStep is a call of the program upgrade on the machine that it runs on.
func osmithStep(name, verb string, args ...string) guestStep {
	return guestStep{Name: name, Args: append([]string{"/run/payload/upgrade", verb, "-esp", "/boot", "-no-shim", "-pcr-key", "/run/payload/pcr.pem"}, args...)}
}

// TestMkosiTakeover takes over an image that Debian's mkosi has built, with a user space of systemd
// alone: the initrd of mkosi makes the root in the first boot, as LUKS2 with a token of the TPM and
// nothing else that would open it. In version 1 osmith reads the machine and installs 2, in 2
// systemd-sysupdate installs 3 by the vendor's definitions, and in 3 osmith installs 4. mkosi
// builds all four; only the number of the version differs. In each boot the token has opened the
// root, which is that of the boots before. It is for OSMITH_LONG=1.
func TestMkosiTakeover(t *testing.T) {
	requireVM(t)
	if os.Getenv("OSMITH_LONG") != "1" {
		t.Skip("four images and four boots of a whole system, with OSMITH_LONG=1 alone")
	}
	t.Parallel()
	builder, root := testtools.Mkosi(t), testtools.Forky(t)
	s := newSystem(t, root)
	s.Machine.Code, s.Machine.Vars = root.Part(t, "ovmf-code"), root.Part(t, "ovmf-vars")
	require.NoError(t, s.Machine.SetVariables(*s.Facts.Firmware))
	v := buildVendor(t, s, builder, "1", "2", "3", "4")
	v.disk(t, s.Machine.Disk)
	s.Machine.SecondDisk = v.payload(t)
	s.Machine.Memory, s.Machine.Deadline, s.Machine.Linger = 1536, 15*time.Minute, 3*time.Minute
	s.Machine.StopAt = []string{"emergency mode"} // it would wait for a person

	for i, version := range []string{"1", "2", "3", "4"} {
		b := boot(t, s.Machine, version, Reported)
		for _, run := range b.Report.Runs {
			t.Logf("version %s: %s: %s\n%s", b.Report.Version, run.Name, run.Error, run.Output)
		}
		require.Equal(t, version, b.Report.Version)
		v.requireUnlocked(t, b.Report, i)
		v.requireDone(t, b.Report)
		v.requireOnDisk(t, s, version)
	}
}

// requireUnlocked says that the root is the volume that the first boot has made, and that its token
// has opened it.
func (v *vendor) requireUnlocked(t *testing.T, r *report.Report, before int) {
	t.Helper()
	history, _ := r.Run("history")
	require.Equal(t, strings.Join([]string{"1", "2", "3", "4"}[:before+1], "\n"), history.Output, "the file is on the root, where each boot has written a line")
	mounts, _ := r.Run("mounts")
	require.Contains(t, mounts.Output, "/dev/mapper/root / ext4 ")
	require.Contains(t, mounts.Output, "/dev/mapper/usr /usr erofs ")
	unlocked, _ := r.Run("unlocked")
	require.Contains(t, unlocked.Output, "security TPM2 token unlocks volume")
}

// requireDone says that all programs of a boot have done what they should.
func (v *vendor) requireDone(t *testing.T, r *report.Report) {
	t.Helper()
	for _, step := range takeoverSteps[r.Version] {
		run, ok := r.Run(step.Name)
		require.True(t, ok, step.Name)
		require.Empty(t, run.Error, "version %s: %s: %s", r.Version, step.Name, run.Output)
	}
	if list, ok := r.Run("list"); ok {
		require.Contains(t, list.Output, `"current":"`+r.Version+`"`, "systemd-sysupdate takes what osmith has installed for its own")
	}
}

// requireOnDisk holds the disk of the machine, which is off, against what ran: the version, and the
// next one.
func (v *vendor) requireOnDisk(t *testing.T, s *System, running string) {
	t.Helper()
	disk, state := s.inspect(t)
	defer disk.Close()
	t.Logf("after version %s:\n%s", running, state)
	var whole []string
	for _, slot := range state.Slots {
		require.Equal(t, partition.SlotInstalled, slot.State, slot.Name())
		whole = append(whole, slot.Version)
	}
	installed := map[string][]string{"1": {"1", "2"}, "2": {"2", "3"}, "3": {"3", "4"}, "4": {"3", "4"}}[running]
	require.ElementsMatch(t, installed, whole)
	require.Equal(t, installed[1], state.Next.Slot.Version)

	// There is no passphrase that would open the root: its only key is the token's.
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	i := slices.IndexFunc(table.Partitions, func(p partition.Partition) bool { return p.Type == partition.RootX8664 })
	require.GreaterOrEqual(t, i, 0)
	off, size := table.Extent(i)
	volume, err := luks.OpenReader(io.NewSectionReader(disk, off, size))
	require.NoError(t, err)
	header := volume.Header()
	require.Len(t, header.Slots, 1)
	require.Len(t, header.Tokens, 1)
	require.Equal(t, "systemd-tpm2", header.Tokens[0].Type)
}

// A vendor is what a vendor has that builds images with mkosi.
type vendor struct {
	dir     string
	s       *System
	program string // examples/release
}

// buildVendor builds the versions, each into a directory of its name.
func buildVendor(t *testing.T, s *System, tree testtools.Root, versions ...string) *vendor {
	t.Helper()
	v := &vendor{dir: t.TempDir(), s: s}
	v.program = filepath.Join(v.dir, "release")
	require.NoError(t, buildProgram(t.Context(), v.program, "amd64", examples+"release"))
	src := filepath.Join(v.dir, "src")
	require.NoError(t, os.CopyFS(src, os.DirFS("testdata/mkosi")))
	lib := filepath.Join(src, "mkosi.extra/usr/lib", takeover)
	require.NoError(t, os.MkdirAll(lib, 0o755))
	guest, err := os.ReadFile(s.guest)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(lib, "guest"), guest, 0o755))
	v.keys(t, filepath.Join(src, "keys"))

	// How this machine reaches its mirror: mkosi brings an apt of its own.
	resolver, err := os.ReadFile("/etc/resolv.conf")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(tree.Path("etc/resolv.conf"), resolver, 0o644))
	apt := filepath.Join(src, "mkosi.sandbox/etc/apt/apt.conf.d")
	require.NoError(t, os.MkdirAll(apt, 0o755))
	conf, err := os.ReadFile(tree.Path("etc/apt/apt.conf.d/80host"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(apt, "80host"), conf, 0o644))
	list, err := os.ReadFile(tree.Path("etc/apt/sources.list"))
	require.NoError(t, err)
	words := strings.Fields(string(list))
	require.Greater(t, len(words), 2, "%s", list)

	for _, version := range versions {
		out := filepath.Join(v.dir, version)
		require.NoError(t, os.Mkdir(out, 0o755))
		workspace := filepath.Join(v.dir, "workspace")
		require.NoError(t, os.MkdirAll(workspace, 0o755))
		began := time.Now()
		tree.Within(20*time.Minute).Run(t, v.dir, "sh", "-ec", `mkdir -p "$1/packages" "$1/images"
			cd src
			mkosi --image-version="$2" --local-mirror="$3" --output-directory="$4" --workspace-directory="$5" --package-cache-dir="$1/packages" --cache-directory="$1/images" --incremental=yes build`,
			"sh", testtools.Cache, version, words[1], out, workspace)
		t.Logf("mkosi: version %s after %.0f s", version, time.Since(began).Seconds())
	}
	return v
}

// keys writes the keys of the system as mkosi takes them: that of db for UKIs, loader and root
// hashes, that of PCR policies with a certificate around it.
func (v *vendor) keys(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.Mkdir(dir, 0o700))
	k := v.s.Builder.Keys
	write := func(name, kind string, der []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	private := func(name string, key crypto.Signer) {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		write(name, "PRIVATE KEY", der)
	}
	db := k.SecureBoot.DB
	private("db.key", db.Key)
	write("db.crt", "CERTIFICATE", db.Cert.Raw)
	private("pcr.key", k.PCR)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "PCR policies"}, NotBefore: v.s.Builder.Time, NotAfter: v.s.Builder.Time.AddDate(20, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PCR.PublicKey, k.PCR)
	require.NoError(t, err)
	write("pcr.crt", "CERTIFICATE", der)
	private("release.key", k.Release)
	public, err := x509.MarshalPKIXPublicKey(k.Release.Public())
	require.NoError(t, err)
	write("release.pem", "PUBLIC KEY", public)
	policies, err := k.PCRPublicKey()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pcr.pem"), policies, 0o600))
}

// disk is version 1 on a disk with room for the second slot and the root.
func (v *vendor) disk(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, copyFile(name, filepath.Join(v.dir, "1", takeover+"_1.raw")))
	require.NoError(t, os.Truncate(name, 1536<<20))
}

// payload is the disk with what the guest gets: releases for osmith, one more as systemd-sysupdate
// takes it, the programs and what to do.
func (v *vendor) payload(t *testing.T) string {
	t.Helper()
	keys := filepath.Join(v.dir, "src/keys")
	dir := filepath.Join(v.dir, "payload")
	for _, version := range []string{"2", "4"} {
		layout := filepath.Join(dir, "v"+version)
		testtools.Run(t, v.program, "pack", "-o", layout, "-from", filepath.Join(v.dir, version))
		testtools.Run(t, v.program, "sign", layout, version, "-key", filepath.Join(keys, "release.key"))
	}
	layout := filepath.Join(v.dir, "v3")
	testtools.Run(t, v.program, "pack", "-o", layout, "-from", filepath.Join(v.dir, "3"))
	testtools.Run(t, v.program, "export", layout, "3", "-o", filepath.Join(dir, "www"))
	require.NoError(t, buildProgram(t.Context(), filepath.Join(dir, "upgrade"), "amd64", examples+"upgrade"))
	for _, name := range []string{"release.pem", "pcr.pem"} {
		require.NoError(t, copyFile(filepath.Join(dir, name), filepath.Join(keys, name)))
	}
	steps, err := json.Marshal(takeoverSteps)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "steps.json"), steps, 0o644))

	var files []osmith.ESPFile
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := osmith.OpenFile(name)
		if err != nil {
			return err
		}
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		rel, err := filepath.Rel(dir, name)
		files = append(files, osmith.ESPFile{Path: filepath.ToSlash(rel), Content: f})
		return err
	}))
	name := filepath.Join(v.s.Machine.Dir, "payload.img")
	out, err := os.Create(name)
	require.NoError(t, err)
	o := fat.BuildOptions{Kind: 32, Label: "PAYLOAD", Time: v.s.Builder.Time}
	need, err := fat.MinSize(files, o)
	require.NoError(t, err)
	o.Size = (need>>20 + 2) << 20
	image, err := fat.Plan(files, o)
	require.NoError(t, err)
	_, err = io.Copy(out, io.NewSectionReader(image, 0, image.Size()))
	require.NoError(t, errors.Join(err, out.Close()))
	return name
}
