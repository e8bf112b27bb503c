package bootloader_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
)

// ours is the loader on the ESP of the machine.
var ours = bootloader.BootProgram{File: "EFI/systemd/systemd-bootx64.efi", Partition: firstESP, PartitionNumber: 1, FirstLBA: 0x800, LastLBA: 0x17ff}

// planned is the plan for ours in a store.
func planned(t testing.TB, store bootloader.VariableStore, o bootloader.BootPlanOptions) *bootloader.BootPlan {
	t.Helper()
	have := &bootloader.MachineVariables{}
	v, err := bootloader.ReadVariables(store)
	if err == nil {
		have = v
	}
	plan, err := bootloader.PlanBootOption(have, ours, o)
	require.NoError(t, err)
	return plan
}
