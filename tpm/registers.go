package tpm

import (
	"fmt"
	"slices"
)

// Registers says which kind of register the events of a log extend.
type Registers int

const (
	RegistersPCR Registers = iota // PCRs of a TPM

	// RegistersCC are the measurement registers of a confidential virtual machine (UEFI 2.10,
	// section 38.4.1), by the numbers that such a log has: 0 is MRTD, and 1 to 4 are RTMR 0 to RTMR
	// 3 of Intel TDX. The log is that of the ACPI table CCEL, in Linux the file
	// /sys/firmware/acpi/tables/data/CCEL.
	RegistersCC
)

// registerCount is how many registers [RegistersCC] has.
const registerCount = 5

// Name is the name of one register: "PCR 7", "MRTD", "RTMR 0".
func (r Registers) Name(number int) string {
	switch {
	case r != RegistersCC:
		return fmt.Sprintf("PCR %d", number)
	case number == 0:
		return "MRTD"
	case number < registerCount && number > 0:
		return fmt.Sprintf("RTMR %d", number-1)
	}
	return fmt.Sprintf("measurement register %d", number)
}

// String is "PCRs" or "RTMRs".
func (r Registers) String() string {
	if r == RegistersCC {
		return "RTMRs"
	}
	return "PCRs"
}

// exists reports whether there is a register of that number.
func (r Registers) exists(number int) bool {
	if r == RegistersCC {
		return number >= 0 && number < registerCount
	}
	return number >= 0 && number < PCRCount
}

// extended reports whether logs have events for the register: MRTD is measured before there is a
// log.
func (r Registers) extended(number int) bool {
	return r != RegistersCC || number > 0 && number < registerCount
}

// registers say what the event extends.
func (e *Event) registers() Registers {
	if e.cc {
		return RegistersCC
	}
	return RegistersPCR
}

// in reports whether the event is what firmware measures into a PCR: in a log of other registers,
// those that take the place of the PCR.
func (e *Event) in(pcr int) bool {
	if !e.cc {
		return e.PCR == pcr
	}
	switch {
	case pcr == 0:
		return e.PCR == 0
	case pcr == 1 || pcr == 7:
		return e.PCR == 1
	case pcr < 7:
		return e.PCR == 2
	}
	return pcr < 16 && e.PCR == 3
}

// setRegisters tells what a log that was read is about. edk2 writes the header of a log of RTMRs as
// one for register 1, the only sign in it; firmware whose header is wrong, and whose events are for
// PCRs, has other numbers as well.
func (l *Log) setRegisters() {
	if len(l.Events) == 0 || !isSpecID(&l.Events[0]) || l.Events[0].PCR != 1 {
		return
	}
	some := false
	other := slices.ContainsFunc(l.Events, func(e Event) bool {
		some = some || e.extends()
		return e.extends() && (e.PCR < 1 || e.PCR >= registerCount)
	})
	if other || !some {
		l.Findings = slices.Insert(l.Findings, 0, Finding{0, 0, "the header is for PCR 1"})
		return
	}
	l.Registers = RegistersCC
	for i := range l.Events {
		l.Events[i].cc = true
	}
}
