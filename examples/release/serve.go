package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// patience is how long requests may take to end when the server is told to.
const patience = 10 * time.Second

func serveFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	listen := set.String("listen", "127.0.0.1:0", "`address` and port to listen at; port 0 is any that is free")
	return func(c *cli.Call, operands []string) error {
		if _, err := existing(operands[0]); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c, syscall.SIGTERM)
		defer stop()
		listener, err := net.Listen("tcp", *listen)
		if err != nil {
			return err
		}
		r := serveResult{Header: c.Header(), URL: "http://" + listener.Addr().String() + "/"}
		if err := c.Answer(r, r.URL+"\n"); err != nil {
			return errors.Join(err, listener.Close())
		}
		return serve(ctx, listener, operands[0])
	}
}

// serve answers until the context ends, and then finishes what was begun. Any web server that
// serves files would do.
func serve(ctx context.Context, listener net.Listener, dir string) error {
	root, err := os.OpenRoot(dir) // links that lead out of it are not followed
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer root.Close()
	server := &http.Server{Handler: http.FileServerFS(root.FS()), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}

func pushFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	access := accessFlags(set)
	return func(c *cli.Call, operands []string) error {
		layout, err := cosign.OpenLayout(os.DirFS(operands[0]))
		if err != nil {
			return err
		}
		artifact, err := layout.Resolve(operands[1])
		if err != nil {
			return err
		}
		to, err := openRegistry(c, operands[2], access)
		if err != nil {
			return err
		}
		tag := to.name()
		if tag == "" {
			return cli.Usagef("push wants a tag, not a digest")
		}
		if err := to.registry.Push(c, layout, artifact, registry.PushOptions{Tag: tag, Progress: c.Progress()}); err != nil {
			return err
		}
		return c.Answer(registryResult{Header: c.Header(), Name: to.repository, Digest: string(artifact.Digest)}, string(artifact.Digest)+"\n")
	}
}
