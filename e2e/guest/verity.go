//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/devmapper"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// rootName is the device-mapper name of the root.
const rootName = "root"

// openRoot finds the two partitions that the root hash of a command line names,
// activates dm-verity over them and mounts the result read-only at /sysroot. It
// returns the PARTUUIDs of the two.
func openRoot(cmdline string) (dataID, hashID string, err error) {
	c, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return "", "", err
	}
	if _, err := c.Verified(); err != nil {
		return "", "", err
	}
	root := c.Root.RootHash
	table, err := tableOfRoot(root)
	if err != nil {
		return "", "", err
	}
	if c.Root.Options.RootHashSignature != "" {
		signature, err := signatureBeside(table.DataDevice, root)
		if err != nil {
			return "", "", err
		}
		if table.Options.RootHashSigKeyDesc, err = giveKernel("osmith:root", signature); err != nil {
			return "", "", err
		}
	}
	if err := tryActivation(table); err != nil {
		return "", "", err
	}
	node, err := dm.Activate(rootName, "", table)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll("/sysroot", 0o755); err != nil {
		return "", "", err
	}
	if err := unix.Mount(node, "/sysroot", "erofs", unix.MS_RDONLY, ""); err != nil {
		return "", "", fmt.Errorf("mount the root: %w", err)
	}
	note("initrd: root is %s and %s", table.DataDevice, table.HashDevice)
	return osmith.GUID(root[:16]).String(), osmith.GUID(root[16:]).String(), nil
}

// tableOfRoot is what dm-verity is told about the two partitions that a root hash names.
func tableOfRoot(root []byte) (table dm.Table, err error) {
	if len(root) != 32 {
		return table, fmt.Errorf("verity: roothash=%x is not 64 hexadecimal digits", root)
	}
	data, err := findPartition(osmith.GUID(root[:16]).String())
	if err != nil {
		return table, fmt.Errorf("verity: data: %w", err)
	}
	tree, err := findPartition(osmith.GUID(root[16:]).String())
	if err != nil {
		return table, fmt.Errorf("verity: tree: %w", err)
	}
	sb, err := readSuperblock("/dev/" + tree)
	if err != nil {
		return table, err
	}
	return dm.NewTable(sb.Params(0), "/dev/"+data, "/dev/"+tree, sb.DataSize(), root)
}

func readSuperblock(name string) (*verity.Superblock, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	sb, err := verity.ReadSuperblock(f, 0)
	return sb, errors.Join(err, f.Close())
}

// tryActivation makes a device with many options and removes it again: the kernel
// must list it as package verity wrote it, and failures must leave nothing.
func tryActivation(table dm.Table) error {
	const name, uuid = "try", "OSMITH-TRY"
	table.Options = dm.TableOptions{
		Corruption: dm.CorruptionRestart, IOError: dm.IOErrorRestart,
		IgnoreZeroBlocks: true, CheckAtMostOnce: true, TryVerifyInTasklet: true,
		RootHashSigKeyDesc: table.Options.RootHashSigKeyDesc,
	}
	broken := table
	broken.HashDevice = "/dev/absent"
	if _, err := dm.Activate(name, uuid, broken); err == nil {
		return errors.New("verity: a device without a tree was activated")
	}
	if _, err := dm.Active(name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("verity: a failed activation left a device: %w", err)
	}
	if err := dm.Deactivate(name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("verity: deactivate what is not there: %w", err)
	}
	node, err := dm.Activate(name, uuid, table)
	if err != nil {
		return err
	}
	if _, err := dm.Activate(name, uuid, table); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("verity: activate a second time: %w", err)
	}
	m, err := dm.Active(name)
	if err != nil {
		return err
	}
	listed := m.Table
	// major:minor in the kernel's list
	listed.DataDevice, listed.HashDevice = table.DataDevice, table.HashDevice
	if listed.String() != table.String() || m.UUID != uuid || m.Device != node || !m.ReadOnly || m.Corrupted {
		return fmt.Errorf("verity: asked for %v on %s, the kernel has %+v", table, node, m)
	}
	if err := dm.Deactivate(name); err != nil {
		return err
	}
	if _, err := os.Stat(node); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("verity: %s is still there: %w", node, err)
	}
	return nil
}

type target struct {
	kind, params string
}

// tableOf returns the single target of a device, with its table or its status
// as parameters, and whether the device is read-only.
func tableOf(name string, status bool) (target, bool, error) {
	ask := devmapper.Table
	if status {
		ask = devmapper.Status
	}
	info, err := ask(name)
	if err != nil {
		return target{}, false, err
	}
	if len(info.Targets) != 1 {
		return target{}, false, fmt.Errorf("table of %s: %d targets", name, len(info.Targets))
	}
	t := info.Targets[0]
	return target{kind: t.Type, params: t.Params}, info.ReadOnly, nil
}
