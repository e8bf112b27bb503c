package partition

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// randomLayout is a layout of random definitions.
func randomLayout(t testing.TB, r *rand.Rand) Layout {
	t.Helper()
	var out *Repart
	for err := error(ErrRepartKey); err != nil; { // some definitions contradict each other
		out, err = ReadRepart((&repartCase{Files: randomDefinitions(r)}).fs(), RepartOptions{})
	}
	out.Layout.LayoutOnly = true
	for i := range out.Layout.Partitions { // which would need their content
		if f := out.Layout.Partitions[i].Fill; f != nil && f.File != "" {
			out.Layout.Partitions[i].Content = bytes.NewReader(make([]byte, 5000))
		}
	}
	return out.Layout
}

var gridTypes = []string{"esp", "esp", "xbootldr", "root", "root-verity", "root-verity-sig", "usr", "usr-verity", "usr-verity-sig", "home", "home",
	"var", "srv", "swap", "linux-generic", "root-arm64", "root-secondary", "11111111-1111-4111-8111-111111111111", "22222222-1111-4111-8111-111111111111"}

var gridFormats = []string{"vfat", "ext4", "btrfs", "xfs", "erofs", "squashfs", "swap", "empty", "ext2"}

// number writes a number in a random notation.
func number(r *rand.Rand, n int) string {
	return fmt.Sprintf([]string{"%d", "%d", "%d", "0x%x", "0%o", "0o%o", "0b%b", "+%d"}[r.IntN(8)], n)
}

// bytesOf writes a size in a random notation.
func bytesOf(r *rand.Rand, n int64) string {
	switch r.IntN(6) {
	case 0:
		return fmt.Sprintf("%dM", n>>20)
	case 1:
		return fmt.Sprintf("%dM %dK", n>>20, n>>10&1023)
	case 2:
		return fmt.Sprintf("%d M%d K  %d", n>>20, n>>10&1023, n&1023)
	case 3:
		return fmt.Sprintf("%d.%dM", n>>20, r.IntN(1000))
	}
	return fmt.Sprint(n)
}

// small is a bound, often one of those at which something turns.
func small(r *rand.Rand, most int64) int64 {
	if r.IntN(4) == 0 {
		return []int64{0, 1, 4095, 4096, 4097, 8191}[r.IntN(6)]
	}
	return r.Int64N(most)
}

// randomDefinitions makes definitions with everything that decides about places.
func randomDefinitions(r *rand.Rand) map[string]string {
	defs := map[string]string{}
	supplemented := false
	for i := range 1 + r.IntN(9) {
		var b bytes.Buffer
		kind := gridTypes[r.IntN(len(gridTypes))]
		fmt.Fprintf(&b, "[Partition]\nType=%s\n", kind)
		low := int64(10 << 20)
		if r.IntN(2) == 0 {
			low = small(r, 64<<20)
			text := bytesOf(r, low)
			fmt.Fprintf(&b, "SizeMinBytes=%s\n", text)
		}
		if r.IntN(3) == 0 {
			high := low + 8192 + 2<<20 + r.Int64N(100<<20)
			if low == 10<<20 {
				high = small(r, 100<<20)
			}
			fmt.Fprintf(&b, "SizeMaxBytes=%s\n", bytesOf(r, high))
		}
		if r.IntN(2) == 0 {
			fmt.Fprintf(&b, "Weight=%s\n", number(r, []int{0, 0, 1, 10, 333, 1000, 5000, 1000000}[r.IntN(8)]))
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "PaddingWeight=%s\n", number(r, r.IntN(2000)))
		}
		pad := small(r, 3<<20)
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "PaddingMinBytes=%d\n", pad)
		}
		if r.IntN(4) == 0 {
			if r.IntN(3) > 0 {
				pad += 8192 + r.Int64N(8<<20)
			}
			fmt.Fprintf(&b, "PaddingMaxBytes=%d\n", pad)
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "Priority=%s\n", number(r, r.IntN(4)))
		}
		switch r.IntN(8) {
		case 0:
			fmt.Fprintf(&b, "Label=label %d\n", i)
		case 1:
			b.WriteString("Label=linux\n")
		case 2:
			b.WriteString("Label=\n")
		}
		if r.IntN(8) == 0 {
			fmt.Fprintf(&b, "UUID=%08x111111111111111111111111\n", r.Uint32())
		}
		// What a partition is filled with. A supplement can have none of the last three.
		switch what := r.IntN(12); {
		case what < 4:
			fmt.Fprintf(&b, "Format=%s\n", gridFormats[r.IntN(len(gridFormats))])
		case what == 4 && kind != "swap":
			b.WriteString("MakeDirectories=/a /b\n")
		case what == 5 && i > 0 && !supplemented:
			fmt.Fprintf(&b, "SupplementFor=%02d\n", r.IntN(i))
			supplemented = true
		case strings.HasSuffix(kind, "-sig"): // always 16 KiB
		case what == 6:
			b.WriteString("Encrypt=key-file\n")
		case what == 7:
			fmt.Fprintf(&b, "CopyBlocks=/sparse/%d\n", (1+r.IntN(50000))*512)
			if r.IntN(3) == 0 {
				b.WriteString("Encrypt=tpm2\n")
			}
		}
		if r.IntN(8) == 0 {
			fmt.Fprintf(&b, "FileSystemSectorSize=%d\n", 512<<r.IntN(4))
		}
		defs[fmt.Sprintf("%02d.conf", i)] = b.String()
	}
	if r.IntN(6) == 0 {
		defs["90-data.conf"] = fmt.Sprintf("[Partition]\nType=usr\nFormat=erofs\nVerity=data\nVerityMatchKey=u\nSizeMaxBytes=%d\n", r.IntN(200<<20))
		defs["91-hash.conf"] = "[Partition]\nType=usr-verity\nVerity=hash\nVerityMatchKey=u\nWeight=" + number(r, r.IntN(2)*100) + "\n"
	}
	// The same by other ways.
	if r.IntN(3) == 0 {
		defs["00.conf.d/50.conf"] = fmt.Sprintf("\ufeff[Partition]\r\nWeight=%d\r\n[X-Maker]\nnothing\n", r.IntN(2000))
	}
	if r.IntN(3) == 0 {
		defs["05.conf"], defs["06.conf"], defs[".07.conf"] = "", "-> /dev/null", "[Partition]\nType=nothing\n"
	}
	return defs
}

// randomDisk is a disk in use, on which there may be partitions of the types of the definitions.
func randomDisk(r *rand.Rand, size int64, ss int) *oldDisk {
	d := &oldDisk{}
	sectors := uint64(size) / uint64(ss)
	first := uint64(1<<20) / uint64(ss)
	if r.IntN(3) == 0 {
		d.FirstUsableLBA = []uint64{34, 2048, 2047, 4096}[r.IntN(4)]
		first = d.FirstUsableLBA
	}
	at := first
	numbers := r.Perm([]int{5, 9, 128}[r.IntN(3)])
	for n := r.IntN(6); n > 0; n-- {
		at += []uint64{0, 1, 8, uint64(r.IntN(200000)) * 512 / uint64(ss)}[r.IntN(4)]
		length := uint64(1 + r.IntN(200000)*512/ss)
		if r.IntN(2) == 0 { // aligned to 4096
			at, length = (at+7)/8*8, (length+7)/8*8
		}
		kind, err := (&RepartOptions{}).typeFor(gridTypes[r.IntN(len(gridTypes))])
		if err != nil {
			panic(err)
		}
		if isVeritySig(kind) {
			// systemd-repart 262 makes a larger one smaller, against its documentation
			at, length = (at+7)/8*8, signatureFix/uint64(ss)
		}
		if at+length+100 > sectors {
			break
		}
		d.Partitions = append(d.Partitions, oldPartition{Number: numbers[len(d.Partitions)] + 1, Type: kind, ID: osmith.GUID{1, byte(n), 6: 0x40, 8: 0x80, 15: byte(r.IntN(256))},
			Name: []string{"", "home", "linux", "root-x86-64", "foreign"}[r.IntN(5)], FirstLBA: at, LastLBA: at + length - 1})
		at += length
	}
	r.Shuffle(len(d.Partitions), func(i, j int) { d.Partitions[i], d.Partitions[j] = d.Partitions[j], d.Partitions[i] })
	return d
}

func randomCase(r *rand.Rand, name string) *repartCase {
	c := &repartCase{Name: name, Files: randomDefinitions(r), SectorSize: []int{0, 512, 512, 4096}[r.IntN(4)]}
	c.Size = (100<<20 + r.Int64N(900<<20)) / 4096 * 4096
	if r.IntN(4) == 0 {
		c.Force = []string{"x86-64", "arm64"}[r.IntN(2)]
	}
	if r.IntN(2) == 0 {
		c.Disk = randomDisk(r, c.Size, c.sectors())
	} else if r.IntN(8) == 0 {
		c.Size = (64<<10 + r.Int64N(8<<20)) / 4096 * 4096
	}
	return c
}

// Random definitions place the same partitions here as through systemd-repart, on new disks and on
// disks in use.
func TestRepartGrid(t *testing.T) {
	tool := newRepartTool(t)
	r, long := testtools.Seed(t)
	runs := 60
	if long {
		runs = 400
	}
	var refused, crashed, used int
	for run := range runs {
		c := randomCase(r, fmt.Sprintf("run %d", run))
		answer := tool.theirs(t, c)
		c.compare(t, answer)
		switch {
		case answer.Crashed:
			crashed++
		case answer.Refused:
			refused++
		case c.Disk != nil:
			used++
		}
	}
	t.Logf("%d definition sets: %d refused by both, %d placed on disks in use, %d on new ones; systemd-repart crashed on %d", runs, refused, used,
		runs-refused-crashed-used, crashed)
	require.Less(t, refused+crashed, runs*2/3)
}
