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
var ErrStalled = errors.New("nothing arrives any more")

// defaultStall is long for a server that answers, and short for one that never will.
const defaultStall = time.Minute

// patiently sends a request that ends when nothing arrives for so long: the answer, or the next bytes of it. A connection whose other
// end is gone without a word would otherwise be waited for for ever.
func (c Client) patiently(ctx context.Context, request *http.Request) (*http.Response, error) {
	stall := c.Stall
	if stall == 0 {
		stall = defaultStall
	}
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
}

func (p *patient) Read(b []byte) (int, error) {
	p.timer.Reset(p.stall)
	n, err := p.body.Read(b)
	p.timer.Stop()
	if err != nil && err != io.EOF {
		err = p.reason(err)
	}
	return n, err
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
