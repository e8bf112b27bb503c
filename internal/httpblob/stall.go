package httpblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ErrStalled says that a server kept a connection and sent nothing.
var ErrStalled = errors.New("no more data arrives")

// ErrSlow says that a server sends so little that it would never end.
var ErrSlow = errors.New("too slow")

// minRate is how many bytes a server sends in a second at least, on average over the time that it
// may send nothing.
const minRate = 1 << 10

// Patience is how long a server may send nothing.
func (c Client) Patience() time.Duration {
	if c.Stall == 0 {
		return defaultStall
	}
	return c.Stall
}

// defaultStall is long for a server that answers, and short for one that never will.
const defaultStall = time.Minute

// patiently sends a request that ends when nothing arrives for so long: the answer, or the next
// bytes of it. A connection whose other end is gone without a word would otherwise be waited for
// for ever.
func (c Client) patiently(ctx context.Context, request *http.Request) (*http.Response, error) {
	stall := c.Patience()
	ctx, cancel := context.WithCancelCause(ctx)
	p := &patient{ctx: ctx, cancel: cancel, stall: stall, url: request.URL.String()}
	p.timer = time.AfterFunc(stall, func() { cancel(ErrStalled) })
	response, err := c.Do.Do(request.WithContext(ctx))
	p.timer.Stop()
	if err != nil {
		err = p.reason(err)
		cancel(nil)
		return nil, err
	}
	p.body = response.Body
	response.Body = p
	return response, nil
}

// patient is the body of an answer.
type patient struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	url    string
	body   io.ReadCloser

	waited time.Duration // in the span that a rate is measured over, as long as stall
	got    int64         // bytes in it
}

func (p *patient) Read(b []byte) (int, error) {
	p.timer.Reset(p.stall)
	begin := time.Now()
	n, err := p.body.Read(b)
	p.waited += time.Since(begin)
	p.timer.Stop()
	if err != nil && err != io.EOF {
		err = p.reason(err)
	}
	if err == nil {
		err = p.rate(n)
	}
	return n, err
}

// rate makes sure that enough arrives, by the time that was spent waiting and whatever the reader
// did in between.
func (p *patient) rate(n int) error {
	if p.got += int64(n); p.waited < p.stall {
		return nil
	}
	want := int64(p.waited.Seconds() * minRate)
	if p.got < want {
		return fmt.Errorf("%s: %w: %d bytes in %v, want %d", p.url, ErrSlow, p.got, p.waited.Round(time.Millisecond), want)
	}
	p.got, p.waited = 0, 0
	return nil
}

// reason says why a request was cancelled.
func (p *patient) reason(err error) error {
	if errors.Is(context.Cause(p.ctx), ErrStalled) {
		return fmt.Errorf("%s: %w, for %v", p.url, ErrStalled, p.stall)
	}
	return err
}

func (p *patient) Close() error {
	p.timer.Stop()
	err := p.body.Close()
	p.cancel(nil)
	return err
}
