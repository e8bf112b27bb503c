package uki_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/uki"
)

// What an add-on brings is read as kernel and systemd read it: quotes, dashes, and "--".
func TestRefusedArguments(t *testing.T) {
	for line, want := range map[string]string{
		"":                                   "",
		"console=ttyS0,115200n8 debug quiet": "",
		"ip=dhcp mitigations=off panic=10":   "",
		"module_blacklist=pcspkr nomodeset":  "",
		"lockdown=integrity ima_appraise=enforce selinux=1 intel_iommu=on iommu=pt dm_verity.require_signatures=1": "",
		"acme.init=1 xroot=1 -- login":      "",
		"roothash=00":                       "roothash",
		"usrhash=00 quiet":                  "usrhash",
		"init=/bin/sh":                      "init",
		`init="/bin/sh -x"`:                 "init",
		`"init=/bin/sh -x"`:                 "init",
		`'init=/bin/sh'`:                    "init", // a word of systemd's alone
		`in"it"=/bin/sh`:                    "init", // as well
		"\u00a0init=/bin/sh":                "init", // the second byte is white space to the kernel
		"rdinit=/bin/sh":                    "rdinit",
		"-- init=/bin/sh":                   "init", // systemd hands it to switch-root
		"-- rdinit=/bin/sh lsm=capability":  "",     // the kernel reads nothing there
		"-- rd.break":                       "rd.break",
		"rd.break":                          "rd.break",
		"rd.systemd.debug-shell":            "rd.systemd.debug_shell",
		"rd_break":                          "", // no dot: another name
		"systemd.debug-shell":               "systemd.debug_shell",
		"systemd.debug_shell=ttyS1":         "systemd.debug_shell",
		"systemd.verity-root-data=/dev/sdb": "systemd.verity_root_data",
		"systemd.verity=0":                  "systemd.verity",
		"systemd.unit=rescue.target":        "systemd.unit",
		"systemd.run=/evil systemd.run-success-action=none":       "systemd.run systemd.run_success_action",
		"systemd.set-credential=passwd.plaintext-password.root:x": "systemd.set_credential",
		"root=/dev/sda rw":               "root",
		"mount.usr=/dev/sda":             "mount.usr",
		"dm-mod.create=x":                "dm_mod.create",
		"dm-verity.require-signatures=0": "dm_verity.require_signatures",
		"lockdown=none":                  "lockdown",
		"selinux=0 enforcing=0":          "selinux enforcing",
		"intel-iommu=off":                "intel_iommu",
		"LD_PRELOAD=/x":                  "ld_preload",
		"emergency -b 1 S":               "emergency _b 1 s",
		"bootconfig":                     "bootconfig",
		`x="a b`:                         `"`,
		`x=it's`:                         `"`,
		`x="a 'b"`:                       "",
	} {
		var names []string
		for _, f := range uki.RefusedArguments("ro quiet", line) {
			require.NotEmpty(t, f.Reason)
			require.NotEmpty(t, f.Text)
			names = append(names, f.Name)
		}
		require.Equal(t, want, strings.Join(names, " "), line)
	}

	// What stands before decides what a quotation is about, and is not the add-on's doing itself.
	require.Empty(t, uki.RefusedArguments("init=/sbin/init roothash=00", "quiet"))
	names := func(before, line string) (list []string) {
		for _, f := range uki.RefusedArguments(before, line) {
			list = append(list, f.Name)
		}
		return list
	}
	require.Equal(t, []string{"rdinit", `"`}, names(`x="y`, `z" rdinit=/bin/sh`), "it ends the quotation of the line before")
	require.Equal(t, []string{"init"}, names("init=/sbin/init", "init=/bin/sh"), "the last one counts")

	require.True(t, uki.SameArgument("rd.luks-name", "rd.luks_name"))
	rules := uki.ArgumentRules()
	for i, r := range rules {
		require.NotEmpty(t, r.Reason, r.Name)
		require.Equal(t, strings.ToLower(strings.ReplaceAll(r.Name, "-", "_")), r.Name, "it could match nothing")
		require.False(t, slices.ContainsFunc(rules[:i], func(o uki.ArgumentRule) bool { return o.Name == r.Name }), r.Name)
	}
	rules[0].Name = ""
	require.NotEmpty(t, uki.ArgumentRules()[0].Name, "a copy")

	// The document has them all.
	text, err := os.ReadFile("../docs/addons.md")
	require.NoError(t, err)
	for _, r := range uki.ArgumentRules() {
		require.Regexp(t, "(?m)^\\|.*`"+regexp.QuoteMeta(r.Name)+"`.*\\| "+regexp.QuoteMeta(r.Reason)+" \\|$", string(text))
	}
}
