package tpm

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// effects are the effects that are not EffectNone, by PCR.
func effects(t *testing.T, before, next []Boot) (map[int]Effect, *Changes) {
	t.Helper()
	a, err := PredictAll(before...)
	require.NoError(t, err)
	b, err := PredictAll(next...)
	require.NoError(t, err)
	c, err := CompareBoots(a, b)
	require.NoError(t, err)
	require.Len(t, c.PCRs, 16)
	out := map[int]Effect{}
	for n, p := range c.PCRs {
		require.Equal(t, n, p.PCR)
		require.Equal(t, p.Effect == EffectUnknown, p.Note != "", p)
		if p.Effect != EffectNone {
			out[n] = p.Effect
		}
	}
	return out, c
}

func TestCompareBoots(t *testing.T) {
	firmware, err := ParseLog(bootVectors(t)[2].log)
	require.NoError(t, err)
	b := wholeBoot(t, bootVectors(t)[0], firmware)
	imaOnly := map[int]Effect{PCRIMA: EffectUnknown}
	got, c := effects(t, []Boot{b}, []Boot{b})
	require.Equal(t, imaOnly, got)
	require.Empty(t, c.Causes)
	require.Equal(t, "PCR 10: not known: the kernel's IMA", c.PCRs[10].String())
	require.Equal(t, "PCR 4: none", c.PCRs[4].String())

	next := b
	next.UKI.Digests = map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("another"))}
	next.Sections = append([]osmith.Measurement{}, b.Sections...)
	next.Sections[0].Digests = next.UKI.Digests
	got, c = effects(t, []Boot{b}, []Boot{next})
	require.Equal(t, map[int]Effect{4: EffectChanges, PCRIMA: EffectUnknown, 11: EffectChanges}, got)
	require.NotEmpty(t, c.Causes)

	// Either of two may boot next: what both of them leave is known, the rest may change.
	got, _ = effects(t, []Boot{b}, []Boot{b, next})
	require.Equal(t, map[int]Effect{4: EffectMay, PCRIMA: EffectUnknown, 11: EffectMay}, got)
	got, _ = effects(t, []Boot{b, next}, []Boot{b})
	require.Equal(t, map[int]Effect{4: EffectMay, PCRIMA: EffectUnknown, 11: EffectMay}, got)

	// What is not known of the next boot is not the same.
	next = b
	next.GPT, next.Firmware = nil, nil
	got, c = effects(t, []Boot{b}, []Boot{next})
	for _, n := range []int{0, 1, 2, 3, 5, 6} {
		require.Equal(t, EffectUnknown, got[n], n)
	}
	require.Contains(t, c.PCRs[5].Note, "partition table")

	_, err = CompareBoots(nil, Alternatives{{}})
	require.ErrorContains(t, err, "no boots to compare")
	_, err = CompareBoots(Alternatives{{}}, nil)
	require.ErrorContains(t, err, "no boots to compare")
	_, err = CompareBoots(Alternatives{{}}, Alternatives{{}})
	require.ErrorIs(t, err, ErrBank)
	require.Equal(t, "changes", EffectChanges.String())
	require.Equal(t, "may change", EffectMay.String())
	require.Equal(t, "not known", Effect(0).String())
}
