// Package sdstub is the one model of systemd's EFI programs, the stub of unified kernel images
// before all: which sections it knows, what it measures under which number, how it reads a command
// line, and how its releases differ. Packages uki and tpm read it here, so that they cannot
// disagree.
//
// Each table names its source. Releases 252 to 262 are known; [Releases] says what of each was seen
// in the event log of a real boot and what was read only.
package sdstub
