package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition/luks"
)

// slot is the answer about a slot.
func slot(c *cli.Call, id int, format string) error {
	return c.Answer(slotResult{Header: c.Header(), Slot: id}, fmt.Sprintf(format, id))
}

func testFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	passphrase := secretFlags(set)
	which := slotFlag(set)
	return func(c *cli.Call, operands []string) error {
		_, key, err := passphrase.open(c, operands[0], os.O_RDONLY, which())
		if err != nil {
			return err
		}
		return slot(c, key.Slot(), "key slot %d opens\n")
	}
}

// newKey are the flags of what makes a slot.
type newKey struct {
	old, fresh secret
	slot       func() *int
	kdf        func([]byte) (luks.KDF, error)
	token      func() ([]byte, error)
	leave      *bool
}

func newKeyFlags(set *flag.FlagSet) newKey {
	old := secretFlags(set)
	return newKey{old, secretFlag(set, "new-passphrase-file", "`file` with the new passphrase", old.strip), slotFlag(set), kdfFlag(set), tokenFlag(set), leaveFlag(set)}
}

func leaveFlag(set *flag.FlagSet) *bool {
	return set.Bool("leave-no-key-for-a-person", false, "take away the last key that a person has: if the machine cannot open the volume any more, the data is lost")
}

// open opens the volume and reads what the new slot is to be.
func (n newKey) open(c *cli.Call, operand string) (v *luks.Volume, key *luks.Key, fresh []byte, o luks.KeyOptions, err error) {
	o = luks.KeyOptions{Rand: rand.Reader, LeaveNoKeyForAPerson: *n.leave}
	if o.Token, err = n.token(); err != nil {
		return nil, nil, nil, o, err
	}
	if o.KDF, err = n.kdf(o.Token); err != nil {
		return nil, nil, nil, o, err
	}
	if fresh, err = n.fresh.read(); err != nil {
		return nil, nil, nil, o, err
	}
	v, key, err = n.old.open(c, operand, os.O_RDWR, nil)
	return v, key, fresh, o, err
}

func addFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	n := newKeyFlags(set)
	return func(c *cli.Call, operands []string) error {
		v, key, fresh, o, err := n.open(c, operands[0])
		if err != nil {
			return err
		}
		o.Slot = n.slot()
		id, err := v.AddKey(key, fresh, o)
		if err != nil {
			return err
		}
		return slot(c, id, "key slot %d added\n")
	}
}

func changeFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	n := newKeyFlags(set)
	return func(c *cli.Call, operands []string) error {
		id := n.slot()
		if id == nil {
			return cli.Usagef("-slot is missing")
		}
		v, key, fresh, o, err := n.open(c, operands[0])
		if err != nil {
			return err
		}
		if err := v.ChangeKey(key, *id, fresh, o); err != nil {
			return err
		}
		return slot(c, *id, "key slot %d changed\n")
	}
}

func recoveryFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	passphrase := secretFlags(set)
	return func(c *cli.Call, operands []string) error {
		v, key, err := passphrase.open(c, operands[0], os.O_RDWR, nil)
		if err != nil {
			return err
		}
		recovery, id, err := v.AddRecoveryKey(key, luks.KeyOptions{Rand: rand.Reader})
		if err != nil {
			return err
		}
		return c.Answer(slotResult{c.Header(), id, recovery}, recovery+"\n")
	}
}

func removeFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	passphrase := secretFlags(set)
	which := slotFlag(set)
	leave := leaveFlag(set)
	return func(c *cli.Call, operands []string) error {
		id := which()
		if id == nil {
			return cli.Usagef("-slot is missing")
		}
		v, err := volume(c, operands[0], os.O_RDWR)
		if err != nil {
			return err
		}
		if err := opensAnother(v, passphrase, *id, *leave); err != nil {
			return err
		}
		if err := v.RemoveKey(*id, luks.RemoveOptions{LeaveNoKeyForAPerson: *leave}); err != nil {
			return err
		}
		return slot(c, *id, "key slot %d removed\n")
	}
}

// opensAnother makes sure that a slot is left that a person can open.
func opensAnother(v *luks.Volume, passphrase secret, id int, leave bool) error {
	for _, s := range v.Header().Slots {
		if s.ID == id && !leave {
			continue
		}
		key, err := passphrase.unlock(v, &s.ID)
		if err == nil {
			key.Clear()
			return nil
		}
		if !errors.Is(err, luks.ErrNoKey) {
			return err
		}
	}
	return cli.No{Err: fmt.Errorf("the passphrase opens only key slot %d, so whether another slot can be opened is unknown", id)}
}

func tokenAddFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	token := tokenFlag(set)
	which := slotFlag(set)
	leave := leaveFlag(set)
	return func(c *cli.Call, operands []string) error {
		text, err := token()
		if err != nil {
			return err
		}
		if text == nil {
			return cli.Usagef("-token is missing")
		}
		v, err := volume(c, operands[0], os.O_RDWR)
		if err != nil {
			return err
		}
		var slots []int
		if id := which(); id != nil {
			slots = append(slots, *id)
		}
		id, err := v.AddToken(text, slots, luks.TokenOptions{LeaveNoKeyForAPerson: *leave})
		if err != nil {
			return err
		}
		return c.Answer(tokenResult{c.Header(), id}, fmt.Sprintf("token %d added\n", id))
	}
}

func tokenRemoveFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	id := set.Int("id", -1, "`number` of the token")
	leave := leaveFlag(set)
	slots := set.Bool("leave-slots-that-nothing-names", false, "remove a token that is the only way into its key slot")
	return func(c *cli.Call, operands []string) error {
		if *id < 0 {
			return cli.Usagef("-id is missing")
		}
		v, err := volume(c, operands[0], os.O_RDWR)
		if err != nil {
			return err
		}
		o := luks.RemoveTokenOptions{LeaveSlotsThatNothingNames: *slots}
		o.LeaveNoKeyForAPerson = *leave
		if err := v.RemoveToken(*id, o); err != nil {
			return err
		}
		return c.Answer(tokenResult{c.Header(), *id}, fmt.Sprintf("token %d removed\n", *id))
	}
}
