package main

import (
	"crypto"
	"fmt"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// composer makes a boot of the parts that the packages know.
type composer struct {
	*cli.Call
	in     bootJSON
	out    tpm.Boot
	banks  []crypto.Hash
	secure osmith.FirmwareVariables
	image  *uki.File
}

// compose reads what a BOOT.json names.
func compose(call *cli.Call, in bootJSON) (tpm.Boot, error) {
	c := &composer{Call: call, in: in}
	for _, step := range []func() error{c.options, c.machine, c.disk, c.programs, c.handover, c.userspace} {
		if err := step(); err != nil {
			return tpm.Boot{}, err
		}
	}
	return c.out, nil
}

// optional reads a small file; no name is no file.
func optional(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	return os.ReadFile(name)
}

func (c *composer) options() (err error) {
	if c.banks, err = parseBanks(strings.Join(c.in.Banks, ",")); err != nil {
		return err
	}
	if c.banks == nil {
		c.banks = []crypto.Hash{crypto.SHA256}
	}
	exits := map[string]tpm.ExitBoot{"": tpm.ExitBootUnknown, "once": tpm.ExitBootOnce, "retried": tpm.ExitBootRetried, "not measured": tpm.ExitBootNotMeasured}
	exit, ok := exits[c.in.ExitBoot]
	if !ok {
		return fmt.Errorf("exitBoot %q: want once, retried or not measured", c.in.ExitBoot)
	}
	c.out = tpm.Boot{Banks: c.banks, ExitBoot: exit, Phases: c.in.Phases, AssumeStub: c.in.AssumeStub}
	return nil
}

// machine reads what is the machine's.
func (c *composer) machine() (err error) {
	if c.in.Firmware != "" {
		if c.out.Firmware, err = readLog(c.in.Firmware, "", ""); err != nil {
			return err
		}
	}
	if c.out.SMBIOS, err = optional(c.in.SMBIOS); err != nil {
		return err
	}
	c.secure.SecureBoot = []byte{0}
	if c.in.Variables != "" {
		dir := os.DirFS(c.in.Variables)
		if c.secure, err = secureboot.ReadVariables(dir); err != nil {
			return err
		}
		if c.out.BootVariables, err = readBootVariables(dir); err != nil {
			return err
		}
	}
	c.out.Variables = &c.secure
	c.out.LoaderConf, err = optional(c.in.LoaderConf)
	return err
}

// program hashes a program, and asks the firmware whether it would start it.
func (c *composer) program(path string, src osmith.Source) (*tpm.Application, error) {
	im, err := secureboot.ReadImage(src, c.banks...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	verdict := secureboot.Evaluate(c.secure, im, secureboot.EvaluateOptions{})
	if !verdict.Allowed {
		return nil, &refusedError{path, verdict.Reason}
	}
	if verdict.Authority != nil {
		authority, err := verdict.Authority.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		c.out.Authorities = append(c.out.Authorities, authority)
	}
	return &tpm.Application{Path: path, Size: src.Size(), Digests: im.Digests}, nil
}

// refusedError says that the firmware would not start a program.
type refusedError struct{ path, reason string }

func (e *refusedError) Error() string {
	return fmt.Sprintf("firmware would not start %s: %s", e.path, e.reason)
}

// programs reads the loader and the UKI.
func (c *composer) programs() error {
	if c.in.Loader != "" {
		src, err := c.Open(c.in.Loader)
		if err != nil {
			return err
		}
		if c.out.Loader, err = c.program(or(c.in.LoaderPath, fallbackPath(src)), src); err != nil {
			return err
		}
	}
	src, err := c.Open(c.in.UKI)
	if err != nil {
		return err
	}
	app, err := c.program(or(c.in.UKIPath, `\EFI\Linux\linux.efi`), src)
	if err != nil {
		return err
	}
	c.out.UKI = *app
	if c.image, err = uki.Open(src); err != nil {
		return err
	}
	c.image = c.image.AssumeStub(c.in.AssumeStub)
	c.out.Stub, err = c.image.StubVersion()
	return err
}

// fallbackPath is where firmware looks for that loader if nothing else is said.
func fallbackPath(loader osmith.Source) string {
	a := arch.X8664
	if f, err := pe.Parse(loader, loader.Size()); err == nil { // what it is instead, program says
		if of, ok := arch.ByMachine(f.Machine); ok {
			a = of
		}
	}
	return strings.ReplaceAll("/"+a.Loader(), "/", `\`)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
