package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
)

func formatFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	passphrase := secretFlags(set)
	kdf := kdfFlag(set)
	size := set.Int64("size", 0, "`bytes` of the image, which is made if it does not exist")
	bits := set.Int("key-bits", 512, "512 for AES-256 or 256 for AES-128, in XTS mode")
	sector := set.Int("sector-size", 0, "`bytes` of a sector; 4096 where the size allows it, else 512")
	header := set.Int64("header-size", 0, "`bytes` of one copy of the header, 16 KiB to 4 MiB: large tokens need a large one")
	label := set.String("label", "", "`label` of the volume")
	uuid := set.String("uuid", "", "`UUID` of the volume, random if not given")
	force := set.Bool("force", false, "overwrite a volume or a partition table")
	return func(c *cli.Call, operands []string) error {
		o := luks.FormatOptions{Rand: rand.Reader, KeyBits: *bits, SectorSize: *sector, HeaderSize: *header, Label: *label}
		var err error
		if o.Key.KDF, err = kdf(nil); err != nil {
			return err
		}
		if *uuid != "" {
			if o.UUID, err = osmith.ParseGUID(*uuid); err != nil {
				return cli.Usagef("-uuid: %v", err)
			}
		}
		secret, err := passphrase.read()
		if err != nil {
			return err
		}
		p := where(operands[0])
		made, err := p.create(*size)
		if err != nil {
			return err
		}
		v, err := format(c, p, secret, o, made, *force)
		if err != nil {
			if made {
				c.Close()
				err = errors.Join(err, os.Remove(p.file))
			}
			return err
		}
		r, err := describe(c, v)
		if err != nil {
			return err
		}
		return c.Answer(r, fmt.Sprintf("UUID: %s\n", r.UUID))
	}
}

// create makes the image if there is none.
func (p place) create(size int64) (made bool, err error) {
	_, err = os.Stat(p.file)
	switch {
	case err == nil && size != 0:
		return false, cli.Usagef("-size: %s exists, and keeps its size", p.file)
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist) || size == 0 || p.part != "":
		return false, err
	}
	f, err := os.OpenFile(p.file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return false, errors.Join(err, os.Remove(p.file))
	}
	return true, nil
}

func format(c *cli.Call, p place, passphrase []byte, o luks.FormatOptions, made, force bool) (*luks.Volume, error) {
	_, disk, err := p.open(c, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if !made && !force {
		if err := unused(disk); err != nil {
			return nil, err
		}
	}
	o.TargetIsZero = made
	v, key, err := luks.Format(disk, passphrase, o)
	if err != nil {
		return nil, err
	}
	key.Clear()
	return v, nil
}

// unused refuses what one would not want to lose.
func unused(disk osmith.Disk) error {
	if _, err := luks.Read(disk); !errors.Is(err, luks.ErrNotLUKS) {
		if err == nil || errors.Is(err, luks.ErrLUKS1) {
			return cli.No{Err: errors.New("there is a LUKS volume already, whose data would be lost: -force does it all the same")}
		}
		return err
	}
	if _, err := partition.Read(disk, partition.ReadOptions{}); err == nil {
		return cli.No{Err: errors.New("there is a partition table: name a partition, as in IMG:PART; -force overwrites it all the same")}
	}
	begin := make([]byte, 128<<10)
	n, err := disk.ReadAt(begin, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if len(bytes.Trim(begin[:n], "\x00")) > 0 {
		return cli.No{Err: errors.New("something is there, and would be lost: -force does it all the same")}
	}
	return nil
}

func inspect(c *cli.Call, operands []string) error {
	v, err := volume(c, operands[0], os.O_RDONLY)
	if err != nil {
		return err
	}
	r, err := describe(c, v)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "UUID: %s\n", r.UUID)
	if r.Label != "" {
		fmt.Fprintf(&b, "label: %q\n", r.Label)
	}
	fmt.Fprintf(&b, "header: 2 x %d bytes, written %d times\n", r.HeaderSize, r.SequenceID)
	for _, s := range r.Slots {
		fmt.Fprintf(&b, "key slot %d: %s %s%s, priority %s", s.ID, s.Type, s.KDF, work(s), s.Priority)
		if len(s.Tokens) > 0 {
			fmt.Fprintf(&b, ", tokens %v", s.Tokens)
		}
		if s.Wiped {
			b.WriteString(", wiped by an interrupted removal")
		}
		b.WriteByte('\n')
	}
	for _, t := range r.Tokens {
		fmt.Fprintf(&b, "token %d: %q, key slots %v\n", t.ID, t.Type, t.Keyslots)
	}
	for _, d := range r.Data {
		fmt.Fprintf(&b, "data: %q at %d, sectors of %d bytes\n", d.Cipher, d.Offset, d.SectorSize)
	}
	if len(r.Requirements) > 0 {
		fmt.Fprintf(&b, "requirements: %q\n", r.Requirements)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	if r.Unsupported != "" {
		fmt.Fprintf(&b, "cannot be used here: %s\n", r.Unsupported)
	}
	return c.Answer(r, b.String())
}

// work is what a KDF does, in words.
func work(s slotObject) string {
	switch s.KDF {
	case "":
		return ""
	case "pbkdf2":
		return fmt.Sprintf(" (%s, %d iterations)", s.Hash, s.Iterations)
	}
	return fmt.Sprintf(" (%d KiB, %d passes, %d threads)", s.Memory>>10, s.Iterations, s.Threads)
}

func repair(c *cli.Call, operands []string) error {
	v, err := volume(c, operands[0], os.O_RDWR)
	if err != nil {
		return err
	}
	found := problems(v.Header())
	if err := v.Repair(luks.RepairOptions{}); err != nil {
		return err
	}
	r, err := describe(c, v)
	if err != nil {
		return err
	}
	text := "nothing to repair\n"
	if len(found) > 0 {
		text = "repaired: " + strings.Join(found, "; ") + "\n"
	}
	return c.Answer(r, text)
}
