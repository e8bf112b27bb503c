package report

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func sample() *Report {
	log := make([]byte, 5000)
	x := uint32(1)
	for i := range log {
		x = x*1664525 + 1013904223
		log[i] = byte(x >> 24)
	}
	return &Report{
		Version: "2", Cmdline: "roothash=00 console=ttyS0", Kernel: "7.2",
		PCRs:      PCRs{"sha256": {bytes.Repeat([]byte{1}, 32)}},
		EventLog:  log,
		Variables: map[string][]byte{"LoaderInfo": {'s', 0, 'd', 0, 0, 0}, "SecureBoot": {1}},
		Verity:    &Verity{Target: "verity", Status: "V"},
		Bless:     Bless{Result: Blessed, From: "EFI/Linux/a+2-1.efi", To: "EFI/Linux/a.efi"},
	}
}

func TestRoundTripThroughNoise(t *testing.T) {
	lines, err := Encode(sample())
	require.NoError(t, err)
	require.Greater(t, len(lines), 20)
	var noisy strings.Builder
	noisy.WriteString("BdsDxe: starting\x1b[2J" + Begin + "\nOSMITH:00000:AAAA:00000000\n")
	for i, l := range lines {
		require.Less(t, len(l), 128)
		if i%3 == 0 {
			noisy.WriteString("[    1.234] a kernel message\r\n[    1.2] and half of one ")
		}
		noisy.WriteString(strings.ReplaceAll(l, "\n", "\r\n"))
	}
	noisy.WriteString("[  2.0] reboot: Power down\n")
	got, err := Decode(noisy.String())
	require.NoError(t, err)
	require.Equal(t, sample(), got)
	require.True(t, got.SecureBoot())
	require.False(t, got.SetupMode())
	require.Equal(t, "sd", got.Variable("LoaderInfo"))
	require.Empty(t, got.Variable("LoaderEntrySelected"))
}

func TestDamage(t *testing.T) {
	lines, err := Encode(sample())
	require.NoError(t, err)
	whole := strings.Join(lines, "")
	tests := map[string]struct{ serial, want string }{
		"nothing":      {"BdsDxe: failed to load", "no report"},
		"no end":       {strings.Join(lines[:len(lines)-1], ""), "does not end"},
		"line missing": {strings.Join(append(append([]string{}, lines[:4]...), lines[5:]...), ""), "line 3 of"},
		"byte changed": {strings.Replace(whole, lines[3][13:20], "AAAAAAA", 1), "line 2 of"},
		"split by log": {strings.Replace(whole, lines[3][13:20], "[ 1.0] oops\n", 1), "line 2 of"},
		"wrong sum":    {strings.Replace(whole, lines[len(lines)-1], End+lines[len(lines)-1][len(End):len(End)+7]+"00000000\n", 1), "checksum"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := Decode(tt.serial)
			require.Nil(t, r)
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err = Decode("")
	require.True(t, errors.Is(err, ErrNone))
}

func TestFailure(t *testing.T) {
	reason, ok := Failure("x\r\n" + Fail + " verity: no partition\r\n[ 1.0] reboot\n")
	require.True(t, ok)
	require.Equal(t, "verity: no partition", reason)
	_, ok = Failure("fine")
	require.False(t, ok)
}

func FuzzDecode(f *testing.F) {
	lines, err := Encode(sample())
	require.NoError(f, err)
	f.Add(strings.Join(lines, ""))
	f.Add(Begin + End + " 99999 00000000")
	f.Fuzz(func(t *testing.T, serial string) {
		r, err := Decode(serial)
		if (r == nil) != (err != nil) {
			t.Fatalf("report %v with error %v", r, err)
		}
	})
}
