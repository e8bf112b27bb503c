package upgrade

import (
	"io/fs"
	"path"
	"strings"

	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
	"github.com/osmith-dev/osmith/verity/dm"
)

// effective is the command line that the kernel gets, as the stub joins it of the UKI's own,
// add-ons and SMBIOS, and the add-ons that it is made of.
type effective struct {
	companions *uki.Companions // without the add-ons that firmware refuses
	addons     []*image        // that firmware starts, in the stub's order
	left       []error         // why others are not started
	handover   *uki.Handover
	err        error
}

// effectiveCmdline joins the command line of a profile. passed is what the boot loader passes, of a
// Type #1 entry.
func (m *Machine) effectiveCmdline(f *uki.File, profile int, passed string, beside *uki.Companions) *effective {
	e := &effective{companions: &uki.Companions{}}
	if beside != nil {
		c := *beside
		e.companions = &c
	}
	for _, list := range []*[]uki.CompanionFile{&e.companions.GlobalAddons, &e.companions.Addons} {
		var started []uki.CompanionFile
		for _, file := range *list {
			im, err := m.examine("add-on "+file.Name, file.Content)
			if err == nil {
				err = im.refused()
			}
			if err != nil {
				e.left = append(e.left, err)
				continue
			}
			started = append(started, file)
			e.addons = append(e.addons, im)
		}
		*list = started
	}
	variables, _ := m.variables()
	b := uki.Boot{Profile: profile, Cmdline: passed, Companions: e.companions,
		SecureBoot: len(variables.SecureBoot) == 1 && variables.SecureBoot[0] == 1}
	if m.Hardware != nil {
		b.Hardware = *m.Hardware
	}
	e.handover, e.err = f.Handover(b)
	return e
}

// matters reports whether anything but the UKI itself has a part in what the kernel gets.
func (e *effective) matters() bool {
	c := e.companions
	for _, list := range [][]uki.CompanionFile{c.Credentials, c.GlobalCredentials, c.Sysexts, c.GlobalSysexts, c.Confexts, c.GlobalConfexts, c.Addons, c.GlobalAddons} {
		if len(list) > 0 {
			return true
		}
	}
	return e.handover != nil && len(e.handover.Events) > 0
}

// rootHashes are the root hashes of a command line, that of /usr first.
func rootHashes(cmdline string) (list [][]byte) {
	c, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return nil
	}
	for _, v := range []dm.Volume{c.Usr, c.Root} {
		if v.RootHash != nil {
			list = append(list, v.RootHash)
		}
	}
	return list
}

// extraDir is where the stub looks for files beside a UKI, whatever its boot counter
// (systemd-stub(7), "Companion Files").
func extraDir(image string) string { return uncounted(image) + ".extra.d" }

// extraFiles lists the files beside a UKI.
func extraFiles(fsys fs.FS, image string) (files []espFile, err error) {
	dir := extraDir(image)
	list, err := listDir(fsys, dir)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		if f.IsDir() {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return nil, err
		}
		files = append(files, espFile{path.Join(dir, f.Name()), info.Size(), StepRemoveAddon})
	}
	return files, nil
}

func isAddon(name string) bool { return strings.HasSuffix(strings.ToLower(name), osset.AddonSuffix) }
