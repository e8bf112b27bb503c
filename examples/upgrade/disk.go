package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// place are the flags that say which disk it is about.
type place struct {
	disk, esp string
	mounted   bool
}

func (p *place) flags(set *flag.FlagSet) {
	set.StringVar(&p.disk, "disk", "", "image `file` or block device; auto: the disk that this machine was started from")
	set.StringVar(&p.esp, "esp", "", "`directory` on which the ESP of the disk is mounted, which is written through it")
	set.BoolVar(&p.mounted, "mounted", false, "beside -disk: boot partitions of the device that are mounted are written through the kernel")
}

// A subject is the disk that a call is about, and the machine that it is of.
type subject struct {
	head
	disk    *osmith.Device
	machine upgrade.Machine
}

// open finds disk and machine. It is closed when the call ends.
func (f *common) open(c *cli.Call, write bool) (*subject, error) {
	p := &f.place
	switch {
	case (p.disk == "") == (p.esp == ""):
		return nil, cli.Usagef("want either -disk or -esp")
	case p.esp != "" && p.mounted:
		return nil, cli.Usagef("-mounted is for -disk: -esp says so already")
	}
	if err := f.known.check(); err != nil {
		return nil, err
	}
	var err error
	s := &subject{head: head{Header: c.Header(), Unread: []string{}}}
	isDevice := true
	switch {
	case p.esp != "":
		s.disk, err = openDiskOf(c, p.esp)
	case p.disk == "auto":
		err = s.openStarted(c, f)
	default:
		s.disk, isDevice, err = openNamed(c, p.disk, write)
	}
	if err != nil {
		return nil, err
	}
	s.Disk = s.disk.File().Name()
	if p.mounted && !isDevice {
		return nil, cli.Usagef("-mounted: %s is not a block device, so no part of it is mounted", p.disk)
	}
	if p.disk != "auto" {
		if err := s.know(c, f, isDevice); err != nil {
			return nil, err
		}
	}
	if p.mounted || p.esp != "" {
		s.machine.Mounted, err = findMounted(c, s.disk, write)
	}
	if write && err == nil {
		err = awaitOthers(c, s.disk)
	}
	return s, err
}

// patience is how often awaitOthers asks, and how long it waits in between.
const patience, pause = 50, 200 * time.Millisecond

// awaitOthers gives others ten seconds to be done with a disk that they have locked: udev looks at
// each one that was closed by a program that could have written to it, the call before this one
// among them. What stays locked is refused by the operation itself.
func awaitOthers(c *cli.Call, disk *osmith.Device) error {
	for range patience {
		unlock, err := disk.Lock()
		if err == nil {
			return unlock()
		}
		if !is[*osmith.LockedError](err) {
			return nil
		}
		select {
		case <-c.Done():
			return c.Err()
		case <-time.After(pause):
		}
	}
	return nil
}

// openNamed opens a file or block device.
func openNamed(c *cli.Call, name string, write bool) (d *osmith.Device, isDevice bool, err error) {
	use := os.O_RDONLY
	if write {
		use = os.O_RDWR
	}
	in, err := c.OpenFile(name, use)
	if err != nil {
		return nil, false, err
	}
	info, err := in.File().Stat()
	if err != nil {
		return nil, false, err
	}
	return in.Device, info.Mode().Type()&fs.ModeDevice != 0, nil
}

// openStarted opens the disk that the machine was started from.
func (s *subject) openStarted(c *cli.Call, f *common) error {
	if f.known.offline {
		return cli.Usagef("-offline: a machine that is off has not been started; name the disk")
	}
	read, err := f.known.read(c, s)
	if err != nil {
		return err
	}
	s.machine = read
	s.disk, err = openStartedDisk(c, read.Running.ESP)
	return err
}

// know finds out what is known of the machine that the disk is of.
func (s *subject) know(c *cli.Call, f *common, isDevice bool) (err error) {
	k := &f.known
	switch {
	case k.offline, !isDevice && k.copied == "":
		s.Offline = true
		s.machine, err = k.Off()
		return err
	case f.esp != "" || k.copied != "":
		s.machine, err = k.read(c, s)
		return err
	}
	read, err := k.read(c, s)
	if is[cli.UsageError](err) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; so whether this machine was started from %s is unknown: if it was not, use -offline", err, s.Disk)
	}
	if read.Running.ESP.IsZero() {
		return cli.Usagef("neither StubDevicePartUUID nor LoaderDevicePartUUID is set, so whether this machine was started from %s is unknown: use -offline, or -machine / if it was", s.Disk)
	}
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	if err != nil {
		return fmt.Errorf("%s: %w", s.Disk, err)
	}
	if table.Find(read.Running.ESP) >= 0 {
		s.machine = read
		return nil
	}
	s.Offline, s.Unread = true, []string{}
	fmt.Fprintf(c.Stderr, "upgrade: this machine was not started from %s, which is taken as the disk of a machine that is off\n", s.Disk)
	s.machine, err = k.Off()
	return err
}
