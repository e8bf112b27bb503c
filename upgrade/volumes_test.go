package upgrade_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// cheap is a KDF that costs nothing.
var cheap = luks.KDF{Type: luks.PBKDF2, Hash: "sha256", Iterations: 1000}

// state is a disk with a small volume, which a passphrase opens (key slot 0).
func state(t *testing.T) (*faultio.Disk, *luks.Volume, *luks.Key) {
	t.Helper()
	disk := faultio.NewDisk(3 << 20)
	v, key, err := luks.Format(disk, []byte("passphrase"), luks.FormatOptions{Rand: rand.NewChaCha8([32]byte{7}), KeyslotsSize: 4 * 258_048, HeaderSize: 32 << 10,
		DataOffset: 2 << 20, Key: luks.KeyOptions{KDF: cheap}})
	require.NoError(t, err)
	return disk, v, key
}

// sealed is a token as a TPM makes it.
func sealed(t *testing.T, token sealing.Token, d policy.Digest) json.RawMessage {
	t.Helper()
	b, err := upgradetest.SealedToken(token, d).MarshalJSON()
	require.NoError(t, err)
	return b
}

// signedFor is a token for PCR 11 in any state that a key has signed for.
func signedFor(t *testing.T, key *rsa.PublicKey, pin bool) json.RawMessage {
	t.Helper()
	d, err := policy.PolicyAuthorize(key, nil)
	require.NoError(t, err)
	if pin {
		d = policy.PolicyAuthValue(d)
	}
	return sealed(t, sealing.Token{Bank: crypto.SHA256, PublicKey: key, PublicKeyPCRs: []int{11}, PIN: pin}, d)
}

// literal is a token for values of PCRs.
func literal(t *testing.T, values map[int][]byte) json.RawMessage {
	t.Helper()
	d, err := policy.PolicyPCR(policy.Digest{}, crypto.SHA256, values)
	require.NoError(t, err)
	token := sealing.Token{Bank: crypto.SHA256, Values: values}
	for n := range tpm.PCRCount {
		if values[n] != nil {
			token.PCRs = append(token.PCRs, n)
		}
	}
	return sealed(t, token, d)
}

// pcr11 is what PCR 11 has when a UKI is booted, and the phases are over.
func pcr11(t *testing.T, src osmith.Source, phases ...string) []byte {
	t.Helper()
	f, err := uki.Open(src)
	require.NoError(t, err)
	sections, err := f.Measurements(crypto.SHA256)
	require.NoError(t, err)
	value, err := tpm.PCR11(crypto.SHA256, sections, phases...)
	require.NoError(t, err)
	return value
}

// Each kind of token, alone with a passphrase: whether the TPM opens the volume after the upgrade.
func TestVolumesUnlock(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	const pass, warn, fail = upgrade.OutcomePass, upgrade.OutcomeWarn, upgrade.OutcomeFail
	b, err := os.ReadFile("../tpm/testdata/userspace/tpm2-measure.log")
	require.NoError(t, err)
	earlier, err := tpm.ParseUserspaceLog(b)
	require.NoError(t, err)
	type volume struct {
		*luks.Volume
		key  *luks.Key
		disk *faultio.Disk
		old  osmith.Source // UKI
		new  osmith.Source
		me   *rsa.PublicKey
	}
	enrol := func(t *testing.T, v *volume, token json.RawMessage) int {
		slot, err := v.AddKey(v.key, []byte("of the TPM"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: luks.RandomKeyKDF, Token: token})
		require.NoError(t, err)
		return slot
	}
	initrd, host := []string{"enter-initrd"}, []string{"enter-initrd", "leave-initrd"}
	for name, tt := range map[string]struct {
		make    func(t *testing.T, v *volume)
		machine func(m *upgrade.Machine, v *volume)
		want    upgrade.Outcome // 0: nothing is said
		reason  string
	}{
		"a passphrase alone": {func(t *testing.T, v *volume) {}, nil, 0, ""},
		"a recovery key": {func(t *testing.T, v *volume) {
			_, _, err := v.AddRecoveryKey(v.key, luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{9}), KDF: cheap})
			require.NoError(t, err)
		}, nil, 0, ""},
		"signed by the machine's key": {func(t *testing.T, v *volume) { enrol(t, v, signedFor(t, v.me, false)) }, nil, pass,
			`volume "state" in partition 6 after the upgrade: token 0 (systemd-tpm2) opens it`},
		"signed, with a PIN": {func(t *testing.T, v *volume) { enrol(t, v, signedFor(t, v.me, true)) }, nil, pass, "opens it with its PIN"},
		"signed by another key": {func(t *testing.T, v *volume) { enrol(t, v, signedFor(t, &other.PCR.PublicKey, false)) }, nil, fail,
			`the TPM does not open volume "state" in partition 6 after the upgrade, and the passphrase of key slot 0 would be left: token 0 (systemd-tpm2) does not: `},
		"PCR 11 of the old version": {func(t *testing.T, v *volume) {
			enrol(t, v, literal(t, map[int][]byte{11: pcr11(t, v.old, initrd...)}))
		}, nil, fail, "sha256 PCR 11 is "},
		"PCR 11 of the old version, and a signed one beside it": {func(t *testing.T, v *volume) {
			enrol(t, v, literal(t, map[int][]byte{11: pcr11(t, v.old, initrd...)}))
			enrol(t, v, signedFor(t, v.me, false))
		}, nil, pass, "token 1 (systemd-tpm2) opens it; token 0 (systemd-tpm2) does not: "},
		"PCR 11 of the new version in the initrd": {func(t *testing.T, v *volume) {
			enrol(t, v, literal(t, map[int][]byte{11: pcr11(t, v.new, initrd...)}))
		}, func(m *upgrade.Machine, _ *volume) { m.Unlock.Phases = initrd }, pass, "opens it"},
		"and asked for when the initrd is left": {func(t *testing.T, v *volume) {
			enrol(t, v, literal(t, map[int][]byte{11: pcr11(t, v.new, initrd...)}))
		}, func(m *upgrade.Machine, _ *volume) { m.Unlock.Phases = host }, fail, "sha256 PCR 11 is "},
		"and at a moment that is not known": {func(t *testing.T, v *volume) {
			enrol(t, v, literal(t, map[int][]byte{11: pcr11(t, v.new, initrd...)}))
		}, nil, warn, "does not open it at every moment when it may be asked for (Machine.Unlock.Phases)"},
		"PCR 7, of a userspace that is not known": {func(t *testing.T, v *volume) {
			enrol(t, v, literal(t, map[int][]byte{7: make([]byte, 32)}))
		}, nil, warn, "token 0 (systemd-tpm2) might: sha256 PCR 7: its value is not known"},
		"PCR 7 of another machine": {func(t *testing.T, v *volume) {
			enrol(t, v, literal(t, map[int][]byte{7: make([]byte, 32)}))
		}, func(m *upgrade.Machine, _ *volume) {
			m.Userspace = tpm.PhasesAlone()
			m.NoShim = true
		}, fail, "sha256 PCR 7 is "},
		"PCR 7 by the log of the version that runs": {func(t *testing.T, v *volume) {
			enrol(t, v, literal(t, map[int][]byte{7: make([]byte, 32)}))
			enrol(t, v, signedFor(t, &other.PCR.PublicKey, false))
		}, func(m *upgrade.Machine, _ *volume) {
			m.Userspace, m.NoShim, m.Unlock.Phases = &tpm.Userspace{Earlier: earlier}, true, host
		}, warn, "token 0 (systemd-tpm2) might: sha256 PCR 7: its value is not known: what userspace measures is known of another version"},
		"signed, with the log of the version that runs": {func(t *testing.T, v *volume) { enrol(t, v, signedFor(t, v.me, false)) }, func(m *upgrade.Machine, _ *volume) {
			m.Userspace, m.NoShim, m.Unlock.Phases = &tpm.Userspace{Earlier: earlier}, true, host
		}, pass, "opens it"},
		"PCR 11 where firmware is not known": {func(t *testing.T, v *volume) { enrol(t, v, signedFor(t, v.me, false)) },
			func(m *upgrade.Machine, _ *volume) { m.Firmware = nil }, pass, "opens it"},
		"a token that is known nowhere": {func(t *testing.T, v *volume) {
			enrol(t, v, []byte(`{"type":"clevis","keyslots":[]}`))
		}, nil, warn, "token 0 (clevis) is of no kind that is known here"},
		"that, and one that does not open": {func(t *testing.T, v *volume) {
			slot := enrol(t, v, signedFor(t, &other.PCR.PublicKey, false))
			_, err := v.AddToken([]byte(`{"type":"clevis","keyslots":[]}`), []int{slot}, luks.TokenOptions{})
			require.NoError(t, err)
		}, nil, warn, "token 0 (systemd-tpm2) does not: "},
		"a FIDO2 key is a person's": {func(t *testing.T, v *volume) {
			enrol(t, v, signedFor(t, &other.PCR.PublicKey, false))
			_, err := v.AddToken([]byte(`{"type":"systemd-fido2","keyslots":[]}`), []int{0}, luks.TokenOptions{})
			require.NoError(t, err)
		}, nil, fail, "and the FIDO2 key of key slot 0 would be left"},
		"a token without a key slot": {func(t *testing.T, v *volume) {
			_, err := v.AddToken(signedFor(t, v.me, false), nil, luks.TokenOptions{})
			require.NoError(t, err)
		}, nil, fail, "is for no key slot that there is"},
		"a key slot that is not tried": {func(t *testing.T, v *volume) {
			require.NoError(t, v.SetPriority(enrol(t, v, signedFor(t, v.me, false)), luks.PriorityIgnore, luks.RemoveOptions{}))
		}, nil, warn, "is for a key slot that is only tried if it is asked for"},
		"a token that cannot be read": {func(t *testing.T, v *volume) {
			enrol(t, v, []byte(`{"type":"systemd-tpm2","keyslots":[],"tpm2-blob":"?"}`))
		}, nil, warn, "token 0 (systemd-tpm2) cannot be read: "},
		"a policy of systemd-pcrlock": {func(t *testing.T, v *volume) { enrol(t, v, sealed(t, sealing.Token{PCRLock: true}, policy.Digest{1})) },
			nil, warn, "token 0 (systemd-tpm2) might: "},
		"no bank, on a TPM that is not known": {func(t *testing.T, v *volume) {
			d, err := policy.PolicyAuthorize(v.me, nil)
			require.NoError(t, err)
			enrol(t, v, sealed(t, sealing.Token{PublicKey: v.me, PublicKeyPCRs: []int{11}}, d))
		}, nil, warn, "the token names no PCR bank"},
		"no bank, on one with SHA-256": {func(t *testing.T, v *volume) {
			d, err := policy.PolicyAuthorize(v.me, nil)
			require.NoError(t, err)
			enrol(t, v, sealed(t, sealing.Token{PublicKey: v.me, PublicKeyPCRs: []int{11}}, d))
		}, func(m *upgrade.Machine, _ *volume) { m.Unlock.Banks = []crypto.Hash{crypto.SHA256} }, pass, "opens it"},
		"a damaged header": {func(t *testing.T, v *volume) {
			for _, off := range []int64{512, 32<<10 + 512} {
				_, err := v.disk.WriteAt(make([]byte, 4096), off)
				require.NoError(t, err)
			}
		}, nil, warn, `whether volume "state" in partition 6 opens after the upgrade is unknown: luks: no LUKS2 header`},
		"a second copy alone, and damaged": {func(t *testing.T, v *volume) {
			for _, off := range []int64{0, 32<<10 + 512} {
				_, err := v.disk.WriteAt(make([]byte, 4096), off)
				require.NoError(t, err)
			}
		}, nil, warn, `whether volume "state" in partition 6 opens after the upgrade is unknown: luks: no LUKS2 header`},
		"a requirement that is not known": {func(t *testing.T, v *volume) {
			rewriteHeader(t, v.disk, `"config":{`, `"config":{"requirements":{"mandatory":["from-the-future"]},`)
		}, nil, warn, "from-the-future"},
		"nothing is said to be sealed": {func(t *testing.T, v *volume) { enrol(t, v, signedFor(t, v.me, false)) },
			func(m *upgrade.Machine, _ *volume) { m.PCRKeys, m.NothingSealed = nil, true }, warn,
			`Machine.NothingSealed says that nothing is sealed to a signed PCR policy, and token 0 of volume "state" in partition 6 is`},
	} {
		t.Run(name, func(t *testing.T) {
			disk, v, key := state(t)
			s := newSystemWith(t, disk)
			set := s.build("2")
			vol := &volume{v, key, disk, s.build("1").UKI, set.UKI, &s.builder.Keys.PCR.PublicKey}
			tt.make(t, vol)
			putState(t, s.disk, disk)
			if tt.machine != nil {
				tt.machine(&s.machine, vol)
			}
			p := s.plan(set, upgrade.PlanOptions{})
			j := verdict(t, p, upgrade.ProofUnlocks)
			if tt.want == 0 {
				require.NotContains(t, texts(j), "volume")
				return
			}
			require.Contains(t, texts(j), tt.reason)
			var about upgrade.Outcome
			for _, r := range j.Reasons {
				if bytes.Contains([]byte(r.Text), []byte(`volume "state"`)) {
					about = max(about, r.Outcome)
				}
			}
			require.Equal(t, tt.want, about, texts(j))
			var lost *upgrade.VolumeError
			if tt.want == fail {
				require.ErrorAs(t, j.Reasons[len(j.Reasons)-1].Err, &lost)
				require.Error(t, p.Refused())
				before := contentOf(t, s.disk)
				require.ErrorAs(t, p.Apply(t.Context(), nil), new(*upgrade.RefusedError))
				require.True(t, bytes.Equal(before, contentOf(t, s.disk)), "nothing is written")
			}
		})
	}
}

// putState writes a state partition to the disk of a system.
func putState(t *testing.T, disk *faultio.Disk, state *faultio.Disk) {
	t.Helper()
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	last := len(table.Partitions) - 1
	require.Equal(t, "state", table.Partitions[last].Name)
	_, err = table.Window(disk, last).WriteAt(contentOf(t, state), 0)
	require.NoError(t, err)
	require.NoError(t, disk.Sync())
}

// The old policy must not go before the way back is closed: the set to return to has to open the
// volumes as well.
func TestVolumesOpenAfterTheReturn(t *testing.T) {
	phases := []string{"enter-initrd"}
	for name, tt := range map[string]struct {
		tokens []string // versions whose PCR 11 they are for
		want   map[upgrade.Proof]upgrade.Outcome
		text   string
	}{
		"before enrolment": {[]string{"1"}, map[upgrade.Proof]upgrade.Outcome{upgrade.ProofUnlocks: upgrade.OutcomeFail, upgrade.ProofReturns: upgrade.OutcomePass}, "after the upgrade, and"},
		"both":             {[]string{"1", "2"}, map[upgrade.Proof]upgrade.Outcome{upgrade.ProofUnlocks: upgrade.OutcomePass, upgrade.ProofReturns: upgrade.OutcomePass}, "token 1 (systemd-tpm2) opens it"},
		"the old one gone": {[]string{"2"}, map[upgrade.Proof]upgrade.Outcome{upgrade.ProofUnlocks: upgrade.OutcomePass, upgrade.ProofReturns: upgrade.OutcomeFail},
			`the TPM does not open volume "state" in partition 6 after the return to EFI/Linux/acme_1.efi, and`},
	} {
		t.Run(name, func(t *testing.T) {
			disk, v, key := state(t)
			s := newSystemWith(t, disk)
			s.machine.Unlock.Phases = phases
			set := s.build("2")
			sets := map[string]osmith.Source{"1": s.build("1").UKI, "2": set.UKI}
			for _, version := range tt.tokens {
				_, err := v.AddKey(key, []byte("of the TPM"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: luks.RandomKeyKDF,
					Token: literal(t, map[int][]byte{11: pcr11(t, sets[version], phases...)})})
				require.NoError(t, err)
			}
			putState(t, s.disk, disk)
			p := s.plan(set, upgrade.PlanOptions{})
			all := ""
			for proof, want := range tt.want {
				j := verdict(t, p, proof)
				require.Equal(t, want, j.Outcome, "%s: %s", proof, texts(j))
				all += texts(j)
			}
			require.Contains(t, all, tt.text)
			require.Equal(t, name == "both", p.Refused() == nil)
		})
	}
}

// What the verdict was about must be there when it is acted upon.
func TestVolumesChange(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, v *luks.Volume, disk *faultio.Disk)
		want   string
	}{
		"nothing": {func(*testing.T, *luks.Volume, *faultio.Disk) {}, ""},
		"the header was written again": {func(t *testing.T, v *luks.Volume, _ *faultio.Disk) {
			require.NoError(t, v.SetPriority(0, luks.PriorityPrefer, luks.RemoveOptions{}))
			require.NoError(t, v.SetPriority(0, luks.PriorityNormal, luks.RemoveOptions{}))
		}, ""},
		"the token was removed": {func(t *testing.T, v *luks.Volume, _ *faultio.Disk) {
			require.NoError(t, v.RemoveToken(0, luks.RemoveTokenOptions{LeaveSlotsThatNothingNames: true}))
		}, "the header of the encrypted volume in partition 6 changed since the plan was made"},
		"its key slot was removed": {func(t *testing.T, v *luks.Volume, _ *faultio.Disk) {
			require.NoError(t, v.RemoveKey(1, luks.RemoveOptions{}))
		}, "the header of the encrypted volume in partition 6 changed since the plan was made"},
		"the volume is gone": {func(t *testing.T, _ *luks.Volume, disk *faultio.Disk) {
			_, err := disk.WriteAt(make([]byte, 128<<10), 0)
			require.NoError(t, err)
		}, "the header of the encrypted volume in partition 6 changed since the plan was made"},
		"it is damaged": {func(t *testing.T, _ *luks.Volume, disk *faultio.Disk) {
			for _, off := range []int64{512, 32<<10 + 512} {
				_, err := disk.WriteAt(make([]byte, 4096), off)
				require.NoError(t, err)
			}
		}, "the header of the encrypted volume in partition 6 changed since the plan was made"},
	} {
		t.Run(name, func(t *testing.T) {
			disk, v, key := state(t)
			s := newSystemWith(t, disk)
			_, err := v.AddKey(key, []byte("of the TPM"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: luks.RandomKeyKDF, Token: signedFor(t, &s.builder.Keys.PCR.PublicKey, false)})
			require.NoError(t, err)
			putState(t, s.disk, disk)
			p := s.plan(s.build("2"), upgrade.PlanOptions{})
			require.NoError(t, p.Refused())
			tt.change(t, v, disk)
			putState(t, s.disk, disk)
			before := contentOf(t, s.disk)
			err = p.Apply(t.Context(), nil)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorAs(t, err, new(*upgrade.ChangedError))
			require.ErrorContains(t, err, tt.want)
			require.True(t, bytes.Equal(before, contentOf(t, s.disk)), "nothing is written")
		})
	}
	t.Run("a volume where none was", func(t *testing.T) {
		disk, _, _ := state(t)
		s := newSystemWith(t, faultio.NewDisk(3<<20))
		p := s.plan(s.build("2"), upgrade.PlanOptions{})
		putState(t, s.disk, disk)
		err := p.Apply(t.Context(), nil)
		require.ErrorAs(t, err, new(*upgrade.ChangedError))
		require.ErrorContains(t, err, "partition 6, which has an encrypted volume now, changed since the plan was made")
	})
	t.Run("before any step", func(t *testing.T) {
		disk, v, key := state(t)
		s := newSystemWith(t, disk)
		_, err := v.AddKey(key, []byte("of the TPM"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: luks.RandomKeyKDF, Token: signedFor(t, &s.builder.Keys.PCR.PublicKey, false)})
		require.NoError(t, err)
		putState(t, s.disk, disk)
		set := s.build("2")
		require.NoError(t, v.RemoveToken(0, luks.RemoveTokenOptions{LeaveSlotsThatNothingNames: true}))
		stopped := 0
		for n := range s.plan(set, upgrade.PlanOptions{}).Steps {
			other := s.on(s.disk.Clone())
			p := other.plan(set, upgrade.PlanOptions{})
			changed := false
			err := p.Apply(t.Context(), func(step int, _, _ int64) {
				if step == n && !changed {
					putState(t, other.disk, disk)
					changed = true
				}
			})
			if changed && n < len(p.Steps)-1 {
				require.ErrorAs(t, err, new(*upgrade.ChangedError), "%d: %s", n, p.Steps[n])
				require.Equal(t, "1", other.boot().Version)
				stopped++
			}
		}
		require.Greater(t, stopped, 2)
	})
}

// A volume in a slot is what the upgrade writes over, and of no one's concern.
func TestVolumeInASlot(t *testing.T) {
	disk, v, key := state(t)
	other, err := foreign()
	require.NoError(t, err)
	_, err = v.AddKey(key, []byte("of the TPM"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: luks.RandomKeyKDF, Token: signedFor(t, &other.PCR.PublicKey, false)})
	require.NoError(t, err)
	s := newSystemWith(t, faultio.NewDisk(3<<20))
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	_, err = table.Window(s.disk, 3).WriteAt(contentOf(t, disk)[:1<<20], 0)
	require.NoError(t, err)
	st, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Empty(t, st.Volumes)
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	require.NoError(t, p.Refused())
	require.NoError(t, p.Apply(t.Context(), nil))
}

// The state tells of the volumes.
func TestStateHasVolumes(t *testing.T) {
	disk, v, key := state(t)
	s := newSystemWith(t, disk)
	_, err := v.AddKey(key, []byte("of the TPM"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: luks.RandomKeyKDF, Token: signedFor(t, &s.builder.Keys.PCR.PublicKey, false)})
	require.NoError(t, err)
	_, _, err = v.AddRecoveryKey(key, luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{9}), KDF: cheap})
	require.NoError(t, err)
	putState(t, s.disk, disk)
	st, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	b, err := json.Marshal(st)
	require.NoError(t, err)
	requireSchema(t, "state", b)
	var got struct {
		Volumes []json.RawMessage `json:"volumes"`
	}
	require.NoError(t, json.Unmarshal(b, &got))
	require.Len(t, got.Volumes, 1)
	require.JSONEq(t, fmt.Sprintf(`{"partition":6,"name":"state","uuid":%q,"problem":"","tokens":[
		{"id":0,"type":"systemd-tpm2","keySlots":[1]},{"id":1,"type":"systemd-recovery","keySlots":[2]}]}`, v.Header().UUID), string(got.Volumes[0]))
	require.Contains(t, st.String(), "volume  state in partition 6  token 0 (systemd-tpm2) for key slot 1, token 1 (systemd-recovery) for key slot 2\n")

	// Numbers are those of the table, which may have gaps.
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	table.Partitions[len(table.Partitions)-1].Number = 9
	require.NoError(t, table.Write(s.disk))
	st, err = upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Equal(t, 9, st.Volumes[0].Partition)
}

// rewriteHeader changes the JSON of both copies of a header of 32 KiB, and their checksums (LUKS2
// On-Disk Format Specification 1.1.4, 2.1).
func rewriteHeader(t *testing.T, disk *faultio.Disk, from, to string) {
	t.Helper()
	const size = 32 << 10
	for _, off := range []int64{0, size} {
		b := bytes.Clone(contentOf(t, disk)[off : off+size])
		area, text := b[4096:], bytes.TrimRight(b[4096:], "\x00")
		changed := bytes.Replace(text, []byte(from), []byte(to), 1)
		require.NotEqual(t, text, changed)
		clear(area)
		copy(area, changed)
		clear(b[0x1c0 : 0x1c0+64])
		h := crypto.SHA256.New()
		h.Write(b)
		copy(b[0x1c0:], h.Sum(nil))
		_, err := disk.WriteAt(b, off)
		require.NoError(t, err)
	}
}

// Of a UKI for several boards, a token has to open on each while it is not known which one it is.
func TestVolumesOfVariants(t *testing.T) {
	disk, v, key := state(t)
	s := newSystemWith(t, disk)
	s.machine.Unlock.Phases = []string{"enter-initrd"}
	release := s.withUKI(s.build("2"), func(im *uki.Image) {
		for _, compatible := range []string{"acme,one", "acme,two"} {
			im.DeviceTreeAuto = append(im.DeviceTreeAuto, bytes.NewReader(flattenedTree(compatible)))
		}
	}, 0)
	f, err := uki.Open(release.UKI)
	require.NoError(t, err)
	variants, err := f.MeasureVariants(crypto.SHA256)
	require.NoError(t, err)
	require.Greater(t, len(variants), 1)
	value, err := tpm.PCR11(crypto.SHA256, variants[0].Sections, "enter-initrd")
	require.NoError(t, err)
	_, err = v.AddKey(key, []byte("of the TPM"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: luks.RandomKeyKDF, Token: literal(t, map[int][]byte{11: value})})
	require.NoError(t, err)
	putState(t, s.disk, disk)
	j := verdict(t, s.planOf(release, upgrade.PlanOptions{}), upgrade.ProofUnlocks)
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome, texts(j))
	require.Contains(t, texts(j), "or in every way to boot; at 2 of 3: sha256 PCR 11 is ")

	_, err = v.AddKey(key, []byte("of the TPM"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: luks.RandomKeyKDF, Token: literal(t, map[int][]byte{7: value})})
	require.NoError(t, err)
	putState(t, s.disk, disk)
	j = verdict(t, s.planOf(release, upgrade.PlanOptions{}), upgrade.ProofUnlocks)
	require.Contains(t, texts(j), "token 1 (systemd-tpm2) might: sha256 PCR 7: its value is not known: the stub picks one of 3 sets of sections by the hardware")
}

// badSectors is a disk with a place that cannot be read.
type badSectors struct {
	*faultio.Disk
	from, to int64
}

func (d badSectors) ReadAt(b []byte, off int64) (int, error) {
	if off < d.to && d.from < off+int64(len(b)) {
		return 0, io.ErrUnexpectedEOF
	}
	return d.Disk.ReadAt(b, off)
}

// A partition that cannot be read may have a volume.
func TestVolumeThatCannotBeRead(t *testing.T) {
	s := newSystemWith(t, faultio.NewDisk(3<<20))
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	off, _ := table.Extent(len(table.Partitions) - 1)
	for _, at := range []int64{0, 32 << 10} {
		st, err := upgrade.Inspect(badSectors{s.disk, off + at, off + at + 512}, s.machine)
		require.NoError(t, err)
		require.Len(t, st.Volumes, 1, "%d", at)
		require.ErrorIs(t, st.Volumes[0].Err, io.ErrUnexpectedEOF)
		require.Contains(t, st.String(), "volume  state in partition 6  whether there is a LUKS2 header is unknown: ")
	}
	// A sector that is bad for good is a restriction, and one that has become bad since the plan is
	// an error.
	bad := &badSectors{s.disk, off, off + 512}
	p, err := upgrade.NewPlan(t.Context(), bad, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, p.Refused())
	require.Contains(t, texts(verdict(t, p, upgrade.ProofUnlocks)), `warn whether volume "state" in partition 6 opens after the upgrade is unknown: `)
	good := &badSectors{s.disk, 0, 0}
	p, err = upgrade.NewPlan(t.Context(), good, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	good.from, good.to = off, off+512
	before := contentOf(t, s.disk)
	err = p.Apply(t.Context(), nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "partition 6: whether there is a LUKS2 header is unknown")
	require.True(t, bytes.Equal(before, contentOf(t, s.disk)), "nothing is written")
}
