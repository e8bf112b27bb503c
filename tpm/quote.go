package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/osmith-dev/osmith/internal/keycheck"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/tpmwire"
)

// PCRSelection names some PCRs of one bank.
type PCRSelection struct {
	Bank crypto.Hash
	PCRs []int // ascending
}

// Quote is what a TPM signed about its PCRs: a TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE (TPM 2.0
// Library, part 2, section 10.12.12).
type Quote struct {
	Signer          []byte // qualified name of the signing key
	Nonce           []byte // extraData: the verifier's nonce
	Clock           uint64 // milliseconds that the TPM was powered
	Resets          uint32 // of the TPM, ever
	Restarts        uint32 // of the TPM since the last reset
	Safe            bool   // the clock has not been set back
	FirmwareVersion uint64
	Selections      []PCRSelection
	PCRDigest       []byte // hash of the selected PCRs, in the order of the selections
}

const (
	tpmGenerated   = 0xff544347 // "\xffTCG": made inside a TPM
	stAttestQuote  = 0x8018
	maxSelections  = 16
	maxSelectBytes = PCRCount / 8
)

// ParseQuote reads a TPMS_ATTEST of a quote, as TPM2_Quote returns it without the length in front
// and tpm2_quote -m writes it. It does not verify the signature: [VerifyQuote] does.
func ParseQuote(attest []byte) (_ *Quote, err error) {
	defer prefix.Add(pkg, &err)
	r := tpmwire.NewReader("quote", bytes.Clone(attest))
	if v := r.U32("magic"); r.OK() && v != tpmGenerated {
		r.Fail(0, "magic", fmt.Errorf("0x%08x, want 0x%08x: not made by a TPM", v, uint32(tpmGenerated)))
	}
	if v := r.U16("type"); r.OK() && v != stAttestQuote {
		r.Fail(4, "type", fmt.Errorf("0x%04x, want 0x%04x for a quote", v, stAttestQuote))
	}
	q := &Quote{Signer: r.Sized("signer"), Nonce: r.Sized("nonce"), Clock: r.U64("clock"), Resets: r.U32("reset count"), Restarts: r.U32("restart count")}
	at := r.Pos()
	safe := r.U8("safe")
	if safe > 1 {
		r.Fail(at, "safe", fmt.Errorf("%d, want 0 or 1", safe))
	}
	q.Safe, q.FirmwareVersion = safe == 1, r.U64("firmware version")
	at = r.Pos()
	count := r.U32("PCR selections")
	if count > maxSelections {
		r.Fail(at, "PCR selections", fmt.Errorf("%d, want %d or fewer", count, maxSelections))
	}
	for i := uint32(0); i < count && r.OK(); i++ {
		q.Selections = append(q.Selections, readSelection(r))
	}
	q.PCRDigest = r.Sized("PCR digest")
	if err := r.End(); err != nil {
		return nil, err
	}
	return q, nil
}

// readSelection reads a TPMS_PCR_SELECTION (part 2, section 10.6.1).
func readSelection(r *tpmwire.Reader) PCRSelection {
	at := r.Pos()
	id := r.U16("bank")
	a, ok := pcrbank.ByID(id)
	if !ok {
		r.Fail(at, "bank", fmt.Errorf("algorithm 0x%04x: %w", id, ErrBank))
	}
	at = r.Pos()
	n := r.U8("PCR bitmap")
	if n > maxSelectBytes {
		r.Fail(at, "PCR bitmap", fmt.Errorf("%d bytes, want %d or fewer", n, maxSelectBytes))
	}
	s := PCRSelection{Bank: a.Hash}
	for i, bits := range r.Take(int(n), "PCR bitmap") {
		for bit := range 8 {
			if bits&(1<<bit) != 0 {
				s.PCRs = append(s.PCRs, 8*i+bit)
			}
		}
	}
	return s
}

// QuoteError says how a quote differs from the one that was asked for. Reject such a quote.
type QuoteError struct {
	Field     string // "nonce", "signature", "PCR digest" or "PCR selection"
	Want, Got []byte // values of the field; nil where there is nothing to compare
	Err       error  // nil, or the details
}

func (e *QuoteError) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("quote: %s: %v", e.Field, e.Err)
	case len(e.Want) == 0:
		return fmt.Sprintf("quote: %s is %x, want none", e.Field, e.Got)
	}
	return fmt.Sprintf("quote: %s is %x, want %x", e.Field, e.Got, e.Want)
}

func (e *QuoteError) Unwrap() error { return e.Err }

// ErrNoNonce says that a quote was to be verified without a nonce, or with a nonce of zeros, which
// is not random. Such a quote proves a state that the machine had at some time, perhaps long ago.
// If that is enough, use [VerifyQuoteOfAnyTime].
var ErrNoNonce = errors.New("no nonce, or a nonce of zeros: want the random nonce that the quote was requested with")

// VerifyQuote checks a quote offline: attest (a TPMS_ATTEST) was signed by the key (*rsa.PublicKey
// or *ecdsa.PublicKey) with signature (a TPMT_SIGNATURE: RSASSA, RSAPSS or ECDSA with SHA-256 or
// more) in answer to this nonce. What is wrong is a [*QuoteError]; without a nonce it is
// [ErrNoNonce]. VerifyQuote does not check that the key lives in a TPM, nor the PCRs, of which the
// quote has only a digest: see [Quote.Check] and [Log.VerifyQuote].
func VerifyQuote(key crypto.PublicKey, attest, signature, nonce []byte) (_ *Quote, err error) {
	defer prefix.Add(pkg, &err)
	if bytes.Count(nonce, []byte{0}) == len(nonce) {
		return nil, fmt.Errorf("quote: %w", ErrNoNonce)
	}
	q, err := verifyQuote(key, attest, signature)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(q.Nonce, nonce) {
		return nil, &QuoteError{Field: "nonce", Want: bytes.Clone(nonce), Got: q.Nonce}
	}
	return q, nil
}

// VerifyQuoteOfAnyTime is [VerifyQuote] for any nonce. It does not say when the quote was made: an
// attacker who has seen a quote can replay it after the machine's state has changed.
func VerifyQuoteOfAnyTime(key crypto.PublicKey, attest, signature []byte) (_ *Quote, err error) {
	defer prefix.Add(pkg, &err)
	return verifyQuote(key, attest, signature)
}

func verifyQuote(key crypto.PublicKey, attest, signature []byte) (*Quote, error) {
	sig, err := ParseTPMSignature(signature)
	if err != nil {
		return nil, err
	}
	if err := sig.Verify(key, attest); err != nil {
		return nil, &QuoteError{Field: "signature", Err: prefix.Bare(err)}
	}
	q, err := ParseQuote(attest)
	if err != nil {
		return nil, err
	}
	if len(q.PCRDigest) != sig.Hash.Size() {
		return nil, &QuoteError{Field: "PCR digest", Err: fmt.Errorf("%d bytes, want a digest by %s, which the signature is over", len(q.PCRDigest), BankName(sig.Hash))}
	}
	return q, nil
}

// Has reports whether the quote covers all of these PCRs of a bank.
func (q *Quote) Has(bank crypto.Hash, pcrs ...int) bool {
	for _, n := range pcrs {
		if !slices.ContainsFunc(q.Selections, func(s PCRSelection) bool { return s.Bank == bank && slices.Contains(s.PCRs, n) }) {
			return false
		}
	}
	return true
}

// Check compares PCR values, as the machine reported them, with the digest in the quote. It is an
// error if a value that the quote covers is not given, or if the quote covers no value. Values that
// the quote does not cover are ignored: ask [Quote.Has] about those that matter.
func (q *Quote) Check(values map[crypto.Hash]map[int][]byte) (err error) {
	defer prefix.Add(pkg, &err)
	digest, err := q.digest(func(bank crypto.Hash, pcr int) ([]byte, error) {
		v, ok := values[bank][pcr]
		if !ok {
			return nil, fmt.Errorf("PCR %d of bank %s is quoted, but its value was not given", pcr, BankName(bank))
		}
		if len(v) != bank.Size() {
			return nil, fmt.Errorf("PCR %d of bank %s: a value of %d bytes, want %d", pcr, BankName(bank), len(v), bank.Size())
		}
		return v, nil
	})
	if err != nil {
		return err
	}
	if !bytes.Equal(digest, q.PCRDigest) {
		return &QuoteError{Field: "PCR digest", Want: digest, Got: q.PCRDigest}
	}
	return nil
}

// Values are the reported PCR values that the quote proves: those that it covers, if they lead to
// its digest as in [Quote.Check]. Values that the quote does not cover are unverified, and left
// out.
func (q *Quote) Values(reported map[crypto.Hash]map[int][]byte) (map[crypto.Hash]map[int][]byte, error) {
	if err := q.Check(reported); err != nil {
		return nil, err
	}
	out := make(map[crypto.Hash]map[int][]byte)
	for _, s := range q.Selections {
		if out[s.Bank] == nil {
			out[s.Bank] = make(map[int][]byte, len(s.PCRs))
		}
		for _, n := range s.PCRs {
			out[s.Bank][n] = bytes.Clone(reported[s.Bank][n])
		}
	}
	return out, nil
}

// digest hashes what value returns for each quoted PCR. The hash is that of the signature; the
// digest's length tells it.
func (q *Quote) digest(value func(bank crypto.Hash, pcr int) ([]byte, error)) ([]byte, error) {
	i := slices.IndexFunc(pcrbank.All, func(a pcrbank.Algorithm) bool { return a.Hash.Size() == len(q.PCRDigest) })
	if i < 0 {
		return nil, &QuoteError{Field: "PCR digest", Err: fmt.Errorf("%d bytes, the size of no known hash", len(q.PCRDigest))}
	}
	w := pcrbank.All[i].Hash.New()
	covered := 0
	for _, s := range q.Selections {
		for _, n := range s.PCRs {
			v, err := value(s.Bank, n)
			if err != nil {
				return nil, &QuoteError{Field: "PCR selection", Err: err}
			}
			w.Write(v)
			covered++
		}
	}
	if covered == 0 {
		return nil, &QuoteError{Field: "PCR selection", Err: fmt.Errorf("no PCRs are quoted")}
	}
	return w.Sum(nil), nil
}

// VerifyQuote compares what the log replays to with the digest in a quote. A log that replays to
// the digest is the whole truth about the quoted PCRs. If a log does not, the digest cannot say
// which PCR differs: check the values that the machine reports with [Quote.Check], then
// [Log.Verify] names the PCRs. A predicted log must cover every quoted PCR.
func (l *Log) VerifyQuote(q *Quote) error {
	replayed := make(map[crypto.Hash]map[int][]byte)
	for _, s := range q.Selections {
		if _, ok := replayed[s.Bank]; ok {
			continue
		}
		values, err := l.Values(s.Bank)
		if err != nil {
			return err
		}
		replayed[s.Bank] = values
	}
	return q.Check(replayed)
}

// Signature schemes of the TCG Algorithm Registry.
const (
	algRSASSA = 0x0014
	algRSAPSS = 0x0016
	algECDSA  = 0x0018
)

// TPMSignature is a TPMT_SIGNATURE (TPM 2.0 Library, part 2, section 11.3.4) by RSASSA, RSAPSS or
// ECDSA.
type TPMSignature struct {
	Scheme string // "rsassa", "rsapss" or "ecdsa"
	Hash   crypto.Hash
	RSA    []byte   // of rsassa and rsapss
	R, S   *big.Int // of ecdsa
}

// ParseTPMSignature reads a TPMT_SIGNATURE, as TPM2_Quote returns it and tpm2_quote -s writes it.
func ParseTPMSignature(b []byte) (_ *TPMSignature, err error) {
	defer prefix.Add(pkg, &err)
	r := tpmwire.NewReader("TPM signature", bytes.Clone(b))
	scheme := r.U16("scheme")
	at := r.Pos()
	id := r.U16("hash")
	a, ok := pcrbank.ByID(id)
	if !ok {
		r.Fail(at, "hash", fmt.Errorf("algorithm 0x%04x: %w", id, ErrBank))
	}
	s := &TPMSignature{Hash: a.Hash}
	switch scheme {
	case algRSASSA, algRSAPSS:
		s.Scheme = "rsassa"
		if scheme == algRSAPSS {
			s.Scheme = "rsapss"
		}
		s.RSA = r.Sized("signature")
	case algECDSA:
		s.Scheme = "ecdsa"
		s.R, s.S = new(big.Int).SetBytes(r.Sized("r")), new(big.Int).SetBytes(r.Sized("s"))
	default:
		r.Fail(0, "scheme", fmt.Errorf("0x%04x, want RSASSA, RSAPSS or ECDSA", scheme))
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	return s, nil
}

// Verify reports whether the key made the signature over message. A SHA-1 signature is refused.
func (s *TPMSignature) Verify(key crypto.PublicKey, message []byte) (err error) {
	defer prefix.Add(pkg, &err)
	if err := pcrbank.Check(s.Hash); err != nil {
		return err
	}
	if s.Hash == crypto.SHA1 {
		return errors.New("a signature over SHA-1 proves nothing")
	}
	if err := keycheck.Public(key); err != nil {
		return err
	}
	digest := pcrbank.Sum(s.Hash, message)
	switch k := key.(type) {
	case *rsa.PublicKey:
		if s.Scheme == "rsassa" {
			return wrapVerify(rsa.VerifyPKCS1v15(k, s.Hash, digest, s.RSA))
		}
		if s.Scheme == "rsapss" { // the TPM's salt is as long as fits or as the hash
			return wrapVerify(rsa.VerifyPSS(k, s.Hash, digest, s.RSA, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}))
		}
	case *ecdsa.PublicKey:
		if s.Scheme == "ecdsa" {
			if s.R == nil || s.S == nil || !ecdsa.Verify(k, digest, s.R, s.S) {
				return errors.New("not a signature by this key over this message")
			}
			return nil
		}
	}
	return fmt.Errorf("a signature by %s and a key of type %T", s.Scheme, key)
}

func wrapVerify(err error) error {
	if err != nil {
		return fmt.Errorf("not a signature by this key over this message: %w", err)
	}
	return nil
}
