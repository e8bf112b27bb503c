package secureboot_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// Images that foreign tools have signed: digests and signatures are what package authenticode
// finds, the entries are the bytes of the file.
func TestReadImage(t *testing.T) {
	names, err := filepath.Glob("../authenticode/testdata/*.efi")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b := read(t, name)
			im, err := secureboot.ReadImage(bytes.NewReader(b), crypto.SHA1)
			require.NoError(t, err)
			hashes := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
			signatures, err := authenticode.Signatures(bytes.NewReader(b))
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(im.Certificates), len(signatures))
			digests, err := authenticode.Digests(bytes.NewReader(b), hashes...)
			require.NoError(t, err)
			require.Equal(t, digests, im.Digests)
			var table []byte
			for i, c := range im.Certificates {
				require.Equal(t, c.Raw, b[c.Offset:][:len(c.Raw)])
				require.True(t, i == 0 || c.Offset == im.Certificates[i-1].Offset+int64(len(im.Certificates[i-1].Raw)))
				table = append(table, c.Raw...)
			}
			file, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
			require.NoError(t, err)
			require.EqualValues(t, file.Certificates.Size, len(table))
			require.True(t, bytes.HasSuffix(b, table))
		})
	}
	im, err := secureboot.ReadImage(bytes.NewReader(petest.Stub("262-1")))
	require.NoError(t, err)
	require.Contains(t, string(im.SBAT), "sbat,1,")

	for name, b := range map[string][]byte{"text": []byte("text"), "cut": petest.Stub("262-1")[:1000]} {
		im, err := secureboot.ReadImage(bytes.NewReader(b))
		require.Equal(t, secureboot.Image{}, im, name)
		_, ok := errors.AsType[*osmith.FormatError](err)
		require.True(t, ok, "%s: %v", name, err)
		require.Regexp(t, `^secureboot: [^:]+ at 0x`, err.Error(), name)
	}
}

func ExampleReadImage() {
	f, err := osmith.OpenFile(filepath.Join("..", "authenticode", "testdata", "sbsign.efi"))
	if err != nil {
		panic(err)
	}
	defer f.Close()
	image, err := secureboot.ReadImage(f)
	if err != nil {
		panic(err)
	}
	machine, err := secureboot.ReadVariables(os.DirFS("testdata/boot")) // /sys/firmware/efi/efivars
	if err != nil {
		panic(err)
	}
	verdict := secureboot.Evaluate(machine, image, secureboot.EvaluateOptions{})
	fmt.Println(len(image.Certificates), verdict.Allowed, verdict.Reason)
	// Output: 1 false signature 0: signed by "CN=osmith test signer", issued by "CN=osmith test CA": no certificate in db is on that chain
}
