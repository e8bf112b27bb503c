package build

import (
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/osmith-dev/osmith"
)

// Scratch is where something is kept that has to be known before the disk is written, such as a
// hash tree: an [os.File], or memory.
type Scratch interface {
	io.ReaderAt
	io.WriterAt
}

// maxMemory is what scratches in memory have at most, all together.
const maxMemory = 64 << 20

// pageSize is the unit in which memory is taken.
const pageSize = 64 << 10

// memoryFull says that what is kept in memory is too large.
type memoryFull struct{}

func (memoryFull) Error() string {
	return fmt.Sprintf("contents made before the disk is written need more than %d MiB: give DiskOptions.Scratch, which makes files", maxMemory>>20)
}

// budget is shared by all scratches in memory of one disk.
type budget struct {
	mu   sync.Mutex
	used int64
}

func (b *budget) take(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > maxMemory {
		return memoryFull{}
	}
	b.used += n
	return nil
}

// pages is a sparse file in memory. It is written from one goroutine at a time.
type pages struct {
	budget *budget
	of     map[int64][]byte
}

// Size lets holes be asked for anywhere.
func (p *pages) Size() int64 { return math.MaxInt64 }

// NextData finds the next page, so that what is between pages is known to be zeros.
func (p *pages) NextData(off int64) (start, end int64, err error) {
	next := int64(math.MaxInt64)
	for number := range p.of { // they are few: maxMemory
		if number >= off/pageSize {
			next = min(next, number)
		}
	}
	if next == math.MaxInt64 {
		return 0, 0, io.EOF
	}
	return max(next*pageSize, off), (next + 1) * pageSize, nil
}

func (p *pages) ReadAt(b []byte, off int64) (int, error) {
	for n := 0; n < len(b); {
		at := off + int64(n)
		rest := b[n:min(len(b), n+int(pageSize-at%pageSize))]
		if page, ok := p.of[at/pageSize]; ok {
			copy(rest, page[at%pageSize:])
		} else {
			clear(rest)
		}
		n += len(rest)
	}
	return len(b), nil
}

func (p *pages) WriteAt(b []byte, off int64) (int, error) {
	for n := 0; n < len(b); {
		at := off + int64(n)
		page, ok := p.of[at/pageSize]
		if !ok {
			if err := p.budget.take(pageSize); err != nil {
				return n, err
			}
			page = make([]byte, pageSize)
			p.of[at/pageSize] = page
		}
		n += copy(page[at%pageSize:], b[n:])
	}
	return len(b), nil
}

// source is the first size bytes of a scratch.
func source(s Scratch, size int64) osmith.Source { return io.NewSectionReader(s, 0, size) }
