// Package httpblob reads files of known size over HTTP (RFC 9110, section 14, "Range Requests"):
// from any offset, with retries, and going on where a transfer broke. The adapters to web servers
// and registries share it.
package httpblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Doer sends requests: *http.Client is one.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// A Retry says how often and when something is tried again that may work later. The zero value is 5
// attempts, a second after the first and twice as long after each further one, a little more or
// less by chance, so that a fleet does not come back as one.
type Retry struct {
	Attempts int                             // in all; 0: 5, 1: none is repeated
	Wait     func(attempt int) time.Duration // after the n-th attempt, from 1
	// is told of every attempt that failed and will be repeated
	Notify func(attempt int, wait time.Duration, e error)
}

func (r Retry) attempts() int {
	if r.Attempts == 0 {
		return 5
	}
	return max(r.Attempts, 1)
}

func (r Retry) wait(attempt int) time.Duration {
	if r.Wait != nil {
		return r.Wait(attempt)
	}
	d := time.Second << min(attempt-1, 5)
	return d*3/4 + rand.N(d/2)
}

// A StatusError is an answer that is not the file.
type StatusError struct {
	URL     string
	Status  int
	Passing bool // the same request may be answered later although the status says otherwise
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

// Is makes an error of status 404 one of [fs.ErrNotExist].
func (e *StatusError) Is(target error) bool {
	return target == fs.ErrNotExist && (e.Status == http.StatusNotFound || e.Status == http.StatusGone)
}

// temporary reports whether the same request may be answered later.
func (e *StatusError) temporary() bool {
	return e.Passing || e.Status >= 500 && e.Status != http.StatusNotImplemented || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
}

// A Client reads files.
type Client struct {
	Do    Doer
	Retry Retry

	// NoRanges is the error, which comes wrapped, for a server that sends a whole file where a part
	// of it was asked for. It must be set.
	NoRanges error

	// TooLarge is the error, which comes wrapped, for a file or the headers of an answer that are
	// larger than any that are read; nil: none is wrapped.
	TooLarge error

	// User, if not nil, is told to the server; it is not in the URLs, which errors show.
	User *url.Userinfo

	// Stall is how long a server may send nothing before the request counts as broken; 0: a minute.
	Stall time.Duration
}

// Open reads n bytes from an offset of a file of a known size. Failures that may pass are tried
// again as Retry says, those in the middle of the transfer from where it broke; the reader ends
// with io.EOF after n bytes, and with an error if the server has another idea of the file. Nothing
// says that the bytes are the right ones.
func (c Client) Open(ctx context.Context, at string, off, n, size int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || n > size-off {
		return nil, fmt.Errorf("%s: %d bytes at %d of %d", at, n, off, size)
	}
	r := &reader{client: c, ctx: ctx, url: at, at: off, end: off + n, size: size}
	if n == 0 {
		return r, nil
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// Get reads a small file of unknown size; more than limit bytes are an error.
func (c Client) Get(ctx context.Context, url string, limit int64) ([]byte, error) {
	var b []byte
	attempt := 0
	err := c.again(ctx, &attempt, func() error {
		response, err := c.send(ctx, url, nil)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return &StatusError{URL: url, Status: response.StatusCode}
		}
		b, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
		if err != nil {
			return err
		}
		if int64(len(b)) > limit {
			return &permanent{c.tooLarge(fmt.Errorf("%s: more than %d bytes", url, limit))}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// permanent is an error that trying again does not mend.
type permanent struct{ error }

// Permanent marks an error of what is given to Again as one that trying again does not mend.
func Permanent(err error) error { return &permanent{err} }

// Again calls do, which sends a request by other means, until it works or Retry has enough. A
// *StatusError says by itself whether it may pass.
func (c Client) Again(ctx context.Context, do func() error) error {
	attempt := 0
	return c.again(ctx, &attempt, do)
}

func (p *permanent) Unwrap() error { return p.error }

// again calls do until it works, or Retry has enough. attempt counts the failures, over several
// calls if it is the same one.
func (c Client) again(ctx context.Context, attempt *int, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		redact(err)
		*attempt++
		var status *StatusError
		var hopeless *permanent
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &hopeless):
			return hopeless.error
		case headersExceed(err):
			return c.tooLarge(err)
		case errors.As(err, &status) && !status.temporary(), *attempt >= c.Retry.attempts():
			return err
		}
		wait := c.Retry.wait(*attempt)
		if c.Retry.Notify != nil {
			c.Retry.Notify(*attempt, wait, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func (c Client) tooLarge(err error) error {
	if c.TooLarge == nil {
		return err
	}
	return fmt.Errorf("%w: %w", c.TooLarge, err)
}

// headersExceed recognises that net/http has given up on the headers of an answer, for which it has
// no type: http.Transport's MaxResponseHeaderBytes, 10 MiB by default, in HTTP/1.1 and HTTP/2 (Go
// 1.25 and 1.26).
func headersExceed(err error) bool {
	text := err.Error()
	return strings.Contains(text, "server response headers exceeded") || strings.Contains(text, "response header list larger than advertised limit")
}

// redact takes what may be secret out of the URL that an error of net/http has, which is that of a
// redirection: names, passwords, tokens in a query.
func redact(err error) {
	failed, ok := errors.AsType[*url.Error](err)
	if !ok {
		return
	}
	u, err := url.Parse(failed.URL)
	if err != nil {
		failed.URL = "(a URL that cannot be parsed)"
		return
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	failed.URL = u.String()
}

func (c Client) send(ctx context.Context, url string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, &permanent{err}
	}
	for k, v := range header {
		request.Header[k] = v
	}
	if c.User != nil {
		password, _ := c.User.Password()
		request.SetBasicAuth(c.User.Username(), password)
	}
	// What is compressed on the way has other offsets.
	request.Header.Set("Accept-Encoding", "identity")
	return c.patiently(ctx, request)
}

type reader struct {
	client        Client
	ctx           context.Context
	url           string
	at, end, size int64
	body          io.ReadCloser
	attempt       int
	since         int64 // bytes since the transfer broke last
	err           error
}

// open asks for what is missing.
func (r *reader) open() error {
	return r.client.again(r.ctx, &r.attempt, func() error {
		var header http.Header
		whole := r.at == 0 && r.end == r.size
		if !whole {
			header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", r.at, r.end-1)}}
		}
		response, err := r.client.send(r.ctx, r.url, header)
		if err != nil {
			return err
		}
		if err := r.check(response, whole); err != nil {
			return errors.Join(err, response.Body.Close())
		}
		r.body = response.Body
		return nil
	})
}

// check makes sure that the answer is what was asked for.
func (r *reader) check(response *http.Response, whole bool) error {
	switch {
	case whole && response.StatusCode == http.StatusOK:
		if n := response.ContentLength; n >= 0 && n != r.size {
			return &permanent{fmt.Errorf("%s: %d bytes, want %d", r.url, n, r.size)}
		}
		return nil
	case !whole && response.StatusCode == http.StatusOK:
		return &permanent{fmt.Errorf("%s: %w", r.url, r.client.NoRanges)}
	case !whole && response.StatusCode == http.StatusPartialContent:
		first, last, size, err := parseContentRange(response.Header.Get("Content-Range"))
		if err != nil {
			return &permanent{fmt.Errorf("%s: %w", r.url, err)}
		}
		if first != r.at || last != r.end-1 || size >= 0 && size != r.size {
			return &permanent{fmt.Errorf("%s: bytes %d to %d of %d, asked for %d to %d of %d", r.url, first, last, size, r.at, r.end-1, r.size)}
		}
		return nil
	}
	return &StatusError{URL: r.url, Status: response.StatusCode}
}

// parseContentRange reads "bytes FIRST-LAST/SIZE"; size is -1 for "*" (RFC 9110, section 14.4).
func parseContentRange(s string) (first, last, size int64, err error) {
	bad := fmt.Errorf("Content-Range %q is not bytes FIRST-LAST/SIZE", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, 0, bad
	}
	span, total, ok := strings.Cut(rest, "/")
	from, to, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, 0, bad
	}
	number := func(s string) int64 {
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return -1
		}
		return int64(n)
	}
	first, last, size = number(from), number(to), number(total)
	if first < 0 || last < first || size < 0 && total != "*" || size >= 0 && last >= size {
		return 0, 0, 0, bad
	}
	return first, last, size, nil
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for r.at < r.end {
		if r.body == nil {
			if r.err = r.open(); r.err != nil {
				return 0, r.err
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.at)])
		r.at += int64(n)
		// As long as it goes on, there is patience: that is for standing still. A byte for each
		// connection is that, too.
		if r.since += int64(n); r.since >= minRate {
			r.attempt = 0
		}
		if err != nil && r.at < r.end {
			r.broke(err)
		}
		if n > 0 {
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	return 0, r.finish()
}

// broke closes a transfer that ended early, and lets the next Read begin another one after a while.
func (r *reader) broke(err error) {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	r.body.Close()
	r.body, r.since = nil, 0
	failed := false
	r.err = r.client.again(r.ctx, &r.attempt, func() error {
		if failed {
			return nil
		}
		failed = true
		return fmt.Errorf("%s: after %d of %d bytes: %w", r.url, r.at, r.size, err)
	})
}

// finish makes sure that nothing more arrives than was asked for.
func (r *reader) finish() error {
	if r.err = io.EOF; r.body != nil {
		var more [1]byte
		if n, _ := r.body.Read(more[:]); n > 0 {
			r.err = fmt.Errorf("%s: more than the %d bytes that were asked for", r.url, r.size)
		}
	}
	return r.err
}

func (r *reader) Close() error {
	if r.err == nil {
		r.err = fs.ErrClosed
	}
	if r.body == nil {
		return nil
	}
	body := r.body
	r.body = nil
	return body.Close()
}
