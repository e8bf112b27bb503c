package dm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity"
)

const digest32 = "855dbba5d611145e870a35fad02e6c229e173c0559c67bc1d3050cac845aca0f"

var signedRoot, _ = hex.DecodeString(digest32)

// goodTables are texts that parse and come out again as they went in.
var goodTables = map[string]string{
	"plain":         "1 /dev/sda2 /dev/sda3 4096 4096 300 1 sha256 " + digest32 + " 0102030405060708",
	"no-salt":       "0 253:2 253:3 512 1024 1 0 sha256 " + digest32 + " -",
	"quoted-device": `1 /dev/my\ disk\\x\` + "\xa0" + `y PARTUUID=0011-22 4096 4096 300 1 sha256 ` + digest32 + " -",
	"driver":        "1 a b 4096 4096 300 1 sha256-avx2 " + digest32 + " -",
	"sha512":        "1 a b 4096 4096 300 1 sha512 " + digest32 + digest32 + " -",
	"all": "1 a b 4096 4096 300 1 sha256 " + digest32 + " 00 15 panic_on_corruption restart_on_error ignore_zero_blocks check_at_most_once " +
		"try_verify_in_tasklet use_fec_from_device /dev/sda4 fec_blocks 304 fec_start 1 fec_roots 24 root_hash_sig_key_desc cryptsetup:x",
	"ignore":  "1 a b 4096 4096 300 1 sha256 " + digest32 + " - 1 ignore_corruption",
	"restart": "1 a b 4096 4096 300 1 sha256 " + digest32 + " - 2 restart_on_corruption panic_on_error",
}

func TestParseTable(t *testing.T) {
	for name, text := range goodTables {
		t.Run(name, func(t *testing.T) {
			table, err := ParseTable(text)
			require.NoError(t, err)
			require.NoError(t, table.Check())
			assert.Equal(t, text, table.String())
			target, err := ParseTarget(table.Target().String())
			require.NoError(t, err)
			assert.Equal(t, table.Target(), target)
		})
	}
	table, err := ParseTable(goodTables["all"])
	require.NoError(t, err)
	assert.Equal(t, TableOptions{
		Corruption: CorruptionPanic, IOError: IOErrorRestart, IgnoreZeroBlocks: true, CheckAtMostOnce: true, TryVerifyInTasklet: true,
		FEC:                TableFEC{Device: "/dev/sda4", Start: 1, Blocks: 304, Roots: 24},
		RootHashSigKeyDesc: "cryptsetup:x",
	}, table.Options)
	assert.Equal(t, uint64(2400), table.Sectors())
}

// TestParseTableOrder reads the order in which libcryptsetup passes the options.
func TestParseTableOrder(t *testing.T) {
	start := "  1 a b 4096 4096 300 1 sha256 " + digest32 + "\t- 10 "
	table, err := ParseTable(start + "root_hash_sig_key_desc k use_fec_from_device d fec_start 1 fec_blocks 304 fec_roots 2 \n")
	require.NoError(t, err)
	assert.Equal(t, "1 a b 4096 4096 300 1 sha256 "+digest32+
		" - 10 use_fec_from_device d fec_blocks 304 fec_start 1 fec_roots 2 root_hash_sig_key_desc k", table.String())
}

func TestParseTableRefuses(t *testing.T) {
	const head = "1 a b 4096 4096 300 1 sha256 "
	const plain = head + digest32 + " -"
	tests := map[string]struct{ text, field, want string }{
		"empty":              {"", "version", "missing"},
		"version":            {strings.Replace(plain, "1", "2", 1), "version", "unknown hash format 2"},
		"signed":             {strings.Replace(plain, "300", "+300", 1), "number of data blocks", "not a decimal number"},
		"leading-zero":       {strings.Replace(plain, "300", "0300", 1), "number of data blocks", "not a decimal number"},
		"hexadecimal":        {strings.Replace(plain, "300", "0x300", 1), "number of data blocks", "not a decimal number"},
		"negative":           {strings.Replace(plain, "300", "-300", 1), "number of data blocks", "not a decimal number"},
		"huge":               {strings.Replace(plain, "300", "9223372036854775807", 1), "number of data blocks", "blocks, want 1 to"},
		"beyond":             {strings.Replace(plain, "300", "9223372036854775808", 1), "number of data blocks", "not a decimal number"},
		"no-blocks":          {strings.Replace(plain, "300", "0", 1), "number of data blocks", "0 blocks"},
		"block-size":         {strings.Replace(plain, "4096", "4095", 1), "data block size", "power of two"},
		"block-size-int32":   {strings.Replace(plain, "4096", "4294971392", 1), "data block size", "too large"},
		"upper-case":         {strings.Replace(plain, digest32, strings.ToUpper(digest32), 1), "root digest", "lower-case"},
		"odd-digest":         {strings.Replace(plain, digest32, digest32[1:], 1), "root digest", "odd length"},
		"short-digest":       {strings.Replace(plain, digest32, digest32[2:], 1), "root digest", "31 bytes"},
		"no-salt":            {head + digest32, "salt", "missing"},
		"long-salt":          {head + digest32 + " " + strings.Repeat("00", 257), "salt", "257 bytes"},
		"count-too-small":    {plain + " 1 ignore_corruption check_at_most_once", "number of optional arguments", "there are 2"},
		"count-too-large":    {plain + " 2 ignore_corruption", "number of optional arguments", "there are 1"},
		"unknown":            {plain + " 1 x", "optional argument", `"x" is unknown`},
		"upper-case-option":  {plain + " 1 IGNORE_CORRUPTION", "optional argument", "unknown"},
		"twice":              {plain + " 2 check_at_most_once check_at_most_once", "optional argument", "twice"},
		"contradiction":      {plain + " 2 ignore_corruption panic_on_corruption", "optional argument", "given twice, or with a conflicting parameter"},
		"contradiction-2":    {plain + " 2 restart_on_error panic_on_error", "optional argument", "given twice, or with a conflicting parameter"},
		"no-value":           {plain + " 1 root_hash_sig_key_desc", "root_hash_sig_key_desc", "missing"},
		"fec-without-device": {plain + " 2 fec_roots 2", "use_fec_from_device", "missing"},
		"fec-without-roots":  {plain + " 6 use_fec_from_device d fec_start 1 fec_blocks 304", "fec_roots", "missing"},
		"fec-roots":          {plain + " 8 use_fec_from_device d fec_start 1 fec_blocks 304 fec_roots 25", "fec_roots", "25, want 2 to 24"},
		"fec-blocks":         {plain + " 8 use_fec_from_device d fec_start 1 fec_blocks 303 fec_roots 2", "fec_blocks", "data and tree have 304"},
		"fec-unequal": {strings.Replace(plain, "4096", "512", 1) + " 8 use_fec_from_device d fec_start 1 fec_blocks 999 fec_roots 2",
			"use_fec_from_device", "error correction needs equal block sizes, got 512 and "},
		"nul": {strings.Replace(plain, " a ", " a\x00 ", 1), "data device", "NUL"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseTable(tt.text)
			var text *osmith.FormatError
			require.True(t, errors.As(err, &text), "%v", err)
			assert.Equal(t, "table: "+tt.field, text.Field)
			assert.ErrorContains(t, err, tt.want)
			assert.Equal(t, tt.field == "version", text.Offset == 0, "where it is: %v", err)
		})
	}
}

func TestParseTargetRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "start sector at 0x0: missing",
		"0 8":                            "target type at 0x3: missing",
		"0 8 verity":                     "target parameters at 0xa: missing",
		"0 0 verity x":                   "0 sectors",
		"0 8 Verity x":                   "not the name of a target",
		"0 8 veritysixteenchr x":         "not the name of a target",
		"9223372036854775807 1 verity x": "sectors from sector",
	} {
		_, err := ParseTarget(text)
		assert.ErrorContains(t, err, want, text)
	}
	target, err := ParseTarget(" 0\t2400 linear  /dev/sda\\  1  \n")
	require.NoError(t, err)
	assert.Equal(t, Target{Sectors: 2400, Type: "linear", Params: `/dev/sda\  1`}, target)
}

// TestCheck names what no text can say.
func TestCheck(t *testing.T) {
	good, err := ParseTable(goodTables["plain"])
	require.NoError(t, err)
	for want, change := range map[string]func(*Table){
		"data device: no name":                 func(t *Table) { t.DataDevice = "" },
		"hash device: no name":                 func(t *Table) { t.HashDevice = "" },
		"hash start block: -1":                 func(t *Table) { t.HashStart = -1 },
		"algorithm: a name of 0 bytes":         func(t *Table) { t.Algorithm = "" },
		`algorithm: "sha 256"`:                 func(t *Table) { t.Algorithm = "sha 256" },
		"root digest: 0 bytes":                 func(t *Table) { t.RootHash = nil },
		"corruption mode: unknown reaction 4":  func(t *Table) { t.Options.Corruption = 4 },
		"corruption mode: unknown reaction -1": func(t *Table) { t.Options.Corruption = -1 },
		"error mode: unknown reaction 3":       func(t *Table) { t.Options.IOError = 3 },
		"root_hash_sig_key_desc: it contains":  func(t *Table) { t.Options.RootHashSigKeyDesc = "\x00" },
		"use_fec_from_device: error correction parameters are given without a FEC device": func(t *Table) { t.Options.FEC.Roots = 2 },
		"fec_start: -1": func(t *Table) { t.Options.FEC = TableFEC{Device: "d", Start: -1, Blocks: 304, Roots: 2} },
	} {
		table := good
		change(&table)
		assert.ErrorContains(t, table.Check(), "dm: table: "+want)
	}
}

func TestNewTable(t *testing.T) {
	for _, tt := range []struct {
		p     verity.Params
		start int64
	}{
		{verity.Params{}, 1},
		{verity.Params{HashBlockSize: 512}, 1},
		{verity.Params{HashOffset: 1 << 20}, 257},
		{verity.Params{HashOffset: 1<<20 + 512}, 257},
		{verity.Params{HashOffset: 1 << 20, NoSuperblock: true}, 256},
		{verity.Params{HashOffset: 1 << 20, HashBlockSize: 65536}, 17},
	} {
		table, err := NewTable(tt.p, "/dev/a", "/dev/a", 300*4096, signedRoot)
		require.NoError(t, err)
		assert.Equal(t, tt.start, table.HashStart, "%+v", tt.p)
		assert.Equal(t, int64(300), table.DataBlocks)
	}
	table, err := NewTable(verity.Params{ChromeOS: true, Salt: []byte{1}}, "/dev/a", "/dev/b", 4096, signedRoot)
	require.NoError(t, err)
	assert.Equal(t, "0 /dev/a /dev/b 4096 4096 1 1 sha256 "+digest32+" 01", table.String())

	_, err = NewTable(verity.Params{}, "/dev/a", "/dev/b", 4095, signedRoot)
	var align *verity.AlignmentError
	require.ErrorAs(t, err, &align)
	require.ErrorContains(t, err, "dm: data: 4095 bytes")
	_, err = NewTable(verity.Params{HashBlockSize: 7}, "/dev/a", "/dev/b", 4096, signedRoot)
	require.EqualError(t, err, "dm: hash block size: 7 bytes, want 512 to 524288")
	_, err = NewTable(verity.Params{}, "/dev/a", "/dev/b", 4096, signedRoot[1:])
	require.ErrorContains(t, err, "root digest: 31 bytes")
	_, err = NewTable(verity.Params{}, "", "/dev/b", 4096, signedRoot)
	require.ErrorContains(t, err, "data device: no name")
}

func TestTable(t *testing.T) {
	sb := verity.Superblock{HashType: 1, Algorithm: "sha224", DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 300, Salt: []byte{1, 2, 3, 4, 5, 6, 7, 8}}
	root := bytes.Repeat([]byte{0xab}, 28)
	// a hash that package verity does not compute
	table, err := NewTable(sb.Params(0), "/dev/sda2", "/dev/sda3", sb.DataSize(), root)
	require.NoError(t, err)
	assert.Equal(t, uint64(300*8), table.Sectors())
	assert.Equal(t, "1 /dev/sda2 /dev/sda3 4096 4096 300 1 sha224 "+hex.EncodeToString(root)+" 0102030405060708", table.String())

	table.Salt = nil
	table.DataDevice = `/dev/my disk\x`
	table.Options = TableOptions{
		Corruption: CorruptionPanic, IgnoreZeroBlocks: true, CheckAtMostOnce: true,
		TryVerifyInTasklet: true, RootHashSigKeyDesc: "cryptsetup:x",
	}
	assert.Equal(t, `1 /dev/my\ disk\\x /dev/sda3 4096 4096 300 1 sha224 `+hex.EncodeToString(root)+` - 6 `+
		`panic_on_corruption ignore_zero_blocks check_at_most_once try_verify_in_tasklet `+
		`root_hash_sig_key_desc cryptsetup:x`, table.String())
}

func FuzzParseTable(f *testing.F) {
	for _, text := range goodTables {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := ParseTable(text)
		if err != nil {
			require.Equal(t, Table{}, table)
			return
		}
		require.NoError(t, table.Check())
		again, err := ParseTable(table.String())
		require.NoError(t, err)
		require.Equal(t, table, again)
		require.Equal(t, table.String(), again.String())
		target, err := ParseTarget(table.Target().String())
		require.NoError(t, err)
		require.Equal(t, table.Target(), target)
	})
}
