package verity

import (
	"container/list"
	"sync"
)

// A cache keeps the verified hash blocks that were used last, by their offset. Blocks
// in it do not change, so a block that is dropped stays good for who still has it.
type cache struct {
	max int // number of blocks, at least 1

	mu     sync.Mutex
	recent list.List // of cached, the last used first
	at     map[int64]*list.Element
}

type cached struct {
	at    int64
	block []byte
}

// get returns nil if the block is not there.
func (c *cache) get(at int64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.at[at]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(cached).block
}

func (c *cache) put(at int64, block []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = make(map[int64]*list.Element)
	}
	if c.at[at] != nil { // someone else was faster
		return
	}
	for c.recent.Len() >= c.max {
		last := c.recent.Back()
		delete(c.at, last.Value.(cached).at)
		c.recent.Remove(last)
	}
	c.at[at] = c.recent.PushFront(cached{at, block})
}
