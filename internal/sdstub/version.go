package sdstub

import (
	"bytes"

	"github.com/osmith-dev/osmith"
)

// The programs that have a marker.
const (
	ProgramStub  = "stub"  // of unified kernel images: src/boot/stub.c
	ProgramAddon = "addon" // of add-ons: src/boot/addon.c
	ProgramBoot  = "boot"  // the boot loader: src/boot/boot.c
)

// MaxMarker is how much of a .sdmagic section is enough to read.
const MaxMarker = 256

// VersionOf reads the marker of a program, the content of its .sdmagic section: "#### LoaderInfo: systemd-PROGRAM VERSION ####".
// It is false for anything else, the marker of another program included.
func VersionOf(marker []byte, program string) (osmith.Version, bool) {
	rest, ok := bytes.CutPrefix(marker, []byte("#### LoaderInfo: systemd-"+program+" "))
	version, _, found := bytes.Cut(rest, []byte(" ####"))
	return osmith.Version(version), ok && found && len(version) > 0
}
