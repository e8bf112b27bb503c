package secureboot_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// esl reads the content of a variable.
func esl(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/uboot/" + name + ".esl")
	require.NoError(t, err)
	return b
}

// ubootAnswers reads what U-Boot did with each image: true, it ran it. Lines of the files a-cases-*
// are "aNN - MESSAGES": an image ran unless one of the messages is that it was refused, or that
// U-Boot crashed. Those of fw-cases-* are "NN ANSWER MESSAGES": 1, 0, or "-" if it crashed.
func ubootAnswers(t testing.TB, name string) map[string]bool {
	t.Helper()
	f, err := os.Open("testdata/uboot/" + name + ".txt")
	require.NoError(t, err)
	defer f.Close()
	out := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		part := strings.SplitN(s.Text(), " ", 3)
		require.Len(t, part, 3, s.Text())
		if strings.HasPrefix(name, "fw-") {
			require.Contains(t, []string{"0", "1", "-"}, part[1])
			out[part[0]] = part[1] == "1"
			continue
		}
		require.Equal(t, "-", part[1])
		out[part[0]] = !strings.Contains(part[2], "Image not authenticated") && !strings.Contains(part[2], "Synchronous Abort")
	}
	require.NotEmpty(t, out)
	return out
}

// What three builds of U-Boot did with 25 images of one set and 25 of another, in several
// configurations: what it refused or crashed at is never allowed, and what it ran is, but for the
// few that the judge calls unknown.
func TestUBootCases(t *testing.T) {
	new, old, legacy := secureboot.FirmwareUBoot202610, secureboot.FirmwareUBoot202501, secureboot.FirmwareUBootLegacy
	total := 0
	for _, c := range []struct {
		answers, db, dbx string
		rows             []secureboot.Firmware
		count            int
		unknown          string // of what ran
	}{
		{"a-cases-master", "a-db", "a-dbx", []secureboot.Firmware{new}, 25, ""},
		{"a-cases-debian", "a-db", "a-dbx", []secureboot.Firmware{old}, 25, ""},
		{"a-cases-legacy", "a-db", "a-dbx", []secureboot.Firmware{legacy}, 25, ""},
		{"a-cases-master-ec", "a-dbec", "a-dbx", []secureboot.Firmware{new}, 3, ""},
		{"a-cases-debian-ec", "a-dbec", "a-dbx", []secureboot.Firmware{old}, 3, ""},
		{"a-cases-legacy-ec", "a-dbec", "a-dbx", []secureboot.Firmware{legacy}, 3, ""},
		{"a-cases-debian-pss", "a-dbpss", "a-dbx", []secureboot.Firmware{old}, 3, ""},
		{"a-cases-master-sha1", "a-db", "a-dbxsha1", []secureboot.Firmware{new}, 2, ""},
		{"a-cases-debian-sha1", "a-db", "a-dbxsha1", []secureboot.Firmware{old}, 3, ""},
		{"fw-cases-mbedtls", "fw2-db", "fw2-dbx", []secureboot.Firmware{new, old}, 25, ""},
		{"fw-cases-legacy", "fw2-db", "fw2-dbx", []secureboot.Firmware{legacy}, 25, "04 11"},
	} {
		v := osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: esl(t, c.db), DBX: esl(t, c.dbx)}
		answers := ubootAnswers(t, c.answers)
		require.Len(t, answers, c.count, c.answers)
		for _, row := range c.rows {
			var unknown []string
			for number, ran := range answers {
				total++
				path := "testdata/uboot/" + number + ".efi"
				if strings.HasPrefix(c.answers, "fw-") {
					path = "testdata/firmware/" + number + ".efi"
				}
				r := secureboot.Evaluate(v, readImage(t, path), secureboot.EvaluateOptions{Firmware: row})
				t.Log(c.answers, row, number, ran, r.Allowed, r.Unknown, r.Reason)
				require.NotEmpty(t, r.Reason)
				require.Nil(t, r.Authority)
				require.False(t, r.Allowed && (!ran || r.Unknown), "%s: %s: %s: it did not run", c.answers, number, r.Reason)
				if ran && !r.Allowed {
					require.True(t, r.Unknown, "%s: %s: %s: it ran", c.answers, number, r.Reason)
					unknown = append(unknown, number)
				}
			}
			require.ElementsMatch(t, strings.Fields(c.unknown), unknown, c.answers)
		}
	}
	require.Equal(t, 25*3+3*4+2+3+25*3, total)
}

// With lists of SHA-1 or SHA-512 digests in dbx nothing runs, whatever db says.
func TestUBootRefusesAllWithOtherDigestsInDBX(t *testing.T) {
	v := store(t, "testdata/firmware/VARS.fd.gz")
	files, err := filepath.Glob("testdata/*/*.efi")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		for _, row := range []secureboot.Firmware{secureboot.FirmwareUBoot202610, secureboot.FirmwareUBoot202501, secureboot.FirmwareUBootLegacy} {
			r := secureboot.Evaluate(v, readImage(t, path), secureboot.EvaluateOptions{Firmware: row})
			require.False(t, r.Allowed || r.Unknown, r.Reason)
			require.Contains(t, r.Reason, "dbx has a list of type SHA512: ")
		}
	}
}

// A second set: what three builds of Debian did with images of one base and many signatures, under
// many combinations of db and dbx. A line is "BUILD DB DBX IMAGE ANSWER".
func TestUBootMoreCases(t *testing.T) {
	files := tarred(t, "testdata/uboot/b-images.tar.gz")
	rows := map[string]secureboot.Firmware{"2026.10~rc5": secureboot.FirmwareUBoot202610, "2025.01": secureboot.FirmwareUBoot202501, "2023.01": secureboot.FirmwareUBootLegacy}
	f, err := os.Open("testdata/uboot/b-cases.txt")
	require.NoError(t, err)
	defer f.Close()
	decided, unknown := 0, 0
	for s := bufio.NewScanner(f); s.Scan(); {
		part := strings.Fields(s.Text())
		require.Len(t, part, 5)
		row, db, dbx, answer := rows[part[0]], files[part[1]+".esl"], files[part[2]+".esl"], part[4]
		require.NotEmpty(t, row)
		require.NotEmpty(t, db)
		require.Equal(t, part[2] == "-", dbx == nil)
		require.Contains(t, []string{"ran", "refused", "crashed"}, answer)
		im, err := secureboot.ReadImage(bytes.NewReader(files[part[3]+".efi"]))
		require.NoError(t, err)
		r := secureboot.Evaluate(osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: db, DBX: dbx}, im, secureboot.EvaluateOptions{Firmware: row})
		switch {
		case r.Unknown:
			unknown++
			// SHA-1 digest, no certificate; digest of an intermediate one
			odd := part[1] == "dbi" || part[1] == "dbp" || part[1] == "dbq" || part[2] == "dx8"
			require.True(t, odd || slices.Contains([]string{"notca", "pad16", "small"}, part[3]), "%s: %s", s.Text(), r.Reason)
		case r.Allowed != (answer == "ran"):
			t.Errorf("%s: %s", s.Text(), r.Reason)
		case answer == "crashed":
			require.Contains(t, []secureboot.Rule{secureboot.RuleParserFails, secureboot.RuleDBXListType}, r.Rule, s.Text())
			decided++
		default:
			decided++
		}
	}
	require.Greater(t, decided, 1850)
	require.Equal(t, 2097, decided+unknown)
}

func tarred(t testing.TB, name string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(testtools.Gunzip(t, name))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		files[h.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	require.NotEmpty(t, files)
	return files
}
