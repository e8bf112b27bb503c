package upgrade

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// KeyringName names a keyring with whose certificates Linux checks signatures of root hashes
// (drivers/md/dm-verity-verify-sig.c).
type KeyringName string

// The keyrings, in the order in which the kernel searches them.
const (
	KeyringBuiltin KeyringName = "builtin" // .builtin_trusted_keys: compiled in
	// .secondary_trusted_keys, of a kernel with
	// CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_SECONDARY_KEYRING
	KeyringSecondary KeyringName = "secondary"
	// .platform: db and MOK, of a kernel with CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING
	KeyringPlatform KeyringName = "platform"
	// Linux 7.0 and later: userspace fills it, if dm_verity.keyring_unsealed=1 is on the command
	// line
	KeyringVerity KeyringName = ".dm-verity"
)

// Keyring holds the certificates of a keyring of the release's kernel when file systems are
// mounted.
type Keyring struct {
	Name         KeyringName
	Certificates []*x509.Certificate

	// Sealed says for [KeyringVerity] that userspace closes it to further keys
	// (keyctl_restrict_keyring(3)) before it mounts its file systems. Until then the kernel ignores
	// this keyring.
	Sealed bool
}

// Parameters of the kernel.
const (
	// without it nothing can be put into the keyring of dm-verity
	unsealed          = "dm_verity.keyring_unsealed"
	requireSignatures = "dm_verity.require_signatures" // no device without a signature
)

// NoSignatureError is a reason of the boots verdict: the slot has a partition for a signature of
// the root hash, but the release has no signature.
type NoSignatureError struct {
	Slot string
}

func (e *NoSignatureError) Error() string {
	return fmt.Sprintf("slot %s has a partition for the signature of the root hash, and the release has no signature", e.Slot)
}

// UnsignedError is a reason of the boots verdict: the kernel will receive no signature of the root
// hash, and a parameter on the command line makes the kernel or systemd refuse the file system
// without a signature.
type UnsignedError struct {
	Parameter string
	Missing   string // why there is no signature
}

func (e *UnsignedError) Error() string {
	return fmt.Sprintf("%s on the command line demands a signature of the root hash, and the kernel gets none: %s", e.Parameter, e.Missing)
}

// UntrustedSignatureError is a reason of the boots verdict: no keyring that the kernel searches has
// the certificate of the signature, and the command line requires a signature. Whether the file
// system is then set up without the signature depends on the systemd in the initrd (262 does so,
// 257 does not), unless dm_verity.require_signatures=1 forbids it.
type UntrustedSignatureError struct {
	Signer string // subject of the certificate
	Asked  []KeyringName
}

func (e *UntrustedSignatureError) Error() string {
	return fmt.Sprintf("the kernel will not accept the signature of the root hash by %s: none of the keyrings %v has the certificate, and the command line asks for a signature", e.Signer, e.Asked)
}

// judgeSignature asks whether the kernel accepts the signature of the release's root hash, by the
// keyrings that it asks.
func (p *Plan) judgeSignature(j *Verdict, cmdline string) {
	if p.Target == nil {
		return
	}
	has := p.Target.Signature >= 0
	asks := signatureOption(cmdline, p.release.RootHash)
	required := isSet(cmdline, requireSignatures)
	if p.signature == nil && has {
		j.fail(&NoSignatureError{p.Target.Name()})
		return
	}
	if p.signature != nil && !has {
		j.warn("the release has a signature of its root hash, but slot %s has no partition for the signature: it is not installed", p.Target.Name())
	}
	switch {
	case asks == "auto" && !has:
		j.fail(&UnsignedError{"root-hash-signature=auto", fmt.Sprintf("slot %s has no partition for it", p.Target.Name())})
		return
	case asks == "" && required:
		j.fail(&UnsignedError{requireSignatures, "root-hash-signature=auto in systemd.verity_root_options or systemd.verity_usr_options would make systemd pass it to the kernel"})
		return
	case asks != "" && asks != "auto":
		j.warn("the command line has its own signature of the root hash (root-hash-signature=), which is not judged")
	}
	if p.signature != nil {
		p.judgeKeyrings(j, cmdline, asks != "")
	}
}

// judgeKeyrings asks which keyring has the certificate of the signature. A command line that does
// not ask for the signature needs none.
func (p *Plan) judgeKeyrings(j *Verdict, cmdline string, asked bool) {
	if !asked {
		j.warn("the command line does not ask for the signature of the root hash, so systemd ignores it: root-hash-signature=auto in systemd.verity_root_options or systemd.verity_usr_options does")
	}
	if p.machine.VerityKeyrings == nil {
		hint := ""
		if p.machine.Firmware != nil && p.dbHas(p.signature) {
			hint = "; db has its certificate, which a kernel with CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING takes"
		}
		j.warn("whether the kernel accepts the signature of the root hash by %s is unknown: set Machine.VerityKeyrings%s", p.signer.Subject, hint)
		return
	}
	untrusted := &UntrustedSignatureError{Signer: p.signer.Subject.String(), Asked: []KeyringName{}}
	for _, k := range p.machine.VerityKeyrings {
		if why := k.unasked(cmdline); why != "" {
			j.warn("%s", why)
			continue
		}
		untrusted.Asked = append(untrusted.Asked, k.Name)
		if _, err := verity.VerifySignature(p.signature.PKCS7, p.signature.RootHash, k.Certificates); err == nil {
			j.pass("the kernel accepts the signature of the root hash by %s: its keyring %s has the certificate", p.signer.Subject, k.Name)
			return
		}
	}
	if asked {
		j.fail(untrusted)
	} else {
		j.warn("no keyring of %v has the certificate of the signature of the root hash, %s; nothing asks for it", untrusted.Asked, untrusted.Signer)
	}
}

// unasked says why the kernel does not ask a keyring; "" if it does.
func (k *Keyring) unasked(cmdline string) string {
	switch {
	case k.Name == KeyringVerity && !isSet(cmdline, unsealed):
		return fmt.Sprintf("nothing can be put into the keyring %s: %s=1 is not on the command line", k.Name, unsealed)
	case k.Name == KeyringVerity && !k.Sealed:
		return fmt.Sprintf("the kernel does not ask the keyring %s until userspace has sealed it (Keyring.Sealed)", k.Name)
	}
	return ""
}

// dbHas reports whether a certificate of db has made a signature, or issued the one that has.
func (p *Plan) dbHas(s *verity.Signature) bool {
	lists, err := secureboot.ParseSignatureLists(p.machine.Firmware.DB)
	if err != nil {
		return false
	}
	var certs []*x509.Certificate
	for _, l := range lists {
		for _, entry := range l.Signatures {
			if c, err := x509.ParseCertificate(entry.Data); l.Type == secureboot.TypeX509 && err == nil {
				certs = append(certs, c)
			}
		}
	}
	_, err = verity.VerifySignature(s.PKCS7, s.RootHash, certs)
	return err == nil
}

// signatureOption is root-hash-signature= of the volume with a root hash; "" if the command line
// does not say it.
func signatureOption(cmdline string, rootHash []byte) string {
	c, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return ""
	}
	for _, v := range []dm.Volume{c.Usr, c.Root} {
		if bytes.Equal(v.RootHash, rootHash) {
			return v.Options.RootHashSignature
		}
	}
	return ""
}

// isSet reports whether a parameter that is yes or no is yes, by the kernel's rules: without a
// value it is, else the first letters tell, dashes in its name are underscores, and the last one
// counts.
func isSet(cmdline, name string) (yes bool) {
	for _, f := range strings.Fields(cmdline) {
		parameter, value, has := strings.Cut(strings.Trim(f, `"`), "=")
		if strings.ReplaceAll(parameter, "-", "_") == name {
			value = strings.ToLower(strings.Trim(value, `"`))
			yes = !has || strings.HasPrefix(value, "on") || value != "" && strings.Contains("1yt", value[:1])
		}
	}
	return yes
}

// signatureContent is what the slot's partition for the signature gets: the text, and zeros for
// what an earlier one may have left; zeros alone where an override lets a release without a
// signature in.
func (p *Plan) signatureContent() ([]byte, error) {
	_, size := p.state.table.Extent(p.Target.Signature)
	size = min(size, verity.MaxSignaturePartition)
	if p.signature == nil {
		return make([]byte, size), nil
	}
	return p.signature.Partition(size)
}

// ownSignatureID gives the slot's partition for the signature another ID where a second one has the
// same: a fixed seed of systemd-repart does that.
func (p *Plan) ownSignatureID() {
	t := p.state.table
	own := &t.Partitions[p.Target.Signature]
	for i := range t.Partitions {
		if i == p.Target.Signature || t.Partitions[i].ID != own.ID {
			continue
		}
		h := sha256.New()
		fmt.Fprintf(h, "osmith verity-sig %x", p.release.RootHash)
		sum := h.Sum(nil)
		copy(own.ID[:], sum)
		own.ID[6], own.ID[8] = own.ID[6]&0x0f|0x40, own.ID[8]&0x3f|0x80
		return
	}
}

func (p *Plan) signaturePartition() *partition.Window {
	return p.state.table.Window(p.disk, p.Target.Signature)
}
