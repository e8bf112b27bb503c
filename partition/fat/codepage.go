package fat

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// codePage maps the bytes 0x80 to 0xff of 8.3 names and volume labels to characters. A volume does
// not say which one its writer used; nil is 437, what DOS, mtools and this package assume.
type codePage []rune

// codePages are the single-byte ones of DOS that ESPs are seen with: the United States, western
// Europe (what fsck.fat assumes), central Europe, western Europe with the euro, Cyrillic.
var codePages = map[int]codePage{
	437: []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0"),
	850: []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u00ad±‗¾¶§÷¸°¨·¹³²■\u00a0"),
	852: []rune("ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×čáíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐└┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘┌█▄ŢŮ▀ÓßÔŃńňŠšŔÚŕŰýÝţ´\u00ad˝˛ˇ˘§÷¸°¨˙űŘř■\u00a0"),
	858: []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈ€ÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u00ad±‗¾¶§÷¸°¨·¹³²■\u00a0"),
	866: []rune("АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмноп░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀рстуфхцчшщъыьэюяЁёЄєЇїЎў°∙·√№¤■\u00a0"),
}

// codePageOf returns a page by its number; 0 is 437.
func codePageOf(number int) (codePage, error) {
	if number == 0 {
		return nil, nil
	}
	p, ok := codePages[number]
	if !ok {
		return nil, fmt.Errorf("code page %d: want one of %v", number, slices.Sorted(maps.Keys(codePages)))
	}
	return p, nil
}

// decode returns the text of bytes.
func (p codePage) decode(b []byte, lower bool) string {
	if p == nil {
		p = codePages[437]
	}
	var out strings.Builder
	for _, c := range b {
		switch {
		case c >= 0x80:
			out.WriteRune(p[c-0x80])
		case lower && c >= 'A' && c <= 'Z':
			out.WriteByte(c + 'a' - 'A')
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// label returns the text of a volume label, empty if there is none.
func (p codePage) label(b [11]byte) string {
	if b[0] == 0x05 {
		b[0] = 0xe5
	}
	text := p.decode(bytes.TrimRight(b[:], " \x00"), false)
	if text == "NO NAME" {
		return ""
	}
	return text
}

// text decodes an 8.3 name. caseBits is DIR_NTRes.
func (p codePage) text(s shortName, caseBits byte) string {
	if s[0] == 0x05 { // stands for 0xE5, which would mark the entry as deleted
		s[0] = 0xe5
	}
	base := p.decode(bytes.TrimRight(s[:8], " "), caseBits&lowerBase != 0)
	if ext := p.decode(bytes.TrimRight(s[8:], " "), caseBits&lowerExt != 0); ext != "" {
		base += "." + ext
	}
	if plainName(base) {
		return base
	}
	// No 8.3 name may have such characters, and fsck.fat says so; but the file is there, and has to
	// have a path.
	base = strings.Map(func(r rune) rune {
		if r == '/' || r == 0 {
			return '_'
		}
		return r
	}, base)
	if !plainName(base) {
		base = "_" + base
	}
	return base
}
