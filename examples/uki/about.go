package main

import (
	"errors"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/uki"
)

// about names the file that an error is about. The package's name in front of the error is that of
// the program, which is said already.
type about struct {
	name string
	err  error
}

func (a about) Error() string {
	return a.name + ": " + prefix.Bare(a.err).Error()
}

// Unwrap keeps what the error is.
func (a about) Unwrap() error { return a.err }

// cannot is for an input that a verb cannot work on, which is not an answer of the verb, so that
// there is nothing to unwrap.
func cannot(name string, err error) error { return unanswered{about{name, err}} }

type unanswered struct{ about about }

func (u unanswered) Error() string { return u.about.Error() }

// flagOf names the flag that each part of an image comes from.
var flagOf = map[string]string{
	"Stub": "-stub", "Linux": "-linux", "Initrd": "-initrd", "Cmdline": "-cmdline", "OSRelease": "-os-release", "Uname": "-uname",
	"Splash": "-splash", "Microcode": "-microcode", "DeviceTree": "-devicetree", "DeviceTreeAuto": "-devicetree-auto", "HWIDs": "-hwids",
	"Firmware": "-efifw", "SBAT": "-sbat", "PCRPublicKey": "-pcr-public-key", "Sections": "-section", "Profile": "-profile",
}

// byFlag says the flag instead of the part that package uki does not take.
func byFlag(err error) error {
	var part *uki.PartError
	if errors.As(err, &part) && flagOf[part.Part] != "" {
		return cannot(flagOf[part.Part], part.Err)
	}
	return err
}
