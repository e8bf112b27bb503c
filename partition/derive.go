package partition

import (
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// VerityIDs are the partition IDs by which a root hash finds its partitions: the first 128 bits for the data, the
// last 128 bits for the hash tree, without version bits (Discoverable Partitions Specification, "Partition UUIDs").
// The hash must have at least 32 bytes, so that the two do not overlap; else the error matches [ErrRootHash].
func VerityIDs(root []byte) (data, tree osmith.GUID, err error) {
	defer prefix.Add("partition", &err)
	if len(root) < 32 || len(root) > 64 {
		return osmith.GUID{}, osmith.GUID{}, fmt.Errorf("%w: %d bytes, want 32 to 64", ErrRootHash, len(root))
	}
	return osmith.GUID(root[:16]), osmith.GUID(root[len(root)-16:]), nil
}

// Application IDs of systemd-sysupdate (src/sysupdate/sysupdate-partition.c of systemd 262).
var (
	sysupdatePartial = osmith.MustParseGUID("acfaa0c2-da24-460a-9fc9-0bb8fc785219")
	sysupdatePending = osmith.MustParseGUID("80f3d61e-2383-43b9-81f5-ce3793f47d4c")
)

// PartialType is the type that systemd-sysupdate gives a partition of type t while it is being written: nothing that
// looks for t finds half of it.
func PartialType(t osmith.GUID) osmith.GUID { return derive(t, sysupdatePartial) }

// PendingType is the type of a partition that is complete but not yet to be used.
func PendingType(t osmith.GUID) osmith.GUID { return derive(t, sysupdatePending) }

// derive is HMAC-SHA256 with the type as key, cut to 16 bytes and marked as a version 4 UUID; all bytes in text order.
func derive(t, app osmith.GUID) osmith.GUID { return seedGUID(t, app[:]) }
