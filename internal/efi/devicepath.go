package efi

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
)

// eachNode calls do for the nodes of an EFI_DEVICE_PATH_PROTOCOL (UEFI 2.10, section 10.3) until do
// says that this is enough. It reports whether there was no node that cannot be one.
func eachNode(path []byte, do func(kind, sub byte, data []byte) bool) (whole bool) {
	for len(path) >= 4 {
		size := int(binary.LittleEndian.Uint16(path[2:]))
		if size < 4 || size > len(path) {
			return false
		}
		if path[0]&0x7f == pathEnd && path[1] == 0xff || !do(path[0], path[1], path[4:size]) {
			return true
		}
		path = path[size:]
	}
	return true
}

// PathText is a device path as text, nodes separated by slashes, in the notation of UEFI 2.10,
// section 10.6: for example PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,…)/\EFI\BOOT\BOOTX64.EFI. A node of
// an unknown kind is Path(type,subtype,bytes); what cannot be a node ends the text with "…".
// The path may contain anything: the text is not safe to print.
func PathText(path []byte) string {
	var nodes []string
	whole := eachNode(path, func(kind, sub byte, data []byte) bool {
		if kind&0x7f == pathEnd {
			nodes = append(nodes, ",") // the end of one instance
		} else {
			nodes = append(nodes, nodeText(kind, sub, data))
		}
		return true
	})
	if !whole {
		nodes = append(nodes, "…")
	}
	return strings.Join(nodes, "/")
}

// PathFile is the path of the file that a device path ends in, "" if it names none; as unsafe.
func PathFile(path []byte) (file string) {
	eachNode(path, func(kind, sub byte, data []byte) bool {
		if kind == PathMedia && sub == 4 {
			file += DecodeUTF16(data)
		}
		return kind&0x7f != pathEnd
	})
	return file
}

// PathPartition is the unique ID of the GPT partition that a device path leads through; false if it
// leads through none.
func PathPartition(path []byte) (id osmith.GUID, ok bool) {
	h, ok := PathHardDrive(path)
	return h.ID, ok
}

// Types of nodes.
const (
	pathHardware  = 1
	pathACPI      = 2
	pathMessaging = 3
	PathMedia     = 4
	pathBBS       = 5
	pathEnd       = 0x7f
)

// nodeText is the text of one node. data are its bytes behind the header.
func nodeText(kind, sub byte, data []byte) string {
	le := binary.LittleEndian
	type node struct {
		kind, sub byte
		size      int // that the node has at least
	}
	is := func(k, s byte, size int) bool { return node{kind, sub, 0} == node{k, s, 0} && len(data) >= size }
	switch {
	case is(pathHardware, 1, 2):
		return fmt.Sprintf("Pci(0x%x,0x%x)", data[1], data[0])
	case is(pathHardware, 3, 20):
		return fmt.Sprintf("MemoryMapped(0x%x,0x%x,0x%x)", le.Uint32(data), le.Uint64(data[4:]), le.Uint64(data[12:]))
	case is(pathHardware, 4, 16):
		return "VenHw(" + vendorText(data) + ")"
	case is(pathHardware, 5, 4):
		return fmt.Sprintf("Ctrl(0x%x)", le.Uint32(data))
	case is(pathACPI, 1, 8):
		return acpiText(le.Uint32(data), le.Uint32(data[4:]))
	case is(pathACPI, 2, 12):
		return fmt.Sprintf("AcpiEx(0x%08x,0x%08x,0x%x)", le.Uint32(data), le.Uint32(data[8:]), le.Uint32(data[4:]))
	case is(pathACPI, 3, 4):
		return fmt.Sprintf("AcpiAdr(0x%x)", le.Uint32(data))
	case kind == pathMessaging:
		return messagingText(sub, data)
	case is(PathMedia, 1, hardDriveSize):
		return hardDriveText(data)
	case is(PathMedia, 2, 20):
		return fmt.Sprintf("CDROM(0x%x,0x%x,0x%x)", le.Uint32(data), le.Uint64(data[4:]), le.Uint64(data[12:]))
	case is(PathMedia, 3, 16):
		return "VenMedia(" + vendorText(data) + ")"
	case is(PathMedia, 4, 0):
		return DecodeUTF16(data)
	case is(PathMedia, 6, 16):
		return "FvFile(" + GUID(data).String() + ")"
	case is(PathMedia, 7, 16):
		return "Fv(" + GUID(data).String() + ")"
	case is(PathMedia, 8, 20):
		return fmt.Sprintf("Offset(0x%x,0x%x)", le.Uint64(data[4:]), le.Uint64(data[12:]))
	case is(PathMedia, 9, 34):
		return fmt.Sprintf("RamDisk(0x%x,0x%x,%d,%s)", le.Uint64(data), le.Uint64(data[8:]), le.Uint16(data[32:]), GUID(data[16:]))
	case is(pathBBS, 1, 4):
		return fmt.Sprintf("BBS(0x%x,%s)", le.Uint16(data), strings.TrimRight(string(data[4:]), "\x00"))
	}
	return fmt.Sprintf("Path(%d,%d,%s)", kind, sub, hexShort(data))
}

func acpiText(hid, uid uint32) string {
	switch hid {
	case 0x0a0341d0:
		return fmt.Sprintf("PciRoot(0x%x)", uid)
	case 0x0a0841d0:
		return fmt.Sprintf("PcieRoot(0x%x)", uid)
	case 0x060441d0:
		return fmt.Sprintf("Floppy(0x%x)", uid)
	case 0x030141d0:
		return fmt.Sprintf("Keyboard(0x%x)", uid)
	case 0x050141d0:
		return fmt.Sprintf("Serial(0x%x)", uid)
	}
	if hid&0xffff == 0x41d0 {
		return fmt.Sprintf("Acpi(PNP%04X,0x%x)", hid>>16, uid)
	}
	return fmt.Sprintf("Acpi(0x%08x,0x%x)", hid, uid)
}

// messagingText is a node of type 3.
func messagingText(sub byte, data []byte) string {
	le := binary.LittleEndian
	switch {
	case sub == 1 && len(data) >= 4:
		return fmt.Sprintf("Ata(%s,%s,0x%x)", pick(data[0], "Primary", "Secondary"), pick(data[1], "Master", "Slave"), le.Uint16(data[2:]))
	case sub == 2 && len(data) >= 4:
		return fmt.Sprintf("Scsi(0x%x,0x%x)", le.Uint16(data), le.Uint16(data[2:]))
	case sub == 3 && len(data) >= 20:
		return fmt.Sprintf("Fibre(0x%x,0x%x)", le.Uint64(data[4:]), le.Uint64(data[12:]))
	case sub == 5 && len(data) >= 2:
		return fmt.Sprintf("USB(0x%x,0x%x)", data[0], data[1])
	case sub == 10 && len(data) >= 16:
		return "VenMsg(" + vendorText(data) + ")"
	case sub == 11 && len(data) >= 33:
		n := 6 // of 32 bytes, as many as the interface has
		if data[32] > 1 {
			n = 32
		}
		return fmt.Sprintf("MAC(%x,0x%x)", data[:n], data[32])
	case sub == 12 && len(data) >= 8:
		return fmt.Sprintf("IPv4(%d.%d.%d.%d)", data[4], data[5], data[6], data[7])
	case sub == 13 && len(data) >= 32:
		return fmt.Sprintf("IPv6(%x)", data[16:32])
	case sub == 15 && len(data) >= 7:
		return fmt.Sprintf("UsbClass(0x%x,0x%x,0x%x,0x%x,0x%x)", le.Uint16(data), le.Uint16(data[2:]), data[4], data[5], data[6])
	case sub == 17 && len(data) >= 1:
		return fmt.Sprintf("Unit(0x%x)", data[0])
	case sub == 18 && len(data) >= 6:
		return fmt.Sprintf("Sata(0x%x,0x%x,0x%x)", le.Uint16(data), le.Uint16(data[2:]), le.Uint16(data[4:]))
	case sub == 20 && len(data) >= 2:
		return fmt.Sprintf("Vlan(%d)", le.Uint16(data))
	case sub == 23 && len(data) >= 12:
		var eui []string
		for i := range 8 {
			eui = append(eui, fmt.Sprintf("%02X", data[11-i]))
		}
		return fmt.Sprintf("NVMe(0x%x,%s)", le.Uint32(data), strings.Join(eui, "-"))
	case sub == 24:
		return "Uri(" + string(data) + ")"
	case sub == 25 && len(data) >= 2:
		return fmt.Sprintf("UFS(0x%x,0x%x)", data[0], data[1])
	case sub == 26 && len(data) >= 1:
		return fmt.Sprintf("SD(0x%x)", data[0])
	case sub == 29 && len(data) >= 1:
		return fmt.Sprintf("eMMC(0x%x)", data[0])
	}
	return fmt.Sprintf("Path(%d,%d,%s)", pathMessaging, sub, hexShort(data))
}

func hardDriveText(data []byte) string {
	le := binary.LittleEndian
	number, start, size := le.Uint32(data), le.Uint64(data[4:]), le.Uint64(data[12:])
	switch data[37] { // what the signature is
	case 1:
		return fmt.Sprintf("HD(%d,MBR,0x%08x,0x%x,0x%x)", number, le.Uint32(data[20:]), start, size)
	case 2:
		return fmt.Sprintf("HD(%d,GPT,%s,0x%x,0x%x)", number, GUID(data[20:]), start, size)
	}
	return fmt.Sprintf("HD(%d,%d,0,0x%x,0x%x)", number, data[37], start, size)
}

func vendorText(data []byte) string {
	guid := GUID(data).String()
	if len(data) == 16 {
		return guid
	}
	return guid + "," + hexShort(data[16:])
}

func pick(b byte, zero, other string) string {
	if b == 0 {
		return zero
	}
	return other
}

func hexShort(b []byte) string {
	const show = 32
	if len(b) > show {
		return hex.EncodeToString(b[:show]) + "…"
	}
	return hex.EncodeToString(b)
}
