// This program demonstrates package verity: it makes, checks, repairs, compares and signs dm-verity
// hash trees, as veritysetup does and beyond, without root and on any platform.
//
//	verity format -data F -tree F [-salt HEX] [-uuid U] [-hash NAME] [-data-block-size N] [-hash-block-size N] [-format 0|1]
//	       [-hash-offset N] [-data-blocks N] [-no-superblock] [-fec F] [-fec-offset N] [-fec-roots N]
//	verity verify -data F -tree F -root HEX [-fec F] [-fec-offset N] [-fec-roots N] [-uuid U] [-hash-offset N]
//	       [-no-superblock and format's flags]
//	verity repair -data F -tree F -fec F -root HEX [-o OUT] [-fec-offset N] [-fec-roots N] [-hash-offset N]
//	       [-no-superblock and format's flags]
//	verity diff OLDTREE NEWTREE
//	verity sign -root HEX -key PEM -cert PEM -o F [-der]
//
// Without -salt there are 32 random bytes of it, with an empty one or - none; without -uuid there
// is a random one. -tree may be the same as -data with -hash-offset, which must not be inside the
// data, and -fec the same as either with -fec-offset: then the file is written in place. Data that
// does not reach to the end of its file ends where -data-blocks says, as for veritysetup, or a tree
// begins that is to be made anew. Every other output is written beside its name and renamed. repair
// works in place unless -o names a file for the repaired data; then format makes a damaged tree
// anew. sign writes the content of a verity-sig partition, or with -der the bare signature.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json and -progress
// auto|bar|json|none. With -json one object is printed on stdout; it has "schema":
// "osmith.verity/1", "verb" and what json.go lists. -progress json writes lines {"verb": "format",
// "done": 4096, "total": 8192} to stderr, in bytes.
//
// Exit status: 0 yes; 1 no: not verified, not repaired, not comparable; 2 usage or I/O.
package main

import (
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

func main() { program.Main() }

var program = cli.Program{Name: "verity", Schema: schema, Verbs: []cli.Verb{
	{Name: "format", Usage: "-data F -tree F [flags]", Example: "verity format -data root.erofs -tree root.verity", Flags: formatFlags},
	{Name: "verify", Usage: "-data F -tree F -root HEX [flags]",
		Example: "verity verify -data root.erofs -tree root.verity -root $(cat roothash)", Flags: verifyFlags},
	{Name: "repair", Usage: "-data F -tree F -fec F -root HEX [-o OUT] [flags]",
		Example: "verity repair -data root.erofs -tree root.verity -fec root.fec -root $(cat roothash)", Flags: repairFlags},
	{Name: "diff", Usage: "OLDTREE NEWTREE [flags]", Example: "verity diff 1/root.verity 2/root.verity", Least: 2, Most: 2, Do: diff},
	{Name: "sign", Usage: "-root HEX -key PEM -cert PEM -o F [-der]",
		Example: "verity sign -root $(cat roothash) -key verity.key -cert verity.crt -o root.sig", Flags: signFlags},
}}
