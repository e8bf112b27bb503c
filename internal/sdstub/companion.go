package sdstub

import "math"

// MaxCompanion is the largest file beside a UKI, in bytes, that the stub hands over: it packs them
// into cpio archives, whose sizes have 32 bits (systemd 262, src/boot/cpio.c).
const MaxCompanion = math.MaxUint32
