package uki

import (
	"bytes"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// initrds puts the parts of the initrd into the order in which the stub hands them over, and measures those of add-ons.
// Microcode comes first, and that of the last add-on before all, since the kernel takes the first that it finds; the
// parts of later add-ons overwrite files of earlier ones. systemd 252 and 255, src/boot/efi/stub.c, efi_main and run;
// systemd 257 and 262, src/boot/stub.c, run.
func (h *handover) initrds() error {
	if h.boot.Previous != nil && h.release < 261 {
		return h.unknown("stubs before 261 cannot add to an initrd that is set up already")
	}
	for i := len(h.out.Addons) - 1; i >= 0; i-- {
		if a := h.out.Addons[i]; a.Microcode != nil {
			h.event(osmith.HandoverAddonMicrocode, sdstub.PCRConfig, sdstub.TagAddonMicrocode, a.Name, a.Microcode)
			h.initrd(a.Name, a.Microcode)
		}
	}
	h.initrdSection(".ucode")
	if h.boot.Previous != nil {
		h.initrd("previous initrd", h.boot.Previous)
	}
	h.initrdSection(".initrd")
	for _, t := range []*cpioTarget{&cpioCredentials, &cpioGlobalCredentials, &cpioSysexts, &cpioGlobalSysexts, &cpioConfexts, &cpioGlobalConfexts} {
		if v := h.packed[t]; v != nil {
			h.initrd(t.event, v)
		}
	}
	if err := h.extraFiles(); err != nil {
		return err
	}
	for _, a := range h.out.Addons {
		if a.Initrd != nil {
			h.event(osmith.HandoverAddonInitrd, sdstub.PCRConfig, sdstub.TagAddonInitrd, a.Name, a.Initrd)
			h.initrd(a.Name, a.Initrd)
		}
	}
	return nil
}

// extraFiles wraps what the initrd shall find of the image and the boot in /.extra. Sections have been measured
// themselves, or must not be.
func (h *handover) extraFiles() error {
	for _, x := range []struct {
		section, name string
		since         int
	}{
		{".pcrsig", "tpm2-pcr-signature.json", 252},
		{".pcrpkey", "tpm2-pcr-public-key.pem", 252},
		{".osrel", "os-release", 257},
		{".profile", "profile", 257},
	} {
		c := h.section(x.section)
		if c == nil || h.release < x.since {
			continue
		}
		if err := h.extraFile(&cpioMeta, x.name, io.NewSectionReader(c.src, 0, c.size)); err != nil {
			return err
		}
	}
	secret := h.boot.BootSecret
	if !h.row.BootSecret {
		return nil
	}
	if secret == nil {
		if !h.boot.NoBootSecret {
			h.out.Unknown = "the boot secret, which the stub puts into the initrd, is not given"
		}
		return nil
	}
	if len(secret) != bootSecretSize {
		return fmt.Errorf("uki: boot secret: %d bytes, want %d", len(secret), bootSecretSize)
	}
	return h.extraFile(&cpioSecret, "boot-secret", bytes.NewReader(secret))
}

func (h *handover) extraFile(t *cpioTarget, name string, src osmith.Source) error {
	v, err := t.archive([]CompanionFile{{name, src}})
	if err == nil {
		h.initrd(name, v)
	}
	return err
}

func (h *handover) initrdSection(name string) {
	if c := h.section(name); c != nil {
		h.initrd(name, io.NewSectionReader(c.src, 0, c.size))
	}
}

func (h *handover) initrd(name string, src osmith.Source) {
	if src.Size() > 0 {
		h.out.Initrds = append(h.out.Initrds, InitrdPart{name, src})
	}
}

// Initrd is what the kernel gets as initrd, read when it is read, and hashes into PCR 9; nil if there is none.
func (h *Handover) Initrd() osmith.Source {
	switch len(h.Initrds) {
	case 0:
		return nil
	case 1:
		return h.Initrds[0].Content
	}
	v := new(view)
	for _, p := range h.Initrds {
		v.add(p.Name, p.Content, p.Content.Size())
		v.padTo(4)
	}
	return v
}
