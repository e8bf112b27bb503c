package luks_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"strings"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition/luks"
)

// random stands for [crypto/rand.Reader], with which each run would print another key.
func random() io.Reader { return rand.NewChaCha8([32]byte{}) }

// fast is for examples: a passphrase that a person remembers needs the zero value, or
// [luks.MeasureArgon2id].
var fast = luks.KDF{Type: luks.PBKDF2, Iterations: 1000}

// newVolume is a volume on a disk; an [osmith.Device], of an image file or a block device, does as
// well.
func newVolume() (*faultio.Disk, *luks.Volume, *luks.Key) {
	disk := faultio.NewDisk(24 << 20)
	v, key, err := luks.Format(disk, []byte("correct horse"), luks.FormatOptions{Rand: random(), Label: "state", Key: luks.KeyOptions{KDF: fast}})
	if err != nil {
		log.Fatal(err)
	}
	return disk, v, key
}

func ExampleFormat() {
	disk := faultio.NewDisk(24 << 20)
	v, key, err := luks.Format(disk, []byte("correct horse"), luks.FormatOptions{Rand: random(), Label: "state", Key: luks.KeyOptions{KDF: fast}})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Clear()
	h := v.Header()
	fmt.Println(h.Label, h.UUID, len(h.Slots), "key slot, data at", h.Segments[0].Offset)
	// Output: state d9877ece-6d36-4aac-9a6f-419ec627c76b 1 key slot, data at 16777216
}

func ExampleVolume_Unlock() {
	disk, _, _ := newVolume()
	v, err := luks.OpenReader(disk)
	if err != nil {
		log.Fatal(err)
	}
	_, err = v.Unlock([]byte("wrong"), luks.UnlockOptions{})
	fmt.Println(errors.Is(err, luks.ErrNoKey))
	key, err := v.Unlock([]byte("correct horse"), luks.UnlockOptions{})
	fmt.Println(key, err)
	// Output:
	// true
	// luks.Key(slot 0) <nil>
}

// The header as it is, without a passphrase. Nothing is written, whatever is wrong with it.
func ExampleRead() {
	disk, _, _ := newVolume()
	if _, err := disk.WriteAt(make([]byte, 512), 0); err != nil { // the first copy is damaged
		log.Fatal(err)
	}
	h, err := luks.Read(disk)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(h.Slots[0].KDF.Type, h.Slots[0].KDF.Iterations, h.Segments[0].Cipher)
	fmt.Println("needs repair:", h.NeedsRepair())
	// Output:
	// pbkdf2 1000 aes-xts-plain64
	// needs repair: true
}

func ExampleVolume_Repair() {
	disk, _, _ := newVolume()
	if _, err := disk.WriteAt(make([]byte, 512), 0); err != nil {
		log.Fatal(err)
	}
	v, err := luks.Open(disk)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.Header().Copies[0].Err)
	fmt.Println(v.Repair(luks.RepairOptions{}), v.Header().NeedsRepair())
	// Output:
	// primary header: magic at 0x0: 000000000000, want 4c554b53babe
	// <nil> false
}

func ExampleVolume_AddRecoveryKey() {
	_, v, key := newVolume()
	recovery, slot, err := v.AddRecoveryKey(key, luks.KeyOptions{Rand: random()})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(strings.Split(recovery, "-")), "groups of letters open slot", slot)
	typed := strings.ToUpper(strings.ReplaceAll(recovery, "-", " "))
	passphrase, ok := luks.ParseRecoveryKey(strings.ReplaceAll(typed, " ", ""))
	fmt.Println(ok, passphrase == recovery)
	// Output:
	// 8 groups of letters open slot 1
	// true true
}

// A TPM's slot and token go to the disk in one write. Then the passphrase is the last key that a
// person has, and stays.
func ExampleVolume_AddKey() {
	_, v, key := newVolume()
	secret := []byte("what sealing.Passphrase returns")
	token := []byte(`{"type":"systemd-tpm2","tpm2-blob":"..."}`) // from tpm/sealing
	slot, err := v.AddKey(key, secret, luks.KeyOptions{Rand: random(), KDF: luks.RandomKeyKDF, Token: token})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("slot", slot, "token", string(v.Header().Tokens[0].JSON))
	fmt.Println(v.RemoveKey(0, luks.RemoveOptions{}))
	// Output:
	// slot 1 token {"type":"systemd-tpm2","keyslots":["1"],"tpm2-blob":"..."}
	// luks: key slot 0 is the last with a passphrase or recovery key: add one first
}

func ExampleVolume_RemoveKey() {
	_, v, key := newVolume()
	if _, err := v.AddKey(key, []byte("another"), luks.KeyOptions{Rand: random(), KDF: fast}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.RemoveKey(0, luks.RemoveOptions{}))
	_, err := v.Unlock([]byte("correct horse"), luks.UnlockOptions{})
	fmt.Println(err)
	// Output:
	// <nil>
	// luks: no key slot opens with this passphrase
}

// "TPM" becomes "TPM and PIN": the new key and its token are on the disk before the old one goes.
func ExampleVolume_ChangeKey() {
	_, v, key := newVolume()
	o := luks.KeyOptions{Rand: random(), KDF: luks.RandomKeyKDF, Token: []byte(`{"type":"systemd-tpm2"}`)}
	slot, err := v.AddKey(key, []byte("secret without PIN"), o)
	if err != nil {
		log.Fatal(err)
	}
	o.Token = []byte(`{"type":"systemd-tpm2","tpm2-pin":true}`)
	if err := v.ChangeKey(key, slot, []byte("secret with PIN"), o); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(v.Header().Tokens[0].JSON))
	// Output: {"type":"systemd-tpm2","keyslots":["1"],"tpm2-pin":true}
}

func ExampleVolume_SetPriority() {
	_, v, key := newVolume()
	slot, err := v.AddKey(key, []byte("another"), luks.KeyOptions{Rand: random(), KDF: fast})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.SetPriority(slot, luks.PriorityPrefer, luks.RemoveOptions{}), v.Header().Slots[slot].Priority)
	// Output: <nil> prefer
}

func ExampleVolume_AddToken() {
	_, v, _ := newVolume()
	id, err := v.AddToken([]byte(`{"type":"acme-note","text":"made by acme"}`), nil, luks.TokenOptions{})
	fmt.Println(id, err, string(v.Header().Tokens[0].JSON))
	fmt.Println(v.RemoveToken(id, luks.RemoveTokenOptions{}))
	// Output:
	// 0 <nil> {"type":"acme-note","keyslots":[],"text":"made by acme"}
	// <nil>
}

func ExampleVolume_NewWriter() {
	_, v, key := newVolume()
	w, err := v.NewWriter(key)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(w, "what the volume holds"); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	r, err := v.NewReader(key)
	if err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 21)
	_, err = r.ReadAt(b, 0)
	fmt.Println(string(b), err)
	// Output: what the volume holds <nil>
}

// A volume with content is the content of a partition, encrypted while that is written.
func ExampleNewImage() {
	state := bytes.NewReader([]byte("a file system"))
	im, err := luks.NewImage(state, 0, []byte("correct horse"), luks.FormatOptions{Rand: random(), Key: luks.KeyOptions{KDF: fast}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(im.Size())
	v, err := luks.OpenReader(im)
	if err != nil {
		log.Fatal(err)
	}
	key, err := v.Unlock([]byte("correct horse"), luks.UnlockOptions{})
	if err != nil {
		log.Fatal(err)
	}
	r, err := v.NewReader(key)
	if err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 13)
	_, err = r.ReadAt(b, 0)
	fmt.Println(string(b), err)
	// Output:
	// 16781312
	// a file system <nil>
}
