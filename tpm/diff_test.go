package tpm

import (
	"bytes"
	"crypto"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// of lists the events that extend a PCR.
func (l *Log) of(pcr int) []*Event {
	var es []*Event
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR == pcr && e.extends() {
			es = append(es, e)
		}
	}
	return es
}

func isImage(t EventType) bool {
	return t == EventEFIBootServicesApplication || t == EventEFIBootServicesDriver || t == EventEFIRuntimeServicesDriver
}

// lines are differences as text.
func lines(ds []Difference) string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.String() + "\n")
	}
	return b.String()
}

// One thing is changed in what is expected of a real boot; the difference names that thing and nothing else.
func TestDiffNamesTheChange(t *testing.T) {
	vectors := bootVectors(t)
	a := vectors[0]
	require.Equal(t, "a-sb-sdboot-262", a.name)
	actual, err := ParseLog(a.log)
	require.NoError(t, err)
	digest := func(s string) map[crypto.Hash][]byte {
		return map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte(s))}
	}
	for _, c := range []struct {
		name   string
		change func(*Boot)
		want   []string
	}{
		{"nothing", func(*Boot) {}, nil},
		{"UKI", func(b *Boot) { b.UKI.Digests = digest("other") },
			[]string{`PCR 4: the UKI \EFI\Linux\bootlab_2+2-1.efi is another (Authenticode f95be491ee6ea2eb…, expected d9298a10d1b07358…)`}},
		{"command line", func(b *Boot) { b.Sections[2].Digests = digest("quiet") },
			[]string{"PCR 11: UKI section .cmdline is another: be7b713342a0c9aa…, expected 008f0747f4e27c84…"}},
		{"a section less", func(b *Boot) { b.Sections = append(b.Sections[:4:4], b.Sections[5:]...) },
			[]string{"PCR 11: not expected: UKI section .uname (name) (da7a6d941caa9d28…)", "PCR 11: not expected: UKI section .uname (4370d3c38f689586…)"}},
		{"a phase more", func(b *Boot) { b.Phases = []string{PhaseEnterInitrd} },
			[]string{`PCR 11: missing: EV_IPL "enter-initrd"`}},
		{"dbx", func(b *Boot) { b.Variables.DBX = b.Variables.DBX[:28] }, []string{"PCR 7: dbx grew by 48 bytes to 76"}},
		{"dbx larger", func(b *Boot) { b.Variables.DBX = append(bytes.Clone(b.Variables.DBX), 1) }, []string{"PCR 7: dbx shrank by 1 bytes to 76"}},
		{"KEK", func(b *Boot) { b.Variables.KEK = make([]byte, len(b.Variables.KEK)) }, []string{"PCR 7: KEK has other contents of the same size, 829 bytes"}},
		{"no loader", func(b *Boot) { b.Loader = nil }, []string{`PCR 4: the boot loader \EFI\BOOT\BOOTX64.EFI was not expected (5da56c77af91c2fd…)`}},
		{"Secure Boot off", func(b *Boot) { b.Variables.SecureBoot = []byte{0} },
			[]string{"PCR 7: SecureBoot is 1, expected 0", "PCR 7: not expected: authority db = 799 bytes (9cdcd80c34fdf599…)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := a.boot
			variables := *b.Variables
			b.Variables = &variables
			b.Sections = append([]osmith.Measurement(nil), b.Sections...)
			c.change(&b)
			expected, err := Predict(b)
			require.NoError(t, err)
			got := Diff(expected, actual)
			assert.Equal(t, strings.Join(c.want, "\n"), strings.TrimSuffix(lines(got), "\n"))
		})
	}
}

// The boot of profile 1 seen by who expected profile 0.
func TestDiffProfile(t *testing.T) {
	v := bootVectors(t)[3]
	require.Equal(t, "f-profile1-262", v.name)
	actual, err := ParseLog(v.log)
	require.NoError(t, err)
	expected, err := ParseLog(bootVectors(t)[0].log)
	require.NoError(t, err)
	ds := Diff(expected, actual)
	assert.Equal(t, "PCR 4: the UKI \\EFI\\Linux\\bootlab_2.efi is another (Authenticode 4d3a783f757f3fae…, expected f95be491ee6ea2eb…)\n"+
		"PCR 5: loader.conf is another (d2a4761fe6142611…, expected d5806e53425536a7…)\n"+
		"PCR 12: profile 1 is booted, expected the default (60864aae26451939…)\n", lines(Causes(ds)))
	got := lines(ds)
	assert.Contains(t, got, "PCR 12: command line '@1' was not expected (6fe1a7eea0028054…)\n")
	assert.Contains(t, got, "PCR 12: profile 1 is booted, expected the default (60864aae26451939…)\n")
	assert.Contains(t, got, "PCR 11: not expected: UKI section .profile (")
	assert.Contains(t, got, "PCR 11: UKI section .cmdline is another: ")
	assert.Contains(t, got, "PCR 5: loader.conf is another (d2a4761fe6142611…, expected d5806e53425536a7…)")
	assert.NotContains(t, got, "PCR 7:")
}

// Large logs are compared in bounded memory.
func TestDiffLarge(t *testing.T) {
	many := func(n int, salt byte) *Log {
		l := &Log{}
		for i := range n {
			data := []byte{byte(i), byte(i >> 8), salt}
			if i == 0 || i == n-1 {
				data = []byte{byte(i)}
			}
			l.Events = append(l.Events, Event{PCR: 8, Type: EventIPL, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, data)}})
		}
		return l
	}
	got := Diff(many(6000, 1), many(6000, 2))
	require.Len(t, got, 5998)
	assert.Equal(t, "changed", got[0].Kind())
	got = Diff(many(6000, 1), many(5000, 1))
	assert.Equal(t, "missing", got[len(got)-1].Kind())
	got = Diff(&Log{}, many(3, 1))
	require.Len(t, got, 3)
	assert.Equal(t, "extra", got[0].Kind())
	assert.Empty(t, Diff(many(6000, 1), many(6000, 1)))
}
