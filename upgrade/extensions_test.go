package upgrade_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/cmstest"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
	"github.com/osmith-dev/osmith/verity"
)

// extensionImage is an extension with a file system of that many bytes, signed by a key; nil:
// unsigned.
func extensionImage(t *testing.T, size int, by *secureboot.KeyPair, change func(*build.Extension)) []byte {
	t.Helper()
	content := make([]byte, size)
	_, err := rand.NewChaCha8([32]byte{byte(size)}).Read(content)
	require.NoError(t, err)
	x := build.Extension{FileSystem: bytes.NewReader(content), Architecture: "amd64", Seed: osmith.GUID{9}, UnsignedSoThatAnyoneCanReplaceIt: by == nil}
	if by != nil {
		x.Key, x.Certificate = by.Key, by.Cert
	}
	if change != nil {
		change(&x)
	}
	disk := faultio.NewDisk(4 << 20)
	im, err := build.WriteExtension(t.Context(), disk, x)
	require.NoError(t, err)
	b := make([]byte, im.Size)
	_, err = disk.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

// anonymous signs an extension with db's key, without the certificate in the signature, as openssl
// smime -nocerts does.
func (s *system) anonymous(x *build.Extension) {
	db := s.builder.Keys.SecureBoot.DB
	x.UnsignedSoThatAnyoneCanReplaceIt = false
	rootHash, err := build.ExtensionRootHash(s.t.Context(), *x)
	require.NoError(s.t, err)
	x.Signature, err = verity.SignRootHash(rootHash, db.Key, db.Cert)
	require.NoError(s.t, err)
	x.Signature.PKCS7 = cmstest.WithoutCertificates(s.t, x.Signature.PKCS7)
}

const extensionRelease = "ID=acmeos\nVERSION_ID=2\nSYSEXT_SCOPE=initrd\nCONFEXT_SCOPE=initrd\n"

// extended is a release of version 2, whose os-release has a VERSION_ID, with a system and a
// configuration extension.
func (s *system) extended(set *acmeos.Set, change func(im *uki.Image)) *release.Release {
	s.t.Helper()
	r := s.withUKI(set, func(im *uki.Image) {
		im.OSRelease = append(bytes.Clone(im.OSRelease), "VERSION_ID="+set.Version+"\n"...)
		if change != nil {
			change(im)
		}
	}, 0)
	by := &s.builder.Keys.SecureBoot.DB
	stated := []byte(strings.ReplaceAll(strings.ReplaceAll(extensionRelease, "acmeos", acmeos.ID), "=2", "="+set.Version))
	r.Extensions = []extension.File{
		{Name: "tools.sysext.raw", Content: source(extensionImage(s.t, 70_000, by, nil)), Release: stated},
		{Name: "site.confext.raw", Content: source(extensionImage(s.t, 8192, by, nil)), Release: stated},
	}
	return r
}

// trusting is the machine's kernel that accepts what db's key has signed.
func (s *system) trusting() {
	s.machine.VerityKeyrings = []upgrade.Keyring{{Name: upgrade.KeyringPlatform, Certificates: []*x509.Certificate{s.builder.Keys.SecureBoot.DB.Cert}}}
}

// reading says what the file systems of extensions have in them, which are noise here.
func reading(version string) upgrade.PlanOptions {
	text := []byte(strings.ReplaceAll(strings.ReplaceAll(extensionRelease, "acmeos", acmeos.ID), "=2", "="+version))
	return upgrade.PlanOptions{ExtensionFileSystem: func(osmith.Source) (fs.FS, error) {
		return fstest.MapFS{"usr/lib/extension-release.d/extension-release.tools": {Data: text}, "etc/extension-release.d/extension-release.site": {Data: text}}, nil
	}}
}

// extra is the directory beside the UKI of a version.
func extra(version string) string { return "EFI/Linux/" + acmeos.ID + "_" + version + ".efi.extra.d" }

// Extensions are a part of the set: whole on the ESP before its entry can boot, wherever the power
// is cut, measured as predicted, and gone with the entry.
func TestExtensionsAreStagedFirst(t *testing.T) {
	s := newSystem(t, "")
	s.trusting()
	s.bootAndRun()
	r := s.extended(s.build("2"), nil)
	file(s, s.esp(), extra("1")+"/own.sysext.raw", []byte("the machine's"))
	p := s.planOf(r, reading("2"))
	require.NoError(t, p.Refused())
	j := verdict(t, p, upgrade.ProofBoots)
	require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
	require.Contains(t, texts(j), "extension tools.sysext.raw: signed, whole, and the kernel accepts its signature by CN=")
	require.Contains(t, texts(j), "extension site.confext.raw: signed, whole")
	var kinds []upgrade.StepKind
	for _, step := range p.Steps {
		kinds = append(kinds, step.Kind)
		if step.Kind == upgrade.StepAddExtension {
			require.Contains(t, step.Cut, "no entry needs it")
		}
	}
	require.Equal(t, []upgrade.StepKind{upgrade.StepAddExtension, upgrade.StepAddExtension, upgrade.StepStageUKI, upgrade.StepAddEntry}, kinds[len(kinds)-4:])

	s.disk.Record()
	require.NoError(t, p.Apply(t.Context(), nil))
	// Whenever there is an entry, its extensions are there, whole.
	for k := 0; k < len(s.disk.Writes()); k++ {
		left := s.on(s.disk.Prefix(k))
		esp := left.esp()
		if !exists(esp, "EFI/Linux/"+acmeos.ID+"_2+3.efi") {
			continue
		}
		for _, x := range r.Extensions {
			require.Equal(t, contentOf(t, x.Content), read(t, esp, path.Join(extra("2"), x.Name)), "cut behind write %d", k)
		}
	}
	require.Equal(t, "the machine's", string(read(t, s.esp(), extra("1")+"/own.sysext.raw")))

	// What else lies there is the machine's, and one that is missing or another is not the release.
	others := s.on(s.disk.Clone())
	require.True(t, others.planOf(r, reading("2")).Installed)
	file(s, others.esp(), extra("2")+"/own.sysext.raw", []byte("the machine's"))
	require.True(t, others.planOf(r, reading("2")).Installed)
	for _, change := range []func(*fat.FS, string) error{(*fat.FS).Remove, func(esp *fat.FS, name string) error { return esp.ReplaceFile(name, source([]byte("another"))) }} {
		broken := s.on(s.disk.Clone())
		require.NoError(t, change(broken.esp(), extra("2")+"/tools.sysext.raw"))
		again := broken.planOf(r, reading("2"))
		require.False(t, again.Installed)
		require.NoError(t, again.Apply(t.Context(), nil))
		require.True(t, broken.planOf(r, reading("2")).Installed)
	}

	b := s.boot()
	require.Equal(t, "2", b.Version)
	requirePCRs(t, p, b, 4, 7, 11, 12, 13)
	require.NoError(t, s.commit(b))
	s.bootAndRun()
	require.True(t, s.planOf(r, reading("2")).Installed)

	// They go with their entry.
	require.NoError(t, s.planOf(s.extended(s.build("3"), nil), reading("3")).Apply(t.Context(), nil))
	three := s.boot()
	require.Equal(t, "3", three.Version)
	require.NoError(t, s.commit(three))
	s.bootAndRun()
	require.NoError(t, s.planOf(s.extended(s.build("4"), nil), reading("4")).Apply(t.Context(), nil))
	require.False(t, exists(s.esp(), extra("2")+"/tools.sysext.raw"))
	require.Equal(t, "4", s.boot().Version)
}

func exists(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return err == nil
}

// requirePCRs compares what was predicted with what a boot has measured.
func requirePCRs(t *testing.T, p *upgrade.Plan, b *upgradetest.Boot, pcrs ...int) {
	t.Helper()
	want, err := p.Predicted.Replay(crypto.SHA256)
	require.NoError(t, err)
	got, err := b.Log.Replay(crypto.SHA256)
	require.NoError(t, err)
	for _, pcr := range pcrs {
		require.NotEqual(t, make([]byte, 32), got[crypto.SHA256].PCR(pcr), "PCR %d", pcr)
		require.Equal(t, want[crypto.SHA256].PCR(pcr), got[crypto.SHA256].PCR(pcr), "PCR %d", pcr)
	}
}

// An extension that systemd would not take as it was meant refuses the upgrade, and so does one
// that nothing vouches for.
func TestExtensionsAreJudged(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	first := newSystem(t, "")
	set := first.build("2")
	good := first.extended(set, nil)
	for _, c := range []struct {
		name    string
		change  func(s *system, r *release.Release, o *upgrade.PlanOptions)
		outcome upgrade.Outcome
		want    string
		as      any
	}{
		{"unsigned", func(s *system, r *release.Release, _ *upgrade.PlanOptions) {
			r.Extensions[0].Content = source(extensionImage(s.t, 8192, nil, nil))
		}, upgrade.OutcomeFail, "extension tools.sysext.raw: its root hash has no signature", nil},
		{"signed by a stranger", func(s *system, r *release.Release, _ *upgrade.PlanOptions) {
			r.Extensions[0].Content = source(extensionImage(s.t, 8192, &other.SecureBoot.DB, nil))
		}, upgrade.OutcomeFail, "none of the keyrings [platform] has the certificate", new(*upgrade.UntrustedExtensionError)},
		{"no keyring", func(s *system, _ *release.Release, _ *upgrade.PlanOptions) {
			s.machine.VerityKeyrings = []upgrade.Keyring{}
		}, upgrade.OutcomeFail, "none of the keyrings []", nil},
		{"a keyring that is not asked", func(s *system, _ *release.Release, _ *upgrade.PlanOptions) {
			s.machine.VerityKeyrings[0].Name, s.machine.VerityKeyrings[0].Sealed = upgrade.KeyringVerity, true
		}, upgrade.OutcomeFail, "none of the keyrings []", nil},
		{"keyrings not known", func(s *system, _ *release.Release, _ *upgrade.PlanOptions) { s.machine.VerityKeyrings = nil }, upgrade.OutcomeWarn,
			"whether the kernel accepts its signature by CN=Acme OS Signature Database Key is unknown", nil},
		{"a signature without its certificate, keyrings not known", func(s *system, r *release.Release, _ *upgrade.PlanOptions) {
			s.machine.VerityKeyrings = nil
			r.Extensions[0].Content = source(extensionImage(s.t, 8192, nil, s.anonymous))
		}, upgrade.OutcomeWarn, "its signature by a certificate that it does not carry is unknown", nil},
		{"a signature without its certificate", func(s *system, r *release.Release, _ *upgrade.PlanOptions) {
			s.machine.VerityKeyrings = []upgrade.Keyring{}
			r.Extensions[0].Content = source(extensionImage(s.t, 8192, nil, s.anonymous))
		}, upgrade.OutcomeFail, "by a certificate that it does not carry: none of the keyrings", new(*upgrade.UntrustedExtensionError)},
		{"damaged", func(s *system, r *release.Release, _ *upgrade.PlanOptions) {
			b := extensionImage(s.t, 8192, &s.builder.Keys.SecureBoot.DB, nil)
			b[40*512+5000] ^= 1
			r.Extensions[0].Content = source(b)
		}, upgrade.OutcomeFail, "data is damaged", nil},
		{"another signature", func(s *system, r *release.Release, _ *upgrade.PlanOptions) {
			b := extensionImage(s.t, 8192, &s.builder.Keys.SecureBoot.DB, nil)
			at := bytes.Index(b, []byte(`{"rootHash":"`))
			b[at+14] ^= 1
			r.Extensions[0].Content = source(b)
		}, upgrade.OutcomeFail, "partition ID of the", new(*extension.RootHashError)},
		{"for another version", func(_ *system, r *release.Release, o *upgrade.PlanOptions) {
			r.Extensions[1].Release = bytes.ReplaceAll(r.Extensions[1].Release, []byte("=2"), []byte("=1"))
			o.ExtensionFileSystem = nil
		}, upgrade.OutcomeFail, `extension site.confext.raw: the extension is not for this OS: VERSION_ID: want "2", got "1"`, new(*extension.MismatchError)},
		{"for another version, by its file", func(_ *system, _ *release.Release, o *upgrade.PlanOptions) { *o = reading("1") }, upgrade.OutcomeFail, "not the one that is stated", nil},
		{"for another machine", func(s *system, r *release.Release, _ *upgrade.PlanOptions) {
			r.Extensions[0].Content = source(extensionImage(s.t, 8192, &s.builder.Keys.SecureBoot.DB, func(x *build.Extension) { x.Architecture = "arm64" }))
		}, upgrade.OutcomeFail, `want "amd64", got "arm64"`, nil},
		{"not read", func(_ *system, _ *release.Release, o *upgrade.PlanOptions) { o.ExtensionFileSystem = nil }, upgrade.OutcomeWarn, "it is for this OS according to the release; its extension-release was not read", nil},
		{"neither read nor stated", func(_ *system, r *release.Release, o *upgrade.PlanOptions) {
			o.ExtensionFileSystem, r.Extensions[0].Release = nil, nil
		}, upgrade.OutcomeWarn, "the OS it is for is unknown: the release does not state its extension-release, and the file was not read: set PlanOptions.ExtensionFileSystem", nil},
		{"not for the initrd", func(_ *system, r *release.Release, o *upgrade.PlanOptions) {
			o.ExtensionFileSystem, r.Extensions[0].Release = nil, []byte("ID=_any\n")
		}, upgrade.OutcomeWarn, "systemd-sysext in the initrd ignores it", nil},
		{"an unreadable file system", func(_ *system, _ *release.Release, o *upgrade.PlanOptions) {
			o.ExtensionFileSystem = func(osmith.Source) (fs.FS, error) { return nil, errors.New("no file system") }
		}, upgrade.OutcomeFail, "file system: no file system", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := first.on(first.disk.Clone())
			s.trusting()
			own, o := *good, reading("2")
			own.Extensions = slices.Clone(good.Extensions)
			r := &own
			c.change(s, r, &o)
			p := s.planOf(r, o)
			j := verdict(t, p, upgrade.ProofBoots)
			require.Equal(t, c.outcome, j.Outcome, texts(j))
			require.Contains(t, texts(j), c.want)
			if c.outcome != upgrade.OutcomeFail {
				require.NoError(t, p.Refused())
				return
			}
			require.ErrorAs(t, p.Refused(), new(*upgrade.ExtensionError))
			require.ErrorAs(t, p.Apply(t.Context(), nil), new(*upgrade.RefusedError))
			if c.as != nil {
				require.ErrorAs(t, p.Refused(), c.as)
			}
			o.Override = []upgrade.Proof{upgrade.ProofBoots}
			require.NoError(t, s.planOf(r, o).Apply(t.Context(), nil))
		})
	}
}

// An os-release without VERSION_ID binds no extension to a version, and a stub before systemd 256
// knows no configuration extensions.
func TestExtensionsOfOtherSystems(t *testing.T) {
	s := newSystem(t, "")
	s.trusting()
	r := s.extended(s.build("2"), func(im *uki.Image) { im.OSRelease = acmeos.OSRelease("2") })
	require.Contains(t, texts(verdict(t, s.planOf(r, reading("2")), upgrade.ProofBoots)), "systemd does not compare it, as the UKI's os-release has no VERSION_ID")
	s = newSystem(t, "")
	s.trusting()
	s.builder.Parts.Stub = source(bytes.ReplaceAll(contentOf(t, s.builder.Parts.Stub), []byte("systemd-stub 262"), []byte("systemd-stub 255")))
	require.Contains(t, texts(verdict(t, s.planOf(s.extended(s.build("2"), nil), reading("2")), upgrade.ProofBoots)), "site.confext.raw: the stub takes it for a system extension")
}

// What does not fit is a matter of the fits verdict; an extension under the name of the new one
// that is left from earlier is written anew; names that are one on an ESP are refused, and a source
// that becomes another is noticed.
func TestExtensionSpaceAndNames(t *testing.T) {
	s := newSystem(t, "")
	s.trusting()
	r := s.extended(s.build("2"), nil)
	large := *r
	large.Extensions = slices.Clone(r.Extensions)
	large.Extensions[0].Content = source(make([]byte, 70<<20))
	require.ErrorAs(t, s.planOf(&large, reading("2")).Refused(), new(*upgrade.ESPSpaceError))

	first := s.disk.Clone()
	file(s, s.esp(), extra("2")+"/tools.sysext.raw", []byte("left"))
	file(s, s.esp(), extra("2")+"/own.sysext.raw", []byte("the machine's"))
	p := s.planOf(r, reading("2"))
	require.Equal(t, "remove-addon "+extra("2")+"/tools.sysext.raw", p.Steps[0].String())
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, contentOf(t, r.Extensions[0].Content), read(t, s.esp(), extra("2")+"/tools.sysext.raw"))
	require.Equal(t, "the machine's", string(read(t, s.esp(), extra("2")+"/own.sysext.raw")))

	for name, want := range map[string]string{"TOOLS.sysext.raw": "the release has two files with the same name on an ESP", "tools.raw": `file name "tools.raw"`} {
		more := *r
		more.Extensions = append(r.Extensions[:2:2], extension.File{Name: name, Content: r.Extensions[0].Content})
		_, err := upgrade.NewPlan(t.Context(), first, &more, s.machine, upgrade.PlanOptions{})
		require.ErrorContains(t, err, want)
	}
	none := *r
	none.Extensions = []extension.File{{Name: "tools.sysext.raw"}}
	_, err := upgrade.NewPlan(t.Context(), first, &none, s.machine, upgrade.PlanOptions{})
	require.ErrorContains(t, err, "no content")

	s = s.on(first)
	b := contentOf(t, r.Extensions[0].Content)
	r.Extensions[0].Content = source(b)
	p = s.planOf(r, reading("2"))
	require.NoError(t, p.Refused())
	b[len(b)/2] ^= 1
	require.ErrorAs(t, p.Apply(t.Context(), nil), new(*upgrade.ChangedError))
	require.Equal(t, "1", s.boot().Version)
}

// A policy on the command line that seems to demand a signature, and does not, is said.
func TestImagePolicyIsJudged(t *testing.T) {
	first := newSystem(t, "")
	set := first.build("2")
	for _, c := range []struct {
		cmdline string
		outcome upgrade.Outcome
		want    string
	}{
		{"systemd.image_policy=root=verity+signed", upgrade.OutcomeWarn, "does not demand a signature for root: verity is accepted, too; root=signed demands one"},
		{"systemd.image-policy=*", upgrade.OutcomeWarn, "does not demand a signature for root"},
		{"systemd.image_policy=usr=signed:=open", upgrade.OutcomeWarn, "does not demand a signature for root"},
		{"systemd.image_policy=root=read-only-on", upgrade.OutcomeWarn, "does not demand a signature for root"},
		{"systemd.image_policy=root=sigend", upgrade.OutcomeWarn, "demands nothing: systemd cannot read it"},
		{"systemd.image_policy", upgrade.OutcomeWarn, "has no value"},
		{"systemd.image_policy=root=signed", upgrade.OutcomeWarn, "demands a signature for root, and the release has none"},
		{"systemd.image_policy=root=signed systemd.image_policy=*", upgrade.OutcomeWarn, "is on the command line 2 times"},
		{"systemd.image_policy=usr=signed", upgrade.OutcomePass, "uses no root partition"},
		{"rd.systemd.image_policy=*", upgrade.OutcomePass, ""},
		{"quiet", upgrade.OutcomePass, ""},
	} {
		t.Run(c.cmdline, func(t *testing.T) {
			s := first.on(first.disk.Clone())
			p := s.planOf(s.withUKI(set, func(im *uki.Image) { im.Cmdline += " " + c.cmdline }, 0), upgrade.PlanOptions{})
			j := verdict(t, p, upgrade.ProofBoots)
			require.Equal(t, c.outcome, j.Outcome, texts(j))
			require.Contains(t, texts(j), c.want)
			require.NoError(t, p.Refused(), "it is a restriction: the root hash protects the file system")
			if c.want == "" {
				require.NotContains(t, texts(j), "image_policy")
			}
		})
	}
	// A signed release, of /usr.
	s, k := signedDisk(t)
	k.set = func(s *system, version string) *release.Release {
		set := s.build(version)
		return s.withUKI(set, func(im *uki.Image) {
			im.Cmdline = fmt.Sprintf("usrhash=%x systemd.image_policy=usr=signed", set.RootHash)
		}, 0)
	}
	j := verdict(t, s.planOf(k.release(s, "2"), upgrade.PlanOptions{}), upgrade.ProofBoots)
	require.Contains(t, texts(j), "systemd.image_policy=usr=signed demands a signature for usr")
}

// An installation has the extensions of its release beside the first UKI, judged as those of an
// upgrade.
func TestExtensionsAreInstalled(t *testing.T) {
	i := newInstallation(t, 24*mib)
	i.trusting()
	r := i.extended(i.build("1"), nil)
	i.options.ExtensionFileSystem = reading("1").ExtensionFileSystem
	p, err := upgrade.PlanInstall(t.Context(), i.disk, r, i.machine, i.options)
	require.NoError(t, err)
	require.NoError(t, p.Refused(), "%s", p)
	_, err = p.Apply(t.Context(), nil)
	require.NoError(t, err)
	for _, x := range r.Extensions {
		got, err := i.esp().ReadFile(extra("1") + "/" + x.Name)
		require.NoError(t, err)
		require.Equal(t, contentOf(t, x.Content), got)
	}
	require.Equal(t, "1", i.boot().Version)

	i.disk = faultio.NewDisk(24 * mib)
	r.Extensions[0].Content = source(extensionImage(t, 70_000, nil, nil))
	p, err = upgrade.PlanInstall(t.Context(), i.disk, r, i.machine, i.options)
	require.NoError(t, err)
	require.ErrorAs(t, p.Refused(), new(*upgrade.ExtensionError))
}

// twoFaced is one content until it was read to its end for the first time, and then another of the
// same size.
type twoFaced struct {
	first, then []byte
	read        bool
}

func (f *twoFaced) Size() int64 { return int64(len(f.first)) }

func (f *twoFaced) ReadAt(b []byte, off int64) (int, error) {
	content := f.first
	if f.read {
		content = f.then
	}
	f.read = f.read || off+int64(len(b)) >= f.Size()
	return bytes.NewReader(content).ReadAt(b, off)
}

// What is judged is what has the digest by which it is written: a source that shows the judge
// another content is noticed.
func TestExtensionThatShowsTheJudgeAnother(t *testing.T) {
	s := newSystem(t, "")
	s.trusting()
	r := s.extended(s.build("2"), nil)
	good := contentOf(t, r.Extensions[0].Content)
	damaged := bytes.Clone(good)
	damaged[40*512+5000] ^= 1
	source := &twoFaced{first: damaged, then: good}
	r.Extensions[0].Content = source
	p := s.planOf(r, reading("2"))
	require.True(t, source.read)
	require.ErrorAs(t, p.Refused(), new(*upgrade.ExtensionError), "of the second reading nothing is believed")
}
