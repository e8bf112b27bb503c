package upgrade

import "fmt"

// sayCuts says for every step what a power cut within it leaves, and which steps take something away for good.
func (p *Plan) sayCuts() {
	old := p.from.Path
	slot := "slot " + p.Target.Name()
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
		case StepAddAddon:
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
