package slots_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
)

// The judges read the bytes of a store as firmware, GRUB or U-Boot does, and say what is started.
// They share no code with the package: this file imports nothing of it (TestJudgesShareNothing).

// A machine is a store under a judge. start is what the next start chooses, "" for nothing or what
// cannot be told, and the machine after it, in which that system has failed.
type machine interface {
	start() (string, machine)
}

// starts are the next n starts.
func starts(m machine, n int) (all []string) {
	for range n {
		var s string
		s, m = m.start()
		all = append(all, s)
	}
	return all
}

// gptMachine has the attributes of the slots in the order of the table. grub: tries count also for
// a successful slot, as in the gptprio module of Flatcar's GRUB; without, the firmware of ChromeOS.
type gptMachine struct {
	names []string
	bits  []uint64
	grub  bool
}

func (m gptMachine) start() (string, machine) {
	for priority := uint64(15); priority > 0; priority-- {
		for i, b := range m.bits {
			tries, successful := b&0x00f0000000000000, b&0x0100000000000000 != 0
			if b&0x000f000000000000 != priority*0x0001000000000000 || tries == 0 && !successful {
				continue
			}
			next := m
			if tries != 0 && (m.grub || !successful) {
				next.bits = slices.Clone(m.bits)
				next.bits[i] -= 0x0010000000000000
			}
			return m.names[i], next
		}
	}
	return "", m
}

// efiMachine has variables of firmware. UEFI 2.10, section 3.1.2: BootNext is deleted before it is
// started; BootOrder is gone through until an option can be loaded.
type efiMachine struct {
	variables map[string][]byte
	active    map[string]bool
}

func (m efiMachine) start() (string, machine) {
	option := func(b []byte) string {
		const digits = "0123456789ABCDEF"
		n := int(b[0]) + 256*int(b[1])
		return "Boot" + string([]byte{digits[n>>12], digits[n>>8&15], digits[n>>4&15], digits[n&15]})
	}
	next := efiMachine{map[string][]byte{"BootOrder": m.variables["BootOrder"]}, m.active}
	if b := m.variables["BootNext"]; len(b) == 2 && m.active[option(b)] {
		return option(b), next
	}
	for order := m.variables["BootOrder"]; len(order) >= 2; order = order[2:] {
		if m.active[option(order)] {
			return option(order), next
		}
	}
	return "", next
}

// ubootMachine is U-Boot with RAUC's boot script, after its environment was read.
type ubootMachine struct{ variables map[string]string }

// newUBootMachine reads copies as U-Boot does. false: it takes its built-in environment.
func newUBootMachine(copies [][]byte) (m ubootMachine, ok bool) {
	header := 4 + min(len(copies)-1, 1)
	best := -1
	for i, c := range copies {
		if binary.LittleEndian.Uint32(c) != crc32.ChecksumIEEE(c[header:]) {
			continue
		}
		if best >= 0 {
			was, is := copies[best][4], c[4]
			wrapped := was == 255 && is == 0
			if !wrapped && (is <= was || was == 0 && is == 255) {
				continue
			}
		}
		best = i
	}
	if best < 0 {
		return m, false
	}
	m.variables = map[string]string{}
	for _, item := range bytes.Split(copies[best][header:], []byte{0}) {
		if len(item) == 0 {
			break
		}
		k, v, _ := bytes.Cut(item, []byte("="))
		for len(k) > 0 && (k[0] == ' ' || k[0] == '\t') {
			k = k[1:]
		}
		delete(m.variables, string(k))
		if len(v) == 0 {
			continue // unset
		} else if len(k) == 0 {
			return m, false // errno 22
		}
		for i := 0; i < len(v)-1; i++ {
			if v[i] == '\\' {
				v = append(v[:i:i], v[i+1:]...)
			}
		}
		m.variables[string(k)] = string(v)
	}
	return m, true
}

func clone(m map[string]string) map[string]string {
	c := map[string]string{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

func (m ubootMachine) start() (string, machine) {
	next := ubootMachine{clone(m.variables)}
	for range 2 {
		for _, slot := range strings.FieldsFunc(next.variables["BOOT_ORDER"], func(r rune) bool { return r == ' ' || r == '\n' }) {
			left := next.variables["BOOT_"+slot+"_LEFT"]
			if len(left) == 1 && left[0] > '0' && left[0] <= '9' {
				next.variables["BOOT_"+slot+"_LEFT"] = string(left[0] - 1)
				return slot, next
			}
		}
		next.variables["BOOT_A_LEFT"], next.variables["BOOT_B_LEFT"] = "3", "3"
	}
	return "", next
}

// grubVariables reads an environment block as GRUB's load_env does; nil if it is none.
func grubVariables(block []byte) map[string]string {
	text, ok := strings.CutPrefix(string(block), "# GRUB Environment Block\n")
	if !ok {
		return nil
	}
	m := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok && line[0] != '#' {
			m[k] = v
		}
	}
	return m
}

// raucGRUBMachine is the script of RAUC's documentation, with a default entry that belongs to no
// slot.
type raucGRUBMachine struct{ variables map[string]string }

func (m raucGRUBMachine) start() (string, machine) {
	next := raucGRUBMachine{clone(m.variables)}
	for _, slot := range strings.Fields(m.variables["ORDER"]) {
		next.variables[slot+"_TRY"] = "1"
		if m.variables[slot+"_OK"] == "1" && m.variables[slot+"_TRY"] != "1" {
			return slot, next
		}
	}
	return "", next
}

// kairosMachine is /grub_boot_assessment of Kairos.
type kairosMachine struct{ variables map[string]string }

func (m kairosMachine) start() (string, machine) {
	if m.variables["enable_boot_assessment"] != "yes" && m.variables["enable_boot_assessment_always"] != "yes" || m.variables["selected_entry"] != "" {
		return "active", m
	}
	if m.variables["boot_assessment_tentative"] == "yes" {
		return "passive", m
	}
	next := kairosMachine{clone(m.variables)}
	next.variables["boot_assessment_tentative"] = "yes"
	return "active", next
}
