package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// state is the encrypted partition that outlives every version.
type state struct {
	recovery string
	secrets  map[int][]byte // what a TPM would have sealed, by key slot
}

// openedResult says which tokens have opened the state partition at a boot.
type openedResult struct {
	At      string `json:"at"`
	Version string `json:"version"`
	Tokens  []int  `json:"tokens"`
}

// keyOptions are for keys that cannot be guessed.
var keyOptions = luks.KeyOptions{Rand: rand.Reader, KDF: luks.RandomKeyKDF}

// makeState makes the partition offline: a recovery key in key slot 0, the TPM's in the next one.
func (s *story) makeState() (osmith.Source, error) {
	var err error
	if s.state.recovery, err = luks.NewRecoveryKey(rand.Reader); err != nil {
		return nil, err
	}
	o := luks.FormatOptions{Rand: rand.Reader, Label: acmeos.ID + "-state", Key: keyOptions, DataOffset: 4 << 20}
	o.Key.Token = []byte(luks.RecoveryToken)
	content := bytes.NewReader([]byte("what the machine has to remember\n"))
	return luks.NewImage(content, 5<<20, []byte(s.state.recovery), o, func(v *luks.Volume, key *luks.Key) error {
		return s.enrol(v, key, &s.builder.Keys.PCR.PublicKey)
	})
}

// enrol adds a token for PCR 11 in any state that a key has signed for. A machine with a TPM has
// [sealing.TPM.Seal] for that.
func (s *story) enrol(v *luks.Volume, key *luks.Key, signer *rsa.PublicKey) error {
	d, err := policy.PolicyAuthorize(signer, nil)
	if err != nil {
		return err
	}
	token := upgradetest.SealedToken(sealing.Token{Bank: crypto.SHA256, PublicKey: signer, PublicKeyPCRs: []int{tpm.PCRKernel}}, d)
	o := keyOptions
	if o.Token, err = token.MarshalJSON(); err != nil {
		return err
	}
	secret := (&sealing.Policy{PublicKey: signer}).NewSecret()
	slot, err := v.AddKey(key, sealing.Passphrase(secret), o)
	if err != nil {
		return err
	}
	if s.state.secrets == nil {
		s.state.secrets = map[int][]byte{}
	}
	s.state.secrets[slot] = secret
	return nil
}

// stateVolume opens the header on the disk.
func (s *story) stateVolume() (*luks.Volume, error) {
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	if err != nil {
		return nil, err
	}
	return luks.Open(table.Window(s.disk, len(table.Partitions)-1))
}

// openState opens the state partition as the initrd of a version does: by a token that the TPM
// unseals, or else not at all.
func (s *story) openState(at, version string) error {
	v, err := s.stateVolume()
	if err != nil {
		return err
	}
	now, err := s.atUnlock(s.sets[version])
	if err != nil {
		return err
	}
	opened := openedResult{At: at, Version: version, Tokens: []int{}}
	for _, t := range v.Header().Tokens {
		if t.Type != sealing.TokenType {
			continue
		}
		token, err := sealing.ParseToken(t.JSON)
		if err != nil {
			return err
		}
		answer, err := token.Check(now)
		if err != nil {
			return err
		}
		if answer.Verdict != sealing.VerdictOpens {
			continue
		}
		if _, err := v.Unlock(sealing.Passphrase(s.state.secrets[t.Keyslots[0]]), luks.UnlockOptions{}); err != nil {
			return err
		}
		opened.Tokens = append(opened.Tokens, t.ID)
	}
	if len(opened.Tokens) == 0 {
		return &brokenPromise{fmt.Sprintf("%s version %s asks for the recovery key of the state partition", at, version)}
	}
	s.say("state:     token %d opens it, as worked out: there is no TPM", opened.Tokens[0])
	s.result.Volume = append(s.result.Volume, opened)
	return nil
}

// atUnlock is the machine when the initrd of a version asks the TPM.
func (s *story) atUnlock(set *acmeos.Set) (now sealing.State, err error) {
	loader, err := s.builder.SignedLoader()
	if err != nil {
		return now, err
	}
	log, err := upgrade.PredictBoot(s.machine, loader, set.UKI, "enter-initrd")
	if err != nil {
		return now, err
	}
	if now, err = sealing.StateOf(log, nil); err != nil {
		return now, err
	}
	f, err := uki.Open(set.UKI)
	if err != nil {
		return now, err
	}
	signed, there := f.Section(".pcrsig")
	if !there {
		now.Signatures = policy.Signatures{}
		return now, nil
	}
	text, err := io.ReadAll(signed)
	if err != nil {
		return now, err
	}
	now.Signatures, err = policy.ParseSignatures(bytes.TrimRight(text, "\x00"))
	return now, err
}

// newPolicyKey changes the key that signs PCR policies. A version that only the new one has signed
// would lock the state partition.
func (s *story) newPolicyKey() error {
	s.chapter("Change the key that signs PCR policies, and do not lock the state partition")
	next := *s.builder.Keys
	var err error
	if next.PCR, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	s.builder.Keys = &next
	set, err := s.build("4")
	if err != nil {
		return err
	}
	s.machine.PCRKeys = append(s.machine.PCRKeys, &next.PCR.PublicKey)
	plan, err := s.plan(set.Release())
	if err != nil {
		return err
	}
	refused := plan.Refused()
	if refused == nil {
		return &brokenPromise{"a version for which no token of the state partition opens was planned"}
	}
	s.say("locked:    %v", refused)
	s.result.Locked = refused.Error()

	// The system that runs has the volume open: it adds a token for the new key beside the old one.
	v, err := s.stateVolume()
	if err != nil {
		return err
	}
	old := 1
	key, err := v.Unlock(sealing.Passphrase(s.state.secrets[old]), luks.UnlockOptions{})
	if err != nil {
		return err
	}
	defer key.Clear()
	if err := s.enrol(v, key, &next.PCR.PublicKey); err != nil {
		return err
	}
	if plan, err = s.plan(set.Release()); err != nil {
		return err
	}
	if err := plan.Apply(s.ctx, nil); err != nil {
		return err
	}
	if err := s.expect("with the new key", "4"); err != nil {
		return err
	}
	if _, err := upgrade.Commit(s.disk, s.machine, plan.Entry); err != nil {
		return err
	}
	if err := v.RemoveKey(old, luks.RemoveOptions{}); err != nil {
		return err
	}
	s.say("version 4 is committed, and the old token is gone")
	return nil
}
