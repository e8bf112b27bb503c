package verity

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTable(t *testing.T) {
	table := testSuperblock().Table("/dev/sda2", "/dev/sda3", []byte{0xab, 0xcd})
	assert.Equal(t, uint64(300*8), table.Sectors())
	assert.Equal(t, "1 /dev/sda2 /dev/sda3 4096 4096 300 1 sha256 abcd 0102030405060708", table.String())

	table.Salt = nil
	table.DataDevice = `/dev/my disk\x`
	table.Options = TableOptions{
		Corruption: PanicOnCorruption, IgnoreZeroBlocks: true, CheckAtMostOnce: true,
		TryVerifyInTasklet: true, RootHashSigKeyDesc: "cryptsetup:x",
	}
	assert.Equal(t, `1 /dev/my\ disk\\x /dev/sda3 4096 4096 300 1 sha256 abcd - 6 `+
		`panic_on_corruption ignore_zero_blocks check_at_most_once try_verify_in_tasklet `+
		`root_hash_sig_key_desc cryptsetup:x`, table.String())

	for reaction, argument := range map[Reaction]string{
		ReturnError: "", IgnoreCorruption: "ignore_corruption", RestartOnCorruption: "restart_on_corruption",
	} {
		assert.Equal(t, argument, reaction.argument())
	}
}
