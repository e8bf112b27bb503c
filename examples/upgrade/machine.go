package main

import (
	"cmp"
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity/dm"
)

// maxStore bounds the file of a variable store.
const maxStore = 64 << 20

// efivarfs is where Linux shows the variables of firmware.
const efivarfs = "/sys/firmware/efi/efivars"

// known are the flags about the machine. Each is one field of [upgrade.Machine], or says where some
// are read.
type known struct {
	offline, noLoaderVariables          bool
	copied, vars                        string
	pcrKeys                             cli.List
	nothingSealed, noSecureBoot, noShim bool
	firmware, espID                     string
	assumeLoader                        int
}

func (k *known) flags(set *flag.FlagSet) {
	set.BoolVar(&k.offline, "offline", false, "the machine is switched off, or the disk is in none: nothing runs from it")
	set.StringVar(&k.copied, "machine", "", "`directory` with a copy of the files by which a machine that runs is read (default: this machine)")
	set.StringVar(&k.vars, "vars", "", "of a machine that is off: its variable store (OVMF_VARS.fd), a `file`; or a copy of efivarfs, a directory; or efivarfs, this machine's")
	set.BoolVar(&k.noLoaderVariables, "no-loader-variables", false, "of a machine that is off: no variable chooses an entry of the loader")
	set.Var(&k.pcrKeys, "pcr-key", "PEM `file` with an RSA key to whose signed PCR policies secrets are sealed; may be repeated")
	set.BoolVar(&k.nothingSealed, "nothing-sealed", false, "no secret is sealed to a signed PCR policy")
	set.BoolVar(&k.noSecureBoot, "no-secure-boot", false, "firmware verifies nothing")
	set.BoolVar(&k.noShim, "no-shim", false, "firmware starts the loader itself, without shim")
	set.StringVar(&k.firmware, "firmware", "", fmt.Sprintf("`row` of firmware that judges images: one of %v (default: all must agree)", secureboot.Firmwares()))
	set.IntVar(&k.assumeLoader, "assume-loader", 0, "`release` of systemd-boot, such as 262, as which a loader of an unknown one is treated")
	set.StringVar(&k.espID, "esp-id", "", "`GUID` of the partition that is the ESP, of a disk with several")
}

// check refuses what makes no sense together.
func (k *known) check() error {
	switch f := secureboot.Firmware(k.firmware); {
	case k.offline && k.copied != "":
		return cli.Usagef("-offline and -machine: a machine whose files were read was on")
	case k.pcrKeys != nil && k.nothingSealed:
		return cli.Usagef("-pcr-key and -nothing-sealed contradict each other")
	case f != "" && f != secureboot.FirmwareAny && !slices.Contains(secureboot.Firmwares(), f):
		return cli.Usagef("-firmware %s: want one of %v", f, secureboot.Firmwares())
	case k.assumeLoader < 0:
		return cli.Usagef("-assume-loader %d: want a release, such as 262", k.assumeLoader)
	}
	return nil
}

// read reads a machine that runs.
func (k *known) read(c *cli.Call, s *subject) (m upgrade.Machine, err error) {
	if k.vars != "" || k.noLoaderVariables {
		return m, cli.Usagef("-vars and -no-loader-variables are for a machine that is off (-offline), and this one is read")
	}
	root := cmp.Or(k.copied, "/")
	var o upgrade.ReadMachineOptions
	if root == "/" {
		o.Verity = dm.Active
	}
	read, err := upgrade.ReadMachine(os.DirFS(root), o)
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is no machine that EFI firmware has started: there is nothing of it in %s", root, filepath.Join(root, efivarfs))
	}
	if err != nil {
		return m, err
	}
	for _, err := range read.Unread {
		fmt.Fprintf(c.Stderr, "upgrade: not known of the machine: %v\n", err)
		s.Unread = append(s.Unread, err.Error())
	}
	return read.Machine, k.add(&read.Machine)
}

// off is a machine that is off.
func (k *known) off() (m upgrade.Machine, err error) {
	m.Offline = true
	if k.vars != "" {
		// What is wrong with the variables is no answer about the disk, so the type of the error is
		// not kept.
		if err := k.readVariables(&m); err != nil {
			return m, fmt.Errorf("-vars %s: %s", k.vars, strings.TrimPrefix(err.Error(), "secureboot: "))
		}
	}
	if k.noLoaderVariables {
		if m.Loader != nil {
			return m, cli.Usagef("-no-loader-variables: -vars %s has the variables of the loader", k.vars)
		}
		m.Loader = &bootloader.Variables{}
	}
	return m, k.add(&m)
}

// loaderOf has the variables of the loader that a store keeps. Where it keeps none, a person says
// so (-no-loader-variables).
func loaderOf(store []byte, m *upgrade.Machine) error {
	image, err := bootloader.ParseVariableImage(store)
	if err != nil {
		return err
	}
	loader, err := bootloader.ReadVariables(image)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(loader.Problems...)
	}
	if err == nil && loader.Variables != (bootloader.Variables{}) {
		m.Loader = &loader.Variables
	}
	return err
}

// readVariables reads a variable store or efivarfs.
func (k *known) readVariables(m *upgrade.Machine) error {
	name := k.vars
	if name == "efivarfs" {
		name = efivarfs
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	var firmware osmith.FirmwareVariables
	if !info.IsDir() {
		store, err := cli.ReadFile(name, maxStore)
		if err != nil {
			return err
		}
		if firmware, err = secureboot.ParseStore(store); err != nil {
			return err
		}
		m.Firmware = &firmware
		return loaderOf(store, m)
	}
	if firmware, err = secureboot.ReadVariables(os.DirFS(name)); err != nil {
		return err
	}
	loader, err := bootloader.ReadVariables(os.DirFS(name))
	if err != nil {
		return err
	}
	if err := errors.Join(loader.Problems...); err != nil {
		return err
	}
	m.Firmware, m.Loader = &firmware, &loader.Variables
	return nil
}

// add adds what nothing on a machine vouches for.
func (k *known) add(m *upgrade.Machine) error {
	m.NothingSealed, m.NoSecureBoot, m.NoShim = k.nothingSealed, k.noSecureBoot, k.noShim
	m.FirmwareKind, m.AssumeLoader = secureboot.Firmware(k.firmware), k.assumeLoader
	if k.espID != "" {
		id, err := osmith.ParseGUID(k.espID)
		if err != nil {
			return cli.Usagef("-esp-id: %v", err)
		}
		m.ESP = id
	}
	for _, name := range k.pcrKeys {
		key, err := cli.ReadPublicKey(name)
		if err != nil {
			return err
		}
		public, ok := key.(*rsa.PublicKey)
		if !ok {
			return fmt.Errorf("-pcr-key %s: it is a %T, and PCR policies are signed with RSA", name, key)
		}
		m.PCRKeys = append(m.PCRKeys, public)
	}
	return nil
}
