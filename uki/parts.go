package uki

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/osmith-dev/osmith"
)

// A content is a section as it will stand in the image.
type content struct {
	name string
	src  osmith.Source
	size int64
}

// parts is what an image, a profile and an add-on can be made of.
type parts struct {
	where string // prefix of the part's name in errors

	osrel       []byte
	cmdline     string
	uname       string
	splash      osmith.Source
	pcrpkey     []byte
	linux       osmith.Source
	initrd      []osmith.Source
	ucode       osmith.Source
	dtb         osmith.Source
	dtbauto     []osmith.Source
	hwids       []HWID
	firmware    []Firmware
	sections    []Section
	pcrsig      []byte
	reserve     int
	sbat        []byte // whole section; nil: none
	profile     []byte
	profileLast bool // .profile stands by its rank instead of at the beginning
}

// A collector puts contents into a list; the first error stays.
type collector struct {
	where string
	list  []content
	err   error
}

func (c *collector) fail(part string, err error) {
	if c.err == nil {
		var p *PartError
		if errors.As(err, &p) { // of an encoder, which does not know whose part it was given
			err = p.Err
		}
		c.err = &PartError{c.where + part, err}
	}
}

func (c *collector) bytes(name string, b []byte) {
	if len(b) > 0 {
		c.list = append(c.list, content{name, bytes.NewReader(b), int64(len(b))})
	}
}

func (c *collector) source(name string, s osmith.Source) {
	if s == nil {
		return
	}
	c.list = append(c.list, content{name, s, s.Size()})
}

// required is source for an element of a list, where nil can only be a mistake.
func (c *collector) required(part, name string, s osmith.Source) {
	if s == nil {
		c.fail(part, ErrMissing)
		return
	}
	c.source(name, s)
}

// contents checks the parts and makes sections of them in the order of the file.
func (p *parts) contents() ([]content, error) {
	c := &collector{where: p.where}
	c.bytes(".osrel", p.osrel)
	if strings.IndexByte(p.cmdline, 0) >= 0 {
		c.fail("Cmdline", errors.New("contains a NUL byte; the kernel would see only what is before it"))
	}
	c.bytes(".cmdline", []byte(p.cmdline))
	c.bytes(".uname", []byte(p.uname))
	c.source(".splash", p.splash)
	if len(p.pcrpkey) > 0 {
		if !isPublicKey(p.pcrpkey) {
			c.fail("PCRPublicKey", errors.New(`not a PEM block of type "PUBLIC KEY"`))
		}
	}
	c.bytes(".pcrpkey", p.pcrpkey)
	c.source(".linux", p.linux)
	c.initrd(p.initrd)
	c.source(".ucode", p.ucode)
	c.hardware(p)
	for i, s := range p.sections {
		c.required(fmt.Sprintf("Sections[%d]", i), s.Name, s.Content)
	}
	own := len(c.list) - len(p.sections) // Sections stay together, whatever their names
	c.bytes(".sbat", p.sbat)
	c.bytes(".profile", p.profile)
	c.pcrsig(p.pcrsig, p.reserve)
	if c.err != nil {
		return nil, c.err
	}
	return p.order(c.list, own), nil
}

func isPublicKey(b []byte) bool {
	block, _ := pem.Decode(b)
	return block != nil && block.Type == "PUBLIC KEY"
}

// order sorts by the ranks of the table. The caller's own sections begin at index own.
func (p *parts) order(list []content, own int) []content {
	ranks := make([]int, len(list))
	order := make([]int, len(list))
	for i, s := range list {
		order[i] = i
		ranks[i] = rankOf(s.name)
		if i >= own && i < own+len(p.sections) {
			ranks[i] = otherRank
		} else if s.name == ".profile" && !p.profileLast {
			ranks[i] = 0
		}
	}
	sort.SliceStable(order, func(a, b int) bool { return ranks[order[a]] < ranks[order[b]] })
	out := make([]content, len(list))
	for i, at := range order {
		out[i] = list[at]
	}
	return out
}

// initrd makes one section of several archives: the kernel unpacks them one after the other and wants each at a
// multiple of four bytes.
func (c *collector) initrd(list []osmith.Source) {
	for i, s := range list {
		if s == nil {
			c.fail(fmt.Sprintf("Initrd[%d]", i), ErrMissing)
			return
		}
	}
	switch len(list) {
	case 0:
	case 1:
		c.source(".initrd", list[0])
	default:
		v := new(view)
		for i, s := range list {
			v.add(fmt.Sprintf("initrd %d", i), s, s.Size())
			v.padTo(4)
		}
		if v.size > 0 { // as ukify: several empty archives leave no section, a single one does
			c.source(".initrd", v)
		}
	}
}

// hardware adds the sections that the stub picks by the machine, or picks by.
func (c *collector) hardware(p *parts) {
	c.source(".dtb", p.dtb)
	for i, s := range p.dtbauto {
		c.required(fmt.Sprintf("DeviceTreeAuto[%d]", i), ".dtbauto", s)
	}
	if len(p.hwids) > 0 {
		b, err := EncodeHWIDs(p.hwids)
		if err != nil {
			c.fail("HWIDs", err)
			return
		}
		c.bytes(".hwids", b)
	}
	for i, f := range p.firmware {
		s, err := EncodeFirmware(f)
		if err != nil {
			c.fail(fmt.Sprintf("Firmware[%d]", i), err)
			return
		}
		c.source(".efifw", s)
	}
}

// emptySignatures stands in a .pcrsig that is reserved and not signed yet.
const emptySignatures = "{}"

// maxReserve bounds .pcrsig, which is held in memory. Real ones have a few KiB for each signature.
const maxReserve = 16 << 20

func (c *collector) pcrsig(signature []byte, reserve int) {
	if reserve < 0 || reserve > maxReserve {
		c.fail("PCRSignatureReserve", fmt.Errorf("%d bytes, want 0 to %d", reserve, maxReserve))
		return
	}
	if reserve == 0 {
		c.bytes(".pcrsig", signature)
		return
	}
	if len(signature) == 0 {
		signature = []byte(emptySignatures)
	}
	if len(signature) > reserve {
		if c.err == nil {
			c.err = &SpaceError{What: c.where + "PCRSignature", Need: int64(len(signature)), Have: int64(reserve)}
		}
		return
	}
	padded := bytes.Repeat([]byte{' '}, reserve)
	copy(padded, signature)
	c.bytes(".pcrsig", padded)
}
