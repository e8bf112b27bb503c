package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// bootJSON is a boot, as BOOT.json describes it. Keys that are left out mean that there is no such
// thing; firmware, disk, smbios and variables that are left out mean that it is not known. The
// chain of programs is shim, then loader or grub, then uki or kernel, as far as they are given.
type bootJSON struct {
	Firmware string `json:"firmware"` // log of an earlier boot of the machine
	// directory with efivarfs' files; without it PCR 7 is that of firmware, if given
	Variables string `json:"variables"`
	SMBIOS    string `json:"smbios"` // /sys/firmware/dmi/tables/DMI
	// image or device that is booted from, for its partition table
	Disk       string `json:"disk"`
	SectorSize int    `json:"sectorSize"` // of the disk in bytes; detected if left out
	// which firmware starts, and which starts the next program
	Shim     string `json:"shim"`
	ShimPath string `json:"shimPath"` // on the ESP, for the reader of the log
	// shim's variables are left from earlier, and firmware starts the loader
	NoShim     bool     `json:"noShim"`
	Loader     string   `json:"loader"`     // systemd-boot
	LoaderPath string   `json:"loaderPath"` // on the ESP, for the reader of the log
	LoaderConf string   `json:"loaderConf"` // loader.conf
	GRUB       string   `json:"grub"`       // GRUB, in the place of systemd-boot
	GRUBPath   string   `json:"grubPath"`   // on the ESP, for the reader of the log
	Kernel     string   `json:"kernel"`     // of a Type #1 entry or GRUB, in the place of a UKI
	KernelPath string   `json:"kernelPath"` // on the ESP, for the reader of the log
	Initrds    []string `json:"initrds"`    // of a Type #1 entry, in its order
	UKI        string   `json:"uki"`
	UKIPath    string   `json:"ukiPath"` // on the ESP; its companions are looked for beside it
	ESP        string   `json:"esp"`     // directory with the ESP's files, for companions
	Profile    int      `json:"profile"`
	// passed by the loader; of a Type #1 entry "initrd=\\initrd.img quiet", as systemd-boot makes
	// it
	Cmdline    string   `json:"cmdline"`
	Consoles   []string `json:"consoles"`   // "console=…" that stubs since 261 add; []: none
	BootSecret string   `json:"bootSecret"` // 32 bytes that stubs since 261 pass on
	// the stub has none: no variable, or no mixin on the ESP
	NoSecret   bool   `json:"noBootSecret"`
	DeviceTree string `json:"deviceTree"` // first compatible string of the firmware's own
	ExitBoot   string `json:"exitBoot"`   // "once", "retried" or "not measured"
	// of userspace, up to the moment of interest; left out: those of userspace's log, if there is
	// one
	Phases     []string `json:"phases"`
	Banks      []string `json:"banks"`  // sha256 if left out
	AssumeStub int      `json:"stubAs"` // release to treat an unknown stub as

	// what systemd measures beside the phases; left out: not known
	Userspace *userspaceJSON `json:"userspace"`

	// GRUBFiles are the files that GRUB reads, by the names that it has for them:
	// "(hd0,gpt1)/EFI/debian/grub.cfg", "/vmlinuz". What it measures is that of firmware's boot, if
	// the files are the same; or is worked out, if GRUBConfig is there, the name of its
	// configuration. Then GRUBDevices are the devices of file systems by UUID, GRUBVariables what
	// this machine's GRUB sets beside the usual variables, GRUBEntry the menu entry if it is not
	// the default, and FirmwareSetup says whether firmware has a setup menu.
	GRUBFiles     map[string]string `json:"grubFiles"`
	GRUBConfig    string            `json:"grubConfig"`
	GRUBDevices   map[string]string `json:"grubDevices"`
	GRUBVariables map[string]string `json:"grubVariables"`
	GRUBEntry     string            `json:"grubEntry"`
	FirmwareSetup *bool             `json:"firmwareSetup"`
}

// bootFile is one boot, or several any of which may happen.
type bootFile struct {
	Schema string `json:"schema"` // "osmith.boot/1", or left out
	bootJSON
	Boots []bootJSON `json:"boots"`
}

// relativeTo is a path that a file names, for the working directory.
func relativeTo(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// readBoots reads BOOT.json. Paths in it become relative to the working directory.
func readBoots(name string) ([]bootJSON, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var f bootFile
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if f.Schema != "" && f.Schema != "osmith.boot/1" {
		return nil, fmt.Errorf("%s: schema %q, want osmith.boot/1", name, f.Schema)
	}
	boots := f.Boots
	if f.UKI != "" || f.Kernel != "" {
		boots = append([]bootJSON{f.bootJSON}, boots...)
	}
	if len(boots) == 0 {
		return nil, fmt.Errorf("%s: no boot: want \"uki\", \"kernel\" or \"boots\"", name)
	}
	for i := range boots {
		b := &boots[i]
		if (b.UKI == "") == (b.Kernel == "") {
			return nil, fmt.Errorf("%s: boot %d: want one of \"uki\" and \"kernel\"", name, i)
		}
		if b.Loader != "" && b.GRUB != "" {
			return nil, fmt.Errorf("%s: boot %d: want one of \"loader\" and \"grub\"", name, i)
		}
		for _, p := range []*string{&b.Firmware, &b.Variables, &b.SMBIOS, &b.Disk, &b.Shim, &b.Loader, &b.LoaderConf, &b.GRUB, &b.Kernel, &b.UKI, &b.ESP, &b.BootSecret} {
			*p = relativeTo(name, *p)
		}
		for k := range b.Initrds {
			b.Initrds[k] = relativeTo(name, b.Initrds[k])
		}
		for k, p := range b.GRUBFiles {
			b.GRUBFiles[k] = relativeTo(name, p)
		}
		if b.Userspace != nil {
			b.Userspace.Log = relativeTo(name, b.Userspace.Log)
		}
	}
	return boots, nil
}
