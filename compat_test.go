package osmith_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// compatDir holds what was frozen; testdata/compat/README.md says what a change of it means.
const compatDir = "testdata/compat/v0"

var freeze = flag.Bool("freeze", false, "write "+compatDir+" anew; only before a first release, or with a reader for the old form")

// TestCompat builds a system from fixed keys and inputs and checks every byte that it writes
// against what was frozen.
func TestCompat(t *testing.T) {
	b := &acmeos.Builder{Keys: readKeys(t), Parts: acmeos.StandIns(), Seed: [16]byte{0xac, 0x3e}, Time: time.Unix(1_767_225_600, 0).UTC()}
	dir := t.TempDir()
	var sets []*acmeos.Set
	for _, version := range []string{"1", "2"} {
		root := filepath.Join(dir, version+".raw")
		// 200 KiB
		require.NoError(t, os.WriteFile(root, bytes.Repeat([]byte("version "+version+" "), 20<<10), 0o600))
		set, err := b.Build(t.Context(), dir, version, root)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, set.Close()) })
		sets = append(sets, set)
	}
	image, err := b.Disk(sets[0], acmeos.DiskOptions{Enroll: true})
	require.NoError(t, err)
	disk := faultio.NewDisk(image.Size)
	require.NoError(t, partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}))
	manifest, err := release.Pack(filepath.Join(dir, "release"), "v2", sets[1].Release())
	require.NoError(t, err)
	machine, err := b.Machine()
	require.NoError(t, err)
	plan, err := upgrade.NewPlan(context.Background(), disk, sets[1].Release(), machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	planJSON, err := json.MarshalIndent(plan, "", "  ")
	require.NoError(t, err)
	before := sum(t, disk)
	require.NoError(t, plan.Apply(t.Context(), nil))

	got := map[string]string{
		"root-hash":        hex.EncodeToString(sets[0].RootHash),
		"verity-tree":      sum(t, sets[0].Release().Tree),
		"uki-signed":       sum(t, sets[0].Release().UKI),
		"disk":             before,
		"disk-upgraded":    sum(t, disk),
		"release-manifest": manifest.Digest.String(),
	}
	text, err := json.MarshalIndent(got, "", "  ")
	require.NoError(t, err)
	compare(t, "digests.json", text)
	compare(t, "plan.json", planJSON)
}

func compare(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join(compatDir, name)
	got = append(got, '\n')
	if *freeze {
		require.NoError(t, os.WriteFile(name, got, 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))), string(got))
}

func sum(t *testing.T, src osmith.Source) string {
	t.Helper()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < src.Size(); off += int64(len(buf)) {
		n := min(int64(len(buf)), src.Size()-off)
		_, err := src.ReadAt(buf[:n], off)
		require.NoError(t, err)
		h.Write(buf[:n])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// keyNames are the files of the frozen keys. They sign nothing but test data.
var keyNames = []string{"PK", "KEK", "db", "pcr", "release"}

var newKeys sync.Once

func writeKeys(t *testing.T) {
	t.Helper()
	k, err := acmeos.GenerateKeys(time.Unix(1_767_225_600, 0))
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(compatDir, 0o755))
	sb := k.SecureBoot
	certs := []*x509.Certificate{sb.PK.Cert, sb.KEK.Cert, sb.DB.Cert, nil, nil}
	for i, key := range []crypto.Signer{sb.PK.Key, sb.KEK.Key, sb.DB.Key, k.PCR, k.Release} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if certs[i] != nil {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certs[i].Raw})...)
		}
		require.NoError(t, os.WriteFile(filepath.Join(compatDir, keyNames[i]+".pem"), b, 0o644))
	}
}

func readKeys(t *testing.T) *acmeos.Keys {
	t.Helper()
	if *freeze {
		newKeys.Do(func() { writeKeys(t) }) // every test of this run uses the same
	}
	pairs := map[string]secureboot.KeyPair{}
	for _, name := range keyNames {
		b, err := os.ReadFile(filepath.Join(compatDir, name+".pem"))
		require.NoError(t, err)
		var p secureboot.KeyPair
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			switch block.Type {
			case "PRIVATE KEY":
				key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
				require.NoError(t, err)
				p.Key = key.(crypto.Signer)
			case "CERTIFICATE":
				p.Cert, err = x509.ParseCertificate(block.Bytes)
				require.NoError(t, err)
			}
		}
		require.NotNil(t, p.Key, name)
		pairs[name] = p
	}
	return &acmeos.Keys{
		SecureBoot: &secureboot.Hierarchy{PK: pairs["PK"], KEK: pairs["KEK"], DB: pairs["db"], Owner: acmeos.Owner},
		PCR:        pairs["pcr"].Key.(*rsa.PrivateKey),
		Release:    pairs["release"].Key.(*ecdsa.PrivateKey),
	}
}
