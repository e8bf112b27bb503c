//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
)

// TestUKI is one machine, with firmware that protects memory strictly (no page is writable and
// executable, which misaligned sections would be): keys from our .auth files, an image in both of
// its profiles, with companion files, and revoked by our dbx.
func TestUKI(t *testing.T) {
	requireVM(t)
	t.Parallel()
	r := testtools.Forky(t)
	s := newSystem(t, r)
	s.Machine.Code = r.Path("usr/share/OVMF/OVMF_CODE_4M.secboot.strictnx.fd")
	s.Machine.Vars = r.Part(t, "ovmf-vars")
	plain, err := s.UKI("1", twoProfiles())
	require.NoError(t, err)
	first := espFiles{firstPath: plain}

	first.write(t, s, "acme_1.efi")
	b := boot(t, s.Machine, "0-enrol", Reset)
	require.Contains(t, b.Serial, "Custom Secure Boot keys successfully enrolled", "setup mode ends by our files")
	rep := bootUKI(t, s, "1-profile-0", first.boot(t, 0, nil))
	require.Equal(t, "1", rep.Version)
	want := s.Facts.Firmware
	require.False(t, rep.SetupMode())
	require.Equal(t, [][]byte{want.PK, want.KEK, want.DB, nil},
		[][]byte{rep.Variables["PK"], rep.Variables["KEK"], rep.Variables["db"], rep.Variables["dbx"]}, "what .auth files carry")

	rep = profileWithCompanions(t, s, r, twoProfiles(), rep)

	// The stub picks what is for this machine. What the second add-on adds to the command line
	// makes the guest append our dbx.
	dbx, auth := s.revoke(t, plain)
	picky, err := s.UKI("1", forThisHardware(t, s, uki.Image{}, rep))
	require.NoError(t, err)
	files := withCompanions(t, s, r, espFiles{firstPath: picky}, "osmith.append=keys/dbx.auth")
	files["keys/dbx.auth"] = auth
	s.judgedAddons(t, r, files, open(t, picky).Uname())
	files.write(t, s, "acme_1.efi")
	what := files.boot(t, 0, rep)
	what.Companions.Addons = slices.DeleteFunc(what.Companions.Addons, func(f uki.CompanionFile) bool { return f.Name == "q-unsigned.addon.efi" })
	what.Skipped = 1
	rep = bootUKI(t, s, "3-hardware-append", what)
	cmdline, _ := open(t, picky).Cmdline()
	require.Equal(t, cmdline+" acme.addon=global osmith.append=keys/dbx.auth"+oddText+" acme.addon=this-kernel", rep.Cmdline)
	s.requireListed(t, files, rep.Cmdline)
	require.Equal(t, dbx, rep.Variables["dbx"])
	requireMeasured(t, rep, ".linux", ".osrel", ".cmdline", ".initrd", ".dtb", ".uname", ".sbat", ".pcrpkey", ".dtbauto", ".hwids", ".efifw")

	revoked := *s.Facts.Firmware
	revoked.DBX = dbx
	s.Facts.Firmware = &revoked
	verdict, _, err := s.Evaluate(bytes.NewReader(plain))
	require.NoError(t, err)
	require.False(t, verdict.Allowed, verdict.Reason)
	first.write(t, s, "acme_1.efi")
	// The loader comes back from an entry whose tries are counted; from this one the firmware asks
	// a person.
	s.Machine.StopAt = []string{"No bootable option or device was found"}
	b = boot(t, s.Machine, "4-revoked", Stopped)
	require.Contains(t, b.Serial, "acme_1.efi: Access denied", "the firmware's word for it")
	s.Machine.StopAt = nil

	next, err := s.UKI("2", uki.Image{})
	require.NoError(t, err)
	files = espFiles{firstPath: next, "EFI/Linux/acme_0.efi": plain}
	files.write(t, s, "acme_1.efi")
	rep = bootUKI(t, s, "5-next", files.boot(t, 0, rep))
	require.Equal(t, "2", rep.Version)
}

// profileWithCompanions boots the second profile of an image, with a file of each kind that a stub
// passes on. Before is what an earlier boot of the machine reported.
func profileWithCompanions(t *testing.T, s *System, r testtools.Root, im uki.Image, before *report.Report) *report.Report {
	t.Helper()
	image, err := s.UKI("1", im)
	require.NoError(t, err)
	files := withCompanions(t, s, r, espFiles{firstPath: image}, "acme.addon=local")
	files.write(t, s, "acme_1.efi@other")
	rep := bootUKI(t, s, "2-profile-1-companions", files.boot(t, 1, before))
	require.Equal(t, "other", rep.Version)
	cmdline, err := open(t, files[firstPath]).ProfileCmdline(1)
	require.NoError(t, err)
	require.Equal(t, cmdline+" acme.addon=global acme.addon=local"+oddText, rep.Cmdline)
	explained(t, s, inputs(s, r, im), files, before, rep)
	return rep
}

// twoProfiles is what an image with another profile has.
func twoProfiles() uki.Image {
	return uki.Image{Profiles: []uki.Profile{{
		Profile: []byte("ID=other\nTITLE=Another way\n"), Cmdline: kernelArguments + " osmith.report=initrd osmith.version=other",
	}}}
}

// espFiles are files on an ESP by path.
type espFiles map[string][]byte

// write makes an ESP of them for the machine, with an entry that is booted.
func (files espFiles) write(t *testing.T, s *System, entry string) {
	t.Helper()
	var list []osmith.ESPFile
	for _, name := range slices.Sorted(maps.Keys(files)) {
		list = append(list, osmith.ESPFile{Path: name, Content: bytes.NewReader(files[name])})
	}
	require.NoError(t, s.WriteESP(bootloader.Config{Default: entry}, list...))
}

// firstPath is the image that tests boot.
const firstPath = "EFI/Linux/acme_1.efi"

// boot describes a boot of that image. Before is what an earlier boot of the machine reported.
func (files espFiles) boot(t *testing.T, profile int, before *report.Report) UKIBoot {
	esp := fstest.MapFS{}
	for name, content := range files {
		esp[name] = &fstest.MapFile{Data: content}
	}
	found, err := uki.ReadCompanions(esp, firstPath)
	require.NoError(t, err)
	return UKIBoot{Image: files[firstPath], Path: firstPath, Profile: profile, Companions: found, Before: before}
}

// addons are one for all images and one for the first: between them they have a section of each
// kind.
func addons(t *testing.T, s *System, r testtools.Root, cmdline string) (global, local []byte) {
	t.Helper()
	stub := addonStub(t, r)
	var err error
	packed := func(name string) osmith.Source {
		var b bytes.Buffer
		require.NoError(t, build.WriteInitrd(t.Context(), &b, fstest.MapFS{name: {Mode: 0o644, Data: []byte("of an add-on")}}, osmith.TreeOptions{}))
		return bytes.NewReader(b.Bytes())
	}
	global, err = s.Addon(uki.Addon{Stub: stub, Cmdline: "acme.addon=global", DeviceTree: bytes.NewReader(deviceTree("acme,addon"))})
	require.NoError(t, err)
	local, err = s.Addon(uki.Addon{Stub: stub, Cmdline: cmdline, Initrd: []osmith.Source{packed("acme")}, Microcode: packed("early")})
	require.NoError(t, err)
	return global, local
}

func addonStub(t *testing.T, r testtools.Root) osmith.Source {
	t.Helper()
	b, err := os.ReadFile(r.Part(t, "addon-stub"))
	require.NoError(t, err)
	return bytes.NewReader(b)
}

// withCompanions adds a file of each kind that a stub passes on. Two of them are add-ons of all
// parts, the second with the command line given; the others have odd command lines.
func withCompanions(t *testing.T, s *System, r testtools.Root, image espFiles, cmdline string) espFiles {
	t.Helper()
	global, local := addons(t, s, r, cmdline)
	files := espFiles{
		"loader/addons/acme.addon.efi":                      global,
		"EFI/Linux/acme_1.efi.extra.d/acme.addon.efi":       local,
		"EFI/Linux/acme_1.efi.extra.d/acme.cred":            []byte("a credential"),
		"EFI/Linux/acme_1.efi.extra.d/acme.sysext.raw":      []byte("a system extension"),
		"EFI/Linux/acme_1.efi.extra.d/acme.confext.raw":     []byte("a configuration extension"),
		"EFI/Linux/acme_1.efi.extra.d/what nobody asks for": []byte("nothing"),
		"loader/credentials/b.cred":                         []byte("a credential for every image"),
		"loader/credentials/a.cred":                         {},
		// not for 257
		"loader/extensions/acme.raw":         []byte("a system extension for every image"),
		"loader/extensions/acme.confext.raw": []byte("and a configuration"),
	}
	for name, cmdline := range oddCmdlines {
		var err error
		files["EFI/Linux/acme_1.efi.extra.d/"+name], err = s.Addon(uki.Addon{Stub: addonStub(t, r), Sections: []uki.Section{{Name: ".cmdline", Content: strings.NewReader(cmdline)}}})
		require.NoError(t, err)
	}
	maps.Copy(files, image)
	return files
}

// oddCmdlines are add-ons by name whose command lines are not all text that the stub takes, and
// oddText what it makes of them.
var oddCmdlines = map[string]string{
	"odd-1.addon.efi": "a\x00b", "odd-2.addon.efi": "name=\U0001f600", "odd-3.addon.efi": "caf\xe9", "odd-4.addon.efi": "z\xe9abc",
}

const oddText = " a name= caf zc"

// judgedAddons adds three add-ons that the stub treats in three ways: one for the kernel of the
// image, one for another kernel, and one without a signature.
func (s *System) judgedAddons(t *testing.T, r testtools.Root, files espFiles, uname string) {
	t.Helper()
	const extra = firstPath + ".extra.d/"
	var err error
	files[extra+"p-other-kernel.addon.efi"], err = s.Addon(uki.Addon{Stub: addonStub(t, r), Cmdline: "acme.addon=other-kernel", Uname: uname + "-other"})
	require.NoError(t, err)
	files[extra+"r-this-kernel.addon.efi"], err = s.Addon(uki.Addon{Stub: addonStub(t, r), Cmdline: "acme.addon=this-kernel", Uname: uname})
	require.NoError(t, err)
	unsigned, err := (&uki.Addon{Stub: addonStub(t, r), Cmdline: "acme.addon=unsigned", Uname: uname}).Assemble()
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = unsigned.WriteTo(&b)
	require.NoError(t, err)
	files[extra+"q-unsigned.addon.efi"] = b.Bytes()
}

// requireListed asks uki addon list about the files of an ESP: it says of each add-on what the stub
// has done, and of the command line what the kernel got.
func (s *System) requireListed(t *testing.T, files espFiles, cmdline string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, content, 0o600))
	}
	cert := filepath.Join(t.TempDir(), "db.crt")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Builder.Keys.SecureBoot.DB.Cert.Raw}), 0o600))
	list := exec.CommandContext(t.Context(), "go", "run", "./examples/uki", "addon", "list", "-json", "-esp", dir, "-cert", cert, path.Base(firstPath))
	list.Dir = ".."
	list.Stderr = os.Stderr
	out, err := list.Output()
	require.NoError(t, err)
	var said struct {
		Images []struct {
			KernelCmdline string
			Addons        []struct{ Path, Verdict, Reason string }
		}
	}
	require.NoError(t, json.Unmarshal(out, &said))
	require.Len(t, said.Images, 1)
	require.Equal(t, cmdline, said.Images[0].KernelCmdline)
	skipped := map[string]string{}
	for _, a := range said.Images[0].Addons {
		if a.Verdict != "accepted" {
			require.Equal(t, "skipped", a.Verdict, a.Reason)
			skipped[path.Base(a.Path)] = a.Reason
		}
	}
	require.Len(t, skipped, 2)
	require.Contains(t, skipped["p-other-kernel.addon.efi"], "-other")
	require.Contains(t, skipped["q-unsigned.addon.efi"], "firmware refuses it")
}

// revoke makes dbx as it will be, and the update that makes it so.
func (s *System) revoke(t *testing.T, image []byte) (dbx, auth []byte) {
	t.Helper()
	_, digests, err := s.Evaluate(bytes.NewReader(image))
	require.NoError(t, err)
	keys := s.Builder.Keys.SecureBoot
	dbx, err = secureboot.AppendSignatureLists(nil, secureboot.SHA256List(keys.Owner, [32]byte(digests[crypto.SHA256])))
	require.NoError(t, err)
	auth, err = secureboot.Update{Variable: "dbx", Payload: dbx, Time: s.Builder.Time, Append: true}.Sign(keys.KEK.Key, keys.KEK.Cert)
	require.NoError(t, err)
	return dbx, auth
}

func open(t *testing.T, image []byte) *uki.File {
	t.Helper()
	f, err := uki.Open(bytes.NewReader(image))
	require.NoError(t, err)
	return f
}
