package sdstub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
)

// judged are the traits that the stub of a release minds, with "?" behind those of which nothing is
// known.
func judged(t testing.TB, kernel []byte, machine uint16, row Release) map[KernelTrait]Evidence {
	t.Helper()
	k, err := pe.Parse(bytes.NewReader(kernel), int64(len(kernel)))
	require.NoError(t, err)
	list, err := JudgeKernel(k, bytes.NewReader(kernel), machine, row)
	require.NoError(t, err)
	out := make(map[KernelTrait]Evidence)
	for _, o := range list {
		assert.NotEqual(t, AnswerStarts, o.Answer)
		assert.NotEmpty(t, o.Text)
		if o.Answer == AnswerUnknown {
			o.Trait += "?"
		}
		out[o.Trait] = o.Evidence
	}
	return out
}

// Every trait has one row for each release, and what is not known says so.
func TestKernelRows(t *testing.T) {
	traits := make(map[KernelTrait]int)
	for _, r := range KernelRows() {
		if next, ok := traits[r.Trait]; ok {
			assert.Equal(t, next, r.Since, "%+v", r)
		} else {
			assert.Equal(t, Oldest(), r.Since, "%+v", r)
		}
		traits[r.Trait] = r.Until + 1
		assert.LessOrEqual(t, r.Since, r.Until)
		for n := r.Since; n <= r.Until; n++ {
			answer, evidence := KernelAnswer(r.Trait, n)
			assert.Equal(t, r.Answer, answer)
			assert.Equal(t, r.Answer == AnswerUnknown, evidence == EvidenceNone, "%+v", r)
			if evidence == EvidenceBooted {
				assert.Contains(t, []int{252, 254, 257, 262}, n, "%+v", r)
			}
		}
	}
	for trait, next := range traits {
		assert.Equal(t, Newest()+1, next, trait)
		for _, n := range []int{0, Oldest() - 1, Newest() + 1} {
			answer, evidence := KernelAnswer(trait, n)
			assert.Equal(t, AnswerUnknown, answer, trait)
			assert.Equal(t, EvidenceNone, evidence, trait)
		}
	}
}

// Each kernel of the list is judged by the row of its name, with every release; the kernel that
// they are made of is started.
func TestJudgeKernel(t *testing.T) {
	good := petest.Kernel("6.12.0")
	list := petest.RefusedKernels(good)
	names := make(map[KernelTrait]bool)
	for _, k := range list {
		names[KernelTrait(k.Name)] = true
	}
	for _, r := range KernelRows() { // short ones, other architectures and mixed mode are below
		other := r.Trait == KernelImageVersion || r.Trait == KernelMixedMode || r.Trait == KernelHandoverSize || r.Trait == KernelHeaderSize
		assert.Equal(t, !other, names[r.Trait], r.Trait)
	}
	for _, row := range Releases() {
		assert.Empty(t, judged(t, good, arch.X8664.Machine, row), row.Number)
		for _, k := range list {
			trait := KernelTrait(k.Name)
			answer, evidence := KernelAnswer(trait, row.Number)
			want := map[KernelTrait]Evidence{trait: evidence}
			switch answer {
			case AnswerStarts:
				want = map[KernelTrait]Evidence{}
			case AnswerUnknown:
				want = map[KernelTrait]Evidence{trait + "?": EvidenceNone}
			}
			if answer, evidence := KernelAnswer(KernelHeaderSize, row.Number); trait == KernelDirectories && answer == AnswerRefuses {
				// the header has room for the directories that it lacks
				want[KernelHeaderSize] = evidence
			}
			assert.Equal(t, want, judged(t, k.Kernel, arch.X8664.Machine, row), "%d %s", row.Number, k.Name)
		}
	}
	// Of a release that is not known nothing is known; of one that is assumed, nothing was seen.
	for _, k := range list {
		trait := KernelTrait(k.Name)
		want := map[KernelTrait]Evidence{trait + "?": EvidenceNone}
		if trait == KernelDirectories {
			want[KernelHeaderSize+"?"] = EvidenceNone
		}
		assert.Equal(t, want, judged(t, k.Kernel, arch.X8664.Machine, Release{}), k.Name)
		row, err := Find("999", 262)
		require.NoError(t, err)
		if answer, _ := KernelAnswer(trait, 262); answer == AnswerRefuses {
			assert.Equal(t, map[KernelTrait]Evidence{trait: EvidenceNone}, judged(t, k.Kernel, arch.X8664.Machine, row), k.Name)
		}
	}
}

func TestJudgeKernelElsewhere(t *testing.T) {
	le := binary.LittleEndian
	row := releases[len(releases)-1]
	good := petest.Kernel("6.12.0")
	with := func(change func([]byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		return b
	}
	only := func(trait KernelTrait, evidence Evidence) map[KernelTrait]Evidence {
		return map[KernelTrait]Evidence{trait: evidence}
	}
	none := map[KernelTrait]Evidence{}

	// The handover starts an old kernel that has all that it needs, on x86 only.
	old := with(func(b []byte) { le.PutUint16(b[88+44:], 0) })
	assert.Equal(t, none, judged(t, old, arch.X8664.Machine, row))
	arm := with(func(b []byte) { le.PutUint16(b[88+44:], 0); le.PutUint16(b[68:], arch.ARM64.Machine) })
	assert.Equal(t, only(KernelImageVersion, EvidenceSource), judged(t, arm, arch.ARM64.Machine, row))
	le.PutUint16(arm[88+44:], 1)
	assert.Equal(t, none, judged(t, arm, arch.ARM64.Machine, row))
	// 2.11 has no flags yet.
	before := with(func(b []byte) {
		le.PutUint16(b[88+44:], 0)
		le.PutUint16(b[0x206:], 0x20b)
		le.PutUint16(b[0x236:], 0)
	})
	assert.Equal(t, none, judged(t, before, arch.X8664.Machine, row))
	le.PutUint16(before[0x206:], 0x20c)
	assert.Equal(t, only(KernelHandoverFlag, EvidenceBooted), judged(t, before, arch.X8664.Machine, row))
	noFlag := with(func(b []byte) { le.PutUint16(b[88+44:], 0); le.PutUint16(b[0x1fe:], 0) })
	assert.Equal(t, only(KernelHandoverSetup, EvidenceBooted), judged(t, noFlag, arch.X8664.Machine, row))

	short := petest.Image{SizeOfHeaders: 1024, Whole: true, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true}}}.Bytes()
	assert.Equal(t, only(KernelHandoverSize, EvidenceSource), judged(t, short, arch.X8664.Machine, row))

	// Where the limits are, to the byte.
	edge := with(func(b []byte) { le.PutUint32(b[88+16:], le.Uint32(b[88+56:])) })
	assert.Contains(t, judged(t, edge, arch.X8664.Machine, row), KernelEntryPoint)
	edge = with(func(b []byte) { le.PutUint32(b[88+16:], le.Uint32(b[88+56:])-1) })
	assert.Equal(t, none, judged(t, edge, arch.X8664.Machine, row))
	edge = with(func(b []byte) {
		last := b[88+240+40:]
		le.PutUint32(b[88+56:], le.Uint32(last[8:])+le.Uint32(last[12:]))
	})
	assert.Equal(t, none, judged(t, edge, arch.X8664.Machine, row), "a section ends where the image does")
	all := with(func(b []byte) { le.PutUint16(b[88+44:], 0); le.PutUint16(b[64+6:], 0) })[:4096]
	all[64+6] = 1
	clear(all[88+240:][:40])
	assert.Equal(t, none, judged(t, all, arch.X8664.Machine, row), "just long enough for the handover")

	// A stub for 32 bits takes the entry point that .compat names for it, up to 257, and else the
	// handover.
	compat := func(records ...byte) []byte {
		b := petest.Kernel("6.12.0", petest.Section{Name: ".compat", Content: records})
		for i := range 3 { // the stub takes addresses for offsets
			r := b[88+240+40*i:]
			le.PutUint32(r[12:], le.Uint32(r[20:]))
		}
		return b
	}
	entry := compat(2, 4, 0, 0, 1, 8, 0x64, 0x86, 1, 0, 0, 0, 1, 8, 0x4c, 1, 0, 0x10, 0, 0)
	assert.Equal(t, only(KernelMixedMode, EvidenceSource), judged(t, entry, arch.X86.Machine, row))
	assert.Equal(t, none, judged(t, entry, arch.X86.Machine, releases[0]))
	assert.Equal(t, none, judged(t, good, arch.X86.Machine, row), "no .compat: the handover")
	for name, k := range map[string][]byte{
		"none":       good,
		"another":    compat(1, 8, 0x64, 0x86, 0, 0x10, 0, 0),
		"no address": compat(1, 8, 0x4c, 1, 0, 0, 0, 0),
		"an end":     compat(0, 8, 0, 0, 0, 0, 0, 0, 1, 8, 0x4c, 1, 0, 0x10, 0, 0),
		"no size":    compat(1, 0, 0x4c, 1, 0, 0x10, 0, 0),
		"too long":   compat(3, 255, 0, 0, 0, 0, 0, 0),
		"too short":  compat(1, 4, 0x4c, 1, 0, 0x10, 0, 0),
	} {
		le.PutUint16(k[0x236:], 0)
		assert.Equal(t, only(KernelHandoverFlag, EvidenceBooted), judged(t, k, arch.X86.Machine, row), name)
		le.PutUint16(k[0x236:], 1<<2)
		assert.Equal(t, none, judged(t, k, arch.X86.Machine, row), name)
	}
	last := compat(1, 8, 0x4c, 1, 0, 0x10, 0, 0)
	r := last[88+240+40*2:]
	at := len(last) - 8
	copy(last[at:], []byte{1, 8, 0x4c, 1, 0, 0x10, 0, 0})
	le.PutUint32(r[8:], 8)
	le.PutUint32(r[12:], uint32(at))
	assert.Contains(t, judged(t, last, arch.X86.Machine, row), KernelMixedMode, "at the end of the file")
	le.PutUint32(r[12:], uint32(at+1))
	assert.NotContains(t, judged(t, last, arch.X86.Machine, row), KernelMixedMode, "one byte behind it")
	outside := compat(1, 8, 0x4c, 1, 0, 0x10, 0, 0)
	le.PutUint32(outside[88+240+40*2+12:], 0x7fffffff)
	assert.Equal(t, none, judged(t, outside, arch.X86.Machine, row), "the handover")
}

// A kernel that cannot be read is an error, not a verdict.
func TestJudgeKernelUnread(t *testing.T) {
	row := releases[len(releases)-1]
	compat := petest.Kernel("6.12.0", petest.Section{Name: ".compat", Content: []byte("12345678")})
	binary.LittleEndian.PutUint32(compat[88+240+40*2+12:], 0)
	for name, b := range map[string][]byte{"handover": petest.RefusedKernels(petest.Kernel("6.12.0"))[8].Kernel, "compat": compat} {
		k, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		list, err := JudgeKernel(k, bytes.NewReader(nil), arch.X86.Machine, row)
		require.Error(t, err, name)
		require.Nil(t, list)
		list, err = JudgeKernel(k, broken{}, arch.X86.Machine, row)
		require.ErrorIs(t, err, errBroken, name)
		require.Nil(t, list)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func FuzzJudgeKernel(f *testing.F) {
	for _, k := range petest.RefusedKernels(petest.Kernel("6.12.0")) {
		f.Add(k.Kernel, uint16(0x8664), 262)
	}
	f.Add(petest.Kernel("6.12.0"), uint16(0x14c), 252)
	f.Fuzz(func(t *testing.T, b []byte, machine uint16, release int) {
		k, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		list, err := JudgeKernel(k, bytes.NewReader(b), machine, Release{Number: release, Evidence: EvidenceSource})
		require.NoError(t, err)
		for _, o := range list {
			require.NotEqual(t, AnswerStarts, o.Answer)
		}
	})
}
