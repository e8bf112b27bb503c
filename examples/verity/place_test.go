package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// placeCases are ways to have data, tree and parity in fewer than three files. Names of files are
// D, T and P; a number with a * is blocks of 4096 bytes. The data has 300 blocks, its tree with the
// superblock 5.
var placeCases = map[string]string{
	"all in one":             "-data D -tree D -hash-offset 300* -fec D -fec-offset 305*",
	"all in one, room":       "-data D -tree D -hash-offset 302* -fec D -fec-offset 320*",
	"tree and parity":        "-data D -tree T -fec T -fec-offset 5*",
	"tree and parity, room":  "-data D -tree T -hash-offset 2* -fec T -fec-offset 9*",
	"data and parity":        "-data D -tree T -fec D -fec-offset 301*",
	"data and tree":          "-data D -tree D -hash-offset 300* -fec P",
	"parity at an offset":    "-data D -tree T -fec P -fec-offset 3*",
	"some blocks":            "-data D -tree T -data-blocks 200",
	"some blocks, one file":  "-data D -tree D -data-blocks 200 -hash-offset 250* -fec D -fec-offset 260*",
	"no superblock":          "-data D -tree D -hash-offset 300* -no-superblock -fec D -fec-offset 304*",
	"some, no superblock":    "-data D -tree D -data-blocks 200 -hash-offset 210* -no-superblock",
	"24 roots, all in one":   "-data D -tree D -hash-offset 300* -fec D -fec-offset 305* -fec-roots 24",
	"parity behind the rest": "-data D -tree D -data-blocks 100 -hash-offset 100* -fec P -fec-offset 1*",
}

func placeArgs(dir, text string) (args []string) {
	for _, word := range strings.Fields(text) {
		if number, ok := strings.CutSuffix(word, "*"); ok {
			n, err := strconv.Atoi(number)
			if err != nil {
				panic(err)
			}
			word = strconv.Itoa(n * 4096)
		} else if word == "D" || word == "T" || word == "P" {
			word = filepath.Join(dir, word)
		}
		args = append(args, word)
	}
	return args
}

// TestPlaces formats, verifies, damages and repairs.
func TestPlaces(t *testing.T) {
	for name, text := range placeCases {
		t.Run(name, func(t *testing.T) {
			dir := placeDir(t)
			before := read(t, filepath.Join(dir, "D"))
			args := placeArgs(dir, text)
			var f formatResult
			object(t, ok(t, append([]string{"format", "-salt", "01", "-uuid", testUUID, "-json"}, args...)...), &f)
			require.True(t, bytes.Equal(before[:f.DataBlocks*4096], read(t, filepath.Join(dir, "D"))[:f.DataBlocks*4096]), "the data was touched")
			args = append(args, "-root", f.RootHash)
			if !f.Superblock {
				args = append(args, "-salt", "01")
			} else {
				args = without(args, "-data-blocks")
			}
			require.Empty(t, ok(t, append([]string{"verify"}, args...)...))
			if f.FECRoots == 0 {
				return
			}
			damage(t, filepath.Join(dir, "D"), 7*4096, 5000)
			status, _, stderr := call3(t, append([]string{"verify"}, args...)...)
			require.Equal(t, 1, status, stderr)
			var r repairResult
			object(t, ok(t, append([]string{"repair", "-json"}, args...)...), &r)
			require.Equal(t, []blocks{{0, 7, 2}}, r.Repaired)
			require.Empty(t, ok(t, append([]string{"verify"}, args...)...))
		})
	}
}

// TestPlacesAsVeritysetup compares all files with those of veritysetup.
func TestPlacesAsVeritysetup(t *testing.T) {
	root := testtools.Forky(t)
	for name, text := range placeCases {
		t.Run(name, func(t *testing.T) {
			dir, other := placeDir(t), placeDir(t)
			ok(t, append([]string{"format", "-salt", "01", "-uuid", testUUID}, placeArgs(dir, text)...)...)
			theirs := []string{"format", "", ""}
			args := placeArgs(other, text)
			for i := 0; i < len(args); i++ {
				switch args[i] {
				case "-data":
					i++
					theirs[1] = args[i]
				case "-tree":
					i++
					theirs[2] = args[i]
				case "-fec":
					theirs = append(theirs, "--fec-device")
				default:
					if strings.HasPrefix(args[i], "-") {
						args[i] = "-" + args[i]
					}
					theirs = append(theirs, args[i])
				}
			}
			if strings.Contains(text, "-data D") && !strings.Contains(text, "-data-blocks") {
				theirs = append(theirs, "--data-blocks=300")
			}
			// It does not read between tree and parity behind the end of a file.
			for _, file := range []string{"D", "T"} {
				if strings.Contains(text, "-tree "+file) && strings.Contains(text, "-fec "+file) {
					f, err := os.OpenFile(filepath.Join(other, file), os.O_RDWR|os.O_CREATE, 0o600)
					require.NoError(t, err)
					require.NoError(t, f.Truncate(400*4096))
					require.NoError(t, f.Close())
				}
			}
			root.Run(t, other, "veritysetup", append(theirs, "--salt=01", "--uuid="+testUUID)...)
			require.Equal(t, names(t, other), names(t, dir))
			for _, file := range names(t, dir) {
				// A file that is longer by zeros only is the same device.
				a, b := read(t, filepath.Join(dir, file)), read(t, filepath.Join(other, file))
				n := max(len(a), len(b))
				a, b = append(a, make([]byte, n-len(a))...), append(b, make([]byte, n-len(b))...)
				// Between superblock and tree it leaves what was there.
				if at := bytes.Index(a, []byte("verity\x00\x00")); at >= 0 {
					clear(b[at+512 : at+4096])
				}
				require.True(t, bytes.Equal(a, b), file)
			}
		})
	}
}

// A file that has a tree already is formatted again without ado.
func TestFormatAgain(t *testing.T) {
	dir, data := image(t)
	args := []string{"format", "-data", data, "-tree", data, "-hash-offset", "1228800", "-salt", "01", "-json"}
	var a, b formatResult
	object(t, ok(t, args...), &a)
	object(t, ok(t, args...), &b)
	require.Equal(t, a.RootHash, b.RootHash)
	require.Equal(t, []string{"data"}, names(t, dir))

	// Not if that tree is of more than what is in front of the offset.
	damage(t, data, 1228800+72, 1)
	status, _, stderr := call3(t, args...)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "is inside the data")
}

// A superblock that says too few blocks is a negative answer of verify, repair and diff.
func TestFewerBlocks(t *testing.T) {
	dir, data := image(t)
	tree, parity := filepath.Join(dir, "tree"), filepath.Join(dir, "fec")
	var f formatResult
	object(t, ok(t, "format", "-data", data, "-tree", tree, "-fec", parity, "-json"), &f)
	b := read(t, tree)
	require.Equal(t, []byte{300 & 0xff, 1}, b[72:74])
	copy(b[72:], []byte{290 & 0xff, 1})
	require.NoError(t, os.WriteFile(tree, b, 0o600))
	status, stdout, stderr := call3(t, "verify", "-data", data, "-tree", tree, "-root", f.RootHash, "-json")
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "more than the requested 290 data blocks")
	var v verifyResult
	object(t, stdout, &v)
	require.False(t, v.Verified)
	require.Equal(t, []string{"spare"}, v.Findings)
	status, _, stderr = call3(t, "repair", "-data", data, "-tree", tree, "-root", f.RootHash, "-fec", parity)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "more than the requested 290 data blocks")
	status, _, stderr = call3(t, "diff", tree, tree)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "more than the requested 290 data blocks")
}

func placeDir(t *testing.T) string {
	t.Helper()
	dir, data := image(t)
	require.NoError(t, os.Rename(data, filepath.Join(dir, "D")))
	return dir
}

// without leaves out a flag and its value.
func without(args []string, name string) (left []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == name {
			i++
			continue
		}
		left = append(left, args[i])
	}
	return left
}
