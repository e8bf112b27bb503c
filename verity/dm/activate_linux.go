package dm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/devmapper"
)

func activate(name, uuid string, t Target) (string, error) {
	return devmapper.Create(name, uuid, devmapper.Target(t))
}

func deactivate(name string) error { return devmapper.Remove(name) }

func active(name string) (*Mapping, error) {
	info, err := devmapper.Table(name)
	if err != nil {
		return nil, err
	}
	if len(info.Targets) != 1 || info.Targets[0].Type != "verity" {
		return nil, fmt.Errorf("%q is not a verity device", name)
	}
	m := &Mapping{Name: info.Name, UUID: info.UUID, Device: info.Node, ReadOnly: info.ReadOnly}
	if m.Table, err = parseTable(info.Targets[0].Params); err != nil {
		return nil, err
	}
	// Asked second, so that it covers everything read up to here.
	if info, err = devmapper.Status(name); err != nil {
		return nil, err
	}
	if len(info.Targets) != 1 {
		return nil, fmt.Errorf("%q was replaced while it was being read", name)
	}
	// "V" or "C", then from Linux 7.0 on the number of blocks that error correction
	// repaired, "-" without it.
	state, repaired, _ := strings.Cut(strings.TrimSpace(info.Targets[0].Params), " ")
	switch state {
	case "V":
	case "C":
		m.Corrupted = true
	default:
		return nil, fmt.Errorf("%q has the status %q", name, info.Targets[0].Params)
	}
	if n, err := strconv.ParseUint(repaired, 10, 63); err == nil {
		m.Repaired = int64(n)
	}
	return m, nil
}
