package tpm

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

func TestComponents(t *testing.T) {
	vectors := bootVectors(t)
	firmware, err := ParseLog(vectors[1].log)
	require.NoError(t, err)
	b := wholeBoot(t, vectors[3], firmware)
	require.Equal(t, "@1", b.Handover.Passed)
	b.Addons = []Application{{Path: `\x.addon.efi`, Digests: b.UKI.Digests, Authority: b.UKI.Authority}}
	b.handOver(cmdlineEvent(osmith.HandoverAddonCmdline, "a"), archiveEvent(12, "Credentials initrd", b.UKI.Digests))
	b.Userspace = &Userspace{Separator: MeasuredYes, NVPCRs: []string{"nvpcr-init:x:0x1d10200:00"}, NVSeparator: MeasuredYes,
		Identity: []Word{{Text: "machine-id:0"}, {Text: FileSystem{Path: "/", Type: "erofs"}.Word()}, {Text: "cryptsetup:x", Digests: b.UKI.Digests}}}
	b.Phases = []string{PhaseEnterInitrd}
	zero := wholeBoot(t, vectors[3], firmware)
	zero.Handover, zero.Sections = nil, vectors[3].first
	zero.ExitBoot = ExitBootOnce
	all, err := PredictAll(b, zero)
	require.NoError(t, err)
	components, err := all.Components()
	require.NoError(t, err)
	got := map[string][]int{} // records of each variant
	for _, c := range components {
		for _, v := range c.Variants {
			got[c.ID] = append(got[c.ID], len(v.Records))
		}
	}
	assert.Equal(t, map[string][]int{
		"240-secureboot-policy":             {5},
		"250-firmware-code-early":           {3},
		"250-firmware-config-early":         {8},
		"550-firmware-config-late":          {1},
		"600-gpt":                           {1},
		"620-secureboot-authority":          {1},
		"630-boot-loader":                   {1},
		"635-smbios":                        {1},
		"640-loader-conf":                   {1},
		"650-uki":                           {19, 17}, // PE, 16 for sections, 2 for the profile
		"660-addons":                        {2, 0},
		"670-companions":                    {1, 0},
		"700-action-efi-exit-boot-services": {4},
		"820-machine-id":                    {1, 0},
		"830-root-file-system":              {1, 0},
		"845-identity":                      {1, 0},
	}, got)
	for _, c := range components {
		files, err := c.Files()
		require.NoError(t, err)
		require.Len(t, files, len(c.Variants))
		for name, data := range files {
			assert.True(t, strings.HasPrefix(name, c.ID+".pcrlock.d/"), name)
			_, err := ParseLockVariant("x", data)
			require.NoError(t, err)
		}
	}
	// PCR 9 is not known of the second boot, so it is not locked; of the first alone it is.
	components, err = all[:1].Components()
	require.NoError(t, err)
	assert.Len(t, components, 19)
	_, err = Alternatives{}.Components()
	assert.ErrorIs(t, err, ErrNoLog)
	for _, c := range []LockComponent{{}, {ID: "a/b", Variants: []LockVariant{{Name: "x"}}}, {ID: "a"}, {ID: "a", Variants: []LockVariant{{}}},
		{ID: "a", Variants: []LockVariant{{Name: "x"}, {Name: "x"}}}, {ID: "a", Variants: []LockVariant{{Name: "x", Records: []LockRecord{{PCR: 24}}}}}} {
		_, err := c.Files()
		assert.Error(t, err)
	}
}

func TestParseLockVariantErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "tpm: .pcrlock: JSON at 0x0: the document ends here"},
		{"[]", "tpm: .pcrlock: JSON"},
		{"{}", `want an object with up to 4096 "records"`},
		{`{"records":[{}]}`, "record 0: want a PCR from 0 to 23"},
		{`{"records":[{"pcr":24}]}`, "record 0: want a PCR from 0 to 23"},
		{`{"records":[{"pcr":1,"digests":[]}]}`, "record 0: no digest of a known bank"},
		{`{"records":[{"pcr":1,"digests":[{"hashAlg":"sha256","digest":"00"}]}]}`, "record 0: a sha256 digest of 1 bytes, want 32"},
		{strings.Repeat(" ", maxLockFile+1), "want 4194304 or fewer"},
	} {
		v, err := ParseLockVariant("x", []byte(c.in))
		require.ErrorContains(t, err, c.want)
		assert.Empty(t, v)
		_, ok := errors.AsType[*osmith.FormatError](err)
		assert.True(t, ok)
	}
	v, err := ParseLockVariant("x", []byte(`{"records":[]}`))
	require.NoError(t, err)
	b, err := v.MarshalJSON()
	require.NoError(t, err)
	assert.Equal(t, `{"records":[]}`, string(b))
}

// FuzzParseLockVariant: no panic, one form per value.
func FuzzParseLockVariant(f *testing.F) {
	f.Add([]byte(`{"records":[{"pcr":5,"digests":[{"hashAlg":"sha1","digest":"bb4b26be1892ac2ff20f1e97a78a87967134c6f5"}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := ParseLockVariant("x", raw)
		if err != nil {
			require.Zero(t, v)
			return
		}
		b, err := v.MarshalJSON()
		require.NoError(t, err)
		again, err := ParseLockVariant("x", b)
		require.NoError(t, err)
		require.Equal(t, v, again)
	})
}

// The components of PCR 15 come, by their names, in the order in which it was extended.
func TestIdentityComponents(t *testing.T) {
	id, root, home := "machine-id:0", FileSystem{Path: "/", Type: "ext4"}.Word(), FileSystem{Path: "/home/a:b-c", Type: "ext4"}.Word()
	key := Word{Text: "cryptsetup:x:u", Digests: digestsOf([]byte("hmac"))}
	other := Word{Text: "cryptsetup:y:u", Digests: digestsOf([]byte("hmac of y"))}
	for _, c := range []struct {
		words []Word
		want  []string
	}{
		{[]Word{key}, []string{"780-volume-keys 1"}},
		{[]Word{key, {Text: id}}, []string{"780-volume-keys 1", "820-machine-id 1"}},
		{[]Word{key, other, {Text: id}, {Text: root}}, []string{"780-volume-keys 2", "820-machine-id 1", "830-root-file-system 1"}},
		{[]Word{{Text: id}, {Text: root}, {Text: home}, key}, []string{"820-machine-id 1", "830-root-file-system 1", `840-file-system-home-a:b\x2dc 1`, "845-identity 1"}},
		{[]Word{{Text: id}, key, {Text: root}, {Text: home}}, []string{"820-machine-id 1", "845-identity 3"}},
		{[]Word{{Text: id}, {Text: home}, {Text: root}}, []string{"820-machine-id 1", `840-file-system-home-a:b\x2dc 2`}},
		{[]Word{{Text: root}, {Text: id}}, []string{"830-root-file-system 2"}},
	} {
		b := bootVectors(t)[0].boot
		b.Phases, b.Userspace = []string{PhaseEnterInitrd}, PhasesAlone()
		b.Userspace.Identity = c.words
		all, err := PredictAll(b)
		require.NoError(t, err)
		components, err := all.Components()
		require.NoError(t, err)
		var got []string
		var order [][]byte
		for _, k := range components {
			if strings.HasPrefix(k.ID, "78") || k.ID > "8" {
				got = append(got, fmt.Sprint(k.ID, " ", len(k.Variants[0].Records)))
				for _, r := range k.Variants[0].Records {
					require.Equal(t, 15, r.PCR)
					order = append(order, r.Digests[crypto.SHA256])
				}
			}
		}
		assert.Equal(t, c.want, got)
		for i, w := range c.words {
			assert.Equal(t, w.in([]crypto.Hash{crypto.SHA256})[crypto.SHA256], order[i])
		}
	}
}

// As systemd-escape -p writes them.
func TestUnitName(t *testing.T) {
	for path, want := range map[string]string{
		"/": "", "/home": "home", "/var/lib/x": "var-lib-x", "//a//b/": "a-b", "/a-b": `a\x2db`, "/.x/.y": `\x2ex-.y`, "/a:b_c.d": "a:b_c.d", "/ä": `\xc3\xa4`, "/a\\x": `a\x5cx`,
	} {
		assert.Equal(t, want, unitName(path), path)
	}
}
