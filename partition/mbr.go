package partition

import "encoding/binary"

// Protective MBR, UEFI 2.10 section 5.2.3: 440 bytes of boot code, 4 disk signature, 2 unknown, four records of 16
// bytes, 0x55 0xaa. A record: 0 BootIndicator, 1 StartingCHS, 4 OSType, 5 EndingCHS, 8 StartingLBA, 12 SizeInLBA.
const (
	mbrSize       = 512
	mbrRecords    = 446
	mbrRecordSize = 16
	typeGPT       = 0xee
)

func mbrRecord(b []byte, i int) []byte { return b[mbrRecords+i*mbrRecordSize:][:mbrRecordSize] }

// protective returns the record that covers a disk of the given number of sectors.
func protective(sectors uint64) []byte {
	le := binary.LittleEndian
	r := make([]byte, mbrRecordSize)
	copy(r[1:], []byte{0x00, 0x02, 0x00}) // CHS of LBA 1
	r[4] = typeGPT
	last := sectors - 1
	copy(r[5:], []byte{0xff, 0xff, 0xff}) // CHS cannot say it
	if cylinder := last / (255 * 63); cylinder <= 1023 {
		in := last % (255 * 63)
		r[5], r[6], r[7] = byte(in/63), byte(in%63+1)|byte(cylinder>>8<<6), byte(cylinder)
	}
	le.PutUint32(r[8:], 1)
	le.PutUint32(r[12:], uint32(min(last, 0xffffffff)))
	return r
}

// isHybrid reports whether an MBR lists partitions of its own, beside a protective record or without one.
func isHybrid(b []byte) bool {
	if b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	for i := range 4 {
		if kind := mbrRecord(b, i)[4]; kind != 0 && kind != typeGPT {
			return true
		}
	}
	return false
}

// updateMBR returns the sector 0 that protects a GPT on a disk of the given number of sectors. Boot code and
// everything else outside of the records stays. A protective record stays too unless the disk has another size than
// it says.
func updateMBR(old []byte, sectors uint64, keep bool) []byte {
	b := append([]byte(nil), old...)
	if keep {
		return b
	}
	want := protective(sectors)
	for i := range 4 {
		r := mbrRecord(b, i)
		if r[4] == typeGPT && b[510] == 0x55 && b[511] == 0xaa {
			if binary.LittleEndian.Uint32(r[12:]) != binary.LittleEndian.Uint32(want[12:]) {
				want[0] = r[0] // some BIOSes boot only from an "active" record
				copy(r, want)
			}
			return b
		}
	}
	clear(b[mbrRecords : mbrRecords+4*mbrRecordSize])
	copy(mbrRecord(b, 0), want)
	b[510], b[511] = 0x55, 0xaa
	return b
}
