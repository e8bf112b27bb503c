package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/uki"
)

// header begins every object.
type header struct {
	cli.Header
	File string `json:"file"` // what was read, or written
}

func newHeader(c *cli.Call, file string) header { return header{c.Header(), file} }

// buildResult is the object of build and addon. Sizes are bytes, digests lower-case hexadecimal, in
// all objects.
type buildResult struct {
	header
	Size int64 `json:"size"`
	// Authenticode digest: what PCR 4 gets, and what a dbx entry would name
	SHA256       string          `json:"sha256"`
	Policies     json.RawMessage `json:"policies,omitempty"` // of -policy-digest: to be signed
	PCRSignature bool            `json:"pcrSignature"`       // has signed PCR policies
	Signed       bool            `json:"signed"`             // has a Secure Boot signature
	FreeSections int             `json:"freeSections"`       // how many more section headers fit
}

// text is what build prints without -json: the policies to be signed, if it was asked for them.
func (r *buildResult) text() string {
	if r.Policies == nil {
		return ""
	}
	return string(r.Policies) + "\n"
}

// inspectResult is the object of inspect.
type inspectResult struct {
	header
	Kind         string            `json:"kind"` // image, addon, profile
	Size         int64             `json:"size"`
	StubVersion  string            `json:"stubVersion,omitempty"`
	Uname        string            `json:"uname,omitempty"`
	OSRelease    map[string]string `json:"osRelease,omitempty"`
	Authenticode map[string]string `json:"authenticode"` // digest by hash
	Signatures   []signature       `json:"signatures"`
	Profiles     []profile         `json:"profiles"`
	Sections     []section         `json:"sections"`
	Variants     []variant         `json:"variants"`        // ways to boot
	Error        string            `json:"error,omitempty"` // why there are no variants
}

// profile is what boot menus know of one.
type profile struct {
	Index int    `json:"index"`
	ID    string `json:"id,omitempty"`
	Title string `json:"title,omitempty"`
}

// section is one row of the section table.
type section struct {
	Name           string `json:"name"`
	Profile        int    `json:"profile"` // -1: shared by all profiles
	Size           int64  `json:"size"`    // as loaded
	Offset         int64  `json:"offset"`  // in the file
	RawSize        int64  `json:"rawSize"`
	VirtualAddress int64  `json:"virtualAddress"`
	SHA256         string `json:"sha256"`         // of the data as loaded
	Text           string `json:"text,omitempty"` // of sections that hold a short text
}

// variant is one way to boot the image. Device trees and firmware are counted from 1 among the
// .dtbauto and .efifw sections of the profile; 0 is none.
type variant struct {
	Profile      int        `json:"profile"`
	ProfileID    string     `json:"profileID,omitempty"`
	ProfileTitle string     `json:"profileTitle,omitempty"`
	DeviceTree   int        `json:"deviceTree,omitempty"`
	Firmware     int        `json:"firmware,omitempty"`
	Sections     []measured `json:"sections"` // in the order in which the stub measures them
	PCR11        []pcr11    `json:"pcr11"`
}

// measured is a section as it goes into PCR 11.
type measured struct {
	Section string            `json:"section"`
	Size    int64             `json:"size"`
	Digests map[string]string `json:"digests"` // by bank
}

// pcr11 is the value of PCR 11 after the phases.
type pcr11 struct {
	Phases []string          `json:"phases"`
	Banks  map[string]string `json:"banks"`
}

// measureResult is the object of measure.
type measureResult struct {
	header
	Variants []variant `json:"variants"`
}

// checkResult is the object of check.
type checkResult struct {
	header
	Good     bool      `json:"good"` // no errors and nothing unknown; warnings are none
	Findings []finding `json:"findings"`

	errors, unknown int
	unread          error
}

// addonResult is the object of addon check and addon install.
type addonResult struct {
	checkResult
	Place           string `json:"place,omitempty"` // of install: its path on the ESP
	Cmdline         string `json:"cmdline"`         // what the stub appends of it
	Uname           string `json:"uname,omitempty"` // the kernel that it is for
	Signature       string `json:"signature"`       // accepted, refused, unknown
	SignatureReason string `json:"signatureReason"`
	// what the refusal list has
	Refusals []refusal `json:"refusals"`
	// the kernel gets from image and add-ons; "" if that is not known or the add-on is skipped
	KernelCmdline string `json:"kernelCmdline"`
	// PCR 12, sha256, from what the stub measures, without the add-on and with it; "" as well
	PCR12Before string `json:"pcr12Before"`
	PCR12       string `json:"pcr12"`
	Installed   bool   `json:"installed,omitempty"` // of install: it is there, whole
	Unchanged   bool   `json:"unchanged,omitempty"` // of install: it was there with this content
}

// refusal is an argument or a part that an add-on for one machine should not bring.
type refusal struct {
	Name       string `json:"name"` // for -override
	Text       string `json:"text"`
	Reason     string `json:"reason"`
	Overridden bool   `json:"overridden"`
}

// addonList is the object of addon list.
type addonList struct {
	header
	Images []addonImage `json:"images"`
}

// addonImage is an image with the add-ons that its stub finds, in the order in which it takes them.
type addonImage struct {
	Path     string  `json:"path"`
	XBOOTLDR bool    `json:"xbootldr"`
	Uname    string  `json:"uname,omitempty"`
	Addons   []addon `json:"addons"`
	// what the kernel gets from image and accepted add-ons; "" if Error says why it is not known
	KernelCmdline string `json:"kernelCmdline"`
	PCR12         string `json:"pcr12"` // sha256, from what the stub measures then
	Error         string `json:"error,omitempty"`
}

// addon is one that lies where a stub looks.
type addon struct {
	Path      string   `json:"path"`
	Global    bool     `json:"global"` // for all images
	Cmdline   string   `json:"cmdline"`
	Uname     string   `json:"uname,omitempty"`
	Signers   []string `json:"signers"`   // as the signatures claim
	Signature string   `json:"signature"` // accepted, refused, unknown: by the machine's keys
	Verdict   string   `json:"verdict"`   // accepted, skipped, unknown
	Reason    string   `json:"reason"`    // of skipped and unknown
}

// finding is something that firmware, boot loader or stub would dislike.
type finding struct {
	File     string `json:"file"`
	Severity string `json:"severity"` // error, unknown (it is not known whether it boots), warning
	Code     string `json:"code"`
	Section  string `json:"section,omitempty"`
	Profile  int    `json:"profile"` // -1: what all profiles share
	Text     string `json:"text"`

	said uki.Finding
}

// signature is one Secure Boot signature.
type signature struct {
	Signer string `json:"signer,omitempty"` // subject of the certificate
	Issuer string `json:"issuer,omitempty"`
	Hash   string `json:"hash,omitempty"`
	Digest string `json:"digest,omitempty"` // of the image when it was signed
	Time   string `json:"time,omitempty"`   // as the signer claims
	// made by the signer, over the image as it is; not whether the signer is trusted
	Valid bool   `json:"valid"`
	Error string `json:"error,omitempty"`
}

// describeSignatures tells of each signature; sha256 is the image's own digest.
func describeSignatures(list []authenticode.Signature, sha256 []byte) []signature {
	out := make([]signature, 0, len(list))
	for _, s := range list {
		d := signature{Digest: hex.EncodeToString(s.Digest), Valid: s.Err == nil}
		if s.Hash != 0 {
			d.Hash = strings.ToLower(strings.ReplaceAll(s.Hash.String(), "-", ""))
		}
		if s.Signer != nil {
			d.Signer, d.Issuer = s.Signer.Subject.String(), s.Signer.Issuer.String()
		}
		if !s.SigningTime.IsZero() {
			d.Time = s.SigningTime.UTC().Format(time.RFC3339)
		}
		switch {
		case s.Err != nil:
			d.Error = s.Err.Error()
		case len(s.Digest) == len(sha256) && !bytes.Equal(s.Digest, sha256):
			d.Valid, d.Error = false, "the image was changed after it was signed"
		}
		out = append(out, d)
	}
	return out
}

// signResult is the object of sign.
type signResult struct {
	header
	Size       int64       `json:"size"`
	SHA256     string      `json:"sha256"` // Authenticode digest
	Signatures []signature `json:"signatures"`
}

// verifyResult is the object of verify.
type verifyResult struct {
	header
	Verified bool `json:"verified"`
	// whose signature leads to a trusted certificate
	Signer     string      `json:"signer,omitempty"`
	SHA256     string      `json:"sha256,omitempty"` // Authenticode digest
	Signatures []signature `json:"signatures"`
	// of a no: unsigned, changed, untrusted, invalid, malformed
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}
