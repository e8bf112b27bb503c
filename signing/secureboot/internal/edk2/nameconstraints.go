package edk2

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// nameConstraints are the subtrees of an authority's extension (RFC 5280, section 4.2.1.10).
type nameConstraints struct {
	permitted, excluded []subtree
}

// A subtree is a GeneralSubtree.
type subtree struct {
	tag       byte   // of the base, a GeneralName
	directory []byte // the name as compared, for a directory name
	bounds    bool   // minimum other than 0, or a maximum
}

// Tags of GeneralName.
const (
	tagOtherName     = 0xa0
	tagEmailName     = 0x81
	tagDNSName       = 0x82
	tagX400Address   = 0xa3
	tagDirectoryName = 0xa4
	tagEDIPartyName  = 0xa5
	tagURIName       = 0x86
	tagIPName        = 0x87
	tagRegisteredID  = 0x88
)

// maxNames bounds the subtrees of an extension.
const maxNames = 1024

// checkGeneralName checks the form of one GeneralName as far as it is decoded.
func checkGeneralName(e element) error {
	switch e.tag {
	case tagEmailName, tagDNSName, tagURIName, tagIPName, tagRegisteredID:
		return nil
	case tagDirectoryName:
		_, err := canonicalName(e.body)
		return err
	case tagOtherName:
		in := &reader{b: e.body}
		in.oid("otherName")
		value := &reader{b: in.take(tagContext0, "otherName").body, err: in.err}
		value.value("otherName", Options{})
		value.end("otherName")
		in.end("otherName")
		return errors.Join(in.err, value.err)
	case tagX400Address, tagEDIPartyName:
		return unknown("a name of the type %d of GeneralName", e.tag&0x1f)
	case 0xa1, 0xa2, 0xa6, 0xa7:
		return unknown("a name in pieces")
	}
	return fmt.Errorf("tag 0x%02x is not a name", e.tag)
}

func parseNameConstraints(value []byte) (*nameConstraints, error) {
	r := &reader{b: value}
	in := &reader{b: r.take(tagSequence, "nameConstraints").body, err: r.err}
	var c nameConstraints
	for _, l := range []struct {
		tag  byte
		list *[]subtree
	}{{tagContext0, &c.permitted}, {tagContext1, &c.excluded}} {
		if !in.is(l.tag) {
			continue
		}
		for list := (&reader{b: in.any("nameConstraints").body}); len(list.b) > 0; {
			if len(*l.list) == maxNames {
				return nil, unknown("more than %d name constraints", maxNames)
			}
			s, err := parseSubtree(list.take(tagSequence, "nameConstraints").body)
			if list.err != nil || err != nil {
				return nil, errors.Join(list.err, err)
			}
			*l.list = append(*l.list, s)
		}
	}
	in.end("nameConstraints")
	return &c, in.err
}

func parseSubtree(b []byte) (s subtree, err error) {
	r := &reader{b: b}
	base := r.any("nameConstraints")
	if r.err != nil {
		return s, r.err
	}
	if err := checkGeneralName(base); err != nil {
		return s, fmt.Errorf("nameConstraints: %w", err)
	}
	s.tag = base.tag
	if base.tag == tagDirectoryName {
		if s.directory, err = canonicalName(base.body); err != nil {
			return s, err
		}
	}
	if r.is(tagPrimitive) { // minimum
		s.bounds = !bytes.Equal(r.any("nameConstraints").body, []byte{0})
	}
	if r.is(tagPrimitive | 1) { // maximum
		r.any("nameConstraints")
		s.bounds = true
	}
	r.end("nameConstraints")
	return s, r.err
}

// checkNames is check_name_constraints of OpenSSL for one certificate below an authority. leaf is
// said of the signer's.
func (n *nameConstraints) checkNames(c *Certificate, leaf bool) error {
	// A name is in the subtree of a base that it begins with.
	if len(c.subject) > 0 {
		permitted, some := false, false
		for _, s := range n.permitted {
			switch {
			case s.tag != tagDirectoryName:
			case s.bounds:
				return errors.New("name constraints with a minimum or maximum")
			default:
				some = true
				permitted = permitted || bytes.HasPrefix(c.subject, s.directory)
			}
		}
		if some && !permitted {
			return errors.New("the name constraints of an authority do not permit the certificate's subject")
		}
		for _, s := range n.excluded {
			switch {
			case s.tag != tagDirectoryName:
			case s.bounds:
				return errors.New("name constraints with a minimum or maximum")
			case bytes.HasPrefix(c.subject, s.directory):
				return errors.New("the name constraints of an authority exclude the certificate's subject")
			}
		}
	}
	for _, s := range slices.Concat(n.permitted, n.excluded) {
		for _, name := range c.alternative {
			if name[0] == s.tag {
				return unknown("name constraints for a name of subjectAltName")
			}
		}
		if s.tag == tagEmailName && bytes.Contains(c.RawSubject, oidEmail) {
			return unknown("name constraints for an email address in the subject")
		}
		if s.tag == tagDNSName && leaf && bytes.Contains(c.RawSubject, oidCommonName) && bytes.ContainsAny(c.RawSubject, ".") {
			return unknown("name constraints for a common name that may be one of a host")
		}
	}
	return nil
}

var (
	oidEmail      = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1}
	oidCommonName = []byte{6, 3, 0x55, 4, 3}
)
