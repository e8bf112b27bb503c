package bootloader

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	c := ParseConfig([]byte("# comment\n timeout 5\ntimeout menu-hidden\r\ndefault \"os_*.efi\"\npreferred\t@SAVED\neditor no\nauto-firmware off\nbeep 1\n" +
		"reboot-on-error y\nconsole-mode 2\nlog-level debug\nunknown x\ntimeout soon\ndefault @other\neditor maybe\nbare\nsecure-boot-enroll force\n\x00timeout 9\n"))
	assert.Equal(t, &Config{Timeout: "menu-hidden", Default: "os_*.efi", Preferred: "@SAVED", Editor: SwitchNo, AutoFirmware: SwitchNo, Beep: SwitchYes, RebootOnError: "y",
		ConsoleMode: "2", LogLevel: "debug", SecureBootEnroll: "force", Ignored: []IgnoredLine{
			{12, "unknown", "x", "unknown key"}, {13, "timeout", "soon", "not a value of this key"}, {14, "default", "@other", "not a value of this key"},
			{15, "editor", "maybe", "not a yes or no"}}}, c)

	b, err := c.MarshalText()
	require.NoError(t, err)
	assert.Equal(t, "timeout menu-hidden\ndefault os_*.efi\npreferred @SAVED\neditor no\nauto-firmware no\nbeep yes\nreboot-on-error y\nsecure-boot-enroll force\nconsole-mode 2\nlog-level debug\n", string(b))
	again := ParseConfig(b)
	c.Ignored = nil
	assert.Equal(t, c, again)

	for _, bad := range []Config{{Timeout: "-1"}, {Timeout: "4294967296"}, {Timeout: "+1"}, {Default: "a\nb"}, {Default: " a"}, {Default: "@x"}, {Default: `"a"`}, {Default: "a\x00"},
		{Default: "\xff"}, {Editor: 7}, {LogLevel: "loud"}, {SecureBootEnroll: "always"}} {
		_, err := bad.MarshalText()
		assert.ErrorIs(t, err, ErrConfigValue, "%+v", bad)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("timeout 3\ndefault 'a b'\nbeep yes\r\n#x\npreferred a\\b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := ParseConfig(b)
		c.Ignored = nil
		text, err := c.MarshalText()
		if err != nil {
			return // a value that quoting brought in and that cannot be written without
		}
		if again := ParseConfig(text); !assert.ObjectsAreEqual(c, again) {
			t.Fatalf("%+v became %+v through %q", c, again, text)
		}
	})
}
