package bootloader

import "errors"

// What a caller may want to branch on.
var (
	ErrNotLoader     = errors.New("not a systemd-boot binary")
	ErrNotCounted    = errors.New("not booted with boot counting")
	ErrAlreadyBad    = errors.New("was marked bad before this boot")
	ErrNoEntry       = errors.New("no file has a name that this entry can have after this boot")
	ErrTwinExists    = errors.New("the entry exists both with and without a boot counter")
	ErrName          = errors.New("not a valid name for a boot entry")
	ErrConfigValue   = errors.New("systemd-boot would ignore this value")
	ErrConfigKey     = errors.New("not a key of systemd-boot")
	ErrUnreadable    = errors.New("unreadable, so whether the loader lists it is unknown")
	ErrMissingLoader = errors.New("no boot loader given")
)
