package fat

import (
	"bytes"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

// FuzzDamage: a volume with damage of any kind, the same in both FATs, is not made worse by a
// change: every file that Linux could read and that shares no cluster is what it was, but for the
// one that the change is about.
func FuzzDamage(f *testing.F) {
	var disks []*faultio.Disk
	for _, o := range threeKinds {
		disks = append(disks, build(f, smallESP(), o))
	}
	for kind := range byte(3) {
		for op := range byte(6) {
			f.Add(kind, op, []byte{1, 0, 10, 0, 2, 0, 32, 0xe5})
			f.Add(kind, op, []byte{1, 0, 44, 7, 1, 0, 60, 44, 3, 1, 0x5a, 9})
			f.Add(kind, op, []byte{3, 0, 0x5a, 11, 3, 0, 0x7a, 3, 2, 0, 11, 0x10})
		}
	}
	f.Fuzz(func(t *testing.T, kind, op byte, changes []byte) {
		d := disks[kind%3].Clone()
		e := edit(t, d)
		for ; len(changes) >= 4; changes = changes[4:] {
			at := int64(changes[1])<<8 | int64(changes[2])
			switch changes[0] % 4 {
			case 0, 1: // a link of a chain to another cluster, to none, or to its end
				v := uint32(changes[3])
				if v > 250 {
					v = endOfChain
				}
				e.set(2+uint32(at%200), v)
			case 2: // the root directory of a FAT12 or FAT16
				if e.g.kind != 32 {
					put(d, e.g.rootOff+at%512, changes[3])
				}
			case 3: // the first clusters, which are those of directories
				put(d, e.g.dataOff+at%(10*e.g.clusterSize), changes[3])
			}
		}
		options := oracle.FATOptions{Reader: oracle.FATReaderLinux}
		before, err := oracle.ReadFAT(d, d.Size(), options)
		if err != nil {
			return
		}
		v, err := Open(d)
		if err != nil {
			t.Fatal(err)
		}
		content := bytes.NewReader(pattern(5000, 9))
		target := "loader/loader.conf"
		switch op % 6 {
		case 0:
			target = "loader/new file.conf"
			v.WriteFile(target, content)
		case 1:
			v.Remove(target)
		case 2:
			v.ReplaceFile(target, content)
		case 3:
			v.Rename(target, "loader/a name that is longer by far than the one before.conf")
		case 4:
			target = "EFI/Linux/new directory"
			v.MkdirAll(target)
		case 5:
			target = ""
			v.Repair()
		}
		after, err := oracle.ReadFAT(d, d.Size(), options)
		if err != nil {
			t.Fatalf("Linux does not mount it any more: %v", err)
		}
		doubtful := map[string]bool{}
		for _, p := range before.Problems {
			if p.Kind != oracle.ProblemLostClusters {
				doubtful[p.Path] = true
			}
		}
		seen := map[[32]byte]bool{}
		for _, f := range after.Files {
			if f.Err == "" {
				seen[f.SHA256] = true
			}
		}
		for _, f := range before.Files {
			if f.Dir || f.Err != "" || f.Size == 0 || doubtful[f.Path] || SameName(f.Path, target) || SameName(f.Short, "LOADER~1.CON") || shared(before, f.Path) {
				continue
			}
			if !seen[f.SHA256] {
				t.Fatalf("%s is lost: %v", f.Path, before.Problems)
			}
		}
	})
}

// shared says whether a problem of another file is about the clusters of this one.
func shared(v *oracle.Volume, path string) bool {
	for _, p := range v.Problems {
		if p.Kind == oracle.ProblemShared && strings.Contains(p.Text, path) {
			return true
		}
	}
	return false
}
