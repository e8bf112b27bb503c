package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

var when = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var keys = sync.OnceValues(func() (*acmeos.Keys, error) { return acmeos.GenerateKeys(when) })

// A bench is a directory with a disk image of version 1, a signed layout of releases, keys and
// variables.
type bench struct {
	t       *testing.T
	dir     string
	builder *acmeos.Builder
	machine upgrade.Machine
	one     *acmeos.Set
}

func newBench(t *testing.T) *bench {
	t.Helper()
	k, err := keys()
	require.NoError(t, err)
	b := &bench{t: t, dir: t.TempDir(), builder: &acmeos.Builder{Keys: k, Parts: acmeos.StandIns(), Seed: osmith.GUID{0xac}, Time: when}}
	b.machine, err = b.builder.Machine()
	require.NoError(t, err)
	b.one = b.build("1")
	image, err := b.builder.Disk(b.one, acmeos.DiskOptions{})
	require.NoError(t, err)
	disk, err := acmeos.CreateImage(b.path("disk.img"), image.Size)
	require.NoError(t, err)
	require.NoError(t, partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}))
	require.NoError(t, disk.Close())

	b.public("release.pub", &k.Release.PublicKey)
	b.public("pcr.pub", &k.PCR.PublicKey)
	b.file("policy.json", `{"schema":"osmith.policy/1","rules":[{"repository":"registry.example/os/*","authorities":[{"name":"acme","keys":["release.pub"]}]}]}`)
	b.variables("vars", nil)
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) file(name, content string) string {
	b.t.Helper()
	require.NoError(b.t, os.MkdirAll(filepath.Dir(b.path(name)), 0o755))
	require.NoError(b.t, os.WriteFile(b.path(name), []byte(content), 0o600))
	return b.path(name)
}

func (b *bench) public(name string, key crypto.PublicKey) {
	b.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(b.t, err)
	b.file(name, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

func (b *bench) build(version string) *acmeos.Set {
	b.t.Helper()
	root := b.path(version + ".root.raw")
	require.NoError(b.t, acmeos.WriteRoot(root, version, nil))
	set, err := b.builder.Build(b.t.Context(), b.dir, version, root)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, set.Close()) })
	return set
}

// release packs a set into the layout, and signs it.
func (b *bench) release(set *acmeos.Set) {
	b.t.Helper()
	packed, err := release.Pack(b.path("layout"), set.Version, set.Release())
	require.NoError(b.t, err)
	store, err := cosign.OpenDir(b.path("layout"))
	require.NoError(b.t, err)
	require.NoError(b.t, cosign.Sign(b.t.Context(), store, packed, b.builder.Keys.Release, cosign.SignOptions{}))
}

// variables writes a copy of efivarfs: what firmware has, and some of the loader's.
func (b *bench) variables(dir string, loader map[string]string) {
	b.t.Helper()
	require.NoError(b.t, acmeos.WriteVariables(b.path(dir), b.machine.Firmware, loader))
}

// boot switches the machine on until it is up, and leaves in a directory what the system that runs
// then shows of it.
func (b *bench) boot(dir string) *upgradetest.Boot {
	b.t.Helper()
	disk, err := acmeos.OpenImage(b.path("disk.img"))
	require.NoError(b.t, err)
	defer disk.Close()
	boots, err := (&upgradetest.Machine{Disk: disk, Machine: b.machine}).BootUntilUp(b.t.Context(), 8)
	require.NoError(b.t, err)
	up := boots[len(boots)-1]
	require.Equal(b.t, upgradetest.Up, up.Outcome, up)
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(b.t, err)
	esp := table.Partitions[0].ID.String()
	loader := map[string]string{"LoaderInfo": "systemd-boot 262", "LoaderDevicePartUUID": esp, "StubDevicePartUUID": esp, "StubImageIdentifier": up.Running.Image}
	if up.Running.BootCountPath != "" {
		loader["LoaderBootCountPath"] = up.Running.BootCountPath
	}
	require.NoError(b.t, os.RemoveAll(b.path(dir)))
	b.variables(filepath.Join(dir, "sys/firmware/efi/efivars"), loader)
	b.file(filepath.Join(dir, "proc/cmdline"), "quiet roothash="+hex.EncodeToString(up.RootHash)+"\n")
	return up
}

// call runs the program; @name is a file of the bench.
func (b *bench) call(line string) (status int, stdout, stderr string) {
	b.t.Helper()
	args := strings.Fields(line)
	for i := range args {
		args[i] = strings.Replace(args[i], "@", b.dir+string(filepath.Separator), 1)
	}
	var out, err bytes.Buffer
	status = program.Run(b.t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

func (b *bench) ok(line string) string {
	b.t.Helper()
	status, stdout, stderr := b.call(line)
	require.Zero(b.t, status, stderr)
	require.Empty(b.t, stderr)
	return stdout
}

// refused asserts an exit status, and what is said on stderr, once prefixed.
func (b *bench) refused(status int, want, line string) (stdout string) {
	b.t.Helper()
	got, stdout, stderr := b.call(line)
	require.Equal(b.t, status, got, "%s: %s", line, stderr)
	require.Contains(b.t, stderr, want)
	require.Regexp(b.t, "(?m)^upgrade: ", stderr)
	require.NotContains(b.t, stderr, "upgrade: upgrade: ")
	return stdout
}

// object decodes the one object of -json, into a type that has all of its members.
func object[T any](t *testing.T, text string) (o T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&o), text)
	require.False(t, d.More())
	return o
}

// The forms of state and plan are in docs/schema; these are some of their members.
type (
	seen struct {
		head
		State map[string]any `json:"state"`
	}
	planned struct {
		head
		Release releaseObject `json:"release"`
		Plan    struct {
			Schema, Version, From, Entry, Slot string
			Installed, Refused                 bool
			Judgements                         []struct {
				Verdict, Outcome string
				Reasons          []struct{ Outcome, Text string }
				Overridden       bool
			}
			Chain, Steps []map[string]any
			Loader       map[string]any
			PCRs         map[string]map[string]string
		} `json:"plan"`
		Applied bool `json:"applied"`
	}
)

func (p planned) outcome(verdict string) (string, error) {
	for _, j := range p.Plan.Judgements {
		if j.Verdict == verdict {
			return j.Outcome, nil
		}
	}
	return "", errors.New("no verdict " + verdict)
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(b)
}
