package upgrade_test

import (
	"bytes"
	"context"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// A plan is for the disk that it was made for: a change in between is noticed before the first
// write.
func TestPlanOfAnOlderState(t *testing.T) {
	same := func(b []byte) []byte { // of the same size
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		change func(s *system)
		want   string // "": it does not matter
	}{
		"nothing":          {func(*system) {}, ""},
		"another upgrade":  {func(s *system) { s.apply("2") }, "the partition table changed since the plan was made"},
		"the slot is used": {func(s *system) { s.relabel("other") }, "the partition table changed since the plan was made"},
		"a new entry":      {func(s *system) { file(s, s.esp(), "loader/entries/x.conf", []byte("title x\n")) }, "loader/entries/x.conf on the ESP changed since the plan was made"},
		"the loader": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/BOOT/BOOTX64.EFI", source(same(read(s.t, s.esp(), "EFI/BOOT/BOOTX64.EFI")))))
		}, "EFI/BOOT/BOOTX64.EFI on the ESP changed since the plan was made"},
		"its configuration": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("loader/loader.conf", source(same(read(s.t, s.esp(), "loader/loader.conf")))))
		}, "loader/loader.conf on the ESP changed since the plan was made"},
		"the old UKI": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/Linux/acme_1.efi", source(same(read(s.t, s.esp(), "EFI/Linux/acme_1.efi")))))
		}, "EFI/Linux/acme_1.efi on the ESP changed since the plan was made"},
		"the old UKI is counted": {func(s *system) {
			require.NoError(s.t, s.esp().Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1+1.efi"))
		}, "EFI/Linux/acme_1.efi on the ESP changed since the plan was made"},
		"an add-on": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/Linux/acme_1.efi.extra.d/x.addon.efi", source([]byte("another"))))
		}, "EFI/Linux/acme_1.efi.extra.d/x.addon.efi on the ESP changed since the plan was made"},
		"an add-on for all": {func(s *system) { file(s, s.esp(), "loader/addons/y.addon.efi", nil) }, "loader/addons/y.addon.efi on the ESP changed since the plan was made"},
		"what is remembered": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/osmith/failed.json", source([]byte(`{"schema":"osmith.failed/1","releases":[ ]}`))))
		}, "EFI/osmith/failed.json on the ESP changed since the plan was made"},
		"an entry, of one size": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("loader/entries/z.conf", source([]byte("title y\n"))))
		}, "loader/entries/z.conf on the ESP changed since the plan was made"},
		"an add-on for all, of one size": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("loader/addons/z.addon.efi", source([]byte("not either"))))
		}, "loader/addons/z.addon.efi on the ESP changed since the plan was made"},
		"an add-on, of one size": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/Linux/acme_1.efi.extra.d/x.addon.efi", source([]byte("no two"))))
		}, "x.addon.efi on the ESP changed since the plan was made"},
		"what is remembered, of one size": {func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/osmith/failed.json", source([]byte(`{"schema":"osmith.failed/1","releases": ]}`))))
		}, "EFI/osmith/failed.json on the ESP changed since the plan was made"},
		"another's file, of one size": {func(s *system) { require.NoError(s.t, s.esp().ReplaceFile("EFI/acme/data", source([]byte("12345")))) }, ""},
		"another's file":              {func(s *system) { require.NoError(s.t, s.esp().ReplaceFile("EFI/acme/data", source([]byte("123456")))) }, "EFI/acme/data on the ESP changed since the plan was made"},
		"another's file is gone":      {func(s *system) { require.NoError(s.t, s.esp().Remove("EFI/acme/data")) }, "EFI/acme/data on the ESP changed since the plan was made"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, "")
			file(s, s.esp(), "EFI/acme/data", []byte("54321"))
			file(s, s.esp(), "EFI/osmith/failed.json", []byte(`{"schema":"osmith.failed/1","releases":[]}`))
			file(s, s.esp(), "EFI/Linux/acme_1.efi.extra.d/x.addon.efi", []byte("no one"))
			file(s, s.esp(), "loader/entries/z.conf", []byte("title x\n"))
			file(s, s.esp(), "loader/addons/z.addon.efi", []byte("no program"))
			s.bootAndRun()
			p := s.plan(s.build("2"), upgrade.PlanOptions{})
			require.NoError(t, p.Refused())
			c.change(s)
			s.disk.Record()
			err := p.Apply(context.Background(), nil)
			if c.want == "" {
				require.NoError(t, err)
				require.Equal(t, "2", s.boot().Version)
				return
			}
			require.ErrorAs(t, err, new(*upgrade.ChangedError))
			require.ErrorContains(t, err, c.want)
			require.Empty(t, s.disk.Writes())
		})
	}
}

// relabel gives the second slot another name.
func (s *system) relabel(name string) {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	table.Partitions[3].Name = name
	require.NoError(s.t, table.Write(s.disk))
}

// changing is a source that becomes another one.
type changing struct {
	osmith.Source
	other osmith.Source
	now   *atomic.Bool
}

func (c changing) ReadAt(b []byte, off int64) (int, error) {
	if c.now.Load() {
		return c.other.ReadAt(b, off)
	}
	return c.Source.ReadAt(b, off)
}

// A source that changes behind the plan is written under no name that boots.
func TestSourcesChange(t *testing.T) {
	for name, change := range map[string]func(s *system, r *release.Release, now *atomic.Bool){
		"UKI": func(s *system, r *release.Release, now *atomic.Bool) {
			evil := contentOf(s.t, r.UKI)
			evil[len(evil)/2] ^= 1
			r.UKI = changing{r.UKI, source(evil), now}
		},
		"add-on": func(s *system, r *release.Release, now *atomic.Bool) {
			own := r.Addons[0].Content
			evil := contentOf(s.t, own)
			evil[len(evil)/2] ^= 1
			r.Addons[0].Content = changing{own, source(evil), now}
		},
		"root": func(s *system, r *release.Release, now *atomic.Bool) {
			r.Root = changing{r.Root, flipped(s.t, r.Root, 5000), now}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, "")
			r := s.bound(s.build("2"), "quiet")
			now := new(atomic.Bool)
			change(s, r, now)
			p := s.planOf(r, upgrade.PlanOptions{})
			require.NoError(t, p.Refused())
			now.Store(true)
			err := p.Apply(context.Background(), nil)
			require.Error(t, err)
			if name != "root" {
				require.ErrorAs(t, err, new(*upgrade.ChangedError))
			}
			require.Equal(t, "1", s.boot().Version)
			s.requireEntriesWhole()
			now.Store(false)
			require.NoError(t, s.planOf(r, upgrade.PlanOptions{}).Apply(context.Background(), nil))
			require.Equal(t, "2", s.boot().Version)
		})
	}
}

// A medium that does not keep what is written is told from a source that changed: a large file by
// its digest, small writes at the sync behind them.
func TestReadBack(t *testing.T) {
	for _, size := range []int{100, 300_000} {
		s := newSystem(t, "")
		s.builder.Parts.Initrd = source(bytes.Repeat([]byte("initrd"), size/6))
		p, err := upgrade.NewPlan(t.Context(), forgetful{s.disk, []byte("systemd-stub 262")}, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.NoError(t, p.Refused())
		err = p.Apply(context.Background(), nil)
		if size < 64<<10 {
			require.ErrorAs(t, err, new(*upgrade.LostWriteError))
		} else {
			require.ErrorAs(t, err, new(*upgrade.ReadBackError))
		}
		require.Equal(t, "1", s.boot().Version)
	}
}

// forgetful changes what it is given if that has something in it.
type forgetful struct {
	*faultio.Disk
	what []byte
}

func (f forgetful) WriteAt(b []byte, off int64) (int, error) {
	return f.Disk.WriteAt(bytes.ReplaceAll(b, f.what, bytes.ToUpper(f.what)), off)
}

// A UKI or add-on that is another one at any one read, or from any read on, is never installed in a
// mixture: a plan of which the verdicts pass installs the bytes that were judged, or is an error.
func TestReleaseChangesWhileItIsRead(t *testing.T) {
	s := newSystem(t, "")
	s.builder.Parts.Initrd = source(bytes.Repeat([]byte("initrd"), 50_000))
	r := s.bound(s.build("2"), "quiet")
	for name, at := range map[string]*osmith.Source{"UKI": &r.UKI, "add-on": &r.Addons[0].Content} {
		good := *at
		want := contentOf(t, good)
		places := []int{len(want) / 2, 300}
		if testing.Short() {
			places = places[:1]
		}
		for _, place := range places {
			evil := bytes.Clone(want)
			evil[place] ^= 1
			for _, once := range []bool{false, true} {
				installed := 0
				for n := 1; ; n++ {
					s := s.on(s.disk.Clone())
					f := &flipping{Source: good, evil: source(evil), from: n, once: once}
					*at = f
					p, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
					if err == nil && p.Refused() == nil {
						err = p.Apply(t.Context(), nil)
						if err == nil {
							installed++
							b, err := fs.ReadFile(s.esp(), map[string]string{"UKI": p.Entry, "add-on": "EFI/Linux/acme_2.efi.extra.d/" + r.Addons[0].Name}[name])
							require.NoError(t, err)
							require.True(t, bytes.Equal(want, b), "%s: byte %d, read %d, once %v", name, place, n, once)
						}
					}
					if err != nil {
						require.Equal(t, "1", s.boot().Version)
					}
					if f.reads < n {
						require.NoError(t, err)
						break // all of them
					}
				}
				require.NotZero(t, installed)
			}
		}
		*at = good
	}
}

// A UKI that shows what would be good at any one read is refused for what it is: the command line
// that is judged is the one that is written.
func TestReleaseShowsAnother(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	r := s.withUKI(set, func(*uki.Image) {}, 0)
	good := r.UKI
	bad := s.withUKI(set, func(im *uki.Image) { im.Cmdline = strings.Replace(im.Cmdline, "roothash=", "roothosh=", 1) }, 0).UKI
	require.Equal(t, good.Size(), bad.Size())
	for n := 1; ; n++ {
		f := &flipping{Source: bad, evil: good, from: n, once: true}
		r.UKI = f
		p, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
		if f.reads < n {
			require.NoError(t, err)
			require.Error(t, p.Refused())
			require.Greater(t, n, 5)
			return
		}
		if err == nil {
			require.Error(t, p.Refused(), "read %d", n)
		}
	}
}

// flipping is another source at one read, or from it on.
type flipping struct {
	osmith.Source
	evil        osmith.Source
	reads, from int
	once        bool
}

func (f *flipping) ReadAt(b []byte, off int64) (int, error) {
	if f.reads++; f.reads == f.from || f.reads > f.from && !f.once {
		return f.evil.ReadAt(b, off)
	}
	return f.Source.ReadAt(b, off)
}

// A disk that changes while it is judged is not planned.
func TestDiskChangesWhileItIsJudged(t *testing.T) {
	s := newSystem(t, "")
	changed := false
	_, err := upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{Progress: func(int64, int64) {
		if !changed {
			changed = true
			file(s, s.esp(), "loader/entries/x.conf", []byte("title x\n"))
		}
	}})
	require.True(t, changed)
	require.ErrorAs(t, err, new(*upgrade.ChangedError))
	require.ErrorContains(t, err, "loader/entries/x.conf on the ESP changed since the plan was made")
}
