// Package machineflags are the flags that say what is known of a machine that is off, each of which
// is one field of [upgrade.Machine]. What they do not say is not known, and passes nothing.
package machineflags

import (
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
)

// MaxStore bounds the file of a variable store.
const MaxStore = 64 << 20

// EFIVarFS is where Linux shows the variables of firmware.
const EFIVarFS = "/sys/firmware/efi/efivars"

// Known are the flags.
type Known struct {
	NoLoaderVariables                   bool
	Vars                                string
	PCRKeys                             cli.List
	NothingSealed, NoSecureBoot, NoShim bool
	Firmware, ESPID                     string
	AssumeLoader                        int
}

// Flags declares them.
func (k *Known) Flags(set *flag.FlagSet) {
	set.StringVar(&k.Vars, "vars", "", "of a machine that is off: its variable store (OVMF_VARS.fd), a `file`; or a copy of efivarfs, a directory; or efivarfs, this machine's")
	set.BoolVar(&k.NoLoaderVariables, "no-loader-variables", false, "of a machine that is off: no variable chooses an entry of the loader")
	set.Var(&k.PCRKeys, "pcr-key", "PEM `file` with an RSA key to whose signed PCR policies secrets are sealed; may be repeated")
	set.BoolVar(&k.NothingSealed, "nothing-sealed", false, "no secret is sealed to a signed PCR policy")
	set.BoolVar(&k.NoSecureBoot, "no-secure-boot", false, "firmware verifies nothing")
	set.BoolVar(&k.NoShim, "no-shim", false, "firmware starts the loader itself, without shim")
	set.StringVar(&k.Firmware, "firmware", "", fmt.Sprintf("`row` of firmware that judges images: one of %v (default: all must agree)", secureboot.Firmwares()))
	set.IntVar(&k.AssumeLoader, "assume-loader", 0, "`release` of systemd-boot, such as 262, as which a loader of an unknown one is treated")
	set.StringVar(&k.ESPID, "esp-id", "", "`GUID` of the partition that is the ESP, of a disk with several")
}

// Check refuses what makes no sense together.
func (k *Known) Check() error {
	switch f := secureboot.Firmware(k.Firmware); {
	case k.PCRKeys != nil && k.NothingSealed:
		return cli.Usagef("-pcr-key and -nothing-sealed contradict each other")
	case f != "" && f != secureboot.FirmwareAny && !slices.Contains(secureboot.Firmwares(), f):
		return cli.Usagef("-firmware %s: want one of %v", f, secureboot.Firmwares())
	case k.AssumeLoader < 0:
		return cli.Usagef("-assume-loader %d: want a release, such as 262", k.AssumeLoader)
	}
	return nil
}

// Off is a machine that is off.
func (k *Known) Off() (m upgrade.Machine, err error) {
	m.Offline = true
	if k.Vars != "" {
		// What is wrong with the variables is not an answer about the disk, so the type of the
		// error is not kept.
		if err := k.readVariables(&m); err != nil {
			return m, fmt.Errorf("-vars %s: %s", k.Vars, strings.TrimPrefix(err.Error(), "secureboot: "))
		}
	}
	if k.NoLoaderVariables {
		if m.Loader != nil {
			return m, cli.Usagef("-no-loader-variables: -vars %s has the variables of the loader", k.Vars)
		}
		m.Loader = &bootloader.Variables{}
	}
	return m, k.Add(&m)
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
func (k *Known) readVariables(m *upgrade.Machine) error {
	name := k.Vars
	if name == "efivarfs" {
		name = EFIVarFS
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	var firmware osmith.FirmwareVariables
	if !info.IsDir() {
		store, err := cli.ReadFile(name, MaxStore)
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

// Add adds what nothing on a machine vouches for.
func (k *Known) Add(m *upgrade.Machine) error {
	m.NothingSealed, m.NoSecureBoot, m.NoShim = k.NothingSealed, k.NoSecureBoot, k.NoShim
	m.FirmwareKind, m.AssumeLoader = secureboot.Firmware(k.Firmware), k.AssumeLoader
	if k.ESPID != "" {
		id, err := osmith.ParseGUID(k.ESPID)
		if err != nil {
			return cli.Usagef("-esp-id: %v", err)
		}
		m.ESP = id
	}
	for _, name := range k.PCRKeys {
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
