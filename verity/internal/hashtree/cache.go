package hashtree

import (
	"container/list"
	"sync"
)

// A Cache keeps the verified hash blocks that were used last, by their offset, for several walkers.
// Blocks in it do not change, so a block that is dropped stays good for the walker that still has
// it.
type Cache struct {
	max int // number of blocks, at least 1

	mu     sync.Mutex
	recent list.List // of cached, the last used first
	at     map[int64]*list.Element
}

type cached struct {
	at    int64
	block []byte
}

// NewCache returns a cache of so many blocks; one at least.
func NewCache(blocks int) *Cache {
	return &Cache{max: max(blocks, 1), at: make(map[int64]*list.Element)}
}

// get returns nil if the block is not there.
func (c *Cache) get(at int64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.at[at]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(cached).block
}

func (c *Cache) put(at int64, block []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at[at] != nil { // another walker was faster
		return
	}
	for c.recent.Len() >= c.max {
		last := c.recent.Back()
		delete(c.at, last.Value.(cached).at)
		c.recent.Remove(last)
	}
	c.at[at] = c.recent.PushFront(cached{at, block})
}
