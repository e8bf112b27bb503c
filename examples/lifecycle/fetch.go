package main

import (
	"crypto"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// serve makes the vendor's side of a release: its layout as plain files behind a web server, which
// need not be trusted.
func serve(dir string) (base string, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir))}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	stop = func() error {
		err := server.Close()
		if e := <-done; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	}
	return "http://" + listener.Addr().String() + "/", stop, nil
}

// fetch is the machine's side: nothing is pulled that our release key has not signed or that was
// not asked for, nothing opened that is not whole.
func (s *story) fetch(dir, ref string) (r *release.Release, err error) {
	base, stop, err := serve(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	src, err := weblayout.Open(base, weblayout.OpenOptions{Client: &http.Client{}})
	if err != nil {
		return nil, err
	}
	artifact, err := src.Resolve(s.ctx, ref)
	if err != nil {
		return nil, err
	}
	verified, err := cosign.Verify(s.ctx, src, artifact, cosign.Policy{Keys: []crypto.PublicKey{s.builder.Keys.Release.Public()}})
	if err != nil {
		return nil, err
	}
	rel, err := release.Read(s.ctx, src, verified.Subject)
	if err != nil {
		return nil, err
	}
	cache := filepath.Join(s.dir, "cache")
	if err := release.Pull(s.ctx, src, rel, cache, release.PullOptions{Ref: ref, Wanted: release.Wanted{ID: acmeos.ID, Name: ref}}); err != nil {
		return nil, err
	}
	if r, err = release.Open(s.ctx, os.DirFS(cache), verified.Subject); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, r)
	return r, nil
}
