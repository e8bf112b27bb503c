package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// image is the disk image with all that is known of its machine, which is off; two is the release
// of version 2, as its vendor has signed it.
const (
	image = " -disk @disk.img -vars @vars -pcr-key @pcr.pub -no-shim"
	two   = " -release @layout:2 -key @release.pub"
)

// An image of a machine that is off is upgraded; the machine starts it, and commits it.
func TestStory(t *testing.T) {
	b := newBench(t)
	b.release(b.build("2"))

	s := object[seen](t, b.ok("inspect -json -disk @disk.img"))
	require.Equal(t, "osmith.upgrade/1", s.Schema)
	require.Equal(t, []any{"inspect", true, []string{}}, []any{s.Verb, s.Offline, s.Unread})
	require.Equal(t, upgrade.StateSchema, s.State["schema"])
	require.Equal(t, "EFI/Linux/acme_1.efi", s.State["next"])
	require.Contains(t, b.ok("inspect -disk @disk.img"), "entry   EFI/Linux/acme_1.efi  good, slot A, next")

	before := readFile(t, b.path("disk.img"))
	require.Contains(t, b.ok("plan"+image+two), "upgrade to version 2 in slot B, from EFI/Linux/acme_1.efi\n")
	p := object[planned](t, b.ok("plan -json"+image+two))
	require.Equal(t, upgrade.PlanSchema, p.Plan.Schema)
	require.Equal(t, []any{"2", false, false}, []any{p.Plan.Version, p.Plan.Refused, p.Applied})
	for _, j := range p.Plan.Judgements {
		require.Equal(t, "pass", j.Outcome, j)
	}
	require.Len(t, p.Plan.PCRs["sha256"], 3)
	require.Len(t, p.Release.Signers, 1)
	require.Regexp(t, "^sha256:[0-9a-f]{64}$", p.Release.Digest)
	require.True(t, before == readFile(t, b.path("disk.img")), "a plan writes nothing")
	drawn := b.ok("plan -svg @plan.svg" + image + two)
	require.Regexp(t, `(?m)^before +acme_1\.efi +1 +empty +acme_1\.efi$`, drawn)
	require.Regexp(t, `(?m)^\d  activate-slot +acme_1\.efi +1 +2 +acme_1\.efi$`, drawn)
	require.Regexp(t, `(?m)^\d  add-entry +acme_1\.efi acme_2\+3\.efi +1 +2 +acme_2\+3\.efi$`, drawn)
	require.Contains(t, readFile(t, b.path("plan.svg")), "<title>upgrade to version 2: the disk before, after each step, and after</title>")

	text := b.ok("apply" + image + two)
	require.Contains(t, text, "upgrade to version 2 in slot B")
	require.Contains(t, text, "applied: the next start is one of EFI/Linux/acme_2+3.efi; when the machine runs it and has found it good, it commits it")
	p = object[planned](t, b.ok("apply -json"+image+two))
	require.Equal(t, []any{true, false}, []any{p.Plan.Installed, p.Applied})

	// A machine that is off cannot say that it came up.
	b.refused(1, "upgrade: commit: the machine is off", "commit -disk @disk.img")
	require.Equal(t, "2", b.boot("two").Version)
	e := object[entryResult](t, b.ok("commit -json -disk @disk.img -machine @two"))
	require.Equal(t, []any{"commit", "EFI/Linux/acme_2.efi", false}, []any{e.Verb, e.Entry, e.Offline})
	require.Equal(t, "committed: EFI/Linux/acme_2.efi\n", b.ok("commit -disk @disk.img -machine @two -entry acme_2.efi"))
	b.refused(1, "upgrade: commit EFI/Linux/acme_1.efi", "commit -disk @disk.img -machine @two -entry acme_1.efi")
	b.refused(1, "acme_9.efi: no such entry on the ESP", "commit -disk @disk.img -machine @two -entry acme_9.efi")

	// It goes back, and then there is nothing to go back to.
	require.Contains(t, b.ok("rollback -disk @disk.img -machine @two"), "rolled back: EFI/Linux/acme_2+0-1.efi is marked as bad")
	require.Equal(t, "1", b.boot("one").Version)
	b.refused(1, "no other entry to fall back to", "rollback -disk @disk.img -machine @one")
	s = object[seen](t, b.ok("inspect -json -disk @disk.img -machine @one"))
	require.Equal(t, []any{false, "EFI/Linux/acme_1.efi"}, []any{s.Offline, s.State["running"]})
}

// What is read of a machine, and what is not.
func TestMachine(t *testing.T) {
	b := newBench(t)
	b.release(b.build("2"))
	b.boot("m")
	b.file("m/sys/kernel/security/tpm0/binary_bios_measurements", "no log")
	status, stdout, stderr := b.call("inspect -json -disk @disk.img -machine @m")
	require.Zero(t, status)
	require.Contains(t, stderr, "upgrade: not known of the machine: tpm: ")
	s := object[seen](t, stdout)
	require.Len(t, s.Unread, 1)
	require.Contains(t, stderr, s.Unread[0])
	require.Equal(t, "EFI/Linux/acme_1.efi", s.State["running"])

	// A machine that is off does not say which of two was good, so neither is written over.
	b.release(b.build("3"))
	b.ok("apply" + image + two)
	b.refused(1, "set Machine.Running; as flags, Machine.Running: -machine, or the machine that this runs on\n", "plan -release @layout:3 -key @release.pub"+image)
	b.boot("m")
	b.refused(1, "commit it first", "plan -release @layout:3 -key @release.pub -disk @disk.img -machine @m")
	b.ok("commit -disk @disk.img -machine @m")
	b.ok("plan -release @layout:3 -key @release.pub -disk @disk.img -machine @m")

	// A machine of another disk.
	other := newBench(t)
	other.builder.Seed[1]++
	set := other.build("1")
	require.NotEqual(t, b.one.RootHash, set.RootHash)
	b.file("m/proc/cmdline", "roothash="+hex.EncodeToString(set.RootHash))
	b.refused(1, "the machine may have booted from a different disk", "inspect -disk @disk.img -machine @m")
	require.NoError(t, os.Remove(b.path("m/proc/cmdline")))
	b.refused(2, "what the machine runs is unknown", "inspect -disk @disk.img -machine @m")
}

// Udev looks at a disk for a moment after each call that could have written to it, and keeps it
// locked meanwhile.
func TestLockedForAMoment(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a lock keeps out other programs on Linux alone")
	}
	b := newBench(t)
	b.boot("m")
	udev, err := osmith.OpenFile(b.path("disk.img"))
	require.NoError(t, err)
	unlock, err := udev.Lock()
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		time.Sleep(2 * pause)
		done <- unlock()
	}()
	b.ok("commit -disk @disk.img -machine @m")
	require.NoError(t, <-done)
	require.NoError(t, udev.Close())
}

// What no boot has tried is taken back.
func TestCancel(t *testing.T) {
	b := newBench(t)
	b.release(b.build("2"))
	require.Equal(t, "nothing to take back\n", b.ok("cancel"+image))
	b.ok("apply" + image + two)
	r := object[cancelResult](t, b.ok("cancel -json"+image))
	require.Equal(t, []string{"EFI/Linux/acme_2+3.efi"}, r.Removed)
	require.Contains(t, b.ok("inspect -disk @disk.img"), "slot B  empty")
	r = object[cancelResult](t, b.ok("cancel -json"+image))
	require.Equal(t, []string{}, r.Removed)
	require.Equal(t, "1", b.boot("one").Version)

	// The variables of the loader count.
	b.ok("apply" + image + two)
	b.variables("pinned", map[string]string{"LoaderEntryDefault": "acme_2*"})
	b.refused(1, "pinned", "rollback -entry acme_2.efi -disk @disk.img -vars @pinned")
	require.Contains(t, b.ok("rollback -entry acme_2.efi"+image), "EFI/Linux/acme_2+0.efi is marked as bad")
}

// A running machine is told what to do next, with the flags that it needs.
func TestNextCommand(t *testing.T) {
	b := newBench(t)
	b.release(b.build("2"))
	b.boot("a machine")
	require.NoError(t, os.Rename(b.path("a machine"), b.path("m")))
	text := b.ok("apply -disk @disk.img -machine @m -no-shim -pcr-key @pcr.pub" + two)
	require.Contains(t, text, "when it runs and is found good: upgrade commit -disk "+quoted(b.path("disk.img"))+" -machine "+quoted(b.path("m"))+" -no-shim -pcr-key "+quoted(b.path("pcr.pub"))+"\n")
	require.Equal(t, `'a b'`, quoted("a b"))
	require.Equal(t, `'a'\''b'`, quoted("a'b"))
}

// A plan that is refused is printed all the same, and nothing is written. An override names what is
// ignored.
func TestRefused(t *testing.T) {
	b := newBench(t)
	b.builder.Foreign = strangers(t)
	b.release(b.build("2"))
	b.builder.Foreign = nil

	for _, verb := range []string{"plan", "apply"} {
		p := object[planned](t, b.refused(1, "upgrade: refused, nothing was written: boots:", verb+" -json"+image+two))
		require.Equal(t, []any{verb, true, false}, []any{p.Verb, p.Plan.Refused, p.Applied})
		outcome, err := p.outcome("boots")
		require.NoError(t, err)
		require.Equal(t, "fail", outcome)
		require.Contains(t, b.refused(1, "upgrade: refused", verb+image+two), "✗")
	}
	require.Contains(t, b.ok("inspect -disk @disk.img"), "slot B  empty")
	b.refused(1, "refused", "plan -override follows"+image+two)
	require.Contains(t, b.ok("plan -override boots"+image+two), "boots    fail, overridden")

	// What is not known is no failure, and the flags that tell it are named.
	require.Contains(t, b.ok("plan -disk @disk.img"+two), "  flags    Machine.Firmware: -vars; NoSecureBoot: -no-secure-boot; Machine.Loader: -vars with a copy of efivarfs, or -no-loader-variables; Machine.PCRKeys: -pcr-key; NothingSealed: -nothing-sealed\n")
	// An older release than is wanted.
	b.refused(1, "refused, nothing was written: follows", "plan -no-secure-boot -disk @disk.img -nothing-sealed -no-loader-variables -floor 3"+two)
}

// A writer does something when it is written to.
type writer func(text string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}

// An upgrade that was interrupted says how to go on, and that is how: the old version boots, the
// same command ends it, and cancel takes it back.
func TestInterrupted(t *testing.T) {
	b := newBench(t)
	b.release(b.build("2"))
	args := []string{"apply", "-disk", b.path("disk.img"), "-vars", b.path("vars"), "-nothing-sealed", "-no-shim", "-release", b.path("layout"), "-key", b.path("release.pub"), "-progress", "json"}
	ctx, cancel := context.WithCancel(t.Context())
	planned, said := false, ""
	status := program.Run(ctx, args, writer(func(text string) {
		planned = planned || strings.HasPrefix(text, "upgrade to version 2")
		require.NotContains(t, text, "applied")
	}), writer(func(text string) {
		said += text
		if planned { // the first step begins
			cancel()
		}
	}))
	require.Equal(t, 2, status)
	require.Contains(t, said, "upgrade: context canceled\nupgrade: what booted before still boots; to go on, give the same command again; to take back what was written: upgrade cancel -disk "+
		quoted(b.path("disk.img"))+" -no-shim -nothing-sealed -vars "+quoted(b.path("vars"))+"\n")
	require.Contains(t, b.ok("inspect -disk @disk.img"), "EFI/Linux/acme_1.efi  good, slot A, next")
	b.ok("apply" + image + two)
	require.Contains(t, b.ok("cancel -no-shim -nothing-sealed -disk @disk.img -vars @vars"), "acme_2+3.efi")
	require.Equal(t, "1", b.boot("m").Version)

	// Before the first step there is nothing to take back.
	var stdout, stderr strings.Builder
	require.Equal(t, 2, program.Run(ctx, args, &stdout, &stderr))
	require.Contains(t, stderr.String(), "context canceled")
	require.NotContains(t, stderr.String(), "take back")
	require.Empty(t, stdout.String())
}

// Whom to believe is said by a policy, by keys, or by the option that asks for no signature.
func TestRelease(t *testing.T) {
	b := newBench(t)
	set := b.build("2")
	b.release(set)
	p := object[planned](t, b.ok("plan -json -release @layout -policy @policy.json -repository registry.example/os/acme"+image))
	require.Len(t, p.Release.Signers, 1)
	require.Contains(t, p.Release.Signers[0], "acme")
	digest := p.Release.Digest
	p = object[planned](t, b.ok("plan -json -release @layout:"+digest+" -accept-unsigned-release"+image))
	require.Equal(t, releaseObject{digest, "2", []string{}}, p.Release)

	b.public("other.pub", strangers(t).Release.Public())
	b.refused(1, "upgrade: -release "+b.path("layout:2")+": ", "plan -release @layout:2 -key @other.pub"+image)
	b.refused(1, "no rule matches", "plan -release @layout:2 -policy @policy.json"+image)
	b.refused(1, "not found", "plan -release @layout:3 -key @release.pub"+image)
	b.refused(1, "not found", "plan -release @layout:sha256:"+strings.Repeat("0", 64)+" -accept-unsigned-release"+image)

	// A byte of a layer.
	layers, err := filepath.Glob(b.path("layout/blobs/sha256/*"))
	require.NoError(t, err)
	damaged := false
	for _, name := range layers {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		if int64(len(content)) == set.Root.Size() {
			content[100] ^= 1
			require.NoError(t, os.WriteFile(name, content, 0o600))
			damaged = true
			break
		}
	}
	require.True(t, damaged)
	b.refused(1, "sha256:", "plan"+image+two)
}

// The boot loader of a release comes with it, if that is said.
func TestLoader(t *testing.T) {
	b := newBench(t)
	set := b.build("2")
	b.release(set)
	b.refused(1, "the release has no boot loader", "plan -loader"+image+two)
	b.refused(2, "-shim is for -loader", "plan -shim @vars"+image+two)
	r := b.build("3").Release()
	own := *b.builder
	own.Parts.Loader = bytes.NewReader(petest.Loader("262.1"))
	loader, err := own.SignedLoader()
	require.NoError(t, err)
	r.Loader = loader
	packed, err := release.Pack(b.path("layout"), "3", r)
	require.NoError(t, err)
	store, err := cosign.OpenDir(b.path("layout"))
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(t.Context(), store, packed, b.builder.Keys.Release, cosign.SignOptions{}))
	const three = " -release @layout:3 -key @release.pub" + image
	before := readFile(t, b.path("disk.img"))
	text := b.ok("apply -loader" + three)
	require.Contains(t, text, "boot loader, before the rest:\n")
	require.Contains(t, text, "replace EFI/systemd/systemd-bootx64.efi")
	require.Contains(t, text, "applied: the next start is one of EFI/Linux/acme_3+3.efi")
	require.Contains(t, b.ok("plan -loader"+three), "the boot loader is as it shall be: nothing to do")
	require.False(t, object[planned](t, b.ok("apply -loader -json"+three)).Applied)
	require.Equal(t, "3", b.boot("three").Version)

	// The system first, and the boot loader of the same release afterwards.
	b.file("disk.img", before)
	b.ok("apply" + three)
	require.Equal(t, "3", b.boot("three").Version)
	middle := readFile(t, b.path("disk.img"))
	text = b.ok("apply -loader" + three)
	require.Contains(t, text, "replace EFI/systemd/systemd-bootx64.efi")
	require.Contains(t, text, "nothing else to do\napplied: the boot loader; the system stays as it is\n")
	b.file("disk.img", middle)
	p := object[planned](t, b.ok("apply -loader -json"+three))
	require.Equal(t, []any{true, true}, []any{p.Plan.Installed, p.Applied})
	require.NotEqual(t, middle, readFile(t, b.path("disk.img")))
}

// A release on a web server is verified before anything of it is used, and its root file system and
// UKI go to their places without being anywhere else.
func TestWeb(t *testing.T) {
	b := newBench(t)
	set := b.build("2")
	b.release(set)
	server := httptest.NewServer(http.FileServer(http.Dir(b.path("layout"))))
	defer server.Close()
	web := " -release " + server.URL + "/:2 -key @release.pub -cache @cache"
	planned := b.ok("plan" + image + web)
	require.Contains(t, planned, "bytes are read from the release, the others from slot A")
	require.Regexp(t, `stage-uki .* \([0-9]+ bytes, [0-9]+ from the release\)`, planned)
	b.refused(1, "not found", "plan"+image+" -key @release.pub -release "+server.URL+"/:3")
	b.refused(1, "no signature by a trusted key", "plan"+image+" -key @pcr.pub -release "+server.URL+"/:2")

	require.Contains(t, b.ok("apply"+image+web), "applied: ")
	require.Equal(t, "2", b.boot("two").Version)
	uki := make([]byte, set.UKI.Size())
	_, err := set.UKI.ReadAt(uki, 0)
	require.NoError(t, err)
	layers, err := filepath.Glob(b.path("cache/blobs/sha256/*"))
	require.NoError(t, err)
	require.NotEmpty(t, layers)
	for _, name := range layers {
		require.NotEqual(t, readFile(t, b.path("2.root.raw")), readFile(t, name))
		require.NotEqual(t, string(uki), readFile(t, name))
	}
}

// The variable store of a virtual machine says whether its firmware starts the release, and what of
// the loader's variables it keeps.
func TestStore(t *testing.T) {
	r := testtools.Trixie(t)
	empty := []byte(readFile(t, r.Path("usr/share/OVMF/OVMF_VARS_4M.fd")))
	b := newBench(t)
	b.release(b.build("2"))
	store, err := secureboot.WriteStore(empty, *b.machine.Firmware, when)
	require.NoError(t, err)
	b.file("vars.fd", string(store))
	text := b.ok("plan -disk @disk.img -vars @vars.fd -nothing-sealed" + two)
	require.Contains(t, text, `firmware starts EFI/Linux/acme_1.efi: db has the certificate "CN=Acme OS Signature Database Key"`)
	require.Contains(t, text, "  flags    Machine.Loader: ")
	require.NotContains(t, text, "Machine.Firmware")
	require.NotContains(t, b.ok("plan -disk @disk.img -vars @vars.fd -nothing-sealed -no-loader-variables"+two), "  flags ")

	// What it keeps of the loader counts, and is not to be denied.
	pinned, err := bootloader.ParseVariableImage(store)
	require.NoError(t, err)
	require.NoError(t, bootloader.SetLoaderVariable(pinned, "LoaderEntryDefault", "acme_1.efi"))
	b.file("pinned.fd", string(pinned.Bytes()))
	b.refused(1, "pinned", "plan -disk @disk.img -vars @pinned.fd -nothing-sealed"+two)
	b.refused(2, "has the variables of the loader", "plan -disk @disk.img -vars @pinned.fd -no-loader-variables -nothing-sealed"+two)

	// The store of a machine with another vendor's keys.
	b.file("ms.fd", readFile(t, r.Path("usr/share/OVMF/OVMF_VARS_4M.ms.fd")))
	b.refused(1, "refused, nothing was written: boots", "plan -disk @disk.img -vars @ms.fd -nothing-sealed -no-loader-variables"+two)
}

// Bad calls and files end with what is wrong and what to do.
func TestBadInput(t *testing.T) {
	b := newBench(t)
	b.release(b.build("2"))
	b.file("text", "no disk at all\n")
	b.file("bad.json", `{"schema":"osmith.policy/1"`)
	b.file("ids.json", `{"schema":"osmith.policy/1","rules":[{"repository":"*","authorities":[{"name":"ci","identities":[{"issuer":"https://ci.example","subject":"acme"}]}]}]}`)
	require.NoError(t, os.MkdirAll(b.path("empty"), 0o755))
	for name, tt := range map[string]struct {
		status     int
		want, line string
	}{
		"no disk":              {2, "want either -disk or -esp", "inspect"},
		"two disks":            {2, "want either -disk or -esp", "inspect -disk @disk.img -esp /efi"},
		"an operand":           {2, `unexpected argument "x"`, "inspect x -disk @disk.img"},
		"no such file":         {2, "absent", "inspect -disk @absent"},
		"a directory":          {2, "is a directory", "inspect -disk @vars"},
		"no table":             {1, "no GPT: a disk of 15 bytes is too small", "inspect -disk @text"},
		"mounted image":        {2, "is not a block device", "inspect -mounted -disk @disk.img"},
		"mounted esp":          {2, "-mounted is for -disk", "inspect -mounted -esp @vars"},
		"auto and off":         {2, "name the disk", "inspect -offline -disk auto"},
		"off and read":         {2, "-offline and -machine", "inspect -offline -machine / -disk @disk.img"},
		"keys and none":        {2, "contradict", "inspect -pcr-key @pcr.pub -nothing-sealed -disk @disk.img"},
		"a key that is none":   {2, "no public key in PEM", "inspect -pcr-key @text -disk @disk.img"},
		"a key of ECDSA":       {2, "signed with RSA", "inspect -pcr-key @release.pub -disk @disk.img"},
		"firmware":             {2, "-firmware acme: want one of", "inspect -firmware acme -disk @disk.img"},
		"loader":               {2, "-assume-loader -1", "inspect -assume-loader -1 -disk @disk.img"},
		"ESP":                  {2, "-esp-id", "inspect -esp-id 7 -disk @disk.img"},
		"no such ESP":          {1, "", "inspect -esp-id 11111111-2222-3333-4444-555555555555 -disk @disk.img"},
		"no variables":         {2, "absent", "inspect -vars @absent -disk @disk.img"},
		"not variables":        {2, "-vars", "inspect -vars @text -disk @disk.img"},
		"no efivarfs":          {2, "-vars", "inspect -vars @empty -disk @disk.img"},
		"variables twice":      {2, "has the variables of the loader", "inspect -vars @vars -no-loader-variables -disk @disk.img"},
		"variables of read":    {2, "for a machine that is off", "inspect -vars @vars -machine @empty -disk @disk.img"},
		"no machine":           {2, "is no machine that EFI firmware has started", "inspect -machine @empty -disk @disk.img"},
		"no release":           {2, "-release is missing", "plan" + image},
		"no such layout":       {2, "absent", "plan -release @absent -key @release.pub" + image},
		"not a layout":         {2, "oci-layout", "plan -release @empty -key @release.pub" + image},
		"nobody to believe":    {2, "who must have signed", "plan -release @layout" + image},
		"two to believe":       {2, "want one of -policy, -key", "apply -release @layout -key @release.pub -accept-unsigned-release" + image},
		"a name for keys":      {2, "-repository is for -policy", "plan -repository x" + image + two},
		"no such key":          {2, "absent", "plan -release @layout -key @absent" + image},
		"not a key":            {2, "-key", "plan -release @layout -key @text" + image},
		"no such policy":       {2, "absent", "plan -release @layout -policy @absent" + image},
		"not a policy":         {2, "-policy", "plan -release @layout -policy @bad.json" + image},
		"a policy of names":    {2, "this program verifies keys alone", "plan -release @layout -policy @ids.json -repository x" + image},
		"tries":                {2, "-tries 100", "plan -tries 100" + image + two},
		"none":                 {2, "-tries 0", "plan -tries 0" + image + two},
		"rollback of what":     {2, "-entry is missing", "rollback" + image},
		"rollback of loader":   {2, "-no-loader-variables", "rollback -entry acme_1.efi -disk @disk.img"},
		"cancel of loader":     {2, "-no-loader-variables", "cancel -disk @disk.img"},
		"rollback to nothing":  {1, "no other entry to fall back to", "rollback -entry acme_1.efi" + image},
		"rollback of no entry": {1, "no such entry on the ESP", "rollback -entry acme_7.efi" + image},
	} {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.t = t
			require.Empty(t, b.refused(tt.status, tt.want, tt.line))
		})
	}
	status, _, stderr := b.call("plan -override fate" + image + two)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "fate")
}

// Of a directory that is on no disk, there is none to open; elsewhere than on Linux, the flags say
// where they work.
func TestESP(t *testing.T) {
	b := newBench(t)
	if runtime.GOOS != "linux" {
		b.refused(2, "on Linux only", "inspect -esp @vars")
		return
	}
	b.refused(2, "/proc: not on a block device: name the directory on which the ESP is mounted", "inspect -esp /proc")
	b.refused(2, "absent", "commit -esp @absent")
	// Facts of a machine whose ESP is on no disk of this one.
	b.boot("m")
	b.refused(2, "upgrade: ", "inspect -disk auto -machine @m")
}
