package upgrade

import "fmt"

// steps works out what is to be done, in its order.
func (p *Plan) steps() {
	t := p.Target
	// Damage that cannot be repaired is in the fits verdict.
	if p.leftover.any() {
		p.Steps = append(p.Steps, Step{Kind: StepRepairESP, Target: "ESP"})
	}
	if p.failed != nil {
		p.Steps = append(p.Steps, Step{Kind: StepRememberFailed, Target: failedPath, Bytes: int64(len(p.failed)), content: p.failed})
	}
	for _, f := range p.obsolete {
		if p.leftover.discards() && isStagedName(f.path) {
			continue // they go with the repair
		}
		p.Steps = append(p.Steps, Step{Kind: f.remove, Target: f.path})
	}
	if t != nil {
		p.slotSteps()
	}
	staged := p.staged()
	for _, a := range p.addons {
		p.Steps = append(p.Steps, Step{Kind: a.step, Target: a.path, Bytes: a.src.Size(), source: a.src, want: a.want})
	}
	if !p.isStaged {
		p.Steps = append(p.Steps, Step{Kind: StepStageUKI, Target: staged, Bytes: p.release.UKI.Size(), Fetched: p.fetchedUKI(), source: p.release.UKI, want: p.digests.uki})
	}
	p.Steps = append(p.Steps, Step{Kind: StepAddEntry, Target: staged, To: p.Entry})
	if p.config != nil {
		p.Steps = append(p.Steps, Step{Kind: StepPreferEntry, Target: configPath, Bytes: int64(len(p.config)), content: p.config})
	}
	p.sayCuts()
}

// slotSteps are those that fill the slot.
func (p *Plan) slotSteps() {
	t := p.Target
	root, tree := p.dataSize(), p.release.Tree.Size()
	p.Steps = append(p.Steps,
		Step{Kind: StepMarkPartial, Target: "slot " + t.Name()},
		Step{Kind: StepWriteRoot, Target: "slot " + t.Name(), Bytes: root, Fetched: p.fetched(root)},
		Step{Kind: StepWriteTree, Target: "slot " + t.Name(), Bytes: tree},
	)
	if t.Signature >= 0 {
		p.Steps = append(p.Steps, Step{Kind: StepWriteSignature, Target: "slot " + t.Name(), Bytes: t.signatureSize})
	}
	p.Steps = append(p.Steps,
		Step{Kind: StepVerifySlot, Target: "slot " + t.Name(), Bytes: root + tree},
		Step{Kind: StepActivateSlot, Target: "slot " + t.Name()},
	)
}

// sayCuts says for every step what a power cut within it leaves, and which steps take something
// away for good.
func (p *Plan) sayCuts() {
	old := p.from.Path
	slot := "slot " + slotName(p.Target)
	lost := false // the version that the slot held cannot be started any more
	for i := range p.Steps {
		s := &p.Steps[i]
		switch s.Kind {
		case StepRepairESP:
			s.Cut = fmt.Sprintf("%s boots; the next plan repairs the rest", old)
		case StepRememberFailed:
			s.Cut = fmt.Sprintf("%s boots; %s has its old or its new contents", old, s.Target)
		case StepRemoveEntry:
			s.Cut, s.OneWay, lost = fmt.Sprintf("%s boots; %s is in the menu, whole, or not", old, s.Target), true, true
		case StepRemoveAddon, StepRemoveFile:
			s.Cut, s.OneWay = fmt.Sprintf("%s boots; %s is there, and no entry needs it, or not", old, s.Target), true
		case StepRemoveStaged:
			s.Cut = fmt.Sprintf("%s boots; %s is there, and the loader does not look at it, or not", old, s.Target)
		case StepMarkPartial:
			s.Cut = fmt.Sprintf("%s boots; %s is marked as incomplete, or as it was, and no entry needs it", old, slot)
		case StepWriteRoot, StepWriteTree, StepWriteSignature:
			s.Cut = fmt.Sprintf("%s boots; %s is incomplete and marked so", old, slot)
			s.OneWay = s.Kind == StepWriteRoot && (lost || p.Target.RootHash != nil)
		case StepVerifySlot:
			s.Cut = fmt.Sprintf("%s boots; %s is marked as incomplete, and written anew by the next plan", old, slot)
		case StepActivateSlot:
			s.Cut = fmt.Sprintf("%s boots; %s is whole and marked so, or marked as incomplete, and no entry needs it", old, slot)
		case StepAddAddon, StepAddExtension:
			s.Cut = fmt.Sprintf("%s boots; %s is there, whole, or not, and no entry needs it", old, s.Target)
		case StepStageUKI:
			s.Cut = fmt.Sprintf("%s boots; %s is there, and the loader does not look at it, or not", old, s.Target)
		case StepAddEntry:
			if s.Cut = fmt.Sprintf("%s boots, or %s", old, p.Entry); p.config != nil {
				s.Cut = fmt.Sprintf("%s boots; %s is in the menu, whole, or not", old, p.Entry)
			}
		case StepPreferEntry:
			s.Cut = fmt.Sprintf("%s boots, or %s", old, p.Entry)
		}
	}
}
