package luks

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// An operation is a change of a volume with the key slots 0, of the passphrase of the vectors, 1,
// "second", and a token for the latter.
type operation struct {
	do func(v *Volume, key *Key) error
	// before and after are the passphrases that open it, those of both do so at any moment.
	before, after []string
	// either are the passphrases of which one opens it at any moment.
	either []string
	// between are the headers that a power cut may show besides the old and the new one.
	between int
}

func operations() map[string]operation {
	const one = "correct horse"
	pbkdf := func(o KeyOptions) KeyOptions {
		o.Rand, o.KDF = random(5), fastKDF
		return o
	}
	both := []string{one, "second"}
	return map[string]operation{
		"add key": {do: func(v *Volume, key *Key) error {
			_, err := v.AddKey(key, []byte("third"), pbkdf(KeyOptions{Token: []byte(`{"type":"acme"}`)}))
			return err
		}, before: both, after: []string{one, "second", "third"}},
		"add recovery key": {do: func(v *Volume, key *Key) error {
			_, _, err := v.AddRecoveryKey(key, KeyOptions{Rand: random(6)})
			return err
		}, before: both, after: both},
		"remove key": {do: func(v *Volume, _ *Key) error { return v.RemoveKey(1, RemoveOptions{}) },
			before: both, after: []string{one}},
		"remove last key": {do: func(v *Volume, _ *Key) error { return v.RemoveKey(0, RemoveOptions{LeaveNoKeyForAPerson: true}) },
			before: both, after: []string{"second"}},
		"change key": {do: func(v *Volume, key *Key) error {
			return v.ChangeKey(key, 0, []byte("new"), pbkdf(KeyOptions{}))
		}, before: both, after: []string{"new", "second"}, either: []string{one, "new"}, between: 1},
		"change a TPM's key": {do: func(v *Volume, key *Key) error {
			return v.ChangeKey(key, 1, []byte("new"), pbkdf(KeyOptions{Token: []byte(`{"type":"systemd-tpm2","tpm2-pin":true}`)}))
		}, before: both, after: []string{one, "new"}, either: []string{"second", "new"}, between: 1},
		"add token": {do: func(v *Volume, _ *Key) error {
			_, err := v.AddToken([]byte(`{"type":"acme"}`), []int{1}, TokenOptions{})
			return err
		}, before: both, after: both},
		"remove token": {do: func(v *Volume, _ *Key) error {
			return v.RemoveToken(0, RemoveTokenOptions{LeaveSlotsThatNothingNames: true})
		}, before: both, after: both},
		"priority": {do: func(v *Volume, _ *Key) error { return v.SetPriority(1, PriorityPrefer, RemoveOptions{}) }, before: both, after: both},
	}
}

// operationBase is the volume that operations change, and that volume with a damaged copy of the
// header.
func operationBase(t testing.TB) (*faultio.Disk, []byte) {
	t.Helper()
	d, v, key := formatted(t, small(3))
	_, err := v.AddKey(key, []byte("second"), KeyOptions{Rand: random(4), KDF: fastKDF, Token: []byte(`{"type":"systemd-tpm2","keyslots":[]}`)})
	require.NoError(t, err)
	return d, key.Bytes()
}

func damage(t testing.TB, d *faultio.Disk, off int64) *faultio.Disk {
	t.Helper()
	c := d.Clone()
	_, err := c.WriteAt([]byte{0x5a}, off)
	require.NoError(t, err)
	return c
}

// What a power cut leaves is the old volume or the new one, whatever sectors of 512 bytes were
// written since the last sync. No key is lost that is not to go, and one that is to go is whole or
// nothing of it is left.
func TestCut(t *testing.T) {
	limit := 128
	if testing.Short() {
		limit = 12
	}
	states := 0
	good, volumeKey := operationBase(t)
	for base, d := range map[string]*faultio.Disk{
		"": good, ", first copy damaged": damage(t, good, 100), ", second copy damaged": damage(t, good, 16<<10+5000),
	} {
		for name, op := range operations() {
			t.Run(name+base, func(t *testing.T) {
				d := d.Clone()
				v, err := Open(d)
				require.NoError(t, err)
				key, err := v.VolumeKey(volumeKey)
				require.NoError(t, err)
				old := string(v.Header().JSON)
				d.Record()
				require.NoError(t, op.do(v, key))
				final, err := Read(d)
				require.NoError(t, err)
				require.False(t, final.NeedsRepair())
				require.NotEqual(t, old, string(final.JSON))
				for _, p := range op.after {
					require.True(t, opens(t, v, p, nil), p)
				}
				faults, err := d.Faults(faultio.FaultOptions{Sector: 512, Limit: limit})
				require.NoError(t, err)
				shown := map[string]bool{}
				for state := range faults.States() {
					checkState(t, state, op, shown)
				}
				delete(shown, old)
				delete(shown, string(final.JSON))
				require.LessOrEqual(t, len(shown), op.between)
				states += faults.Counts().Total()
			})
		}
	}
	t.Logf("%d states", states)
	require.Greater(t, states, 300)
}

// remembered is opens for many states: what a slot says and what is in its area was tried once.
func remembered(t *testing.T, v *Volume, passphrase string, slot *int) bool {
	t.Helper()
	for _, s := range v.h.Slots {
		if slot != nil && s.ID != *slot {
			continue
		}
		h := sha256.New()
		_, err := io.Copy(h, io.NewSectionReader(v.src, s.Area.Offset, s.Area.Size))
		require.NoError(t, err)
		key := fmt.Sprintf("%x %s %s", h.Sum(nil), s.marshal(), passphrase)
		known, ok := tried[key]
		if !ok {
			known = opens(t, v, passphrase, &s.ID)
			tried[key] = known
		}
		if known {
			return true
		}
	}
	return false
}

var tried = map[string]bool{}

// oldAreas are where the two key slots lie that operations begin with.
var oldAreas = []int64{32768, 32768 + 258048}

func checkState(t *testing.T, state faultio.State, op operation, shown map[string]bool) {
	t.Helper()
	v, err := Open(state.Disk)
	require.NoError(t, err, "%v", state)
	h := v.Header()
	shown[string(h.JSON)] = true
	for _, p := range op.before {
		if slices.Contains(op.after, p) && !remembered(t, v, p, nil) {
			t.Fatalf("%v: %q does not open", state, p)
		}
	}
	if op.either != nil && !slices.ContainsFunc(op.either, func(p string) bool { return remembered(t, v, p, nil) }) {
		t.Fatalf("%v: none of %q opens", state, op.either)
	}
	for _, s := range h.Slots {
		wiped, err := v.Wiped(s.ID)
		require.NoError(t, err)
		if wiped { // as only a slot that goes may be
			require.Contains(t, oldAreas, s.Area.Offset, "%v: slot %d is there before its key", state, s.ID)
			continue
		}
		any := slices.ContainsFunc(append([]string{"new", "third"}, op.before...), func(p string) bool { return remembered(t, v, p, &s.ID) })
		recovery := s.KDF == RandomKeyKDF // whose key the operation has drawn
		require.True(t, any || recovery, "%v: slot %d is neither whole nor gone", state, s.ID)
	}
	// A key that was to go is not on the disk any more once the header does not know it.
	for i, area := range oldAreas {
		if _, ok := slotAt(h, area); ok {
			continue
		}
		b := make([]byte, 256000)
		_, err := state.Disk.ReadAt(b, area)
		require.NoError(t, err)
		require.Zero(t, strings.Trim(string(b), "\x00"), "%v: the area of slot %d is left", state, i)
	}
	require.NoError(t, v.Repair(RepairOptions{}), "%v", state)
	require.False(t, v.Header().NeedsRepair())
}

func slotAt(h *Header, off int64) (Slot, bool) {
	for _, s := range h.Slots {
		if s.Area.Offset == off {
			return s, true
		}
	}
	return Slot{}, false
}

// A slot that a cut left half wiped does not count as one that a person can use.
func TestCutThenRemoveTheOther(t *testing.T) {
	d, v, key := formatted(t, small(3))
	_, err := v.AddKey(key, []byte("second"), KeyOptions{Rand: random(4), KDF: fastKDF})
	require.NoError(t, err)
	d.Record()
	require.NoError(t, v.RemoveKey(1, RemoveOptions{}))
	cut := d.Torn(0, 512) // of the area one sector
	v, err = Open(cut)
	require.NoError(t, err)
	require.False(t, opens(t, v, "second", nil))
	gone, err := v.Wiped(1)
	require.NoError(t, err)
	require.True(t, gone)
	var last *LastKeyError
	require.ErrorAs(t, v.RemoveKey(0, RemoveOptions{}), &last)
	require.Equal(t, []int{0}, last.Slots)
	require.NoError(t, v.RemoveKey(1, RemoveOptions{}), "what is left of it can go")
	require.True(t, opens(t, v, "correct horse", nil))
}

// A new volume is there whole or not at all, and nothing is left of the old one.
func TestCutFormat(t *testing.T) {
	old, v, key := formatted(t, FormatOptions{Rand: random(9), HeaderSize: 64 << 10, KeyslotsSize: 516096, SectorSize: 512, Key: KeyOptions{KDF: fastKDF}})
	_, err := v.AddKey(key, []byte("second"), KeyOptions{Rand: random(8), KDF: fastKDF})
	require.NoError(t, err)
	d := old.Clone()
	d.Record()
	_, _, err = Format(d, []byte("new"), small(10))
	require.NoError(t, err)
	writes := d.Writes()
	require.Zero(t, writes[len(writes)-1].Offset, "the first copy comes last")
	faults, err := d.Faults(faultio.FaultOptions{Sector: 512, Limit: 48})
	require.NoError(t, err)
	none, whole := 0, 0
	for state := range faults.States() {
		v, err := OpenReader(state.Disk)
		if err != nil {
			require.ErrorIs(t, err, ErrNotLUKS)
			none++
			continue
		}
		if opens(t, v, "correct horse", nil) {
			require.Zero(t, state.Epoch, "%v", state)
			continue
		}
		if v.Header().Size == 64<<10 {
			require.LessOrEqual(t, state.Epoch, 1, "%v: the second copy of the old header is all that is left", state)
			continue
		}
		require.True(t, opens(t, v, "new", nil), "%v", state)
		whole++
	}
	require.NotZero(t, none)
	require.NotZero(t, whole)
	for _, off := range headerSizes[1:] {
		b := make([]byte, 6)
		if off < d.Size() {
			_, err := d.ReadAt(b, off)
			require.NoError(t, err)
			require.NotEqual(t, magicSecondary[:], b, "a header of the old volume at %d", off)
		}
	}
}

// A cut in a repair leaves the good copy, and it can be repaired again.
func TestCutRepair(t *testing.T) {
	base, _ := operationBase(t)
	for _, off := range []int64{100, 5000, 16<<10 + 100, 16<<10 + 5000} {
		d := damage(t, base, off)
		v, err := Open(d)
		require.NoError(t, err)
		old := string(v.Header().JSON)
		d.Record()
		require.NoError(t, v.Repair(RepairOptions{}))
		faults, err := d.Faults(faultio.FaultOptions{Sector: 512, Limit: 64})
		require.NoError(t, err)
		for state := range faults.States() {
			v, err := Open(state.Disk)
			require.NoError(t, err, "%v", state)
			require.Equal(t, old, string(v.Header().JSON), "%v", state)
			require.NoError(t, v.Repair(RepairOptions{}))
			h, err := Read(state.Disk)
			require.NoError(t, err)
			require.False(t, h.NeedsRepair())
		}
	}
}

// The second copy of an older and larger header lies in what is data now. It does not come back
// when both copies of the new one are lost.
func TestFormatOverLargerHeader(t *testing.T) {
	d, _, _ := formatted(t, FormatOptions{Rand: random(9), HeaderSize: 1 << 20, KeyslotsSize: 516096, SectorSize: 512, Key: KeyOptions{KDF: fastKDF}})
	_, _, err := Format(d, []byte("new"), small(10))
	require.NoError(t, err)
	for _, off := range []int64{0, 16 << 10} {
		_, err = d.WriteAt(make([]byte, binarySize), off)
		require.NoError(t, err)
	}
	_, err = Read(d)
	require.ErrorIs(t, err, ErrNotLUKS)
}

// Every operation of the disk fails once, for good, or does half of its work: the error is told,
// unless it is of a read that did not matter, and what is on the disk opens.
func TestFailing(t *testing.T) {
	base, volumeKey := operationBase(t)
	for name, op := range operations() {
		if testing.Short() && (name == "add recovery key" || name == "change key" || name == "priority") {
			continue // others write the same
		}
		t.Run(name, func(t *testing.T) {
			for _, f := range []faultio.Failure{{Op: faultio.OpRead}, {Op: faultio.OpWrite}, {Op: faultio.OpSync}, {Always: true}, {Op: faultio.OpWrite, Short: true}, {Op: faultio.OpSync, Short: true}} {
				for k := 0; ; k++ {
					d := base.Clone()
					d.Cached()
					v, err := Open(d)
					require.NoError(t, err)
					key, err := v.VolumeKey(volumeKey)
					require.NoError(t, err)
					f.After = k
					d.Faulty(f)
					err = op.do(v, key)
					if d.Failed() == 0 {
						require.NoError(t, err)
						break
					}
					if err == nil && f.Op == faultio.OpRead {
						// of the area of another slot, which did not matter
						h, err := Read(d.Medium())
						require.NoError(t, err)
						require.Equal(t, string(v.Header().JSON), string(h.JSON))
						continue
					}
					require.Error(t, err, "failure %d of %+v was missed", k, f)
					require.ErrorIs(t, err, faultio.ErrIO)
					d.Faulty()
					if f.Op == faultio.OpWrite || f.Op == faultio.OpSync {
						// what is on the disk is unknown
						_, err := v.AddToken([]byte(`{"type":"probe"}`), nil, TokenOptions{})
						require.ErrorIs(t, err, ErrBroken, "failure %d of %+v", k, f)
					}
					for what, d := range map[string]*faultio.Disk{"the disk": d, "the medium": d.Medium()} {
						v, err := Open(d)
						require.NoError(t, err, "%s after failure %d: %+v", what, k, f)
						for _, p := range op.before {
							if slices.Contains(op.after, p) {
								require.True(t, remembered(t, v, p, nil), "%s after failure %d: %q", what, k, p)
							}
						}
					}
				}
			}
		})
	}
}

// A disk that lies is noticed, where it has a page cache that can be dropped or none.
func TestLying(t *testing.T) {
	base, volumeKey := operationBase(t)
	for name, op := range operations() {
		t.Run(name, func(t *testing.T) {
			for _, cached := range []bool{false, true} {
				for _, what := range []faultio.Op{faultio.OpWrite, faultio.OpSync} {
					for k := 0; ; k++ {
						d := base.Clone()
						if cached {
							d.Cached()
						}
						if !cached && what == faultio.OpSync {
							break // a sync that does nothing changes nothing there
						}
						v, err := Open(d)
						require.NoError(t, err)
						key, err := v.VolumeKey(volumeKey)
						require.NoError(t, err)
						d.Faulty(faultio.Failure{Op: what, After: k, Lie: true})
						err = op.do(v, key)
						if d.Failed() == 0 {
							require.NoError(t, err)
							break
						}
						require.ErrorContains(t, err, "the disk returns different data from what was written")
					}
				}
			}
		})
	}
}

// Another program that changes the header in the meantime is noticed before anything is written.
func TestChangedMeanwhile(t *testing.T) {
	d, volumeKey := operationBase(t)
	for name, op := range operations() {
		d := d.Clone()
		mine, err := Open(d)
		require.NoError(t, err)
		key, err := mine.VolumeKey(volumeKey)
		require.NoError(t, err)
		other, err := Open(d)
		require.NoError(t, err)
		_, err = other.AddToken([]byte(`{"type":"other"}`), nil, TokenOptions{})
		require.NoError(t, err)
		before := content(t, d)
		require.ErrorIs(t, op.do(mine, key), ErrChanged, name)
		require.Equal(t, before, content(t, d), name)
	}
}

// A disk that can be locked is, for the time of a change.
type lockable struct {
	*faultio.Disk
	held bool
	log  []string
}

func (l *lockable) Lock() (func() error, error) {
	if l.held {
		return nil, &osmith.LockedError{Name: "disk"}
	}
	l.held = true
	return func() error { l.held = false; return nil }, nil
}

func (l *lockable) WriteAt(p []byte, off int64) (int, error) {
	if !l.held {
		l.log = append(l.log, fmt.Sprint(off))
	}
	return l.Disk.WriteAt(p, off)
}

func TestLocked(t *testing.T) {
	d, volumeKey := operationBase(t)
	for name, op := range operations() {
		l := &lockable{Disk: d.Clone()}
		v, err := Open(l)
		require.NoError(t, err)
		key, err := v.VolumeKey(volumeKey)
		require.NoError(t, err)
		l.held = true
		var locked *osmith.LockedError
		require.ErrorAs(t, op.do(v, key), &locked, name)
		l.held = false
		require.NoError(t, op.do(v, key), name)
		require.False(t, l.held, name)
		require.Empty(t, l.log, "%s: written without the lock", name)
	}
}
