package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// ukifyImages makes images of all kinds, and returns their names.
func ukifyImages(t *testing.T, path func(string) string) (names []string) {
	add := func(name string, args ...string) {
		ok(t, append(args, "-o", path(name))...)
		names = append(names, name)
	}
	require.NoError(t, os.Mkdir(path("hw"), 0o755))
	require.NoError(t, os.WriteFile(path("hw/acme.json"), []byte(`{"type": "devicetree", "name": "Acme", "compatible": "acme,one", "hwids": ["11111111-2222-3333-4444-555555555555"]}`), 0o600))
	require.NoError(t, os.Mkdir(path("fw"), 0o755))
	require.NoError(t, os.WriteFile(path("fw/fw.bin"), []byte("firmware"), 0o600))
	require.NoError(t, os.WriteFile(path("odd"), []byte("a\x00b <&> caf\xc3\xa9 \U0001f600\t\"\\\x00\x00"), 0o600))
	require.NoError(t, os.WriteFile(path("bad"), []byte("\xff\xfe"), 0o600))
	add("plain.efi", buildArgs(path, "-cmdline", "quiet")...)
	add("empty.efi", buildArgs(path, "-os-release", "", "-cmdline", "", "-section", ".cmdline:@"+path("odd"), "-section", ".sbom:sbom", "-section", ".other:x")...)
	add("bad.efi", buildArgs(path, "-cmdline", "", "-section", ".cmdline:@"+path("bad"), "-uname", "1.2")...)
	add("trees.efi", buildArgs(path, "-devicetree-auto", path("osrel"), "-devicetree-auto", path("initrd"), "-hwids", path("hw"), "-efifw", path("fw"), "-microcode", path("osrel"))...)
	add("reset.efi", "build", "-stub", path("addon"), "-profile", "ID=reset\nTITLE=Reset", "-cmdline", "reset", "-devicetree-auto", path("osrel"))
	add("profiles.efi", buildArgs(path, "-profile", "ID=main", "-join-profile", path("reset.efi"), "-pcr-private-key", path("pcr.key"), "-pcr-public-key", path("pcr.pub"))...)
	add("debug.addon.efi", "addon", "-stub", path("addon"), "-cmdline", "debug")
	twice := read(t, path("plain.efi")) // a section that has no business to repeat
	at := bytes.Index(twice, []byte(".uname\x00\x00"))
	copy(twice[at:], ".osrel\x00\x00")
	require.NoError(t, os.WriteFile(path("twice.efi"), twice, 0o600))
	return append(names, "twice.efi")
}

// TestInspectAsUkify: the object is that of ukify 262 itself.
func TestInspectAsUkify(t *testing.T) {
	r := testtools.Forky(t)
	dir, path := workshop(t)
	for _, name := range ukifyImages(t, path) {
		theirs := r.Output(t, dir, "ukify", "--json=pretty", "inspect", name)
		ours := ok(t, "inspect", "-ukify-json", path(name))
		require.JSONEq(t, theirs, ours, name)
		require.Equal(t, strings.Count(theirs, "\n"), strings.Count(strings.TrimSuffix(ours, "\n"), "\n"), "pretty")
		require.Equal(t, keys(t, theirs), keys(t, ours), "in this order")
	}
}

// keys are the names in an object, in their order.
func keys(t *testing.T, text string) (out []string) {
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		token, err := dec.Token()
		if err != nil {
			return out
		}
		if s, ok := token.(string); ok {
			out = append(out, s)
		}
	}
}

func TestUkifyJSON(t *testing.T) {
	_, path := workshop(t)
	get := func(name string) (object map[string]any) {
		require.NoError(t, json.Unmarshal([]byte(ok(t, "inspect", "-ukify-json", path(name))), &object))
		return object
	}
	ukifyImages(t, path)
	plain := get("plain.efi")
	require.NotContains(t, plain, "_profiles")
	require.NotContains(t, plain, ".text")
	cmdline := plain[".cmdline"].(map[string]any)
	require.Equal(t, map[string]any{"size": 5.0, "sha256": cmdline["sha256"], "text": "quiet"}, cmdline)
	require.NotContains(t, plain[".linux"], "text")

	trees := get("trees.efi")
	require.Len(t, trees[".dtbauto"], 2)
	require.Len(t, trees[".efifw"], 1, "an array though it is one")
	profiles := get("profiles.efi")
	list := profiles["_profiles"].([]any)
	require.Len(t, list, 2)
	require.Contains(t, list[0], ".profile")
	require.Equal(t, "reset", list[1].(map[string]any)[".cmdline"].(map[string]any)["text"])
	require.NotContains(t, profiles, ".profile")
	require.Len(t, get("twice.efi")[".osrel"], 2)
	require.Equal(t, `a\0b <&> café 😀`+"\t\"\\", get("empty.efi")[".cmdline"].(map[string]any)["text"])
	require.NotContains(t, get("empty.efi"), ".other")
	require.Contains(t, get("empty.efi"), ".sbom")
	require.Equal(t, "(not valid UTF-8)", get("bad.efi")[".cmdline"].(map[string]any)["text"])

	status, _, stderr := call3(t, "inspect", "-json", "-ukify-json", path("plain.efi"))
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "one of them")
	status, _, stderr = call3(t, "inspect", "-ukify-json", path("osrel"))
	require.Equal(t, 1, status)
	require.Contains(t, stderr, path("osrel"))
}
