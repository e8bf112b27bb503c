//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// TestUKI is one machine, with firmware that protects memory strictly (no page is writable and executable, which misaligned
// sections would be): keys from our .auth files, an image in both of its profiles, with add-ons, and revoked by our dbx.
func TestUKI(t *testing.T) {
	requireVM(t)
	t.Parallel()
	r := testtools.Forky(t)
	s := newSystem(t, r)
	s.Machine.Code = r.Path("usr/share/OVMF/OVMF_CODE_4M.secboot.strictnx.fd")
	s.Machine.Vars = r.Part(t, "ovmf-vars")

	image, err := s.UKI("1", uki.Profile{Profile: []byte("ID=other\nTITLE=Another way\n"), Cmdline: kernelArguments + " osmith.report=initrd osmith.version=other"})
	require.NoError(t, err)
	next, err := s.UKI("2")
	require.NoError(t, err)
	first := fat.File{Path: "EFI/Linux/acme_1.efi", Content: bytes.NewReader(image)}
	write := func(choice string, files ...fat.File) {
		require.NoError(t, s.WriteESP(bootloader.Config{Default: choice}, append(files, first)...))
	}

	write("acme_1.efi")
	b := boot(t, s.Machine, "0-enrol", Reset)
	require.Contains(t, b.Serial, "Custom Secure Boot keys successfully enrolled", "setup mode ends by our files")
	rep := bootUKI(t, s, "1-profile-0", UKIBoot{Image: image})
	require.Equal(t, "1", rep.Version)
	want := s.Facts.Firmware
	require.False(t, rep.SetupMode())
	require.Equal(t, [][]byte{want.PK, want.KEK, want.DB, nil},
		[][]byte{rep.Variables["PK"], rep.Variables["KEK"], rep.Variables["db"], rep.Variables["dbx"]}, "what .auth files carry")

	write("acme_1.efi@other")
	rep = bootUKI(t, s, "2-profile-1", UKIBoot{Image: image, Profile: 1})
	require.Equal(t, "other", rep.Version)

	// Two add-ons; what they add to the command line makes the guest append our dbx. Other files that a stub passes on, too.
	stub := openSource(t, r.Part(t, "addon-stub"))
	global, err := s.Addon(stub, "acme.addon=global")
	require.NoError(t, err)
	local, err := s.Addon(stub, "osmith.append=keys/dbx.auth")
	require.NoError(t, err)
	dbx, auth := s.revoke(t, image)
	esp, files := fstest.MapFS{}, []fat.File{}
	for name, content := range map[string][]byte{
		"loader/addons/acme.addon.efi":                      global,
		"EFI/Linux/acme_1.efi.extra.d/append.addon.efi":     local,
		"EFI/Linux/acme_1.efi.extra.d/acme.cred":            []byte("a credential"),
		"EFI/Linux/acme_1.efi.extra.d/acme.sysext.raw":      []byte("a system extension"),
		"EFI/Linux/acme_1.efi.extra.d/acme.confext.raw":     []byte("a configuration extension"),
		"loader/credentials/b.cred":                         []byte("a credential for every image"),
		"loader/credentials/a.cred":                         {},
		"loader/extensions/acme.raw":                        []byte("a system extension for every image"),
		"loader/extensions/acme.confext.raw":                []byte("and a configuration"),
		"keys/dbx.auth":                                     auth,
		"EFI/Linux/acme_1.efi.extra.d/what nobody asks for": []byte("nothing"),
	} {
		esp[name] = &fstest.MapFile{Data: content}
		files = append(files, fat.File{Path: name, Content: bytes.NewReader(content)})
	}
	write("acme_1.efi", files...)
	companions, err := uki.ReadCompanions(esp, first.Path)
	require.NoError(t, err)
	rep = bootUKI(t, s, "3-companions", UKIBoot{Image: image, Companions: companions})
	cmdline, _ := open(t, image).Cmdline()
	require.Equal(t, cmdline+" acme.addon=global osmith.append=keys/dbx.auth", rep.Cmdline)
	require.Equal(t, dbx, rep.Variables["dbx"])

	s.Facts.Firmware.DBX = dbx
	verdict, _, err := s.Evaluate(bytes.NewReader(image))
	require.NoError(t, err)
	require.False(t, verdict.Allowed, verdict.Reason)
	write("acme_1.efi")
	// The loader comes back from an entry whose tries are counted; from this one the firmware asks a person.
	s.Machine.StopAt = []string{"No bootable option or device was found"}
	b = boot(t, s.Machine, "4-revoked", Stopped)
	require.Contains(t, b.Serial, `acme_1.efi: Access denied`, "the firmware's word for it")
	s.Machine.StopAt = nil

	write("acme_2.efi", fat.File{Path: "EFI/Linux/acme_2.efi", Content: bytes.NewReader(next)})
	rep = bootUKI(t, s, "5-next", UKIBoot{Image: next})
	require.Equal(t, "2", rep.Version)
}

// bootUKI boots, expects a report, holds it against the prediction, and finds a signed policy for what the TPM has.
func bootUKI(t *testing.T, s *System, name string, what UKIBoot) *report.Report {
	t.Helper()
	r := boot(t, s.Machine, name, Reported).Report
	require.True(t, r.SecureBoot())
	require.Len(t, r.BootSecret, 32)
	what.BootSecret = r.BootSecret // the one thing that only the machine knows
	for moment, got := range map[string]report.PCRs{"as the kernel started": r.InitrdPCRs, "after enter-initrd": r.PCRs} {
		if what.Phases = nil; moment != "as the kernel started" {
			what.Phases = []string{tpm.PhaseEnterInitrd}
		}
		want, err := s.Predict(what)
		require.NoError(t, err)
		for n, value := range want {
			require.Equal(t, hexOf(value), hexOf(got["sha256"][n]), "PCR %d %s", n, moment)
		}
	}
	require.NoError(t, replays(r))

	section, ok := open(t, what.Image).ProfileSection(what.Profile, ".pcrsig")
	require.True(t, ok)
	content := make([]byte, section.Size())
	_, err := section.ReadAt(content, 0)
	require.NoError(t, err)
	signatures, err := tpm.ParseSignatures(content)
	require.NoError(t, err)
	key := &s.Builder.Keys.PCR.PublicKey
	fingerprint, err := tpm.Fingerprint(key)
	require.NoError(t, err)
	for _, bank := range tpm.Banks() {
		policy, err := tpm.PolicyPCR(tpm.PolicyDigest{}, bank, map[int][]byte{11: r.PCRs[tpm.BankName(bank)][11]})
		require.NoError(t, err)
		signature, ok := signatures.Find(tpm.Policy{Bank: bank, PCRs: []int{11}, Fingerprint: fingerprint, Digest: policy})
		require.True(t, ok, "bank %s: no policy for what PCR 11 holds", tpm.BankName(bank))
		require.NoError(t, signature.Verify(key))
	}
	return r
}

// revoke makes dbx as it will be, and the update that makes it so.
func (s *System) revoke(t *testing.T, image []byte) (dbx, auth []byte) {
	t.Helper()
	_, digests, err := s.Evaluate(bytes.NewReader(image))
	require.NoError(t, err)
	keys := s.Builder.Keys.SecureBoot
	dbx, err = secureboot.AppendSignatureLists(nil, secureboot.HashList(keys.Owner, [32]byte(digests[crypto.SHA256])))
	require.NoError(t, err)
	auth, err = secureboot.Update{Name: "dbx", Payload: dbx, Time: s.Builder.Time, Append: true}.Sign(keys.KEK.Key, keys.KEK.Cert)
	require.NoError(t, err)
	return dbx, auth
}

func open(t *testing.T, image []byte) *uki.File {
	t.Helper()
	f, err := uki.Open(bytes.NewReader(image))
	require.NoError(t, err)
	return f
}

func openSource(t *testing.T, name string) *bytes.Reader {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return bytes.NewReader(b)
}
