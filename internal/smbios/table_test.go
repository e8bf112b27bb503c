package smbios

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

func TestParse(t *testing.T) {
	table := []byte("\x01\x06\x00\x00\x01\x02Acme\x00One\x00\x00" + "\x0b\x05\x00\x00\x00\x00\x00" + "\x7f\x04\x00\x00\x00\x00" + "rest")
	list, err := Parse(table)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, []string{"Acme", "One"}, list[0].Strings)
	require.Equal(t, "Acme", list[0].Text(4))
	require.Equal(t, "One", list[0].Text(5))
	require.Equal(t, "", list[0].Text(6))
	require.Equal(t, "", list[1].Text(4))
	require.Equal(t, table[:6+5+4+1], list[0].Raw)
	require.Equal(t, byte(11), list[1].Type)
	require.Len(t, list[1].Raw, 7)
	for name, bad := range map[string]string{
		"length below the header": "\x01\x03\x00\x00\x00\x00",
		"length beyond the table": "\x01\x20\x00\x00\x00\x00",
		"strings without an end":  "\x01\x04\x00\x00abc\x00",
		"no strings at all":       "\x01\x04\x00\x00",
		"one NUL":                 "\x01\x04\x00\x00\x00",
	} {
		_, err := Parse([]byte(bad))
		var f *osmith.FormatError
		require.ErrorAs(t, err, &f, name)
	}
	_, err = Parse(make([]byte, maxTable+1))
	require.ErrorContains(t, err, "more than the limit")
}

// The structures are the table again, up to what ends it.
func FuzzParse(f *testing.F) {
	f.Add([]byte("\x01\x06\x00\x00\x01\x02Acme\x00One\x00\x00\x0b\x05\x00\x00\x00\x00\x00\x7f\x04\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Parse(b)
		if err != nil {
			require.Nil(t, list)
			return
		}
		var again []byte
		for _, s := range list {
			require.NotEqual(t, byte(endOfTable), s.Type)
			again = append(again, s.Raw...)
			for i := range s.Area {
				s.Text(i)
			}
		}
		require.True(t, bytes.HasPrefix(b, again))
	})
}
