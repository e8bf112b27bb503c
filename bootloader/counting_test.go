package bootloader

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseName(t *testing.T) {
	for name, want := range map[string]struct {
		stem string
		c    Counter
		next string
	}{
		"foo+3.efi":                 {"foo", Counter{3, 0, 1, 0}, "+2-1"},
		"foo+3-0.efi":               {"foo", Counter{3, 0, 1, 1}, "+2-1"},
		"foo+0-3.efi":               {"foo", Counter{0, 3, 1, 1}, "+0-4"},
		"foo+0.efi":                 {"foo", Counter{0, 0, 1, 0}, "+0-1"},
		"foo+10-00.efi":             {"foo", Counter{10, 0, 2, 2}, "+09-01"},
		"foo+01-99.efi":             {"foo", Counter{1, 99, 2, 2}, "+00-99"},
		"foo+3.EFI":                 {"foo", Counter{3, 0, 1, 0}, "+2-1"},
		"a+b+1.efi":                 {"a+b", Counter{1, 0, 1, 0}, "+0-1"},
		"+1.efi":                    {"", Counter{1, 0, 1, 0}, "+0-1"},
		"foo+2147483647-5.efi":      {"foo", Counter{2147483647, 5, 10, 1}, "+2147483646-6"},
		"foo+00000000000000003.efi": {"foo", Counter{3, 0, 17, 0}, "+00000000000000002-1"},
	} {
		stem, c, ok := ParseName(name, ".efi")
		require.True(t, ok, name)
		assert.Equal(t, want.stem, stem)
		assert.Equal(t, want.c, c)
		assert.Equal(t, name, stem+c.String()+name[len(name)-4:])
		assert.Equal(t, want.next, c.Next().String(), name)
	}
	for _, name := range []string{"foo.efi", "foo+.efi", "foo+3", "foo+3.conf", "foo+-3.efi", "foo+3-.efi", "foo+3-1-1.efi", "foo+3x.efi",
		"foo+3.efi.efi", "foo+1+.efi", "foo+2147483648.efi", "foo+99999999999999999999.efi", "", ".efi", "+.efi", "foo++3 .efi", "foo+ 3.efi"} {
		_, _, ok := ParseName(name, ".efi")
		assert.False(t, ok, name)
	}
}

func TestCountedName(t *testing.T) {
	name, err := CountedName("os_1.2", 3)
	require.NoError(t, err)
	assert.Equal(t, "os_1.2+3.efi", name)
	for _, stem := range []string{"", ".os", "auto-os", "AUTO-os", "os+1", "os+1-2", "a/b", `a\b`, "a:b", "ä", "os_1%rc1", "a b", string(make([]byte, 300))} {
		_, err := CountedName(stem, 3)
		assert.ErrorIs(t, err, ErrName, "%q", stem)
	}
	_, err = CountedName("os+x", 3) // no counter: what follows is no number
	assert.NoError(t, err)
	_, err = CountedName("os", 0)
	assert.ErrorIs(t, err, ErrName)
}

func FuzzParseName(f *testing.F) {
	f.Add("foo+3-0.efi")
	f.Add("foo+010-007.EFI")
	f.Fuzz(func(t *testing.T, name string) {
		stem, c, ok := ParseName(name, ".efi")
		if !ok {
			return
		}
		if got := stem + c.String() + name[len(name)-4:]; got != name {
			t.Fatalf("%q became %q", name, got)
		}
		n := c.Next()
		if n.TriesLeft > c.TriesLeft || n.TriesLeft < 0 || n.TriesDone < c.TriesDone {
			t.Fatalf("%v after %v", n, c)
		}
	})
}

func TestMatch(t *testing.T) {
	for pattern, cases := range map[string]map[string]bool{
		"a":          {"a": true, "b": false, "": false, "ab": false},
		"a*":         {"a": true, "abc": true, "b": false},
		"*":          {"": true, "x": true},
		"*.efi":      {"a.efi": true, "a.efi.efi": true, "a.ef": false},
		"a?c":        {"abc": true, "ac": false},
		"a*b*c":      {"abc": true, "aXbYc": true, "acb": false, "abcc": true},
		"[a-c]1":     {"a1": true, "d1": false, "1": false},
		"[]a]":       {"]": true, "a": true, "b": false},
		"[a-]":       {"-": true, "a": true, "b": false},
		"[-a]":       {"-": true, "a": true},
		"[a-c-f]":    {"b": true, "f": true, "e": false, "-": true},
		"[a":         {"a": false},
		`\*`:         {"*": true, "x": false},
		`a\`:         {"a": false},
		`[\]]`:       {"]": true, "a": false},
		`[a-\c]`:     {"b": true, `\`: false},
		"os_*[0-9]*": {"os_1.efi": true, "os_x.efi": false},
	} {
		for s, want := range cases {
			assert.Equal(t, want, match(pattern, s), "%q %q", pattern, s)
		}
	}
}

func TestBless(t *testing.T) {
	const booted, good, bad = "EFI/Linux/os+2-1.efi", "EFI/Linux/os.efi", "EFI/Linux/os+0-1.efi"
	status := map[string]Status{booted: StatusIndeterminate, good: StatusGood, bad: StatusBad}
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
		"not counted":   {"", nil, StatusGood, ErrNotCounted},
		"no counter":    {`\EFI\Linux\os.efi`, nil, StatusGood, ErrNotCounted},
		"no entry":      {`\EFI\Linux\os.txt`, nil, StatusGood, ErrName},
		"gone":          {`\EFI\Linux\os+2-1.efi`, []string{"EFI/Linux/other.efi"}, StatusGood, ErrNoEntry},
		"twin":          {`\EFI\Linux\os+2-1.efi`, []string{booted, good}, StatusGood, ErrTwinExists},
		"bad before":    {`\EFI\Linux\os+0-4.efi`, []string{"EFI/Linux/os+0-4.efi"}, StatusIndeterminate, ErrAlreadyBad},
		"dirty no verb": {`\EFI\Linux\os+0-4.efi`, []string{"EFI/Linux/os+0-4.efi"}, StatusDirty, nil},
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
	assert.Equal(t, StatusDirty, dirty)
	// an entry that was bad may prove good
	from, to, err := Bless(fstest.MapFS{"a+0-4.efi": text("")}, "a+0-4.efi", StatusGood)
	require.NoError(t, err)
	assert.Equal(t, "a+0-4.efi a.efi", from+" "+to)

	// Fixed widths stay; what systemd-bless-boot wrote without them is recognised.
	from, to, err = Bless(fstest.MapFS{"a+09-01.conf": text("")}, "a+09-01.conf", StatusBad)
	require.NoError(t, err)
	assert.Equal(t, "a+09-01.conf a+00-01.conf", from+" "+to)
	s, err := BootStatus(fstest.MapFS{"a+0-1.conf": text("")}, "a+09-01.conf")
	require.NoError(t, err)
	assert.Equal(t, StatusBad, s)
}
