package bootloader

import "errors"

// What a caller may want to branch on.
var (
	ErrNotLoader     = errors.New("not a systemd-boot binary")
	ErrNotCounted    = errors.New("not booted with boot counting")
	ErrAlreadyBad    = errors.New("was marked bad before this boot")
	ErrNoEntry       = errors.New("none of the names an entry can have after this boot exists")
	ErrTwinExists    = errors.New("counted and uncounted names of one entry both exist")
	ErrName          = errors.New("not usable as the name of a boot entry")
	ErrConfigValue   = errors.New("value that systemd-boot would ignore")
	ErrConfigKey     = errors.New("not a key that systemd-boot has")
	ErrUnreadable    = errors.New("cannot be read, so that it is not known whether the loader lists it")
	ErrMissingLoader = errors.New("no boot loader given")
)
