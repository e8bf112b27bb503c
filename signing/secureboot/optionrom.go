package secureboot

import (
	"crypto/x509"
	"errors"
	"slices"

	"github.com/osmith-dev/osmith"
)

// ErrOptionROMs says that nothing was decided about option ROMs. It is what stands between a fleet and black screens.
var ErrOptionROMs = errors.New("secureboot: no decision on option ROMs: graphics, network and storage cards bring firmware that is signed by a certificate in db, " +
	"as a rule Microsoft Corporation UEFI CA 2011. A machine that needs such a card for a picture or for its disk, and whose db has lost that certificate, may not even " +
	"show its setup menu, and can then only be repaired by replacing its flash. Keep certificates (Keep, KeepDB), allow the digests of the option ROMs " +
	"that the event log of such a machine has in PCR 2 (AllowDigests), or set TrustNoOptionROMsAtTheRiskOfABlackScreen")

// OptionROMs is the decision on option ROMs that every enrolment and rotation needs: at least one of the first three, or the last.
type OptionROMs struct {
	// Keep are certificates that stay in db or are put there, Microsoft's for example: see [KnownCertificates] for what each
	// is for. Of the known ones at least one has to be good for option ROMs.
	Keep []*x509.Certificate

	// KeepDB is the content of the machine's own db: every entry of it stays, as far as any certificate or digest is in it.
	KeepDB []byte

	// AllowDigests are the SHA-256 Authenticode digests of the option ROMs of the machine, from the events of type
	// EV_EFI_BOOT_SERVICES_DRIVER and EV_EFI_RUNTIME_SERVICES_DRIVER in PCR 2 of its event log. A firmware update of a card changes them.
	AllowDigests [][32]byte

	// TrustNoOptionROMsAtTheRiskOfABlackScreen is for virtual machines and for hardware that is known to do without.
	TrustNoOptionROMsAtTheRiskOfABlackScreen bool
}

// lists are what the decision puts into db, after a check that it is one. Our own certificates do not make it one.
func (o OptionROMs) lists(owner osmith.GUID, own ...*x509.Certificate) ([]SignatureList, error) {
	kept, err := ParseSignatureLists(o.KeepDB)
	if err != nil {
		return nil, err
	}
	decided := o.TrustNoOptionROMsAtTheRiskOfABlackScreen || len(o.AllowDigests) > 0 || goodForOptionROMs(kept, own)
	for _, c := range o.Keep {
		known, ok := Identify(c)
		decided = decided || known.OptionROMs || (!ok && !slices.ContainsFunc(own, c.Equal))
		if ok && known.Variable != "db" {
			return nil, errors.New("secureboot: " + known.Name + " is a certificate for " + known.Variable + ", not for db")
		}
		if !containsCertificate(kept, c) {
			kept = append(kept, CertificateList(microsoftOwner(c, owner), c))
		}
	}
	if !decided {
		return nil, ErrOptionROMs
	}
	if len(o.AllowDigests) > 0 {
		kept = Merge(kept, HashList(owner, o.AllowDigests...))
	}
	return kept, nil
}

// goodForOptionROMs reports whether lists have anything that option ROMs may be verified by: digests, one of Microsoft's certificates for
// them, or one that is neither known nor our own, as the vendor of the machine would have it.
func goodForOptionROMs(lists []SignatureList, own []*x509.Certificate) bool {
	for _, l := range lists {
		for _, h := range imageHashes {
			if l.Type == h.typ {
				return true
			}
		}
		if l.Type != TypeX509 {
			continue
		}
		for _, s := range l.Signatures {
			c, err := x509.ParseCertificate(s.Data)
			if err != nil {
				continue
			}
			if known, ok := Identify(c); known.OptionROMs || (!ok && !slices.ContainsFunc(own, c.Equal)) {
				return true
			}
		}
	}
	return false
}

// microsoftOwner is the owner that Microsoft gives its certificates, or ours.
func microsoftOwner(c *x509.Certificate, ours osmith.GUID) osmith.GUID {
	if _, ok := Identify(c); ok {
		return MicrosoftOwner
	}
	return ours
}
