package uki_test

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

type measuredCase struct {
	toolCase
	image []byte
}

var bankNames = map[crypto.Hash]string{crypto.SHA1: "sha1", crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"}

// judgePCRs has systemd-measure 262 compute PCR 11 of each variant from the sections that boot,
// which are chosen here by the rules of UAPI.5 and not by the package under test.
func judgePCRs(t *testing.T, dir string, cases []measuredCase) {
	r := testtools.Forky(t)
	hashes := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	type question struct {
		what   string
		ours   []osmith.Measurement
		hash   crypto.Hash
		answer string
	}
	var questions []question
	var script strings.Builder
	for i, c := range cases {
		f, err := uki.Open(source(c.image))
		require.NoError(t, err)
		h := hashes[i%len(hashes)]
		variants, err := f.MeasureVariants(h)
		require.NoError(t, err)
		ofImage, err := c.toolCase.image.MeasureVariants(h)
		require.NoError(t, err)
		require.Equal(t, variants, ofImage)
		for _, v := range variants {
			q := question{fmt.Sprintf("%+v of\n%s", v.Variant, strings.Join(c.lines, "\n")), v.Sections, h, filepath.Join(c.dir, fmt.Sprintf("pcr-%d-%d", v.Profile, v.DeviceTree))}
			script.WriteString("/usr/lib/systemd/systemd-measure calculate --json=short --phase=: --bank=" + bankNames[h])
			for name, b := range effective(t, f, c.release, v.Variant) {
				p := q.answer + name
				require.NoError(t, os.WriteFile(p, b, 0o644))
				script.WriteString(" --" + strings.TrimPrefix(name, ".") + "=" + p)
			}
			script.WriteString(" >" + q.answer + "\n")
			questions = append(questions, q)
		}
	}
	path := filepath.Join(dir, "measure.sh")
	require.NoError(t, os.WriteFile(path, []byte("set -e\n"+script.String()), 0o644))
	r.Run(t, dir, "sh", path)
	for _, q := range questions {
		var got map[string][]struct {
			Hash string `json:"hash"`
		}
		b, err := os.ReadFile(q.answer)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &got), q.what)
		require.Len(t, got[bankNames[q.hash]], 1, q.what)
		assert.Equal(t, got[bankNames[q.hash]][0].Hash, hex.EncodeToString(pcr11(q.hash, q.ours)), q.what)
	}
	t.Logf("%d images, PCR 11 of %d variants", len(cases), len(questions))
}

// effective are the measured sections of a variant: the first of each name before the first
// .profile, replaced by the first of that name in the profile; the device tree picked besides .dtb;
// nothing that is empty or that the release does not know.
func effective(t *testing.T, f *uki.File, release int, v uki.Variant) map[string][]byte {
	known := []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"}
	if release >= 254 {
		known = append(known, ".uname", ".sbat")
	}
	if release >= 257 {
		known = append(known, ".ucode", ".profile", ".hwids", ".dtbauto")
	}
	out, trees := make(map[string][]byte), 0
	for _, profile := range []int{-1, v.Profile} {
		seen := make(map[string]bool)
		for i, s := range f.Sections() {
			if s.Profile != profile {
				continue
			}
			b := make([]byte, s.Size)
			if s.Size > 0 {
				_, err := f.SectionData(i).ReadAt(b, 0)
				require.NoError(t, err)
			}
			if s.Name == ".dtbauto" {
				if trees++; trees == v.DeviceTree {
					out[s.Name] = b
				}
			} else if !seen[s.Name] {
				seen[s.Name] = true
				out[s.Name] = b
			}
		}
	}
	for name, b := range out {
		isKnown := false
		for _, k := range known {
			isKnown = isKnown || k == name
		}
		if !isKnown || len(b) == 0 {
			delete(out, name)
		}
	}
	return out
}
