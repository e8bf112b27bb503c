package tpm

import "crypto"

// PCRIMA is the PCR that Linux' integrity measurement architecture extends with every file that it measures.
const PCRIMA = 10

// BootAggregate is what IMA measures first: the hash of PCRs 0 to 9 as the kernel found them, of PCRs 0 to 7 in the sha1
// bank (security/integrity/ima/ima_crypto.c, Linux 5.8 and later). It ties IMA's own log, which no firmware knows, to
// this one.
func (b *Bank) BootAggregate() []byte {
	if checkBank(b.hash) != nil {
		return nil
	}
	last := 9
	if b.hash == crypto.SHA1 {
		last = 7
	}
	return sum(b.hash, b.pcrs[:last+1]...)
}
