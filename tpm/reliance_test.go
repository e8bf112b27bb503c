package tpm

import (
	"bytes"
	"crypto"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// marks is a word for a machine: a letter for each of PCRs 0 to 15: n(ot), s(ame), p(redicted).
func marks(t *testing.T, l *Log) (string, []PCRReliance) {
	t.Helper()
	all, err := l.Reliances()
	require.NoError(t, err)
	require.Len(t, all, 16)
	var word strings.Builder
	for n, r := range all {
		require.Equal(t, n, r.PCR)
		require.NotEmpty(t, r.Note)
		word.WriteByte(map[Reliance]byte{RelianceNone: 'n', RelianceSame: 's', ReliancePredicted: 'p'}[r.Reliance])
	}
	return word.String(), all
}

func TestReliances(t *testing.T) {
	for name, want := range map[string]string{
		"boot/a-sb-sdboot-262/binary_bios_measurements": "ssssppsppp" + "n" + "ppppp",
		"boot/b-setupmode-262/binary_bios_measurements": "ssssppsppp" + "n" + "ppppp",
		"chains/s1-shim-sdboot.bin":                     "ssssppsppp" + "n" + "ppppp",
		"chains/s3-shim-grub.bin":                       "ssssppspss" + "n" + "ppppp",
		"chains/u12-2026.10rc2-preseed-secureboot.bin":  "ssssppsppp" + "n" + "ppppp",
		"chains/u30-2025.01-uki-direct.bin":             "ssssppsppp" + "n" + "ppppp",
		"chains/no-secureboot-variable.bin":             "ssssppsppp" + "n" + "ppppp",
		// firmware measured neither program nor partition table
		"machines/event-sd-boot-fedora37.bin": "ssssnnsnpp" + "n" + "ppppp",
		// no boot was tried, as the log has it
		"machines/windows_gcp_shielded_vm.bin": "nnnnnnnnpn" + "n" + "nnnnp",
		"machines/p511.bin":                    "ssssppsppn" + "n" + "nnnnp", // Windows
		"machines/linux_tpm12.bin":             "ssssppsppn" + "n" + "ppppp",
		"eventlogs/debian-10.bin":              "ssssppsppn" + "n" + "ppppp",
	} {
		l, err := ParseLog(read(t, "testdata/"+name))
		require.NoError(t, err)
		got, all := marks(t, l)
		require.Equal(t, want, got, "%s: %v", name, all)
	}
	l, err := ParseLog(read(t, "testdata/machines/linux_tpm12.bin"))
	require.NoError(t, err)
	_, all := marks(t, l)
	require.Contains(t, all[5].Note, "boot variables, partition table")
	require.NotContains(t, all[1].Note, "boot variables")
	require.Equal(t, `PCR 4: predicted: the programs of the chain: \EFI\debian\grubx64.efi; programs behind the separator, as on edk2`, all[4].String())
	l, err = ParseLog(read(t, "testdata/chains/u12-2026.10rc2-preseed-secureboot.bin"))
	require.NoError(t, err)
	_, all = marks(t, l)
	require.Contains(t, all[4].Note, "in front of the separator")
	require.Contains(t, all[7].Note, "measures nothing of what lets programs start")

	_, err = (&Log{}).Reliances()
	require.ErrorIs(t, err, ErrBank)
}

// What is not understood is not relied on.
func TestReliancesNot(t *testing.T) {
	raw := read(t, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	other := map[crypto.Hash][]byte{crypto.SHA256: make([]byte, 32)}
	at := func(l *Log, pcr int, k SubjectKind) int {
		return slices.IndexFunc(l.Events, func(e Event) bool { return e.PCR == pcr && e.Subject.Kind == k })
	}
	for name, c := range map[string]struct {
		change func(l *Log)
		want   string
	}{
		"a boot variable hashed otherwise":   {func(l *Log) { l.Events[at(l, 1, SubjectBootVariable)].Digests = other }, "snssppsppp" + "n" + "ppppp"},
		"a partition table hashed otherwise": {func(l *Log) { l.Events[at(l, 5, SubjectGPT)].Digests = other }, "ssssp" + "nsppp" + "n" + "ppppp"},
		"an event more in PCR 7 at the end":  {func(l *Log) { l.Events = append(l.Events, Event{PCR: 7, Type: EventEFIAction, Digests: other}) }, "ssssppsnpp" + "n" + "ppppp"},
		"an action between the programs": {func(l *Log) {
			l.Events = slices.Insert(l.Events, at(l, 4, SubjectUKI), Event{PCR: 4, Type: EventEFIAction, Digests: other})
		}, "ssss" + "npsppp" + "n" + "ppppp"},
		"an error of firmware": {func(l *Log) {
			l.Events[at(l, 2, SubjectSeparator)].Digests = map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte{1, 0, 0, 0})}
		}, "ssnsppsppp" + "n" + "ppppp"},
		"no partition table":       {func(l *Log) { l.Events = slices.Delete(l.Events, at(l, 5, SubjectGPT), at(l, 5, SubjectGPT)+1) }, "ssssp" + "nsppp" + "n" + "ppppp"},
		"no initrd":                {func(l *Log) { l.Events = slices.Delete(l.Events, at(l, 9, SubjectInitrd), at(l, 9, SubjectInitrd)+1) }, "ssssppsppn" + "n" + "ppppp"},
		"something else in PCR 14": {func(l *Log) { l.Events = append(l.Events, Event{PCR: 14, Type: EventIPL, Digests: other}) }, "ssssppsppp" + "n" + "pppnp"},
		"something else in PCR 11": {func(l *Log) { l.Events = append(l.Events, Event{PCR: 11, Type: EventCompactHash, Digests: other}) }, "ssssppsppp" + "n" + "nnnnp"},
	} {
		l, err := ParseLog(raw)
		require.NoError(t, err)
		c.change(l)
		got, all := marks(t, l)
		require.Equal(t, c.want, got, "%s: %v", name, all)
	}
}

func FuzzReliances(f *testing.F) {
	for _, name := range []string{"boot/a-sb-sdboot-262/binary_bios_measurements", "chains/s3-shim-grub.bin", "chains/u30-2025.01-uki-direct.bin", "machines/linux_tpm12.bin"} {
		f.Add(read(f, "testdata/"+name))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := ParseLog(bytes.Clone(raw))
		if err != nil {
			return
		}
		all, err := l.Reliances()
		require.Equal(t, err == nil, len(all) == 16)
	})
}
