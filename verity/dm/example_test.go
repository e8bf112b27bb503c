package dm_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// root is any root hash.
var root = bytes.Repeat([]byte{0xab}, 32)

func ExampleNewTable() {
	// The parameters of an image are in its superblock: verity.ReadSuperblock(tree, 0).
	sb := verity.Superblock{HashType: 1, Algorithm: "sha256", DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 300}
	table, err := dm.NewTable(sb.Params(0), "/dev/vda2", "/dev/vda3", sb.DataSize(), root)
	if err != nil {
		log.Fatal(err)
	}
	table.Options.Corruption = dm.CorruptionRestart
	fmt.Println(table.Target())
	// Output:
	// 0 2400 verity 1 /dev/vda2 /dev/vda3 4096 4096 300 1 sha256 abababababababababababababababababababababababababababababababab - 1 restart_on_corruption
}

// A device that verifies what is read from it, without a tool; it needs CAP_SYS_ADMIN.
func ExampleActivate() {
	table, err := dm.NewTable(verity.Params{}, "/dev/vda2", "/dev/vda3", 300*4096, root)
	if err != nil {
		log.Fatal(err)
	}
	node, err := dm.Activate("root", "", table)
	if err != nil {
		log.Fatal(err)
	}
	defer dm.Deactivate("root")
	fmt.Println("mount", node)
}

func ExampleParseTable() {
	table, err := dm.ParseTable("1 /dev/sda2 /dev/sda3 4096 4096 300 1 sha256 " +
		"855dbba5d611145e870a35fad02e6c229e173c0559c67bc1d3050cac845aca0f - 1 panic_on_corruption")
	if err != nil {
		log.Fatal(err)
	}
	table.Options.IOError = dm.IOErrorPanic
	fmt.Println(table.Target())
	// Output:
	// 0 2400 verity 1 /dev/sda2 /dev/sda3 4096 4096 300 1 sha256 855dbba5d611145e870a35fad02e6c229e173c0559c67bc1d3050cac845aca0f - 2 panic_on_corruption panic_on_error
}

func ExampleCmdline_Encode() {
	text, err := dm.Cmdline{
		Root: dm.Volume{RootHash: root, Options: dm.VolumeOptions{Corruption: dm.CorruptionPanic}},
	}.Encode()
	fmt.Println(text, err)
	// Output:
	// roothash=abababababababababababababababababababababababababababababababab systemd.verity_root_options=panic-on-corruption <nil>
}

func ExampleParseCmdline() {
	c, err := dm.ParseCmdline("quiet roothash=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff systemd.verity_root_data=/dev/sdb")
	if err != nil {
		log.Fatal(err)
	}
	data, hash := c.Root.Devices()
	fmt.Printf("%x\n%s\n%s\n", c.Root.RootHash, data, hash)
	// Output:
	// 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
	// /dev/sdb
	// /dev/disk/by-partuuid/00112233-4455-6677-8899-aabbccddeeff
}

// Does what boots with a command line boot verified?
func ExampleCmdline_Verified() {
	for _, line := range []string{
		"roothash=abababababababababababababababababababababababababababababababab quiet",
		"roothash=abababababababababababababababababababababababababababababababab rd.systemd.verity=0",
		`title="roothash=abababababababababababababababababababababababababababababababab"`,
	} {
		c, err := dm.ParseCmdline(line)
		if err != nil {
			log.Fatal(err)
		}
		volumes, err := c.Verified()
		fmt.Println(len(volumes), errors.Is(err, dm.ErrNotVerified))
	}
	// Output:
	// 1 false
	// 0 true
	// 0 true
}
