package partition

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// repartVector is a case with the answer of systemd-repart 262.
type repartVector struct {
	repartCase
	Answer repartAnswer `json:"answer"`
}

var repartVectors = filepath.Join("testdata", "repart-262.json")

func readVectors(t *testing.T) []repartVector {
	t.Helper()
	text, err := os.ReadFile(repartVectors)
	require.NoError(t, err)
	var out []repartVector
	require.NoError(t, json.Unmarshal(text, &out))
	require.Greater(t, len(out), 100)
	return out
}

// Definitions place the same partitions here as through systemd-repart 262: what it answered is
// kept, so that no tool is needed.
func TestRepartVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) { v.compare(t, v.Answer) })
	}
}

// The answers that are kept are those of the tool. OSMITH_UPDATE=1 writes them anew.
func TestRepartVectorsOfTool(t *testing.T) {
	tool := newRepartTool(t)
	if os.Getenv("OSMITH_UPDATE") == "1" {
		var all []string // a line for each
		for _, c := range vectorCases() {
			text, err := json.Marshal(repartVector{*c, tool.theirs(t, c)})
			require.NoError(t, err)
			all = append(all, string(text))
		}
		require.NoError(t, os.WriteFile(repartVectors, []byte("["+strings.Join(all, ",\n")+"]\n"), 0o644))
	}
	for i, v := range readVectors(t) {
		if i%8 != 0 && os.Getenv("OSMITH_LONG") != "1" && os.Getenv("OSMITH_UPDATE") != "1" {
			continue
		}
		answer := tool.theirs(t, &v.repartCase)
		require.Equal(t, lines(v.Answer.Placed), lines(answer.Placed), "%s\n%s", v.Name, answer.output)
		require.Equal(t, v.Answer.Refused, answer.Refused, "%s\n%s", v.Name, answer.output)
	}
}

// vectorCases are the cases of testdata/repart-262.json: one for each thing that decides about a
// place, and random ones.
func vectorCases() []*repartCase {
	var out []*repartCase
	add := func(c *repartCase, name, about string) {
		c.Name = name + " " + about
		if c.Size == 0 {
			c.Size = 1 << 30
		}
		out = append(out, c)
	}
	set := func(name string, ss int, definitions ...string) *repartCase {
		c := &repartCase{Files: map[string]string{}, SectorSize: ss}
		for i, text := range definitions {
			c.Files[fmt.Sprintf("%d0.conf", i+1)] = "[Partition]\n" + text
		}
		add(c, name, strings.ReplaceAll(strings.Join(definitions[:1], ""), "\n", " "))
		return c
	}
	disk := func(c *repartCase, parts ...oldPartition) {
		c.Disk = &oldDisk{FirstUsableLBA: 2048, Partitions: parts}
		for i := range parts {
			if parts[i].ID.IsZero() {
				parts[i].ID = osmith.GUID{1, byte(i), 6: 0x40, 8: 0x80}
			}
		}
	}
	const home = "Type=home\n"
	for _, key := range []string{"SizeMinBytes", "SizeMaxBytes", "PaddingMinBytes", "PaddingMaxBytes"} {
		for _, value := range []string{"0", "1", "4095", "4096", "4097", "1M 1K", "1.5 M"} {
			set("bounds", 512, "Type=srv\nWeight=0\nPaddingWeight=500\n"+key+"="+value+"\n", home)
		}
	}
	for _, value := range []string{"0x10", "010", "0o10", "0b11", "+5"} {
		set("numbers", 512, "Type=srv\nSizeMinBytes=0\nWeight="+value+"\n", "Type=home\nWeight=5\n")
	}
	for _, ss := range []int{0, 512, 4096} {
		for _, kind := range []string{"esp", "xbootldr", "home", "root-verity-sig"} {
			for _, format := range gridFormats {
				if kind == "esp" || kind == "home" || format == "vfat" {
					set(fmt.Sprint("floors ", ss), ss, "Type="+kind+"\nFormat="+format+"\nWeight=0\n", home)
				}
			}
		}
		set(fmt.Sprint("floors ", ss), ss, "Type=esp\nFormat=vfat\nSizeMaxBytes=0\nFileSystemSectorSize=1024\n", home)
		set(fmt.Sprint("hash tree ", ss), ss, "Type=usr\nVerity=data\nVerityMatchKey=u\nFormat=erofs\nSizeMaxBytes=100M\n",
			"Type=usr-verity\nVerity=hash\nVerityMatchKey=u\nWeight=0\n", home)
	}
	for _, text := range []string{"Type=srv\nMakeDirectories=/a\n", "Type=swap\n", "Type=esp\nEncrypt=tpm2\n", "Type=srv\nCopyBlocks=/sparse/3002368\n",
		"Type=srv\nCopyBlocks=/sparse/3000320\nSizeMaxBytes=1M\n", "Type=srv\nCopyBlocks=/sparse/3002368\nEncrypt=yes\n", "Type=srv\nFormat=empty\nEncrypt=yes\n"} {
		set("content", 512, text+"Weight=0\nSizeMinBytes=0\n", home)
	}
	for _, kind := range []string{"root-secondary", "usr-secondary-verity", "root-arm64", "44479540-f297-41b2-9af7-d131d5f0458a"} {
		set("types", 512, "Type="+kind+"\n")
		set("types, forced", 512, "Type="+kind+"\n").Force = "arm64"
	}
	const unknown, other = "Type=11111111-1111-4111-8111-111111111111\nSizeMaxBytes=20M\n", "Type=22222222-1111-4111-8111-111111111111\nSizeMaxBytes=20M\n"
	set("labels", 512, unknown, other, unknown)
	set("labels", 512, "Type=linux-generic\nSizeMaxBytes=20M\n", unknown, "Type=linux-generic\nSizeMaxBytes=20M\n", other)
	set("labels", 512, unknown+"Label=linux\n", other)
	set("labels", 512, other, unknown+"Label=linux-2\n", unknown)
	set("labels", 512, other+"Label=\n", unknown, "Type=srv\nFormat=empty\n")
	set("labels", 512, "Type=21686148-6449-6e6f-744e-656564454649\nSizeMaxBytes=20M\n", home)
	srv := func(priority string) string { return "Type=srv\nSizeMinBytes=300M\nSizeMaxBytes=300M\n" + priority }
	set("left out", 512, srv("Priority=2\n"), srv(""), srv(""), srv(""))
	set("left out", 512, srv(""), srv("Priority=1\n"), srv("Priority=2\n"), srv(""))
	files := set("files", 512, home)
	files.Files = map[string]string{"10.conf": "[Partition]\nType=home\nSizeMaxBytes=20M\n", "10.conf.d/b.conf": "[Partition]\nSizeMaxBytes=30M\n",
		"10.conf.d/a.conf": "[Partition]\nLabel=a\nSizeMaxBytes=25M\n", "9.conf": "\ufeff[Partition]\r\nType=srv\r\n[X-Foo]\r\nbar\r\n", "20.conf": "",
		"30.conf": "-> /dev/null", "40.conf": "-> 10.conf", ".50.conf": "nothing", "B.conf": "[Partition]\nType=var\nX-Foo=1\nLabel=a\\\n b\n"}
	for _, s := range []string{"", "SizeMinBytes=0\n", "SizeMinBytes=200M\n", "Weight=3000\n", "PaddingMinBytes=2M\n", "SizeMaxBytes=400M\nPaddingMaxBytes=1M\n",
		"SizeMinBytes=1500M\nPriority=5\n", "SizeMinBytes=990M\nPriority=5\n"} {
		for _, target := range []string{"", "SizeMinBytes=110M\nPaddingMinBytes=1M\nWeight=500\n"} {
			set("supplement", 512, "Type=xbootldr\nSupplementFor=20\nFormat=vfat\n"+s, "Type=esp\nFormat=vfat\n"+target, home)
			c := set("supplement, target too small", 512, "Type=xbootldr\nSupplementFor=20\nFormat=vfat\n"+s, "Type=esp\nFormat=vfat\n"+target, home)
			disk(c, oldPartition{Type: ESP, Name: "esp", FirstLBA: 2048, LastLBA: 307199}, oldPartition{Type: Srv, Name: "srv", FirstLBA: 307200, LastLBA: 327679})
			c = set("supplement on the disk", 512, "Type=xbootldr\nSupplementFor=20\nFormat=vfat\n"+s, "Type=esp\nFormat=vfat\n"+target, home)
			disk(c, oldPartition{Type: XBOOTLDR, Name: "boot", FirstLBA: 2048, LastLBA: 307199})
		}
	}
	for _, target := range []string{"", "SizeMinBytes=0\n", "SizeMinBytes=110M\n", "PaddingMinBytes=1M\n"} {
		// what only one of them says
		for _, s := range []string{"", "SizeMinBytes=0\n", "SizeMinBytes=20M\n", "PaddingMinBytes=0\n", "PaddingMinBytes=2M\n"} {
			set("supplement, minimum", 512, "Type=srv\nSupplementFor=20\nWeight=0\n"+s, "Type=var\n"+target, home)
		}
	}
	for _, priorities := range [][3]int{{5, 0, 5}, {6, 0, 5}, {0, 5, 5}} {
		text := func(kind string, size, i int) string {
			return fmt.Sprintf("Type=%s\nSizeMinBytes=%dM\nWeight=0\nPriority=%d\n", kind, size, priorities[i])
		}
		set("supplement left out", 512, text("xbootldr", 300, 0)+"SupplementFor=20\n", text("esp", 100, 1), text("home", 800, 2), "Type=swap\n")
	}
	disk(set("numbers", 512, "Type=var\n", home), oldPartition{Number: 5, Type: Srv, Name: "srv", FirstLBA: 2048, LastLBA: 4095}, oldPartition{Number: 2, Type: Swap, Name: "swap", FirstLBA: 4096, LastLBA: 24575})
	disk(set("numbers, behind those of the type", 512, "Type=srv\nSizeMinBytes=0\nSizeMaxBytes=20M\n", "Type=srv\nSizeMinBytes=0\nSizeMaxBytes=20M\n", "Type=srv\nSizeMinBytes=0\nSizeMaxBytes=20M\n", home),
		oldPartition{Number: 5, Type: Srv, Name: "srv", FirstLBA: 2048, LastLBA: 4095}, oldPartition{Number: 2, Type: Swap, Name: "swap", FirstLBA: 4096, LastLBA: 24575})
	disk(set("numbers, none behind those of the type", 512, "Type=srv\nSizeMinBytes=0\nSizeMaxBytes=20M\n", "Type=srv\nSizeMinBytes=0\nSizeMaxBytes=20M\n", home),
		oldPartition{Number: 128, Type: Srv, Name: "srv", FirstLBA: 2048, LastLBA: 4095}, oldPartition{Number: 2, Type: Swap, Name: "swap", FirstLBA: 4096, LastLBA: 24575})
	disk(set("numbers, the highest is taken", 512, "Type=var\n", home), oldPartition{Number: 127, Type: Srv, Name: "srv", FirstLBA: 2048, LastLBA: 4095}, oldPartition{Number: 2, Type: Tmp, Name: "tmp", FirstLBA: 4096, LastLBA: 24575})
	for _, text := range []string{"", "SizeMinBytes=0\n", "SizeMinBytes=8M\n", "Format=ext4\nSizeMinBytes=0\n", "Format=erofs\n", "Encrypt=yes\n", "Priority=3\n",
		"PaddingMinBytes=1M\nSizeMinBytes=0\n", "SizeMaxBytes=7M\n", "SizeMaxBytes=7M\nSizeMinBytes=0\n", "Label=hello\nSizeMinBytes=0\n"} {
		disk(set("no room to grow", 512, home+text), oldPartition{Type: Home, FirstLBA: 2048, LastLBA: 12287}, oldPartition{Type: Srv, FirstLBA: 12288, LastLBA: 22527})
		disk(set("room to grow", 512, home+text, "Type=var\n"), oldPartition{Type: Home, FirstLBA: 2048, LastLBA: 12287}, oldPartition{Type: Srv, FirstLBA: 24576, LastLBA: 34815})
	}
	for _, last := range []uint64{19999, 19998, 19997} {
		disk(set(fmt.Sprint("ends in sector ", last), 512, home), oldPartition{Type: Home, FirstLBA: 2049, LastLBA: last - 1}, oldPartition{Type: Srv, FirstLBA: last + 1, LastLBA: 30000})
	}
	for _, size := range []int64{1 << 20, 4 << 20, 4<<20 + 4096, 8 << 20} {
		set(fmt.Sprint("small disk ", size), 512, home+"SizeMinBytes=0\n").Size = size
		set(fmt.Sprint("small disk ", size), 4096, home+"SizeMinBytes=0\n").Size = size
	}
	disk(set("areas of the same room", 512, "Type=var\nSizeMinBytes=4096\nSizeMaxBytes=4096\n"),
		oldPartition{Type: Srv, FirstLBA: 171488, LastLBA: 256081}, oldPartition{Type: Home, FirstLBA: 350208, LastLBA: 525239},
		oldPartition{Type: Swap, FirstLBA: 2056, LastLBA: 171479}, oldPartition{Type: Tmp, FirstLBA: 256096, LastLBA: 350207})
	r := rand.New(rand.NewPCG(262, 0))
	for i := range 60 {
		add(randomCase(r, ""), fmt.Sprint("random ", i), "")
	}
	return out
}
