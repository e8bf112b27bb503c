package bootloader_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
)

var _ bootloader.VariableStore = (*bootloader.EFIVarFS)(nil)

func TestEFIVarFSIsAStore(t *testing.T) {
	store, err := bootloader.OpenEFIVarFS(t.TempDir())
	require.NoError(t, err)
	testStore(t, store)
	plan := planned(t, store, bootloader.BootPlanOptions{})
	_, err = plan.Apply(store)
	require.NoError(t, err)
	require.Equal(t, []string{"EFI/systemd/systemd-bootx64.efi"}, read(t, store).LoaderPaths(firstESP))
}

func ExampleOpenEFIVarFS() {
	dir, err := os.MkdirTemp("", "efivars") // a copy; the machine's own are ""
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := bootloader.OpenEFIVarFS(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(bootloader.SetLoaderVariable(store, "LoaderEntryOneShot", "example_2.efi"))
	if free, known, err := store.Free(); err != nil || known {
		fmt.Println(free, "bytes are free", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(files[0].Name())
	// Output:
	// <nil>
	// LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
}
