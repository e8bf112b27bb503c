package main

import (
	"crypto"
	"encoding/hex"
	"flag"
	"io"
	"runtime"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// outputFlags are the flags for what is written, and whose signature it gets.
type outputFlags struct {
	name, key, cert string
}

func addOutputFlags(set *flag.FlagSet) *outputFlags {
	o := new(outputFlags)
	set.StringVar(&o.name, "o", "", "`file` for the image")
	set.StringVar(&o.name, "output", "", "the same, as ukify calls it: `file`")
	set.StringVar(&o.key, "secureboot-private-key", "", "key in `PEM` that signs the image for Secure Boot")
	set.StringVar(&o.cert, "secureboot-certificate", "", "its certificate in `PEM` or DER")
	return o
}

// signer is nil for an image that stays unsigned. Without a name for the image there is none to
// sign.
func (o *outputFlags) signer() (*signer, error) {
	switch {
	case o.name == "":
		return nil, cli.Required("o", o.name)
	case o.key == "" && o.cert == "":
		return nil, nil
	case o.key == "":
		return nil, cli.Usagef("-secureboot-certificate without -secureboot-private-key")
	case o.cert == "":
		return nil, cli.Usagef("-secureboot-private-key without -secureboot-certificate")
	}
	return readSigner(o.key, o.cert)
}

// write makes the file of what image writes, in one pass, signed or not, and returns its size and
// Authenticode digest.
func write(name string, by *signer, image func(io.Writer) error) (size int64, digest string, err error) {
	out, err := cli.Create(name)
	if err != nil {
		return 0, "", err
	}
	defer out.Drop()
	sums, err := by.through(out, image)
	if err != nil {
		return 0, "", err
	}
	if size, err = out.Seek(0, io.SeekEnd); err != nil {
		return 0, "", err
	}
	return size, hex.EncodeToString(sums[crypto.SHA256]), cli.Keep(out)
}

// through signs what image writes on its way into the file. Without a signer it is only digested.
func (s *signer) through(out *cli.Output, image func(io.Writer) error) (map[crypto.Hash][]byte, error) {
	if s == nil {
		d, err := authenticode.NewDigester(crypto.SHA256)
		if err != nil {
			return nil, err
		}
		if err := image(io.MultiWriter(out, d)); err != nil {
			return nil, err
		}
		return d.SumsAsSigned()
	}
	signed, err := authenticode.NewStreamSigner(out, s.key, s.cert, s.options, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	if err := image(signed); err != nil {
		return nil, err
	}
	if err := signed.Close(); err != nil {
		return nil, err
	}
	return signed.Sums()
}

func writerTo(image io.WriterTo) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := image.WriteTo(w)
		return err
	}
}

// defaultStub is where systemd installs a stub for this machine.
func defaultStub(name func(*arch.Architecture) string) string {
	a, ok := arch.ByGo(runtime.GOARCH)
	if !ok {
		a = new(arch.Architecture)
	}
	return "/usr/lib/systemd/boot/efi/" + name(a)
}
