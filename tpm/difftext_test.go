package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// hashEvent is an event whose digest is of measured.
func hashEvent(pcr int, typ EventType, data, measured []byte) Event {
	return Event{PCR: pcr, Type: typ, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, measured)}}
}

func dataEvent(pcr int, typ EventType, data []byte) Event { return hashEvent(pcr, typ, data, data) }

// logOf is a log as a machine would have it.
func logOf(t *testing.T, events ...Event) *Log {
	t.Helper()
	raw, err := (&Log{Events: append([]Event{newSpecID([]crypto.Hash{crypto.SHA256})}, events...)}).MarshalBinary()
	require.NoError(t, err)
	log, err := ParseLog(raw)
	require.NoError(t, err)
	return log
}

// signatureList is an EFI_SIGNATURE_LIST; entries hold owner and data.
func signatureList(entries ...[]byte) []byte {
	out := bytes.Repeat([]byte{7}, 16)
	size := 28 + len(entries)*len(entries[0])
	for _, n := range []int{size, 0, len(entries[0])} {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	return append(out, bytes.Join(entries, nil)...)
}

func owned(owner byte, data []byte) []byte { return append(bytes.Repeat([]byte{owner}, 16), data...) }

// A change of what a machine trusts names certificates by their subjects, and hashes by number and
// value.
func TestTrustInWords(t *testing.T) {
	db, kek := read(t, "testdata/boot/certs/db.der"), read(t, "testdata/boot/certs/KEK.der")
	hash := func(n int) []byte { return sha256Of(fmt.Sprint(n)) }
	hexes := func(ns ...int) string {
		var out []string
		for _, n := range ns {
			out = append(out, hexOf(hash(n)))
		}
		return strings.Join(out, ", ")
	}
	hashes := func(ns ...int) []byte {
		var list [][]byte
		for _, n := range ns {
			list = append(list, owned(1, hash(n)))
		}
		return signatureList(list...)
	}
	variable := func(name string, contents []byte) Event {
		vendor := imageSecurityDatabase
		if name == "SecureBoot" || name == "KEK" || name == "PK" {
			vendor = globalVariable
		}
		return dataEvent(7, EventEFIVariableDriverConfig, variableData(vendor, name, contents))
	}
	authority := func(vendor osmith.GUID, name string, data []byte) Event {
		return dataEvent(7, EventEFIVariableAuthority, variableData(vendor, name, data))
	}
	one := func(e Event) []Event { return []Event{e} }
	none := []Event{}
	twin := slices.Clone(db)
	twin[len(twin)-1]++
	print := func(der []byte) string { return "with SHA-256 " + hexOf(pcrbank.Sum(crypto.SHA256, der)[:8]) + "…" }
	owner := func(n byte) string { return "of owner " + efi.GUID(bytes.Repeat([]byte{n}, 16)).String() }
	for _, c := range []struct {
		name      string
		want, got []Event
		text      string
	}{
		{"a certificate more", one(variable("db", signatureList(owned(1, db)))), one(variable("db", slices.Concat(signatureList(owned(1, db)), signatureList(owned(1, kek))))),
			"db has certificate 'bootlab KEK' that was not expected"},
		{"a certificate less", one(variable("db", slices.Concat(signatureList(owned(1, db)), signatureList(owned(1, kek))))), one(variable("db", signatureList(owned(1, db)))),
			"db lacks certificate 'bootlab KEK'"},
		{"a certificate for another", one(variable("KEK", signatureList(owned(1, db)))), one(variable("KEK", signatureList(owned(1, kek)))),
			"KEK has certificate 'bootlab KEK' that was not expected, and lacks certificate 'bootlab db'"},
		{"of the same name", one(variable("db", signatureList(owned(1, db)))), one(variable("db", signatureList(owned(1, twin)))),
			fmt.Sprintf("db has certificate 'bootlab db' %s that was not expected, and lacks certificate 'bootlab db' %s", print(twin), print(db))},
		{"of another owner", one(variable("db", signatureList(owned(1, db)))), one(variable("db", signatureList(owned(2, db)))),
			fmt.Sprintf("db has certificate 'bootlab db' %s that was not expected, and lacks certificate 'bootlab db' %s", owner(2), owner(1))},
		{"of another owner, and another one", one(variable("db", signatureList(owned(1, db)))), one(variable("db", signatureList(owned(2, twin)))),
			fmt.Sprintf("db has certificate 'bootlab db' %s %s that was not expected, and lacks certificate 'bootlab db' %s %s", print(twin), owner(2), print(db), owner(1))},
		{"the same twice", one(variable("db", nil)), one(variable("db", signatureList(owned(1, db), owned(1, db)))), "db is 2 certificates 'bootlab db', 'bootlab db', expected absent"},
		{"a hash more", one(variable("dbx", hashes(1))), one(variable("dbx", hashes(1, 2))), "dbx has hash " + hexes(2) + " that was not expected"},
		{"many hashes more", one(variable("dbx", hashes(1))), one(variable("dbx", hashes(2, 3, 4, 5, 6, 1))),
			"dbx has 5 hashes " + hexes(2, 3, 4) + ", 2 more that were not expected"},
		{"another order", one(variable("dbx", hashes(1, 2))), one(variable("dbx", hashes(2, 1))), "dbx has the same 2 entries in another order"},
		{"a certificate and hashes", one(variable("dbx", hashes(1))), one(variable("dbx", slices.Concat(hashes(1, 2, 3), signatureList(owned(1, db))))),
			"dbx has certificate 'bootlab db'; 2 hashes " + hexes(2, 3) + " that were not expected"},
		{"none left", one(variable("db", signatureList(owned(1, db)))), one(variable("db", nil)), "db is absent, expected certificate 'bootlab db'"},
		{"the first", one(variable("db", nil)), one(variable("db", signatureList(owned(1, db)))), "db is certificate 'bootlab db', expected absent"},
		{"Secure Boot absent", one(variable("SecureBoot", []byte{1})), one(variable("SecureBoot", nil)), "SecureBoot is absent, expected 1"},
		{"Secure Boot there", one(variable("SecureBoot", nil)), one(variable("SecureBoot", []byte{0})), "SecureBoot is 0, expected absent"},
		{"Secure Boot off", one(variable("SecureBoot", []byte{1})), one(variable("SecureBoot", []byte{0})), "SecureBoot is 0, expected 1"},
		{"not measured", one(variable("SecureBoot", []byte{1})), none, "missing: Secure Boot variable SecureBoot = 1"},
		{"no list", one(variable("db", []byte("0123456789"))), one(variable("db", []byte{1, 2, 0, 3})), "db shrank by 6 bytes to 4"},
		{"a text", one(variable("db", []byte("text"))), one(variable("db", []byte("other"))), "db is 'other', expected 'text'"},

		{"another authority", one(authority(imageSecurityDatabase, "db", owned(1, db))), one(authority(imageSecurityDatabase, "db", owned(1, kek))),
			"a program was let in by certificate 'bootlab KEK' of db, expected certificate 'bootlab db'"},
		{"its twin", one(authority(imageSecurityDatabase, "db", owned(1, db))), one(authority(imageSecurityDatabase, "db", owned(1, twin))),
			fmt.Sprintf("a program was let in by certificate 'bootlab db' %s of db, expected certificate 'bootlab db' %s", print(twin), print(db))},
		{"a hash", one(authority(imageSecurityDatabase, "db", owned(1, db))), one(authority(imageSecurityDatabase, "db", owned(1, hash(1)))),
			"a program was let in by hash " + hexes(1) + " of db, expected certificate 'bootlab db'"},
		{"an authority more", none, one(authority(imageSecurityDatabase, "db", owned(1, db))), "a program was let in by certificate 'bootlab db' of db, which was not expected"},
		{"an authority less", one(authority(imageSecurityDatabase, "db", owned(1, db))), none, "no program was let in by certificate 'bootlab db' of db, which was expected"},
		{"of shim", none, one(authority(shimVendor, "Shim", append(slices.Clone(db), 0xaf))), "a program was let in by certificate 'bootlab db' of shim itself, which was not expected"},
		{"of the owner", none, one(authority(shimVendor, "MokListRT", owned(3, kek))), "a program was let in by certificate 'bootlab KEK' of shim's MokListRT, which was not expected"},
		{"a level", one(authority(shimVendor, "SbatLevel", []byte("sbat,1,2021030218\n"))), one(authority(shimVendor, "SbatLevel", []byte("sbat,1,2025021800\nshim,4\n"))),
			`SbatLevel is 'sbat,1,2025021800\nshim,4', expected 'sbat,1,2021030218'`},
		{"a switch", none, one(authority(shimVendor, "MokSBState", []byte{1})), "not expected: authority MokSBState = 1"},
		{"shim's list", one(hashEvent(14, EventIPL, []byte("MokList\x00"), []byte("a"))), one(hashEvent(14, EventIPL, []byte("MokList\x00\xaf"), []byte("b"))),
			"MokList (keys of the machine's owner that shim lets programs in by) differs (3e23e8160039594a…, expected ca978112ca1bbdca…)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds := Diff(logOf(t, c.want...), logOf(t, c.got...))
			require.Len(t, ds, 1)
			text := ds[0].Text()
			if ds[0].Want == nil {
				text = text[:strings.LastIndex(text, " (")]
			}
			assert.Equal(t, c.text, text)
			assert.NotContains(t, ds[0].Text(), `\\`)
		})
	}
}

// What shim measured can be given: it is matched by its digest.
func TestShimListContents(t *testing.T) {
	db, kek := read(t, "testdata/boot/certs/db.der"), read(t, "testdata/boot/certs/KEK.der")
	old, list := signatureList(owned(1, db)), slices.Concat(signatureList(owned(1, db)), signatureList(owned(1, kek)))
	log := func(contents []byte) *Log { return logOf(t, hashEvent(14, EventIPL, []byte("MokList\x00"), contents)) }
	known := [][]byte{list, old, []byte("something else")}
	ds := Diff(log(old).WithContents(known...), log(list).WithContents(known...))
	require.Equal(t, "PCR 14: MokList (keys of the machine's owner that shim lets programs in by) has certificate 'bootlab KEK' that was not expected\n", lines(ds))
	// One that matches nothing says nothing.
	ds = Diff(log(old).WithContents(old), log(list).WithContents([]byte("lie")))
	require.Contains(t, lines(ds), " differs (")
}

// Texts that were measured beside their names differ by words and lines, where both are known.
func TestContents(t *testing.T) {
	section := func(name, contents string) []Event {
		return []Event{hashEvent(11, EventIPL, utf16z(name), append([]byte(name), 0)), hashEvent(11, EventIPL, utf16z(name), []byte(contents))}
	}
	options := func(line string) []Event {
		return []Event{hashEvent(9, EventTag, taggedData(TagLoadOptions, []byte("LOADED_IMAGE::LoadOptions\x00")), utf16z(line))}
	}
	conf := func(text string) []Event {
		return []Event{hashEvent(5, EventTag, taggedData(TagLoaderConf, utf16z("loader.conf")), []byte(text))}
	}
	long := strings.Repeat("a.long.option=0123456789 ", 40)
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return b.String()
	}
	for _, c := range []struct {
		name            string
		events          func(string) []Event
		want, got, text string
	}{
		{"the command line in the UKI", func(s string) []Event { return section(".cmdline", s) }, "quiet ro", "quiet rw debug", "PCR 11: UKI section .cmdline: 'ro' is missing, 'rw debug' was not expected"},
		{"a long one", func(s string) []Event { return section(".cmdline", s) }, long + "ro", "rw " + long, "PCR 11: UKI section .cmdline: 'ro' is missing, 'rw' was not expected"},
		{"many words", func(s string) []Event { return section(".cmdline", s) }, "ro", "ro " + long[:974], "PCR 11: UKI section .cmdline: '" + long[:974] + "' was not expected"},
		{"too many words", func(s string) []Event { return section(".cmdline", s) }, "ro", "ro " + long + long[:len(long)-1], "PCR 11: UKI section .cmdline: '" + (long + long)[:1024] + "…' was not expected"},
		{"in another order", func(s string) []Event { return section(".cmdline", s) }, long + "a b", long + "b a", "PCR 11: UKI section .cmdline has its words in another order: 'b a' where 'a b' was expected"},
		{"white space", func(s string) []Event { return section(".cmdline", s) }, "a  b", "a b", "PCR 11: UKI section .cmdline has the same words, with other white space between them: 'a b', expected 'a  b'"},
		{"quotes", func(s string) []Event { return section(".cmdline", s) }, "x", `x a="b`, `PCR 11: UKI section .cmdline: 'a="b' was not expected`},
		{"quotes in quotes", func(s string) []Event { return section(".cmdline", s) }, "x", `x it's`, `PCR 11: UKI section .cmdline: "it's" was not expected`},
		{"both", func(s string) []Event { return section(".cmdline", s) }, "x", `x it's"`, `PCR 11: UKI section .cmdline: 'it\u0027s"' was not expected`},
		{"os-release", func(s string) []Event { return section(".osrel", s) }, "ID=os\nVERSION_ID=1\n", "ID=os\nVERSION_ID=2\n",
			"PCR 11: UKI section .osrel: 'VERSION_ID=1' missing, 'VERSION_ID=2' not expected"},
		{"its lines in another order", func(s string) []Event { return section(".osrel", s) }, "ID=os\nA=1\nB=2", "ID=os\nB=2\nA=1",
			`PCR 11: UKI section .osrel: its lines are in another order: 'B=2 A=1' where 'A=1 B=2' was expected`},
		{"many lines", func(s string) []Event { return section(".osrel", s) }, "a", "a\n" + many(9),
			"PCR 11: UKI section .osrel: 'line 0', 'line 1', 'line 2', 'line 3', 'line 4', 'line 5', 4 more not expected"},
		{"loader.conf", conf, "timeout 0\n", "timeout 5\n", "PCR 5: loader.conf: 'timeout 0' missing, 'timeout 5' not expected"},
		{"an empty one", conf, "timeout 0", "", "PCR 5: loader.conf: 'timeout 0' missing, '' not expected"},
		{"the kernel's command line", options, "quiet", "quiet init=/bin/sh", "PCR 9: the kernel's command line: 'init=/bin/sh' was not expected"},
		{"no text", conf, "\x01\x02", "text", "PCR 5: loader.conf differs (982d9e3eb996f559…, expected a12871fee210fb86…)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, got := logOf(t, c.events(c.want)...), logOf(t, c.events(c.got)...)
			known := [][]byte{[]byte(c.want), []byte(c.got), []byte("neither")}
			ds := Diff(want.WithContents(known...), got.WithContents(known...))
			require.Equal(t, c.text+"\n", lines(ds))
			// Without one of the two it is only said that they differ, and the logs themselves know
			// nothing.
			for _, ds := range [][]Difference{Diff(want.WithContents(known[0]), got), Diff(want, got.WithContents(known[1])), Diff(want, got), Diff(want.WithContents(known[1]), got.WithContents(known[0]))} {
				require.Regexp(t, `differs \([0-9a-f]{16}…, expected [0-9a-f]{16}…\)\n$`, lines(ds))
			}
		})
	}
	// A file of /proc ends in a newline that was not measured.
	log := logOf(t, options("quiet")...).WithContents([]byte("quiet\n"))
	assert.Equal(t, "command line of the kernel 'quiet'", log.Events[1].Describe())
	// What is too long is not kept.
	log = logOf(t, conf(strings.Repeat("x", maxContents+1))...)
	assert.Nil(t, log.WithContents(bytes.Repeat([]byte("x"), maxContents+1)).Events[1].contents)
	log = logOf(t, conf(strings.Repeat("x", maxContents))...)
	assert.NotNil(t, log.WithContents(bytes.Repeat([]byte("x"), maxContents)).Events[1].contents)
}

// A digest of one bank says nothing of the event if that of another bank is not of the text.
func TestContentsInEveryBank(t *testing.T) {
	e := hashEvent(5, EventTag, taggedData(TagLoaderConf, utf16z("loader.conf")), []byte("text"))
	e.Digests[crypto.SHA1] = make([]byte, 20)
	log := (&Log{Events: []Event{e}}).WithContents([]byte("text"))
	assert.Nil(t, log.Events[0].contents)
	e.Digests[crypto.SHA1] = pcrbank.Sum(crypto.SHA1, []byte("text"))
	log = (&Log{Events: []Event{e}}).WithContents([]byte("text"))
	assert.Equal(t, []byte("text"), log.Events[0].contents)
}

// The kernel's command line is known where the boot loader's event has it.
func TestKernelCommandLineOfTheLog(t *testing.T) {
	options := func(line string) Event {
		return hashEvent(9, EventTag, taggedData(TagLoadOptions, []byte("LOADED_IMAGE::LoadOptions\x00")), utf16z(line))
	}
	passed := func(line string) Event { return dataEvent(12, EventIPL, utf16z(line)) }
	grub := func(line, measured string) Event {
		return hashEvent(8, EventIPL, append([]byte("kernel_cmdline: "+line), 0), []byte(measured))
	}
	for _, c := range []struct {
		name   string
		events []Event
		want   string
	}{
		{"of the loader", []Event{passed("a b"), options("a b")}, "command line of the kernel 'a b'"},
		{"of GRUB", []Event{grub("/vmlinuz a", "/vmlinuz a"), options("BOOT_IMAGE=/vmlinuz a")}, "command line of the kernel 'BOOT_IMAGE=/vmlinuz a'"},
		{"another one", []Event{passed("a b"), options("a b c")}, "command line of the kernel"},
		{"that is not attested", []Event{grub("/vmlinuz a", "/vmlinuz b"), options("BOOT_IMAGE=/vmlinuz a")}, "command line of the kernel"},
	} {
		log := logOf(t, c.events...)
		assert.Equal(t, c.want, log.Events[2].Describe(), c.name)
	}
	ds := Diff(logOf(t, passed("a b"), options("a b")), logOf(t, passed("a c"), options("a c")))
	assert.Equal(t, "PCR 9: the kernel's command line: 'b' is missing, 'c' was not expected\nPCR 12: command line: 'b' is missing, 'c' was not expected\n", lines(ds))
}

// Boot options under other numbers and events in other places are the same ones.
func TestMovedAndRenumbered(t *testing.T) {
	option := func(name string) []byte {
		path := append([]byte{4, 4}, binary.LittleEndian.AppendUint16(nil, uint16(4+2*len(name)+2))...)
		path = append(append(path, utf16z(name)...), 0x7f, 0xff, 4, 0)
		out := binary.LittleEndian.AppendUint16([]byte{1, 0, 0, 0}, uint16(len(path)))
		return append(append(out, utf16z(name)...), path...)
	}
	whole := func(number, name string) Event { // as older firmware measures it
		return dataEvent(1, EventEFIVariableBoot, variableData(globalVariable, number, option(name)))
	}
	contents := func(number, name string) Event { // as edk2 measures it
		return hashEvent(1, EventEFIVariableBoot, variableData(globalVariable, number, option(name)), option(name))
	}
	order := func(numbers ...byte) Event {
		var data []byte
		for _, n := range numbers {
			data = append(data, n, 0)
		}
		return hashEvent(1, EventEFIVariableBoot, variableData(globalVariable, "BootOrder", data), data)
	}
	table := func(text string) Event { return dataEvent(1, EventEFIAction, []byte(text)) }
	events := func(es ...Event) []Event { return es }
	for _, c := range []struct {
		name        string
		want, got   []Event
		kinds, text string
	}{
		{"renumbered", events(order(1), whole("Boot0001", "os")), events(order(2), whole("Boot0002", "os")), "changed renumbered",
			"PCR 1: BootOrder is 0002, expected 0001\nPCR 1: boot option 'os' os has the number Boot0002, expected Boot0001\n"},
		{"renumbered, of which the digest says nothing", events(order(1), contents("Boot0001", "os")), events(order(2), contents("Boot0002", "os")), "changed",
			"PCR 1: BootOrder is 0002, expected 0001\n"},
		{"swapped numbers", events(whole("Boot0001", "a"), whole("Boot0002", "b")), events(whole("Boot0001", "b"), whole("Boot0002", "a")), "renumbered renumbered",
			"PCR 1: boot option 'a' a has the number Boot0002, expected Boot0001\nPCR 1: boot option 'b' b has the number Boot0001, expected Boot0002\n"},
		{"swapped contents", events(contents("Boot0001", "a"), contents("Boot0002", "b")), events(contents("Boot0001", "b"), contents("Boot0002", "a")), "moved",
			"PCR 1: boot option 'a' a has the number Boot0002, expected Boot0001\n"},
		{"a new one under an old number", events(whole("Boot0001", "a")), events(whole("Boot0001", "b"), whole("Boot0002", "a")), "renumbered extra", ""},
		{"the same contents twice", events(whole("Boot0001", "a"), whole("Boot0002", "b")), events(whole("Boot0001", "a"), whole("Boot0003", "a")), "missing extra", ""},
		{"the same under the same number, hashed in another way, and once more", events(whole("Boot0001", "a")), events(whole("Boot0002", "a"), contents("Boot0001", "a")), "changed extra", ""},
		{"the same, hashed in another way", events(whole("Boot0001", "a")), events(contents("Boot0001", "a")), "changed",
			"PCR 1: Boot0001 has the expected contents, and not the expected digest (26d4dda540da7d64…, expected f0a0f808fe1697df…)\n"},
		{"other contents", events(whole("Boot0001", "a")), events(whole("Boot0001", "b")), "changed", "PCR 1: Boot0001 is 'b' b, expected 'a' a\n"},
		{"another type of event", events(whole("Boot0001", "a")), events(dataEvent(1, EventEFIVariableBoot2, variableData(globalVariable, "Boot0002", option("a")))), "renumbered", ""},
		{"contents that are not attested", events(whole("Boot0001", "a")), events(hashEvent(1, EventEFIVariableBoot, variableData(globalVariable, "Boot0002", option("a")), []byte("x"))), "missing extra", ""},

		{"a table later", events(table("a"), table("b"), table("c")), events(table("b"), table("c"), table("a")), "moved",
			"PCR 1: EV_EFI_ACTION 'a' was measured later than expected: event 3 of PCR 1, expected as event 1\n"},
		{"a table earlier", events(table("a"), table("b"), table("c")), events(table("c"), table("a"), table("b")), "moved",
			"PCR 1: EV_EFI_ACTION 'c' was measured earlier than expected: event 1 of PCR 1, expected as event 3\n"},
		{"twice, then once", events(table("a"), table("b"), table("a")), events(table("b"), table("a")), "missing", "PCR 1: missing: EV_EFI_ACTION 'a'\n"},
		{"once more elsewhere", events(table("a"), table("b")), events(table("a"), table("b"), table("a")), "extra", ""},
		{"moved, and another changed", events(table("a"), table("b"), table("c")), events(table("b"), table("x"), table("a")), "moved changed", ""},
		{"a program in another place, under another path", []Event{program("a", "1"), program("b", "2")}, []Event{program("b", "2"), program("c", "1")}, "moved", ""},
		{"a program under another path", []Event{program("a", "1")}, []Event{program("c", "1")}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds := Diff(logOf(t, c.want...), logOf(t, c.got...))
			var kinds []string
			for _, d := range ds {
				kinds = append(kinds, d.Kind())
			}
			require.Equal(t, c.kinds, strings.Join(kinds, " "), lines(ds))
			if c.text != "" {
				require.Equal(t, c.text, lines(ds))
			}
			require.Equal(t, lines(ds), lines(Causes(ds)), "nothing explains them")
		})
	}
}

// program is an application that firmware starts, whose digest is that of contents.
func program(path, contents string) Event {
	data, _ := imageLoadEvent(&Application{Path: path})
	return hashEvent(4, EventEFIBootServicesApplication, data, []byte(contents))
}

// What has no name says so, and what has one of a boot counter is the same.
func TestProgramsInWords(t *testing.T) {
	uki := func(path, contents string) []Event {
		return []Event{program(path, contents), hashEvent(11, EventIPL, utf16z(".linux"), []byte(".linux\x00")), hashEvent(11, EventIPL, utf16z(".linux"), []byte(contents))}
	}
	for _, c := range []struct{ want, got, text string }{
		{"EFI/Linux/os+3.efi", "EFI/Linux/os+2-1.EFI", `PCR 4: the UKI \EFI\Linux\os+2-1.EFI differs (Authenticode 3fdba35f04dc8c46…, expected 5feceb66ffc86f38…): .linux differs`},
		{"EFI/Linux/os_1.efi", "EFI/Linux/os_2.efi", `PCR 4: the UKI \EFI\Linux\os_2.efi differs (Authenticode 3fdba35f04dc8c46…, expected \EFI\Linux\os_1.efi with 5feceb66ffc86f38…): .linux differs`},
		{"", "EFI/Linux/os_2.efi", `PCR 4: the UKI \EFI\Linux\os_2.efi differs (Authenticode 3fdba35f04dc8c46…, expected a program without a path with 5feceb66ffc86f38…): .linux differs`},
		{"a", "", `PCR 4: the UKI differs (Authenticode 3fdba35f04dc8c46…, expected \a with 5feceb66ffc86f38…): .linux differs`},
	} {
		want, got := uki(c.want, "0"), uki(c.got, "10")
		got[0].Digests, got[2].Digests = hashEvent(0, 0, nil, []byte("9")).Digests, hashEvent(0, 0, nil, []byte("other")).Digests
		got[0].Digests = map[crypto.Hash][]byte{crypto.SHA256: unhex(t, "3fdba35f04dc8c462986c992bcf875546257113072a909c162f7e470e581e278")}
		ds := Diff(logOf(t, want...), logOf(t, got...))
		require.Len(t, ds, 2)
		causes := Causes(ds)
		require.Len(t, causes, 1)
		assert.Equal(t, c.text, causes[0].String())
		require.Len(t, causes[0].Parts, 1)
		assert.Equal(t, ".linux", causes[0].Parts[0].Subject.Name)
		assert.Empty(t, ds[0].Parts, "the differences stay as they are")
		b, err := causes[0].MarshalJSON()
		require.NoError(t, err)
		assert.Contains(t, string(b), `"parts":[{"pcr":11,"kind":"changed"`)
	}
	var parts []Difference
	for i, kind := range []string{kindChanged, kindChanged, kindExtra, kindExtra, kindMissing} {
		d := Difference{Subject: Subject{Kind: SubjectSection, Name: fmt.Sprintf(".s%d", i)}, Want: &Event{}, Got: &Event{}}
		switch kind {
		case kindExtra:
			d.Want = nil
		case kindMissing:
			d.Got = nil
		}
		name := d
		name.Subject.Kind = SubjectSectionName
		parts = append(parts, name, d)
	}
	assert.Equal(t, ".s0, .s1 differ; .s2, .s3 not expected; .s4 missing", Difference{Parts: parts}.partNames())
	assert.Equal(t, "PCR 0", Difference{}.register())
}

func TestSettings(t *testing.T) {
	e := dataEvent(1, EventEFIVariableDriverConfig, variableData(osmith.GUID{1}, "LenovoConfig", []byte{1, 2, 3}))
	other := dataEvent(1, EventEFIVariableDriverConfig, variableData(osmith.GUID{1}, "LenovoConfig", []byte{1, 2, 4}))
	ds := Diff(logOf(t, e), logOf(t, other))
	require.Equal(t, "PCR 1: LenovoConfig-01000000-0000-0000-0000-000000000000 has other contents of the same size, 3 bytes\n", lines(ds))
	require.Equal(t, SubjectSetting, ds[0].Subject.Kind)
	require.Equal(t, "PCR 1: missing: firmware setting LenovoConfig-01000000-0000-0000-0000-000000000000 = 3 bytes\n", lines(Diff(logOf(t, e), logOf(t))))
	// Of the Secure Boot configuration are those in PCR 7, and in a log of RTMRs, where PCR 1 is
	// the same register, those of its names.
	for _, c := range []struct {
		event  Event
		vendor osmith.GUID
		name   string
		want   SubjectKind
	}{
		{Event{PCR: 7}, osmith.GUID{1}, "x", SubjectVariable}, {Event{PCR: 1}, globalVariable, "SecureBoot", SubjectSetting},
		{Event{PCR: 1, cc: true}, globalVariable, "SecureBoot", SubjectVariable}, {Event{PCR: 1, cc: true}, imageSecurityDatabase, "dbx", SubjectVariable},
		{Event{PCR: 1, cc: true}, globalVariable, "dbx", SubjectSetting}, {Event{PCR: 1, cc: true}, osmith.GUID{1}, "SecureBoot", SubjectSetting},
	} {
		c.event.Type, c.event.Data = EventEFIVariableDriverConfig, variableData(c.vendor, c.name, nil)
		assert.Equal(t, c.want, new(subjectReader).subject(&c.event).Kind, "%v %s", c.event.PCR, c.name)
	}
}

// A certificate is known by its name even if crypto/x509 does not take it.
func TestCertificateName(t *testing.T) {
	der := read(t, "testdata/boot/certs/db.der")
	name, ok := certificateName(der)
	require.True(t, ok)
	assert.Equal(t, "bootlab db", name)
	negative := bytes.Clone(der)
	at := bytes.Index(negative, []byte{0x02, 0x14}) // its serial number
	require.Positive(t, at)
	negative[at+2] |= 0x80
	name, ok = certificateName(negative)
	require.True(t, ok)
	assert.Equal(t, "bootlab db", name)
	for n := range der {
		_, ok := certificateName(der[:n])
		assert.False(t, ok, "%d bytes", n)
	}
	_, ok = certificateName(append(bytes.Clone(der), 0, 0))
	assert.False(t, ok)
	_, ok = certificateName(append(bytes.Clone(der), 0))
	assert.True(t, ok, "a byte too many, as shim has it")
	// an organization
	unnamed := bytes.Replace(der, append([]byte{0x06, 0x03, 0x55, 0x04, 0x03}, 0x0c), append([]byte{0x06, 0x03, 0x55, 0x04, 0x0a}, 0x0c), 2)
	name, ok = certificateName(unnamed)
	require.True(t, ok)
	assert.Equal(t, "O=bootlab db", name)
	assert.Equal(t, "entry of 5 bytes with SHA-256 "+hexOf(pcrbank.Sum(crypto.SHA256, []byte("12345"))[:8])+"…", signatureEntry{data: string(owned(1, []byte("12345")))}.text())
}

func TestPlural(t *testing.T) {
	for thing, want := range map[string]string{"hash": "2 hashes", "entry": "2 entries", "certificate": "2 certificates", "key": "2 keys"} {
		assert.Equal(t, want, plural(2, thing))
		assert.Equal(t, thing, plural(1, thing))
		assert.Equal(t, "1 "+thing, count(1, thing))
	}
}
