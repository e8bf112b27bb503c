package uki

import (
	"strings"

	"github.com/osmith-dev/osmith"
)

// maxEntryExtra is the size above which systemd-boot ignores a file.
const maxEntryExtra = 1536 << 20

// EntryExtras predicts what systemd-boot, since release 261, makes of the files that the "extra" lines of a Boot Loader
// Specification entry for a unified kernel image name: events that it measures before the image starts, and an initrd,
// which is [Boot].Previous for the image's stub. files are in the order of the lines, with their plain names; previous is
// an initrd that has been set up even before, or nil. Credentials, *.sysext.raw and *.confext.raw are taken; others and
// empty files are ignored, and so is previous if nothing is taken: it then stays as it is. (systemd 262, src/boot/boot.c,
// load_extras.)
func EntryExtras(files []CompanionFile, previous osmith.Source) (*Handover, error) {
	kinds := []struct {
		suffix, event string
		target        *cpioTarget
		archive       *cpioWriter
	}{
		{".cred", "Entry credentials initrd", &cpioCredentials, nil},
		{".sysext.raw", "Entry system extension initrd", &cpioSysexts, nil},
		{".confext.raw", "Entry configuration extension initrd", &cpioConfexts, nil},
	}
	inode := new(uint32) // the archives count in common
	for _, f := range files {
		for i := range kinds {
			k := &kinds[i]
			if !strings.HasSuffix(strings.ToLower(f.Name), k.suffix) {
				continue
			}
			if !plainName(f.Name) || f.Content != nil && (f.Content.Size() == 0 || f.Content.Size() > maxEntryExtra) {
				break
			}
			if k.archive == nil {
				k.archive = &cpioWriter{new(view), inode}
			}
			k.archive.directories(k.target) // once more for each file
			if err := k.archive.file(k.target, f); err != nil {
				return nil, err
			}
			break
		}
	}
	h := new(Handover)
	for _, k := range kinds {
		if k.archive == nil {
			continue
		}
		k.archive.trailer()
		h.Events = append(h.Events, StubEvent{Kind: osmith.HandoverArchive, PCR: k.target.pcr, Description: k.event, Data: k.archive.view})
		if len(h.Initrds) == 0 && previous != nil && previous.Size() > 0 {
			h.Initrds = append(h.Initrds, InitrdPart{"previous initrd", previous})
		}
		h.Initrds = append(h.Initrds, InitrdPart{k.event, k.archive.view})
	}
	return h, nil
}
