package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// tree is the object for people.
func (r *inspectResult) tree() *node {
	root := &node{text: fmt.Sprintf("%s: %s, %d bytes", r.File, kindNames[r.Kind], r.Size)}
	if name := cmp.Or(r.OSRelease["PRETTY_NAME"], r.OSRelease["NAME"], r.OSRelease["ID"]); name != "" {
		root.add("system  %s", name)
	}
	if r.Kind == kindImage || r.Uname != "" {
		root.add("kernel  %s", cmp.Or(r.Uname, "version unknown"))
	}
	if r.Kind != kindProfile {
		root.add("stub    %s", cmp.Or(r.StubVersion, "version unknown"))
	}
	root.add("digest  sha256 %s (Authenticode)", r.Authenticode["sha256"])
	signed := root.add("Secure Boot signatures: %d", len(r.Signatures))
	for _, s := range r.Signatures {
		signed.add("%s", s)
	}
	shared := root.add("sections")
	profiles := map[int]*node{}
	for _, s := range r.Sections {
		parent := shared
		if s.Profile >= 0 {
			if parent = profiles[s.Profile]; parent == nil {
				p := r.Profiles[s.Profile]
				parent = root.add("sections of %s", profileName(p.Index, p.ID, p.Title))
				profiles[s.Profile] = parent
			}
		}
		s.below(parent)
	}
	if r.Error != "" {
		root.add("PCR 11  not predicted: %s", r.Error)
	}
	for _, v := range r.Variants {
		v.below(root)
	}
	return root
}

// String is a line about a signature.
func (s signature) String() string {
	text := cmp.Or(s.Signer, "a signer whose certificate is not there")
	if s.Hash != "" {
		text += ", " + s.Hash
	}
	if s.Time != "" {
		text += ", claims " + s.Time
	}
	if !s.Valid {
		text += ": " + s.Error
	}
	return text
}

// below adds the section to a tree.
func (s section) below(parent *node) {
	n := parent.add("%-9s %10d bytes at %#-9x sha256 %s", s.Name, s.Size, s.Offset, s.SHA256)
	switch {
	case s.Text == "":
	case s.Name == ".pcrsig":
		n.lines(summary(s.Text))
	case s.Name == ".pcrpkey":
		n.add("%d lines of PEM", strings.Count(s.Text, "\n"))
	default:
		n.lines(s.Text)
	}
}

// summary says for how many values each bank has a signed policy.
func summary(pcrsig string) string {
	signatures, err := policy.ParseSignatures([]byte(pcrsig))
	if waiting, unsigned := policy.ParsePCRPolicies([]byte(pcrsig)); err != nil && unsigned == nil {
		return fmt.Sprintf("room for the signatures of %d policies", len(waiting))
	}
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, h := range tpm.Banks() {
		found, keys := 0, map[string]bool{}
		for _, s := range signatures {
			if s.Bank == h {
				found++
				keys[fmt.Sprintf("%x", s.Fingerprint[:8])] = true
			}
		}
		if found > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d policies by %s", tpm.BankName(h), found, count(len(keys), "key")))
		}
	}
	return strings.Join(lines, "\n")
}

// below adds what PCR 11 will hold to a tree.
func (v variant) below(parent *node) {
	n := parent.add("PCR 11 (sha256) of %s", v.name())
	names := make([]string, 0, len(v.Sections))
	for _, s := range v.Sections {
		names = append(names, s.Section)
	}
	n.add("measured: %s", strings.Join(names, " "))
	for _, p := range v.PCR11 {
		when := "when the kernel starts"
		if len(p.Phases) > 0 {
			when = "after " + strings.Join(p.Phases, ":")
		}
		n.add("%s %s", p.Banks["sha256"], when)
	}
}

// count is such as "1 key" or "2 keys".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
