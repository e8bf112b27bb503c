// Package varstore reads and rewrites the UEFI variables in a firmware volume of edk2: the
// OVMF_VARS.fd of a virtual machine, or a dump of the flash of hardware whose firmware keeps that
// form (UEFI Platform Initialization Specification 1.8, volume 3, section 3.2.1, and
// MdeModulePkg/Include/Guid/VariableFormat.h of edk2).
//
//	s, err := varstore.Parse(image)
//	db, ok := s.Get("db", vendor)        // db.Data, db.Attributes, db.Time
//	image, err = s.Replace(variables)    // the same volume with other variables
//
// The volume has to begin at byte 0. Both kinds of stores are read, with and without room for
// authentication. Of several copies of a variable that an interrupted update leaves, the one counts
// that the firmware would take. A write that the fault tolerant write block still has to finish is
// not looked at; a machine that was shut down has none.
package varstore
