package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release"
)

// What a release says of its support goes from the vendor's flags into the release, from there into
// the channel, and to the machine that asks. The vendor extends the period in the channel alone.
func TestSupport(t *testing.T) {
	s := &shop{workshop: newWorkshop(t), key: "build.key"}
	flags := []string{"-supported-until", "2031-12-31", "-fixes", "CVE-2026-1,CVE-2026-2", "-fixes", "CVE-2026-3"}
	fixes := []string{"CVE-2026-1", "CVE-2026-2", "CVE-2026-3"}
	stated := supported{"2031-12-31", fixes}
	require.Equal(t, stated, s.pack(t, "2", flags...).supported)
	require.Empty(t, s.pack(t, "1").supported)
	s.sign(t, "1")
	s.sign(t, "2")

	var i inspectResult
	object(t, &i, "inspect", s.path("layout"), "2")
	require.Equal(t, stated, i.supported)
	require.Contains(t, ok(t, "inspect", s.path("layout"), "2"), "  supported until 2031-12-31\n  fixes CVE-2026-1, CVE-2026-2, CVE-2026-3\n")
	require.NotContains(t, ok(t, "inspect", s.path("layout"), "1"), "supported")

	require.Equal(t, stated, s.edit(t, "publish", "2", "-new").Releases[0].supported)
	list := []string{"channel", "list", s.path("layout"), "stable", "-key", s.path("build.pub")}
	require.Contains(t, ok(t, list...), "supported until 2031-12-31\n")
	s.day++
	r := s.edit(t, "support", "2", "-supported-until", "2033-06-30", "-fixes", "CVE-2026-4,CVE-2026-1")
	require.Equal(t, supported{"2033-06-30", append(fixes, "CVE-2026-4")}, r.Releases[0].supported)
	require.Equal(t, 1000, r.Releases[0].Offered)
	s.day++
	r = s.edit(t, "promote", "2")
	require.Equal(t, release.Date("2033-06-30"), r.Releases[0].SupportedUntil, "promoting leaves what was said")
	var seen channelResult
	object(t, &seen, list...)
	require.Equal(t, r.Releases, seen.Releases)

	m := s.customer("machine", s.path("layout"), "1")
	var pulled pullResult
	object(t, &pulled, m.args(t, 2)...)
	require.Equal(t, supported{"2033-06-30", append(fixes, "CVE-2026-4")}, pulled.Channel.supported)

	for _, args := range [][]string{
		append([]string{"pack", "-o", s.path("layout"), "-uki", s.path("uki1")}, "-supported-until", "2031"),
		append([]string{"pack", "-o", s.path("layout"), "-uki", s.path("uki1")}, "-fixes", "CVE-1,"),
		s.editing("support", "2", "-key", s.path("build.key")),
	} {
		status, _, stderr := call3(t, args...)
		require.Equal(t, 2, status, stderr)
	}
	status, _, stderr := call3(t, s.editing("support", "7", "-supported-until", "2031-12-31", "-key", s.path("build.key"))...)
	require.Equal(t, 1, status, stderr)
}

// Of a version for several architectures, the channel says what holds on all of them.
func TestSupportOfIndex(t *testing.T) {
	s := &shop{workshop: newWorkshop(t), key: "build.key"}
	s.pack(t, "2", "-ref", "2-amd64", "-supported-until", "2031-12-31", "-fixes", "CVE-1,CVE-2")
	var r packResult
	object(t, &r, "pack", "-o", s.path("layout"), "-uki", s.path("uki2-arm64"), "-root", s.path("root2"), "-tree", s.path("tree2"), "-ref", "2-arm64",
		"-supported-until", "2030-12-31", "-fixes", "CVE-2,CVE-3")
	ok(t, "index", "-o", s.path("layout"), "-ref", "2", "amd64=2-amd64", "arm64=2-arm64")
	s.sign(t, "2")
	require.Equal(t, supported{"2030-12-31", []string{"CVE-2"}}, s.edit(t, "publish", "2", "-new").Releases[0].supported)
}
