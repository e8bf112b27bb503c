package sysupdate_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// randomDefinitions are those of a system with a root, its tree and a UKI, and sometimes more.
func randomDefinitions(r *rand.Rand) map[string]string {
	files := map[string]string{}
	add := func(name, pattern, target string, more ...string) {
		transfer := "ProtectVersion=" + pick(r, "%A", "%A", "3", "2\nProtectVersion=%A\nProtectVersion=") + "\n"
		if r.IntN(4) == 0 {
			transfer += "MinVersion=" + pick(r, "2", "3~rc1", "10", "") + "\n"
		}
		files["usr/lib/sysupdate.d/"+name] = "[Transfer]\n" + transfer + strings.Join(more, "") + "[Source]\nType=" + map[bool]string{true: "directory", false: "regular-file"}[strings.HasPrefix(target, "Type=directory")] + "\nPath=/src\nMatchPattern=" + pattern + "\n[Target]\n" + target
	}
	add("10-tree.transfer", "acme_@v_@u.verity", "Type=partition\nPath="+pick(r, "/disk.img", "/disk.img")+"\nMatchPartitionType="+pick(r, "root-verity", "root-x86-64-verity", "2c7357edebd246d9aec123d437ec2bf5")+
		"\nMatchPattern="+pick(r, "%M_@v_verity", "acme_@v_verity x_@v")+"\n")
	add("20-root.transfer", "acme_@v_@u.root", "Type=partition\nPath=/disk.img\nMatchPartitionType=root\nMatchPattern=acme_@v\n")
	patterns := pick(r, "acme_@v+@l-@d.efi acme_@v+@l.efi acme_@v.efi", "acme_@v.efi \\\n  acme_@v+@l-@d.efi", "acme_@v+@l-@d.efi\nMatchPattern=acme_@v.efi")
	add("30-uki.transfer", "acme_@v.efi", "Type=regular-file\nPath=/EFI/Linux\nPathRelativeTo="+pick(r, "esp", "boot")+"\nMatchPattern="+patterns+"\nInstancesMax=2\n")
	if r.IntN(3) == 0 {
		add("25-addon.transfer", "acme_@v.addon", "Type=regular-file\nPath=/EFI/Linux\nPathRelativeTo=esp\nMatchPattern=acme_@v.efi.extra.d/x.addon.efi\n", pick(r, "", "Features=extra\n", "RequisiteFeatures=extra other\n"))
		files["usr/lib/sysupdate.d/extra.feature"] = "[Feature]\nEnabled=" + pick(r, "yes", "no") + "\n"
		if r.IntN(2) == 0 {
			files["etc/sysupdate.d/other.feature"] = "[Feature]\nEnabled=" + pick(r, "yes", "no") + "\n"
		}
	}
	if r.IntN(4) == 0 {
		add("40-ext.transfer", "ext_@v", "Type="+pick(r, "regular-file", "directory", "directory")+"\nPath=/ext\nMatchPattern=ext_@v\n")
	}
	if r.IntN(6) == 0 {
		files["etc/sysupdate.d/20-root.transfer.d/50-min.conf"] = "[Transfer]\nMinVersion=2\n"
	}
	return files
}

var versions = []string{"1", "2", "3", "3~rc1", "10", "2.1"}

// randomName is what a name of a version may look like on a disk.
func randomName(r *rand.Rand, format string) string {
	return fmt.Sprintf(format, pick(r, versions...))
}

// randomState writes files, and returns partitions: mostly those of two versions that are whole but
// for a thing or two, sometimes anything.
func (r *root) randomState(rnd *rand.Rand) []part {
	r.t.Helper()
	if rnd.IntN(3) > 0 {
		return r.almostWhole(rnd)
	}
	for range rnd.IntN(5) {
		name := pick(rnd, "", "", "", sysupdate.PartialPrefix, sysupdate.PendingPrefix, sysupdate.OldPrefix) +
			randomName(rnd, pick(rnd, "acme_%s.efi", "acme_%s+3-0.efi", "acme_%s+2.efi", "acme_%s", "other_%s.efi"))
		r.write("efi/EFI/Linux/"+name, "x")
	}
	for range rnd.IntN(3) {
		r.write(randomName(rnd, "efi/EFI/Linux/acme_%s.efi.extra.d/"+pick(rnd, "", "", sysupdate.PendingPrefix, sysupdate.PartialPrefix)+"x.addon.efi"), "x")
	}
	inside := pick(rnd, "", "/x")
	for range rnd.IntN(4) {
		r.write(randomName(rnd, "ext/"+pick(rnd, "", "", sysupdate.PendingPrefix)+"ext_%s"+inside), "x")
	}
	var parts []part
	for id, labels := range [][]string{{"acme_%s", "acme_%s", "_empty", "acme_%s_verity", "other"}, {"acme_%s_verity", "acme_%s_verity", "_empty", "acme_%s", "x_%s"}} {
		for range 1 + rnd.IntN(4) {
			label := pick(rnd, labels...)
			if strings.Contains(label, "%") {
				label = randomName(rnd, label)
			}
			parts = append(parts, part{slotType(rnd.IntN(6), id), label})
		}
	}
	return parts
}

// slotType is the type of the root or of its tree: 0 partial, 1 pending, else installed.
func slotType(state, id int) osmith.GUID {
	kind := []osmith.GUID{partition.RootX8664, partition.RootX8664Verity}[id]
	switch state {
	case 0:
		return partition.PartialType(kind)
	case 1:
		return partition.PendingType(kind)
	}
	return kind
}

func (r *root) almostWhole(rnd *rand.Rand) (parts []part) {
	r.t.Helper()
	first := rnd.IntN(len(versions))
	for _, version := range []string{versions[first], versions[(first+1+rnd.IntN(len(versions)-1))%len(versions)]} {
		for id, label := range []string{"acme_" + version, "acme_" + version + "_verity"} {
			if rnd.IntN(10) == 0 {
				label = "_empty"
			}
			parts = append(parts, part{slotType(rnd.IntN(12), id), label})
		}
		prefix := pick(rnd, "", "", "", "", "", "", sysupdate.PendingPrefix, sysupdate.PartialPrefix)
		if rnd.IntN(10) > 0 {
			r.write("efi/EFI/Linux/"+prefix+"acme_"+version+pick(rnd, "", "+3-0")+".efi", "x")
		}
		r.write("efi/EFI/Linux/acme_"+version+".efi.extra.d/x.addon.efi", "x")
		r.write("ext/"+"ext_"+version+"/x", "x")
		r.write("ext/"+"more/ext_"+version, "x")
	}
	return parts
}

// What systemd-sysupdate lists for random definitions on random disks is what this package says,
// from the files of a mounted ESP and from those in the image.
func TestStateAgainstSysupdate(t *testing.T) {
	rnd, long := testtools.Seed(t)
	n := 40
	if long {
		n = 200
	}
	seen := map[string]int{}
	for i := range n {
		r := newRoot(t)
		for name, text := range randomDefinitions(rnd) {
			r.write(name, text)
		}
		parts := r.randomState(rnd)
		disk := r.disk(parts)
		table, err := partition.Read(disk, partition.ReadOptions{})
		require.NoError(t, err)
		want := r.list()
		for _, esp := range []bool{true, false} {
			p := sysupdate.Places{Disk: disk, DiskPaths: []string{"/disk.img"}, Root: r.fs()}
			if esp {
				p.ESP = os.DirFS(r.path("efi"))
			}
			s := r.read(p)
			ok := t.Run(fmt.Sprint(i, " ", esp), func(t *testing.T) {
				r := *r
				r.t = t
				r.requireSame(want, s, table)
			})
			if !ok {
				t.Logf("%v", parts)
				t.Log(r.script(`find efi ext etc -type f; tail -n 30 usr/lib/sysupdate.d/*; $S list --offline`))
				t.FailNow()
			}
			for _, v := range s.Versions {
				seen[fmt.Sprintf("%s partial=%v pending=%v ambiguous=%v", v.Wholeness, v.Partial, v.Pending, v.Ambiguous)]++
			}
		}
		require.NoError(t, os.RemoveAll(r.dir))
	}
	t.Log(seen)
	for _, kind := range []string{"complete partial=false pending=false ambiguous=false", "complete partial=false pending=true ambiguous=false", "incomplete partial=false pending=false ambiguous=false",
		"incomplete partial=true pending=false ambiguous=false", "incomplete partial=false pending=true ambiguous=false"} {
		require.NotZero(t, seen[kind], kind)
	}
}
