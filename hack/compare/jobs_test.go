package compare

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/squashfs"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/verity"
)

const mib = 1 << 20

// jobs are measured in this order. The bars are those of two cores.
var jobs = []job{
	{"verity format, 1 GiB", "veritysetup format", 0.30, verityFormat(1024*mib, "sha256")},
	{"verity format, 4 GiB", "veritysetup format", 0.30, verityFormat(4096*mib, "sha256")},
	{"verity format, 1 GiB, SHA-512", "veritysetup format", 0.18, verityFormat(1024*mib, "sha512")},
	{"verity format, sparse 4 GiB, 5 % data", "veritysetup format", 0.06, veritySparse},
	{"verity verify, 1 GiB", "veritysetup verify", 0.30, verityVerify},
	{"verity format + FEC, 2 roots, 256 MiB", "veritysetup format --fec-device", 0.06, verityFEC(256*mib, 2)},
	{"verity format + FEC, 24 roots, 96 MiB", "veritysetup format --fec-device", 0.04, verityFEC(96*mib, 24)},
	{"disk image: ESP 114 MB, root 236 MB, verity", "systemd-repart", 0.40, diskImage},
	{"FAT, one file of 200 MB", "mkfs.vfat + mcopy", 1.10, fatOneFile},
	{"FAT, 1,000 long names", "mkfs.vfat + mcopy", 0.05, fatManyFiles},
	{"ext4 of Go's source", "mkfs.ext4 -d", 0.75, ext4Write},
	{"squashfs of Go's runtime, 19 MB, gzip", "mksquashfs -comp gzip", 1.00, squashfsWrite(squashfs.Gzip)},
	{"squashfs of Go's runtime, 19 MB, zstd", "mksquashfs -comp zstd", 0.75, squashfsWrite(squashfs.Zstd)},
	{"UKI, initrd of 100 MB", "ukify build", 0.12, ukiAssemble},
	{"UKI, Secure Boot signature", "ukify build + systemd-sbsign", 0.16, ukiSigned},
	{"UKI, 4 PCR banks signed, Secure Boot signature", "ukify build + systemd-measure, systemd-sbsign", 0.22, ukiMeasuredAndSigned},
	{"PCR 11 of a UKI of 214 MB, 4 banks", "systemd-measure calculate", 0.75, ukiMeasure},
	{"upgrade, root 1 GiB, UKI 119 MB: plan, write, verify, make bootable, cancel", "dd conv=fsync of the root, veritysetup verify", 1.00, upgradeFromFiles},
	{"the same, streamed from a file server", "systemd-sysupdate 262 update, url-file, SHA256SUMS; verifies nothing that it has written", 0.60, upgradeFromServer},
	{"plan of an upgrade, root 1 GiB, UKI 119 MB", "veritysetup verify, sha256sum of the UKI", 1.05, upgradePlan},
	{"pull of the same release from a file server, with digests and fsync", "curl, which does neither", 1.30, releasePull},
	{"signature of a release verified, simple signing", "cosign 3.1 verify", 0.30, cosignVerify(cosign.FormatSimpleSigning, testtools.Forky)},
	{"signature of a release verified, bundle", "cosign 3.1 verify", 0.30, cosignVerify(cosign.FormatBundle, testtools.Forky)},
	{"AES-256-XTS in memory, 1 GiB, sectors of 512 bytes, one core", "openssl speed", 1.11, xtsInMemory(512)},
	{"AES-256-XTS in memory, 1 GiB, sectors of 4096 bytes, one core", "openssl speed", 1.33, xtsInMemory(4096)},
	{"LUKS2 volume made and 1 GiB written to it, fsync included", "dd conv=fsync, not encrypted", 2.50, luksWrite},
	{"LUKS2 volume made with Argon2id: 256 MiB, 4 passes, 4 threads", "argon2", 1.11, luksArgon2id},
	{"event log of 10,000 events, 2 banks: parse, replay", "tpm2_eventlog", 0.50, eventLog},
	{"logs of two boots, 10,000 events in the opposite order: parse, compare, causes", "tpm2_eventlog twice, diff", 0.50, diffLogs},
	{"next boot with systemd 262 up to ready, from an earlier one's logs: predict, replay", "systemd-pcrlock cel, which only reads the logs", 0.30, predictBoot},
}

const (
	saltHex = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	uuid    = "12345678-9abc-4def-8123-456789abcdef"
)

func verityInput(b *testing.B, size int64) (dir string, data *os.File, p verity.Params) {
	dir = b.TempDir()
	return dir, noise(b, filepath.Join(dir, "data"), size), verity.Params{Salt: veritySalt(b)}
}

func veritySalt(b *testing.B) []byte {
	salt, err := hex.DecodeString(saltHex)
	require.NoError(b, err)
	return salt
}

func verityFormat(size int64, hash string) func(b *testing.B) sides {
	return func(b *testing.B) sides {
		dir, data, p := verityInput(b, size)
		p.Hash = hash
		return veritySides(b, dir, data, p)
	}
}

// veritySparse formats a file with one piece of data in twenty, spread over all of it.
func veritySparse(b *testing.B) sides {
	const size, piece = 4096 * mib, 1 * mib
	dir := b.TempDir()
	data, err := os.Create(filepath.Join(dir, "data"))
	require.NoError(b, err)
	b.Cleanup(func() { data.Close() })
	content := make([]byte, piece)
	rand.NewChaCha8([32]byte{2}).Read(content)
	for off := int64(0); off < size; off += 20 * piece {
		_, err := data.WriteAt(content, off)
		require.NoError(b, err)
	}
	require.NoError(b, data.Truncate(size))
	return veritySides(b, dir, data, verity.Params{Salt: veritySalt(b), Hash: "sha256"})
}

func veritySides(b *testing.B, dir string, data *os.File, p verity.Params) sides {
	return sides{
		ours: func() error {
			return create(filepath.Join(dir, "ours"), func(f *os.File) error {
				_, err := verity.Format(context.Background(), f, source(data), p)
				return err
			})
		},
		reference: host(b, fmt.Sprintf("cd %s; rm -f theirs; veritysetup format --hash=%s --salt=%s --uuid=%s data theirs",
			dir, p.Hash, saltHex, uuid), "veritysetup"),
	}
}

func verityVerify(b *testing.B) sides {
	dir, data, p := verityInput(b, 1024*mib)
	tree, err := os.Create(filepath.Join(dir, "tree"))
	require.NoError(b, err)
	b.Cleanup(func() { tree.Close() })
	root, err := verity.Format(context.Background(), tree, source(data), p)
	require.NoError(b, err)
	return sides{
		ours: func() error {
			return verity.Verify(context.Background(), source(data), source(tree), root)
		},
		reference: host(b, fmt.Sprintf("cd %s; veritysetup verify data tree %x", dir, root), "veritysetup"),
	}
}

func fatOneFile(b *testing.B) sides {
	dir := b.TempDir()
	file := noise(b, filepath.Join(dir, "linux.efi"), 200_000_000)
	return fatSides(b, dir, []osmith.ESPFile{{Path: "EFI/Linux/linux.efi", Content: source(file)}}, 256*mib,
		"mmd -i theirs ::/EFI ::/EFI/Linux; mcopy -i theirs linux.efi ::/EFI/Linux/")
}

func fatManyFiles(b *testing.B) sides {
	dir := b.TempDir()
	require.NoError(b, os.Mkdir(filepath.Join(dir, "many"), 0o700))
	var files []osmith.ESPFile
	// 2,000 of them take mcopy minutes.
	for i := range 1000 {
		name := fmt.Sprintf("many/a rather long name of file number %04d.conf", i)
		files = append(files, osmith.ESPFile{Path: name, Content: source(noise(b, filepath.Join(dir, name), 100))})
	}
	return fatSides(b, dir, files, 64*mib, "mcopy -s -i theirs many ::/")
}

func fatSides(b *testing.B, dir string, files []osmith.ESPFile, size int64, copying string) sides {
	return sides{
		ours: func() error {
			return create(filepath.Join(dir, "ours"), func(f *os.File) error {
				return fat.Build(f, files, fat.BuildOptions{Size: size, VolumeID: 0x12345678, Label: "ESP"})
			})
		},
		reference: host(b, fmt.Sprintf("cd %s; rm -f theirs; truncate -s %d theirs; mkfs.vfat -F 32 -i 12345678 -n ESP theirs; %s",
			dir, size, copying), "mkfs.vfat", "mcopy", "mmd"),
	}
}

// noise makes a file of the given size that does not compress and has no holes.
func noise(b *testing.B, path string, size int64) *os.File {
	f, err := os.Create(path)
	require.NoError(b, err)
	b.Cleanup(func() { f.Close() })
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), size)
	require.NoError(b, err)
	return f
}

func open(b *testing.B, path string) *os.File {
	f, err := os.Open(path)
	require.NoError(b, err)
	b.Cleanup(func() { f.Close() })
	return f
}

// source is a file as the packages' input.
func source(f *os.File) *io.SectionReader {
	info, err := f.Stat()
	if err != nil {
		panic(err) // of a file that this test has just made
	}
	return io.NewSectionReader(f, 0, info.Size())
}

// create makes the file anew, as the reference tools do.
func create(path string, write func(*os.File) error) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
