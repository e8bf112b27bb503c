// Agent keeps a machine on its newest release: it commits the version that runs, and installs the
// release if its version differs. docs/live.md tells what happens when.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity/dm"
)

func main() {
	layout, name, key := flag.String("layout", "", "`directory` with releases"), flag.String("release", "", "`name` of one"), flag.String("key", "", "`file` with a public key")
	flag.Parse()
	if err := keepUp(context.Background(), *layout, *name, *key); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func keepUp(ctx context.Context, layout, name, key string) error {
	m, err := upgrade.ReadMachine(os.DirFS("/"), upgrade.ReadMachineOptions{Verity: dm.Active})
	if err != nil {
		return err
	}
	disk, err := upgrade.OpenDisk(m.Running.ESP) // the one that firmware started this from
	if err != nil {
		return err
	}
	defer disk.Close()
	if m.Mounted, err = upgrade.FindMounted(disk); err != nil { // write /efi through the kernel
		return err
	}
	defer upgrade.CloseMounted(m.Mounted)
	m.NoShim, m.NothingSealed = true, true // the vendor knows; health checks go before Commit
	if _, err := upgrade.Commit(disk, m.Machine, ""); err != nil || name == "" {
		return err
	}
	r, err := open(ctx, layout, name, key)
	if err != nil {
		return err
	}
	defer r.Close()
	plan, err := upgrade.NewPlan(ctx, disk, r, m.Machine, upgrade.PlanOptions{})
	if err != nil {
		return err
	}
	fmt.Print(plan)
	return plan.Apply(ctx, nil) // refuses without the verdicts; cut short, the old version boots
}

// open verifies who has released it before anything else is looked at.
func open(ctx context.Context, layout, name, key string) (*release.Release, error) {
	text, err := os.ReadFile(key)
	if err != nil {
		return nil, err
	}
	keys, err := cosign.ParseKeys(text)
	if err != nil {
		return nil, err
	}
	store, err := cosign.OpenLayout(os.DirFS(layout))
	if err != nil {
		return nil, err
	}
	artifact, err := store.Resolve(name)
	if err != nil {
		return nil, err
	}
	verified, err := cosign.Verify(ctx, store, artifact, cosign.Policy{Keys: keys})
	if err != nil {
		return nil, err
	}
	return release.Open(ctx, os.DirFS(layout), verified.Subject)
}
