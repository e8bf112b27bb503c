package main

import (
	"errors"
	"flag"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/uki"
)

// Kinds of what can be inspected.
const (
	kindImage   = "image"
	kindAddon   = "addon"
	kindProfile = "profile"
)

var kindNames = map[string]string{kindImage: "unified kernel image", kindAddon: "add-on", kindProfile: "profile to be joined"}

// addAssume declares the flag for what is known of a stub that does not say its version, or says
// one that is too new.
func addAssume(set *flag.FlagSet) *int {
	return set.Int("assume-stub", 0, "systemd `release`, such as 257, to treat the stub as if nothing is known of its own")
}

// openUKI opens a file as a unified kernel image, whose stub is treated as that of a release if
// nothing is known of its own.
func openUKI(c *cli.Call, name string, assume int) (*cli.Input, *uki.File, error) {
	src, err := c.Open(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := uki.Open(src)
	if err != nil {
		return nil, nil, about{name, err}
	}
	return src, f.AssumeStub(assume), nil
}

// openAny opens an image, as openUKI does, an add-on, or a profile alone.
func openAny(c *cli.Call, name string, assume int) (src *cli.Input, f *uki.File, kind string, err error) {
	if src, err = c.Open(name); err != nil {
		return nil, nil, "", err
	}
	f, err = uki.Open(src)
	if err == nil {
		return src, f.AssumeStub(assume), kindImage, nil
	}
	if errors.Is(err, uki.ErrNotUKI) {
		// A profile has what an add-on has, and its .profile besides.
		if f, err := uki.OpenProfile(src); err == nil {
			return src, f, kindProfile, nil
		}
		if f, err := uki.OpenAddon(src); err == nil {
			return src, f, kindAddon, nil
		}
	}
	return nil, nil, "", about{name, err}
}
