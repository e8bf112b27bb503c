package grub_test

import (
	"bytes"
	"crypto"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/grub"
	"github.com/osmith-dev/osmith/internal/petest"
)

const recorded = "../../tpm/testdata/boot-shim/"

// disk has files by their whole names.
type disk map[string]string

func (d disk) open(name string) (osmith.Source, error) {
	text, ok := d[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.NewReader([]byte(text)), nil
}

// logEvents are the events of PCRs 8 and 9 of type EV_IPL in a crypto-agile log with one bank of
// SHA-256, read without package tpm.
func logEvents(t *testing.T, name string) (out []osmith.GRUBEvent) {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	le := binary.LittleEndian
	b = b[32+le.Uint32(b[28:]):] // behind the header
	for len(b) > 0 {
		pcr, kind, count := le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])
		require.EqualValues(t, 1, count)
		require.EqualValues(t, 11, le.Uint16(b[12:]))
		sum, size := b[14:46], le.Uint32(b[46:])
		if kind == 13 && (pcr == 8 || pcr == 9) {
			out = append(out, osmith.GRUBEvent{PCR: int(pcr), Data: b[50 : 50+size], Digests: map[crypto.Hash][]byte{crypto.SHA256: sum}})
		}
		b = b[50+size:]
	}
	return out
}

// The two boots of Debian's GRUB that were recorded: their events follow from the configuration,
// but for the contents of kernel and initrd, which are not kept.
func TestRecordedBoots(t *testing.T) {
	yes := true
	for name, files := range map[string][]string{"s3-shim-grub": {"EFI/debian/grub.cfg"}, "s3-grub-debian": {"EFI/debian/grub.cfg", "boot/grub/grub.cfg", "boot/grub/custom.cfg"}} {
		d := disk{"(hd0,gpt1)/vmlinuz": "kernel", "(hd0,gpt1)/initrd.img": "an initrd..."}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(recorded, name, "inputs", f))
			require.NoError(t, err)
			d["(hd0,gpt1)/"+f] = string(text)
		}
		boot, err := grub.Run(grub.Environment{Version: "2.14", Config: "(hd0,gpt1)/EFI/debian/grub.cfg", Open: d.open, Devices: map[string]string{"B007-1AB0": "hd0,gpt1"}, FirmwareSetup: &yes}, crypto.SHA256)
		require.NoError(t, err, name)
		want := logEvents(t, filepath.Join(recorded, name, "binary_bios_measurements"))
		got := append(append([]osmith.GRUBEvent{}, boot.Before...), boot.After...)
		for i := range min(len(want), len(got)) {
			require.Equal(t, string(want[i].Data), string(got[i].Data), "%s: event %d", name, i)
			require.Equal(t, want[i].PCR, got[i].PCR)
			if file := strings.TrimRight(string(want[i].Data), "\x00"); file != "/vmlinuz" && file != "/initrd.img" {
				require.Equal(t, want[i].Digests, got[i].Digests, file)
			}
		}
		require.Len(t, got, len(want), name)
		require.Equal(t, "/vmlinuz\x00", string(boot.Before[len(boot.Before)-1].Data))
		require.Equal(t, "/vmlinuz", boot.Kernel)
		require.Equal(t, []string{"/initrd.img"}, boot.Initrds)
		require.Equal(t, "B\x00O\x00O\x00T\x00_\x00I\x00M\x00A\x00G\x00E\x00=\x00/\x00", string(boot.LoadOptions[:24]))
	}
}

// texts are what is measured, as a person would read it.
func texts(boot *grub.Boot) (out []string) {
	for _, e := range append(append([]osmith.GRUBEvent{}, boot.Before...), boot.After...) {
		text := strings.TrimRight(string(e.Data), "\x00")
		if e.PCR == 9 {
			text = "file: " + text
		}
		out = append(out, strings.TrimPrefix(text, "grub_cmd: "))
	}
	return out[2:] // the configuration twice
}

func run(config string, more disk, change ...func(*grub.Environment)) (*grub.Boot, error) {
	d := disk{"(hd0,gpt1)/EFI/acme/grub.cfg": config, "(hd0,gpt1)/k": "kernel", "(hd0,gpt1)/i": "an initrd...", "(hd0,gpt2)/k": "other"}
	for name, text := range more {
		d[name] = text
	}
	env := grub.Environment{Version: "2.14", Config: "(hd0,gpt1)/EFI/acme/grub.cfg", Open: d.open, Devices: map[string]string{"1-2": "hd0,gpt2"}}
	for _, c := range change {
		c(&env)
	}
	return grub.Run(env, crypto.SHA256, crypto.SHA384)
}

// What the reference lists of commands, and how their texts come about.
func TestCommands(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		files  disk
		want   []string
	}{
		"for, quotes and escapes": {
			"for x in one two; do set last=\"$x\"; done\nset e=\nlinux /k \"q=a b\" last=$last esc=x\\\\y 's=c\"d' $e \"\" apos=\"it's\"\ninitrd /i /i\nboot\n", nil,
			[]string{"set last=one", "set last=two", "set e=", `linux /k q=a b last=two esc=x\y s=c"d  apos=it's`, "file: /k",
				`kernel_cmdline: /k "q=a b" last=two esc=x\\y s=c\"d  apos=it\'s`, "initrd /i /i", "file: /i", "file: /i", "boot"},
		},
		"if, else and the status": {
			"if false; then set a=1; elif [ ! -f /none ]; then set a=\"2$?\"; else set a=3; fi\nif [ $a = 20 ]\nthen true; fi\nlinux /k; boot", nil,
			[]string{"false", "[ ! -f /none ]", "set a=20", "[ 20 = 20 ]", "true", "linux /k", "file: /k", "kernel_cmdline: /k", "boot"},
		},
		"functions": {
			"function f { set v=${1}-$2; return; set never=1; }\nf a\nf 'b c' d\nlinux /k $v\nboot", nil,
			[]string{"f a", "set v=a-", "return", "f b c d", "set v=b c-d", "return", "linux /k ERROR"},
		},
		"menu, default by title, search": {
			"set default=Two\nmenuentry One { true }\nmenuentry Two --class x --id two extra {\n\tsearch --no-floppy --fs-uuid --set=root 1-2\n\tlinux /k\n}", nil,
			[]string{"set default=Two", "menuentry One { true }", "menuentry Two --class x --id two extra {\n\tsearch --no-floppy --fs-uuid --set=root 1-2\n\tlinux /k\n}",
				"setparams Two extra", "search --no-floppy --fs-uuid --set=root 1-2", "linux /k", "file: /k", "kernel_cmdline: /k"},
		},
		"configfile without a menu, and source": {
			"configfile /a.cfg\nsource (hd0,gpt1)/b.cfg\nlinux /k $b\nboot", disk{"(hd0,gpt1)/a.cfg": "set a=1\nreturn\nset a=2\n", "(hd0,gpt1)/b.cfg": "set b=$a"},
			[]string{"configfile /a.cfg", "file: /a.cfg", "set a=1", "return", "source (hd0,gpt1)/b.cfg", "file: (hd0,gpt1)/b.cfg", "set b=1", "linux /k 1", "file: /k", "kernel_cmdline: /k 1", "boot"},
		},
		"chainload": {"chainloader /k\nboot", nil, []string{"chainloader /k", "file: /k", "boot"}},
		"comments, line ends and tests": {
			"# nothing\nset a=x#y # more\nset b=\\\n$a\n[ -n \"$b\" -a x = x -o -z x ]\nlinux /k $?\nboot\n", nil,
			[]string{"set a=x#y", "set b=x#y", "[ -n x#y -a x = x -o -z x ]", "linux /k 0", "file: /k", "kernel_cmdline: /k 0", "boot"},
		},
		"and, or": {
			"[ x = y -a x = x ]\nset a=$?\n[ x = y -o x = x ]\nset b=$?\n[ x = y -o x = y ]\nset c=$?\nlinux /k $a$b$c\nboot", nil,
			[]string{"[ x = y -a x = x ]", "set a=1", "[ x = y -o x = x ]", "set b=0", "[ x = y -o x = y ]", "set c=1", "linux /k 101", "file: /k", "kernel_cmdline: /k 101", "boot"},
		},
		"the arguments of a function end with it": {
			"function f { set v=$1; }\nfunction g { f in; set w=$1; }\ng out\nlinux /k $v $w\nboot", nil,
			[]string{"g out", "f in", "set v=in", "set w=out", "linux /k in out", "file: /k", "kernel_cmdline: /k in out", "boot"},
		},
		"a font that is missing": {"if loadfont /f.pf2; then set g=1; fi\nlinux /k $g\nboot", nil, []string{"loadfont /f.pf2", "linux /k", "file: /k", "kernel_cmdline: /k", "boot"}},
	} {
		boot, err := run(c.config, c.files)
		if c.want[len(c.want)-1] == "linux /k ERROR" { // a variable with a blank, out of quotes
			require.ErrorContains(t, err, "is \"b c\", which splits into several words outside quotes", name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, c.want, texts(boot), name)
		for _, e := range boot.Before {
			require.Len(t, e.Digests, 2)
			require.Len(t, e.Digests[crypto.SHA384], 48)
		}
	}
	older := func(e *grub.Environment) { e.Version = "2.12" }
	_, err := run("linux /k a\ninitrd /i /i\nboot", disk{"(hd0,gpt1)/i": "12345"})
	require.ErrorContains(t, err, "whether GRUB 2.14 pads it")
	boot, err := run("linux /k a\ninitrd /i /i\nboot", disk{"(hd0,gpt1)/i": "12345"}, older)
	require.NoError(t, err)
	w := crypto.SHA256.New()
	w.Write([]byte("12345\x00\x00\x0012345"))
	require.Equal(t, hex.EncodeToString(w.Sum(nil)), hex.EncodeToString(boot.Initrd[crypto.SHA256]))

	newer, err := run("linux /k a\nboot", nil)
	require.NoError(t, err)
	require.Equal(t, string(newer.LoadOptions), string(boot.LoadOptions)+"\x00\x00")

	boot, err = run("menuentry One { true }\nmenuentry Two --id x { linux /k }", nil, func(e *grub.Environment) { e.Entry = "x" })
	require.NoError(t, err)
	require.Contains(t, texts(boot), "setparams Two")
	boot, err = run("linux /k $lockdown\nboot", nil, func(e *grub.Environment) { e.Variables = map[string]string{"lockdown": "y"} })
	require.NoError(t, err)
	require.Contains(t, texts(boot), "linux /k y")
}

// What is not known is refused, with the place.
func TestUnsupported(t *testing.T) {
	for config, want := range map[string]string{
		"":                                    "the configuration starts nothing",
		"set a=1":                             "the configuration starts nothing",
		"\n\nload_env":                        "grub.cfg:3: command load_env is not modelled",
		"save_env x":                          "command save_env is not modelled",
		"while true; do true; done":           "while is not modelled",
		"true | true":                         "'|' is not modelled",
		"if true; then":                       "the file ends before elif or else or fi",
		"fi":                                  "fi is not modelled",
		"set a='":                             "quotation mark is not closed",
		"set a=\"":                            "quotation mark is not closed",
		"set a=\"\\":                          "quotation mark is not closed",
		"set a=\\":                            "the file ends with a backslash",
		"set a=${b":                           "${ is not closed",
		"set a=$@":                            "variable $ is not modelled",
		"set a=$lockdown":                     "$lockdown is unknown: set it in Environment.Variables",
		"set a=$net_default_ip":               "$net_default_ip is unknown: set it in Environment.Variables",
		"if insmod x; then true; fi":          "whether the command in the condition succeeds is unknown",
		"insmod x\nset a=$?":                  "$? of a command whose result is unknown",
		"[ -s /k ]":                           "exists, and whether -s measures it is unknown",
		"[ -d /k ]":                           `test "-d /k" is not modelled`,
		"[ a -gt b ]":                         "is not modelled",
		"[ a":                                 "[ without ]",
		"search --label x":                    "search: --label is not modelled",
		"search --fs-uuid":                    "want --fs-uuid and a UUID",
		"search --fs-uuid 9-9":                "is not in Environment.Devices",
		"search.fs_uuid 1-2":                  "search.fs_uuid: want a UUID and a variable name",
		"source /none":                        "file /none does not exist",
		"source none":                         "want a path with a device, or an absolute path on the device that the variable root names",
		"source":                              "want one file",
		"linux":                               "want a file and then arguments",
		"linux /none":                         "file /none does not exist",
		"linux /k\nlinux /k":                  "a second program is loaded: want one",
		"initrd /i":                           "want one initrd command after linux",
		"linux /k\ninitrd /i\ninitrd /i":      "want one initrd command after linux, with files",
		"linux /k\ninitrd newc:a:/i":          "newc:a:/i is not modelled",
		"chainloader +1":                      "want one file",
		"boot":                                "no program was loaded",
		"menuentry x { true }":                "no program was loaded",
		"menuentry x true":                    "want a block in braces",
		"menuentry { true }":                  "no title",
		"menuentry x --foo { true }":          "option --foo is not modelled",
		"menuentry x --class":                 "want a block in braces",
		"submenu x { true }":                  `menu entry "x" is a submenu`,
		"set default=7\nmenuentry x { true }": `the menu has 1 entries, but not "7"`,
		"set default=y\nmenuentry x { true }": `the menu has 1 entries, but not "y"`,
		"loadfont /k":                         "file /k exists",
		"loadfont unicode":                    "want one file path",
		"fwsetup":                             "leaves GRUB",
		"fwsetup --is-supported":              "is unknown",
		"set a":                               "want NAME=VALUE",
		"set a=1 b=2":                         "want NAME=VALUE",
		"return 1":                            "return with a value",
		"$empty":                              "is empty after its variables are expanded",
		"function f { f; }\nf":                "nested deeper than 32 levels",
		"for 1 in a; do true; done":           "for: want a variable name",
		"function { true; }":                  "want a name",
		strings.Repeat("if true; then ", 70):  "nested deeper than 64 levels",
		"configfile (hd0,gpt1)/EFI/acme/grub.cfg": "nested deeper than 32 levels",
		"unknown --x": "command unknown is not modelled",
	} {
		boot, err := run(config, nil)
		require.Error(t, err, config)
		require.Nil(t, boot)
		var e *grub.UnsupportedError
		require.ErrorAs(t, err, &e, config)
		require.ErrorContains(t, err, want, config)
		require.True(t, strings.HasPrefix(err.Error(), "grub: "))
	}
	_, err := run(strings.Repeat("for a in x x x x x x x x x x x; do ", 6)+"true"+strings.Repeat("; done", 6), nil)
	require.ErrorContains(t, err, "more than 100000 commands")
	_, err = run("true", nil, func(e *grub.Environment) { e.Config = "/grub.cfg" })
	require.ErrorContains(t, err, "want a name like")
	_, err = run("true", nil, func(e *grub.Environment) { e.Open = nil })
	require.ErrorContains(t, err, "grub: no hashes were given, or no function that opens files")
	for _, version := range []string{"", "2.06", "2.13"} {
		_, err = run("linux /k\nboot", nil, func(e *grub.Environment) { e.Version = version })
		require.ErrorContains(t, err, "want one of 2.12, 2.14")
	}
	for want, hashes := range map[string][]crypto.Hash{"MD4": {crypto.MD4}, "named twice": {crypto.SHA256, crypto.SHA256}} {
		files := disk{"(hd0,gpt1)/EFI/debian/grub.cfg": "true"} // so that the hash alone is wrong
		_, err = grub.Run(grub.Environment{Version: "2.14", Config: "(hd0,gpt1)/EFI/debian/grub.cfg", Open: files.open}, hashes...)
		require.ErrorContains(t, err, want)
	}
	broken := errors.New("broken")
	_, err = run("true", nil, func(e *grub.Environment) { e.Open = func(string) (osmith.Source, error) { return nil, broken } })
	require.ErrorIs(t, err, broken)
	_, err = run("true", disk{"(hd0,gpt1)/EFI/acme/grub.cfg": strings.Repeat("#", 4<<20+1)})
	require.ErrorContains(t, err, "more than 4194304")
}

func TestVersion(t *testing.T) {
	image := func(sbat string) osmith.Source {
		return bytes.NewReader(petest.Image{SizeOfHeaders: 512, Sections: []petest.Section{{Name: ".sbat", Content: []byte(sbat)}}}.Bytes())
	}
	const first = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
	version, err := grub.Version(image(first + "grub,7,Free Software Foundation,grub,2.12,https://www.gnu.org/software/grub/\ngrub.debian,5,Debian,grub2,2.12-9,https://x\n"))
	require.NoError(t, err)
	require.Equal(t, "2.12", version)
	for want, src := range map[string]osmith.Source{
		"section .sbat has no line for GRUB": image(first + "grub.debian,5,Debian,grub2,2.12-9,https://x\n"),
		"section .sbat is missing":           bytes.NewReader(petest.Image{SizeOfHeaders: 512, Sections: []petest.Section{{Name: ".text", Content: []byte("x")}}}.Bytes()),
		"grub: ":                             bytes.NewReader([]byte("no image")),
	} {
		_, err := grub.Version(src)
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, []string{"2.12", "2.14"}, grub.Versions())
}

func FuzzRun(f *testing.F) {
	for _, name := range []string{"s3-shim-grub/inputs/EFI/debian/grub.cfg", "s3-grub-debian/inputs/boot/grub/grub.cfg"} {
		b, err := os.ReadFile(recorded + name)
		require.NoError(f, err)
		f.Add(string(b))
	}
	f.Add("function f { set v=${1}-$2; }\nf a\nfor x in $v; do [ -f /$x -a ! x = \"y z\" ]; done\nmenuentry a { linux /k\ninitrd /i }")
	f.Fuzz(func(t *testing.T, config string) {
		boot, err := run(config, nil)
		require.Equal(t, err == nil, boot != nil)
		if boot != nil {
			require.True(t, boot.Kernel != "" || boot.Chainload != "")
		}
	})
}

// The file that ExampleVersion reads: a reader of the Example cannot import the package that makes
// it. OSMITH_UPDATE=1 writes it.
func TestFileOfExample(t *testing.T) {
	const lines = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\ngrub,7,Free Software Foundation,grub,2.12,https://www.gnu.org/software/grub/\n"
	want := petest.Image{SizeOfHeaders: 512, Sections: []petest.Section{{Name: ".sbat", Content: []byte(lines)}}}.Bytes()
	const name = "testdata/grubx64.efi"
	if os.Getenv("OSMITH_UPDATE") == "1" {
		require.NoError(t, os.WriteFile(name, want, 0o644))
	}
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, want, got, "%s: OSMITH_UPDATE=1 writes it", name)
}
