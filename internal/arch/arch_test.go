package arch

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// No name, machine type or partition type may stand for two architectures.
func TestUnambiguous(t *testing.T) {
	seen := map[any]string{}
	once := func(kind string, key any, a *Architecture) {
		require.NotContains(t, seen, [2]any{kind, key}, "%s %v", kind, key)
		seen[[2]any{kind, key}] = a.Name
	}
	for i := range Table {
		a := &Table[i]
		for _, name := range append([]string{a.Name}, a.Aliases...) {
			once("name", name, a)
			found, ok := ByName(name)
			require.True(t, ok)
			require.Same(t, a, found)
		}
		require.Equal(t, a.EFI == "", a.Machine == 0, a.Name)
		if a.EFI != "" {
			once("EFI", a.EFI, a)
			once("machine", a.Machine, a)
			found, ok := ByEFI(a.EFI)
			require.True(t, ok)
			require.Same(t, a, found)
			found, ok = ByMachine(a.Machine)
			require.True(t, ok)
			require.Same(t, a, found)
		}
		if a.Go != "" {
			once("Go", a.Go, a)
			found, ok := ByGo(a.Go)
			require.True(t, ok)
			require.Same(t, a, found)
		}
		if a.Types[Root].IsZero() {
			require.Equal(t, [6]osmith.GUID{}, a.Types)
			continue
		}
		for r, id := range a.Types {
			once("type", id, a)
			found, role, ok := ByType(id)
			require.True(t, ok)
			require.Same(t, a, found)
			require.Equal(t, Role(r), role)
		}
	}
}

func TestNotFound(t *testing.T) {
	for _, find := range []func(string) (*Architecture, bool){ByName, ByEFI, ByGo} {
		for _, name := range []string{"", "X64", "vax"} {
			_, ok := find(name)
			require.False(t, ok, name)
		}
	}
	_, ok := ByMachine(0)
	require.False(t, ok)
	_, _, ok = ByType(osmith.GUID{})
	require.False(t, ok)
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ name, efi, golang, loader, verity string }{
		{"x86-64", "x64", "amd64", "EFI/BOOT/BOOTX64.EFI", "usr-x86-64-verity"},
		{"arm64", "aa64", "arm64", "EFI/BOOT/BOOTAA64.EFI", "usr-arm64-verity"},
		{"x86", "ia32", "386", "EFI/BOOT/BOOTIA32.EFI", "usr-x86-verity"},
		{"arm", "arm", "arm", "EFI/BOOT/BOOTARM.EFI", "usr-arm-verity"},
		{"riscv64", "riscv64", "riscv64", "EFI/BOOT/BOOTRISCV64.EFI", "usr-riscv64-verity"},
		{"loongarch64", "loongarch64", "loong64", "EFI/BOOT/BOOTLOONGARCH64.EFI", "usr-loongarch64-verity"},
	} {
		a, ok := ByName(c.name)
		require.True(t, ok)
		require.Equal(t, []string{c.efi, c.golang, c.loader, c.verity}, []string{a.EFI, a.Go, a.Loader(), a.TypeName(UsrVerity)})
		require.Equal(t, []string{"linux" + c.efi + ".efi.stub", "addon" + c.efi + ".efi.stub", "systemd-boot" + c.efi + ".efi"}, []string{a.Stub(), a.AddonStub(), a.SystemdBoot()})
	}
}

// Secondary architectures are rows of the table, and kernels of what EFI names have a limit of
// their command line.
func TestColumns(t *testing.T) {
	secondary := map[string]string{}
	for _, a := range Table {
		if a.Secondary != "" {
			_, ok := ByName(a.Secondary)
			require.True(t, ok, a.Secondary)
			secondary[a.Name] = a.Secondary
		}
		require.Equal(t, a.EFI != "", a.CommandLine > 0, a.Name)
	}
	require.Equal(t, map[string]string{"x86-64": "x86", "arm64": "arm", "mips64-le": "mips-le", "ppc64": "ppc", "riscv64": "riscv32", "s390x": "s390"}, secondary)
}

func TestLoaderPlaces(t *testing.T) {
	require.Equal(t, [4]LoaderPlace{
		{Loader: "EFI/systemd/systemd-bootaa64.efi"},
		{Loader: "EFI/systemd/grubaa64.efi", Shim: "EFI/systemd/shimaa64.efi"},
		{Loader: "EFI/BOOT/BOOTAA64.EFI"},
		{Loader: "EFI/BOOT/grubaa64.efi", Shim: "EFI/BOOT/BOOTAA64.EFI"},
	}, ARM64.LoaderPlaces())
	var entries []string
	for _, l := range X8664.LoaderPlaces() {
		entries = append(entries, l.Entry())
	}
	require.Equal(t, []string{"EFI/systemd/systemd-bootx64.efi", "EFI/systemd/shimx64.efi", "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/BOOTX64.EFI"}, entries)
}
