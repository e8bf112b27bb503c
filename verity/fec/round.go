package fec

import (
	"bytes"
	"slices"

	"github.com/klauspost/reedsolomon"

	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// A round is the buffers for repairing rounds one after the other.
type round struct {
	*repairer
	encoding *encoding
	hash     *hashtree.Hasher
	walker   *hashtree.Walker
	anywhere *decoder // without erasures
	stored   []byte   // parity as it is stored

	// right are the rows that hold what they should though damage says otherwise;
	// open are those in which errors may be found.
	right, open [codeword]bool
	patched     [codeword][]byte // damaged rows with corrections
	spare       [][]byte         // blocks for them
	corrections []correction

	repaired []int64 // data blocks
	hashes   bool    // hash blocks were repaired
	agrees   bool    // the parity knows nothing of the damage of the top block
}

func (r *repairer) newRound(rs reedsolomon.Encoder) *round {
	return &round{
		repairer: r,
		encoding: r.newEncoding(rs, r.BlockSize),
		hash:     r.tree.NewHasher(),
		walker:   r.walker(),
		anywhere: newDecoder(r.Roots, nil),
		stored:   make([]byte, r.perRound()),
	}
}

// repair repairs what can be of one round.
func (w *round) repair(n int64) error {
	if err := w.load(n); err != nil {
		return err
	}
	for {
		differs, err := w.remainders()
		if err != nil {
			return err
		}
		if !differs {
			// The parity knows of no damage. That of the top block is then not damage.
			top := w.tree.start[w.tree.Top()]
			w.agrees = w.agrees || top%w.rounds == n && w.state(top) == bad
			return nil
		}
		erasures, known, left := w.damaged(n)
		progress := false
		for i, erased := range [][]int{erasures, known, nil} {
			// Each is a part of the one before.
			if len(erased) > w.Roots || i > 0 && len(erased) == len(erasures) || i > 1 && len(erased) == len(known) {
				continue
			}
			w.correct(erased, left)
			if progress, err = w.accept(n, left); err != nil {
				return err
			}
			if progress {
				break
			}
		}
		if !progress {
			return nil
		}
	}
}

// number returns which block a row of a round is.
func (w *round) number(n int64, row int) int64 { return int64(row)*w.rounds + n }

// load reads the rows and the stored parity of a round.
func (w *round) load(n int64) error {
	e := w.encoding
	if err := w.rowsOf(e.shards, e.rowBuf, e.zero, n*int64(w.BlockSize), w.BlockSize); err != nil {
		return err
	}
	for row := range w.rows() {
		content := w.fixed[w.number(n, row)]
		w.right[row] = content != nil
		if content != nil {
			copy(e.shards[row], content)
		}
	}
	return hashtree.ReadFull(w.parity, w.stored, n*w.perRound(), "parity")
}

// remainders leaves in encoding.out what computed and stored parity differ by, and
// tells whether they do.
func (w *round) remainders() (differs bool, err error) {
	out, err := w.encoding.parityOfRows(w.BlockSize)
	if err != nil {
		return false, err
	}
	var any byte
	for i, b := range w.stored {
		out[i] ^= b
		any |= out[i]
	}
	return any != 0, nil
}

// damaged returns the rows of a round that may hold anything, those of them that are
// known to be damaged, and those that are to be repaired. It opens rows to errors.
func (w *round) damaged(n int64) (erasures, known, left []int) {
	for i := range w.open {
		w.open[i] = i >= w.rows() // parity
	}
	for row := range w.rows() {
		block := w.number(n, row)
		if w.right[row] || block >= w.blocks() {
			continue
		}
		_, fixed := w.fixed[block]
		state := w.damage.at(block)
		_, _, hashed := w.tree.position(block)
		w.open[row] = fixed || state != good || !hashed
		switch {
		case fixed: // data; the source may have it or not
			erasures, known = append(erasures, row), append(known, row)
		case state == bad:
			erasures, known, left = append(erasures, row), append(known, row), append(left, row)
		case state == suspect:
			erasures, left = append(erasures, row), append(left, row)
		}
	}
	return erasures, known, left
}

// correct decodes all codewords of the round and puts the rows that are to be repaired,
// where there is a correction, into patched.
func (w *round) correct(erased, left []int) {
	for _, row := range left {
		if p := w.patched[row]; p != nil {
			w.spare = append(w.spare, p)
			w.patched[row] = nil
		}
	}
	var wanted [codeword]bool
	for _, row := range left {
		wanted[row] = true
	}
	d := newDecoder(w.Roots, erased)
	for column := range w.BlockSize {
		rest := w.encoding.out[column*w.Roots:][:w.Roots]
		if !w.decode(d, rest) && (len(erased) == 0 || !w.decode(w.anywhere, rest)) {
			continue
		}
		for _, c := range w.corrections {
			if !wanted[c.symbol] {
				continue
			}
			if w.patched[c.symbol] == nil {
				w.patched[c.symbol] = w.copyOf(w.encoding.shards[c.symbol])
			}
			w.patched[c.symbol][column] ^= c.value
		}
	}
}

// decode leaves the corrections of a codeword in corrections. It reports false if there
// are none or if they would correct what is known to be right.
func (w *round) decode(d *decoder, rest []byte) bool {
	var ok bool
	w.corrections, ok = d.decode(w.corrections[:0], rest)
	for _, c := range w.corrections {
		ok = ok && w.open[c.symbol]
	}
	return ok
}

func (w *round) copyOf(block []byte) []byte {
	if n := len(w.spare); n > 0 {
		b := w.spare[n-1]
		w.spare = w.spare[:n-1]
		copy(b, block)
		return b
	}
	return append([]byte(nil), block...)
}

// accept verifies corrected rows and writes those that have their digest.
func (w *round) accept(n int64, left []int) (progress bool, err error) {
	for _, row := range left {
		content := w.patched[row]
		if content == nil {
			continue
		}
		block := w.number(n, row)
		ok, err := w.verified(block, content)
		if err != nil {
			return progress, err
		}
		if !ok {
			continue
		}
		copy(w.encoding.shards[row], content)
		w.right[row], progress = true, true
	}
	return progress, nil
}

// verified writes the content of a block if it is known to be right.
func (w *round) verified(block int64, content []byte) (bool, error) {
	digest, err := w.expected(w.walker, block)
	if err != nil || digest == nil || !bytes.Equal(w.hash.Sum(content), digest) {
		return false, err
	}
	if level, number, _ := w.tree.position(block); level > 0 {
		if err := w.tree.checkSpare(level, number, content); err != nil {
			return false, err
		}
	}
	if err := w.write(block, content); err != nil {
		return false, err
	}
	if block < w.tree.Blocks[0] {
		w.repaired = append(w.repaired, block)
	} else {
		// Only one goroutine works on rounds with damaged hash blocks.
		w.hashes = true
		w.fixed[block] = slices.Clone(content)
	}
	return true, nil
}
