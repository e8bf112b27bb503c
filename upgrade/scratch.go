package upgrade

import (
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/fat"
)

// scratch is a partition that can be written to without being changed: what a plan needs to try something out.
type scratch struct {
	osmith.Source
	written map[int64][scratchSector]byte // by sector
}

const scratchSector = 512

func (s *scratch) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.Source.ReadAt(b, off)
	for at := off / scratchSector * scratchSector; at < off+int64(n); at += scratchSector {
		sector, ok := s.written[at]
		if !ok {
			continue
		}
		if at < off {
			copy(b[:n], sector[off-at:])
		} else {
			copy(b[at-off:n], sector[:])
		}
	}
	return n, err
}

func (s *scratch) WriteAt(b []byte, off int64) (int, error) {
	for done := 0; done < len(b); {
		at := (off + int64(done)) / scratchSector * scratchSector
		var sector [scratchSector]byte
		if _, err := s.ReadAt(sector[:], at); err != nil && err != io.EOF {
			return done, err
		}
		done += copy(sector[off+int64(done)-at:], b[done:])
		s.written[at] = sector
	}
	return len(b), nil
}

// leftover is what an interrupted upgrade left on the ESP, and how much is free once that is put right.
type leftover struct {
	repaired fat.Repaired
	free     int64
	err      error // damage of another kind
}

func (l leftover) any() bool { return l.err == nil && l.repaired != fat.Repaired{} }

// tryRepair repairs a copy that nobody keeps.
func (s *State) tryRepair() (l leftover) {
	esp, err := fat.Open(&scratch{s.espWindow, map[int64][scratchSector]byte{}})
	if err != nil {
		return leftover{err: err}
	}
	if l.repaired, err = esp.Repair(); err != nil {
		return leftover{err: err}
	}
	l.free = esp.Free()
	return l
}
