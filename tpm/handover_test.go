package tpm

import (
	"crypto"
	"unicode/utf16"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// digestsOf are the digests of data in all banks.
func digestsOf(data []byte) map[crypto.Hash][]byte {
	out := make(map[crypto.Hash][]byte)
	for _, h := range Banks() {
		out[h] = pcrbank.Sum(h, data)
	}
	return out
}

// profileEvent is what the stub measures of the choice of a profile.
func profileEvent(number string) osmith.HandoverEvent {
	return osmith.HandoverEvent{Kind: osmith.HandoverProfile, PCR: 12, Tag: sdstub.TagProfile, Description: number, Digests: digestsOf(utf16z(number))}
}

// cmdlineEvent is what the stub measures of a command line.
func cmdlineEvent(kind osmith.HandoverKind, text string) osmith.HandoverEvent {
	return osmith.HandoverEvent{Kind: kind, PCR: 12, Description: text, Digests: digestsOf(utf16z(text))}
}

// archiveEvent is what the stub measures of companion files.
func archiveEvent(pcr int, description string, digests map[crypto.Hash][]byte) osmith.HandoverEvent {
	return osmith.HandoverEvent{Kind: osmith.HandoverArchive, PCR: pcr, Description: description, Digests: digests}
}

// taggedEvent is what the stub measures of a part of an add-on.
func taggedEvent(kind osmith.HandoverKind, tag Tag, name string, digests map[crypto.Hash][]byte) osmith.HandoverEvent {
	return osmith.HandoverEvent{Kind: kind, PCR: 12, Tag: uint32(tag), Description: name, Digests: digests}
}

// loadOptions is what the kernel gets of a command line.
func loadOptions(cmdline string) []byte {
	return sdstub.Bytes(sdstub.Mangle(utf16.Encode([]rune(cmdline)), 262))
}

// handOver gives a boot a hand-over of its own with more events.
func (b *Boot) handOver(events ...osmith.HandoverEvent) *osmith.Handover {
	h := new(osmith.Handover)
	if b.Handover != nil {
		*h = *b.Handover
	}
	h.Events = append(append([]osmith.HandoverEvent(nil), h.Events...), events...)
	b.Handover = h
	return h
}
