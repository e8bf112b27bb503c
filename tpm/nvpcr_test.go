package tpm

import (
	"bytes"
	"crypto"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// recordedNVPCR is what systemd-analyze read from the TPM.
type recordedNVPCR struct {
	Name  string `json:"name"`
	Index uint32 `json:"nvindex"`
	Value string `json:"value"`
}

func recordedNVPCRs(t testing.TB, boot string) (out []recordedNVPCR) {
	t.Helper()
	for _, line := range bytes.Split(read(t, "testdata/mkosi", boot, "nvpcrs"), []byte{'\n'}) {
		if bytes.HasPrefix(line, []byte{'['}) {
			require.NoError(t, json.Unmarshal(line, &out))
		}
	}
	require.Len(t, out, 4)
	return out
}

// What the log says leads to the values that the TPM had, the login NvPCR, which nothing extended,
// among them.
func TestNVPCRsOfLog(t *testing.T) {
	for _, boot := range []string{"b1", "b2"} {
		got := mkosiUserspace(t, boot).NVPCRs()
		want := recordedNVPCRs(t, boot)
		require.Len(t, got, len(want))
		for i, n := range got {
			assert.Equal(t, want[i].Name, n.Name)
			assert.Equal(t, want[i].Index, n.Index)
			bank, ok := n.Bank()
			require.True(t, ok)
			require.Equal(t, crypto.SHA256, bank)
			value, err := n.Value(bank, nil)
			require.NoError(t, err)
			assert.Equal(t, want[i].Value, hexOf(value), n.Name)
		}
		assert.Equal(t, []Word{}, got[3].Words)
		assert.Equal(t, "login", got[3].Name)
	}
}

// The NvPCRs of a boot from the log of the other, and from words: the verity word from the root
// hash on the command line.
func TestNVPCRsOfBoot(t *testing.T) {
	usr := unhex(t, "385048b825adefa3480635865a88d48107b5f26a7d39783b8bc27aff3883ca0e")
	luks := "980ca3f9-933c-4ce7-8032-ba95ef3636b2"
	ready := []string{PhaseEnterInitrd, PhaseLeaveInitrd, PhaseSysinit, PhaseReady}
	earlier := mkosiUserspace(t, "b1")
	values := func(b Boot) map[string]string {
		list, err := b.NVPCRs()
		require.NoError(t, err)
		out := map[string]string{}
		for _, n := range list {
			v, err := n.Value(crypto.SHA256, nil)
			if err != nil {
				require.ErrorIs(t, err, ErrNVPCRUnknown)
				require.EqualError(t, err, "tpm: NvPCR "+n.Name+": what extends it is unknown")
			}
			require.NotContains(t, out, n.Name)
			out[n.Name] = hexOf(v)
		}
		return out
	}
	want := map[string]string{}
	for _, n := range recordedNVPCRs(t, "b2") {
		want[n.Name] = n.Value
	}
	b := Boot{Phases: ready, Userspace: &Userspace{Earlier: earlier}}
	assert.Equal(t, want, values(b))
	b.Userspace.NVWords = map[string][]Word{"verity": {{Text: VerityWord("usr", usr)}}, "cryptsetup": {{Text: KeyslotWord("root", luks, "tpm2", 0)}}}
	assert.Equal(t, want, values(b))

	words := wordsOf(t, earlier, ready)
	words.NVWords = map[string][]Word{
		"verity": {{Text: VerityWord("usr", usr)}}, "cryptsetup": {{Text: KeyslotWord("root", luks, "tpm2", 0)}}, "hardware": {{Text: "product-id:missing"}}, "login": {},
	}
	b.Userspace = words
	assert.Equal(t, want, values(b))
	fromWords, err := b.NVPCRs()
	require.NoError(t, err)
	fromLog := earlier.NVPCRs()
	require.Len(t, fromWords, len(fromLog))
	for i, n := range fromWords {
		assert.Equal(t, fromLog[i].Index, n.Index)
		assert.Equal(t, fromLog[i].IndexName, n.IndexName)
	}
	delete(words.NVWords, "login")
	unknown := values(b)
	assert.Empty(t, unknown["login"], "nothing is said of it")
	assert.Equal(t, want["verity"], unknown["verity"])

	// Another image has another root hash. At leave-initrd the hardware NvPCR is initialised, and
	// not yet extended.
	other := map[string][]Word{"verity": {{Text: VerityWord("usr", make([]byte, 32))}}, "hardware": {{Text: "product-id:x"}}, "more": {{Text: "x"}}}
	b = Boot{Phases: ready[:2], Userspace: &Userspace{Earlier: earlier, NVWords: other}}
	got := values(b)
	zero := make([]byte, 32)
	start := pcrbank.Sum(crypto.SHA256, zero, zero)
	assert.Equal(t, hexOf(pcrbank.Sum(crypto.SHA256, start, pcrbank.Sum(crypto.SHA256, []byte(VerityWord("usr", zero))))), got["verity"])
	assert.Equal(t, hexOf(start), got["hardware"])
	assert.Equal(t, hexOf(start), got["login"])
	assert.Equal(t, hexOf(pcrbank.Sum(crypto.SHA256, start, pcrbank.Sum(crypto.SHA256, []byte("x")))), got["more"])
	b.Phases = ready
	assert.NotEqual(t, hexOf(start), values(b)["hardware"])
	b.Phases = ready[:1]
	assert.NotContains(t, values(b), "verity", "not initialised at that moment, in the order of that boot")

	b = Boot{Phases: ready, Userspace: &Userspace{Earlier: earlier, NVWords: map[string][]Word{"verity": nil}}}
	assert.Empty(t, values(b)["verity"], "said to be unknown, whatever the earlier image measured")

	for want, bad := range map[string]Boot{
		"tpm: NvPCR x: an empty word":                    {Phases: ready, Userspace: &Userspace{NVWords: map[string][]Word{"x": {{}}}}},
		"tpm: userspace: the earlier log has the phases": {Phases: []string{"x"}, Userspace: &Userspace{Earlier: earlier}},
	} {
		_, err := bad.NVPCRs()
		require.ErrorContains(t, err, want)
	}
	none, err := (&Boot{Phases: ready}).NVPCRs()
	require.NoError(t, err)
	assert.Empty(t, none)
}

func TestNVPCRValue(t *testing.T) {
	digest := pcrbank.Sum(crypto.SHA256, []byte("x"))
	in := "\x1e" + `{"nv_index":30474752,"digests":[{"hashAlg":"sha256","digest":"` + hexOf(digest) + `"}],"content":{"nvIndexName":"hardware","string":"x"}}` + "\n"
	u, err := ParseUserspaceLog([]byte(in + in))
	require.NoError(t, err)
	assert.Equal(t, "hardware", u.Records[0].NVName)
	assert.Empty(t, u.Events())
	list := u.NVPCRs()
	require.Len(t, list, 1)
	n := list[0]
	assert.Equal(t, uint32(0x1d10200), n.Index)
	require.Len(t, n.Words, 2)
	n.Words = n.Words[:1]
	_, ok := n.Bank()
	assert.False(t, ok)
	zero := make([]byte, 32)
	got, err := n.Value(crypto.SHA256, nil)
	require.NoError(t, err)
	assert.Equal(t, pcrbank.Sum(crypto.SHA256, pcrbank.Sum(crypto.SHA256, zero, zero), digest), got)
	got, err = n.Value(crypto.SHA256, zero)
	require.NoError(t, err)
	assert.Equal(t, pcrbank.Sum(crypto.SHA256, zero, digest), got)
	_, err = n.Value(crypto.SHA256, zero[1:])
	require.EqualError(t, err, "tpm: NvPCR hardware: a start of 31 bytes, want 32 for sha256")
	_, err = n.Value(crypto.MD5, nil)
	require.Error(t, err)
	n.Words[0] = Word{Text: "cryptsetup:x"}
	_, err = n.Value(crypto.SHA256, nil)
	require.ErrorIs(t, err, ErrBank)
	require.EqualError(t, err, `tpm: NvPCR hardware: "cryptsetup:x": no sha256 digest: `+ErrBank.Error())
	n.Words[0] = Word{Text: "x"}
	n.IndexName = append([]byte{0, 0xc}, make([]byte, 48)...)
	_, err = n.Value(crypto.SHA256, nil)
	require.ErrorIs(t, err, ErrBank)
	_, err = n.Value(crypto.SHA384, nil)
	require.NoError(t, err)
	for _, name := range [][]byte{{}, {0}, {0, 0xb}, append([]byte{0xff, 0xff}, make([]byte, 32)...)} {
		n.IndexName = name
		_, ok := n.Bank()
		assert.False(t, ok)
		_, err = n.Value(crypto.SHA256, nil)
		require.ErrorIs(t, err, ErrBank)
	}
}

func TestInitialised(t *testing.T) {
	n, ok := initialised("nvpcr-init:verity:0x1d10202:000bff")
	require.True(t, ok)
	assert.Equal(t, NVPCR{Name: "verity", Index: 0x1d10202, IndexName: []byte{0, 0xb, 0xff}}, n)
	for _, bad := range []string{"", "verity:0x1:00", "nvpcr-init:x:0x1", "nvpcr-init:x:0x1:00:1", "nvpcr-init:x:1:00", "nvpcr-init:x:0x100000000:00", "nvpcr-init:x:0x1:0", "nvpcr-init:x:0x1:"} {
		_, ok := initialised(bad)
		assert.False(t, ok, bad)
	}
	twice := Record{PCR: 9, Word: "nvpcr-init:verity:0x1d10202:000bff"}
	assert.Len(t, nvpcrsOf([]Record{twice, twice, {PCR: 11, Word: twice.Word}, {PCR: 9, Word: "x"}}), 1)
}
