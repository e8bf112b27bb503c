package petest

import "encoding/binary"

// RefusedKernel is a kernel that some stub does not start, for one reason.
type RefusedKernel struct {
	// for files and tests: the name of a row of the stub's model (internal/sdstub, KernelTrait)
	Name   string
	Kernel []byte
}

// RefusedKernels are copies of an x86-64 kernel, each with one change for which some stub does not
// start it. The kernel is one that all stubs start, [Kernel] or a real one: PE32+, with the setup
// header. It is not changed. The order and the bytes are always the same.
func RefusedKernels(kernel []byte) []RefusedKernel {
	le := binary.LittleEndian
	pe := int(le.Uint32(kernel[0x3c:]))
	opt := pe + 24
	first := opt + int(le.Uint16(kernel[pe+20:]))        // section header
	last := first + 40*(int(le.Uint16(kernel[pe+6:]))-1) // section header
	directories := opt + 112                             // of PE32+
	u16 := func(off int, v uint16) func([]byte) { return func(b []byte) { le.PutUint16(b[off:], v) } }
	u32 := func(off int, v uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[off:], v) } }
	// a kernel of the time before EFI told it of its initrd
	handover := func(more func([]byte)) func([]byte) {
		return func(b []byte) {
			le.PutUint16(b[opt+44:], 0) // MajorImageVersion
			more(b)
		}
	}
	var out []RefusedKernel
	for _, c := range []struct {
		name   string
		change func([]byte)
	}{
		{"linux-no-sections", u16(pe+6, 0)},
		{"linux-directories", u32(opt+108, 5)},
		{"linux-entry-point", u32(opt+16, 0x7fff0000)},
		{"linux-relocations", func(b []byte) {
			clear(b[directories+8*4:][:8]) // no certificates: the kernel is changed
			// A block for no page with two entries that are padding, at the end of the headers: who
			// applies relocations has nothing to do.
			const block = 12
			at := le.Uint32(b[opt+60:]) - block
			le.PutUint32(b[directories+8*5:], at)
			le.PutUint32(b[directories+8*5+4:], block)
			clear(b[at:][:block])
			le.PutUint32(b[at+4:], block)
		}},
		{"linux-image-base", func(b []byte) { le.PutUint64(b[opt+24:], 0x1000000) }},
		{"linux-section-relocations", u32(last+24, 0x400)},
		{"linux-size-of-image", u32(opt+56, le.Uint32(kernel[last+12:])+le.Uint32(kernel[last+8:])-1)},
		{"linux-raw-size", u32(first+8, le.Uint32(kernel[first+16:])-1)},
		{"linux-handover-setup", handover(func(b []byte) { clear(b[setupMagic:][:4]) })},
		{"linux-handover-protocol", handover(u16(setupProtocol, 0x020a))},
		{"linux-handover-relocatable", handover(func(b []byte) { b[setupRelocatable] = 0 })},
		{"linux-handover-flag", handover(u16(setupXLoadFlags, 3))},
	} {
		b := append([]byte(nil), kernel...)
		c.change(b)
		out = append(out, RefusedKernel{c.name, b})
	}
	return out
}
