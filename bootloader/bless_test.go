package bootloader

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBless(t *testing.T) {
	const booted, good, bad = "EFI/Linux/os+2-1.efi", "EFI/Linux/os.efi", "EFI/Linux/os+0-1.efi"
	status := map[string]Status{booted: Indeterminate, good: Good, bad: Bad}
	for now, s := range status {
		esp := fstest.MapFS{now: text("")}
		got, err := BootStatus(esp, `\EFI\Linux\os+2-1.efi`)
		require.NoError(t, err)
		assert.Equal(t, s, got)
		for want, to := range status {
			from, target, err := Bless(esp, `\EFI\Linux\os+2-1.efi`, to)
			require.NoError(t, err)
			assert.Equal(t, now, from)
			assert.Equal(t, want, target)
		}
	}

	for name, c := range map[string]struct {
		path  string
		files []string
		to    Status
		err   error
	}{
		"not counted":   {"", nil, Good, ErrNotCounted},
		"no counter":    {`\EFI\Linux\os.efi`, nil, Good, ErrNotCounted},
		"no entry":      {`\EFI\Linux\os.txt`, nil, Good, ErrName},
		"gone":          {`\EFI\Linux\os+2-1.efi`, []string{"EFI/Linux/other.efi"}, Good, ErrNoEntry},
		"twin":          {`\EFI\Linux\os+2-1.efi`, []string{booted, good}, Good, ErrTwinExists},
		"bad before":    {`\EFI\Linux\os+0-4.efi`, []string{"EFI/Linux/os+0-4.efi"}, Indeterminate, ErrAlreadyBad},
		"dirty no verb": {`\EFI\Linux\os+0-4.efi`, []string{"EFI/Linux/os+0-4.efi"}, Dirty, nil},
	} {
		t.Run(name, func(t *testing.T) {
			esp := fstest.MapFS{}
			for _, f := range c.files {
				esp[f] = text("")
			}
			_, _, err := Bless(esp, c.path, c.to)
			require.Error(t, err)
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
			}
		})
	}

	dirty, err := BootStatus(fstest.MapFS{"a+0-4.efi": text("")}, "a+0-4.efi")
	require.NoError(t, err)
	assert.Equal(t, Dirty, dirty)
	from, to, err := Bless(fstest.MapFS{"a+0-4.efi": text("")}, "a+0-4.efi", Good) // an entry that was bad may prove good
	require.NoError(t, err)
	assert.Equal(t, "a+0-4.efi a.efi", from+" "+to)

	// Fixed widths stay; what systemd-bless-boot wrote without them is recognised.
	from, to, err = Bless(fstest.MapFS{"a+09-01.conf": text("")}, "a+09-01.conf", Bad)
	require.NoError(t, err)
	assert.Equal(t, "a+09-01.conf a+00-01.conf", from+" "+to)
	s, err := BootStatus(fstest.MapFS{"a+0-1.conf": text("")}, "a+09-01.conf")
	require.NoError(t, err)
	assert.Equal(t, Bad, s)
}
