package uki_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// A command line is as long as the kernel of its profile takes, or the first option that is lost is
// named.
func TestCmdlineTooLong(t *testing.T) {
	le := binary.LittleEndian
	fill := func(n int, end string) string { return strings.Repeat("a", n-len(end)-1) + " " + end }
	check := func(im uki.Image) []uki.Finding {
		t.Helper()
		f, err := uki.Open(source(assemble(t, &im)))
		require.NoError(t, err)
		return f.Check()
	}
	im := good()
	im.Cmdline = fill(2047, "roothash=00")
	assert.Empty(t, check(im))
	im.Cmdline += " \n\n" // is not passed
	assert.Empty(t, check(im))
	im.Cmdline = fill(2048, "roothash=00")
	found := check(im)
	require.Len(t, found, 1)
	assert.Equal(t, `error: section .cmdline: 2048 bytes, of which the kernel takes 2047: "roothash=00" and all options behind it are lost (cmdline-too-long)`, found[0].String())
	im.Cmdline = "ro " + strings.Repeat("b", 3000) + " quiet"
	found = check(im)
	require.Len(t, found, 1)
	assert.Contains(t, found[0].Text, `"`+strings.Repeat("b", 80)+`..." and all options`)

	// The kernel says how much it takes.
	for limit, want := range map[uint32][]string{4095: {}, 1000: {"cmdline-too-long"}} {
		k := petest.Kernel("6.12.0-test")
		le.PutUint32(k[0x238:], limit)
		im.Linux, im.Cmdline = source(k), fill(2048, "roothash=00")
		assert.Equal(t, want, codes(check(im)))
	}

	// By profile: its own command line, its own kernel, or both.
	im = good()
	im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), Cmdline: fill(2048, "x")}, {Profile: []byte("ID=b")}}
	assert.Equal(t, []string{"cmdline-too-long1"}, codes(check(im)))
	small := petest.Kernel("6.12.0-test")
	le.PutUint32(small[0x238:], 100)
	im.Cmdline = fill(200, "x")
	im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), Linux: source(small)}, {Profile: []byte("ID=b")}}
	assert.Equal(t, []string{"cmdline-too-long1"}, codes(check(im)))

	// An architecture of which nothing is known.
	im = good()
	other := func(b []byte) []byte { le.PutUint16(b[64+4:], 0x200); return b }
	im.Stub, im.Linux, im.Cmdline = source(other(petest.Stub("262"))), source(other(petest.Kernel("6.12.0-test"))), fill(511, "x")
	assert.Empty(t, check(im))
	im.Cmdline = fill(512, "x")
	assert.Equal(t, []string{"cmdline-too-long?"}, codes(check(im)))
}

// What add-ons, SMBIOS and consoles append counts, too.
func TestHandoverTooLong(t *testing.T) {
	own := strings.Repeat("a", 2000)
	f := stubImage(t, 262, ".cmdline", own)
	boot := uki.Boot{Consoles: []string{}, NoBootSecret: true}
	h, err := f.Handover(boot)
	require.NoError(t, err)
	assert.Empty(t, h.Findings)
	boot.Companions = &uki.Companions{Addons: []uki.CompanionFile{addonFile("a.addon.efi", ".cmdline", strings.Repeat("b", 35))}}
	h, err = f.Handover(boot)
	require.NoError(t, err)
	assert.Empty(t, h.Findings)
	boot.Hardware.SMBIOS = &hwid.SMBIOS{OEMStrings: []string{"io.systemd.stub.kernel-cmdline-extra=smbios.option"}}
	h, err = f.Handover(boot)
	require.NoError(t, err)
	require.Equal(t, []string{"cmdline-too-long"}, codes(h.Findings))
	assert.Contains(t, h.Findings[0].Text, `"smbios.option"`)
	boot.Hardware.SMBIOS, boot.Consoles = nil, []string{"console=ttyS0,115200"}
	h, err = f.Handover(boot)
	require.NoError(t, err)
	require.Equal(t, []string{"cmdline-too-long"}, codes(h.Findings))
	assert.Contains(t, h.Findings[0].Text, `"console=ttyS0,115200"`)
}
