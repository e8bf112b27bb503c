package verity

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func minor(n uint8) *uint8 { return &n }

// goodCmdlines are values with the text that they make, which makes them again.
func goodCmdlines(t testing.TB) map[string]struct {
	value Cmdline
	text  string
} {
	t.Helper()
	table, err := ParseTable("1 PARTUUID=00 PARTUUID=11 4096 4096 300 1 sha256 " + digest32 + " -")
	require.NoError(t, err)
	table.Options.Corruption = PanicOnCorruption
	type good = struct {
		value Cmdline
		text  string
	}
	return map[string]good{
		"nothing": {},
		"root":    {Cmdline{Root: Volume{RootHash: signedRoot}}, "roothash=" + digest32},
		"usr": {
			Cmdline{Usr: Volume{RootHash: signedRoot, Data: "/dev/disk/by-partlabel/usr à 1", Hash: "PARTUUID=11",
				Options: VolumeOptions{Corruption: RestartOnCorruption, Other: []string{"x-initrd.attach"}}}},
			"usrhash=" + digest32 + ` systemd.verity_usr_data="/dev/disk/by-partlabel/usr à 1" systemd.verity_usr_hash=PARTUUID=11` +
				" systemd.verity_usr_options=restart-on-corruption,x-initrd.attach",
		},
		"all-options": {
			Cmdline{Root: Volume{RootHash: signedRoot, Options: VolumeOptions{
				Params: Params{Salt: []byte{1, 2}, UUID: [16]byte{0, 1, 2, 3}, ChromeOS: true, DataBlockSize: 512, HashBlockSize: 1024,
					HashOffset: 1 << 20, NoSuperblock: true, Hash: "sha512"},
				DataBlocks: 300, Corruption: IgnoreCorruption, IgnoreZeroBlocks: true, CheckAtMostOnce: true,
				FECDevice: "/dev/fec", FECOffset: 4096, FECRoots: 24, RootHashSignature: "/run/sig", MeasureNvPCR: "yes",
			}}},
			"roothash=" + digest32 + " systemd.verity_root_options=superblock=no,format=0,data-block-size=512,hash-block-size=1024," +
				"data-blocks=300,hash-offset=1048576,salt=0102,uuid=00010203-0000-0000-0000-000000000000,hash=sha512,ignore-corruption," +
				"ignore-zero-blocks,check-at-most-once,fec-device=/dev/fec,fec-offset=4096,fec-roots=24,root-hash-signature=/run/sig,tpm2-measure-nvpcr=yes",
		},
		"no-salt": {
			Cmdline{Root: Volume{RootHash: signedRoot, Options: VolumeOptions{Params: Params{NoSuperblock: true}, RootHashSignature: "base64:AAEC"}}},
			"roothash=" + digest32 + " systemd.verity_root_options=superblock=no,salt=-,root-hash-signature=base64:AAEC",
		},
		"create": {
			Cmdline{
				Create: []EarlyDevice{
					{Name: "root", Targets: []Target{table.Target()}},
					{Name: "joined", UUID: "u u", Minor: minor(7), ReadWrite: true, Targets: []Target{
						{Sectors: 8, Type: "linear", Params: "/dev/sda 0"}, {Start: 8, Sectors: 16, Type: "linear", Params: "/dev/sdb 1"},
					}},
				},
				WaitFor: []string{"PARTUUID=00", "/dev/sda"},
			},
			`dm-mod.create="root,,,ro,0 2400 verity ` + table.String() + `;joined,u u,7,rw,0 8 linear /dev/sda 0,8 16 linear /dev/sdb 1"` +
				" dm-mod.waitfor=PARTUUID=00,/dev/sda",
		},
	}
}

func TestCmdline(t *testing.T) {
	for name, tt := range goodCmdlines(t) {
		t.Run(name, func(t *testing.T) {
			text, err := tt.value.Encode()
			require.NoError(t, err)
			assert.Equal(t, tt.text, text)
			c, err := ParseCmdline("quiet " + text + " rw -- single")
			require.NoError(t, err)
			assert.Equal(t, &tt.value, c)
		})
	}
}

// TestCmdlineReading is about what others write.
func TestCmdlineReading(t *testing.T) {
	root := Volume{RootHash: signedRoot}
	with := func(o VolumeOptions) Volume { v := root; v.Options = o; return v }
	hash := "roothash=" + digest32 + " "
	for text, want := range map[string]Cmdline{
		"quiet roothash.x=1 xroothash= ":                           {},
		"roothash=00 " + hash:                                      {Root: root},
		`"roothash=` + digest32 + `"`:                              {Root: root},
		`roothash="` + digest32 + `" x=`:                           {Root: root},
		`x="roothash=00" ` + hash:                                  {Root: root},
		"-- " + hash + `dm-mod.create=1`:                           {Root: root}, // systemd reads on behind the dashes
		hash + "systemd.verity-root-data=/dev/a":                   {Root: Volume{RootHash: signedRoot, Data: "/dev/a"}},
		hash + "systemd.verity_root_options=superblock=yes":        {Root: root},
		hash + "systemd.verity_root_options=format=1":              {Root: root},
		hash + "systemd.verity_root_options=hash-offset=4M,salt=-": {Root: with(VolumeOptions{Params: Params{HashOffset: 4 << 20}})},
		hash + "systemd.verity_root_options=data-block-size=4K":    {Root: with(VolumeOptions{Params: Params{DataBlockSize: 4096}})},
		"dm_mod.create=\"a, ,,ro , 0\t8  linear  x 0\"": {Create: []EarlyDevice{{Name: "a",
			Targets: []Target{{Sectors: 8, Type: "linear", Params: "x 0"}}}}},
	} {
		c, err := ParseCmdline(text)
		require.NoError(t, err, text)
		assert.Equal(t, &want, c, text)
	}
}

func TestCmdlineRefused(t *testing.T) {
	hash := "roothash=" + digest32 + " "
	option := func(o string) string { return hash + "systemd.verity_root_options=" + o }
	create := func(c string) string { return `dm-mod.create="` + c + `"` }
	verity := "1 a b 4096 4096 300 1 sha256 " + digest32 + " -"
	for text, want := range map[string]string{
		`quiet x="y`:                                    "parameter at byte 6: a quotation has no end",
		"roothash":                                      "roothash at byte 0: no value",
		"roothash= ":                                    "roothash at byte 0: no value",
		"quiet usrhash=xy":                              "usrhash at byte 6: encoding/hex",
		"roothash=" + strings.ToUpper(digest32):         "lower-case",
		"systemd.verity_root_data=/dev/a":               "roothash at byte 31: it is missing",
		option("panic-on-coruption"):                    `option "panic-on-coruption": not known`,
		option("x=1"):                                   `option "x": not known`,
		option("ignore-corruption=1"):                   `not known`,
		option("panic-on-corruption,"):                  `option "": not known`,
		option("salt=1"):                                "odd length",
		option("salt=00,salt=00"):                       `option "salt": given twice`,
		option("ignore-corruption,panic-on-corruption"): "another of its kind",
		option("uuid=1"):                                "not a UUID",
		option("format=2"):                              "want 0 or 1",
		option("superblock=x"):                          "not a boolean",
		option("data-block-size=1000"):                  "not a power of two",
		option("data-block-size=8388608T"):              "too large",
		option("hash-offset=100"):                       "not a multiple of 512",
		option("hash=md5"):                              "not supported",
		option("fec-roots=2"):                           "fec-device: it is missing",
		option("fec-device=d,fec-roots=25"):             "fec-roots: 25",
		option("fec-device=d,fec-offset=1"):             "fec-offset: 1",
		option("root-hash-signature=x"):                 "no absolute path",
		option("root-hash-signature=base64:!"):          "not base64",
		create("a,,,ro"):                                "4 fields, want name,uuid",
		create("a/b,,,ro,0 8 linear x 0"):               "cannot be the name",
		create("a,,256,ro,0 8 linear x 0"):              `minor "256"`,
		create("a,,,wo,0 8 linear x 0"):                 `flags "wo"`,
		create("a,,,ro,0 8 raid x 0"):                   "the kernel makes only",
		create("a,,,ro,0 8 linear x 0,9 1 linear x 0"):  "target at sector 9, want 8",
		create("a,,,rw,0 2400 verity " + verity):        "read-only",
		create("a,,,ro,0 2408 verity " + verity):        "2408 sectors, the table has 2400",
		create("a,,,ro,0 8 verity x"):                   "verity: table: ",
		create(strings.Repeat("x", 4096)):               "4096 bytes, the kernel takes 4095",
		"dm-mod.waitfor=a,,b":                           `"" is no device`,
	} {
		c, err := ParseCmdline(text)
		require.Nil(t, c, text)
		var e *TextError
		require.True(t, errors.As(err, &e), "%s: %v", text, err)
		assert.ErrorContains(t, err, "verity: command line: ")
		assert.ErrorContains(t, err, want, text)
	}
}

func TestCmdlineEncodeRefuses(t *testing.T) {
	root := Volume{RootHash: signedRoot}
	data := func(d string) Cmdline { return Cmdline{Root: Volume{RootHash: signedRoot, Data: d}} }
	options := func(o VolumeOptions) Cmdline { root.Options = o; return Cmdline{Root: root} }
	linear := []Target{{Sectors: 8, Type: "linear", Params: "x 0"}}
	device := func(d EarlyDevice) Cmdline { return Cmdline{Create: []EarlyDevice{d}} }
	for want, c := range map[string]Cmdline{
		"a quotation mark cannot be written":         data(`a"b`),
		`"a'b": a quotation mark`:                    data(`a'b`),
		"a control character":                        data("a\nb"),
		"a backslash cannot be the last":             data(`a b\`),
		"usrhash: it is missing":                     {Usr: Volume{Hash: "x"}},
		"roothash: root hash: 0 bytes":               {Root: Volume{RootHash: []byte{}}},
		"salt: 257 bytes":                            options(VolumeOptions{Params: Params{Salt: make([]byte, 257)}}),
		"corruption: unknown":                        options(VolumeOptions{Corruption: 9}),
		"data-blocks: -1":                            options(VolumeOptions{DataBlocks: -1}),
		"a comma or a backslash":                     options(VolumeOptions{FECDevice: "a,ignore-corruption"}),
		`option "ro" is not known`:                   options(VolumeOptions{Other: []string{"ro"}}),
		`option "nofail" is given twice`:             options(VolumeOptions{Other: []string{"nofail", "nofail"}}),
		`"" cannot be the name`:                      device(EarlyDevice{Targets: linear}),
		`"a,b": a comma or a semicolon`:              device(EarlyDevice{Name: "a,b", Targets: linear}),
		`" a": white space at its ends`:              device(EarlyDevice{Name: " a", Targets: linear}),
		"UUID of 129 bytes":                          device(EarlyDevice{Name: "a", UUID: strings.Repeat("u", 129), Targets: linear}),
		"a: 0 targets":                               device(EarlyDevice{Name: "a"}),
		"target at sector 1, want 0":                 device(EarlyDevice{Name: "a", Targets: []Target{{Start: 1, Sectors: 1, Type: "linear", Params: "x"}}}),
		`"x;y": a comma or a semicolon`:              device(EarlyDevice{Name: "a", Targets: []Target{{Sectors: 1, Type: "linear", Params: "x;y"}}}),
		"0 sectors from sector 0":                    device(EarlyDevice{Name: "a", Targets: []Target{{Type: "linear", Params: "x"}}}),
		"257 devices, at most":                       {Create: make([]EarlyDevice, 257)},
		`dm-mod.waitfor: "a,b" is no device`:         {WaitFor: []string{"a,b"}},
		"dm-mod.waitfor: 257 devices, at most 256 a": {WaitFor: make([]string, 257)},
	} {
		text, err := c.Encode()
		require.Empty(t, text)
		assert.ErrorContains(t, err, "verity: command line: ")
		assert.ErrorContains(t, err, want)
	}
}

func TestSignatureAsOption(t *testing.T) {
	key, cert := keyPair(t)
	s, err := SignRootHash(signedRoot, key, cert)
	require.NoError(t, err)
	c := Cmdline{Root: Volume{RootHash: signedRoot, Options: VolumeOptions{
		RootHashSignature: "base64:" + base64.StdEncoding.EncodeToString(s.PKCS7)}}}
	text, err := c.Encode()
	require.NoError(t, err)
	again, err := ParseCmdline(text)
	require.NoError(t, err)
	require.Equal(t, &c, again)
}

func FuzzParseCmdline(f *testing.F) {
	for _, tt := range goodCmdlines(f) {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ParseCmdline(line)
		require.Equal(t, err == nil, c != nil)
		if err != nil {
			return
		}
		text, err := c.Encode()
		if err != nil {
			return // such as a quotation mark in the name of a device
		}
		again, err := ParseCmdline(text)
		require.NoError(t, err, text)
		second, err := again.Encode()
		require.NoError(t, err)
		require.Equal(t, text, second)
	})
}
