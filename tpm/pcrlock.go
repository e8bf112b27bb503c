package tpm

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// LockRecord is a measurement that a .pcrlock file expects.
type LockRecord struct {
	PCR     int
	Digests map[crypto.Hash][]byte
}

// LockVariant is one .pcrlock file: measurements that happen together, in their order. A variant
// without records always matches (systemd.pcrlock(5)).
type LockVariant struct {
	Name    string // name of the file without .pcrlock, if the component has several files
	Records []LockRecord
}

// LockComponent is a part of a boot that happens in one of several variants. The ID begins with
// digits that say when it happens.
type LockComponent struct {
	ID       string
	Variants []LockVariant
}

// lockFile is the object that systemd reads. Its manual page speaks of an array; the code wants
// this.
type lockFile struct {
	Records []lockFileRecord `json:"records"`
}

type lockFileRecord struct {
	PCR     int          `json:"pcr"`
	Digests []jsonDigest `json:"digests"`
}

// maxLockFile bounds a .pcrlock file in bytes and maxLockRecords its records; systemd's largest
// have a few dozen.
const (
	maxLockFile    = 4 << 20
	maxLockRecords = 4096
)

// ParseLockVariant reads a .pcrlock file. Digests of hashes that are not in [Banks] are left out,
// as are the fields that systemd ignores.
func ParseLockVariant(name string, data []byte) (LockVariant, error) {
	fail := func(format string, args ...any) (LockVariant, error) {
		return LockVariant{}, prefix.Error(pkg, &osmith.FormatError{Offset: -1, Field: ".pcrlock", Err: fmt.Errorf(format, args...)})
	}
	if len(data) > maxLockFile {
		return fail("%d bytes, want %d or fewer", len(data), maxLockFile)
	}
	var f struct {
		Records *[]struct {
			PCR     *int         `json:"pcr"`
			Digests []jsonDigest `json:"digests"`
		} `json:"records"`
	}
	if err := strictjson.Unmarshal(data, &f); err != nil {
		return LockVariant{}, prefix.Error(pkg, fmt.Errorf(".pcrlock: %w", err))
	}
	if f.Records == nil || len(*f.Records) > maxLockRecords {
		return fail("want an object with up to %d \"records\"", maxLockRecords)
	}
	v := LockVariant{Name: name, Records: make([]LockRecord, 0, len(*f.Records))}
	for i, r := range *f.Records {
		if r.PCR == nil || *r.PCR < 0 || *r.PCR >= PCRCount {
			return fail("record %d: want a PCR from 0 to %d", i, PCRCount-1)
		}
		digests, err := readDigests(r.Digests)
		if err != nil {
			return fail("record %d: %w", i, err)
		}
		if len(digests) == 0 {
			return fail("record %d: no digest of a known bank", i)
		}
		v.Records = append(v.Records, LockRecord{*r.PCR, digests})
	}
	return v, nil
}

// MarshalJSON returns the file as systemd-pcrlock writes it, without the newline at its end.
func (v LockVariant) MarshalJSON() (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	f := lockFile{Records: make([]lockFileRecord, 0, len(v.Records))}
	for _, r := range v.Records {
		if r.PCR < 0 || r.PCR >= PCRCount {
			return nil, fmt.Errorf(".pcrlock: PCR %d: want 0 to %d", r.PCR, PCRCount-1)
		}
		f.Records = append(f.Records, lockFileRecord{r.PCR, jsonDigests(&Event{Digests: r.Digests})})
	}
	return json.Marshal(f)
}

// Files are the component's files by their paths below pcrlock.d, with a newline at the end as
// systemd's have.
func (c LockComponent) Files() (_ map[string][]byte, err error) {
	defer prefix.Add(pkg, &err)
	if c.ID == "" || strings.ContainsAny(c.ID, "/\x00") || len(c.Variants) == 0 {
		return nil, fmt.Errorf(".pcrlock: component \"%s\" with %d variants", escape(c.ID), len(c.Variants))
	}
	out := make(map[string][]byte, len(c.Variants))
	for _, v := range c.Variants {
		if v.Name == "" || strings.ContainsAny(v.Name, "/\x00") {
			return nil, fmt.Errorf(".pcrlock: component %s: variant \"%s\"", c.ID, escape(v.Name))
		}
		b, err := v.MarshalJSON()
		if err != nil {
			return nil, err
		}
		file := path.Join(c.ID+".pcrlock.d", v.Name+".pcrlock")
		if _, twice := out[file]; twice {
			return nil, fmt.Errorf(".pcrlock: %s is listed twice", file)
		}
		out[file] = append(b, '\n')
	}
	return out, nil
}

// The components that systemd-pcrlock's verbs write (systemd 262), and between them those that it
// has no verb for.
const (
	lockSecureBoot    = "240-secureboot-policy"
	lockCodeEarly     = "250-firmware-code-early"
	lockConfigEarly   = "250-firmware-config-early"
	lockCodeLate      = "550-firmware-code-late"
	lockConfigLate    = "550-firmware-config-late"
	lockGPT           = "600-gpt"
	lockAuthority     = "620-secureboot-authority"
	lockLoader        = "630-boot-loader"
	lockSMBIOS        = "635-smbios"
	lockLoaderConf    = "640-loader-conf"
	lockUKI           = "650-uki"
	lockAddons        = "660-addons"
	lockCompanions    = "670-companions"
	lockExit          = "700-action-efi-exit-boot-services"
	lockKernelCmdline = "710-kernel-cmdline"
	lockKernelInitrd  = "720-kernel-initrd"
	lockNVPCRs        = "760-nvpcr"
	lockVolumeKeys    = "780-volume-keys" // of the initrd
	lockMachineID     = "820-machine-id"
	lockFileSystem    = "830-root-file-system"
	lockOtherSystem   = "840-file-system-" // and its path, escaped as in the names of units
	lockIdentity      = "845-identity"
)

// ErrNoLog says that the caller passed no predicted logs.
var ErrNoLog = errors.New(".pcrlock: no predicted logs")

// Components sorts the events of predicted boots into the components that systemd-pcrlock knows,
// named as by its own verbs; a component has one variant for each way in which the boots differ.
// Components that systemd ships (actions, separators, phases) are left out, except a repeated call
// of ExitBootServices, which systemd does not ship. Write the files to /var/lib/pcrlock.d. A PCR
// that is not predicted for every boot is not locked. Multi-profile UKIs, which systemd-pcrlock
// lock-uki refuses, are variants like others.
func (a Alternatives) Components() (_ []LockComponent, err error) {
	defer prefix.Add(pkg, &err)
	if len(a) == 0 {
		return nil, ErrNoLog
	}
	var ids []string
	perLog := make([]map[string][]LockRecord, len(a))
	for i, l := range a {
		perLog[i] = make(map[string][]LockRecord)
		subjects := l.subjects()
		s := lockSorter{retried: slices.Contains(subjects, Subject{Kind: SubjectExitBoot, Name: actionExitFailed})}
		for k, subject := range subjects {
			e := &l.Events[k]
			id := s.component(e, subject)
			if id == "" || slices.ContainsFunc(a, func(o *Log) bool { return !o.covers(e.PCR) }) {
				continue
			}
			perLog[i][id] = append(perLog[i][id], LockRecord{e.PCR, e.Digests})
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	out := make([]LockComponent, 0, len(ids))
	for _, id := range ids {
		c := LockComponent{ID: id}
		for _, records := range perLog {
			rs := records[id] // none: in this boot the component does nothing
			if rs == nil && id == lockExit {
				continue // systemd's own variants
			}
			if slices.ContainsFunc(c.Variants, func(v LockVariant) bool { return slices.EqualFunc(v.Records, rs, sameRecord) }) {
				continue
			}
			name := "generated"
			if id == lockExit {
				name = "200-retried" // before systemd's own, of which it holds the events too
			}
			if n := len(c.Variants); n > 0 {
				name = fmt.Sprintf("generated-%d", n+1)
			}
			c.Variants = append(c.Variants, LockVariant{name, rs})
		}
		out = append(out, c)
	}
	return out, nil
}

func sameRecord(a, b LockRecord) bool {
	return a.PCR == b.PCR && len(a.Digests) == len(b.Digests) && !slices.ContainsFunc(Banks(), func(h crypto.Hash) bool {
		return !bytes.Equal(a.Digests[h], b.Digests[h])
	})
}

// lockSorter tells which component an event of a boot belongs to.
type lockSorter struct {
	separated [8]bool // PCRs whose separator was seen
	retried   bool    // ExitBootServices was called again
	identity  string  // component of the event before in PCR 15
}

// component is "" for what systemd ships itself and for what is not measured.
func (s *lockSorter) component(e *Event, subject Subject) string {
	if e.PCR < 0 || e.PCR >= PCRCount {
		return ""
	}
	switch subject.Kind {
	case SubjectNothing, SubjectPhase:
		return ""
	case SubjectSeparator:
		if e.Type == EventSeparator && e.PCR <= 7 {
			s.separated[e.PCR] = true
		}
		return ""
	case SubjectAction:
		if subject.Name == actionCalling {
			return ""
		}
	case SubjectExitBoot:
		if s.retried {
			return lockExit
		}
		return ""
	case SubjectAuthority:
		if e.PCR == 7 {
			return lockAuthority
		}
	case SubjectGPT:
		if e.PCR == 5 {
			return lockGPT
		}
	case SubjectLoader:
		return lockLoader
	case SubjectLoaderConf:
		return lockLoaderConf
	case SubjectSMBIOS:
		return lockSMBIOS
	case SubjectUKI, SubjectPassed, SubjectProfile, SubjectSection, SubjectSectionName:
		return lockUKI
	case SubjectAddon, SubjectKernel, SubjectCommandLine, SubjectAddonCommandLine, SubjectAddonDeviceTree, SubjectAddonMicrocode, SubjectAddonInitrd:
		return lockAddons
	case SubjectCompanion:
		return lockCompanions
	case SubjectLoadOptions:
		return lockKernelCmdline
	case SubjectInitrd:
		return lockKernelInitrd
	case SubjectNVPCR:
		return lockNVPCRs
	case SubjectMachineID, SubjectFileSystem, SubjectIdentity:
		return s.ofIdentity(subject)
	}
	if e.PCR == 7 {
		return lockSecureBoot
	}
	return s.ofFirmware(e.PCR)
}

// ofIdentity is about PCR 15. systemd-pcrlock extends the components by their names, so that what
// was measured later must not be in one that comes before.
func (s *lockSorter) ofIdentity(subject Subject) string {
	id := lockVolumeKeys
	switch {
	case subject.Kind == SubjectMachineID:
		id = lockMachineID
	case subject.Kind == SubjectFileSystem:
		path, _, _ := strings.Cut(strings.TrimPrefix(subject.Name, wordFileSystem), ":")
		if id = lockFileSystem; strings.Trim(path, "/") != "" {
			id = lockOtherSystem + unitName(strings.ReplaceAll(path, `\x3a`, ":"))
		}
	case s.identity != "" && s.identity != lockVolumeKeys:
		id = lockIdentity
	}
	s.identity = max(s.identity, id)
	return s.identity
}

// unitName writes a path as the names of systemd's units do (systemd.unit(5), "String Escaping for
// Inclusion in Unit Names").
func unitName(path string) string {
	var b strings.Builder
	path = strings.Trim(path, "/")
	for i := range len(path) {
		switch c := path[i]; {
		case c == '/' && path[i-1] != '/':
			b.WriteByte('-')
		case c == '/':
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

func (s *lockSorter) ofFirmware(pcr int) string {
	code := pcr == 0 || pcr == 2 || pcr == 4
	late := pcr <= 7 && s.separated[pcr]
	switch {
	case pcr > 7:
		return ""
	case code && late:
		return lockCodeLate
	case code:
		return lockCodeEarly
	case late:
		return lockConfigLate
	}
	return lockConfigEarly
}
