package main

import (
	"crypto"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/bootloader/grub"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/efi"
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
	secure osmith.FirmwareVariables // zero if they are not given
	shim   *secureboot.Shim
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
	c.out = tpm.Boot{Banks: c.banks, NoShim: c.in.NoShim, ExitBoot: exit, Phases: c.in.Phases, AssumeStub: c.in.AssumeStub}
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
	if c.in.Variables == "" {
		return nil
	}
	dir := os.DirFS(c.in.Variables)
	if c.secure, err = secureboot.ReadVariables(dir); err != nil {
		return err
	}
	c.out.Variables = &c.secure
	c.out.BootVariables, err = readBootVariables(dir)
	return err
}

// program hashes a program, and asks firmware or shim whether it would start it, and why. Without
// variables that is not known.
func (c *composer) program(path string, src osmith.Source) (*tpm.Application, error) {
	im, err := secureboot.ReadImage(src, c.banks...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// shim itself starts the first one behind it, which needs a .sbat
	byProgram := c.shim != nil && len(c.out.Chain) > 1
	return c.started(path, src.Size(), im, secureboot.EvaluateOptions{Shim: c.shim, ByProgram: byProgram, NoShim: c.in.NoShim})
}

// started is the program with what lets it start.
func (c *composer) started(path string, size int64, im secureboot.Image, o secureboot.EvaluateOptions) (*tpm.Application, error) {
	app := &tpm.Application{Path: path, Size: size, Digests: im.Digests}
	if c.out.Variables == nil {
		return app, nil
	}
	verdict := secureboot.Evaluate(c.secure, im, o)
	if !verdict.Allowed {
		return nil, &refusedError{path, verdict.Reason}
	}
	var err error
	app.Authority, err = verdict.AuthorityEvent()
	return app, err
}

// refusedError says that a program would not be started.
type refusedError struct{ path, reason string }

func (e *refusedError) Error() string {
	return fmt.Sprintf("firmware or shim would not start %s: %s", e.path, e.reason)
}

// programs reads the chain, and what it ends with.
func (c *composer) programs() error {
	for _, step := range []func() error{c.addShim, c.addLoader, c.addGRUB} {
		if err := step(); err != nil {
			return err
		}
	}
	if c.in.Kernel != "" {
		return c.kernel()
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

// addShim reads shim, which judges all programs behind it.
func (c *composer) addShim() error {
	if c.in.Shim == "" {
		return nil
	}
	src, err := c.Open(c.in.Shim)
	if err != nil {
		return err
	}
	shim, err := secureboot.ReadShim(src, c.banks...)
	if err != nil {
		return fmt.Errorf("%s: %w", c.in.Shim, err)
	}
	app, err := c.started(or(c.in.ShimPath, fallbackPath(src)), src.Size(), shim.Image, secureboot.EvaluateOptions{NoShim: true})
	if err != nil {
		return err
	}
	c.shim = shim
	c.out.Chain = append(c.out.Chain, &tpm.Shim{Application: *app, Variables: shim.Measured(c.secure)})
	return nil
}

func (c *composer) addLoader() error {
	if c.in.Loader == "" {
		return nil
	}
	src, err := c.Open(c.in.Loader)
	if err != nil {
		return err
	}
	app, err := c.program(or(c.in.LoaderPath, fallbackPath(src)), src)
	if err != nil {
		return err
	}
	loader := &tpm.SystemdBoot{Application: *app}
	if loader.Conf, err = optional(c.in.LoaderConf); err != nil {
		return err
	}
	if loader.Version, err = bootloader.LoaderVersion(src); err != nil {
		return fmt.Errorf("%s: %w", c.in.Loader, err)
	}
	c.out.Chain = append(c.out.Chain, loader)
	return nil
}

func (c *composer) addGRUB() error {
	if c.in.GRUB == "" {
		return nil
	}
	src, err := c.Open(c.in.GRUB)
	if err != nil {
		return err
	}
	app, err := c.program(or(c.in.GRUBPath, fallbackPath(src)), src)
	if err != nil {
		return err
	}
	loader := &tpm.GRUB{Application: *app}
	c.out.Chain = append(c.out.Chain, loader)
	if c.in.GRUBConfig != "" {
		return c.runGRUB(loader, src)
	}
	for _, name := range slices.Sorted(maps.Keys(c.in.GRUBFiles)) {
		digests, err := c.digests(c.in.GRUBFiles[name])
		if err != nil {
			return err
		}
		loader.Files = append(loader.Files, tpm.GRUBFile{Name: name, Digests: digests})
	}
	return nil
}

// runGRUB works out what GRUB does by its configuration.
func (c *composer) runGRUB(loader *tpm.GRUB, src osmith.Source) error {
	open := func(name string) (osmith.Source, error) {
		_, short, _ := strings.Cut(name, ")")
		for _, n := range []string{name, short} {
			if file, ok := c.in.GRUBFiles[n]; ok {
				return c.Open(file)
			}
		}
		return nil, fs.ErrNotExist
	}
	version, err := grub.Version(src)
	if err != nil {
		return err
	}
	boot, err := grub.Run(grub.Environment{
		Version: version, Config: c.in.GRUBConfig, Open: open, Devices: c.in.GRUBDevices, Variables: c.in.GRUBVariables, Entry: c.in.GRUBEntry, FirmwareSetup: c.in.FirmwareSetup,
	}, c.banks...)
	if err != nil {
		return err
	}
	if boot.Chainload != "" && c.in.UKI == "" {
		return fmt.Errorf("GRUB starts %s by chainloader: want it as \"uki\"", boot.Chainload)
	}
	loader.Before, loader.After = boot.Before, boot.After
	if c.in.Kernel != "" {
		c.out.Handover = &osmith.Handover{LoadOptions: boot.LoadOptions, Initrd: boot.Initrd}
	}
	return nil
}

// digests are those of a file's content.
func (c *composer) digests(name string) (map[crypto.Hash][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hashes := map[crypto.Hash]hash.Hash{}
	var all []io.Writer
	for _, h := range c.banks {
		hashes[h] = h.New()
		all = append(all, hashes[h])
	}
	if _, err := io.Copy(io.MultiWriter(all...), f); err != nil {
		return nil, err
	}
	out := map[crypto.Hash][]byte{}
	for h, w := range hashes {
		out[h] = w.Sum(nil)
	}
	return out, nil
}

// kernel reads what a Type #1 entry or GRUB starts without a stub.
func (c *composer) kernel() error {
	src, err := c.Open(c.in.Kernel)
	if err != nil {
		return err
	}
	if c.out.Kernel, err = c.program(or(c.in.KernelPath, `\vmlinuz`), src); err != nil || c.in.GRUB != "" {
		return err
	}
	c.out.Handover = &osmith.Handover{Passed: c.in.Cmdline}
	if c.in.Cmdline != "" {
		c.out.Handover.LoadOptions = efi.AppendUTF16(nil, c.in.Cmdline+"\x00")
	}
	switch len(c.in.Initrds) {
	case 0:
	case 1:
		c.out.Handover.Initrd, err = c.digests(c.in.Initrds[0])
	default:
		c.out.Handover.Unknown = "how the kernel joins several initrds is not known"
	}
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
