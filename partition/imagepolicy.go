package partition

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// PolicyFlags say how a partition may be used. systemd.image-policy(7) has their names;
// [PolicyFlags.String] writes them.
type PolicyFlags uint32

// The ways in which a partition may be used, or not used. Several flags are alternatives; no flag
// means all of them ([PolicyOpen]).
const (
	// with dm-verity; a signature of the root hash is ignored
	PolicyVerity PolicyFlags = 1 << iota
	// with dm-verity and a signature of the root hash
	PolicySigned
	PolicyEncrypted // with LUKS
	// with LUKS and integrity, since systemd 260
	PolicyEncryptedWithIntegrity
	PolicyUnprotected // without protection
	PolicyUnused      // it may exist, and is not used
	PolicyAbsent      // it may be missing
)

// Required values of flags in the partition table. Both or neither of a pair: any value.
const (
	PolicyReadOnlyOn PolicyFlags = 1 << (iota + 7)
	PolicyReadOnlyOff
	PolicyGrowFSOff
	PolicyGrowFSOn
)

// The file systems that the partition may hold, since systemd 260. None: any.
const (
	PolicyBtrfs PolicyFlags = 1 << (iota + 11)
	PolicyEROFS
	PolicyExt4
	PolicyF2FS
	PolicySquashFS
	PolicyVFAT
	PolicyXFS
)

// Combinations with names of their own.
const (
	PolicyOpen   = PolicyVerity | PolicySigned | PolicyEncrypted | PolicyEncryptedWithIntegrity | PolicyUnprotected | PolicyUnused | PolicyAbsent
	PolicyIgnore = PolicyUnused | PolicyAbsent
)

// policyFlagNames are in the order in which systemd-analyze 262 writes them.
var policyFlagNames = []string{"verity", "signed", "encrypted", "encryptedwithintegrity", "unprotected", "unused", "absent",
	"read-only-on", "read-only-off", "growfs-off", "growfs-on", "btrfs", "erofs", "ext4", "f2fs", "squashfs", "vfat", "xfs"}

const (
	policyReadOnly = PolicyReadOnlyOn | PolicyReadOnlyOff
	policyGrowFS   = PolicyGrowFSOn | PolicyGrowFSOff
)

// String is the flags as a policy has them: "verity+signed"; "open" and "ignore" for these
// combinations, "-" for none.
func (f PolicyFlags) String() string {
	var names []string
	rest := f
	switch f & PolicyOpen {
	case PolicyOpen:
		names, rest = []string{"open"}, f&^PolicyOpen
	case PolicyIgnore:
		names, rest = []string{"ignore"}, f&^PolicyOpen
	}
	for i, name := range policyFlagNames {
		if rest&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "-"
	}
	return strings.Join(names, "+")
}

// plain are the flags without those that say nothing: two that exclude each other.
func (f PolicyFlags) plain() PolicyFlags {
	for _, both := range []PolicyFlags{policyReadOnly, policyGrowFS} {
		if f&both == both {
			f &^= both
		}
	}
	return f
}

// whole are the flags with all uses where none is named.
func (f PolicyFlags) whole() PolicyFlags {
	if f&PolicyOpen == 0 {
		f |= PolicyOpen
	}
	return f
}

// PolicyDesignators are the partitions that a policy has rules for, in the order in which systemd
// writes them.
func PolicyDesignators() []string { return slices.Clone(policyDesignators) }

var policyDesignators = []string{"root", "usr", "home", "srv", "esp", "xbootldr", "swap", "root-verity", "usr-verity", "root-verity-sig", "usr-verity-sig", "tmp", "var"}

// PolicyRule is what a policy says about the partitions of a designator; "" is the default for
// those without a rule.
type PolicyRule struct {
	Designator string
	Flags      PolicyFlags
}

// ImagePolicy is an image policy of systemd (systemd.image-policy(7) of systemd 262): how the
// partitions of a disk, or of an image such as an extension, may be used. A policy without rules
// allows no partition to be used.
type ImagePolicy struct {
	Rules []PolicyRule // in the order of the text; at most one per designator
}

// maxPolicy bounds a policy's text: each designator stands there once at most.
const maxPolicy = 4096

// ParseImagePolicy reads a policy: "root=verity+signed:usr=absent", or "*" (everything), "-" or ""
// (nothing), "~" (there must be nothing). A text that systemd 262 refuses is a
// [*osmith.FormatError]: a designator or flag that it does not know, a rule without "=", two rules
// for one designator.
func ParseImagePolicy(text string) (p *ImagePolicy, err error) {
	defer prefix.Add("partition", &err)
	fail := func(at int, field string, err error) (*ImagePolicy, error) {
		return nil, &osmith.FormatError{Offset: int64(at), Field: "image policy: " + field, Err: err}
	}
	if len(text) > maxPolicy {
		return fail(maxPolicy, "text", fmt.Errorf("%d bytes, want at most %d", len(text), maxPolicy))
	}
	p = new(ImagePolicy)
	switch text {
	case "":
		return p, nil
	case "*":
		p.Rules = []PolicyRule{{"", PolicyOpen}}
		return p, nil
	case "-":
		p.Rules = []PolicyRule{{"", PolicyIgnore}}
		return p, nil
	case "~":
		p.Rules = []PolicyRule{{"", PolicyAbsent}}
		return p, nil
	}
	at := 0
	for rule := range strings.SplitSeq(text, ":") {
		name, list, ok := strings.Cut(rule, "=")
		name = trimPolicy(name)
		switch {
		case !ok:
			return fail(at, "rule", fmt.Errorf("%q has no \"=\": want DESIGNATOR=FLAG+FLAG", printable(rule)))
		case name != "" && !slices.Contains(policyDesignators, name):
			return fail(at, "designator", fmt.Errorf("%q is unknown: want one of %s", printable(name), strings.Join(policyDesignators, ", ")))
		case slices.ContainsFunc(p.Rules, func(r PolicyRule) bool { return r.Designator == name }):
			return fail(at, "designator", fmt.Errorf("%q has two rules", name))
		}
		flags, err := parsePolicyFlags(list)
		if err != nil {
			return fail(at, "flags of "+designatorName(name), err)
		}
		p.Rules = append(p.Rules, PolicyRule{name, flags})
		at += len(rule) + 1
	}
	return p, nil
}

// trimPolicy takes off the blanks that systemd passes over.
func trimPolicy(s string) string { return strings.Trim(s, " \t\n\r") }

func designatorName(name string) string {
	if name == "" {
		return "the default"
	}
	return name
}

func parsePolicyFlags(list string) (f PolicyFlags, err error) {
	if list = trimPolicy(list); list == "" || list == "-" {
		return 0, nil
	}
	for name := range strings.SplitSeq(list, "+") {
		switch name = trimPolicy(name); name {
		case "":
			return 0, errors.New("an empty flag")
		case "open":
			f |= PolicyOpen
		case "ignore":
			f |= PolicyIgnore
		default:
			i := slices.Index(policyFlagNames, name)
			if i < 0 {
				return 0, fmt.Errorf("%q is unknown", printable(name))
			}
			f |= 1 << i
		}
	}
	return f, nil
}

// String writes the rules in their order. [ParseImagePolicy] reads the same policy from it.
func (p *ImagePolicy) String() string {
	var rules []string
	for _, r := range p.Rules {
		rules = append(rules, r.Designator+"="+r.Flags.String())
	}
	return strings.Join(rules, ":")
}

// Normal is the policy as systemd-analyze image-policy writes it: "*", "-" or "~" where it means
// the same, else its rules in the order of [PolicyDesignators] without flags that exclude nothing,
// and the default last, if it is not to ignore.
func (p *ImagePolicy) Normal() string {
	for _, s := range []struct {
		text string
		is   PolicyFlags
	}{{"-", PolicyIgnore}, {"*", PolicyOpen}, {"~", PolicyAbsent}} {
		if !slices.ContainsFunc(append([]PolicyRule{{"", p.fallback()}}, p.Rules...), func(r PolicyRule) bool { return r.Flags.whole().plain() != s.is }) {
			return s.text
		}
	}
	var rules []string
	for _, d := range policyDesignators {
		if f, ok := p.rule(d); ok {
			rules = append(rules, d+"="+f.plain().String())
		}
	}
	if f := p.fallback().plain(); f != PolicyIgnore {
		rules = append(rules, "="+f.String())
	}
	return strings.Join(rules, ":")
}

func (p *ImagePolicy) rule(designator string) (PolicyFlags, bool) {
	i := slices.IndexFunc(p.Rules, func(r PolicyRule) bool { return r.Designator == designator })
	if i < 0 {
		return 0, false
	}
	return p.Rules[i].Flags, true
}

// fallback are the flags of partitions without a rule.
func (p *ImagePolicy) fallback() PolicyFlags {
	if f, ok := p.rule(""); ok {
		return f
	}
	return PolicyIgnore
}

// Effective are the flags that apply to the partitions of a designator, including implied ones: all
// uses if the rule names none; for a hash tree or signature without a rule, what the rule of its
// file system requires; otherwise the default. Uses that such a partition cannot have are left out.
// If no use is left, every partition of this kind is refused, and so are those of a designator that
// does not exist.
func (p *ImagePolicy) Effective(designator string) PolicyFlags {
	f, ok := p.rule(designator)
	if !ok {
		f, ok = p.derived(designator)
	}
	if !ok {
		f = p.fallback()
	}
	f = f.whole().plain()
	switch {
	case designator == "root", designator == "usr":
	case strings.Contains(designator, "-verity"):
		f &^= PolicyVerity | PolicySigned | PolicyEncrypted | PolicyEncryptedWithIntegrity
	default:
		f &^= PolicyVerity | PolicySigned
	}
	switch {
	case !slices.Contains(policyDesignators, designator):
		return 0
	case f&PolicyOpen == PolicyAbsent: // what is not there has no flags
		f &^= policyReadOnly | policyGrowFS
	}
	return f
}

// derived are the flags of a hash tree or signature by the rule of its file system, where that may
// be used with such a thing.
func (p *ImagePolicy) derived(designator string) (PolicyFlags, bool) {
	needs := PolicySigned
	data, ok := strings.CutSuffix(designator, "-verity-sig")
	if !ok {
		needs = PolicyVerity | PolicySigned
		data, ok = strings.CutSuffix(designator, "-verity")
	}
	f, has := p.rule(data)
	if f = f.whole(); !ok || !has || f&needs == 0 {
		return 0, false
	}
	return PolicyUnprotected | f&(PolicyIgnore|policyReadOnly|policyGrowFS), true
}

// SignatureDemand is the answer to whether a policy demands a signature.
type SignatureDemand uint8

// The answers. The zero value makes no promise.
const (
	// the partition may be used without a signature of its root hash
	SignatureNotDemanded SignatureDemand = iota
	SignatureDemanded                    // it is used only with a signature
	SignatureUnused                      // it is not used at all
)

// String is the answer in words.
func (d SignatureDemand) String() string {
	switch d {
	case SignatureDemanded:
		return "demanded"
	case SignatureUnused:
		return "unused"
	}
	return "not demanded"
}

// Signature says whether partitions of a designator, "root" or "usr", are used only with a
// signature of their root hash. A policy that has the flag "signed" beside a second use, such as
// "verity+signed", does not demand a signature: if the signature is missing or wrong, the second
// use still applies. A rule without a flag, and a default that allows more, do not demand one
// either. A policy does not say whose signature counts.
func (p *ImagePolicy) Signature(designator string) SignatureDemand {
	if designator != "root" && designator != "usr" {
		return SignatureNotDemanded
	}
	switch p.Effective(designator) & (PolicyOpen &^ PolicyIgnore) {
	case 0:
		return SignatureUnused
	case PolicySigned:
		return SignatureDemanded
	}
	return SignatureNotDemanded
}
