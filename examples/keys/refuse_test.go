package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/internal/cli"
)

func list3(t *testing.T, dir string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		all = append(all, path)
		return err
	}))
	return all
}

func TestRefused(t *testing.T) {
	keys, other := generated(t, "Acme OS"), generated(t, "Other")
	m, image := owned(t, keys), loader(t, keys)
	foreign, setup := owned(t, generated(t, "Foreign")), machine(t, setup)
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	odd, empty, cut := file("odd", "not what you want"), file("empty", ""), file("cut.efi", string(read(t, image)[:700]))
	plan := file("plan.json", `{"schema": "osmith.rotation/2"}`)
	made := filepath.Join(dir, "made.json")
	ok(t, "rotate", "-plan", made, "-vars", m, "-old", keys, "-new", other, noROMs, image)
	out := filepath.Join(dir, "out")
	key, cert, esl := filepath.Join(keys, "KEK.key"), filepath.Join(keys, "KEK.crt"), filepath.Join(keys, "db.esl")
	before := list3(t, dir)
	auth := func(args ...string) []string {
		return append([]string{"auth", "-key", key, "-cert", cert, "-o", out}, args...)
	}
	rotate := func(args ...string) []string { return append([]string{"rotate", "-plan"}, args...) }
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"nothing":            {nil, 2, "usage: keys generate"},
		"verb":               {[]string{"frob"}, 2, `no verb "frob"`},
		"no-dir":             {[]string{"generate"}, 2, "-o is missing"},
		"keys-there":         {[]string{"generate", "-o", keys, noROMs, nothing}, 2, "keys are not overwritten"},
		"no-images":          {[]string{"generate", "-o", out, noROMs}, 2, "name all PE files that the machine starts with these keys, or say -nothing-must-boot"},
		"images-and-nothing": {[]string{"generate", "-o", out, noROMs, nothing, image}, 2, "want one of them"},
		"generate-lockout":   {[]string{"generate", "-o", out, noROMs, image}, 1, "with the keys enrolled: the machine would not boot"},
		"generate-row":       {[]string{"generate", "-o", out, noROMs, nothing, "-firmware", "bios"}, 2, "-firmware bios: want one of"},
		"option-roms":        {[]string{"generate", "-o", out}, 2, "-trust-no-option-roms-at-the-risk-of-a-black-screen"},
		"row":                {[]string{"evaluate", "-vars", m, "-firmware", "bios", image}, 2, "-firmware bios: want one of [edk2-2026.08 edk2-2022.11 u-boot-2026.10 u-boot-2025.01 u-boot-legacy], or any"},
		"owner":              {[]string{"generate", "-o", out, "-owner", "x", noROMs, nothing}, 2, "-owner: "},
		"bits":               {[]string{"generate", "-o", keys + "2", "-bits", "1024", noROMs, nothing}, 2, "1024 bits"},
		"years":              {[]string{"generate", "-o", out, "-years", "0", noROMs, nothing}, 2, "-years 0"},
		"keep-no-cert":       {[]string{"generate", "-o", out, "-keep", odd, nothing}, 2, "no certificate"},
		"keep-vars":          {[]string{"generate", "-o", out, "-keep-vars", odd, nothing}, 1, "firmware volume"},
		"digest":             {[]string{"generate", "-o", out, "-option-rom-digest", "ab", nothing}, 2, "want 64 hexadecimal digits"},
		"auth-var":           {auth("-var", "DB", "-esl", esl), 2, `-var: secureboot: variable "DB"`},
		"auth-no-esl":        {auth("-var", "db"), 2, "-esl is missing"},
		"auth-delete-append": {auth("-var", "db", "-delete", "-append"), 2, "neither"},
		"auth-empty":         {auth("-var", "db", "-esl", empty), 2, "say -delete"},
		"auth-odd":           {auth("-var", "db", "-esl", odd), 1, "signature list"},
		"auth-time":          {auth("-var", "db", "-esl", esl, "-time", "noon"), 2, "want a time"},
		"auth-old-time":      {auth("-var", "db", "-esl", esl, "-time", "1850-01-01T00:00:00Z"), 2, "year"},
		"auth-key":           {[]string{"auth", "-var", "db", "-esl", esl, "-key", cert, "-cert", cert, "-o", out}, 2, "no private key"},
		"auth-other-cert":    {[]string{"auth", "-var", "db", "-esl", esl, "-key", key, "-cert", filepath.Join(keys, "PK.crt"), "-o", out}, 2, "is not the key of the certificate"},
		"evaluate-none":      {[]string{"evaluate", "-vars", m}, 2, "operands"},
		"evaluate-no-vars":   {[]string{"evaluate", image}, 2, "-vars is missing"},
		"evaluate-wrong-dir": {[]string{"evaluate", "-vars", dir, image}, 2, "variable SecureBoot"},
		"evaluate-odd-vars":  {[]string{"evaluate", "-vars", odd, image}, 1, "firmware volume"},
		"evaluate-absent":    {[]string{"evaluate", "-vars", m, out}, 2, "out: "},
		"evaluate-dir":       {[]string{"evaluate", "-vars", m, dir}, 2, "is a directory"},
		"evaluate-odd":       {[]string{"evaluate", "-vars", m, odd}, 1, "odd: "},
		"evaluate-cut":       {[]string{"evaluate", "-vars", m, cut}, 1, "cut.efi: secureboot: "},
		"pending-form":       {[]string{"evaluate", "-vars", m, "-pending", "dbx", image}, 2, "want VAR=AUTH"},
		"pending-absent":     {[]string{"evaluate", "-vars", m, "-pending", "dbx=" + out, image}, 2, "out"},
		"rotate-no-plan":     {[]string{"rotate"}, 2, "-plan is missing"},
		"rotate-absent":      {rotate(out), 2, "out"},
		"rotate-schema":      {rotate(plan), 2, "schema"},
		"rotate-no-JSON":     {rotate(odd), 2, "odd: "},
		"rotate-no-vars":     {rotate(made, image), 2, "-vars is missing"},
		"rotate-no-boot-id":  {rotate(made, "-vars", m), 2, "-boot-id is missing"},
		"rotate-half":        {rotate(out, "-vars", m, "-new", other), 2, "-old is missing"},
		"rotate-next-flags":  {rotate(made, "-vars", m, "-boot-id", "b", "-revoke"), 2, "made with -old and -new"},
		"rotate-plan-flags":  {rotate(out, "-vars", m, "-old", keys, "-new", other, "-o", odd), 2, "for a plan that is there"},
		"rotate-no-keys":     {rotate(out, "-vars", m, "-old", dir, "-new", other), 2, "PK.crt"},
		"rotate-no-new-keys": {rotate(out, "-vars", m, "-old", keys, "-new", dir), 2, "has none of PK.crt, KEK.crt"},
		"rotate-option-ROMs": {rotate(out, "-vars", m, "-old", keys, "-new", other, image), 1, "no decision on option ROMs"},
		"rotate-foreign":     {rotate(out, "-vars", foreign, "-old", keys, "-new", keys, image), 2, "has neither the old certificate"},
		"rotate-setup-mode":  {rotate(out, "-vars", setup, "-old", keys, "-new", other, image), 2, "Setup Mode"},
		"rotate-room":        {rotate(out, "-vars", m, "-old", keys, "-new", other, noROMs, "-room", "4000", image), 1, "which has room for 4000"},
		"rotate-lockout":     {rotate(out, "-vars", m, "-old", keys, "-new", other, noROMs, loader(t, other)), 1, "would not boot"},
		"rotate-off-plan":    {rotate(made, "-vars", foreign, "-boot-id", "b", image), 1, "changed outside the plan"},
		"rotate-lost-image":  {rotate(made, "-vars", m, "-boot-id", "b", loader(t, other)), 1, "today: the machine would not boot"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := call3(t, tt.args...)
			assert.Equal(t, tt.status, status, stderr)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, tt.want)
			assert.NotContains(t, stderr, "keys: keys: ")
			assert.LessOrEqual(t, strings.Count(stderr, "secureboot: "), 1, stderr)
			assert.Equal(t, before, list3(t, dir), "something was left behind")
		})
	}
	for _, verb := range []string{"generate", "auth", "evaluate", "inspect", "missing", "rotate"} {
		status, _, stderr := call3(t, verb, "-h")
		assert.Zero(t, status)
		assert.Contains(t, stderr, "example: keys "+verb)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	_, err := cli.SourceDate(time.Now().UTC())
	require.ErrorContains(t, err, "SOURCE_DATE_EPOCH=yesterday")
}
