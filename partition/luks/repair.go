package luks

import (
	"bytes"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/superblock"
)

// RepairOptions are the choices of [Volume.Repair].
type RepairOptions struct {
	// OverwriteWhatBeginsThere restores a damaged first copy although a different format begins in
	// its place ([ForeignError]).
	OverwriteWhatBeginsThere bool
}

// Repair makes both copies of the header equal to the copy that counts. It writes only the other
// copy, and nothing if both are good.
func (v *Volume) Repair(o RepairOptions) (err error) {
	defer prefix.Add(pkg, &err)
	if v.disk != nil && !v.broken && !v.h.NeedsRepair() {
		return nil
	}
	end, err := v.begin()
	if err != nil {
		return err
	}
	defer end()
	if !o.OverwriteWhatBeginsThere {
		if err := v.foreign(); err != nil {
			return err
		}
	}
	bad := 1 - v.used
	if v.h.Copies[bad].Differs {
		v.salt[bad] = nil // its salt is of other contents
	}
	whole, err := v.copyOf(v.raw, bad, v.h.JSON)
	if err != nil {
		return err
	}
	v.broken = true
	if err := v.put(whole, int64(bad)*v.h.Size); err != nil {
		return err
	}
	v.salt[bad], v.seen[bad] = bytes.Clone(whole[saltAt:][:len(v.raw.Salt)]), bytes.Clone(whole[:binarySize])
	v.bothGood()
	return nil
}

// foreign finds something else where a damaged first copy would be written.
func (v *Volume) foreign() error {
	if v.h.Copies[0].Err == nil {
		return nil
	}
	// Who finds one at a disk whose second header is whole has most likely a disk that was
	// formatted since.
	found, err := superblock.Find(v.src, 0, v.src.Size())
	if err != nil {
		return err
	}
	for _, s := range found {
		if s.Offset >= 0 && !s.Copy && s.What != superblock.LUKS {
			return &ForeignError{s.What}
		}
	}
	return nil
}
