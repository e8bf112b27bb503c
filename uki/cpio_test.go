package uki

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The archive of two credentials, put together by hand from systemd-stub's rules: header fields of
// eight digits, names and contents padded to four bytes.
const credentialsArchive = "" +
	// inode, mode, uid, gid, links, mtime, size
	"070701" + "00000001" + "0000416d" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
	"00000000" + "00000000" + "00000000" + "00000000" + "00000007" + "00000000" + ".extra\x00" + "\x00\x00\x00" +
	"070701" + "00000002" + "00004140" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
	"00000000" + "00000000" + "00000000" + "00000000" + "00000013" + "00000000" + ".extra/credentials\x00" + "\x00\x00\x00" +
	"070701" + "00000003" + "00008100" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005" +
	"00000000" + "00000000" + "00000000" + "00000000" + "0000001a" + "00000000" + ".extra/credentials/a.cred\x00" + "12345" + "\x00\x00\x00" +
	"070701" + "00000004" + "00008100" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
	"00000000" + "00000000" + "00000000" + "00000000" + "0000001b" + "00000000" + ".extra/credentials/bc.cred\x00" + "\x00\x00\x00" +
	"070701" + "00000000" + "00000000" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
	"00000000" + "00000000" + "00000000" + "00000000" + "0000000B" + "00000000" + "TRAILER!!!\x00" + "\x00\x00\x00"

func packed(t *testing.T, target *cpioTarget, files ...CompanionFile) []byte {
	v, err := target.archive(files)
	require.NoError(t, err)
	b, err := io.ReadAll(io.NewSectionReader(v, 0, v.Size()))
	require.NoError(t, err)
	require.Zero(t, len(b)%4)
	return b
}

func TestArchive(t *testing.T) {
	b := packed(t, &cpioCredentials, CompanionFile{"a.cred", strings.NewReader("12345")}, CompanionFile{"bc.cred", bytes.NewReader(nil)})
	require.Equal(t, strings.Split(credentialsArchive, "070701"), strings.Split(string(b), "070701"))

	_, err := cpioSysexts.archive([]CompanionFile{{"x.raw", nil}})
	require.ErrorIs(t, err, ErrMissing)
	_, err = cpioSysexts.archive([]CompanionFile{{"x.raw", io.NewSectionReader(nil, 0, 1<<32)}})
	require.ErrorContains(t, err, "cpio archive, file x.raw: needs 4294967296 bytes")
}
