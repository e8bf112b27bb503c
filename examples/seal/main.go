// This program demonstrates package tpm/sealing: it seals secrets to a TPM 2.0 and gets them back,
// in the form that systemd keeps in LUKS2 volumes.
//
//	seal seal [-tpm DEV] -secret F -o TOKEN [-pcrs LIST] [-bank NAME] [-public-key F] [-public-key-pcrs LIST] [-public-key-ref NAME]
//	     [-signature F] [-pcrlock F] [-pin] [-keyslot N] [-for NAME=F…]
//	seal unseal [-tpm DEV] [-o F] [-signature F] [-pcrlock F] [-pin] [-passphrase] [-expected LOG -actual LOG] TOKEN
//	seal check TOKEN|HEADER [-log LOG [-userspace F|none] [-until WORD]] [-pcrs F] [-pcr LIST] [-banks LIST] [-pcrsig F|UKI] [-pcrlock F]
//	     [-counter LIST] [-pin] [-earlier F]
//	seal status [-tpm DEV] [TOKEN]
//
// DEV is a device like /dev/tpmrm0, which is the default, or swtpm:HOST:PORT, or swtpm:PATH of a
// socket. LIST is like 7,11 or 7+11; a number may have a value: 7=HEX. No PCR is bound that is not
// named; with -public-key PCR 11 must be in a state that the key has signed for (-signature is a
// .pcrsig), with -pcrlock the PCRs must be as a pcrlock.json of systemd-pcrlock says. -pin reads a
// PIN from the first line of standard input. TOKEN is JSON as `cryptsetup token export` prints and
// `cryptsetup token import` reads it, with -keyslot for the slot.
//
// -for seals for several states of -pcrs, any of which will do: those of sets that are staged or
// were before, or of a firmware update that was announced. F is a prediction of `pcr predict -log`,
// a JSON file with values of PCRs, or now. What is printed tells which PCRs differ between them. A
// token for more than one state is not one that systemd unseals.
//
// -secret is a file of up to 128 bytes; what unseal gives with -passphrase is what systemd unlocks
// a volume with: the secret in base64. Without -o, unseal prints the secret. -expected and -actual
// are event logs, a predicted and a real one: if the policy does not hold, the differences tell
// why. status says which banks can be sealed to and whether the TPM is locked out; with a token,
// what the token asks for.
//
// check says without a TPM whether a token opens on a machine: "opens", "does not open" or "not
// known", each with the reasons. HEADER is the JSON of a LUKS2 header, as cryptsetup luksDump
// --dump-json-metadata prints it: the answer is yes if one of its tokens opens. What the machine is
// like, the other flags say; what they do not say is not known and never counts as a yes. -log is a
// prediction of `pcr predict`, or a machine's log: then systemd's own goes with it, cut by -until
// before the word that is measured after the secret is asked for, such as leave-initrd. -pcrs is
// {"sha256": {"7": "HEX"}}. Without -pin, a token that asks for a PIN does not open.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json. With -json
// one object is printed on stdout; it has "schema": "osmith.seal/1", "verb" and what json.go lists.
// Outputs are written beside their names and renamed; secrets are readable by their owner alone.
//
// Exit status: 0 yes; 1 no: the policy does not hold, the PIN is wrong, the TPM is locked out or
// another one, the bank is of no use; 2 usage or I/O, a TPM that does not answer or an interrupt
// among them. check: 1 also if it is not known whether the token opens; the verdict tells which.
package main

import (
	"errors"
	"flag"
	"io"
	"os"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

func main() { program.Main() }

// stdin is where PINs come from.
var stdin io.Reader = os.Stdin

var program = cli.Program{Name: "seal", Schema: schema, IsNo: isNo, Verbs: []cli.Verb{
	{Name: "seal", Usage: "[-tpm DEV] -secret F -o TOKEN [-pcrs LIST] [-public-key F] [-pin] [flags]",
		Example: "seal seal -tpm swtpm:localhost:2321 -secret key.bin -public-key pcr.pub -o token.json", Flags: sealFlags},
	{Name: "unseal", Usage: "[-tpm DEV] [-o F] [-signature F] [-pin] [flags] TOKEN",
		Example: "seal unseal -signature pcrsig.json -o key.bin token.json", Least: 1, Most: 1, Flags: unsealFlags},
	{Name: "check", Usage: "TOKEN|HEADER [-log LOG [-userspace F|none] [-until WORD]] [-pcrs F] [-pcr LIST] [-pcrsig F|UKI] [-pcrlock F] [-pin] [flags]",
		Example: "seal check token.json -log expected.bin -pcrsig linux.efi", Least: 1, Most: 1, Flags: checkFlags},
	{Name: "status", Usage: "[-tpm DEV] [TOKEN]", Example: "seal status -tpm /dev/tpmrm0 token.json", Most: 1, Flags: statusFlags},
}}

// isNo tells a negative answer of the TPM from what is wrong with the call.
func isNo(err error) bool {
	var policy *sealing.PolicyError
	var lockout *sealing.LockoutError
	var bank *sealing.BankError
	for _, no := range []error{sealing.ErrPIN, sealing.ErrNeedPIN, sealing.ErrMissingKey, sealing.ErrSelfTest, sealing.ErrSRK, sealing.ErrTampered} {
		if errors.Is(err, no) {
			return true
		}
	}
	return errors.As(err, &policy) || errors.As(err, &lockout) || errors.As(err, &bank)
}

// tpmFlag is -tpm. The TPM that is opened is closed when the call ends.
func tpmFlag(set *flag.FlagSet) func(*cli.Call) (*sealing.TPM, error) {
	name := set.String("tpm", "/dev/tpmrm0", "`device`, or swtpm:HOST:PORT, or swtpm:PATH")
	return func(c *cli.Call) (*sealing.TPM, error) {
		device, err := sealing.Open(*name)
		if err != nil {
			return nil, err
		}
		c.AtEnd(func() { device.Close() })
		return sealing.New(device).WithContext(c), nil
	}
}
