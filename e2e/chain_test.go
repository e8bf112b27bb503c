//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/grub"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// TestChains boots through Debian's shim, which Microsoft's certificate in db lets start: to
// systemd-boot and a UKI, to GRUB and Debian's kernel; and through a shim that our own certificate
// lets start, as the UKI behind it. What each boot measures is predicted before it begins, in all
// banks.
func TestChains(t *testing.T) {
	requireVM(t)
	t.Parallel()
	t.Run("systemd-boot", func(t *testing.T) {
		c := newChains(t)
		image, err := c.s.UKI("1", uki.Image{})
		require.NoError(t, err)
		loader, err := c.s.Builder.SignedLoader()
		require.NoError(t, err)
		c.start(t, c.shim, c.microsoft, map[string]osmith.Source{
			"EFI/BOOT/grubx64.efi": loader, firstPath: bytes.NewReader(image), "loader/loader.conf": bytes.NewReader([]byte("timeout 0\n")),
		})
		c.s.loaderConf = []byte("timeout 0\n")
		b, err := c.s.Describe(UKIBoot{Image: image, Path: firstPath})
		require.NoError(t, err)
		b.Variables, b.Chain = &c.v, append([]tpm.Program{c.firmwareStarts(t, c.shim)}, b.Chain...)
		rep := c.boot(t, "1-shim-systemd-boot", *b, []int{4, 5, 7, 8, 11, 12, 13, 14, 15})
		require.Equal(t, "1", rep.Version)

		// Another machine, whose owner signed shim: firmware and shim both measure the same
		// certificate. What its firmware does is learnt from this boot.
		own := newChains(t)
		own.s.Builder.Keys = c.s.Builder.Keys
		own.s.Facts = c.s.Facts
		db := c.s.Builder.Keys.SecureBoot.DB
		var signed bytes.Buffer
		require.NoError(t, authenticode.Sign(&signed, bytes.NewReader(c.shim), db.Key, db.Cert, authenticode.SignOptions{Time: c.s.Builder.Time}))
		own.start(t, signed.Bytes(), nil, map[string]osmith.Source{"EFI/BOOT/grubx64.efi": bytes.NewReader(image)})
		b, err = own.s.Describe(UKIBoot{Image: image, Path: "EFI/BOOT/grubx64.efi"})
		require.NoError(t, err)
		b.Variables, b.Chain = &own.v, []tpm.Program{own.firmwareStarts(t, signed.Bytes())}
		b.Firmware, err = tpm.ParseLog(rep.EventLog)
		require.NoError(t, err)
		rep = own.boot(t, "2-own-shim-uki", *b, []int{0, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15})
		log, err := tpm.ParseLog(rep.EventLog)
		require.NoError(t, err)
		require.Len(t, authorities(log, "db"), 2, "one by firmware, one by shim")
	})
	t.Run("GRUB", func(t *testing.T) {
		c := newChains(t)
		grubFile := c.tool(t, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
		cmdline := c.s.Builder.Cmdline + " osmith.report=initrd osmith.version="
		for name, config := range map[string]string{
			"short": fmt.Sprintf("set timeout=0\nlinux /vmlinuz %s1\ninitrd /initrd.img\nboot\n", cmdline),
			"menu":  fmt.Sprintf(grubMenu, cmdline),
		} {
			files := map[string]osmith.Source{
				"EFI/BOOT/grubx64.efi": bytes.NewReader(grubFile), "EFI/debian/grub.cfg": bytes.NewReader([]byte(config)), "more.cfg": bytes.NewReader([]byte("set more='1 2'\n")),
				"vmlinuz": c.s.Builder.Parts.Linux, "initrd.img": c.s.Builder.Parts.Initrd,
			}
			c.start(t, c.shim, c.microsoft, files)
			b := c.grubBoot(t, grubFile, files)
			rep := c.boot(t, "3-shim-grub-"+name, b, []int{4, 5, 7, 8, 9, 11, 12, 13, 14, 15})
			require.Equal(t, map[string]string{"short": "1", "menu": "1x"}[name], rep.Version)
		}
	})
}

// grubMenu has the ways to say things that the configurations of distributions have.
const grubMenu = `# a menu
if [ -s $prefix/grubenv ]; then load_env; fi
set timeout=0
set default="second"
function pick {
	set chosen_version="${1}"
	return
}
if [ "${feature_menuentry_id}" = y -a ! -e /none ]; then id="--id"; else id=; fi
for x in one "two three"; do
	set last="$x"
done
if [ -f /more.cfg ]; then source /more.cfg; fi
menuentry 'First' --class gnu-linux $id first { true }
menuentry "Second \"$last\"" $id second extra {
	insmod part_gpt
	pick 1x
	echo	'Loading ...'
	linux	/vmlinuz %s$chosen_version lab.q="a b" lab.more="$more" lab.esc=x\\y lab.apos="it's"
	initrd	/initrd.img
}
`

// grubBoot is a boot through GRUB, with what it measures worked out from its configuration.
func (c *chains) grubBoot(t *testing.T, file []byte, files map[string]osmith.Source) tpm.Boot {
	t.Helper()
	version, err := grub.Version(bytes.NewReader(file))
	require.NoError(t, err)
	done, err := grub.Run(grub.Environment{Version: version, Config: "(hd0,gpt1)/EFI/debian/grub.cfg", Open: func(name string) (osmith.Source, error) {
		src, ok := files[strings.TrimPrefix(name, "(hd0,gpt1)/")]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return src, nil
	}}, tpm.Banks()...)
	require.NoError(t, err)
	gpt, err := c.s.partitionTable()
	require.NoError(t, err)
	g := &tpm.GRUB{Application: c.shimStarts(t, "EFI/BOOT/grubx64.efi", bytes.NewReader(file)), Before: done.Before, After: done.After}
	kernel := c.shimStarts(t, "vmlinuz", c.s.Builder.Parts.Linux)
	return tpm.Boot{Variables: &c.v, GPT: gpt, Chain: []tpm.Program{c.firmwareStarts(t, c.shim), g}, Kernel: &kernel,
		Handover: &osmith.Handover{LoadOptions: done.LoadOptions, Initrd: done.Initrd}}
}

// chains is a machine that starts through shim.
type chains struct {
	s         *System
	root      testtools.Root
	shim      []byte
	microsoft []byte                   // signature lists with Microsoft's certificate
	v         osmith.FirmwareVariables // of the machine that was started
}

func newChains(t *testing.T) *chains {
	t.Helper()
	r := testtools.Forky(t)
	c := &chains{s: newSystem(t, r), root: testtools.Trixie(t)}
	c.s.Machine.Code, c.s.Machine.Vars = r.Path("usr/share/OVMF/OVMF_CODE_4M.secboot.fd"), r.Part(t, "ovmf-vars")
	c.shim = c.tool(t, "usr/lib/shim/shimx64.efi.signed")
	recorded, err := os.ReadFile("../tpm/testdata/boot-shim/s1-msvars/sigdb/db-d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	require.NoError(t, err)
	c.microsoft = recorded[4:] // behind the attributes
	return c
}

// tool reads what Debian signed.
func (c *chains) tool(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(c.root.Path("opt/signed/" + name))
	require.NoError(t, err)
	return b
}

// start gives the machine keys, and a disk with shim and other files.
func (c *chains) start(t *testing.T, shim, more []byte, files map[string]osmith.Source) {
	t.Helper()
	c.v = *c.s.Facts.Firmware
	none := []byte{}
	c.v.SecureBoot, c.v.SetupMode, c.v.DB = []byte{1}, []byte{0}, append(bytes.Clone(c.v.DB), more...)
	c.v.SbatLevel, c.v.SbatPolicy, c.v.MokList, c.v.MokListX, c.v.MokSBState, c.v.MokDBState, c.v.MokPolicy, c.v.MokListTrustedRT = none, none, none, none, none, none, none, []byte{1}
	require.NoError(t, c.s.Machine.SetVariables(c.v))
	list := []osmith.ESPFile{{Path: "EFI/BOOT/BOOTX64.EFI", Content: bytes.NewReader(shim)}}
	for path, content := range files {
		list = append(list, osmith.ESPFile{Path: path, Content: content})
	}
	require.NoError(t, os.RemoveAll(c.s.Machine.Disk))
	_, err := writeESP(c.s.Machine.Disk, list, attemptsSeed, attemptsTime)
	require.NoError(t, err)
}

// firmwareStarts is shim, as firmware starts it.
func (c *chains) firmwareStarts(t *testing.T, file []byte) *tpm.Shim {
	t.Helper()
	shim, err := secureboot.ReadShim(bytes.NewReader(file), tpm.Banks()...)
	require.NoError(t, err)
	verdict := secureboot.Evaluate(c.v, shim.Image, secureboot.EvaluateOptions{NoShim: true})
	require.True(t, verdict.Allowed, verdict.Reason)
	authority, err := verdict.AuthorityEvent()
	require.NoError(t, err)
	return &tpm.Shim{Application: tpm.Application{Path: "EFI/BOOT/BOOTX64.EFI", Digests: shim.Image.Digests, Authority: authority}, Variables: shim.Measured(c.v)}
}

// shimStarts is a program as shim starts it.
func (c *chains) shimStarts(t *testing.T, path string, src osmith.Source) tpm.Application {
	t.Helper()
	shim, err := secureboot.ReadShim(bytes.NewReader(c.shim))
	require.NoError(t, err)
	image, err := secureboot.ReadImage(src, tpm.Banks()...)
	require.NoError(t, err)
	verdict := secureboot.Evaluate(c.v, image, secureboot.EvaluateOptions{Shim: shim, ByProgram: true})
	require.True(t, verdict.Allowed, verdict.Reason)
	authority, err := verdict.AuthorityEvent()
	require.NoError(t, err)
	return tpm.Application{Path: path, Size: src.Size(), Digests: image.Digests, Authority: authority}
}

// boot predicts, boots and compares.
func (c *chains) boot(t *testing.T, name string, b tpm.Boot, pcrs []int) *report.Report {
	t.Helper()
	predicted, err := PredictValues(b)
	require.NoError(t, err)
	for moment, banks := range predicted {
		for bank, values := range banks {
			for _, n := range pcrs {
				require.NotEmpty(t, values[n], "PCR %d of %s %s", n, bank, moment)
			}
		}
	}
	written := c.s.writeDown(t, name, predicted)
	c.s.Machine.Deadline = 5 * time.Minute
	r := boot(t, c.s.Machine, name, Reported).Report
	require.True(t, r.SecureBoot())
	require.NoError(t, readBack(t, written).Check(r, pcrs))
	require.NoError(t, replays(r))
	return r
}

// authorities are the events of PCR 7 with entries of a variable.
func authorities(l *tpm.Log, variable string) (out []tpm.Event) {
	for _, e := range l.Events {
		if e.PCR == 7 && e.Type == tpm.EventEFIVariableAuthority && e.Subject.Name == variable {
			out = append(out, e)
		}
	}
	return out
}
