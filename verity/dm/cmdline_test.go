package dm

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity"
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
	table.Options.Corruption = CorruptionPanic
	type good = struct {
		value Cmdline
		text  string
	}
	return map[string]good{
		"nothing": {},
		"off":     {Cmdline{Disabled: true}, "systemd.verity=0"},
		"root":    {Cmdline{Root: Volume{RootHash: signedRoot}}, "roothash=" + digest32},
		"usr": {
			Cmdline{Usr: Volume{RootHash: signedRoot, Data: "/dev/disk/by-partlabel/usr à 1", Hash: "PARTUUID=11",
				Options: VolumeOptions{Corruption: CorruptionRestart, Other: []string{"x-initrd.attach"}}}},
			"usrhash=" + digest32 + ` systemd.verity_usr_data="/dev/disk/by-partlabel/usr à 1" systemd.verity_usr_hash=PARTUUID=11` +
				" systemd.verity_usr_options=restart-on-corruption,x-initrd.attach",
		},
		"all-options": {
			Cmdline{Root: Volume{RootHash: signedRoot, Options: VolumeOptions{
				Params: verity.Params{Salt: []byte{1, 2}, UUID: [16]byte{0, 1, 2, 3}, ChromeOS: true, DataBlockSize: 512, HashBlockSize: 1024,
					HashOffset: 1 << 20, NoSuperblock: true, Hash: "sha512"},
				DataBlocks: 300, Corruption: CorruptionIgnore, IgnoreZeroBlocks: true, CheckAtMostOnce: true,
				FECDevice: "/dev/fec", FECOffset: 4096, FECRoots: 24, RootHashSignature: "/run/sig", MeasureNvPCR: "yes",
			}}},
			"roothash=" + digest32 + " systemd.verity_root_options=superblock=no,format=0,data-block-size=512,hash-block-size=1024," +
				"data-blocks=300,hash-offset=1048576,salt=0102,uuid=00010203-0000-0000-0000-000000000000,hash=sha512,ignore-corruption," +
				"ignore-zero-blocks,check-at-most-once,fec-device=/dev/fec,fec-offset=4096,fec-roots=24,root-hash-signature=/run/sig,tpm2-measure-nvpcr=yes",
		},
		"no-salt": {
			Cmdline{Root: Volume{RootHash: signedRoot, Options: VolumeOptions{Params: verity.Params{NoSuperblock: true}, RootHashSignature: "base64:AAEC"}}},
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

// TestCmdlineReading is about what others write; TestCmdlineSystemd shows that systemd reads the
// same.
func TestCmdlineReading(t *testing.T) {
	root := Volume{RootHash: signedRoot}
	with := func(o VolumeOptions) Cmdline { return Cmdline{Root: Volume{RootHash: signedRoot, Options: o}} }
	data := func(d string) Cmdline { return Cmdline{Root: Volume{RootHash: signedRoot, Data: d}} }
	hash := "roothash=" + digest32 + " "
	option := func(o string) string { return hash + "systemd.verity_root_options=" + o }
	for text, want := range map[string]Cmdline{
		"quiet roothash.x=1 xroothash= ":                 {},
		"roothash=00 " + hash:                            {Root: root},
		hash + "rd.roothash=" + digest32:                 {Root: root},
		hash + "roothash":                                {Root: root}, // it has no value
		"roothash":                                       {},
		`"roothash=` + digest32 + `"`:                    {Root: root},
		`roothash="` + digest32 + `" x=`:                 {Root: root},
		`root'hash=` + digest32 + `'`:                    {Root: root},
		`x="roothash=00" ` + hash:                        {Root: root},
		`x="` + hash + `"`:                               {},
		`x='` + hash + `'`:                               {},
		hash + `x="roothash=00`:                          {Root: root}, // to the end of the line
		"roothash=" + strings.ToUpper(digest32):          {Root: root},
		`roothash="` + digest32[:8] + " " + digest32[8:]: {Root: root},
		"ROOTHASH=" + digest32:                           {},
		"rd.rd." + hash:                                  {},
		// systemd reads on behind the dashes
		"-- " + hash + `dm-mod.create=1`:           {Root: root},
		hash + "usrhash=" + digest32:               {Root: root, Usr: root},
		hash + "systemd.verity=0":                  {Root: root, Disabled: true},
		hash + "rd.systemd.verity=oFF":             {Root: root, Disabled: true},
		hash + "systemd.verity=0 systemd.verity=?": {Root: root, Disabled: true},
		hash + "systemd.verity=0 systemd.verity":   {Root: root},
		hash + "verity=0 systemd.verity=":          {Root: root},
		"roothash=xy systemd.verity=no":            {Disabled: true},
		// without a root hash it is not looked at
		"systemd.verity_root_options=superblock=x":      {},
		hash + "systemd.verity-root-data=/dev/a":        data("/dev/a"),
		hash + "rd.systemd.verity_root_data='/dev/a b'": data("/dev/a b"),
		option("superblock=yes"):                        {Root: root},
		option("format=1"):                              {Root: root},
		option("-"):                                     {Root: root},
		option(""):                                      {Root: root},
		option("fec-roots=2"):                           {Root: root},
		option("hash-offset=4M,salt=-"):                 with(VolumeOptions{Params: verity.Params{HashOffset: 4 << 20}}),
		option("data-block-size=4K"):                    with(VolumeOptions{Params: verity.Params{DataBlockSize: 4096}}),
		option("salt=00,,salt=01,"):                     with(VolumeOptions{Params: verity.Params{Salt: []byte{1}}}),
		option(`panic-on-coruption,x=1,a\,b,auto=`):     with(VolumeOptions{Unknown: []string{"panic-on-coruption", "x=1", "a,b", "auto="}}),
		option("ignore-corruption=1,IGNORE-CORRUPTION"): with(VolumeOptions{Unknown: []string{"ignore-corruption=1", "IGNORE-CORRUPTION"}}),
		option("ignore_corruption"):                     with(VolumeOptions{Unknown: []string{"ignore_corruption"}}),
		option("noauto,ignore-corruption,noauto"):       with(VolumeOptions{Corruption: CorruptionIgnore, Other: []string{"noauto"}}),
		"dm_mod.create=\"a, ,,ro , 0\t8  linear  x 0\"": {Create: []EarlyDevice{{Name: "a",
			Targets: []Target{{Sectors: 8, Type: "linear", Params: "x 0"}}}}},
	} {
		c, err := ParseCmdline(text)
		require.NoError(t, err, text)
		assert.Equal(t, &want, c, text)
	}
}

func TestVerified(t *testing.T) {
	one, other := Volume{RootHash: signedRoot}, Volume{RootHash: append([]byte{1}, signedRoot[1:]...)}
	ignored := one
	ignored.Options.Corruption = CorruptionIgnore
	for _, tt := range []struct {
		c    Cmdline
		want []Volume // none: not verified
		text string
	}{
		{c: Cmdline{Root: one}, want: []Volume{one}},
		{c: Cmdline{Usr: one}, want: []Volume{one}},
		{c: Cmdline{Root: one, Usr: other}, want: []Volume{one, other}},
		{c: Cmdline{}, text: "neither roothash= nor usrhash="},
		{c: Cmdline{Root: one, Usr: other, Disabled: true}, text: "systemd.verity=0"},
		{c: Cmdline{Root: ignored}, text: "ignore-corruption in systemd.verity_root_options="},
		{c: Cmdline{Root: one, Usr: ignored}, text: "ignore-corruption in systemd.verity_usr_options="},
	} {
		got, err := tt.c.Verified()
		assert.Equal(t, tt.want, got)
		if tt.want != nil {
			assert.NoError(t, err)
			continue
		}
		assert.ErrorIs(t, err, ErrNotVerified)
		assert.ErrorContains(t, err, "dm: command line: the system is not verified: ")
		assert.ErrorContains(t, err, tt.text)
	}
}

func TestCmdlineRefused(t *testing.T) {
	hash := "roothash=" + digest32 + " "
	option := func(o string) string { return hash + "systemd.verity_root_options=" + o }
	create := func(c string) string { return `dm-mod.create="` + c + `"` }
	table := "1 a b 4096 4096 300 1 sha256 " + digest32 + " -"
	for text, want := range map[string]string{
		hash + "\x00 x":                                 "parameter at 0x4a: contains a NUL byte, which a kernel command line cannot hold",
		"roothash= ":                                    "roothash at 0x0: root hash: 0 bytes",
		hash + "roothash=":                              "roothash at 0x4a: root hash: 0 bytes",
		"quiet usrhash=xy":                              "usrhash at 0x6: encoding/hex",
		"roothash=0x" + digest32:                        "encoding/hex",
		"roothash=aabb":                                 "2 bytes, want 16 to 64",
		"roothash=" + strings.Repeat("00", 65):          "65 bytes, want 16 to 64",
		"systemd.verity_root_data=/dev/a":               "roothash at 0x1f: missing: required with systemd.verity_root_data=",
		hash + "systemd.verity_usr_hash=/dev/a":         "usrhash at 0x68: missing: required with systemd.verity_usr_hash=",
		hash + "systemd.verity_root_data=":              "systemd.verity_root_data at 0x4a: no value",
		hash + "systemd.verity_root_hash=/dev/../a":     `"/dev/../a" is not a device path`,
		hash + "systemd.verity_root_data=./.":           "is not a device path",
		hash + "systemd.verity_root_data=LABEL=..":      "is not a device path",
		option("ignore-corruption,panic-on-corruption"): "another option of the same kind: the kernel refuses both together",
		option("salt=1"):                                "odd length",
		option("uuid=1"):                                "GUID",
		option("format=2"):                              "want 0 or 1",
		option("superblock=x"):                          "not a boolean",
		option("data-block-size=1000"):                  "power of two",
		option("data-block-size=8388608T"):              "too large",
		option("data-block-size=1M"):                    "power of two",
		option("data-block-size="):                      "no value",
		option("hash-offset=100"):                       "not a multiple of 512",
		option("hash=md5"):                              "not supported",
		option("fec-device=/d,fec-roots=25"):            `option "fec-roots": 25`,
		option("fec-device=d"):                          `fec-device: "d" is not an absolute path`,
		option("fec-device="):                           "no value",
		option("fec-offset=1"):                          `option "fec-offset": 1`,
		option("root-hash-signature=x"):                 "root-hash-signature: \"x\": want an absolute path, base64:... or auto",
		option("root-hash-signature="):                  "no value",
		option("root-hash-signature=base64:!"):          "not base64",
		option(`a\b`):                                   "a backslash with nothing to escape",
		create("a,,,ro"):                                "4 fields, want name,uuid",
		create("a/b,,,ro,0 8 linear x 0"):               "cannot be the name",
		create("a,,256,ro,0 8 linear x 0"):              `minor "256"`,
		create("a,,,wo,0 8 linear x 0"):                 `flags "wo"`,
		create("a,,,ro,0 8 raid x 0"):                   "the kernel makes only",
		create("a,,,ro,0 8 linear x 0,9 1 linear x 0"):  "target at sector 9, want 8",
		create("a,,,rw,0 2400 verity " + table):         "read-only",
		create("a,,,ro,0 2408 verity " + table):         "2408 sectors, the table has 2400",
		create("a,,,ro,0 8 verity x"):                   "table: ",
		create(strings.Repeat("x", 4096)):               "4096 bytes, the kernel takes 4095",
		"dm-mod.waitfor=a,,b":                           `"" is not a device`,
	} {
		c, err := ParseCmdline(text)
		require.Nil(t, c, text)
		var e *osmith.FormatError
		require.True(t, errors.As(err, &e), "%s: %v", text, err)
		assert.ErrorContains(t, err, "dm: command line: ")
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
		"a quotation mark cannot be written": data(`a"b`),
		`"a'b": a quotation mark`:            data(`a'b`),
		"a control character":                data("a\nb"),
		"is not a device path":               data("/dev/../x"),
		`unknown option "x"`:                 options(VolumeOptions{Unknown: []string{"x"}}),
		"15 bytes, want 16 to 64":            {Usr: Volume{RootHash: make([]byte, 15)}},
		"a backslash cannot be the last":     data(`a b\`),
		"dm: command line: usrhash is required with the other parameters of the volume": {Usr: Volume{Hash: "x"}},
		"roothash: root hash: 0 bytes":               {Root: Volume{RootHash: []byte{}}},
		"salt: 257 bytes":                            options(VolumeOptions{Params: verity.Params{Salt: make([]byte, 257)}}),
		"corruption: unknown":                        options(VolumeOptions{Corruption: 9}),
		"data-blocks: -1":                            options(VolumeOptions{DataBlocks: -1}),
		"a comma or a backslash":                     options(VolumeOptions{FECDevice: "/a,ignore-corruption"}),
		`unknown option "ro"`:                        options(VolumeOptions{Other: []string{"ro"}}),
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
		`dm-mod.waitfor: "a,b" is not a device`:      {WaitFor: []string{"a,b"}},
		"dm-mod.waitfor: 257 devices, at most 256 a": {WaitFor: make([]string, 257)},
	} {
		text, err := c.Encode()
		require.Empty(t, text)
		assert.ErrorContains(t, err, "dm: command line: ")
		assert.ErrorContains(t, err, want)
	}
}

func TestSignatureAsOption(t *testing.T) {
	c := Cmdline{Root: Volume{RootHash: signedRoot, Options: VolumeOptions{
		RootHashSignature: "base64:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xff, 0x3e, 0}, 500))}}}
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
