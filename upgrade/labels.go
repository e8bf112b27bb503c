package upgrade

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/partition"
)

// expandPatterns puts the product into patterns of labels, and refuses those that do not have the
// version once.
func expandPatterns(l partition.Labels, product string) (partition.Labels, error) {
	for _, pattern := range []*string{&l.Data, &l.Tree, &l.Signature} {
		if *pattern == "" {
			continue
		}
		if strings.Count(*pattern, "@v") != 1 {
			return l, fmt.Errorf("pattern %q of labels: want one @v", *pattern)
		}
		var out strings.Builder
		for rest := *pattern; rest != ""; {
			text, specifier, found := strings.Cut(rest, "%")
			out.WriteString(text)
			switch {
			case !found:
			case strings.HasPrefix(specifier, "M"):
				out.WriteString(product)
			case strings.HasPrefix(specifier, "%"):
				out.WriteByte('%')
			default:
				return l, fmt.Errorf("pattern %q of labels: of specifiers only %%M, for IMAGE_ID, and %%%% are known", *pattern)
			}
			rest = specifier[min(1, len(specifier)):]
		}
		*pattern = out.String()
	}
	return l, nil
}

// slotLabels are the labels that the target slot gets. Other updaters of the disk, such as
// systemd-sysupdate, know versions by labels, so the new labels have the form of those of the
// running slot.
func (p *Plan) slotLabels() partition.Labels {
	pattern := p.patterns
	if pattern == (partition.Labels{}) {
		pattern = p.ownPatterns()
	}
	if pattern.Data == "" {
		return partition.Labels{Data: p.identity.label()}
	}
	version := func(s string) string { return strings.Replace(s, "@v", p.Version, 1) }
	return partition.Labels{Data: version(pattern.Data), Tree: version(pattern.Tree), Signature: version(pattern.Signature)}
}

// ownPatterns are those by which the slot of what runs is labelled; zero where its labels do not
// have its version.
func (p *Plan) ownPatterns() (patterns partition.Labels) {
	if p.from.Slot == nil || p.state.slots == nil {
		return patterns
	}
	own, err := p.state.productOfEntry(p.from)
	if err != nil || own.Version == "" {
		return patterns // what follows it then is the product's own name
	}
	l := p.state.slots.Labels(p.from.Slot.Slot)
	at := strings.LastIndex(l.Data, own.Version)
	if at < 0 {
		return patterns
	}
	patterns.Data = l.Data[:at] + "@v" + l.Data[at+len(own.Version):]
	for _, x := range []struct {
		label   string
		pattern *string
		part    func(partition.Labels) string
	}{
		{l.Tree, &patterns.Tree, func(l partition.Labels) string { return l.Tree }},
		{l.Signature, &patterns.Signature, func(l partition.Labels) string { return l.Signature }},
	} {
		if rest, ok := strings.CutPrefix(x.label, l.Data); ok {
			*x.pattern = patterns.Data + cmp.Or(rest, p.otherSuffix(x.part))
		} else if at := strings.LastIndex(x.label, own.Version); at >= 0 {
			*x.pattern = x.label[:at] + "@v" + x.label[at+len(own.Version):]
		}
	}
	return patterns
}

// otherSuffix is what another version has behind its label for a part, where what runs has nothing:
// the one of them that differs was not written by who gave the disk its labels.
func (p *Plan) otherSuffix(part func(partition.Labels) string) string {
	for _, slot := range p.state.Slots {
		l := p.state.slots.Labels(slot.Slot)
		if rest, ok := strings.CutPrefix(part(l), l.Data); ok && slot.State == partition.SlotInstalled && rest != "" {
			return rest
		}
	}
	return ""
}
