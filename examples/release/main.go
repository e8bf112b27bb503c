// This program demonstrates packages upgrade/release, weblayout and registry, and signing/cosign
// and keyless: it packs a version of an operating system as an OCI artifact, signs, verifies,
// serves, pushes and fetches it, on any platform.
//
//	release pack -o LAYOUTDIR -uki F -root F -tree F|-from DIR [-id ID] [-version V] [-variant V] [-roothash HEX] [-sig F] [-loader F] [-addon F]...
//	        [-extension F]... [-pcrs F] [-sbom F]... [-arch A] [-ref REF] [-supported-until DATE] [-fixes LIST]...
//	release index -o LAYOUTDIR -ref REF ARCH=REF...
//	release sign LAYOUTDIR REF -key F [-format legacy|bundle] [-reference NAME]
//	release attest LAYOUTDIR REF -key F -type T -predicate F [-format legacy|bundle]
//	release verify LAYOUT REF -policy P.json|-key F... [-id ID] [-variant V] [-version V] [-arch A] [-repository NAME] [-at TIME] [-trusted-root F]
//	release inspect LAYOUT REF [-check]
//	release export LAYOUT REF -o DIR [-best-before DATE] [-definitions DIR -url URL|-path DIR [-disk PATH] [-boot esp|xbootldr|boot] [-tries N] [-instances N] [-unsigned]]
//	        [-id ID] [-variant V] [-version V] [-arch A] [-accept-any-version]
//	release serve LAYOUTDIR -listen 127.0.0.1:PORT
//	release push LAYOUTDIR REF REGISTRY/REPO:TAG
//	release pull LAYOUT REF -policy P.json|-key F... -o LAYOUTDIR [-old-root F -old-tree F [-o-root F]] [-old-uki F]
//	        [-id ID] [-variant V] [-version V] [-arch A] [-accept-any-version] [-repository NAME] [-at TIME] [-trusted-root F]
//	release pull LAYOUT CHANNEL -channel -state F -id ID [-variant V] [-running V] [-machine-id F] -policy P.json|-key F... -o LAYOUTDIR ...
//	release channel publish LAYOUTDIR CHANNEL REF -key F... -valid DURATION [-offered N] [-release-key F]... [-new [-id ID]]
//	        [-supported-until DATE] [-fixes LIST]...
//	release channel promote LAYOUTDIR CHANNEL VERSION -key F... -valid DURATION [-offered N]
//	release channel support LAYOUTDIR CHANNEL VERSION [-supported-until DATE] [-fixes LIST]... -key F... -valid DURATION
//	release channel hold|withdraw LAYOUTDIR CHANNEL VERSION -key F... -valid DURATION [-reason TEXT]
//	release channel prune LAYOUTDIR CHANNEL -keep N -key F... -valid DURATION
//	        each: [-trust F]... [-keys F]... [-floor V] [-at TIME] [-public-key F -to-sign F instead of -key]
//	release channel join LAYOUTDIR CHANNEL -draft DIGEST -public-key F -signature F [-trust F]...
//	release channel list LAYOUT CHANNEL -policy P.json|-key F...
//
// LAYOUT is an OCI image layout: a directory, a tar archive, or the http or https address of a
// directory that a web server serves, release serve or any other. REF is a name in it, or a digest;
// a name is never trusted, and every answer says the digest that it is about. sign, attest,
// verify, inspect, pull and channel take a repository of a registry instead of LAYOUT REF:
// REGISTRY/REPO:TAG or REGISTRY/REPO@sha256:HEX. They and push take -user NAME, whose password is
// in REGISTRY_PASSWORD, and -plain-http. push takes the signatures along.
//
// pack takes ID, version and variant from the UKI's os-release (IMAGE_ID or ID, IMAGE_VERSION or
// VERSION_ID, VARIANT_ID), the architecture from its header, and the root hash from root and tree.
// It packs nothing that a machine would refuse whatever it is: what is said must be what the UKI
// says, and the command line of UKI and add-ons must boot the root file system of that root hash,
// verified. inspect -check judges the same way. An extension is NAME.sysext.raw or
// NAME.confext.raw, a signed disk image; its extension-release is read from it, becomes a part of
// what the release says, and must go with the os-release of the UKI. -from is the directory that
// mkosi or systemd-repart has written; of a root partition that is larger than its file system, and
// of a tree's, as much is packed as the tree's superblock tells of. REF is the version unless -ref
// says otherwise. sign without -format signs in both formats of cosign: legacy is that of cosign 1
// and 2, simple signing, and bundle that of cosign 3. Keys are PEM as openssl writes them, or
// cosign's own, encrypted with what COSIGN_PASSWORD holds. -type is a predicate type, or one of
// slsaprovenance, slsaprovenance02, spdx and cyclonedx.
//
// -supported-until is the last day of support, and -fixes lists what the version fixes, such as
// CVE-2026-1234. They are a part of the release, and channel publish repeats them, with its own
// date if that is given; channel support changes the date of a version and adds to its fixes. Both
// are what the vendor says, under the vendor's signature.
//
// A policy is the JSON of package cosign ("osmith.policy/1"); the files of keys in it are relative
// to it. The rule that counts is that of -repository, or of the address without its scheme if
// LAYOUT is one, or of REGISTRY/REPO. The validity of authorities is checked against -at (RFC
// 3339), or the clock. A policy that names identities needs -trusted-root, the file
// trusted_root.json of a Sigstore instance, such as "cosign trusted-root create" makes; it is never
// fetched. -without-log-entry and -without-certificate-timestamps do without proofs that a private
// Sigstore cannot give.
//
// verify and pull check a release against what was asked for: REF must be its version, "v" and the
// version, or the version with "-" and the architecture, unless it is a digest or -version says
// another; -id, -variant and -arch must be what the release says. A name that says no version, such
// as latest, needs -version or -accept-any-version, since no signature says what it stands for.
//
// pull verifies first and then fetches; what was fetched before is not fetched again. Signatures
// come along, so that LAYOUTDIR can be verified by itself. With an old root file system and its
// tree, only the blocks that they lack are fetched; the new root goes into LAYOUTDIR, or into the
// file of -o-root instead; without that, all of it is fetched from a server without ranges. Of an
// index, the release for -arch is taken. With an old UKI, what its sections have is not fetched.
//
// channel keeps the signed document that says which releases there are, which of the 1000 cohorts
// of machines are offered each, and until when that is to be believed (docs/release.md). Every verb
// verifies the last document, by the keys that sign the next one or by those of -trust, and the
// release that is published, by the same keys or by those of -release-key, unless REF is a digest.
// -keys are those that sign from then on. A document that is signed elsewhere is prepared with
// -public-key and -to-sign, and published by join. pull -channel accepts no older document than the
// file of -state tells of, no expired one, and says why a newer version is not for this machine, or
// not yet (exit status 1).
//
// export writes a release into a directory that systemd-sysupdate 262 updates machines from, as
// files or by any web server (docs/sysupdate.md): the parts, and SHA256SUMS, which lists them
// beside those of earlier versions and comes last. With -definitions it writes the definitions
// (*.transfer) for the machines, too: -url or -path says where they find the directory, -disk which
// disk is theirs ("auto"), -boot where their UKIs are, -tries how often a new UKI is tried and
// -instances how many versions there are at once. After the day of -best-before (YYYY-MM-DD)
// machines take nothing from the directory, until it is exported or renewed again. The signature of
// SHA256SUMS is made elsewhere, by gpg --output SHA256SUMS.gpg --detach-sign SHA256SUMS; -unsigned
// makes definitions that want none. A version that is there with another content is refused.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json and -progress
// auto|bar|json|none. With -json one object is printed on stdout; it has "schema":
// "osmith.release-report/1" ("osmith.release/1" is what a release has inside), "verb" and what
// json.go lists. -progress json writes lines {"verb": "pull", "done": 4096, "total": 8192} to
// stderr, in bytes. Retries are told on stderr.
//
// Exit status: 0 yes; 1 no: parts that do not fit, not verified, damaged, not a release; 2 usage or
// I/O.
package main

import (
	"errors"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
	"github.com/osmith-dev/osmith/verity"
)

func main() { program.Main() }

var program = cli.Program{Name: "release", Schema: schema, IsNo: isNo, Verbs: append([]cli.Verb{
	{Name: "pack", Usage: "-o LAYOUTDIR -uki F -root F -tree F|-from DIR [flags]",
		Example: "release pack -o layout -uki acme_2.efi -root acme_2.root.raw -tree acme_2.verity.raw", Flags: packFlags},
	{Name: "index", Usage: "-o LAYOUTDIR -ref REF ARCH=REF...", Example: "release index -o layout -ref 2 amd64=2-amd64 arm64=2-arm64",
		Least: 1, Most: 100, Flags: indexFlags},
	{Name: "sign", Usage: "LAYOUTDIR REF|REGISTRY/REPO:TAG -key F [-format legacy|bundle]", Example: "release sign layout 2 -key cosign.key",
		Least: 1, Most: 2, Flags: signFlags},
	{Name: "attest", Usage: "LAYOUTDIR REF|REGISTRY/REPO:TAG -key F -type T -predicate F [-format legacy|bundle]",
		Example: "release attest layout 2 -key cosign.key -type slsaprovenance -predicate provenance.json", Least: 1, Most: 2, Flags: attestFlags},
	{Name: "verify", Usage: "LAYOUT REF|REGISTRY/REPO:TAG -policy P.json|-key F... [-trusted-root F]", Example: "release verify layout 2 -key cosign.pub",
		Least: 1, Most: 2, Flags: verifyFlags},
	{Name: "inspect", Usage: "LAYOUT REF|REGISTRY/REPO:TAG [-check]", Example: "release inspect layout 2", Least: 1, Most: 2, Flags: inspectFlags},
	{Name: "export", Usage: "LAYOUT REF|REGISTRY/REPO:TAG -o DIR [-best-before DATE] [-definitions DIR -url URL|-path DIR]",
		Example: "release export layout 2 -o www -definitions sysupdate.d -url https://updates.example/acme", Least: 1, Most: 2, Flags: exportFlags},
	{Name: "serve", Usage: "LAYOUTDIR -listen 127.0.0.1:PORT", Example: "release serve layout -listen 127.0.0.1:8000",
		Least: 1, Most: 1, Flags: serveFlags},
	{Name: "push", Usage: "LAYOUTDIR REF REGISTRY/REPO:TAG", Example: "release push layout 2 registry.example/os/acme:2",
		Least: 3, Most: 3, Flags: pushFlags},
	{Name: "pull", Usage: "LAYOUT REF|REGISTRY/REPO:TAG -policy P.json|-key F... -o LAYOUTDIR [-old-root F -old-tree F] [-old-uki F]",
		Example: "release pull http://127.0.0.1:8000/ 2 -key cosign.pub -o cache", Least: 1, Most: 2, Flags: pullFlags},
}, channelVerbs...)}

// isNo tells a release that is not what it should be from a call that went wrong.
func isNo(err error) bool {
	return reason(err) != "" || errors.Is(err, cosign.ErrNoRule) || errors.Is(err, release.ErrNoArchitecture) || is[*osmith.FormatError](err) ||
		is[*release.WantedError](err) || is[*release.InconsistentError](err) || is[*channel.OtherError](err) || is[*channel.OlderError](err) ||
		is[*channel.ExpiredError](err) || errors.Is(err, channel.ErrTwoDocuments) ||
		is[*sysupdate.OtherContentError](err) || is[*verity.IncompatibleError](err) || is[*verity.BlockError](err) || is[*verity.ShortError](err)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
