//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/tpm"
)

// WriteESP gives the machine a new disk with nothing but an EFI system partition: systemd-boot
// under our signature with its configuration, our keys for it to enrol, and files. Firmware
// variables and TPM stay.
func (s *System) WriteESP(config bootloader.Config, files ...osmith.ESPFile) error {
	enrolment, err := s.Builder.Enroll()
	if err != nil {
		return err
	}
	keys, err := enrolment.LoaderKeys("auto")
	if err != nil {
		return err
	}
	loader, err := s.Builder.SignedLoader()
	if err != nil {
		return err
	}
	config.Timeout, config.SecureBootEnroll = "0", "force"
	installed, err := (&bootloader.Installation{Loader: loader, Config: &config, Keys: keys}).Files()
	if err != nil {
		return err
	}
	if s.loaderConf, err = config.MarshalText(); err != nil {
		return err
	}
	// The stub makes one where there is none, and with it another boot secret than that of an
	// earlier boot.
	files = append(files, osmith.ESPFile{Path: "loader/boot-secret-mixin", Content: bytes.NewReader(make([]byte, 32))})
	for _, f := range installed {
		files = append(files, osmith.ESPFile{Path: f.Path, Content: f.Content})
	}
	if err := os.RemoveAll(s.Machine.Disk); err != nil {
		return err
	}
	_, err = writeESP(s.Machine.Disk, files, s.Builder.Seed, s.Builder.Time)
	return err
}

// writeESP makes a disk with nothing but an EFI system partition of these files.
func writeESP(name string, files []osmith.ESPFile, seed [16]byte, when time.Time) (*partition.Image, error) {
	options := fat.BuildOptions{Kind: 32, Label: "ESP", Time: when}
	need, err := fat.MinSize(files, options)
	if err != nil {
		return nil, err
	}
	options.Size = (need>>20 + 2) << 20
	esp, err := fat.Plan(files, options)
	if err != nil {
		return nil, fmt.Errorf("e2e: ESP: %w", err)
	}
	image, err := partition.Plan(partition.Layout{DiskID: partition.SeedDiskID(seed), Partitions: []partition.Spec{
		{Type: partition.ESP, ID: partition.SeedPartitionID(seed, partition.ESP, 0), Name: "esp", Content: esp},
	}})
	if err != nil {
		return nil, err
	}
	disk, err := acmeos.CreateImage(name, image.Size)
	if err != nil {
		return nil, err
	}
	err = partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true})
	return image, errors.Join(err, disk.Close())
}

// partitionTable is the GPT of the disk, which the firmware measures.
func (s *System) partitionTable() (*tpm.PartitionTable, error) {
	disk, err := osmith.OpenFile(s.Machine.Disk)
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return nil, err
	}
	var gpt tpm.PartitionTable
	gpt.Header, gpt.Entries, err = table.MarshalPrimary()
	return &gpt, err
}
