package tpm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// measure hashes section contents for all banks, as package uki does.
func measure(sections ...string) []osmith.Measurement {
	var ms []osmith.Measurement
	for i := 0; i < len(sections); i += 2 {
		data := []byte(sections[i+1])
		m := osmith.Measurement{Section: sections[i], Size: int64(len(data)), Digests: make(map[crypto.Hash][]byte)}
		for _, h := range Banks() {
			m.Digests[h] = pcrbank.Sum(h, data)
		}
		ms = append(ms, m)
	}
	return ms
}

// golden are the sections of the golden vectors below.
func golden() []osmith.Measurement {
	return measure(".linux", "kernel", ".osrel", "ID=test\nVERSION_ID=1\n", ".cmdline", "quiet ro", ".initrd", "\x00\x00\x00")
}

// Made with systemd-measure 262 (Debian forky) `calculate --linux= --osrel= --cmdline= --initrd=
// --bank= --phase=`.
func TestPCR11Golden(t *testing.T) {
	for _, c := range []struct {
		bank  crypto.Hash
		path  string
		value string
	}{
		{crypto.SHA256, "", "fb4dd6f2bdfbc05d84696032fe26c4676a69437887306463f6179ef930b55d8c"},
		{crypto.SHA256, "enter-initrd", "c4c1982ae36e0f8f758f5cf2b25ffe7f33c23af1ef8d20e4f08f361cf4588922"},
		{crypto.SHA256, "enter-initrd:leave-initrd:sysinit:ready", "54a3d945c75dd58757ebe365a6f25d858d6f8604bbb2b6feb19fe8cfd18b02a3"},
		{crypto.SHA384, "", "65779a341a64c59a661c64a6e109f7364f26b742a14a0febe5a6a4ea9245f83fa6d9dda02a35ccf95a84a054dd631288"},
		{crypto.SHA384, "enter-initrd", "828da8305e4d1e259e4676ab6f88b0da013a67cdc21c8a1aa37da811780e763dd007c057d3efa7d58fb2019a500242b5"},
		{crypto.SHA384, "enter-initrd:leave-initrd:sysinit:ready", "0d80482cb0cf917d8f6a40bf3f64a68e11deb125634bcaabc1754acbc8ddea674bfd0e2db372359a10fbf2c323b70259"},
	} {
		got, err := PCR11(c.bank, golden(), words(c.path)...)
		require.NoError(t, err)
		assert.Equal(t, c.value, hexOf(got), "%v %q", c.bank, c.path)
	}
}

// words splits a phase path as systemd-measure does.
func words(path string) []string {
	if path == "" || path == ":" {
		return nil
	}
	return strings.Split(path, ":")
}

// The stub skips .pcrsig and empty sections.
func TestPCR11Skips(t *testing.T) {
	want, err := PCR11(crypto.SHA512, golden())
	require.NoError(t, err)
	ms := append(golden(), osmith.Measurement{Section: ".dtb"}, osmith.Measurement{Section: ".dtb"})
	ms = append(ms, measure(".uname", "", ".pcrsig", "{}", ".pcrsig", "{}")...)
	got, err := PCR11(crypto.SHA512, ms)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

func TestPCR11Errors(t *testing.T) {
	for _, c := range []struct {
		name   string
		bank   crypto.Hash
		ms     []osmith.Measurement
		phases []string
		want   string
	}{
		{"not a bank", crypto.SHA512_256, golden(), nil, "not a PCR bank"},
		{"twice", crypto.SHA256, measure(".osrel", "a", ".osrel", "b"), nil, "section .osrel is given twice: the stub measures only one"},
		{"order of the file", crypto.SHA256, measure(".osrel", "a", ".linux", "b"), nil, "section .linux: comes after .osrel, but the stub measures it before"},
		{"no digest", crypto.SHA256, []osmith.Measurement{{Section: ".linux", Size: 1}}, nil, "section .linux: no sha256 digest"},
		{"short digest", crypto.SHA256, []osmith.Measurement{{Section: ".linux", Size: 1, Digests: map[crypto.Hash][]byte{crypto.SHA256: {1}}}}, nil, "a digest of 1 bytes, want 32"},
		{"no dot", crypto.SHA256, measure("linux", "k"), nil, `section "linux"`},
		{"long name", crypto.SHA256, measure(".linux890", "k"), nil, `section ".linux890"`},
		{"NUL", crypto.SHA256, measure(".lin\x00", "k"), nil, "want a dot"},
		{"negative", crypto.SHA256, []osmith.Measurement{{Section: ".linux", Size: -1}}, nil, "size -1"},
		{"empty phase", crypto.SHA256, golden(), []string{""}, `phase ""`},
		{"phase path", crypto.SHA256, golden(), []string{"a:b"}, `phase "a:b"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := PCR11(c.bank, c.ms, c.phases...)
			require.ErrorContains(t, err, c.want)
			assert.Nil(t, got)
		})
	}
}

func TestBank(t *testing.T) {
	b := NewBank(crypto.SHA256)
	assert.Equal(t, crypto.SHA256, b.Hash())
	assert.Equal(t, strings.Repeat("00", 32), hexOf(b.PCR(0)))
	assert.Equal(t, strings.Repeat("ff", 32), hexOf(b.PCR(17)))
	assert.Equal(t, strings.Repeat("00", 32), hexOf(b.PCR(23)))
	assert.Nil(t, b.PCR(24))
	assert.Nil(t, b.PCR(-1))
	require.NoError(t, b.Measure(4, []byte("x")))
	other := NewBank(crypto.SHA256)
	require.NoError(t, other.Extend(4, pcrbank.Sum(crypto.SHA256, []byte("x"))))
	assert.Equal(t, b.Values(), other.Values())
	assert.Len(t, b.Values(), PCRCount)
	assert.Len(t, b.Values(4, 7, 99), 2)
	b.PCR(4)[0] ^= 1 // a copy
	assert.Equal(t, b.Values(), other.Values())

	assert.ErrorContains(t, b.Extend(24, make([]byte, 32)), "PCR 24: want 0 to 23")
	assert.ErrorContains(t, b.Extend(0, make([]byte, 20)), "a digest of 20 bytes, want 32 for sha256")
	none := NewBank(crypto.MD5)
	assert.ErrorIs(t, none.Extend(0, nil), ErrBank)
	assert.ErrorIs(t, none.Measure(0, nil), ErrBank)
	assert.Nil(t, none.PCR(0))
}

func TestBankNames(t *testing.T) {
	for _, h := range Banks() {
		got, err := BankByName(strings.ToUpper(BankName(h)))
		require.NoError(t, err)
		assert.Equal(t, h, got)
	}
	_, err := BankByName("md5")
	assert.EqualError(t, err, `tpm: bank "md5": want sha1, sha256, sha384 or sha512`)
	assert.Equal(t, "MD5", BankName(crypto.MD5))
}

// testKey is made once; its signatures are only compared with each other.
var testKey = func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}()

// The .pcrsig sections of real UKIs: our policies over their measurements are theirs, their
// signatures are valid, and our writer gives their bytes.
func TestSignaturesRealUKIs(t *testing.T) {
	for _, v := range bootVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			key := vectorKey(t)
			sigs, err := policy.ParseSignatures(v.pcrsig)
			require.NoError(t, err)
			require.NotEmpty(t, sigs)
			for _, s := range sigs {
				assert.NoError(t, s.Verify(key))
			}
			raw, err := sigs.MarshalJSON()
			require.NoError(t, err)
			assert.Equal(t, string(v.pcrsig), string(raw))

			states, err := PCR11States(v.boot.Sections, []crypto.Hash{crypto.SHA256}, nil)
			require.NoError(t, err)
			policies, err := policy.Prepare(key, states, "")
			require.NoError(t, err)
			require.Len(t, policies, len(sigs))
			values := make([][]byte, len(sigs))
			for i := range sigs {
				assert.Equal(t, sigs[i].PCRPolicy, policies[i])
				found, ok := sigs.Find(policies[i])
				assert.True(t, ok)
				values[i] = found.Value
			}
			joined, err := policies.Join(key, values)
			require.NoError(t, err)
			assert.Equal(t, sigs, joined)
		})
	}
}

// systemd-measure sorts phase paths by their text and drops repetitions; ":" is the moment after
// the stub.
func TestPCR11States(t *testing.T) {
	paths := [][]string{{"sysinit", "b"}, nil, {"a", "c"}, {"a"}, {"a", "c"}, {}}
	got, err := PCR11States(golden(), []crypto.Hash{crypto.SHA512, crypto.SHA384}, paths)
	require.NoError(t, err)
	require.Len(t, got, 4)
	for i, path := range [][]string{nil, {"a"}, {"a", "c"}, {"sysinit", "b"}} {
		require.Len(t, got[i], 2)
		for _, h := range []crypto.Hash{crypto.SHA384, crypto.SHA512} {
			want, err := PCR11(h, golden(), path...)
			require.NoError(t, err)
			assert.Equal(t, map[int][]byte{11: want}, got[i][h])
		}
	}
	got, err = PCR11States(golden(), nil, nil)
	require.NoError(t, err)
	assert.Len(t, got, len(DefaultPhasePaths()))
	assert.Len(t, got[0], len(Banks()))
	_, err = PCR11States(golden(), nil, [][]string{})
	assert.EqualError(t, err, "tpm: PCR 11: no banks or no phase paths")
	_, err = PCR11States(golden(), nil, [][]string{{"a:b"}})
	assert.ErrorContains(t, err, `phase "a:b"`)
	_, err = PCR11States(golden(), []crypto.Hash{crypto.MD5}, nil)
	assert.ErrorIs(t, err, ErrBank)
}
