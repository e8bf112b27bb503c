package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/osmith-dev/osmith"
)

// An Input is a file or block device that a call has open: an [osmith.Device] that counts what is
// read of it.
type Input struct {
	*osmith.Device
	Name string
	read atomic.Int64
	ctx  context.Context // of the call, of an input that is read only; else nil
}

// ReadAt implements [io.ReaderAt]. Nothing more is read of an input when its call is cancelled, so
// that a job ends that only copies. What is changed is read on: a job that changes it has to end
// well.
func (in *Input) ReadAt(b []byte, off int64) (int, error) {
	if in.ctx != nil && in.ctx.Err() != nil {
		return 0, in.ctx.Err()
	}
	n, err := in.Device.ReadAt(b, off)
	in.read.Add(int64(n))
	return n, err
}

// Open opens a file or block device for reading. It is closed when the call ends.
func (c *Call) Open(name string) (*Input, error) { return c.OpenFile(name, os.O_RDONLY) }

// OpenFile is [Call.Open] for the uses of flag, which are those of [os.OpenFile].
func (c *Call) OpenFile(name string, flag int) (*Input, error) {
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	var d *osmith.Device
	if err == nil {
		d, err = osmith.NewDevice(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	in := &Input{Device: d, Name: name}
	if flag == os.O_RDONLY {
		in.ctx = c.Context
	}
	c.inputs = append(c.inputs, in)
	return in, nil
}

// AtEnd has a function called when the call ends, also with an error. The last comes first.
func (c *Call) AtEnd(do func()) { c.ends = append(c.ends, do) }

// Close closes the inputs and does what was left for the end.
func (c *Call) Close() {
	for i := len(c.ends) - 1; i >= 0; i-- {
		c.ends[i]()
	}
	for _, in := range c.inputs {
		_ = in.Close() // what was written was synced or closed before
	}
	c.ends, c.inputs = nil, nil
}

// InputSize is how many bytes all inputs have.
func (c *Call) InputSize() (n int64) {
	for _, in := range c.inputs {
		n += in.Size()
	}
	return n
}

// WatchReads shows how much of total is read of the inputs until the function returned is called:
// of those given, or of all that are open now.
func (c *Call) WatchReads(total int64, of ...*Input) (finish func()) {
	if len(of) == 0 {
		of = c.inputs
	}
	done := func() (n int64) {
		for _, in := range of {
			n += in.read.Load()
		}
		return n
	}
	start := done()
	return c.Watch(total, func() int64 { return done() - start })
}

// ReadFile reads a file of at most limit bytes.
func ReadFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, err
}
