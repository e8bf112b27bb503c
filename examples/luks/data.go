package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/osmith-dev/osmith/examples/internal/cli"
)

// blockSize is how much is copied at a time.
const blockSize = 1 << 20

func encryptFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	passphrase := secretFlags(set)
	in := set.String("in", "", "`file` or device with what is to be in the volume")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("in", *in); err != nil {
			return err
		}
		src, err := c.Open(*in)
		if err != nil {
			return err
		}
		v, key, err := passphrase.open(c, operands[0], os.O_RDWR, nil)
		if err != nil {
			return err
		}
		w, err := v.NewWriter(key)
		if err != nil {
			return err
		}
		if src.Size() > w.Size() {
			return cli.No{Err: fmt.Errorf("%s has %d bytes, the volume has room for %d", *in, src.Size(), w.Size())}
		}
		finish := c.WatchReads(src.Size(), src)
		n, err := io.CopyBuffer(w, onlyReader{c, io.NewSectionReader(src, 0, src.Size())}, make([]byte, blockSize))
		if closed := w.Close(); err == nil {
			err = closed
		}
		finish()
		if err != nil {
			return err
		}
		return c.Answer(dataResult{c.Header(), n}, fmt.Sprintf("%d bytes\n", n))
	}
}

func decryptFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	passphrase := secretFlags(set)
	out := set.String("o", "", "`file` for the data of the volume")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("o", *out); err != nil {
			return err
		}
		v, key, err := passphrase.open(c, operands[0], os.O_RDONLY, nil)
		if err != nil {
			return err
		}
		r, err := v.NewReader(key)
		if err != nil {
			return err
		}
		o, err := cli.Create(*out)
		if err != nil {
			return err
		}
		defer o.Drop()
		if !o.InPlace() { // what was a secret on the disk stays its owner's
			if err := o.Chmod(0o600); err != nil {
				return err
			}
		}
		finish := c.WatchReads(r.Size())
		n, err := io.CopyBuffer(onlyWriter{o}, onlyReader{c, io.NewSectionReader(r, 0, r.Size())}, make([]byte, blockSize))
		finish()
		if err == nil {
			err = cli.Keep(o)
		}
		if err != nil {
			return err
		}
		return c.Answer(dataResult{c.Header(), n}, fmt.Sprintf("%d bytes\n", n))
	}
}

// onlyReader reads until the call is interrupted, in pieces of the buffer that io.CopyBuffer is
// given.
type onlyReader struct {
	c *cli.Call
	r io.Reader
}

func (r onlyReader) Read(p []byte) (int, error) {
	if err := r.c.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// onlyWriter hides from io.CopyBuffer that a file can read by itself.
type onlyWriter struct{ io.Writer }
