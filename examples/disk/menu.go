package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/loaderfiles"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// menuFlags is esp menu: what the boot loader on an ESP lists and boots, and what is wrong with the
// files. Entries that cannot boot are a negative answer.
func menuFlags(flags *flag.FlagSet) func(*cli.Call, []string) error {
	assume := flags.Int("loader-as", 0, "treat a systemd-boot that is not known as the one of this `release`")
	return func(c *cli.Call, operands []string) error {
		return withESP(c, operands[0], os.O_RDONLY, func(volume *fat.FS) error {
			o := bootloader.MenuOptions{AssumeLoader: *assume}
			at, loader, err := loaderOf(volume)
			if err != nil {
				return err
			}
			o.Architecture, o.Self, o.LoaderVersion = at.EFI, loader.Path, loader.Version
			if loader.Err != nil && *assume == 0 {
				return cli.No{Err: fmt.Errorf("%s: %w: name in -loader-as the release of systemd-boot that the menu is to be of", loader.Path, loader.Err)}
			}
			if x, err := extendedOf(c, operands[0]); err != nil {
				return err
			} else if x != nil {
				o.XBOOTLDR = x
			}
			menu, err := bootloader.ReadMenu(volume, o)
			if _, unknown := errors.AsType[*bootloader.LoaderVersionError](err); unknown {
				return cli.No{Err: fmt.Errorf("%w (-loader-as)", err)}
			}
			if err != nil {
				return err
			}
			out, text := menuAnswer(c, operands[0], o, menu)
			if err := c.Answer(out, strings.ToValidUTF8(text, "?")); err != nil || len(out.Broken) == 0 {
				return err
			}
			return cli.No{Err: fmt.Errorf("entries that cannot boot: %s", strings.Join(out.Broken, ", "))}
		})
	}
}

// loaderOf finds the boot loader that firmware starts from EFI/BOOT, of whatever architecture: the
// program there, or the systemd-boot that shim starts from there.
func loaderOf(volume *fat.FS) (*arch.Architecture, *loaderfiles.Found, error) {
	for i := range arch.Table {
		a := &arch.Table[i]
		found, err := loaderfiles.Find(volume, a, func(l arch.LoaderPlace) bool { return l.Entry() == a.Loader() })
		if err != nil || found != nil {
			return a, found, err
		}
	}
	return nil, nil, cli.No{Err: errors.New("there is no boot loader in EFI/BOOT")}
}

// extendedOf opens the extended boot loader partition beside an ESP; nil if there is none.
func extendedOf(c *cli.Call, operand string) (fs.FS, error) {
	name, _ := splitPart(operand)
	disk, err := c.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	t, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return nil, nil // a FAT volume: espOf has read it
	}
	for i, p := range t.Partitions {
		if p.Type == partition.XBOOTLDR {
			x, err := fat.OpenReader(t.Window(disk, i))
			if err != nil {
				return nil, fmt.Errorf("%s, partition %d (XBOOTLDR): %w", name, p.Number, err)
			}
			return x, nil
		}
	}
	return nil, nil
}

func menuAnswer(c *cli.Call, image string, o bootloader.MenuOptions, menu *bootloader.Menu) (out menuJSON, text string) {
	r := menu.Release
	out = menuJSON{head: header(c, image), Loader: string(o.LoaderVersion), Rules: string(r.Version()), Evidence: r.Evidence.String(), Architecture: o.Architecture, Entries: []bootEntryJSON{},
		Findings: []bootFindingJSON{}, Broken: []string{}}
	var b strings.Builder
	fmt.Fprintf(&b, "systemd-boot %s (%s), by the rules of %s (%s)\n", out.Loader, out.Architecture, out.Rules, out.Evidence)
	chosen, why := menu.Default(bootloader.Variables{})
	out.Reason = string(why)
	where := func(xbootldr bool) string {
		if xbootldr {
			return "XBOOTLDR: "
		}
		return ""
	}
	for _, e := range menu.Entries {
		_, to := e.Boot()
		j := bootEntryJSON{ID: e.ID, Path: e.Path, XBOOTLDR: e.XBOOTLDR, Type: e.Type.String(), Title: e.Title, Version: e.Version, Profile: e.Profile, Bad: e.Bad(), Default: e == chosen,
			Damage: e.Damage}
		mark := " "
		if j.Default {
			mark = "*"
		}
		fmt.Fprintf(&b, "%s %s  %q  %s%s", mark, e.ID, e.Title, where(e.XBOOTLDR), e.Path)
		if to != e.Path {
			j.Renamed = to
			fmt.Fprintf(&b, " -> %s", to)
		}
		if j.Bad {
			b.WriteString("  no tries left")
		}
		b.WriteByte('\n')
		out.Entries = append(out.Entries, j)
		if e.Damage != "" {
			out.Broken = append(out.Broken, e.ID)
		}
	}
	fmt.Fprintf(&b, "default: %s\n", why)
	for _, l := range menu.Config.Ignored {
		text := fmt.Sprintf("line %d: %s %s: %s", l.Line, l.Key, l.Value, l.Reason)
		out.Findings = append(out.Findings, bootFindingJSON{Path: "loader/loader.conf", Text: text})
		fmt.Fprintf(&b, "loader/loader.conf: %s\n", text)
	}
	for _, f := range menu.Findings {
		out.Findings = append(out.Findings, bootFindingJSON{Path: f.Path, XBOOTLDR: f.XBOOTLDR, Text: f.Err.Error()})
		fmt.Fprintf(&b, "%s%s: %v\n", where(f.XBOOTLDR), f.Path, f.Err)
	}
	return out, b.String()
}
