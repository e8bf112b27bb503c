package sdstub

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
)

// Answer says whether a stub starts a kernel. The zero value is that it is not known.
type Answer int

// The answers.
const (
	AnswerUnknown Answer = iota
	AnswerStarts
	AnswerRefuses // or the machine crashes while the stub loads the kernel
)

// KernelTrait is something about a kernel for which some stub does not start it. Its text is the
// code of a finding.
type KernelTrait string

// The traits of kernels. Those of the handover count for x86 kernels that the stub does not start
// by their PE entry point: the major image version is 0, or the kernel has no entry point for the
// machine type of the stub.
const (
	KernelNoSections KernelTrait = "linux-no-sections"
	// is 0, and there is no handover on this architecture
	KernelImageVersion KernelTrait = "linux-image-version"
	// there is none for base relocations
	KernelDirectories KernelTrait = "linux-directories"
	// SizeOfOptionalHeader has room for more directories than there are
	KernelHeaderSize KernelTrait = "linux-header-size"
	KernelEntryPoint KernelTrait = "linux-entry-point" // outside of SizeOfImage
	// a kernel for x86-64, a stub for 32 bits, and an entry point for it in .compat
	KernelMixedMode KernelTrait = "linux-mixed-mode"
	// there is a directory of base relocations
	KernelBaseRelocations KernelTrait = "linux-relocations"
	KernelImageBase       KernelTrait = "linux-image-base" // is not 0
	// PointerToRelocations of a section is not 0
	KernelSectionRelocations KernelTrait = "linux-section-relocations"
	// a section with data ends behind it
	KernelSizeOfImage KernelTrait = "linux-size-of-image"
	// SizeOfRawData of a section is above VirtualSize
	KernelRawSize KernelTrait = "linux-raw-size"
	// shorter than the boot parameters
	KernelHandoverSize        KernelTrait = "linux-handover-size"
	KernelHandoverSetup       KernelTrait = "linux-handover-setup"    // no real-mode setup header
	KernelHandoverProtocol    KernelTrait = "linux-handover-protocol" // before 2.11
	KernelHandoverRelocatable KernelTrait = "linux-handover-relocatable"
	KernelHandoverFlag        KernelTrait = "linux-handover-flag" // no entry point for the handover
)

// KernelRow says what stubs of some releases do with a kernel that has a trait.
type KernelRow struct {
	Trait        KernelTrait
	Since, Until int // releases, both included
	Answer       Answer
	// releases of which it was seen; of the others it was read, unless the answer is that it is not
	// known
	Booted []int
}

// Evidence is how the answer for one of the releases of the row is known.
func (r KernelRow) Evidence(release int) Evidence {
	switch {
	case slices.Contains(r.Booted, release):
		return EvidenceBooted
	case r.Answer == AnswerUnknown:
		return EvidenceNone
	}
	return EvidenceSource
}

// bootedOld are the releases below 258 of which a stub was booted.
var bootedOld = []int{252, 254, 257}

// booted are all releases of which a stub was booted.
var booted = []int{252, 254, 257, 262}

// kernelRows is the one table of what stubs do with odd kernels. Sources:
//
//   - systemd 252, 253, 254, 255 and 256-rc4, src/boot/efi/{linux,linux_x86,pe}.c, and 257 and 262,
//     src/boot: linux_exec, linux_exec_efi_handover, pe_kernel_info, verify_pe,
//     pe_kernel_check_no_relocation, pe_section_table_from_base. Up to 257 the firmware loads a
//     kernel with a PE entry point, and what it refuses was read in edk2
//     (MdePkg/Library/BasePeCoffLib, PeCoffLoaderLoadImage); from 258 on the stub does it itself
//     (systemd pull request 37372), unless shim is there.
//   - Image base: 258 and 259 subtract it from addresses that do not contain it (systemd issue
//     40342, seen with 258.2); mended in 260 (pull request 40429) and in some later point releases
//     of 258 and 259.
//   - Raw size: 260 and later refuse it (pull request 40721, and point releases of 259); 258 and
//     259 clear memory from there to the end of the first 4 GiB.
//   - Size of image: likewise, 258 to 261 do not hold the part of a section that has no data in the
//     file against it, and clear memory behind the image.
//   - Entry point: up to 261 nothing is checked against it, and what lies behind the image is run.
//   - Booted: the kernels of internal/petest, RefusedKernels, made of Debian's 6.12 for x86-64,
//     under OVMF 2022.11 without Secure Boot.
var kernelRows = []KernelRow{
	{KernelNoSections, 252, 262, AnswerRefuses, booted},
	{KernelImageVersion, 252, 262, AnswerRefuses, nil},
	{KernelDirectories, 252, 257, AnswerStarts, nil},
	{KernelDirectories, 258, 261, AnswerUnknown, nil},
	{KernelDirectories, 262, 262, AnswerRefuses, booted},
	{KernelHeaderSize, 252, 257, AnswerRefuses, bootedOld},
	{KernelHeaderSize, 258, 262, AnswerStarts, nil},
	{KernelEntryPoint, 252, 262, AnswerRefuses, booted},
	{KernelMixedMode, 252, 257, AnswerStarts, nil},
	{KernelMixedMode, 258, 262, AnswerRefuses, nil},
	{KernelBaseRelocations, 252, 257, AnswerStarts, bootedOld},
	{KernelBaseRelocations, 258, 262, AnswerRefuses, booted},
	{KernelImageBase, 252, 257, AnswerStarts, bootedOld},
	{KernelImageBase, 258, 259, AnswerRefuses, nil},
	{KernelImageBase, 260, 262, AnswerStarts, booted},
	{KernelSectionRelocations, 252, 257, AnswerStarts, bootedOld},
	{KernelSectionRelocations, 258, 262, AnswerRefuses, booted},
	{KernelSizeOfImage, 252, 262, AnswerRefuses, booted},
	{KernelRawSize, 252, 257, AnswerStarts, bootedOld},
	{KernelRawSize, 258, 262, AnswerRefuses, booted},
	{KernelHandoverSize, 252, 262, AnswerRefuses, nil},
	{KernelHandoverSetup, 252, 262, AnswerRefuses, booted},
	{KernelHandoverProtocol, 252, 262, AnswerRefuses, booted},
	{KernelHandoverRelocatable, 252, 262, AnswerRefuses, booted},
	{KernelHandoverFlag, 252, 262, AnswerRefuses, booted},
}

// KernelRows are all rows of the table.
func KernelRows() []KernelRow { return append([]KernelRow(nil), kernelRows...) }

// KernelAnswer is what the stub of a release does with a kernel that has a trait. Nothing is known
// of a release that is in no row.
func KernelAnswer(trait KernelTrait, release int) (Answer, Evidence) {
	for _, r := range kernelRows {
		if r.Trait == trait && r.Since <= release && release <= r.Until {
			return r.Answer, r.Evidence(release)
		}
	}
	return AnswerUnknown, EvidenceNone
}

// Objection is a trait of a kernel for which a stub does not start it, or may not.
type Objection struct {
	Trait    KernelTrait
	Answer   Answer // AnswerRefuses or AnswerUnknown
	Evidence Evidence
	Text     string // what the kernel is or has
}

// Offsets of the x86 setup header (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel
// Header"), and values that the stub looks for.
const (
	setupBootFlag    = 0x1fe
	setupMagic       = 0x202 // "HdrS"
	setupProtocol    = 0x206
	setupRelocatable = 0x234
	setupXLoadFlags  = 0x236
	setupCmdlineSize = 0x238

	bootFlag   = 0xaa55
	handover32 = 1 << 2 // XLF_EFI_HANDOVER_32
	handover64 = 1 << 3 // XLF_EFI_HANDOVER_64

	bootParams = 4096 // size of struct boot_params, which the stub reads of a kernel
)

// JudgeKernel lists why a stub for a machine type does not start a kernel, or may not; nothing for
// a kernel that it starts. The row of the stub's release is the zero value if that is not known:
// all traits that any stub minds are then listed as unknown. The error is one of reading.
func JudgeKernel(k *pe.File, kernel io.ReaderAt, stub uint16, row Release) ([]Objection, error) {
	j := kernelJudge{k: k, kernel: kernel, stub: stub, row: row}
	if err := j.judge(); err != nil {
		return nil, err
	}
	return j.out, nil
}

type kernelJudge struct {
	k      *pe.File
	kernel io.ReaderAt
	stub   uint16
	row    Release
	out    []Objection
}

func (j *kernelJudge) object(trait KernelTrait, format string, args ...any) {
	answer, evidence := KernelAnswer(trait, j.row.Number)
	if j.row.Evidence == EvidenceNone { // the release is assumed
		evidence = EvidenceNone
	}
	if answer != AnswerStarts {
		j.out = append(j.out, Objection{trait, answer, evidence, fmt.Sprintf(format, args...)})
	}
}

func (j *kernelJudge) judge() error {
	k := j.k
	if len(k.Sections) == 0 {
		j.object(KernelNoSections, "no sections")
		return nil
	}
	if k.Directories <= baseRelocations {
		j.object(KernelDirectories, "only %d data directories, but base relocations are the sixth", k.Directories)
	}
	isX86 := j.stub == arch.X86.Machine || j.stub == arch.X8664.Machine
	if k.MajorImageVersion < 1 {
		if isX86 {
			return j.handover("its image version is 0")
		}
		j.object(KernelImageVersion, "image version 0: too old to take an initrd from the stub")
		return nil
	}
	if k.Machine != j.stub && isX86 {
		found, err := j.compatible()
		if err != nil {
			return err
		}
		if !found {
			return j.handover("it has no entry point for the machine type of the stub")
		}
		j.object(KernelMixedMode, "machine type %#04x, the stub's is %#04x", k.Machine, j.stub)
	}
	j.loading()
	return nil
}

// baseRelocations is the index of the data directory.
const baseRelocations = 5

// loading judges what matters when the kernel is put into memory.
func (j *kernelJudge) loading() {
	k := j.k
	directories := int64(96)
	if k.PE32Plus {
		directories = 112
	}
	if size := k.Fields.SectionTable - k.Fields.OptionalHeader; size != directories+8*int64(k.Directories) {
		j.object(KernelHeaderSize, "optional header of %d bytes, want %d for %d data directories", size, directories+8*int64(k.Directories), k.Directories)
	}
	if k.EntryPoint >= k.SizeOfImage {
		j.object(KernelEntryPoint, "entry point %#x is outside SizeOfImage %#x", k.EntryPoint, k.SizeOfImage)
	}
	if k.BaseRelocations > 0 {
		j.object(KernelBaseRelocations, "has base relocations (a directory of %d bytes), which the stub does not apply", k.BaseRelocations)
	}
	if k.ImageBase != 0 {
		j.object(KernelImageBase, "ImageBase is %#x, want 0", k.ImageBase)
	}
	var seen struct{ relocations, image, raw bool } // of each, the first section says it all
	for _, s := range k.Sections {
		if s.Relocations != 0 && !seen.relocations {
			seen.relocations = true
			j.object(KernelSectionRelocations, "section %s has PointerToRelocations %#x, which only object files have", s.Name, s.Relocations)
		}
		if s.RawSize == 0 {
			continue
		}
		if end := int64(s.VirtualAddress) + int64(s.VirtualSize); end > int64(k.SizeOfImage) && !seen.image {
			seen.image = true
			j.object(KernelSizeOfImage, "section %s ends at address %#x, beyond SizeOfImage %#x", s.Name, end, k.SizeOfImage)
		}
		if s.RawSize > s.VirtualSize && !seen.raw {
			seen.raw = true
			j.object(KernelRawSize, "section %s has SizeOfRawData %#x, more than VirtualSize %#x", s.Name, s.RawSize, s.VirtualSize)
		}
	}
}

// handover judges an x86 kernel that the stub starts in the old way.
func (j *kernelJudge) handover(why string) error {
	b := make([]byte, bootParams)
	if j.k.Size < bootParams {
		j.object(KernelHandoverSize, "%s, and too short for the handover: %d bytes, want %d", why, j.k.Size, bootParams)
		return nil
	}
	if n, err := j.kernel.ReadAt(b, 0); n < len(b) {
		return noEOF(err)
	}
	le := binary.LittleEndian
	if string(b[setupMagic:][:4]) != "HdrS" || le.Uint16(b[setupBootFlag:]) != bootFlag {
		j.object(KernelHandoverSetup, "%s, and no setup header (HdrS at %#x) for the handover: not a Linux kernel for x86", why, setupMagic)
		return nil
	}
	protocol := le.Uint16(b[setupProtocol:])
	if protocol < 0x20b {
		j.object(KernelHandoverProtocol, "%s, and boot protocol %d.%02d is too old for the handover, want 2.11", why, protocol>>8, protocol&0xff)
	}
	if b[setupRelocatable] == 0 {
		j.object(KernelHandoverRelocatable, "%s, and not relocatable, as the handover requires", why)
	}
	flag := uint16(handover64)
	if j.stub == arch.X86.Machine {
		flag = handover32
	}
	if protocol >= 0x20c && le.Uint16(b[setupXLoadFlags:])&flag == 0 {
		j.object(KernelHandoverFlag, "%s, and no entry point for the handover (xloadflags lack %#x)", why, flag)
	}
	return nil
}

// maxCompat bounds what is read of a kernel's .compat section, which has eight bytes for each
// machine type.
const maxCompat = 4096

// compatible looks for an entry point for the stub's machine type in the section that kernels have
// for that: records of a type, their size, and for type 1 the machine type and the entry point.
func (j *kernelJudge) compatible() (bool, error) {
	s, ok := j.k.Section(".compat")
	if !ok {
		return false, nil
	}
	// The stub takes the address for an offset in the file, which in kernels it is.
	size := min(int64(s.VirtualSize), maxCompat)
	if at := int64(s.VirtualAddress); at > j.k.Size || size > j.k.Size-at {
		return false, nil
	}
	b := make([]byte, size)
	if n, err := j.kernel.ReadAt(b, int64(s.VirtualAddress)); n < len(b) {
		return false, noEOF(err)
	}
	const record = 8
	for len(b) >= record {
		kind, n := b[0], int(b[1])
		if kind == 0 || n == 0 || n > len(b) {
			break
		}
		if kind == 1 && n >= record && binary.LittleEndian.Uint16(b[2:]) == j.stub {
			return binary.LittleEndian.Uint32(b[4:]) != 0, nil
		}
		b = b[n:]
	}
	return false, nil
}

func noEOF(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
