//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// rootName is the device-mapper name of the root.
const rootName = "root"

// superblock is the first 512 bytes of a hash device, as cryptsetup's
// lib/verity/verity.c writes them (struct verity_sb, version 1).
type superblock struct {
	Signature     [8]byte
	Version       uint32
	HashType      uint32
	UUID          [16]byte
	Algorithm     [32]byte
	DataBlockSize uint32
	HashBlockSize uint32
	DataBlocks    uint64
	SaltSize      uint16
	_             [6]byte
	Salt          [256]byte
	_             [168]byte
}

// openRoot finds the two partitions that a root hash names, activates
// dm-verity over them and mounts the result read-only at /sysroot. It returns
// the PARTUUIDs of the two.
func openRoot(hash string) (dataID, hashID string, err error) {
	root, err := hex.DecodeString(hash)
	if err != nil || len(root) != 32 {
		return "", "", fmt.Errorf("verity: roothash=%q is not 64 hexadecimal digits", hash)
	}
	dataID, hashID = textID(root[:16]), textID(root[16:])
	data, err := findPartition(dataID)
	if err != nil {
		return "", "", fmt.Errorf("verity: data: %w", err)
	}
	tree, err := findPartition(hashID)
	if err != nil {
		return "", "", fmt.Errorf("verity: tree: %w", err)
	}
	sb, err := readSuperblock("/dev/" + tree)
	if err != nil {
		return "", "", err
	}
	salt := "-"
	if sb.SaltSize > 0 {
		salt = hex.EncodeToString(sb.Salt[:sb.SaltSize])
	}
	// Documentation/admin-guide/device-mapper/verity.rst. The tree starts in the
	// hash block after the superblock.
	params := fmt.Sprintf("%d /dev/%s /dev/%s %d %d %d 1 %s %s %s", sb.HashType, data, tree,
		sb.DataBlockSize, sb.HashBlockSize, sb.DataBlocks, text(sb.Algorithm[:]), hex.EncodeToString(root), salt)
	node, err := createMapping(rootName, "verity", sb.DataBlocks*uint64(sb.DataBlockSize)/512, params)
	if err != nil {
		return "", "", fmt.Errorf("verity: %w", err)
	}
	if err := os.MkdirAll("/sysroot", 0o755); err != nil {
		return "", "", err
	}
	if err := unix.Mount(node, "/sysroot", "erofs", unix.MS_RDONLY, ""); err != nil {
		return "", "", fmt.Errorf("mount the root: %w", err)
	}
	note("initrd: root is %s and %s", data, tree)
	return dataID, hashID, nil
}

func readSuperblock(name string) (*superblock, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, binary.Size(superblock{}))
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("verity: superblock of %s: %w", name, err)
	}
	sb := new(superblock)
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, sb); err != nil {
		return nil, fmt.Errorf("verity: superblock of %s: %w", name, err)
	}
	if string(sb.Signature[:]) != "verity\x00\x00" || sb.Version != 1 || int(sb.SaltSize) > len(sb.Salt) {
		return nil, fmt.Errorf("verity: %s has no superblock: it starts with %q", name, b[:12])
	}
	return sb, nil
}

// textID spells 16 bytes as a partition ID, in text order as the Discoverable
// Partitions Specification has it.
func textID(b []byte) string {
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// text is what stands before the first NUL.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
