package tpm

import (
	"strings"
)

// The components that systemd-pcrlock's verbs write (systemd 262), and between them those that it has no verb for.
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
	lockMachineID     = "820-machine-id"
	lockFileSystem    = "830-root-file-system"
	lockIdentity      = "845-identity"
)

// lockSorter tells which component an event of a boot belongs to.
type lockSorter struct {
	roles     map[*Event]string
	separated [8]bool // PCRs whose separator was seen
	started   bool    // the UKI
	stubDone  bool    // the sections are measured
	retried   bool
}

func newLockSorter(l *Log) *lockSorter {
	s := &lockSorter{roles: make(map[*Event]string)}
	l.roles(s.roles)
	for i := range l.Events {
		s.retried = s.retried || string(l.Events[i].Data) == actionExitFailed
	}
	return s
}

// component is "" for what systemd ships itself and for what is not measured.
func (s *lockSorter) component(e *Event) string {
	switch {
	case !e.extends() || e.PCR < 0 || e.PCR >= PCRCount:
		return ""
	case e.Type == EventSeparator && e.PCR <= 7:
		s.separated[e.PCR] = true
		return ""
	case e.Type == EventEFIAction && string(e.Data) == actionCalling:
		return ""
	case e.Type == EventEFIAction && e.PCR == 5 && strings.HasPrefix(string(e.Data), "Exit Boot Services"):
		if s.retried {
			return lockExit
		}
		return ""
	case s.roles[e] != "":
		return s.program(s.roles[e])
	case e.Type == EventIPL:
		return s.ipl(e)
	case e.PCR == 7 && e.Type == EventEFIVariableAuthority:
		return lockAuthority
	case e.PCR == 7:
		return lockSecureBoot
	case e.PCR == 5 && (e.Type == EventEFIGPT || e.Type == EventEFIGPT2):
		return lockGPT
	case e.Type == EventTag:
		return s.tagged(e)
	}
	return s.ofFirmware(e.PCR)
}

func (s *lockSorter) program(role string) string {
	switch role {
	case "the UKI":
		s.started = true
		return lockUKI
	case "the boot loader":
		return lockLoader
	}
	return lockAddons
}

func (s *lockSorter) tagged(e *Event) string {
	t, err := readTagged(e.Data)
	if err != nil {
		return s.ofFirmware(e.PCR)
	}
	switch t.Tag {
	case TagLoaderConf:
		return lockLoaderConf
	case TagSMBIOSType1, TagSMBIOSType2, TagSMBIOSType11:
		return lockSMBIOS
	case TagProfile:
		return lockUKI
	case TagDeviceTree, TagMicrocode, TagInitrdAddon:
		return lockAddons
	case TagLoadOptions:
		return lockKernelCmdline
	case TagInitrd:
		return lockKernelInitrd
	}
	return s.ofFirmware(e.PCR)
}

// ipl sorts what the stub and userspace measure.
func (s *lockSorter) ipl(e *Event) string {
	text, _ := textOf(e.Data)
	switch {
	case text == wordSeparator && e.PCR != 15, text == wordNVSeparator && e.PCR == 9:
		return ""
	case e.PCR == PCRKernel && strings.HasPrefix(text, "."):
		s.stubDone = true
		return lockUKI
	case e.PCR == PCRKernel: // a phase
		return ""
	case e.PCR == 12 && !s.stubDone: // the options that the loader starts the UKI with
		return lockUKI
	case e.PCR == 12 && e.Attested():
		return lockAddons
	case e.PCR == 12 || e.PCR == 13:
		return lockCompanions
	case e.PCR == 9:
		return lockNVPCRs
	case e.PCR == 15 && strings.HasPrefix(text, "machine-id:"):
		return lockMachineID
	case e.PCR == 15 && strings.HasPrefix(text, "file-system:"):
		return lockFileSystem
	case e.PCR == 15:
		return lockIdentity
	}
	return s.ofFirmware(e.PCR)
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
