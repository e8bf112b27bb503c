package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/efi"
)

// Variables are the contents of the Secure Boot variables, without the four bytes of attributes that efivarfs puts in
// front. A variable that does not exist is nil.
type Variables struct {
	SecureBoot []byte // one byte, 0 or 1; always exists
	PK, KEK    []byte
	DB, DBX    []byte // EFI signature lists
	DBT        []byte // rare; measured only if it exists
}

// Application is an EFI program that the firmware starts: a boot loader or a UKI.
type Application struct {
	Path    string                 // on the ESP, for the reader of the log; not measured
	Size    int64                  // of the file, likewise
	Digests map[crypto.Hash][]byte // Authenticode digests of the PE
}

// Boot describes, by values, a boot of UEFI firmware into a UKI with systemd's stub. What it has no field for is taken
// to be absent: add-ons, credentials, system extensions, a command line from elsewhere, strings in SMBIOS, shim.
type Boot struct {
	// Banks to predict; nil is every bank that all the digests below are given in.
	Banks []crypto.Hash

	SecureBoot Variables

	// Authorities are the entries of db (EFI_SIGNATURE_DATA: owner GUID, then certificate or hash) that let the loader
	// and the UKI start, in that order. One that comes twice is measured once. With Secure Boot off they are ignored,
	// since the firmware verifies nothing.
	Authorities [][]byte

	Loader   *Application // systemd-boot; nil when the firmware starts the UKI itself
	UKI      Application
	Sections []Measurement // of the UKI and the profile that is booted, in the order in which the stub measures
	Profile  int           // that is booted; 0 is the default

	// Phases are what userspace extends PCR 11 with up to the moment of interest; none is the moment when the kernel
	// starts. The other PCRs are always predicted for that moment.
	Phases []string

	// Stub is the version of systemd that stub and loader are of. One that is newer than all of [StubVersions] is a
	// [*StubVersionError], unless StubAs names the known version to treat it as.
	Stub, StubAs int
}

// Predict writes the event log that a boot will leave in PCRs 4, 7, 11 and 12, and says in its Coverage which PCRs its
// replay therefore gives. PCR 4 holds the boot attempt, a separator, the loader and the UKI (the kernel inside is
// started by the stub's own loader, which measures nothing there); PCR 7 the Secure Boot variables, a separator and the
// authorities; PCR 11 the sections of the UKI, then the phases; PCR 12 the profile unless it is the default.
func Predict(b Boot) (*Log, error) {
	row, err := stubRow(b.Stub, b.StubAs)
	if err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	banks, err := b.banks()
	if err != nil {
		return nil, err
	}
	p := predictor{banks: banks, log: &Log{Events: []Event{newSpecID(banks)}}}
	p.variables(b)
	p.data(4, EventEFIAction, []byte(actionCalling))
	p.data(4, EventSeparator, separator)
	p.authorities(b)
	if b.Loader != nil {
		p.add(4, EventEFIBootServicesApplication, b.Loader.Digests, imageLoadEvent(*b.Loader))
	}
	p.add(4, EventEFIBootServicesApplication, b.UKI.Digests, imageLoadEvent(b.UKI))
	p.profile(b)
	if err := p.sections(b.Sections); err != nil {
		return nil, err
	}
	for _, phase := range b.Phases {
		p.data(PCRKernel, EventIPL, []byte(phase))
	}
	p.log.Coverage = coverage(b, row)
	return p.log, nil
}

const actionCalling = "Calling EFI Application from Boot Option"

var separator = []byte{0, 0, 0, 0}

// The vendors of the Secure Boot variables (UEFI 2.10, sections 3.3 and 32.4.1).
var (
	globalVariable        = efi.MustParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	imageSecurityDatabase = efi.MustParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
)

func (b *Boot) check() error {
	sb := b.SecureBoot.SecureBoot
	if len(sb) != 1 || sb[0] > 1 {
		return fmt.Errorf("tpm: predict: variable SecureBoot is %x: want one byte, 0 or 1", sb)
	}
	if b.enforcing() {
		if len(b.Authorities) == 0 {
			return errors.New("tpm: predict: Secure Boot is on and no authority is given: the firmware would start nothing")
		}
		for i, a := range b.Authorities {
			if len(a) <= len(efi.GUID{}) || !bytes.Contains(b.SecureBoot.DB, a) {
				return fmt.Errorf("tpm: predict: authority %d of %d bytes is no entry of db", i, len(a))
			}
		}
	}
	if b.Profile < 0 || b.Profile > 255 {
		return fmt.Errorf("tpm: predict: profile %d: want 0 to 255", b.Profile)
	}
	if !hasSection(b.Sections, ".linux") {
		return errors.New("tpm: predict: the UKI's measurements hold no .linux section")
	}
	if b.Stub < 258 && hasSection(b.Sections, ".efifw") {
		return fmt.Errorf("tpm: predict: stub %d does not measure .efifw: 258 was the first that does", b.Stub)
	}
	if b.Profile > 0 && !hasSection(b.Sections, ".profile") {
		return fmt.Errorf("tpm: predict: profile %d is booted, but its measurements hold no .profile section", b.Profile)
	}
	for _, p := range b.Phases {
		if err := checkPhase(p); err != nil {
			return err
		}
	}
	return nil
}

// enforcing reports whether the firmware verifies what it starts.
func (b *Boot) enforcing() bool { return b.SecureBoot.SecureBoot[0] == 1 }

// rarePCR7 reports whether PCR 7 rests on what was read in edk2's source and not seen: keys with Secure Boot off, a dbt,
// or more than one authority.
func (b *Boot) rarePCR7() bool {
	if !b.enforcing() {
		return len(b.SecureBoot.PK) > 0 || b.SecureBoot.DBT != nil
	}
	several := slices.ContainsFunc(b.Authorities, func(a []byte) bool { return !bytes.Equal(a, b.Authorities[0]) })
	return several || b.SecureBoot.DBT != nil
}

func hasSection(ms []Measurement, name string) bool {
	return slices.ContainsFunc(ms, func(m Measurement) bool { return m.Section == name && m.Size > 0 })
}

// banks are the ones to predict. All applications have digests of the right length in each of them.
func (b *Boot) banks() ([]crypto.Hash, error) {
	apps := []Application{b.UKI}
	if b.Loader != nil {
		apps = append(apps, *b.Loader)
	}
	want := b.Banks
	if want == nil {
		for _, h := range Banks() {
			missing := slices.ContainsFunc(apps, func(a Application) bool { return a.Digests[h] == nil }) ||
				slices.ContainsFunc(b.Sections, func(m Measurement) bool { return m.Section != ".pcrsig" && m.Size > 0 && m.Digests[h] == nil })
			if !missing {
				want = append(want, h)
			}
		}
	}
	if len(want) == 0 {
		return nil, fmt.Errorf("tpm: predict: no bank that loader, UKI and all sections have digests for: %w", ErrBank)
	}
	if err := checkBanks(want); err != nil {
		return nil, err
	}
	for _, h := range want {
		for _, a := range apps {
			if len(a.Digests[h]) != h.Size() {
				return nil, fmt.Errorf("tpm: predict: %s: an Authenticode digest of %d bytes, want %d for %s: %w", a.name(), len(a.Digests[h]), h.Size(), BankName(h), ErrBank)
			}
		}
	}
	return want, nil
}

func (a *Application) name() string {
	if a.Path == "" {
		return "EFI application"
	}
	return a.Path
}

// predictor appends events to a log.
type predictor struct {
	banks []crypto.Hash
	log   *Log
}

// add appends an event with given digests, of which it keeps those of the banks.
func (p *predictor) add(pcr int, t EventType, digests map[crypto.Hash][]byte, data []byte) {
	e := Event{PCR: pcr, Type: t, Data: bytes.Clone(data), Digests: make(map[crypto.Hash][]byte, len(p.banks))}
	for _, h := range p.banks {
		e.Digests[h] = bytes.Clone(digests[h])
	}
	p.log.Events = append(p.log.Events, e)
}

// hash appends an event whose digest is that of measured.
func (p *predictor) hash(pcr int, t EventType, measured, data []byte) {
	digests := make(map[crypto.Hash][]byte, len(p.banks))
	for _, h := range p.banks {
		digests[h] = sum(h, measured)
	}
	p.add(pcr, t, digests, data)
}

// data appends an event whose digest is that of its own data.
func (p *predictor) data(pcr int, t EventType, data []byte) { p.hash(pcr, t, data, data) }

// variables measures the Secure Boot configuration as edk2 does (MeasureAllSecureVariables): a variable that does not
// exist counts as empty, except dbt.
func (p *predictor) variables(b Boot) {
	v := b.SecureBoot
	for _, x := range []struct {
		vendor efi.GUID
		name   string
		data   []byte
	}{
		{globalVariable, "SecureBoot", v.SecureBoot},
		{globalVariable, "PK", v.PK},
		{globalVariable, "KEK", v.KEK},
		{imageSecurityDatabase, "db", v.DB},
		{imageSecurityDatabase, "dbx", v.DBX},
	} {
		p.data(7, EventEFIVariableDriverConfig, variableData(x.vendor, x.name, x.data))
	}
	if v.DBT != nil {
		p.data(7, EventEFIVariableDriverConfig, variableData(imageSecurityDatabase, "dbt", v.DBT))
	}
	p.data(7, EventSeparator, separator)
}

// authorities measures each distinct entry of db that let an image start. In PCR 7 they all follow the separator, so
// their order relative to the images, which are in PCR 4, changes no value.
func (p *predictor) authorities(b Boot) {
	if !b.enforcing() {
		return
	}
	for i, a := range b.Authorities {
		if slices.ContainsFunc(b.Authorities[:i], func(o []byte) bool { return bytes.Equal(o, a) }) {
			continue
		}
		p.data(7, EventEFIVariableAuthority, variableData(imageSecurityDatabase, "db", a))
	}
}

// tagProfile marks the stub's event for the number of a profile.
const tagProfile = 0x13aed6db

// profile measures the choice of a profile other than 0: systemd-boot the options that it starts the UKI with, then the
// stub the number.
func (p *predictor) profile(b Boot) {
	if b.Profile == 0 {
		return
	}
	number := fmt.Sprint(b.Profile)
	if b.Loader != nil {
		p.data(12, EventIPL, utf16z("@"+number))
	}
	payload := utf16z(number)
	tagged := binary.LittleEndian.AppendUint32(nil, tagProfile)
	tagged = binary.LittleEndian.AppendUint32(tagged, uint32(len(payload)))
	p.hash(12, EventTag, payload, append(tagged, payload...))
}

func (p *predictor) sections(ms []Measurement) error {
	first := len(p.log.Events)
	for _, h := range p.banks {
		i := first
		err := sectionEvents(h, ms, func(e sectionEvent, digest []byte) error {
			if i == len(p.log.Events) {
				p.log.Events = append(p.log.Events, Event{
					PCR: PCRKernel, Type: EventIPL, Data: utf16z(e.section), Digests: make(map[crypto.Hash][]byte, len(p.banks)),
				})
			}
			p.log.Events[i].Digests[h] = bytes.Clone(digest)
			i++
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// variableData is a UEFI_VARIABLE_DATA (Firmware Profile 1.06, section 10.2.6).
func variableData(vendor efi.GUID, name string, data []byte) []byte {
	b := vendor.AppendMixed(nil)
	b = binary.LittleEndian.AppendUint64(b, uint64(efi.UTF16Len(name)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	return append(efi.AppendUTF16(b, name), data...)
}

// imageLoadEvent is a UEFI_IMAGE_LOAD_EVENT (section 10.2.3) with what can be known before a boot: no address, and a
// device path that holds the file's path alone.
func imageLoadEvent(a Application) []byte {
	b := make([]byte, 8, 64)
	b = binary.LittleEndian.AppendUint64(b, uint64(max(a.Size, 0)))
	b = binary.LittleEndian.AppendUint64(b, 0)
	var path []byte
	if a.Path != "" {
		name := utf16z(`\` + strings.TrimLeft(strings.ReplaceAll(a.Path, "/", `\`), `\`))
		path = append(path, 4, 4) // media, file path
		path = binary.LittleEndian.AppendUint16(path, uint16(min(4+len(name), 0xfffe)))
		path = append(path, name[:min(len(name), 0xfffe-4)]...)
		path = append(path, 0x7f, 0xff, 4, 0)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(path)))
	return append(b, path...)
}

func utf16z(s string) []byte { return append(efi.AppendUTF16(nil, s), 0, 0) }
