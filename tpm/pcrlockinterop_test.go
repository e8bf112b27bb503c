package tpm

import (
	"crypto"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm/policy"
)

const pcrlockTool = "/usr/lib/systemd/systemd-pcrlock"

// lockTPM is a software TPM that a tool can use, with what a boot left in it.
func lockTPM(t *testing.T, dir string, log *Log) (socket string) {
	t.Helper()
	socket = filepath.Join(dir, "tpm.sock")
	cmd := exec.Command(testtools.Require(t, "swtpm"), "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var conn net.Conn
	require.Eventually(t, func() bool {
		var err error
		conn, err = net.Dial("unix", socket)
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)
	tpm := transport.FromReadWriter(conn)
	for i := range log.Events {
		e := &log.Events[i]
		if !e.extends() {
			continue
		}
		_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(e.PCR), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: e.Digests[crypto.SHA256]}}}}.Execute(tpm)
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close())
	return socket
}

// writeComponents writes the .pcrlock files of boots into a directory in dir, which it returns.
func writeComponents(t *testing.T, dir string, all Alternatives) (locks string) {
	t.Helper()
	components, err := all.Components()
	require.NoError(t, err)
	locks = filepath.Join(dir, "pcrlock.d")
	for _, c := range components {
		files, err := c.Files()
		require.NoError(t, err)
		for name, data := range files {
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(locks, name)), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(locks, name), data, 0o644))
		}
	}
	return locks
}

// systemd-pcrlock reads the components that were made before the boot, finds every event of the
// real log in them, and predicts the values that we do, for all five boots.
func TestInteropPCRLock(t *testing.T) {
	r := testtools.Forky(t)
	vectors := bootVectors(t)
	for i, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			firmware, err := ParseLog(vectors[(i+1)%len(vectors)].log)
			require.NoError(t, err)
			b := wholeBoot(t, v, firmware)
			other := b // the same in a boot whose UKI has another command line
			other.UKI.Digests = map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("other"))}
			all, err := PredictAll(b, other)
			require.NoError(t, err)
			dir := t.TempDir()
			locks := writeComponents(t, dir, all)
			// Those that systemd ships, but for what its own userspace would measure.
			r.Run(t, dir, "sh", "-c", "cp -r /usr/lib/pcrlock.d/3* /usr/lib/pcrlock.d/4* /usr/lib/pcrlock.d/5* /usr/lib/pcrlock.d/700* pcrlock.d/")
			log, err := ParseLog(v.log)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "log"), v.log, 0o644))
			socket := lockTPM(t, dir, log)
			env := []string{"SYSTEMD_MEASURE_LOG_FIRMWARE=" + filepath.Join(dir, "log"), "SYSTEMD_MEASURE_LOG_USERSPACE=" + filepath.Join(dir, "none"),
				"SYSTEMD_TPM2_DEVICE=swtpm:path=" + socket}
			run := func(args ...string) string {
				return r.Output(t, dir, "env", slices.Concat(env, []string{pcrlockTool, "--components=" + locks, "--json=short"}, args)...)
			}
			checkLockLog(t, run("log"))

			const pcrs = "--pcr=0+1+2+3+4+5+7+9+11+12+13+14+15"
			var theirs map[string][]struct {
				PCR    int      `json:"pcr"`
				Values []string `json:"values"`
			}
			require.NoError(t, json.Unmarshal([]byte(run("--location=740-", pcrs, "predict")), &theirs))
			ours, err := all.Values(crypto.SHA256)
			require.NoError(t, err)
			require.Len(t, theirs["sha256"], 13, "it predicts every PCR")
			for _, p := range theirs["sha256"] {
				assert.Contains(t, p.Values, hexOf(v.pcrs[p.PCR]), "PCR %d", p.PCR)
				for _, value := range ours[p.PCR] {
					assert.Contains(t, p.Values, hexOf(value), "PCR %d", p.PCR)
				}
			}
			checkLockPolicy(t, dir, socket, func() {
				run("--location=740-", "--pcr=1+4+7+11+12", "--recovery-pin=hide", "--policy="+filepath.Join(dir, "policy.json"), "--entry-token=literal:x", "make-policy")
			})
		})
	}
}

// systemd-pcrlock finds every event of a running system's two logs in the components of the boot
// that was predicted from the logs of another one, and predicts the values that the TPM has at the
// end.
func TestInteropPCRLockUserspace(t *testing.T) {
	r := testtools.Forky(t)
	b := mkosiBoot(t, "b2", "b1")
	b.Userspace = &Userspace{Earlier: mkosiUserspace(t, "b1")}
	b.Phases = b.Userspace.Earlier.Phases()
	all, err := PredictAll(b)
	require.NoError(t, err)
	dir := t.TempDir()
	locks := writeComponents(t, dir, all)
	r.Run(t, dir, "sh", "-c", "cp -r /usr/lib/pcrlock.d/* pcrlock.d/")
	log, err := ParseLog(read(t, "testdata/mkosi/b2/binary_bios_measurements"))
	require.NoError(t, err)
	for _, name := range []string{"binary_bios_measurements", "tpm2-measure.log"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), read(t, "testdata/mkosi/b2", name), 0o644))
	}
	socket := lockTPM(t, dir, log.WithUserspace(mkosiUserspace(t, "b2")))
	run := func(args ...string) string {
		return r.Output(t, dir, "env", slices.Concat([]string{"SYSTEMD_MEASURE_LOG_FIRMWARE=" + filepath.Join(dir, "binary_bios_measurements"),
			"SYSTEMD_MEASURE_LOG_USERSPACE=" + filepath.Join(dir, "tpm2-measure.log"), "SYSTEMD_TPM2_DEVICE=swtpm:path=" + socket,
			pcrlockTool, "--components=" + locks, "--json=short"}, args)...)
	}
	checkLockLog(t, run("log"))
	const pcrs = "--pcr=0+1+2+3+4+5+7+9+11+12+13+14+15"
	var theirs map[string][]struct {
		PCR    int      `json:"pcr"`
		Values []string `json:"values"`
	}
	require.NoError(t, json.Unmarshal([]byte(run("--location=740-:940-", pcrs, "predict")), &theirs))
	require.Len(t, theirs["sha256"], 13, "it predicts every PCR")
	want := recorded(t, "b2", "pcrs.json")
	for _, p := range theirs["sha256"] {
		assert.Contains(t, p.Values, hexOf(want[p.PCR]), "PCR %d", p.PCR)
	}
}

// checkLockLog requires that the tool found a component for every record of the log.
func checkLockLog(t *testing.T, out string) {
	t.Helper()
	var shown struct {
		Log []struct {
			PCR                           int
			Event, Component, Description string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &shown))
	require.NotEmpty(t, shown.Log)
	for _, e := range shown.Log {
		if e.PCR >= PCRCount {
			continue // of an NvPCR
		}
		assert.NotEmpty(t, e.Component, "PCR %d: %s: %s", e.PCR, e.Event, e.Description)
	}
}

// checkLockPolicy has the tool make a policy: the digest that it writes to the TPM is ours for the
// values in its file.
func checkLockPolicy(t *testing.T, dir, socket string, run func()) {
	t.Helper()
	run()
	raw := read(t, dir, "policy.json")
	p, err := policy.ParsePCRLock(raw)
	require.NoError(t, err)
	require.Len(t, p.Values, 5)
	again, err := p.MarshalJSON()
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(string(raw)), string(again))
	digest, err := p.Digest()
	require.NoError(t, err)

	conn, err := net.Dial("unix", socket)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	tpm := transport.FromReadWriter(conn)
	public, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(p.NVIndex)}.Execute(tpm)
	require.NoError(t, err)
	parsed, err := policy.ParseNVPublic(p.NVPublic[2:]) // behind the length of a TPM2B
	require.NoError(t, err)
	parsed.Attributes |= policy.NVWritten
	name, err := parsed.Name()
	require.NoError(t, err)
	assert.Equal(t, public.NVName.Buffer, name)
	contents, err := tpm2.NVRead{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(p.NVIndex), Name: public.NVName}, Size: 34,
	}.Execute(tpm)
	require.NoError(t, err)
	approved, err := policy.ParseApprovedPolicy(contents.Data.Buffer)
	require.NoError(t, err)
	assert.Equal(t, approved, digest)
}

// The files of the tool's verbs are ours, byte for byte.
func TestInteropLockVerbs(t *testing.T) {
	r := testtools.Forky(t)
	dir := t.TempDir()
	record := func(pcr int, data []byte) LockVariant {
		v := LockVariant{Records: []LockRecord{{pcr, map[crypto.Hash][]byte{}}}}
		for _, h := range Banks() {
			v.Records[0].Digests[h] = pcrbank.Sum(h, data)
		}
		return v
	}
	conf := read(t, "testdata/boot/a-sb-sdboot-262/loader.conf")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "loader.conf"), conf, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cmdline"), []byte("quiet splash\n"), 0o644))
	id := strings.TrimSpace(r.Output(t, dir, "cat", "/etc/machine-id"))
	word, err := MachineIDWord(id)
	require.NoError(t, err)
	for _, c := range []struct {
		want LockVariant
		args []string
	}{
		{record(5, conf), []string{"lock-raw", "--pcr=5", "loader.conf"}},
		{record(9, utf16z("quiet splash")), []string{"lock-kernel-cmdline", "cmdline"}},
		{record(9, conf), []string{"lock-kernel-initrd", "loader.conf"}},
		{record(15, []byte(word)), []string{"lock-machine-id"}},
	} {
		r.Run(t, dir, pcrlockTool, append([]string{"--pcrlock=" + filepath.Join(dir, "out.pcrlock")}, c.args...)...)
		raw := read(t, dir, "out.pcrlock")
		b, err := c.want.MarshalJSON()
		require.NoError(t, err)
		assert.Equal(t, string(raw), string(b)+"\n", c.args[0])
		parsed, err := ParseLockVariant("", raw)
		require.NoError(t, err)
		assert.Equal(t, c.want, parsed)
	}
}
