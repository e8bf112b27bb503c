package luks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// roomy is a volume with room for many slots.
func roomy(seed uint64) FormatOptions {
	o := small(seed)
	o.KeyslotsSize = 40 * 258048
	return o
}

// The last slot that a person can use stays, whichever way it would go.
func TestLastKey(t *testing.T) {
	tpm := KeyOptions{KDF: fastKDF, Token: []byte(`{"type":"systemd-tpm2"}`)}
	allowed := KeyOptions{KDF: fastKDF, Token: tpm.Token, LeaveNoKeyForAPerson: true}
	for _, c := range []struct {
		name   string
		prefer []string // types of tokens of slots besides slot 0 and that of a TPM
		do     func(v *Volume, key *Key) error
		ok     bool
	}{
		{"remove", nil, func(v *Volume, _ *Key) error { return v.RemoveKey(0, RemoveOptions{}) }, false},
		{"remove, allowed", nil, func(v *Volume, _ *Key) error { return v.RemoveKey(0, RemoveOptions{LeaveNoKeyForAPerson: true}) }, true},
		{"remove with a recovery key", []string{"systemd-recovery"}, func(v *Volume, _ *Key) error { return v.RemoveKey(0, RemoveOptions{}) }, true},
		{"remove with a FIDO2 token", []string{"systemd-fido2"}, func(v *Volume, _ *Key) error { return v.RemoveKey(0, RemoveOptions{}) }, true},
		{"remove with a PKCS #11 token", []string{"systemd-pkcs11"}, func(v *Volume, _ *Key) error { return v.RemoveKey(0, RemoveOptions{}) }, true},
		{"remove with a token that is not known", []string{"clevis"}, func(v *Volume, _ *Key) error { return v.RemoveKey(0, RemoveOptions{}) }, false},
		{"remove the TPM's", nil, func(v *Volume, _ *Key) error { return v.RemoveKey(1, RemoveOptions{}) }, true},
		{"change to a TPM's", nil, func(v *Volume, key *Key) error { return v.ChangeKey(key, 0, []byte("x"), with(tpm)) }, false},
		{"change to a TPM's, allowed", nil, func(v *Volume, key *Key) error { return v.ChangeKey(key, 0, []byte("x"), with(allowed)) }, true},
		{"change to another passphrase", nil, func(v *Volume, key *Key) error {
			return v.ChangeKey(key, 0, []byte("x"), with(KeyOptions{KDF: fastKDF}))
		}, true},
		{"change the TPM's to TPM and PIN", nil, func(v *Volume, key *Key) error { return v.ChangeKey(key, 1, []byte("x"), with(tpm)) }, true},
		{"ignore", nil, func(v *Volume, _ *Key) error { return v.SetPriority(0, PriorityIgnore, RemoveOptions{}) }, false},
		{"ignore, allowed", nil, func(v *Volume, _ *Key) error { return v.SetPriority(0, PriorityIgnore, RemoveOptions{true}) }, true},
		{"prefer", nil, func(v *Volume, _ *Key) error { return v.SetPriority(0, PriorityPrefer, RemoveOptions{}) }, true},
		{"token for the passphrase", nil, func(v *Volume, _ *Key) error { _, err := v.AddToken(tpm.Token, []int{0}, TokenOptions{}); return err }, false},
		{"token for the passphrase, allowed", nil, func(v *Volume, _ *Key) error {
			_, err := v.AddToken(tpm.Token, []int{0}, TokenOptions{LeaveNoKeyForAPerson: true})
			return err
		}, true},
		{"recovery token for the passphrase", nil, func(v *Volume, _ *Key) error {
			_, err := v.AddToken([]byte(RecoveryToken), []int{0}, TokenOptions{})
			return err
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, v, key := formatted(t, roomy(1))
			_, err := v.AddKey(key, []byte("secret of the TPM"), with(tpm))
			require.NoError(t, err)
			for i, typ := range c.prefer {
				_, err := v.AddKey(key, []byte{byte('a' + i)}, with(KeyOptions{KDF: fastKDF, Token: []byte(`{"type":"` + typ + `"}`)}))
				require.NoError(t, err)
			}
			before := content(t, d)
			err = c.do(v, key)
			if c.ok {
				require.NoError(t, err)
				return
			}
			var last *LastKeyError
			require.ErrorAs(t, err, &last)
			require.Equal(t, []int{0}, last.Slots)
			require.True(t, bytes.Equal(before, content(t, d)), "nothing is written")
		})
	}
}

func with(o KeyOptions) KeyOptions {
	o.Rand = random(77)
	return o
}

// The last slot of all stays, too, where no person had one: the data would be lost.
func TestLastOfAll(t *testing.T) {
	o := small(1)
	o.Key.Token = []byte(`{"type":"systemd-tpm2"}`)
	_, v, _ := formatted(t, o)
	var last *LastKeyError
	require.ErrorAs(t, v.RemoveKey(0, RemoveOptions{}), &last)
	require.True(t, last.All)
	require.ErrorContains(t, last, "the last key slot: removing it would lose the data")
	require.NoError(t, v.RemoveKey(0, RemoveOptions{LeaveNoKeyForAPerson: true}))
	require.Empty(t, v.Header().Slots)
	require.Empty(t, v.Header().Tokens, "the token went with it")
	_, err := v.Unlock(correctHorse, UnlockOptions{})
	require.ErrorIs(t, err, ErrNoKey)
	require.ErrorContains(t, err, "no key slot to try")
}

// A token that is the only way into its slot does not leave it behind as one that looks like a
// passphrase's.
func TestRemoveOnlyToken(t *testing.T) {
	_, v, key := formatted(t, roomy(1))
	for _, typ := range []string{"systemd-tpm2", "systemd-recovery", "clevis"} {
		_, err := v.AddKey(key, []byte(typ), with(KeyOptions{KDF: fastKDF, Token: []byte(`{"type":"` + typ + `"}`)}))
		require.NoError(t, err)
	}
	require.ErrorContains(t, v.RemoveToken(0, RemoveTokenOptions{}), "the only way to unlock key slot 1: remove the key slot, which removes the token too")
	require.NoError(t, v.RemoveToken(1, RemoveTokenOptions{}), "a recovery key opens without its mark")
	require.ErrorContains(t, v.RemoveToken(2, RemoveTokenOptions{}), "the only way to unlock key slot 3: remove the key slot, which removes the token too")
	require.NoError(t, v.RemoveToken(2, RemoveTokenOptions{LeaveSlotsThatNothingNames: true}))
	require.ErrorIs(t, v.RemoveToken(2, RemoveTokenOptions{}), ErrNoToken)
	// Of two tokens one may go, unless the other is a machine's and no person is left.
	fido, err := v.AddToken([]byte(`{"type":"systemd-fido2"}`), []int{1}, TokenOptions{})
	require.NoError(t, err)
	require.NoError(t, v.RemoveKey(0, RemoveOptions{}))
	require.NoError(t, v.RemoveKey(2, RemoveOptions{}))
	require.NoError(t, v.RemoveKey(3, RemoveOptions{}))
	var last *LastKeyError
	require.ErrorAs(t, v.RemoveToken(fido, RemoveTokenOptions{}), &last)
	require.NoError(t, v.RemoveToken(fido, RemoveTokenOptions{RemoveOptions: RemoveOptions{true}}))
}

// What this package does not know stays byte for byte, with the order and the white space of
// others.
func TestUnknownStays(t *testing.T) {
	base := mutantBase(t)
	d := mutant{doc: func(doc string) string {
		doc = strings.Replace(doc, `{"keyslots":{`, `{"future" : {"a": [ 1 ]} ,"keyslots":{"9":{ "type":"future", "key_size": 3, "area":{"type":"odd","offset":"548864","size":"4096"},"x":"é\/<&>" },`, 1)
		doc = strings.Replace(doc, `"key_size":64,"af"`, `"key_size":64,"extra":[1, 2],"af"`, 1)
		doc = strings.Replace(doc, `"tokens":{`, `"tokens":{"31":{"more":{"deep" :true},"keyslots":["0"],"type":"future"},`, 1)
		doc = strings.Replace(doc, `"digests":{`, `"digests":{"7":{"type":"future","keyslots":["9"],"segments":[ ],"y":1},`, 1)
		doc = strings.Replace(doc, `"sector_size":512`, `"sector_size":512,"flags":["future"],"z":null`, 1)
		return strings.Replace(doc, `"keyslots_size"`, `"flags":["allow-discards","future"],"more":1.50,"keyslots_size"`, 1)
	}}.make(t, base)
	kept := []string{`"future":{"a": [ 1 ]}`, `"9":{ "type":"future", "key_size": 3, "area":{"type":"odd","offset":"548864","size":"4096"},"x":"é\/<&>" }`,
		`"extra":[1, 2]`, `"more":{"deep" :true}`, `"7":{"type":"future","keyslots":["9"],"segments":[ ],"y":1}`, `"flags":["future"],"z":null`,
		`"flags":["allow-discards","future"],"more":1.50`}
	v, err := Open(d)
	require.NoError(t, err)
	key, err := v.Unlock(correctHorse, UnlockOptions{})
	require.NoError(t, err)
	check := func(step string, err error, gone ...string) {
		t.Helper()
		require.NoError(t, err, step)
		now, err := Read(d)
		require.NoError(t, err, step)
		for _, k := range kept {
			lost := false
			for _, g := range gone {
				lost = lost || strings.Contains(k, g)
			}
			require.Equal(t, !lost, strings.Contains(string(now.JSON), k), "%s: %s in %s", step, k, now.JSON)
		}
	}
	check("opened", nil, `"future":{"a"`) // only white space around members is not kept
	slot, err := v.AddKey(key, []byte("second"), with(KeyOptions{KDF: fastKDF}))
	require.Equal(t, 1, slot)
	check("add", err)
	s, _ := v.Header().Slot(1)
	require.Equal(t, int64(290816), s.Area.Offset, "the first gap")
	_, err = v.AddKey(key, []byte("third"), with(KeyOptions{KDF: fastKDF}))
	require.ErrorIs(t, err, ErrAreaFull, "the area of the slot that is not known is in the way")
	id, err := v.AddToken([]byte(`{"type":"x"}`), []int{0}, TokenOptions{})
	check("add token", err)
	check("priority", v.SetPriority(0, PriorityPrefer, RemoveOptions{}))
	check("normal again", v.SetPriority(0, PriorityNormal, RemoveOptions{}))
	check("remove token", v.RemoveToken(id, RemoveTokenOptions{LeaveSlotsThatNothingNames: true}))
	var unsupported *UnsupportedError
	require.ErrorAs(t, v.RemoveKey(9, RemoveOptions{}), &unsupported)
	check("remove", v.RemoveKey(0, RemoveOptions{}), `"extra"`)
	token, ok := v.Header().Token(31)
	require.True(t, ok, "a token that is not known stays without its slot")
	require.Equal(t, `{"more":{"deep" :true},"keyslots":[],"type":"future"}`, string(token.JSON))
}

// A change of one slot changes nothing of another: no KDF is ever another one by the way.
func TestNothingElseChanges(t *testing.T) {
	_, v, key := formatted(t, roomy(2))
	for i, k := range []KDF{fastKDF, {Type: PBKDF2, Hash: "sha512", Iterations: 2000}, {Iterations: 4, Memory: 32 << 10, Threads: 1}} {
		_, err := v.AddKey(key, fmt.Append(nil, i), with(KeyOptions{KDF: k}))
		require.NoError(t, err)
	}
	before := map[string]string{}
	for _, n := range v.m.keyslots {
		before[n.key] = string(n.raw)
	}
	require.NoError(t, v.ChangeKey(key, 2, []byte("new"), with(KeyOptions{KDF: fastKDF})))
	require.NoError(t, v.SetPriority(2, PriorityPrefer, RemoveOptions{}))
	require.NoError(t, v.ChangeKey(key, 2, []byte("newer"), with(KeyOptions{KDF: fastKDF})))
	s, _ := v.Header().Slot(2)
	require.Equal(t, PriorityPrefer, s.Priority, "it stays")
	_, err := v.AddToken([]byte(`{"type":"x"}`), []int{1}, TokenOptions{})
	require.NoError(t, err)
	require.NoError(t, v.RemoveKey(2, RemoveOptions{}))
	for _, n := range v.m.keyslots {
		require.Equal(t, before[n.key], string(n.raw))
	}
	require.Len(t, v.m.keyslots, 3)
}

// A TPM's slot becomes one of TPM and PIN in place: same slot, same number of tokens, and the old
// secret opens nothing.
func TestChangeToken(t *testing.T) {
	_, v, key := formatted(t, roomy(2))
	slot, err := v.AddKey(key, []byte("old secret"), with(KeyOptions{KDF: RandomKeyKDF, Token: []byte(`{"type":"systemd-tpm2","tpm2-pin":false}`)}))
	require.NoError(t, err)
	require.NoError(t, v.ChangeKey(key, slot, []byte("new secret"), with(KeyOptions{KDF: RandomKeyKDF, Token: []byte(`{"type":"systemd-tpm2","keyslots":["9"],"tpm2-pin":true}`)})))
	h := v.Header()
	require.Len(t, h.Slots, 2)
	require.Len(t, h.Tokens, 1)
	require.Equal(t, `{"type":"systemd-tpm2","keyslots":["1"],"tpm2-pin":true}`, string(h.Tokens[0].JSON))
	require.True(t, opens(t, v, "new secret", &slot))
	require.False(t, opens(t, v, "old secret", nil))
	require.ErrorIs(t, v.ChangeKey(key, 17, []byte("x"), with(KeyOptions{KDF: fastKDF})), ErrNoSlot)
	require.Error(t, v.ChangeKey(key, 1, []byte("x"), with(KeyOptions{KDF: fastKDF, Slot: &slot})))
}

// All 32 slots and tokens, and not one more.
func TestFull(t *testing.T) {
	o := roomy(2)
	o.HeaderSize = 32 << 10
	_, v, key := formatted(t, o)
	slot31 := 31
	_, err := v.AddKey(key, []byte("31"), with(KeyOptions{KDF: fastKDF, Slot: &slot31}))
	require.NoError(t, err)
	_, err = v.AddKey(key, []byte("31"), with(KeyOptions{KDF: fastKDF, Slot: &slot31}))
	require.ErrorIs(t, err, ErrSlotTaken)
	slot32 := 32
	_, err = v.AddKey(key, []byte("32"), with(KeyOptions{KDF: fastKDF, Slot: &slot32}))
	require.ErrorIs(t, err, ErrNoSlot)
	for i := 1; i < 31; i++ {
		slot, err := v.AddKey(key, fmt.Append(nil, i), with(KeyOptions{KDF: fastKDF}))
		require.NoError(t, err)
		require.Equal(t, i, slot)
	}
	_, err = v.AddKey(key, []byte("more"), with(KeyOptions{KDF: fastKDF}))
	require.ErrorIs(t, err, ErrNoSlot)
	require.ErrorIs(t, v.ChangeKey(key, 3, []byte("x"), with(KeyOptions{KDF: fastKDF})), ErrNoSlot, "a change needs one, and never writes over what it replaces")
	for i := range 32 {
		id, err := v.AddToken([]byte(`{"type":"x"}`), []int{3}, TokenOptions{})
		require.NoError(t, err)
		require.Equal(t, i, id)
	}
	_, err = v.AddToken([]byte(`{"type":"x"}`), nil, TokenOptions{})
	require.ErrorIs(t, err, ErrNoToken)
	require.NoError(t, v.RemoveKey(3, RemoveOptions{}))
	slot, err := v.AddKey(key, []byte("again"), with(KeyOptions{KDF: fastKDF}))
	require.NoError(t, err)
	require.Equal(t, 3, slot)
}

// A token that is too large for the JSON area is an error with both sizes, and nothing is written;
// a larger header has room.
func TestJSONAreaFull(t *testing.T) {
	large := []byte(`{"type":"acme","blob":"` + strings.Repeat("x", 12<<10) + `"}`)
	d, v, key := formatted(t, small(2))
	before := content(t, d)
	_, err := v.AddKey(key, []byte("second"), with(KeyOptions{KDF: fastKDF, Token: large}))
	var full *JSONAreaError
	require.ErrorAs(t, err, &full)
	require.Equal(t, int64(12287), full.Have)
	require.Greater(t, full.Need, full.Have)
	_, err = v.AddToken(large, nil, TokenOptions{})
	require.ErrorAs(t, err, &full)
	require.True(t, bytes.Equal(before, content(t, d)))
	// Exactly full is not too full.
	doc := int64(len(v.Header().JSON))
	const empty = len(`"0":{"type":"a","keyslots":[],"b":""}`)
	exact := []byte(`{"type":"a","b":"` + strings.Repeat("x", int(full.Have-doc)-empty) + `"}`)
	_, err = v.AddToken(append(exact[:len(exact)-2], `x"}`...), nil, TokenOptions{})
	require.ErrorAs(t, err, &full)
	require.Equal(t, full.Have+1, full.Need)
	exact = []byte(`{"type":"a","b":"` + strings.Repeat("x", int(full.Have-doc)-empty) + `"}`)
	_, err = v.AddToken(exact, nil, TokenOptions{})
	require.NoError(t, err)
	_, err = Read(d)
	require.NoError(t, err)

	o := small(2)
	o.HeaderSize = 32 << 10
	_, v, key = formatted(t, o)
	_, err = v.AddKey(key, []byte("second"), with(KeyOptions{KDF: fastKDF, Token: large}))
	require.NoError(t, err)
}

func TestTokenRefused(t *testing.T) {
	_, v, _ := formatted(t, small(2))
	for token, want := range map[string]string{
		"": "ends here", "[]": "an array", `{}`: `"type" is missing`, `{"type":1}`: "want a string", `{"type":""}`: "want a name", `{"type":"luks2-keyring"}`: "reserves",
		`{"type":"a","type":"b"}`: "twice", `{"type":"a"} `: "", "{\"type\":\"a\",\"b\":\"\xff\"}": "UTF-8",
	} {
		_, err := v.AddToken([]byte(token), nil, TokenOptions{})
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want, token)
		}
	}
	_, err := v.AddToken([]byte(`{"type":"a"}`), []int{5}, TokenOptions{})
	require.ErrorIs(t, err, ErrNoSlot)
	_, err = v.AddToken([]byte(`{"type":"a"}`), []int{0, 0}, TokenOptions{})
	require.ErrorContains(t, err, "twice")
}

// Slots are tried by priority and number; those to ignore only when they are named.
func TestPriority(t *testing.T) {
	_, v, key := formatted(t, roomy(2))
	for range 3 {
		_, err := v.AddKey(key, []byte("same"), with(KeyOptions{KDF: fastKDF}))
		require.NoError(t, err)
	}
	opened := func() int {
		k, err := v.Unlock([]byte("same"), UnlockOptions{})
		require.NoError(t, err)
		return k.Slot()
	}
	require.Equal(t, 1, opened())
	require.NoError(t, v.SetPriority(3, PriorityPrefer, RemoveOptions{}))
	require.Equal(t, 3, opened())
	require.NoError(t, v.SetPriority(1, PriorityIgnore, RemoveOptions{}))
	require.NoError(t, v.SetPriority(3, PriorityNormal, RemoveOptions{}))
	require.Equal(t, 2, opened())
	one := 1
	require.True(t, opens(t, v, "same", &one))
	four := 4
	_, err := v.Unlock([]byte("same"), UnlockOptions{Slot: &four})
	require.ErrorIs(t, err, ErrNoSlot)
	require.Error(t, v.SetPriority(1, 5, RemoveOptions{}))
	require.ErrorIs(t, v.SetPriority(9, PriorityNormal, RemoveOptions{}), ErrNoSlot)
}

// A key of one volume is none of another, and one that was cleared is none at all.
func TestWrongKey(t *testing.T) {
	_, _, foreign := formatted(t, small(1))
	_, v, key := formatted(t, small(2))
	for name, k := range map[string]*Key{"foreign": foreign, "none": nil, "empty": {}} {
		_, err := v.AddKey(k, []byte("x"), with(KeyOptions{KDF: fastKDF}))
		require.ErrorIs(t, err, ErrWrongKey, name)
		require.ErrorIs(t, v.ChangeKey(k, 0, []byte("x"), with(KeyOptions{KDF: fastKDF})), ErrWrongKey, name)
		_, err = v.NewReader(k)
		require.ErrorIs(t, err, ErrWrongKey, name)
		_, err = v.NewWriter(k)
		require.ErrorIs(t, err, ErrWrongKey, name)
	}
	_, err := v.VolumeKey(foreign.Bytes())
	require.ErrorIs(t, err, ErrWrongKey)
	_, err = v.VolumeKey(nil)
	require.ErrorIs(t, err, ErrWrongKey)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		require.Equal(t, "luks.Key(slot 0)", fmt.Sprintf(verb, key), verb)
	}
	key.Clear()
	_, err = v.NewReader(key)
	require.ErrorIs(t, err, ErrWrongKey)
}

func TestReadOnly(t *testing.T) {
	d, _, _ := formatted(t, small(1))
	v, err := OpenReader(d)
	require.NoError(t, err)
	key, err := v.Unlock(correctHorse, UnlockOptions{})
	require.NoError(t, err)
	before := content(t, d)
	for name, op := range operations() {
		if !strings.Contains(name, "token") && !strings.Contains(name, "TPM") && !strings.Contains(name, "priority") && name != "remove key" {
			require.ErrorIs(t, op.do(v, key), ErrReadOnly, name)
		}
	}
	require.ErrorIs(t, v.Repair(RepairOptions{}), ErrReadOnly)
	_, err = v.NewWriter(key)
	require.ErrorIs(t, err, ErrReadOnly)
	require.True(t, bytes.Equal(before, content(t, d)))
}

// What a slot may cost is bounded, and what was skipped for it is told.
func TestLimits(t *testing.T) {
	base := mutantBase(t)
	for _, c := range []struct {
		kdf    string
		what   string
		limits Limits
	}{
		{`"kdf":{"type":"argon2id","time":4,"memory":4194305,"cpus":1,"salt"`, "Argon2 memory", Limits{}},
		{`"kdf":{"type":"argon2i","time":4,"memory":4194305,"cpus":1,"salt"`, "Argon2 memory", Limits{}},
		{`"kdf":{"type":"argon2id","time":4294967295,"memory":8,"cpus":1,"salt"`, "Argon2 passes", Limits{}},
		{`"kdf":{"type":"argon2id","time":4,"memory":64,"cpus":1,"salt"`, "Argon2 memory", Limits{Memory: 32 << 10}},
		{`"kdf":{"type":"pbkdf2","hash":"sha256","iterations":134217729,"salt"`, "PBKDF2 iterations", Limits{}},
		{`"kdf":{"type":"pbkdf2","hash":"sha256","iterations":1001,"salt"`, "PBKDF2 iterations", Limits{Iterations: 1000}},
	} {
		v, err := Open(mutant{doc: pattern(`"kdf":\{.*?"salt"`, c.kdf)}.make(t, base))
		require.NoError(t, err)
		_, err = v.Unlock(correctHorse, UnlockOptions{Limits: c.limits})
		require.ErrorIs(t, err, ErrNoKey)
		var limit *LimitError
		require.ErrorAs(t, err, &limit, c.kdf)
		require.Equal(t, c.what, limit.What)
		require.ErrorContains(t, err, "slot 0 was not tried")
	}
	v, err := Open(mutant{doc: replace(`"iterations":1000,"salt"`, `"iterations":4294967295,"salt"`)}.make(t, base))
	require.NoError(t, err)
	var limit *LimitError
	_, err = v.Unlock(correctHorse, UnlockOptions{})
	require.ErrorAs(t, err, &limit)
	// A digest without end is as bad.
	v, err = Open(mutant{doc: pattern(`("segments":\["0"\],"hash":"sha256","iterations":)1000`, `${1}4294967295`)}.make(t, base))
	require.NoError(t, err)
	_, err = v.Unlock(correctHorse, UnlockOptions{})
	require.ErrorAs(t, err, &limit)
	_, err = v.VolumeKey(make([]byte, 64))
	require.ErrorAs(t, err, &limit)
	// Raised limits let more in.
	require.NoError(t, Limits{Memory: 8 << 30, Work: 1 << 40}.check(KDF{Type: Argon2id, Iterations: 1000, Memory: 512 << 20, Threads: 1}))
}

func TestKDFRefused(t *testing.T) {
	_, v, key := formatted(t, small(1))
	for _, k := range []KDF{
		{Type: PBKDF2, Iterations: 999}, {Type: PBKDF2, Iterations: 1000, Hash: "sha1"}, {Type: PBKDF2, Iterations: 1000, Memory: 1024},
		{Type: PBKDF2, Iterations: 1 << 33}, {Type: Argon2i, Iterations: 4, Memory: 1 << 20, Threads: 1}, {Type: "scrypt"},
		{Iterations: 3, Memory: 1 << 20, Threads: 1}, {Iterations: 4, Memory: 31 << 10, Threads: 1}, {Iterations: 4, Memory: 1<<20 + 1, Threads: 1},
		{Iterations: 4, Memory: 8 << 30, Threads: 1}, {Iterations: 4, Memory: 1 << 20, Threads: 0}, {Iterations: 4, Memory: 1 << 20, Threads: 5},
		{Iterations: 4, Memory: 1 << 20, Threads: 1, Hash: "sha256"},
	} {
		_, err := v.AddKey(key, []byte("x"), with(KeyOptions{KDF: k}))
		require.ErrorContains(t, err, "KDF", "%+v", k)
	}
	_, err := v.AddKey(key, []byte("x"), KeyOptions{KDF: fastKDF})
	require.ErrorIs(t, err, ErrNoRandom)
	_, err = v.AddKey(key, nil, with(KeyOptions{KDF: fastKDF}))
	require.ErrorIs(t, err, ErrEmptyPassphrase)
	_, err = v.AddKey(key, make([]byte, 8<<20+1), with(KeyOptions{KDF: fastKDF}))
	require.ErrorContains(t, err, "at most 8388608")
	_, err = v.AddKey(key, []byte("x"), KeyOptions{KDF: fastKDF, Rand: strings.NewReader("too short")})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = v.AddKey(key, []byte("x"), with(KeyOptions{KDF: fastKDF, Limits: Limits{Iterations: 500}}))
	var limit *LimitError
	require.ErrorAs(t, err, &limit)
	k, err := KDF{}.forNew()
	require.NoError(t, err)
	require.Equal(t, DefaultKDF, k)
	_, err = DefaultKDF.forNew()
	require.NoError(t, err)
	_, err = RandomKeyKDF.forNew()
	require.NoError(t, err)
}

func TestMeasure(t *testing.T) {
	k, err := MeasureArgon2id(20*time.Millisecond, 16<<20, 2)
	require.NoError(t, err)
	_, err = k.forNew()
	require.NoError(t, err)
	require.LessOrEqual(t, k.Memory, int64(16<<20))
	k, err = MeasureArgon2id(30*time.Millisecond, 64<<10, 1)
	require.NoError(t, err)
	require.Equal(t, int64(64<<10), k.Memory)
	require.Greater(t, k.Iterations, int64(4), "there is no more memory to use")
	for _, bad := range []func() (KDF, error){
		func() (KDF, error) { return MeasureArgon2id(0, 1<<20, 1) },
		func() (KDF, error) { return MeasureArgon2id(time.Second, 1<<10, 1) },
		func() (KDF, error) { return MeasureArgon2id(time.Second, 1<<20, 9) },
	} {
		_, err := bad()
		require.ErrorContains(t, err, "luks: ")
	}
}

func TestRecoveryKey(t *testing.T) {
	text, err := NewRecoveryKey(bytes.NewReader(append([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}, make([]byte, 24)...)))
	require.NoError(t, err)
	require.Equal(t, "cbdefghi-jklnrtuv"+strings.Repeat("-cccccccc", 6), text)
	require.Len(t, text, 71)
	for _, typed := range []string{text, strings.ToUpper(text), strings.ReplaceAll(text, "-", ""), strings.ToUpper(strings.ReplaceAll(text, "-", ""))} {
		got, ok := ParseRecoveryKey(typed)
		require.True(t, ok, typed)
		require.Equal(t, text, got)
	}
	for _, typed := range []string{"", "-", text + "-", "-" + text, text[1:], text + "c", strings.Replace(text, "-", "--", 1), strings.Replace(text, "-", "", 1),
		strings.Replace(text, "c", "a", 1), strings.Replace(text, "cbdefghi-", "cbdefgh-i", 1), text + "\n", " " + text} {
		_, ok := ParseRecoveryKey(typed)
		require.False(t, ok, "%q", typed)
	}
	_, err = NewRecoveryKey(nil)
	require.ErrorIs(t, err, ErrNoRandom)
	_, err = NewRecoveryKey(strings.NewReader("short"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	_, v, key := formatted(t, small(2))
	shown, slot, err := v.AddRecoveryKey(key, KeyOptions{Rand: random(3)})
	require.NoError(t, err)
	require.True(t, opens(t, v, shown, &slot))
	h := v.Header()
	s, _ := h.Slot(slot)
	require.Equal(t, RandomKeyKDF, s.KDF)
	require.Equal(t, "sha512", s.AFHash)
	require.JSONEq(t, `{"type":"systemd-recovery","keyslots":["1"]}`, string(h.Tokens[0].JSON))
	_, _, err = v.AddRecoveryKey(key, KeyOptions{Rand: random(3), Token: []byte(`{}`)})
	require.Error(t, err)
}

// The key is in the order of random bytes the same, and so is the volume.
func TestDeterministic(t *testing.T) {
	var images [][]byte
	for range 2 {
		d, v, key := formatted(t, small(4))
		_, _, err := v.AddRecoveryKey(key, KeyOptions{Rand: random(5)})
		require.NoError(t, err)
		images = append(images, content(t, d))
	}
	require.True(t, bytes.Equal(images[0], images[1]))
	other, _, _ := formatted(t, small(5))
	require.False(t, bytes.Equal(content(t, other), images[0]))
}

// The header that Volume.Header returns is the caller's, and changes nothing here.
func TestHeaderIsACopy(t *testing.T) {
	_, v, key := formatted(t, small(4))
	h := v.Header()
	h.Slots[0].KDF.Iterations = 1
	h.Digests[0].digest = nil
	clear(h.JSON)
	require.True(t, opens(t, v, "correct horse", nil))
	_, err := v.AddKey(key, []byte("second"), with(KeyOptions{KDF: fastKDF}))
	require.NoError(t, err)
	require.True(t, json.Valid(v.Header().JSON))
}
