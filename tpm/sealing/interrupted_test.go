package sealing

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stuck is a TPM that answers the first commands, and then none until it is released: then it
// answers what it was asked long ago.
type stuck struct {
	Transport
	answers  int // commands that it still answers
	reached  chan struct{}
	released chan struct{}
	closed   chan struct{}
	sent     atomic.Int32
	last     atomic.Uint32 // command
}

func newStuck(t Transport, answers int) *stuck {
	return &stuck{Transport: t, answers: answers, reached: make(chan struct{}, 1), released: make(chan struct{}), closed: make(chan struct{})}
}

func (s *stuck) Send(c []byte) ([]byte, error) {
	s.sent.Add(1)
	s.last.Store(command(c))
	if s.answers--; s.answers < 0 {
		s.reached <- struct{}{}
		<-s.released
	}
	return s.Transport.Send(c)
}

func (s *stuck) Close() error {
	close(s.closed)
	return nil
}

// TestInterrupted gives up commands of every kind, at every point where the TPM may stop to answer.
func TestInterrupted(t *testing.T) {
	pcrs := registers{crypto.SHA256: {7: value(crypto.SHA256, 7)}}
	o := newOffline(t)
	key := &AttestationKey{Public: attestationArea(t, nil), Private: []byte("private")}
	calls := map[string]func(*TPM) error{
		"seal":    func(t *TPM) error { _, err := t.Seal([]byte("secret"), Policy{PCRs: []int{7}}, Unlock{}); return err },
		"unseal":  func(t *TPM) error { _, err := t.Unseal(o.tokens["pcrs"], Unlock{}); return err },
		"no bank": func(t *TPM) error { _, err := t.Unseal(o.tokens["no bank"], Unlock{}); return err },
		"quote": func(t *TPM) error {
			_, err := t.Quote(key, []byte("nonce"), map[crypto.Hash][]int{crypto.SHA256: {7}})
			return err
		},
		"banks":   func(t *TPM) error { _, err := t.Banks(); return err },
		"PCRs":    func(t *TPM) error { _, err := t.PCRs(crypto.SHA256); return err },
		"bank":    func(t *TPM) error { return t.CheckBank(crypto.SHA256) },
		"has":     func(t *TPM) error { return t.Has(o.tokens["pcrs"]) },
		"lockout": func(t *TPM) error { _, err := t.Lockout(); return err },
		"counter": func(t *TPM) error { _, err := t.Counter(0x01800001); return err },
		"define":  func(t *TPM) error { _, err := t.DefineCounter(0x01800001); return err },
		"answer":  func(t *TPM) error { _, err := t.Answer(key, &Challenge{}); return err },
		"ek":      func(t *TPM) error { _, err := t.EndorsementKey(); return err },
	}
	for name, do := range calls {
		points := 0
		for answers := range 20 {
			s := newStuck(newScripted(t, pcrs), answers)
			ctx, cancel := context.WithCancel(t.Context())
			device := New(s).WithContext(ctx)
			go func() {
				if _, ok := <-s.reached; ok {
					cancel()
				}
			}()
			err := do(device)
			if s.sent.Load() <= int32(answers) { // it came to its end
				close(s.reached)
				cancel()
				break
			}
			points++
			if s.last.Load() != ccFlush { // then all that counts was answered
				var interrupted *InterruptedError
				require.ErrorAs(t, err, &interrupted, "%s after %d: %v", name, answers, err)
				require.ErrorIs(t, err, context.Canceled, name)
				require.True(t, interrupted.Sent)
				require.Equal(t, s.last.Load(), interrupted.Command)
				require.ErrorContains(t, err, "sealing: ")
				require.ErrorContains(t, interrupted, "the TPM does not answer command 0x")
			}
			<-s.closed
			// The answer comes, and is not that of the next command, by whichever context.
			close(s.released)
			sent := s.sent.Load()
			for _, again := range []*TPM{device, device.WithContext(context.Background())} {
				values, err := again.PCRs(crypto.SHA256, 7)
				require.ErrorIs(t, err, ErrUnusable)
				require.Nil(t, values)
			}
			require.Equal(t, sent, s.sent.Load(), "nothing is sent any more")
		}
		require.Positive(t, points, name)
	}
}

// A context that ends between two commands leaves the connection alone, and what was loaded is
// unloaded.
func TestInterruptedBetween(t *testing.T) {
	pcrs := registers{crypto.SHA256: {7: value(crypto.SHA256, 7)}}
	s := newScripted(t, pcrs)
	ctx, cancel := context.WithCancel(t.Context())
	open := New(s)
	srk, err := open.srk()
	require.NoError(t, err)
	session, err := open.startAudit(srk)
	require.NoError(t, err)
	require.Len(t, s.sessions, 1)
	cancel()
	ended := open.WithContext(ctx)
	sent := len(s.commands)
	_, err = ended.PCRs(crypto.SHA256, 7)
	var interrupted *InterruptedError
	require.ErrorAs(t, err, &interrupted)
	require.False(t, interrupted.Sent)
	require.EqualValues(t, ccPCRRead, interrupted.Command)
	require.ErrorContains(t, err, "command 0x0000017e was not sent: context canceled")
	require.Len(t, s.commands, sent)
	ended.flush(session.handle)
	require.Empty(t, s.sessions)
	_, err = open.PCRs(crypto.SHA256, 7)
	require.NoError(t, err)
}

// A TPM that asks for patience is not waited for longer than the context lasts.
func TestInterruptedWhileBusy(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := &busy{left: 100}
	_, err := sender{&link{Transport: b}, ctx}.Send(make([]byte, headerSize))
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.sent)
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = sender{&link{Transport: b}, ctx}.Send(make([]byte, headerSize))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, b.sent, maxTries)
	require.Less(t, time.Since(start), 900*time.Millisecond, "all tries take a second")
	_, err = New(b).transport.Send(nil)
	require.ErrorContains(t, err, "a command of 0 bytes")
}

// Answers that are none are said to be so before anything is read from them.
func TestNoResponses(t *testing.T) {
	long, short := reply(0, 1, 2), reply(0, 1, 2)
	long[5]++
	short[5]--
	for _, b := range [][]byte{nil, {0x80}, reply(0)[:9], long, short, append(reply(0), 0)} {
		_, err := New(deaf(b)).transport.Send(make([]byte, headerSize))
		require.ErrorIs(t, err, ErrResponse)
		require.ErrorContains(t, err, "bytes, which are not a response")
	}
}

// A transport that panics is one that gives no answer.
func TestPanickingTransport(t *testing.T) {
	_, err := New(deafly{}).PCRs(crypto.SHA256, 7)
	require.ErrorIs(t, err, ErrResponse)
}

type deafly struct{}

func (deafly) Send([]byte) ([]byte, error) { panic("no TPM") }

// closing is a connection that counts how often it was closed, and reads nothing until it may.
type closing struct {
	read   chan struct{}
	closed atomic.Int32
}

func (c *closing) Write(b []byte) (int, error) { return len(b), nil }
func (c *closing) Read(b []byte) (int, error)  { <-c.read; return copy(b, reply(0)), nil }
func (c *closing) Close() error                { c.closed.Add(1); return nil }

// TestDeviceClose closes while a command is under way: a socket at once, a device when the kernel
// returns, since its number would be another's.
func TestDeviceClose(t *testing.T) {
	conn := &closing{read: make(chan struct{})}
	d := &Device{conn: conn}
	done := make(chan error)
	go func() { _, err := d.Send(make([]byte, headerSize)); done <- err }()
	for { // until it is in Read
		d.mu.Lock()
		busy := d.busy
		d.mu.Unlock()
		if busy {
			break
		}
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, d.Close())
	require.Zero(t, conn.closed.Load())
	close(conn.read)
	require.NoError(t, <-done)
	require.EqualValues(t, 1, conn.closed.Load())
	require.NoError(t, d.Close())
	require.EqualValues(t, 1, conn.closed.Load())
	_, err := d.Send(make([]byte, headerSize))
	require.ErrorIs(t, err, os.ErrClosed)

	// A socket.
	ours, theirs := net.Pipe()
	d = &Device{dial: func() (net.Conn, error) { return ours, nil }}
	go func() { _, err := d.Send(make([]byte, headerSize)); done <- err }()
	_, err = io.ReadFull(theirs, make([]byte, headerSize))
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.ErrorContains(t, <-done, "read a response")
	_, err = d.Send(make([]byte, headerSize))
	require.ErrorIs(t, err, os.ErrClosed)

	// While it is connecting.
	dialing := make(chan struct{})
	ours, theirs = net.Pipe()
	d = &Device{dial: func() (net.Conn, error) { dialing <- struct{}{}; <-dialing; return ours, nil }}
	go func() { _, err := d.Send(make([]byte, headerSize)); done <- err }()
	<-dialing
	require.NoError(t, d.Close())
	dialing <- struct{}{}
	require.ErrorIs(t, <-done, os.ErrClosed)
	_, err = theirs.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "it was closed")
	d = &Device{dial: func() (net.Conn, error) { return nil, errors.New("nobody there") }}
	_, err = d.Send(make([]byte, headerSize))
	require.EqualError(t, err, "sealing: TPM: connect: nobody there")
}

// TestLateAnswer has a server answer when it was given up on.
func TestLateAnswer(t *testing.T) {
	release := make(chan struct{})
	d := &Device{dial: func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			_, _ = theirs.Read(make([]byte, 64))
			<-release
			_, _ = theirs.Write(reply(0, bytes.Repeat([]byte{1}, 10)...))
		}()
		return ours, nil
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := New(d).WithContext(ctx).Banks()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.closed
	}, 10*time.Second, time.Millisecond)
	close(release)
	_, err = d.Send(make([]byte, headerSize))
	require.ErrorIs(t, err, os.ErrClosed)
}

// silent is a transport that cannot be closed, and never answers.
type silent chan struct{}

func (s silent) Send([]byte) ([]byte, error) { <-s; return nil, io.EOF }

func TestInterruptedWithoutClose(t *testing.T) {
	s := make(silent)
	defer close(s)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	device := New(s).WithContext(ctx)
	_, err := device.Banks()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	time.Sleep(10 * time.Millisecond) // for a goroutine that would close it
	_, err = device.Banks()
	require.ErrorIs(t, err, ErrUnusable)
}
