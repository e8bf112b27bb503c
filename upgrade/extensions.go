package upgrade

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// ExtensionError is a reason of the boots verdict: systemd would refuse an extension of the
// release, or the extension differs from what is signed.
type ExtensionError struct {
	Name string // name of the file
	Err  error  // such as extension.ErrUnsigned or a *extension.MismatchError
}

func (e *ExtensionError) Error() string { return fmt.Sprintf("extension %s: %v", e.Name, e.Err) }

// Unwrap returns the reason.
func (e *ExtensionError) Unwrap() error { return e.Err }

// UntrustedExtensionError is the reason of an [ExtensionError]: no keyring that the kernel asks has
// the certificate of the extension's signature. Certificates in verity.d of the initrd, with which
// systemd checks a signature in user space if the kernel does not accept it, are not considered.
type UntrustedExtensionError struct {
	Signer string // subject of the certificate, or that the signature does not carry it
	Asked  []KeyringName
}

func (e *UntrustedExtensionError) Error() string {
	return fmt.Sprintf("the kernel will not accept its signature by %s: none of the keyrings %v has the certificate (whether verity.d in the initrd has it is unknown)", e.Signer, e.Asked)
}

// errConfextStub is why a configuration extension is not taken for one.
var errConfextStub = errors.New("the stub takes it for a system extension: those before systemd 256 know no configuration extensions")

// addonFiles are the files of the release that lie beside the new UKI, with the steps that write
// them.
func (p *Plan) addonFiles() (files []addonFile, err error) {
	add := func(name string, f addonFile) {
		f.path, f.want = path.Join(extraDir(p.Entry), name), p.digests.addons[name]
		if slices.ContainsFunc(files, func(other addonFile) bool { return fat.SameName(other.path, f.path) }) {
			err = fmt.Errorf("the release has two files with the same name on an ESP: %s", name)
		}
		files = append(files, f)
	}
	for _, a := range p.release.Addons {
		add(a.Name, addonFile{src: a.Content, step: StepAddAddon})
	}
	for _, x := range p.release.Extensions {
		add(x.Name, addonFile{src: x.Content, step: StepAddExtension})
	}
	return files, err
}

// isExtensionOf reports whether a file beside the new UKI has the name of an extension of the
// release, which is going to be written there.
func (p *Plan) isExtensionOf(file string) bool {
	return slices.ContainsFunc(p.addons, func(a addonFile) bool { return a.step == StepAddExtension && fat.SameName(a.path, file) })
}

// digestExtensions adds the digests of extensions to those of add-ons.
func digestExtensions(r *release.Release, addons map[string][sha256.Size]byte) (err error) {
	for _, x := range r.Extensions {
		if _, _, err := extension.ParseName(x.Name); err != nil {
			return prefix.Bare(err)
		}
		if x.Content == nil {
			return fmt.Errorf("extension %s: no content", x.Name)
		}
		if addons[x.Name], err = digest(x.Content); err != nil {
			return err
		}
	}
	return nil
}

// hasExtensions reports whether the extensions of the release lie beside an entry, as they are.
// Others there are the machine's.
func (p *Plan) hasExtensions(e *Entry) (bool, error) {
	for _, x := range p.release.Extensions {
		file := path.Join(extraDir(e.Path), x.Name)
		if same, err := p.state.sameDigest(file, p.digests.addons[x.Name]); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// judgeExtensions asks of each extension of the release whether systemd takes it: it is signed,
// whole, and goes with the release, and whether the kernel accepts who signed it.
func (p *Plan) judgeExtensions(ctx context.Context, j *Verdict, cmdline string) {
	if len(p.release.Extensions) == 0 {
		return
	}
	os, err := extension.OSOf(p.identity.file)
	if err != nil {
		j.fail(err)
		return
	}
	stub, stubErr := p.unified.stub.Release()
	for i := range p.release.Extensions {
		x := &p.release.Extensions[i]
		fail := func(err error) { j.fail(&ExtensionError{x.Name, prefix.Bare(err)}) }
		what, err := x.Judge(ctx, os, extension.JudgeOptions{FileSystem: p.extensionFS})
		if err != nil {
			fail(err)
			continue
		}
		if what.Kind == extension.KindConfext && (stubErr != nil || stub < 256) {
			fail(errConfextStub)
		}
		switch r := what.Release; {
		case r == nil:
			j.warn("extension %s: the OS it is for is unknown: the release does not state its extension-release, and the file was not read: set PlanOptions.ExtensionFileSystem", x.Name)
		case !what.Compared:
			j.warn("extension %s: it is for this OS according to the release; its extension-release was not read: set PlanOptions.ExtensionFileSystem", x.Name)
		}
		if r := what.Release; r != nil && r.VersionID != "" && os.Release["VERSION_ID"] == "" && r.ID != "_any" {
			j.warn("extension %s: it is for version %s, and systemd does not compare it, as the UKI's os-release has no VERSION_ID", x.Name, r.VersionID)
		}
		if r := what.Release; r != nil && !r.For("initrd") {
			j.warn("extension %s: systemd-%s in the initrd ignores it, because its scope is not initrd: it is used only if something passes it to the system", x.Name, what.Kind)
		}
		p.judgeSigner(j, cmdline, x.Name, what.Image, fail)
	}
}

// judgeSigner asks which keyring has the certificate of an extension's signature.
func (p *Plan) judgeSigner(j *Verdict, cmdline, name string, im *extension.Image, fail func(error)) {
	signer := "a certificate that it does not carry"
	if im.Signer != nil {
		signer = im.Signer.Subject.String()
	}
	if p.machine.VerityKeyrings == nil {
		j.warn("extension %s: whether the kernel accepts its signature by %s is unknown: set Machine.VerityKeyrings", name, signer)
		return
	}
	untrusted := &UntrustedExtensionError{Signer: signer, Asked: []KeyringName{}}
	for _, k := range p.machine.VerityKeyrings {
		if k.unasked(cmdline) != "" {
			continue
		}
		untrusted.Asked = append(untrusted.Asked, k.Name)
		if by, err := im.Trusted(k.Certificates); err == nil {
			j.pass("extension %s: signed, whole, and the kernel accepts its signature by %s: its keyring %s has the certificate", name, by.Subject, k.Name)
			return
		}
	}
	fail(untrusted)
}
