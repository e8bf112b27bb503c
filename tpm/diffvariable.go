package tpm

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// describeVariableChange says how a variable differs when both events are of the same one.
func describeVariableChange(want, got *Event) (string, bool) {
	w, err1 := readVariable(want.Data)
	g, err2 := readVariable(got.Data)
	if err1 != nil || err2 != nil || w.Vendor != g.Vendor || w.Name != g.Name {
		return "", false
	}
	name := escape(g.Name)
	switch {
	case want.Type == EventEFIVariableAuthority:
		return fmt.Sprintf("a program was let in by another entry of %s", name), true
	case name == "SecureBoot" && len(w.Data) == 1 && len(g.Data) == 1:
		return fmt.Sprintf("SecureBoot is %d, expected %d", g.Data[0], w.Data[0]), true
	case name == "BootOrder":
		return fmt.Sprintf("BootOrder is %s, expected %s", bootOrderText(g.Data), bootOrderText(w.Data)), true
	}
	if s, ok := describeEntries(name, w.Data, g.Data); ok {
		return s, true
	}
	if want.Type == EventEFIVariableBoot || want.Type == EventEFIVariableBoot2 {
		return fmt.Sprintf("%s is %s, expected %s", name, loadOptionText(g.Data), loadOptionText(w.Data)), true
	}
	switch {
	case len(g.Data) > len(w.Data):
		return fmt.Sprintf("%s grew by %d bytes to %d", name, len(g.Data)-len(w.Data), len(g.Data)), true
	case len(g.Data) < len(w.Data):
		return fmt.Sprintf("%s shrank by %d bytes to %d", name, len(w.Data)-len(g.Data), len(g.Data)), true
	}
	return fmt.Sprintf("%s has other contents of the same size, %d bytes", name, len(g.Data)), true
}

// maxNamed bounds the entries that a line names.
const maxNamed = 3

// describeEntries compares two lists of signatures entry by entry.
func describeEntries(name string, want, got []byte) (string, bool) {
	w, ok1 := signatureEntries(want)
	g, ok2 := signatureEntries(got)
	if !ok1 || !ok2 {
		return "", false
	}
	added, removed := minusEntries(g, w), minusEntries(w, g)
	var parts []string
	switch {
	case len(added) == 0 && len(removed) == 0:
		return fmt.Sprintf("%s has the same %d entries in another order", name, len(g)), true
	case len(removed) == 0:
		parts = append(parts, fmt.Sprintf("%s grew by %s to %d", name, entries(len(added)), len(g)))
	case len(added) == 0:
		parts = append(parts, fmt.Sprintf("%s shrank by %s to %d", name, entries(len(removed)), len(g)))
	default:
		parts = append(parts, fmt.Sprintf("%s has %s that were not expected, and lacks %d", name, entries(len(added)), len(removed)))
	}
	if len(added)+len(removed) <= maxNamed {
		for _, e := range added {
			parts = append(parts, "with "+e.text())
		}
		for _, e := range removed {
			parts = append(parts, "without "+e.text())
		}
	}
	return strings.Join(parts, ", "), true
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// minusEntries are the entries of a that b does not have.
func minusEntries(a, b []signatureEntry) []signatureEntry {
	have := make(map[signatureEntry]int, len(b))
	for _, e := range b {
		have[e]++
	}
	var out []signatureEntry
	for _, e := range a {
		if have[e]--; have[e] < 0 {
			out = append(out, e)
		}
	}
	return out
}

// text names an entry: a certificate by its subject, a hash by its start.
func (e signatureEntry) text() string {
	data := []byte(e.data[16:]) // behind the owner
	if cert, err := x509.ParseCertificate(data); err == nil {
		return fmt.Sprintf("certificate '%s'", escape(cert.Subject.String()))
	}
	return "hash " + hex.EncodeToString(data[:min(len(data), 8)]) + "…"
}

func bootOrderText(b []byte) string {
	var out []string
	for ; len(b) >= 2 && len(out) < 32; b = b[2:] {
		out = append(out, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(b)))
	}
	if out == nil {
		return "empty"
	}
	return strings.Join(out, ",")
}

// loadOptionText is the description and the path of an EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3).
func loadOptionText(b []byte) string {
	if len(b) < 8 {
		return describeBytes(b)
	}
	size := int(binary.LittleEndian.Uint16(b[4:]))
	text := b[6:]
	for i := 0; i+1 < len(text); i += 2 {
		if text[i] == 0 && text[i+1] == 0 {
			path := text[i+2:]
			return fmt.Sprintf("'%s' %s", escape(efi.DecodeUTF16(text[:i])), DevicePath(path[:min(size, len(path))]))
		}
	}
	return describeBytes(b)
}

// describeGPTChange compares two partition tables by the partitions' IDs.
func describeGPTChange(want, got *Event) (string, bool) {
	w, err1 := readGPT(want.Data)
	g, err2 := readGPT(got.Data)
	if err1 != nil || err2 != nil {
		return "", false
	}
	var parts []string
	if w.Disk != g.Disk {
		parts = append(parts, fmt.Sprintf("of disk %s, expected %s", g.Disk, w.Disk))
	}
	find := func(list []GPTPartition, id osmith.GUID) (GPTPartition, bool) {
		i := slices.IndexFunc(list, func(p GPTPartition) bool { return p.ID == id })
		if i < 0 {
			return GPTPartition{}, false
		}
		return list[i], true
	}
	for _, p := range g.Partitions {
		old, ok := find(w.Partitions, p.ID)
		switch {
		case !ok:
			parts = append(parts, fmt.Sprintf("with %s", p.text()))
		case old.FirstLBA != p.FirstLBA || old.LastLBA != p.LastLBA:
			parts = append(parts, fmt.Sprintf("%s has LBAs %d to %d, expected %d to %d", p.text(), p.FirstLBA, p.LastLBA, old.FirstLBA, old.LastLBA))
		case old != p:
			parts = append(parts, fmt.Sprintf("%s has another type, name or flags", p.text()))
		}
	}
	for _, p := range w.Partitions {
		if _, ok := find(g.Partitions, p.ID); !ok {
			parts = append(parts, fmt.Sprintf("without %s", p.text()))
		}
	}
	if parts == nil && !bytes.Equal(w.Header, g.Header) {
		parts = append(parts, "its header differs")
	}
	if len(parts) > 2*maxNamed {
		parts = append(parts[:2*maxNamed], "…")
	}
	return "the partition table is another: " + strings.Join(parts, ", "), len(parts) > 0
}

func (p GPTPartition) text() string {
	if p.Name == "" {
		return fmt.Sprintf("partition %s", p.ID)
	}
	return fmt.Sprintf("partition '%s' %s", escape(p.Name), p.ID)
}
