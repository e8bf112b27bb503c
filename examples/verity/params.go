package main

import (
	"crypto/rand"
	"encoding/hex"
	"flag"
	"io"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
)

// paramFlags are those that say how a tree is made.
type paramFlags struct {
	set                    *flag.FlagSet
	salt, uuid, hash       string
	dataBlocks, hashBlocks int
	format                 int
	hashOffset             int64
	noSuperblock           bool
	blocks                 int64
}

func addParamFlags(set *flag.FlagSet) *paramFlags {
	f := &paramFlags{set: set}
	set.StringVar(&f.salt, "salt", "", "salt in `HEX`; - for none (default: format takes 32 random bytes)")
	set.StringVar(&f.uuid, "uuid", "", "`UUID` of the superblock (default: format takes a random one)")
	set.StringVar(&f.hash, "hash", "sha256", "`NAME` of the hash: sha1, sha256, sha384 or sha512")
	set.IntVar(&f.dataBlocks, "data-block-size", 4096, "`bytes` of a data block")
	set.IntVar(&f.hashBlocks, "hash-block-size", 4096, "`bytes` of a hash block")
	set.IntVar(&f.format, "format", 1, "hash `format`: 1, or 0 for that of Chrome OS")
	set.Int64Var(&f.hashOffset, "hash-offset", 0, "`bytes` in front of the superblock or tree on the hash device")
	set.Int64Var(&f.blocks, "data-blocks", 0, "`number` of data blocks (default: all of the data, or what is in front of -hash-offset)")
	set.BoolVar(&f.noSuperblock, "no-superblock", false, "there is no superblock")
	return f
}

// given reports whether a flag was on the command line.
func (f *paramFlags) given(name string) (is bool) {
	f.set.Visit(func(g *flag.Flag) { is = is || g.Name == name })
	return is
}

// params returns what the flags say, with nothing random in it.
func (f *paramFlags) params() (verity.Params, error) {
	p := verity.Params{Hash: f.hash, ChromeOS: f.format == 0, DataBlockSize: f.dataBlocks, HashBlockSize: f.hashBlocks,
		HashOffset: f.hashOffset, NoSuperblock: f.noSuperblock}
	if f.format != 0 && f.format != 1 {
		return p, cli.Usagef("-format %d: want 0 or 1", f.format)
	}
	if f.dataBlocks == 0 || f.hashBlocks == 0 {
		return p, cli.Usagef("a block size of 0")
	}
	if f.salt != "" && f.salt != "-" {
		var err error
		if p.Salt, err = hex.DecodeString(f.salt); err != nil {
			return p, cli.Usagef("-salt: %v", err)
		}
	}
	if f.uuid != "" {
		var err error
		if p.UUID, err = parseUUID(f.uuid); err != nil {
			return p, err
		}
	}
	return p, nil
}

// fresh fills in what format chooses at random.
func (f *paramFlags) fresh() (verity.Params, error) {
	p, err := f.params()
	if err != nil {
		return p, err
	}
	if !f.given("salt") {
		p.Salt = make([]byte, 32)
		if _, err := io.ReadFull(rand.Reader, p.Salt); err != nil {
			return p, err
		}
	}
	if !f.given("uuid") && !p.NoSuperblock {
		if _, err := io.ReadFull(rand.Reader, p.UUID[:]); err != nil {
			return p, err
		}
		p.UUID[6] = p.UUID[6]&0x0f | 0x40 // version 4, variant 1 (RFC 9562)
		p.UUID[8] = p.UUID[8]&0x3f | 0x80
	}
	return p, nil
}

// existing returns the parameters of an image that is there: by its superblock, or by the flags
// when it has none.
func (f *paramFlags) existing(data, tree *cli.Input, root []byte) (verity.Image, error) {
	im := verity.Image{Data: data, Tree: tree, RootHash: root, HashOffset: f.hashOffset}
	p, err := f.params()
	if err != nil {
		return im, err
	}
	if f.noSuperblock {
		im.Params = &p
		if sameName(data.Name, tree.Name) {
			im.Data = first(data, f.hashOffset)
		}
		if n := f.blocks; n != 0 {
			if n < 0 || n > im.Data.Size()/int64(f.dataBlocks) {
				return im, cli.Usagef("-data-blocks %d: there are %d", n, im.Data.Size()/int64(f.dataBlocks))
			}
			im.Data = first(data, n*int64(f.dataBlocks))
		}
		return im, nil
	}
	for _, name := range []string{"salt", "hash", "data-block-size", "hash-block-size", "format", "data-blocks"} {
		if f.given(name) {
			return im, cli.Usagef("-%s: the superblock says this; give it with -no-superblock", name)
		}
	}
	im.UUID = p.UUID
	return im, nil
}

func parseRoot(text string) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) == 0 {
		return nil, cli.Usagef("-root %q: not a root hash in hexadecimal", text)
	}
	return b, nil
}

func parseUUID(text string) ([16]byte, error) {
	id, err := osmith.ParseGUID(text)
	if err != nil {
		return id, cli.Usagef("-uuid %q: not a UUID", text)
	}
	return id, nil
}
