package main

import (
	"errors"

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

// openUKI opens a file as a unified kernel image.
func openUKI(c *cli.Call, name string) (*cli.Input, *uki.File, error) {
	src, err := c.Open(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := uki.Open(src)
	if err != nil {
		return nil, nil, about{name, err}
	}
	return src, f, nil
}

// openAny opens an image, an add-on, or a profile alone.
func openAny(c *cli.Call, name string) (src *cli.Input, f *uki.File, kind string, err error) {
	if src, err = c.Open(name); err != nil {
		return nil, nil, "", err
	}
	f, err = uki.Open(src)
	if err == nil {
		return src, f, kindImage, nil
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
