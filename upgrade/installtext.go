package upgrade

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/partition"
)

// InstallSchema names the JSON form of an installation's plan, docs/schema/install.json.
const InstallSchema = "osmith.install/1"

// String is the plan for a person.
func (p *InstallPlan) String() string {
	var b strings.Builder
	switch {
	case p.Installed && len(p.Steps) == 0:
		fmt.Fprintf(&b, "version %s is installed on the disk as %s: nothing to do\n", p.Version, p.Entry)
		b.WriteString(p.Support.String())
		return b.String()
	case p.Installed:
		fmt.Fprintf(&b, "version %s is installed on the disk as %s, and is put right\n", p.Version, p.Entry)
	case p.Resumes:
		fmt.Fprintf(&b, "go on with the installation of version %s\n", p.Version)
	default:
		fmt.Fprintf(&b, "install version %s\n", p.Version)
	}
	b.WriteString(p.Support.String())
	if p.Erases != nil {
		b.WriteString("  what is lost for ever:\n")
		for line := range strings.Lines(p.Erases.String()) {
			b.WriteString("    " + line)
		}
	}
	writeVerdicts(&b, p.Verdicts)
	if len(p.Chain) > 0 {
		fmt.Fprintf(&b, "  chain    %s\n", chainText(p.Chain))
	}
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "  %d. %s%s\n", i+1, s, oneWayMark(s))
	}
	if p.image != nil && !p.Installed {
		for line := range strings.Lines(partition.Diagram(p.Table, p.Table.Size, 0)) {
			b.WriteString("  " + line)
		}
	}
	writePCRs(&b, &p.machine, p.Predicted)
	return b.String()
}

func oneWayMark(s Step) string {
	if s.OneWay {
		return " [one way: the point of no return]"
	}
	return ""
}

type installPartition struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	ID     string `json:"id"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

type lostContent struct {
	Offset    int64  `json:"offset"`
	Size      int64  `json:"size"`
	Partition int    `json:"partition"`
	Name      string `json:"name"`
	What      string `json:"what"`
}

// MarshalJSON writes the plan for a program.
func (p *InstallPlan) MarshalJSON() ([]byte, error) {
	j := struct {
		Schema     string                       `json:"schema"`
		Version    string                       `json:"version"`
		Entry      string                       `json:"entry"`
		Slot       string                       `json:"slot"`
		DiskID     string                       `json:"diskID"`
		Installed  bool                         `json:"installed"`
		Resumes    bool                         `json:"resumes"`
		Refused    bool                         `json:"refused"`
		Support    *Support                     `json:"support,omitempty"`
		Erases     []lostContent                `json:"erases"`
		Partitions []installPartition           `json:"partitions"`
		Judgements []Verdict                    `json:"judgements"`
		Chain      []Link                       `json:"chain"`
		Steps      []Step                       `json:"steps"`
		PCRs       map[string]map[string]string `json:"pcrs"`
		BootOption []string                     `json:"bootOption"`
	}{Schema: InstallSchema, Version: p.Version, Entry: p.Entry, Slot: p.Slot, Installed: p.Installed, Resumes: p.Resumes, Refused: p.Refused() != nil, Support: p.Support,
		Erases: []lostContent{}, Partitions: []installPartition{}, Judgements: verdictsJSON(p.Verdicts), Chain: append([]Link{}, p.Chain...), Steps: append([]Step{}, p.Steps...), BootOption: []string{}}
	j.PCRs = pcrsJSON(&p.machine, p.Predicted)
	if p.Erases != nil {
		for _, f := range p.Erases.Found {
			j.Erases = append(j.Erases, lostContent(f))
		}
	}
	if p.Table != nil {
		j.DiskID = p.Table.DiskID.String()
		for i, q := range p.Table.Partitions {
			off, size := p.Table.Extent(i)
			j.Partitions = append(j.Partitions, installPartition{q.Number, q.Name, partition.TypeName(q.Type), q.ID.String(), off, size})
		}
	}
	if p.BootOption != nil {
		for _, c := range p.BootOption.Changes {
			j.BootOption = append(j.BootOption, c.String())
		}
	}
	return json.Marshal(j)
}
