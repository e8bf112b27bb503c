//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// TestRefusedKernels has stubs start kernels that their model says they refuse, one image after the
// other in one boot: each comes back, and Check said so. A stub waits a while after what it prints,
// so that those of 252 and 254 are asked with OSMITH_LONG=1 alone.
func TestRefusedKernels(t *testing.T) {
	requireVM(t)
	t.Parallel()
	forky, trixie := testtools.Forky(t), testtools.Trixie(t)
	stubs := []string{forky.Part(t, "stub"), trixie.Part(t, "stub")}
	if os.Getenv("OSMITH_LONG") == "1" {
		stubs = append(stubs, trixie.Part(t, "stub-252"), trixie.Path("opt/stub-254/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	}
	var files []osmith.ESPFile
	var attempts []Attempt
	asked := map[string]int{}
	for _, name := range stubs {
		stub, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, k := range petest.RefusedKernels(petest.Kernel("6.12.0")) {
			im := uki.Image{
				Stub: bytes.NewReader(stub), Linux: bytes.NewReader(k.Kernel), Initrd: []osmith.Source{strings.NewReader("no initrd")}, OSRelease: acmeos.OSRelease("1"),
				Uname: "6.12.0", Cmdline: kernelArguments, SBAT: []byte("uki,1,U,u,1,x\n"), AllowKernelThatTheStubRefuses: true,
			}
			assembled, err := im.Assemble()
			require.NoError(t, err, k.Name)
			var b bytes.Buffer
			_, err = assembled.WriteTo(&b)
			require.NoError(t, err)
			f, err := uki.Open(bytes.NewReader(b.Bytes()))
			require.NoError(t, err)
			version, err := f.StubVersion()
			require.NoError(t, err)
			release, err := version.Release()
			require.NoError(t, err)
			if answer, _ := sdstub.KernelAnswer(sdstub.KernelTrait(k.Name), release); answer != sdstub.AnswerRefuses {
				continue // it would be started, and does not come back
			}
			if k.Name == string(sdstub.KernelEntryPoint) && release < 262 {
				continue // an exception, which stops the machine
			}
			require.True(t, slices.ContainsFunc(f.Check(), func(c uki.Finding) bool { return c.Code == k.Name && c.Severity == uki.SeverityError }), "%s: %v", k.Name, f.Check())
			path := fmt.Sprintf("k/%d-%s.efi", release, k.Name)
			files = append(files, osmith.ESPFile{Path: path, Content: bytes.NewReader(b.Bytes())})
			attempts = append(attempts, Attempt{Name: path, Path: path})
			asked[fmt.Sprint(release)]++
		}
	}
	require.GreaterOrEqual(t, len(asked), 2)
	m := &Machine{
		Code: forky.Path("usr/share/OVMF/OVMF_CODE_4M.secboot.fd"), Vars: forky.Part(t, "ovmf-vars"), Dir: t.TempDir(), Logs: logs(t),
		StopAt: []string{nothingLeft}, Deadline: 8 * time.Minute,
	}
	require.NoError(t, m.Attempts(osmith.FirmwareVariables{SecureBoot: []byte{0}, SetupMode: []byte{1}}, files, attempts))
	outcomes := boot(t, m, "refused-kernels", Stopped).Outcomes(attempts)
	for _, a := range attempts {
		o, ok := outcomes[a.Name]
		require.True(t, ok, "no answer of %s", a.Name)
		require.True(t, o.Started, "firmware does not load %s: %s", a.Name, o.Status)
	}
	t.Logf("images by release of the stub: %v", asked)
}
