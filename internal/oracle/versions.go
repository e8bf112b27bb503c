package oracle

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"
)

// Content is the content of a partition, and the ID by which the kernel finds it.
type Content struct {
	ID    GUID
	Bytes []byte
}

// Versions are the versions of a system that a disk may hold.
type Versions struct {
	Sector int                          // of the disk, in bytes
	UKIs   map[[sha256.Size]byte]string // versions by the digests of their UKIs
	// what the path of a UKI that is started must be, such as one with a boot counter; nil:
	// anything
	Path *regexp.Regexp
	// what a version mounts: file system and hash tree; of one that runs from its UKI alone,
	// nothing
	Roots map[string][]Content
}

// Up are the versions that come up, by each firmware, when a machine with this disk is switched on:
// firmware finds the ESP, the loader chooses, and the kernel finds a root file system that is, byte
// by byte, the one of the UKI that was started. An error says which firmware comes up with none.
func (v *Versions) Up(disk io.ReaderAt, size int64) (versions []string, err error) {
	for _, firmware := range []Reader{ReaderEDK2Stable202211, ReaderEDK2Stable202608, ReaderUBoot} {
		version, err := v.up(firmware, disk, size)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", firmware, err)
		}
		versions = append(versions, version)
	}
	return versions, nil
}

func (v *Versions) up(firmware Reader, disk io.ReaderAt, size int64) (string, error) {
	found, err := ReadGPT(firmware, disk, size, v.Sector)
	if err != nil {
		return "", err
	}
	esp, ok := found.Find(ESP)
	if !ok {
		return "", fmt.Errorf("no ESP: %v", found.Rejected)
	}
	after := Apply(disk, found.Writes) // what firmware has put right before the kernel looks
	reader := FATReaderEDK2
	if firmware == ReaderUBoot {
		reader = FATReaderUBoot
	}
	if reader == FATReaderUBoot && v.Sector != 512 {
		return v.up(ReaderEDK2Stable202608, disk, size) // it reads no such volume at all
	}
	open := func(p Partition) (*Volume, error) {
		off, n := v.extent(p)
		return ReadFAT(io.NewSectionReader(after, off, n), n, FATOptions{Reader: reader, SectorSize: v.Sector, NoCheck: true, NoContent: true})
	}
	volume, err := open(esp)
	if err != nil {
		return "", fmt.Errorf("the ESP: %w", err)
	}
	machine, from := Machine{ESP: volume.BootFiles()}, volume
	var apart *Volume
	if extended, ok := found.Find(XBOOTLDR); ok {
		if apart, err = open(extended); err != nil {
			return "", fmt.Errorf("the extended boot loader partition: %w", err)
		}
		machine.XBOOTLDR = apart.BootFiles()
	}
	choice := machine.Boot()
	if choice.Outcome != OutcomeStarted {
		return "", fmt.Errorf("%v", choice)
	}
	name := choice.Image
	if choice.From != "" {
		name = choice.From
	}
	if choice.Entry.XBOOTLDR {
		from = apart
	}
	image, err := from.ReadFile(name)
	if err != nil {
		return "", err
	}
	version, known := v.UKIs[sha256.Sum256(image)]
	if !known {
		return "", fmt.Errorf("%s is no UKI of any version: %v", name, choice)
	}
	if v.Path != nil && !v.Path.MatchString(name) {
		return "", fmt.Errorf("%s, which has version %s, is started: want a path as %v: %v", name, version, v.Path, choice)
	}
	return version, v.mounts(version, after, size)
}

// mounts asks whether the kernel finds what a version mounts.
func (v *Versions) mounts(version string, disk io.ReaderAt, size int64) error {
	kernel, err := ReadGPT(ReaderLinux, disk, size, v.Sector)
	if err != nil {
		return err
	}
	for _, want := range v.Roots[version] {
		i := -1
		for k, part := range kernel.Partitions {
			if part.ID == want.ID {
				i = k
			}
		}
		if i < 0 {
			return fmt.Errorf("version %s is started, and the kernel finds no partition %v", version, want.ID)
		}
		off, n := v.extent(kernel.Partitions[i])
		got := make([]byte, len(want.Bytes))
		if _, err := io.NewSectionReader(disk, off, n).ReadAt(got, 0); err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(got, want.Bytes) {
			return fmt.Errorf("version %s is started, and partition %v has other bytes", version, want.ID)
		}
	}
	return nil
}

func (v *Versions) extent(p Partition) (off, size int64) {
	return int64(p.FirstLBA) * int64(v.Sector), int64(p.LastLBA-p.FirstLBA+1) * int64(v.Sector)
}

// UpOrNothing are the versions that come up, as [Versions.Up] has them, where firmware may also
// find nothing that it could start: no FAT file system on the disk as a whole or in any partition
// that it offers, whatever the type of that is. That is "". An error says which firmware finds a
// file system and does not come up from it.
func (v *Versions) UpOrNothing(disk io.ReaderAt, size int64) (versions []string, err error) {
	for _, firmware := range []Reader{ReaderEDK2Stable202211, ReaderEDK2Stable202608, ReaderUBoot} {
		version, err := v.upOrNothing(firmware, disk, size)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", firmware, err)
		}
		versions = append(versions, version)
	}
	return versions, nil
}

func (v *Versions) upOrNothing(firmware Reader, disk io.ReaderAt, size int64) (string, error) {
	found, err := ReadGPT(firmware, disk, size, v.Sector)
	if err != nil {
		return "", err
	}
	after := Apply(disk, found.Writes)
	places := [][2]int64{{0, size}}
	for _, p := range found.Partitions {
		off, n := v.extent(p)
		places = append(places, [2]int64{off, n})
	}
	for _, place := range places {
		_, err := ReadFAT(io.NewSectionReader(after, place[0], place[1]), place[1], FATOptions{Reader: FATReaderEDK2, SectorSize: v.Sector, NoCheck: true, NoContent: true})
		if err == nil {
			return v.up(firmware, disk, size)
		}
	}
	return "", nil
}
