package main

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/partition"
)

// planOption plans the boot option of the loader, if it is asked for.
func (f *installation) planOption(c *cli.Call, v *espvolume.Volumes, vars *variables, in *bootloader.Installation, out *installResult) (*bootloader.BootPlan, error) {
	switch {
	case !f.option:
		return nil, nil
	case vars.store == nil:
		return nil, cli.Usagef("-boot-option: -vars %s keeps no variables", f.vars)
	case v.Table == nil:
		if err := findPartition(v, c, f.ESP); err != nil {
			return nil, fmt.Errorf("-boot-option: which partition it is to name is not known: %w", err)
		}
	}
	file, err := in.BootFile()
	if err != nil {
		return nil, err
	}
	p := v.Table.Partitions[v.Partition]
	program := bootloader.BootProgram{File: file, Partition: p.ID, PartitionNumber: uint32(p.Number), FirstLBA: p.FirstLBA, LastLBA: p.LastLBA}
	plan, err := bootloader.PlanBootOption(vars.MachineVariables, program, bootloader.BootPlanOptions{})
	if err != nil {
		return nil, fmt.Errorf("-vars %s: %w", f.vars, err)
	}
	out.Option = &optionObject{Number: plan.Number, Changes: []string{}, Inactive: plan.Inactive}
	for _, c := range plan.Changes {
		out.Option.Changes = append(out.Option.Changes, c.String())
	}
	return plan, nil
}

// findPartition finds the place of an ESP that is mounted on a directory, in the table of its disk.
func findPartition(v *espvolume.Volumes, c *cli.Call, dir string) error {
	if _, ok := v.ESP.(*espvolume.Directory); !ok {
		return cli.No{Err: fmt.Errorf("%s has no partition table", dir)}
	}
	at, err := espvolume.FindMounted(c, dir)
	if err != nil {
		return err
	}
	table, err := partition.Read(at.Disk, partition.ReadOptions{})
	if err != nil {
		return err
	}
	v.Table, v.Partition = table, table.Find(at.ID)
	if v.Partition < 0 {
		return fmt.Errorf("%s: its partition is gone from the table", dir)
	}
	return nil
}

// writeVariables writes the boot option and the system token. What firmware refuses is told: the
// loader is there, and is started by the fallback.
func (f *installation) writeVariables(c *cli.Call, vars *variables, option *bootloader.BootPlan, out *installResult) error {
	if vars.store == nil {
		return nil
	}
	if option != nil {
		_, err := option.Apply(vars.store)
		if errors.Is(err, bootloader.ErrVariableRefused) {
			out.Option.Refused = err.Error()
			instead := "firmware starts it as the fallback of the ESP"
			if f.noFallback {
				instead = "nothing has firmware start it"
			}
			fmt.Fprintf(c.Stderr, "boot: warning: no boot option: %v; %s\n", err, instead)
		} else if err != nil {
			return fmt.Errorf("the files are installed, the boot option is not: %w", err)
		}
	}
	if f.seed {
		token := make([]byte, bootloader.SystemTokenSize)
		rand.Read(token) // it never fails
		written, err := bootloader.SetSystemToken(vars.store, token)
		switch {
		case errors.Is(err, bootloader.ErrVariableRefused):
			out.SystemToken = err.Error()
			fmt.Fprintf(c.Stderr, "boot: warning: no system token: %v\n", err)
		case err != nil:
			return fmt.Errorf("the files are installed, the system token is not: %w", err)
		case written:
			out.SystemToken = "written"
		default:
			out.SystemToken = "there"
		}
	}
	if err := vars.keep(); err != nil {
		return fmt.Errorf("the files are installed, the variables are not: %w", err)
	}
	return nil
}
