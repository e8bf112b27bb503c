package compare

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// transfer is a definition of sysupdate.d that fetches from a file server.
const transfer = `[Transfer]
Verify=no

[Source]
Type=url-file
Path=%s
MatchPattern=%s

[Target]
%s
`

// upgradeFromServer streams a release from a file server on this machine: root file system and UKI
// to their places, where every block is checked before it is written; then it is verified, made
// bootable and taken back. The reference fetches the same files into the same partitions and the
// UKI into a directory, by SHA256SUMS.
func upgradeFromServer(b *testing.B) sides {
	disk, facts, r, files := machine(b)
	dir := b.TempDir()
	layout, fetched, plain := filepath.Join(dir, "layout"), filepath.Join(dir, "fetched"), filepath.Join(dir, "plain")
	d, err := release.Pack(layout, "2", r)
	require.NoError(b, err)
	server := httptest.NewServer(http.FileServer(http.Dir(layout)))
	b.Cleanup(server.Close)
	src, err := weblayout.Open(server.URL, weblayout.OpenOptions{Client: server.Client()})
	require.NoError(b, err)

	tree := testtools.Forky(b)
	data, hashes, err := partition.VerityIDs(r.RootHash)
	require.NoError(b, err)
	require.NoError(b, os.Mkdir(plain, 0o755))
	uki := filepath.Join(filepath.Dir(files[0]), "acme_2.efi")
	sums := ""
	for name, from := range map[string]string{fmt.Sprintf("acme_2_%s.root.raw", data): files[0], fmt.Sprintf("acme_2_%s.verity.raw", hashes): files[1], "acme_2.efi": uki} {
		f, err := os.Open(from)
		require.NoError(b, err)
		h := sha256.New()
		_, err = io.Copy(h, f)
		require.NoError(b, err)
		require.NoError(b, f.Close())
		sums += hex.EncodeToString(h.Sum(nil)) + "  " + name + "\n"
		require.NoError(b, os.Link(from, filepath.Join(plain, name)))
	}
	require.NoError(b, os.WriteFile(filepath.Join(plain, "SHA256SUMS"), []byte(sums), 0o644))
	other := httptest.NewServer(http.FileServer(http.Dir(plain)))
	b.Cleanup(other.Close)
	root := filepath.Join(dir, "machine")
	for _, sub := range []string{"usr/lib/sysupdate.d", "efi/EFI/Linux", "efi/loader"} {
		require.NoError(b, os.MkdirAll(filepath.Join(root, sub), 0o755))
	}
	slot := "Type=partition\nPath=/disk.img\nMatchPartitionType=%s\nMatchPattern=%s"
	for name, text := range map[string]string{
		"usr/lib/os-release":                   string(acmeos.OSRelease("1")),
		"usr/lib/sysupdate.d/10-tree.transfer": fmt.Sprintf(transfer, other.URL, "acme_@v_@u.verity.raw", fmt.Sprintf(slot, "root-x86-64-verity", "acme_@v_verity")),
		"usr/lib/sysupdate.d/20-root.transfer": fmt.Sprintf(transfer, other.URL, "acme_@v_@u.root.raw", fmt.Sprintf(slot, "root-x86-64", "acme_@v")),
		"usr/lib/sysupdate.d/30-uki.transfer":  fmt.Sprintf(transfer, other.URL, "acme_@v.efi", "Type=regular-file\nPathRelativeTo=esp\nPath=/EFI/Linux\nMatchPattern=acme_@v+@l-@d.efi\nTriesLeft=3\nTriesDone=0\nInstancesMax=2"),
	} {
		require.NoError(b, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	before := filepath.Join(dir, "before.img")
	require.NoError(b, untimed("cp", "--sparse=always", disk.File().Name(), before))
	update := inTree(b, tree, root, "env", "SYSTEMD_RELAX_ESP_CHECKS=1", "systemd-sysupdate", "--root="+root, "update")

	return sides{
		ours: func() error {
			ctx := context.Background()
			if err := os.RemoveAll(fetched); err != nil {
				return err
			}
			artifact, err := release.Read(ctx, src, d)
			if err != nil {
				return err
			}
			stream, err := release.Stream(ctx, src, artifact, fetched, release.PullOptions{})
			if err != nil {
				return err
			}
			defer stream.Close()
			plan, err := upgrade.NewPlan(ctx, disk, stream, facts, planOptions)
			if err != nil {
				return err
			}
			if err := plan.Apply(ctx, nil); err != nil {
				return err
			}
			_, err = upgrade.Cancel(disk, facts)
			return err
		},
		reference: func() (time.Duration, error) {
			// As it was before: another version is there, and the slot is empty.
			for _, command := range []string{"rm -f " + root + "/efi/EFI/Linux/*", "cp " + uki + " " + root + "/efi/EFI/Linux/acme_1.efi", "cp --sparse=always " + before + " " + root + "/disk.img", "sync"} {
				if err := untimed("sh", "-c", command); err != nil {
					return 0, err
				}
			}
			took, err := update()
			if err != nil {
				return 0, err
			}
			if _, err := os.Stat(filepath.Join(root, "efi/EFI/Linux/acme_2+3-0.efi")); err != nil {
				return 0, fmt.Errorf("the reference has installed nothing: %w", err)
			}
			return took, nil
		},
	}
}

// untimed runs a command that is not timed.
func untimed(command ...string) error {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
	}
	return nil
}
