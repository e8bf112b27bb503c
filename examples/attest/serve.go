package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
)

const (
	maxBody     = 32 << 20 // bytes of a request or reply
	maxSessions = 1000     // challenges that are not answered yet
	sessionTime = time.Minute
)

func serveFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	file := set.String("reference", "", "`file` that says what is trusted")
	listen := set.String("listen", "", "loopback `address` and port; port 0 for any")
	return func(c *cli.Call, _ []string) error {
		if *file == "" || *listen == "" {
			return cli.Usagef("-reference and -listen are needed")
		}
		if host, _, err := net.SplitHostPort(*listen); err != nil || !net.ParseIP(host).IsLoopback() {
			return cli.Usagef("-listen %s: want a loopback address like 127.0.0.1:8080", *listen)
		}
		r, err := readReference(*file)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return err
		}
		if err := c.Answer(serveResult{c.Header(), l.Addr().String()}, fmt.Sprintf("listening on http://%s\n", l.Addr())); err != nil {
			return errors.Join(err, l.Close())
		}
		server := &http.Server{Handler: newVerifier(r, c.Stderr).handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute}
		stop := context.AfterFunc(c, func() { server.Close() })
		defer stop()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// A verifier hands out challenges and judges the evidence. Each challenge is good for once and a
// minute.
type verifier struct {
	reference *reference
	mu        sync.Mutex
	log       io.Writer // a line for each verdict
	sessions  map[string]pending
}

type pending struct {
	session *session
	ends    time.Time
}

func newVerifier(r *reference, log io.Writer) *verifier {
	return &verifier{reference: r, log: log, sessions: map[string]pending{}}
}

func (v *verifier) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /challenge", func(w http.ResponseWriter, r *http.Request) {
		var q challengeRequest
		if decode(w, r, &q) {
			v.challenge(w, q)
		}
	})
	mux.HandleFunc("POST /evidence", func(w http.ResponseWriter, r *http.Request) {
		var e evidence
		if decode(w, r, &e) {
			v.evidence(w, &e)
		}
	})
	return mux
}

func (v *verifier) challenge(w http.ResponseWriter, q challengeRequest) {
	nonce := make([]byte, 32)
	rand.Read(nonce) // never fails
	s, challenge, err := v.reference.begin(q, nonce)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := rand.Text()
	if !v.remember(id, s) {
		http.Error(w, "too many challenges are open", http.StatusServiceUnavailable)
		return
	}
	reply(w, challengeReply{id, nonce, challenge, tpm.BankName(v.reference.bank), v.reference.pcrs})
}

func (v *verifier) remember(id string, s *session) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	for id, p := range v.sessions {
		if now.After(p.ends) {
			delete(v.sessions, id)
		}
	}
	if len(v.sessions) >= maxSessions {
		return false
	}
	v.sessions[id] = pending{s, now.Add(sessionTime)}
	return true
}

// take forgets the session that it returns.
func (v *verifier) take(id string) *session {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, ok := v.sessions[id]
	delete(v.sessions, id)
	if !ok || time.Now().After(p.ends) {
		return nil
	}
	return p.session
}

func (v *verifier) evidence(w http.ResponseWriter, e *evidence) {
	s := v.take(e.Session)
	if s == nil {
		http.Error(w, "no such challenge, or it was answered already", http.StatusForbidden)
		return
	}
	d := v.reference.judge(s, e)
	v.mu.Lock()
	fmt.Fprintf(v.log, "attest: %s: trusted %v, %s\n", d.EndorsementKey, d.Trusted, d.Reference)
	v.mu.Unlock()
	reply(w, d)
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		http.Error(w, "the request: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func reply(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	// A client that has gone away has no use for the error.
	_ = json.NewEncoder(w).Encode(object)
}
