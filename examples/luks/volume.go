package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
)

// A place is what an operand names: a file or device, and perhaps a partition of it.
type place struct{ file, part string }

// where takes an operand apart, unless a file has the whole name.
func where(operand string) place {
	if _, err := os.Stat(operand); err != nil {
		if file, part, ok := cutLast(operand, ':'); ok && len(file) > 1 { // not C:\disk.img
			return place{file, part}
		}
	}
	return place{file: operand}
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// open opens the disk or partition.
func (p place) open(c *cli.Call, flag int) (*cli.Input, osmith.Disk, error) {
	in, err := c.OpenFile(p.file, flag)
	if err != nil || p.part == "" {
		return in, in, err
	}
	t, err := partition.Read(in, partition.ReadOptions{})
	if err != nil {
		return nil, nil, cli.No{Err: fmt.Errorf("%s: %w", p.file, err)}
	}
	var found []int
	for i, q := range t.Partitions {
		if strconv.Itoa(q.Number) == p.part || q.Name == p.part || strings.EqualFold(q.ID.String(), p.part) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return nil, nil, cli.No{Err: fmt.Errorf("%s: %d partitions are %q, by number, name or PARTUUID", p.file, len(found), p.part)}
	}
	return in, t.Window(in, found[0]), nil
}

// volume opens what an operand names, for changes or for reading.
func volume(c *cli.Call, operand string, flag int) (*luks.Volume, error) {
	_, disk, err := where(operand).open(c, flag)
	if err != nil {
		return nil, err
	}
	if flag == os.O_RDONLY {
		return luks.OpenReader(disk)
	}
	return luks.Open(disk)
}

// A secret is a passphrase in a file.
type secret struct {
	name  string
	file  *string
	strip *bool
}

func secretFlag(set *flag.FlagSet, name, usage string, strip *bool) secret {
	return secret{name, set.String(name, "", usage), strip}
}

// secretFlags are those of what opens a volume.
func secretFlags(set *flag.FlagSet) secret {
	strip := set.Bool("strip-newline", false, "take one newline away from the end of passphrase files")
	return secretFlag(set, "passphrase-file", "`file` with a passphrase, or a recovery key", strip)
}

// maxKeyFile is what cryptsetup takes, in bytes.
const maxKeyFile = 8 << 20

func (s secret) read() ([]byte, error) {
	if err := cli.Required(s.name, *s.file); err != nil {
		return nil, err
	}
	b, err := cli.ReadFile(*s.file, maxKeyFile)
	if err == nil && *s.strip {
		b = []byte(strings.TrimSuffix(string(b), "\n"))
	}
	return b, err
}

// open opens what an operand names, and unlocks it. The key is cleared when the call ends.
func (s secret) open(c *cli.Call, operand string, flag int, slot *int) (*luks.Volume, *luks.Key, error) {
	v, err := volume(c, operand, flag)
	if err != nil {
		return nil, nil, err
	}
	key, err := s.unlock(v, slot)
	if err != nil {
		return nil, nil, err
	}
	c.AtEnd(key.Clear)
	return v, key, nil
}

// unlock opens a volume with what is in the file: as it is, or as a recovery key that a person has
// typed.
func (s secret) unlock(v *luks.Volume, slot *int) (*luks.Key, error) {
	passphrase, err := s.read()
	if err != nil {
		return nil, err
	}
	key, err := v.Unlock(passphrase, luks.UnlockOptions{Slot: slot})
	if errors.Is(err, luks.ErrNoKey) {
		if typed, ok := luks.ParseRecoveryKey(strings.TrimSpace(string(passphrase))); ok && typed != string(passphrase) {
			return v.Unlock([]byte(typed), luks.UnlockOptions{Slot: slot})
		}
	}
	return key, err
}

// slotFlag is a slot that may be named.
func slotFlag(set *flag.FlagSet) func() *int {
	n := set.Int("slot", -1, "`number` of the key slot")
	return func() *int {
		if *n < 0 {
			return nil
		}
		return n
	}
}

// kdfFlag says how much work it is to try a passphrase. That of a slot with a token is a random
// key, which needs little.
func kdfFlag(set *flag.FlagSet) func(token []byte) (luks.KDF, error) {
	name := set.String("kdf", "argon2id", "`argon2id` or pbkdf2: of 1,000 iterations for the random key of a -token, and else of 600,000")
	return func(token []byte) (luks.KDF, error) {
		switch *name {
		case "argon2id":
			return luks.DefaultKDF, nil
		case "pbkdf2":
			if token != nil {
				return luks.RandomKeyKDF, nil
			}
			return luks.PassphrasePBKDF2, nil
		}
		return luks.KDF{}, cli.Usagef("-kdf %q: want argon2id or pbkdf2", *name)
	}
}

// tokenFlag is a token in a file.
func tokenFlag(set *flag.FlagSet) func() ([]byte, error) {
	name := set.String("token", "", "`file` with the JSON of a token for the slot")
	return func() ([]byte, error) {
		if *name == "" {
			return nil, nil
		}
		return cli.ReadFile(*name, 4<<20)
	}
}
