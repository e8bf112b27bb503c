package uki_test

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/uki"
)

func TestEntryExtras(t *testing.T) {
	h, err := uki.EntryExtras([]uki.CompanionFile{
		companion("b.sysext.raw", "image"), companion("z.cred", "1"), companion("A.CRED", "22"), companion("empty.cred", ""),
		companion("plain.raw", "x"), companion("ü.cred", "x"), companion(".cred", "3"), companion("c.confext.raw", "x"),
	}, strings.NewReader("12345"))
	require.NoError(t, err)
	require.Equal(t, "12 Entry credentials initrd; 13 Entry system extension initrd; 12 Entry configuration extension initrd", eventText(h))
	require.Equal(t, "previous initrd; Entry credentials initrd; Entry system extension initrd; Entry configuration extension initrd", initrdText(h))
	// Inodes count through all archives, in the order of the lines; directories are repeated.
	for i, want := range []string{
		"00000004 .extra; 00000005 .extra/credentials; 00000006 .extra/credentials/z.cred; 00000007 .extra; 00000008 .extra/credentials; 00000009 .extra/credentials/A.CRED; 0000000a .extra; 0000000b .extra/credentials; 0000000c .extra/credentials/.cred; 00000000 TRAILER!!!",
		"00000001 .extra; 00000002 .extra/sysext; 00000003 .extra/sysext/b.sysext.raw; 00000000 TRAILER!!!",
		"0000000d .extra; 0000000e .extra/confext; 0000000f .extra/confext/c.confext.raw; 00000000 TRAILER!!!",
	} {
		data, err := io.ReadAll(io.NewSectionReader(h.Events[i].Data, 0, h.Events[i].Data.Size()))
		require.NoError(t, err)
		var have []string
		for _, m := range regexp.MustCompile(`070701(\w{8})\w{96}([^\x00]*)`).FindAllStringSubmatch(string(data), -1) {
			have = append(have, m[1]+" "+m[2])
		}
		require.Equal(t, want, strings.Join(have, "; "))
	}

	f := stubImage(t, 262, ".initrd", "initrd")
	handover, err := f.Handover(uki.Boot{Previous: h.Initrd()})
	require.NoError(t, err)
	require.Equal(t, "previous initrd; .initrd", initrdText(handover))

	h, err = uki.EntryExtras([]uki.CompanionFile{companion("plain.raw", "x")}, strings.NewReader("12345"))
	require.NoError(t, err)
	require.Equal(t, new(uki.Handover), h)
	_, err = uki.EntryExtras([]uki.CompanionFile{{Name: "x.cred"}}, nil)
	require.ErrorIs(t, err, uki.ErrMissing)
}
