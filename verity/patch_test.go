package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// planned is the new image to fetch from, as far as the plan allows.
type planned struct {
	memory
	allowed []bool // by block
	size    int
	most    int // bytes of a read
}

func (p *planned) ReadAt(b []byte, off int64) (int, error) {
	if len(b) > p.most || int(off)%p.size != 0 || len(b)%p.size != 0 {
		return 0, fmt.Errorf("read of %d bytes at %d", len(b), off)
	}
	for n := int(off) / p.size; n < (int(off)+len(b))/p.size; n++ {
		if !p.allowed[n] {
			return 0, fmt.Errorf("block %d was not to be read", n)
		}
	}
	return p.memory.ReadAt(b, off)
}

// badSectors are blocks that cannot be read.
type badSectors struct {
	memory
	bad  map[int64]bool
	size int64
}

func (s badSectors) ReadAt(b []byte, off int64) (int, error) {
	for at := off; at < off+int64(len(b)); at += s.size {
		if s.bad[at/s.size] {
			return int(at - off), errors.New("bad sector")
		}
	}
	return s.memory.ReadAt(b, off)
}

func TestPatchRandom(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(4, 1))
	for i := range sample(150) {
		p := randomParams(r)
		size := p.DataBlockSize
		old, target, to := randomImage(r, size), randomImage(r, size), randomImage(r, size)
		tree := treeOf(t, to, p)
		var o DiffOptions
		if r.IntN(2) > 0 {
			o.Target = treeOf(t, target, p)
		}
		d, err := Diff(ctx, treeOf(t, old, p), tree, o)
		require.NoError(t, err)

		// The slot is larger than the image, and what follows must stay.
		dst := newMemory(max(to.Size(), target.Size()) + 1000)
		before := bytes.Clone(dst)
		copy(before, target)
		copy(dst, target)
		source := badSectors{bytes.Clone(old), map[int64]bool{}, int64(size)}
		damaged := map[int64]bool{} // of the old image
		for range r.IntN(4) {
			n := r.IntN(len(old) / size)
			damaged[int64(n)] = true
			if r.IntN(2) > 0 {
				source.bad[int64(n)] = true
			} else {
				source.memory[n*size+r.IntN(size)] ^= 4
			}
		}
		kept := map[int64]bool{} // damaged blocks of dst
		for range r.IntN(4) {
			n := r.IntN(len(dst) / size)
			kept[int64(n)] = true
			dst[n*size+r.IntN(size)] ^= 4
		}

		options := PatchOptions{Resume: r.IntN(2) > 0, MaxRequest: r.IntN(9) * size, MaxGap: r.IntN(4) * size}
		if r.IntN(8) == 0 {
			options.MaxRequest = size / 3
		}
		var want PatchResult
		fetch := &planned{memory: to, allowed: make([]bool, d.Blocks), size: size, most: options.MaxRequest}
		if options.MaxRequest == 0 {
			fetch.most = defaultRequest
		}
		fetch.most = max(fetch.most, size)
		for _, s := range d.Spans {
			for n := s.First; n < s.First+s.Count; n++ {
				is := bytes.Equal(dst[n*int64(size):][:size], to[n*int64(size):][:size])
				switch {
				case is && (options.Resume || s.Origin == OriginKept):
					want.Kept++
				case s.Origin == OriginZero:
					want.Zeroed++
				case s.fromOld() && !damaged[s.From+n-s.First]:
					want.Copied++
				default:
					want.Fetched++
					fetch.allowed[n] = true
					if s.Origin != OriginFetch {
						want.Damaged++
					}
				}
			}
		}
		for from, n := -1, 0; n < len(fetch.allowed); n++ { // gaps may be read
			if !fetch.allowed[n] {
				continue
			}
			if from >= 0 && n-from-1 <= options.MaxGap/size {
				for g := from; g < n; g++ {
					fetch.allowed[g] = true
				}
			}
			from = n
		}
		var last int64
		options.Progress = func(done, total int64) {
			require.Greater(t, done, last)
			require.Equal(t, to.Size(), total)
			last = done
		}
		got, err := Patch(ctx, dst, source, fetch, tree, d, options)
		require.NoError(t, err, "%d", i)
		require.True(t, bytes.Equal(to, dst[:len(to)]), "%d", i)
		for n := range kept { // what was damaged behind the image stays so too
			copy(before[n*int64(size):][:size], dst[n*int64(size):][:size])
		}
		require.True(t, bytes.Equal(before[len(to):], dst[len(to):]), "%d", i)
		require.Equal(t, to.Size(), last)
		require.GreaterOrEqual(t, got.RequestedBytes, got.Fetched*int64(size))
		if options.MaxGap == 0 {
			require.Equal(t, got.RequestedBytes, got.Fetched*int64(size))
		}
		want.Requests, want.RequestedBytes = got.Requests, got.RequestedBytes
		require.Equal(t, want, *got, "%d", i)
	}
}

func TestPatchRequests(t *testing.T) {
	p := &patcher{next: &openTree{layout: &layout{Params: Params{DataBlockSize: 4096}}}}
	p.missing = []run{{0, 2}, {3, 1}, {10, 1}, {12, 5}, {30, 6}}
	text := func() (all string) {
		for _, r := range p.requests() {
			all += fmt.Sprintf("%d+%d%v ", r.first, r.count, r.missing)
		}
		return all
	}
	assert.Equal(t, "0+2[{0 2}] 3+1[{3 1}] 10+1[{10 1}] 12+5[{12 5}] 30+6[{30 6}] ", text())
	p.MaxGap = 4096
	assert.Equal(t, "0+4[{0 2} {3 1}] 10+7[{10 1} {12 5}] 30+6[{30 6}] ", text())
	p.MaxRequest = 4 * 4096
	assert.Equal(t, "0+4[{0 2} {3 1}] 10+4[{10 1} {12 2}] 14+3[{14 3}] 30+4[{30 4}] 34+2[{34 2}] ", text())
	p.MaxGap = 1 << 20
	p.MaxRequest = 0
	assert.Equal(t, "0+36[{0 2} {3 1} {10 1} {12 5} {30 6}] ", text())
	p.MaxRequest, p.MaxGap = 1, -1
	assert.Len(t, p.requests(), 15)
}

func TestPatchErrors(t *testing.T) {
	ctx := context.Background()
	old, to := letters("abcd", 4096), letters("abxc", 4096)
	tree := treeOf(t, to, Params{})
	d, err := Diff(ctx, treeOf(t, old, Params{}), tree, DiffOptions{})
	require.NoError(t, err)
	require.Equal(t, "0-1 same, 2 fetch, 3 moved from 2", spansText(d))
	fails := func(text string, old osmith.Source, fetch memory, tree Tree, d *Delta, o PatchOptions) error {
		t.Helper()
		dst := newMemory(4 * 4096)
		var from interface {
			ReadAt([]byte, int64) (int, error)
		}
		if fetch != nil {
			from = fetch
		}
		result, err := Patch(ctx, dst, old, from, tree, d, o)
		require.Nil(t, result)
		require.ErrorContains(t, err, text)
		return err
	}
	bad := bytes.Clone(to)
	bad[2*4096+7] ^= 1
	err = fails("verity: fetch: data block 2: digest ", old, bad, tree, d, PatchOptions{})
	assert.ErrorIs(t, err, ErrData)
	fails("verity: fetch: read 4096 bytes at 0x2000: got 0: unexpected EOF", old, to[:4096], tree, d, PatchOptions{})
	fails("verity: patch: 1 blocks must be fetched, but no source was given to fetch them from", old, nil, tree, d, PatchOptions{})
	fails("verity: patch: 1 blocks must be fetched, but no source was given to fetch them from", old, nil, tree, d, PatchOptions{Resume: true})
	fails("verity: patch: the delta takes blocks from an old image, but no old image was given", nil, to, tree, d, PatchOptions{})
	err = fails("verity: old data: 8192 bytes: needs 12288", old[:8192], to, tree, d, PatchOptions{})
	var short *ShortError
	assert.ErrorAs(t, err, &short)
	fails("verity: patch: the root hash of the new tree is not given", old, to, Tree{Source: tree.Source}, d, PatchOptions{})

	wrong := tree
	wrong.RootHash = make([]byte, 32)
	err = fails("verity: new tree: level 1 hash block 0: digest ", old, to, wrong, d, PatchOptions{})
	assert.ErrorIs(t, err, ErrRootHash)

	for text, spans := range map[string][]Span{
		"the delta ends at block 0 of 4":      nil,
		"the delta ends at block 3 of 4":      {{OriginFetch, 0, 3, 0}},
		"span 0 of the delta, 0 fetch":        {{OriginFetch, 0, 0, 0}},
		"span 0 of the delta, 0-4 fetch":      {{OriginFetch, 0, 5, 0}},
		"span 1 of the delta, 3 fetch":        {{OriginFetch, 0, 2, 0}, {OriginFetch, 3, 1, 0}},
		"span 0 of the delta, 0-3 origin 9":   {{9, 0, 4, 0}},
		"span 0 of the delta, 0-3 moved from": {{OriginMoved, 0, 4, -1}},
		"span 0 of the delta, 0-3 moved":      {{OriginMoved, 0, 4, 1<<51 - 3}},
		"span 0 of the delta, 0-9223372":      {{OriginFetch, 0, 1<<63 - 1, 0}},
	} {
		fails("verity: patch: "+text, old, to, tree, &Delta{BlockSize: 4096, Blocks: 4, Spans: spans}, PatchOptions{})
	}
	fails("verity: patch: the delta is for 5 blocks of 512 bytes, the new tree for 4 of 4096", old, to, tree, &Delta{BlockSize: 512, Blocks: 5}, PatchOptions{})

	fails("verity: patch: no delta was given", old, to, tree, nil, PatchOptions{})
	fails("verity: new tree: not given", old, to, Tree{RootHash: tree.RootHash}, d, PatchOptions{})

	_, err = Patch(ctx, writerAt{newMemory(4 * 4096)}, old, to, tree, d, PatchOptions{Resume: true})
	assert.EqualError(t, err, "verity: patch: the delta keeps blocks of dst, but dst cannot be read")
	_, err = Patch(ctx, newMemory(4096), old, to, tree, d, PatchOptions{})
	assert.EqualError(t, err, "verity: patch: write 8192 bytes at 0x0: short write")

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	result, err := Patch(cancelled, newMemory(4*4096), old, to, tree, d, PatchOptions{})
	assert.Nil(t, result)
	assert.ErrorIs(t, err, context.Canceled)
}

type writerAt struct{ m memory }

func (w writerAt) WriteAt(b []byte, off int64) (int, error) { return w.m.WriteAt(b, off) }

// Where the new tree is damaged, nothing is written, wherever a block would come from.
func TestPatchDamagedTree(t *testing.T) {
	ctx := context.Background()
	p := Params{DataBlockSize: 512, HashBlockSize: 512} // 16 blocks under a hash block
	text := bytes.Repeat([]byte("abcdefghijklmnop"), 40)
	to := letters(string(text), 512)
	tree := treeOf(t, to, p)
	device := tree.Source.(memory)
	const damaged = 20 // the hash block over the blocks from 320 on
	device[len(device)-(40-damaged)*512+3] ^= 1
	for _, origin := range []Origin{OriginKept, OriginSame, OriginZero, OriginFetch} {
		d := &Delta{BlockSize: 512, Blocks: 640, Spans: []Span{{Origin: origin, Count: 640}}}
		dst := newMemory(to.Size())
		if origin == OriginKept {
			copy(dst, to)
		}
		before := bytes.Clone(dst)
		got, err := Patch(ctx, dst, to, to, tree, d, PatchOptions{MaxRequest: 512})
		require.Nil(t, got)
		require.ErrorIs(t, err, ErrTree, origin)
		require.ErrorContains(t, err, "verity: new tree: level 1 hash block 20: digest ")
		require.True(t, bytes.Equal(before[320*512:], dst[320*512:]), origin)
	}
}

func TestPatchSync(t *testing.T) {
	ctx := context.Background()
	to := letters("abc", 4096)
	tree := treeOf(t, to, Params{})
	d, err := Diff(ctx, Tree{}, tree, DiffOptions{})
	require.NoError(t, err)
	dst := &syncing{memory: newMemory(3 * 4096)}
	_, err = Patch(ctx, dst, nil, to, tree, d, PatchOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, dst.synced)
	dst.err = errors.New("lost")
	got, err := Patch(ctx, dst, nil, to, tree, d, PatchOptions{})
	require.Nil(t, got)
	require.EqualError(t, err, "verity: patch: sync: lost")
}

type syncing struct {
	memory
	synced int
	err    error
}

func (s *syncing) Sync() error {
	s.synced++
	return s.err
}

// A delta is only a plan: a wrong one costs requests, and nothing else.
func TestPatchWrongDelta(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(5, 1))
	old, to := letters("abcdefgh.", 4096), letters("xaybzc..h", 4096)
	tree := treeOf(t, to, Params{})
	for range 50 {
		d := &Delta{BlockSize: 4096, Blocks: 9}
		for d.Blocks > int64(len(d.Spans)) {
			d.Spans = append(d.Spans, Span{Origin: Origin(r.IntN(int(origins))), First: int64(len(d.Spans)), Count: 1, From: int64(r.IntN(9))})
		}
		dst := newMemory(9 * 4096)
		got, err := Patch(ctx, dst, old, to, tree, d, PatchOptions{})
		require.NoError(t, err)
		require.Equal(t, to, dst)
		require.Equal(t, int64(9), got.Kept+got.Copied+got.Zeroed+got.Fetched)
		require.Equal(t, got.Fetched-d.Total(OriginFetch), got.Damaged)
	}
}

// The power is cut at every write, between and within; Resume goes on from there.
func TestPatchPowerCut(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(6, 1))
	p := Params{Salt: []byte("same")}
	image := func() memory {
		m := randomImage(r, 4096)
		for m.Size() < 300*4096 {
			m = append(m, randomImage(r, 4096)...)
		}
		return m
	}
	old, target, to := image(), image(), image()
	tree := treeOf(t, to, p)
	for _, o := range []DiffOptions{{}, {Target: treeOf(t, target, p)}} {
		d, err := Diff(ctx, treeOf(t, old, p), tree, o)
		require.NoError(t, err)
		require.Positive(t, d.Total(OriginFetch))
		slot := func() *faultio.Disk {
			disk := faultio.NewDisk(max(to.Size(), target.Size()))
			_, err := disk.WriteAt(target, 0)
			require.NoError(t, err)
			return disk
		}
		options := PatchOptions{MaxRequest: 8 * 4096, MaxGap: 4096}
		record := slot()
		record.Record()
		whole, err := Patch(ctx, record, old, to, tree, d, options)
		require.NoError(t, err)
		writes := record.Writes()
		require.NotEmpty(t, writes)
		for k := range writes {
			disk := slot()
			disk.CutAfter(k)
			_, err := Patch(ctx, disk, old, to, tree, d, options)
			require.ErrorIs(t, err, faultio.ErrCut)
			resumed(t, disk.Clone(), old, to, tree, d, whole)
			resumed(t, record.Torn(k, len(writes[k].Data)/2/512*512), old, to, tree, d, whole)
			resumed(t, record.Lossy(k, func(int) bool { return r.IntN(2) > 0 }), old, to, tree, d, whole)
		}
	}
}

func resumed(t *testing.T, disk *faultio.Disk, old, to memory, tree Tree, d *Delta, whole *PatchResult) {
	t.Helper()
	var right int64
	block := make([]byte, 4096)
	for n := range d.Blocks {
		_, err := disk.ReadAt(block, n*4096)
		require.NoError(t, err)
		if bytes.Equal(block, to[n*4096:][:4096]) {
			right++
		}
	}
	got, err := Patch(context.Background(), disk, old, to, tree, d, PatchOptions{Resume: true})
	require.NoError(t, err)
	require.Equal(t, right, got.Kept)
	require.LessOrEqual(t, got.Fetched, whole.Fetched)
	image := make([]byte, len(to))
	_, err = disk.ReadAt(image, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(to, image))
}
