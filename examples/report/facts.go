package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/diagram"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

const schema = "osmith.report/1"

// report is the object of -json, and what the page shows. Sizes are bytes, digests lower-case
// hexadecimal. A list is empty where there is nothing; docs/schema/report.json has it all.
type report struct {
	cli.Header
	// that validity is checked against, "2026-01-31"; "" if none was given
	Date     string    `json:"date"`
	Releases []*system `json:"releases"`         // one, or the old and then the new one
	Change   *change   `json:"change,omitempty"` // absent with one release
	// 0 to 15, as the kernel of the last release starts
	PCRs   []register `json:"pcrs"`
	Tokens []secret   `json:"tokens"`
	Disk   *disk      `json:"disk,omitempty"` // absent without -disk
	// replaceable, measurable, rollback-safe: of the last release
	Contract []commitment `json:"contract"`
}

// answer is what is known about a claim.
type answer string

const (
	yes     answer = "yes"
	no      answer = "no"
	unknown answer = "unknown" // and that is never a yes
)

// claim is something that the contract of an image-based system needs, with this image's evidence.
type claim struct {
	Claim    string   `json:"claim"`
	Answer   answer   `json:"answer"`
	Evidence []string `json:"evidence"`
	Missing  string   `json:"missing"` // what would settle it, or has to be put right; "" of a yes
}

// commitment is one word of the contract.
type commitment struct {
	Word    string  `json:"word"`
	Promise string  `json:"promise"`
	Answer  answer  `json:"answer"` // the worst of the claims'
	Claims  []claim `json:"claims"`
}

// system is a release.
type system struct {
	Name         string `json:"name"` // LAYOUT:REF of the call
	Digest       string `json:"digest"`
	ID           string `json:"id"`
	Variant      string `json:"variant"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	Size         int64  `json:"size"` // of all parts
	RootHash     string `json:"rootHash"`
	Parts        []part `json:"parts"`

	// the last day, in the vendor's words; "" if the release does not say
	SupportedUntil string   `json:"supportedUntil"`
	Supported      answer   `json:"supported"` // on the date of the report
	Fixes          []string `json:"fixes"`     // such as CVE-2026-1234, in the vendor's words

	UKI        *kernelImage   `json:"uki"`
	Addons     []*kernelImage `json:"addons"`
	Signatures signatures     `json:"signatures"`
	SBOMs      []sbom         `json:"sboms"`
	PCR11      []pcr11        `json:"pcr11"` // SHA-256 bank
	PCR11Error string         `json:"pcr11Error"`
}

// part is a layer of the release.
type part struct {
	What   string `json:"what"`
	Title  string `json:"title"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
}

// kernelImage is the UKI, or an add-on.
type kernelImage struct {
	Name         string    `json:"name"`
	Size         int64     `json:"size"`
	Authenticode string    `json:"authenticode"` // SHA-256
	Stub         string    `json:"stub"`
	Kernel       string    `json:"kernel"`
	System       string    `json:"system"`  // with its version
	Product      string    `json:"product"` // without
	Cmdline      string    `json:"cmdline"`
	Sections     []section `json:"sections"`
	Profiles     []profile `json:"profiles"`
	Findings     []string  `json:"findings"` // what firmware, loader or stub would dislike
	Diagram      string    `json:"diagram"`  // as a text

	drawing *diagram.UKI
}

type section struct {
	Name    string `json:"name"`
	Profile int    `json:"profile"` // -1: shared by all
	Size    int64  `json:"size"`
}

type profile struct {
	Index int    `json:"index"`
	ID    string `json:"id"`
	Title string `json:"title"`
}

type pcr11 struct {
	Profile    int    `json:"profile"`
	DeviceTree int    `json:"deviceTree"`
	Firmware   int    `json:"firmware"`
	Phase      string `json:"phase"` // "" as the kernel starts
	Value      string `json:"value"`
}

// signatures are who vouches for what.
type signatures struct {
	Release []vouch `json:"release"` // of the artifact, as cosign makes them
	// who has signed it, of those whom the call trusts
	ReleaseBy []string `json:"releaseBy"`
	Secure    []signed `json:"secureBoot"`         // UKI, boot loader, add-ons
	RootHash  *signed  `json:"rootHash,omitempty"` // PKCS #7; absent if there is none
	PCRKeys   []pcrKey `json:"pcrKeys"`
	verifyErr error    // why none of them has
}

// vouch is a signature, or an attestation, that lies beside the release.
type vouch struct {
	Manifest   string   `json:"manifest"`
	MediaTypes []string `json:"mediaTypes"`
}

// signed is one signature with the certificates that it carries.
type signed struct {
	What string `json:"what"`
	// made by the signer over what it is about, as that is; not whether the signer is trusted
	Answer       answer        `json:"answer"`
	Error        string        `json:"error"`
	Hash         string        `json:"hash"`
	Time         string        `json:"time"`         // as the signer claims
	Certificates []certificate `json:"certificates"` // the signer's first
}

type certificate struct {
	Subject     string `json:"subject"`
	Issuer      string `json:"issuer"`
	NotBefore   string `json:"notBefore"`
	NotAfter    string `json:"notAfter"`
	Key         string `json:"key"`
	Fingerprint string `json:"fingerprint"` // SHA-256 of the certificate
	Valid       answer `json:"valid"`       // on the date of the report
}

// pcrKey is a key by which the UKI has signed PCR policies.
type pcrKey struct {
	Fingerprint string   `json:"fingerprint"`
	Embedded    bool     `json:"embedded"` // is in .pcrpkey
	Policies    int      `json:"policies"`
	Banks       []string `json:"banks"`
	// has signed what PCR 11 will be at each point that is signed for by default
	Answer  answer   `json:"answer"`
	Missing []string `json:"missing"`
}

type sbom struct {
	Name       string `json:"name"`
	Format     string `json:"format"`
	Components int    `json:"components"`
	Size       int64  `json:"size"`
	Error      string `json:"error"` // why they could not be counted
}

// change is what becomes of a machine that goes from the old release to the new one.
type change struct {
	Comparison *build.Comparison `json:"comparison"`
	Causes     []string          `json:"causes"` // of changed PCRs
	Error      string            `json:"error"`  // why the PCRs could not be compared
}

// register is a PCR.
type register struct {
	PCR    int      `json:"pcr"`
	Holds  string   `json:"holds"`  // what is measured into it
	Effect string   `json:"effect"` // with two releases: none, changes, may change, not known
	Old    []string `json:"old"`    // values that are possible, SHA-256 bank
	New    []string `json:"new"`
	Note   string   `json:"note"` // why it is not known, or what it rests on
}

// secret is a token, and whether a TPM would open it.
type secret struct {
	File    string   `json:"file"`
	Token   int      `json:"token"` // number in a LUKS2 header; -1 in a file of its own
	Old     answer   `json:"old"`   // for the old release; "unknown" with one
	New     answer   `json:"new"`
	Reasons []string `json:"reasons"`
}

// disk is what -disk names.
type disk struct {
	Name       string   `json:"name"`
	Size       int64    `json:"size"`
	SectorSize int      `json:"sectorSize"`
	Layout     bool     `json:"layout"` // planned, not read from a disk
	Diagram    string   `json:"diagram"`
	Slots      []slot   `json:"slots"`
	Findings   []string `json:"findings"`
	// docs/schema/plan.json; absent of a layout, and where Error says why
	Plan  *upgrade.Plan `json:"plan,omitempty"`
	Error string        `json:"error"`

	table   *partition.Table
	drawing *diagram.Upgrade
}

type slot struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Version string `json:"version"`
}

// A release is untrusted until it was verified. What is shown of it has an end.
const (
	maxText = 2048 // bytes of a text
	maxName = 256  // of a name
	maxList = 256  // members of a list
)

// bounded is a text of at most so many bytes, and says what is left out. What would control a
// terminal, or turn a line around, is replaced.
func bounded(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
	if len(s) <= most {
		return s
	}
	n := most
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s… (%d more bytes are not shown)", s[:n], len(s)-n)
}

func text(s string) string { return bounded(s, maxText) }
func name(s string) string { return bounded(s, maxName) }

// texts are the first texts of a list.
func texts(list []string) []string {
	out := make([]string, 0, min(len(list), maxList))
	for i, s := range list {
		if i == maxList {
			return append(out, fmt.Sprintf("… and %d more", len(list)-i))
		}
		out = append(out, text(s))
	}
	return out
}
