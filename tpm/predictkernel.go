package tpm

import (
	"fmt"
	"strings"
)

// kernel is what the kernel's own EFI stub measures, and the firmware if it loads the kernel.
func (p *predictor) kernel(b *Boot) {
	if p.row.InnerKernel && b.Kernel != nil && !b.enforcing() {
		p.application(b.Kernel)
	}
	h := b.Handover
	if h == nil || h.Initrd == nil || h.Unknown != "" {
		return
	}
	if len(h.LoadOptions) > 0 {
		p.hash(9, EventTag, h.LoadOptions, taggedData(TagLoadOptions, []byte("LOADED_IMAGE::LoadOptions\x00")))
	}
	p.add(9, EventTag, h.Initrd, taggedData(TagInitrd, []byte("Linux initrd\x00")))
}

// separatorPCRs are those that systemd 261 ends the firmware's part of, from the initrd.
var separatorPCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14}

const (
	wordSeparator   = "os-separator"
	wordNVSeparator = "nvpcr-separator"
)

// userspace is what systemd measures after the kernel has started.
func (p *predictor) userspace(b *Boot) {
	u := b.Userspace
	if u == nil {
		u = &Userspace{}
	}
	p.log.Events = append(p.log.Events, p.late...)
	p.late = nil
	if u.Separator {
		for _, pcr := range separatorPCRs {
			p.data(pcr, EventIPL, []byte(wordSeparator))
		}
	}
	for _, phase := range b.Phases {
		p.data(PCRKernel, EventIPL, []byte(phase))
	}
	for _, w := range u.NVPCRs {
		p.data(9, EventIPL, []byte(w))
	}
	if u.NVSeparator {
		p.data(9, EventIPL, []byte(wordNVSeparator))
	}
	for _, w := range u.IdentityWords {
		p.data(15, EventIPL, []byte(w))
	}
}

// MachineIDWord is what systemd-pcrmachine measures into PCR 15. id has 32 hexadecimal digits, without dashes.
func MachineIDWord(id string) (string, error) {
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fmt.Errorf("tpm: machine ID %q: want 32 lower-case hexadecimal digits", escape(id))
	}
	return "machine-id:" + id, nil
}

// FileSystem is what systemd-pcrfs measures of a mounted file system into PCR 15. What it does not know is empty.
type FileSystem struct {
	Path  string // where it is mounted
	Type  string // "erofs"
	UUID  string // of the file system
	Label string // of the file system

	PartitionUUID, PartitionType, PartitionLabel string
}

// Word is the text that is measured. A colon in a field is written as \x3a.
func (f FileSystem) Word() string {
	fields := []string{f.Path, f.Type, f.UUID, f.Label, f.PartitionUUID, f.PartitionType, f.PartitionLabel}
	for i := range fields {
		fields[i] = strings.ReplaceAll(fields[i], ":", `\x3a`)
	}
	return "file-system:" + strings.Join(fields, ":")
}
