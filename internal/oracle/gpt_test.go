package oracle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// answer is what one reader said about one disk: the partitions as NUMBER:FIRST-LAST, or as
// NUMBER:ID or NUMBER: where the firmware shows no more, and the sectors that differ after it ran.
type answer struct {
	Partitions []string    `json:"partitions"`
	Changed    [][2]uint64 `json:"changed"`
	SHA256     string      `json:"sha256"` // of the changed disk
}

// recordedReaders are the columns of testdata/readers.json.
var recordedReaders = map[string]Reader{
	"edk2-stable202211": ReaderEDK2Stable202211,
	"edk2-stable202608": ReaderEDK2Stable202608,
	"u-boot-2025.01":    ReaderUBoot,
	"linux-6.12":        ReaderLinux,
	"linux-7.2":         ReaderLinux,
	"linux-6.12-gpt":    ReaderLinuxGPT,
	"linux-7.2-gpt":     ReaderLinuxGPT,
}

func recordedAnswers(t *testing.T) map[string]map[string]answer {
	t.Helper()
	b, err := os.ReadFile("testdata/readers.json")
	require.NoError(t, err)
	var all map[string]map[string]answer
	require.NoError(t, json.Unmarshal(b, &all))
	return all
}

// notJudged are the answers that are known and not modelled, with the reason.
var notJudged = map[string]string{
	"m13-esize64 u-boot-2025.01": "it reads entries behind the array, from memory that has anything",
}

// TestReadersAnswerAsRecorded compares every reader with what the real one said about every disk.
func TestReadersAnswerAsRecorded(t *testing.T) {
	recorded := recordedAnswers(t)
	require.Len(t, recorded, len(gptDisks()))
	compared := map[string]int{}
	for _, d := range gptDisks() {
		disk := d.make()
		for column, want := range recorded[d.name] {
			if notJudged[d.name+" "+column] != "" {
				continue
			}
			got, err := ReadGPT(recordedReaders[column], disk, disk.Size(), d.sectorSize)
			require.NoError(t, err)
			var parts []string
			for i, p := range got.Partitions {
				text := fmt.Sprintf("%d:%d-%d", p.Number, p.FirstLBA, p.LastLBA)
				if i < len(want.Partitions) && strings.Count(want.Partitions[i], "-") == 4 {
					text = fmt.Sprintf("%d:%s", p.Number, p.ID)
				} else if i < len(want.Partitions) && strings.HasSuffix(want.Partitions[i], ":") {
					text = fmt.Sprintf("%d:", p.Number)
				}
				parts = append(parts, text)
			}
			require.Equal(t, strings.Join(want.Partitions, " "), strings.Join(parts, " "), "%s as %s reads it: %v", d.name, column, got.Rejected)
			requireChanged(t, d, disk, got, want, column)
			compared[column]++
		}
	}
	require.Equal(t, map[string]int{
		"edk2-stable202211": 115, "edk2-stable202608": 115, "u-boot-2025.01": 107,
		"linux-6.12": 115, "linux-7.2": 115, "linux-6.12-gpt": 115, "linux-7.2-gpt": 115,
	}, compared)
}

// requireChanged compares the disk after the reader's writes.
func requireChanged(t *testing.T, d gptDisk, before *faultio.Disk, got Result, want answer, column string) {
	t.Helper()
	if len(got.Writes) == 0 {
		require.Empty(t, want.Changed, "%s: %s wrote", d.name, column)
		return
	}
	after := before.Clone()
	sector := int64(d.sectorSize)
	touched := map[uint64]bool{}
	for _, w := range got.Writes {
		put(after, w.Offset, w.Data)
		for off := w.Offset / sector; off*sector < w.Offset+int64(len(w.Data)); off++ {
			touched[uint64(off)] = true
		}
	}
	var changed [][2]uint64
	a, b := make([]byte, sector), make([]byte, sector)
	for _, lba := range slices.Sorted(func(yield func(uint64) bool) {
		for lba := range touched {
			if !yield(lba) {
				return
			}
		}
	}) {
		_, err := before.ReadAt(a, int64(lba)*sector)
		require.NoError(t, err)
		_, err = Apply(before, got.Writes).ReadAt(b, int64(lba)*sector)
		require.NoError(t, err)
		if bytes.Equal(a, b) {
			continue
		}
		if n := len(changed); n > 0 && changed[n-1][1] == lba-1 {
			changed[n-1][1] = lba
		} else {
			changed = append(changed, [2]uint64{lba, lba})
		}
	}
	require.Equal(t, want.Changed, changed, "%s: sectors that %s changed", d.name, column)
	if len(changed) > 0 && !strings.HasPrefix(d.name, "g4") {
		// the stored disks lack the contents of partitions
		h := sha256.New()
		_, err := after.WriteTo(h)
		require.NoError(t, err)
		require.Equal(t, want.SHA256, hex.EncodeToString(h.Sum(nil)), "%s after %s", d.name, column)
	}
}

func TestReaderNames(t *testing.T) {
	for _, r := range Readers() {
		require.NotEmpty(t, r.String())
		require.NotEmpty(t, r.Evidence())
		require.Equal(t, r <= ReaderUBoot, r.Firmware())
	}
	d := diskNamed(gptDisks(), "g00-good").make()
	_, err := ReadGPT(0, d, d.Size(), 512)
	require.ErrorContains(t, err, "oracle: ")
	_, err = ReadGPT(ReaderLinux, d, d.Size(), 513)
	require.ErrorContains(t, err, "oracle: ")
	_, err = ReadGPT(ReaderLinux, d, 512, 512)
	require.ErrorContains(t, err, "oracle: ")
	require.Panics(t, func() { ParseGUID("c12a7328") })
	require.Equal(t, espType, ESP.String())
	require.Equal(t, "backup GPT", TableBackup.String())
}

// TestPartitionsAreDecoded looks at the fields that the recorded answers do not have.
func TestPartitionsAreDecoded(t *testing.T) {
	d := diskNamed(gptDisks(), "g29-esp-attr-bit1").make()
	r, err := ReadGPT(ReaderLinux, d, d.Size(), 512)
	require.NoError(t, err)
	require.Equal(t, TablePrimary, r.Table)
	p, ok := r.Find(ESP)
	require.True(t, ok)
	require.Equal(t, Partition{
		Number: 1, Type: ESP, ID: ParseGUID("00000000-0000-0000-0000-000000000005"), Name: "esp",
		FirstLBA: 2048, LastLBA: 6143, Attributes: 2,
	}, p)
	r, err = ReadGPT(ReaderEDK2Stable202608, d, d.Size(), 512)
	require.NoError(t, err)
	_, ok = r.Find(ESP)
	require.False(t, ok)
}

// TestFirmwareThenKernel is a boot after a power cut between new primary entries and their header:
// edk2 repairs the disk for the kernel, U-Boot does not.
func TestFirmwareThenKernel(t *testing.T) {
	d := diskNamed(gptDisks(), "g04-cut-backup-new-entries-new-header-old").make()
	for firmware, want := range map[Reader]int{ReaderEDK2Stable202608: 3, ReaderUBoot: 0} {
		first, err := ReadGPT(firmware, d, d.Size(), 512)
		require.NoError(t, err)
		require.Len(t, first.Partitions, 3, firmware)
		require.Equal(t, TableBackup, first.Table)
		then, err := ReadGPT(ReaderLinux, Apply(d, first.Writes), d.Size(), 512)
		require.NoError(t, err)
		require.Len(t, then.Partitions, want, firmware)
	}
}

// failing is a disk with unreadable sectors.
type failing struct {
	io.ReaderAt
	bad map[int64]bool
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	for lba := off / 512; lba*512 < off+int64(len(p)); lba++ {
		if f.bad[lba] {
			return 0, errors.New("unreadable")
		}
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestUnreadableSectors(t *testing.T) {
	d := diskNamed(gptDisks(), "g00-good").make()
	for _, c := range []struct {
		bad  int64
		want map[Reader]Table
	}{
		{0, map[Reader]Table{ReaderEDK2Stable202211: TableNone, ReaderUBoot: TableNone, ReaderLinux: TableNone, ReaderLinuxGPT: TablePrimary}},
		{1, map[Reader]Table{ReaderEDK2Stable202211: TableBackup, ReaderUBoot: TableBackup, ReaderLinux: TableNone, ReaderLinuxGPT: TableBackup}},
		{3, map[Reader]Table{ReaderUBoot: TableBackup, ReaderLinux: TableNone, ReaderLinuxGPT: TableBackup}},
		{craftedSectors - 1, map[Reader]Table{ReaderEDK2Stable202608: TablePrimary, ReaderUBoot: TablePrimary, ReaderLinux: TablePrimary}},
	} {
		for reader, want := range c.want {
			r, err := ReadGPT(reader, failing{d, map[int64]bool{c.bad: true}}, d.Size(), 512)
			require.NoError(t, err)
			require.Equal(t, want, r.Table, "%s without sector %d: %v", reader, c.bad, r.Rejected)
		}
	}
}

// TestReadersBearAnything changes disks at random: no reader may fail, and the partitions that
// Linux offers are on the disk.
func TestReadersBearAnything(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	all := gptDisks()
	for range 300 {
		c := all[rng.IntN(len(all))]
		d := c.make()
		for range 1 + rng.IntN(4) {
			lba := []int64{0, 1, 1, 2, d.Size()/int64(c.sectorSize) - 1}[rng.IntN(5)]
			put(d, lba*int64(c.sectorSize)+rng.Int64N(100), []byte{byte(rng.Uint32())})
		}
		for _, reader := range Readers() {
			r, err := ReadGPT(reader, d, d.Size(), c.sectorSize)
			require.NoError(t, err)
			require.Equal(t, r.Table == TableNone, r.Table == TableNone && len(r.Partitions) == 0)
			require.True(t, len(r.Writes) == 0 || reader == ReaderEDK2Stable202211 || reader == ReaderEDK2Stable202608)
		}
	}
}
