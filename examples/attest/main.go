// This program demonstrates remote attestation with packages tpm and tpm/sealing: a verifier over
// HTTP, and a machine that proves to it how it was booted.
//
//	attest serve -reference REF.json -listen 127.0.0.1:PORT
//	attest prove -to URL [-tpm DEV] [-log F] [-userspace-log F] [-key F]
//
// serve answers until it is interrupted, on a loopback address only: the protocol has no transport
// security of its own. REF.json says what is to be trusted:
//
//	{
//	  "schema": "osmith.attest-reference/1",
//	  "logs": ["v1.log", "v2.log"],
//	  "pcrs": [4, 7, 11, 12],
//	  "bank": "sha256",
//	  "endorsementKeys": ["6f1c…"]
//	}
//
// logs are event logs of boots that are good, real ones or written by `pcr predict -log`; a name is
// relative to the file. A machine is trusted if its PCRs are those of one of them. endorsementKeys
// are SHA-256 of the public areas of the TPMs' endorsement keys, as prove -json tells them;
// "anyEndorsementKey": true in their place takes any TPM, even a software one, for good.
//
// prove has the TPM (/dev/tpmrm0, or swtpm:HOST:PORT, or swtpm:PATH) show that it owns an
// attestation key, and sign its PCRs. -log is the firmware's event log,
// /sys/kernel/security/tpm0/binary_bios_measurements if not given; -userspace-log is that of
// systemd, /run/log/systemd/tpm2-measure.log on a machine. Without it PCRs that userspace extends
// are not explained. -key is a file for the attestation key, which is made if it is not there;
// without -key a new one is made each time.
//
// The exchange: POST URL/challenge with the keys gives a challenge and a nonce; POST URL/evidence
// with the answer, the quote and the logs gives the verdict. json.go has the objects.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json. With -json
// one object is printed on stdout; it has "schema": "osmith.attest/1", "verb" and what json.go
// lists.
//
// Exit status: 0 yes; 1 no: the machine is not trusted, for the reasons given; 2 usage or I/O.
package main

import "github.com/osmith-dev/osmith/examples/internal/cli"

func main() { program.Main() }

var program = cli.Program{Name: "attest", Schema: schema, Verbs: []cli.Verb{
	{Name: "serve", Usage: "-reference REF.json -listen 127.0.0.1:PORT", Example: "attest serve -reference fleet.json -listen 127.0.0.1:8080", Flags: serveFlags},
	{Name: "prove", Usage: "-to URL [-tpm DEV] [-log F] [-userspace-log F] [-key F]", Example: "attest prove -to http://127.0.0.1:8080", Flags: proveFlags},
}}
