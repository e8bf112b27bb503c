package upgrade_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// prover judges disks by internal/oracle, which shares no code with what wrote them.
type prover struct {
	t *testing.T
	oracle.Versions
}

func newProver(s *system, k *diskKind, versions ...string) *prover {
	p := &prover{s.t, oracle.Versions{Sector: max(k.esp.SectorSize, 512), Path: regexp.MustCompile(`^EFI/Linux/acme_[0-9]+(\+[0-9]+(-[0-9]+)?)?\.efi$`), UKIs: map[[sha256.Size]byte]string{}, Roots: map[string][]oracle.Content{}}}
	for _, v := range versions {
		r := k.release(s, v)
		p.UKIs[sha256.Sum256(contentOf(s.t, r.UKI))] = v
		if k.alone {
			continue
		}
		// The IDs are the halves of the root hash (Discoverable Partitions Specification).
		p.Roots[v] = []oracle.Content{{ID: oracle.GUID(r.RootHash[:16]), Bytes: contentOf(s.t, r.Root)}, {ID: oracle.GUID(r.RootHash[16:]), Bytes: contentOf(s.t, r.Tree)}}
	}
	return p
}

// boots are the versions that come up.
func (p *prover) boots(disk *faultio.Disk) (versions []string, err error) {
	return p.Up(disk, disk.Size())
}

// operation is something that is done to a running machine's disk.
type operation struct {
	name  string
	do    func(s *system, k *diskKind) error
	after []string // versions that may boot in the middle of it; the last one boots behind it
}

var operations = []operation{
	{"upgrade to 2", func(s *system, k *diskKind) error { return s.upgradeTo(k, "2") }, []string{"1", "2"}},
	{"cancel", func(s *system, _ *diskKind) error {
		_, err := upgrade.Cancel(s.disk, s.machine)
		return err
	}, []string{"2", "1"}},
	{"upgrade to 2 again", func(s *system, k *diskKind) error { return s.upgradeTo(k, "2") }, []string{"1", "2"}},
	{"commit", func(s *system, _ *diskKind) error { return commit(s.disk, s.machine, "") }, []string{"2"}},
	{"upgrade to 3 over 1", func(s *system, k *diskKind) error { return s.upgradeTo(k, "3") }, []string{"2", "3"}},
	{"commit 3", func(s *system, _ *diskKind) error { return commit(s.disk, s.machine, "") }, []string{"3"}},
	{"rollback", func(s *system, _ *diskKind) error { return rollback(s.disk, s.machine, "") }, []string{"3", "2"}},
	{"upgrade to 4 over a failed 3", func(s *system, k *diskKind) error { return s.upgradeTo(k, "4") }, []string{"2", "4"}},
}

func (s *system) upgradeTo(k *diskKind, version string) error {
	r := k.release(s, version)
	if k.stream {
		streamed, err := k.streamed(s, version)
		if err != nil {
			return err
		}
		defer streamed.Close()
		r = streamed
	}
	p, err := upgrade.NewPlan(s.t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{Delta: k.delta})
	if err != nil {
		return err
	}
	return p.Apply(context.Background(), nil)
}

// streamed is a version as a server has it, with nothing of it kept from one time to the next.
func (k *diskKind) streamed(s *system, version string) (*release.Release, error) {
	if k.servers == nil {
		k.servers = map[string]*releaseServer{}
	}
	if k.servers[version] == nil {
		k.servers[version] = serve(s.t, k.release(s, version))
	}
	state, err := upgrade.Inspect(s.disk, s.machine)
	if err != nil {
		return nil, err
	}
	old, err := state.OpenUKI(state.Running)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.dir, "cache")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // what is open can be read
	server := k.servers[version]
	return release.Stream(s.t.Context(), server, server.artifact, dir, release.PullOptions{OldUKI: old})
}

// count is a row of the table of the proof.
type count struct{ states, unbootable, lost, lostUnbootable, again, faults int }

// TestProof cuts every operation on every kind of disk at every write, with writes torn, reordered
// and lost, has every operation of the medium fail, and has syncs lie; whatever is left, the old or
// the new version comes up, and the operation goes through afterwards.
func TestProof(t *testing.T) {
	limit, every := 16, 29
	if testing.Short() {
		limit, every = 6, 61
	}
	if os.Getenv("OSMITH_LONG") == "1" {
		limit, every = 4096, 1
	}
	total := count{}
	for i, k := range diskKinds() {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			s := k.on(t)
			p := newProver(s, k, "1", "2", "3", "4")
			limit, every := limit, every
			if k.mounted && limit < 64 {
				// the kernel syncs often: there are many states with few sectors
				limit, every = limit/2, 2*every
			}
			for _, op := range operations {
				if op.name == "commit" || op.name == "commit 3" || op.name == "upgrade to 4 over a failed 3" {
					s.bootAndRun()
				}
				c := &count{}
				before := s.on(s.disk.Clone())
				s.disk.Record()
				require.NoError(t, op.do(s, k), op.name)
				p.cuts(s, k, op, limit, every, c)
				switch {
				case k.mounted && k.fill == nil && limit < 64:
					// the first of these kinds stands for all
				case !testing.Short() || op.name == "upgrade to 2" || op.name == "commit":
					p.failures(before, k, op, every, c)
				}
				versions, err := p.boots(s.disk)
				require.NoError(t, err)
				for _, v := range versions {
					require.Equal(t, op.after[len(op.after)-1], v, op.name)
				}
				total.states += c.states
				total.lost += c.lost
				total.lostUnbootable += c.lostUnbootable
				total.again += c.again
				total.faults += c.faults
				t.Logf("%-28s %6d states, %d unbootable; %5d with a lost physical sector, %d unbootable; %4d gone on with; %4d faults", op.name, c.states, c.unbootable, c.lost, c.lostUnbootable, c.again, c.faults)
			}
		})
	}
	t.Logf("all: %d states, 0 unbootable; %d with a lost physical sector, %d unbootable; %d gone on with; %d faults", total.states, total.lost, total.lostUnbootable, total.again, total.faults)
}

// cuts judges what power cuts leave.
func (p *prover) cuts(s *system, k *diskKind, op operation, limit, every int, c *count) {
	p.t.Helper()
	options := faultio.FaultOptions{Sector: p.Sector, Limit: limit}
	if p.Sector == 512 && !k.mounted {
		options.Physical = 4096
	}
	faults, err := s.disk.Faults(options)
	require.NoError(p.t, err, "every write is of whole sectors")
	last := 0
	if w := s.disk.Writes(); len(w) > 0 {
		last = w[len(w)-1].Epoch
	}
	i := 0
	for state := range faults.States() {
		versions, err := p.boots(state.Disk)
		if state.Kind == faultio.FaultLost {
			// 512e: what a disk loses beside the sector that it rewrites cannot be ordered. It is
			// counted.
			c.lost++
			if err != nil {
				c.lostUnbootable++
			}
			continue
		}
		c.states++
		require.NoError(p.t, err, "%s: %+v", op.name, describe(state))
		for _, v := range versions {
			require.Contains(p.t, op.after, v, "%s: %+v", op.name, describe(state))
			if state.Epoch < last && !k.mounted && op.name != "cancel" && op.name != "rollback" {
				require.Equal(p.t, op.after[0], v, "%s, before its last write: %+v", op.name, describe(state))
			}
		}
		if i++; i%every == 0 {
			c.again++
			p.goesOn(s.on(state.Disk), k, op, fmt.Sprintf("%s: %+v", op.name, describe(state)))
		}
	}
}

func describe(s faultio.State) string { return fmt.Sprintf("%v after %d syncs", s.Kind, s.Epoch) }

// goesOn does the operation again on what a cut has left, as the machine does that comes up then.
func (p *prover) goesOn(left *system, k *diskKind, op operation, where string) {
	p.t.Helper()
	err := op.do(left, k)
	if unrepaired := (*upgrade.UnrepairedError)(nil); k.mounted && (errors.As(err, &unrepaired)) {
		left.fsck()
		err = op.do(left, k)
	}
	// The cut came behind the last write, or the boot that is committed was another one.
	var installed *upgrade.NotRunningError
	if err != nil && !errors.As(err, &installed) {
		require.NoError(p.t, err, where)
	}
	versions, err := p.boots(left.disk)
	require.NoError(p.t, err, where)
	require.Equal(p.t, op.after[len(op.after)-1], versions[0], where)
}

// failures has each operation of the medium fail, be done in part, or lie, behind a page cache, and
// cuts the power then.
func (p *prover) failures(before *system, k *diskKind, op operation, every int, c *count) {
	p.t.Helper()
	for _, f := range []faultio.Failure{
		{Op: faultio.OpWrite, Sector: p.Sector}, {Op: faultio.OpWrite, Short: true, Sector: p.Sector}, {Op: faultio.OpSync}, {Op: faultio.OpSync, Short: true}, {Op: faultio.OpSync, Lie: true},
	} {
		for after := 0; ; after += every/3 + 1 {
			s := before.on(before.disk.Clone())
			s.disk.Cached()
			f.After = after
			s.disk.Faulty(f)
			err := op.do(s, k)
			if s.disk.Failed() == 0 {
				require.NoError(p.t, err)
				break
			}
			c.faults++
			where := fmt.Sprintf("%s: %+v: %v", op.name, f, err)
			s.disk.Faulty()
			versions, bad := p.boots(s.disk.Medium())
			require.NoError(p.t, bad, where)
			require.Contains(p.t, op.after, versions[0], where)
			if err == nil && !f.Lie {
				require.Equal(p.t, op.after[len(op.after)-1], versions[0], where)
			}
			p.goesOn(s, k, op, where)
			versions, bad = p.boots(s.disk.Medium())
			require.NoError(p.t, bad, where)
			require.Equal(p.t, op.after[len(op.after)-1], versions[0], "what it says is done is on the medium: %s", where)
		}
	}
}
