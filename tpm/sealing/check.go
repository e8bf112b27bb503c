package sealing

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/tpmwire"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Verdict says whether a secret would be unsealed.
type Verdict int

const (
	VerdictUnknown Verdict = iota // it depends on facts that are unknown
	VerdictOpens
	VerdictDoesNotOpen
)

// String is "not known", "opens" or "does not open".
func (v Verdict) String() string {
	switch v {
	case VerdictOpens:
		return "opens"
	case VerdictDoesNotOpen:
		return "does not open"
	}
	return "not known"
}

// MarshalText implements [encoding.TextMarshaler]: the text is that of [Verdict.String].
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (v *Verdict) UnmarshalText(text []byte) error {
	for _, x := range []Verdict{VerdictUnknown, VerdictOpens, VerdictDoesNotOpen} {
		if x.String() == string(text) {
			*v = x
			return nil
		}
	}
	return prefix.Error(pkg, fmt.Errorf("verdict %.40q: want %q, %q or %q", text, VerdictOpens, VerdictDoesNotOpen, VerdictUnknown))
}

// State is what is known of a machine at the moment when the secret is requested. [StateOf] makes a
// State from event logs or a prediction. A field that is not set is unknown.
type State struct {
	// PCRs are values by bank and number.
	PCRs map[crypto.Hash]map[int][]byte
	// Unknown says why PCRs have no value, if that is known; [Answer].Reasons quote it.
	Unknown map[int]string
	// Banks are the banks that the TPM has allocated, which decide if a token names no bank; nil if
	// unknown.
	Banks []crypto.Hash

	// Signatures are the PCR signatures that the machine has for its boot: the .pcrsig of its UKI.
	// Nil: unknown. Empty: none.
	Signatures policy.Signatures
	// PCRLock is the policy that the NV index of systemd-pcrlock holds, as its pcrlock.json says.
	PCRLock *policy.PCRLock
	// Counters are values of NV counters.
	Counters map[uint32]uint64
	// PIN says that the right PIN is entered, which only a TPM can tell. If PIN is false, a token
	// that asks for a PIN does not open.
	PIN bool

	// Earlier are values of a state in which the token opened. They do not affect the answer; they
	// show which PCRs differ if a token, as those of systemd, does not record the values that it
	// was sealed for.
	Earlier map[crypto.Hash]map[int][]byte
}

// Answer is whether a token opens, and why.
type Answer struct {
	Verdict Verdict
	// Bank is the bank in which the PCRs were looked up; 0 without PCRs, or if the token names no
	// bank and the answer is the same in all banks.
	Bank crypto.Hash
	// Reasons say why the token does not open or, if it might, what is unknown. Empty if it opens.
	Reasons []Reason
	// Assumes lists what a yes takes for granted, because values cannot show it.
	Assumes []string
}

// ReasonKind is the subject of a [Reason].
type ReasonKind string

const (
	ReasonPCR       ReasonKind = "pcr"       // the value of a PCR
	ReasonSignature ReasonKind = "signature" // no signature covers the PCRs
	ReasonPIN       ReasonKind = "pin"
	ReasonBank      ReasonKind = "bank" // the TPM lacks the bank, or the token does not name it
	ReasonPCRLock   ReasonKind = "pcrlock"
	ReasonCounter   ReasonKind = "counter"
	// the policy of the sealed object differs from the one that the token states
	ReasonPolicy ReasonKind = "policy"
)

// Reason is why a token does not open (VerdictDoesNotOpen) or why it is not known (VerdictUnknown).
type Reason struct {
	Verdict Verdict
	Kind    ReasonKind
	Bank    crypto.Hash // bank of the PCRs; 0 if the reason is not about PCRs
	PCRs    []int       // PCRs that the reason is about, ascending
	// Want are the values with which the token opens, one or several for a single PCR, and Got is
	// the PCR's value. Both are nil if the reason is about more than one PCR, or the values are
	// unknown.
	Want [][]byte
	Got  []byte
	Err  error // what is wrong, as text and for errors.Is
}

// String is a line for people.
func (r Reason) String() string {
	switch {
	case r.Got != nil && len(r.Want) > 0:
		want := make([]string, len(r.Want))
		for i, w := range r.Want {
			want[i] = fmt.Sprintf("%x", w)
		}
		return fmt.Sprintf("%s PCR %d is %x, want %s", pcrbank.Name(r.Bank), r.PCRs[0], r.Got, strings.Join(want, " or "))
	case r.Kind == ReasonPCR && len(r.PCRs) == 1:
		return fmt.Sprintf("%s PCR %d: %v", pcrbank.Name(r.Bank), r.PCRs[0], r.Err)
	case r.Kind == ReasonPCR:
		return fmt.Sprintf("%s PCRs %v: %v", pcrbank.Name(r.Bank), r.PCRs, r.Err)
	}
	return r.Err.Error()
}

// Errors of reasons.
var (
	// ErrNotKnown is the cause of every [Reason] that leaves the answer open.
	ErrNotKnown = errors.New("not known")

	errOtherPCRs   = errors.New("differs from its value at sealing")
	errOtherDigest = errors.New("the policy computed from their values does not match the sealed object's")
)

// Check says without a TPM whether a token would open on a machine in this state. [VerdictOpens]
// means that the state shows every condition of the policy to hold, except those in Assumes: above
// all, that the TPM still has the token's key. What is unknown in the state never counts as a yes.
// An error means that the token or the state makes no sense.
//
// A token that names no bank is judged in the bank that systemd 262 chooses from Banks. If Banks is
// nil, the token is judged in every bank; if the answers differ, the verdict is [VerdictUnknown].
func (t *Token) Check(s State) (_ *Answer, err error) {
	defer prefix.Add(pkg, &err)
	if err := t.check(); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if t.Bank != 0 || len(t.allPCRs()) == 0 {
		return t.checkIn(&s)
	}
	if s.Banks != nil {
		bank, why := s.unlockBank(t.allPCRs())
		if why != nil {
			return &Answer{Verdict: why.Verdict, Reasons: []Reason{*why}}, nil
		}
		return t.inBank(bank).checkIn(&s)
	}
	return t.checkAllBanks(&s)
}

// check refuses values that no PCR has.
func (s *State) check() error {
	for _, state := range []map[crypto.Hash]map[int][]byte{s.PCRs, s.Earlier} {
		for bank, values := range state {
			if err := pcrbank.Check(bank); err != nil {
				return fmt.Errorf("state: %w", err)
			}
			for _, n := range pcrbank.PCRs(values) {
				if n < 0 || n >= pcrbank.Count || len(values[n]) != bank.Size() {
					return fmt.Errorf("state: PCR %d: a value of %d bytes: want PCRs 0 to %d and %d bytes for %s", n, len(values[n]), pcrbank.Count-1, bank.Size(), pcrbank.Name(bank))
				}
			}
		}
	}
	if err := pcrbank.CheckAll(s.Banks); err != nil {
		return fmt.Errorf("state: banks: %w", err)
	}
	return nil
}

// checkAllBanks judges a token that names no bank, on a TPM of which the banks are not known.
func (t *Token) checkAllBanks(s *State) (*Answer, error) {
	var first *Answer
	var texts []string
	same := true
	for _, bank := range unlockOrder {
		a, err := t.inBank(bank).checkIn(s)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = a
		}
		same = same && a.Verdict == first.Verdict
		texts = append(texts, fmt.Sprintf("%s: %v", pcrbank.Name(bank), a.Verdict))
	}
	if same && first.Verdict != VerdictUnknown {
		first.Bank = 0
		return first, nil
	}
	why := Reason{Kind: ReasonBank, PCRs: t.allPCRs(), Err: fmt.Errorf("the token names no PCR bank, and the banks of the TPM are %w (%s)", ErrNotKnown, strings.Join(texts, ", "))}
	if same { // not known in any bank, for the same reasons perhaps
		return &Answer{Reasons: append([]Reason{why}, first.Reasons...)}, nil
	}
	return &Answer{Reasons: []Reason{why}}, nil
}

// unlockBank is the bank that [TPM.unlockBank] would come to.
func (s *State) unlockBank(pcrs []int) (crypto.Hash, *Reason) {
	var first crypto.Hash
	for _, h := range unlockOrder {
		if !slices.Contains(s.Banks, h) {
			continue
		}
		if first == 0 {
			first = h
		}
		values := s.PCRs[h]
		for _, n := range pcrs {
			if v, ok := values[n]; ok && !allBytes(v, 0) && !allBytes(v, 0xff) {
				return h, nil
			}
		}
		if unknown := missing(values, pcrs); len(unknown) > 0 && len(s.Banks) > 1 {
			return 0, &Reason{Kind: ReasonBank, Bank: h, PCRs: unknown,
				Err: fmt.Errorf("the token names no PCR bank; whether the %s bank is in use is %w: PCRs %v have no value", pcrbank.Name(h), ErrNotKnown, unknown)}
		}
	}
	if first == 0 {
		return 0, &Reason{Kind: ReasonBank, Verdict: VerdictDoesNotOpen, Err: &BankError{Bank: unlockOrder[0], State: BankStateAbsent}}
	}
	return first, nil
}

// A checker judges a token whose bank is known.
type checker struct {
	token  *Token
	state  *State
	answer Answer
}

func (c *checker) no(kind ReasonKind, err error) {
	c.add(Reason{Verdict: VerdictDoesNotOpen, Kind: kind, Err: err})
}

func (c *checker) unknown(kind ReasonKind, format string, args ...any) {
	c.add(Reason{Kind: kind, Err: fmt.Errorf(format+": %w", append(args, ErrNotKnown)...)})
}

// add adds a reason that is not there yet.
func (c *checker) add(r Reason) {
	text := r.String()
	if !slices.ContainsFunc(c.answer.Reasons, func(o Reason) bool { return o.Verdict == r.Verdict && o.String() == text }) {
		c.answer.Reasons = append(c.answer.Reasons, r)
	}
}

func (t *Token) checkIn(s *State) (*Answer, error) {
	c := &checker{token: t, state: s}
	c.answer.Bank = t.Bank
	plans, err := t.plans(s.PCRLock)
	if err != nil {
		return nil, err
	}
	if pcrs := t.allPCRs(); len(pcrs) > 0 && s.Banks != nil && !slices.Contains(s.Banks, t.Bank) {
		c.no(ReasonBank, &BankError{Bank: t.Bank, State: BankStateAbsent})
	}
	for i, plan := range plans {
		asked, err := t.asked(i)
		if err != nil {
			return nil, err
		}
		c.policy(i, plan, asked)
	}
	c.assume()
	a := &c.answer
	a.Verdict = VerdictOpens
	for _, r := range a.Reasons {
		if r.Verdict == VerdictDoesNotOpen {
			a.Verdict = VerdictDoesNotOpen
			break
		}
		a.Verdict = VerdictUnknown
	}
	slices.SortStableFunc(a.Reasons, func(x, y Reason) int { return int(y.Verdict - x.Verdict) })
	return a, nil
}

// asked is the policy that a sealed object asks for, by its own public area.
func (t *Token) asked(i int) (policy.Digest, error) {
	b, err := parseBlob(t.Blobs[i])
	if err != nil {
		return policy.Digest{}, err
	}
	public, err := sealedPublic(b)
	if err != nil {
		return policy.Digest{}, err
	}
	return policy.Digest(public.AuthPolicy.Buffer), nil
}

// sealedPublic is the public area of an object that only its policy opens.
func sealedPublic(b blob) (*tpm2.TPMTPublic, error) {
	fail := func(err error) (*tpm2.TPMTPublic, error) {
		return nil, &osmith.FormatError{Offset: -1, Field: "tpm2-blob: public area", Err: err}
	}
	public, err := unmarshal[tpm2.TPMTPublic](b.public)
	switch {
	case err != nil:
		return fail(err)
	case public.Type != tpm2.TPMAlgKeyedHash || public.NameAlg != tpm2.TPMAlgSHA256 || len(public.AuthPolicy.Buffer) != len(policy.Digest{}):
		return fail(errors.New("not a sealed object with a SHA-256 policy"))
	case public.ObjectAttributes.UserWithAuth:
		return fail(errors.New("the object does not require its policy"))
	}
	return public, nil
}

// policy judges the steps of one object's policy.
func (c *checker) policy(i int, plan []step, asked policy.Digest) {
	if asked != c.token.PolicyHashes[i] {
		c.no(ReasonPolicy, fmt.Errorf("%w: the sealed object %d requires policy %v, but tpm2-policy-hash is %v", errOtherPolicy, i, asked, c.token.PolicyHashes[i]))
	}
	at := -1 // of the literal PCRs, which the digest decides about
	for n, s := range plan {
		switch s := s.(type) {
		case literal:
			at = n
		case signed:
			c.signed(s)
		case lockedBy:
			c.locked(s)
			plan[n] = s.fromFile()
		case anyOf:
			c.anyOf(s)
		case notAbove:
			c.counter(s)
		case authValue:
			if !c.state.PIN {
				c.no(ReasonPIN, ErrNeedPIN)
			}
		}
	}
	if at >= 0 {
		c.literal(plan, at, asked)
		return
	}
	if got, err := digestOf(plan); err == nil && got != asked {
		c.no(ReasonPolicy, fmt.Errorf("%w: policy %v, but the sealed object %d requires %v", errOtherPolicy, got, i, asked))
	} else if err != nil {
		c.unknown(ReasonPolicy, "whether the token tells the policy of the sealed object %d (%v)", i, prefix.Bare(err))
	}
}

// known are the values of the PCRs in a bank that the state has.
func (c *checker) known(bank crypto.Hash, pcrs []int) (values map[int][]byte, unknown []int) {
	values = map[int][]byte{}
	for _, n := range pcrs {
		if v, ok := c.state.PCRs[bank][n]; ok {
			values[n] = v
		} else {
			unknown = append(unknown, n)
		}
	}
	return values, unknown
}

func (c *checker) unknownPCR(bank crypto.Hash, n int) {
	why := ErrNotKnown
	if text := c.state.Unknown[n]; text != "" {
		why = fmt.Errorf("its value is %w: %s", ErrNotKnown, text)
	}
	c.add(Reason{Kind: ReasonPCR, Bank: bank, PCRs: []int{n}, Err: why})
}

func (c *checker) wrongPCR(bank crypto.Hash, n int, got []byte, want ...[]byte) {
	c.add(Reason{Verdict: VerdictDoesNotOpen, Kind: ReasonPCR, Bank: bank, PCRs: []int{n}, Want: want, Got: got, Err: errOtherPCRs})
}

// literal judges PCRs that must have values which the policy alone knows: if it comes to the digest
// that the object asks for, they have them.
func (c *checker) literal(plan []step, at int, asked policy.Digest) {
	l := plan[at].(literal)
	reaches := func(values map[int][]byte) (bool, error) {
		with := slices.Clone(plan)
		with[at] = literal{l.bank, l.pcrs, values}
		got, err := digestOf(with)
		return got == asked, err
	}
	values, unknown := c.known(l.bank, l.pcrs)
	if len(unknown) == 0 {
		ok, err := reaches(values)
		if ok {
			return
		}
		if err != nil {
			c.unknown(ReasonPolicy, "whether the token tells the policy of the sealed object (%v)", prefix.Bare(err))
			return
		}
	}
	// Only values that lead to the digest say what was sealed for.
	for _, sealed := range []map[int][]byte{l.values, some(c.state.Earlier[l.bank], l.pcrs)} {
		if ok, err := reaches(sealed); len(missing(sealed, l.pcrs)) > 0 || err != nil || !ok {
			continue
		}
		for _, n := range l.pcrs {
			if got, known := values[n]; !known {
				c.unknownPCR(l.bank, n)
			} else if !bytes.Equal(got, sealed[n]) {
				c.wrongPCR(l.bank, n, got, sealed[n])
			}
		}
		return
	}
	if len(unknown) == 0 {
		c.add(Reason{Verdict: VerdictDoesNotOpen, Kind: ReasonPCR, Bank: l.bank, PCRs: l.pcrs, Err: errOtherDigest})
	}
	for _, n := range unknown {
		c.unknownPCR(l.bank, n)
	}
}

// some are the values of those of the PCRs that have one.
func some(values map[int][]byte, pcrs []int) map[int][]byte {
	out := map[int][]byte{}
	for _, n := range pcrs {
		if v, ok := values[n]; ok {
			out[n] = v
		}
	}
	return out
}

// anyOf judges PCRs that must be in one of several states.
func (c *checker) anyOf(o anyOf) {
	values, unknown := c.known(o.bank, o.pcrs)
	var closest []int
	var best map[int][]byte
	for _, set := range o.sets {
		d := slices.DeleteFunc(differing(set, values), func(n int) bool { return slices.Contains(unknown, n) })
		if len(d) == 0 && len(unknown) == 0 {
			return
		}
		if best == nil || len(d) < len(closest) {
			closest, best = d, set
		}
	}
	for _, n := range closest {
		c.wrongPCR(o.bank, n, values[n], best[n])
	}
	for _, n := range unknown {
		c.unknownPCR(o.bank, n)
	}
}

// signed judges PCRs whose state a key must have signed for.
func (c *checker) signed(s signed) {
	if c.state.Signatures == nil {
		c.unknown(ReasonSignature, "the signatures of the UKI, its .pcrsig")
		return
	}
	fingerprint, err := policy.Fingerprint(s.key)
	if err != nil {
		c.no(ReasonSignature, prefix.Bare(err))
		return
	}
	want := policy.PCRPolicy{Bank: s.bank, PCRs: s.pcrs, Fingerprint: fingerprint, Ref: s.ref}
	refuse := func(err error) {
		c.add(Reason{Verdict: VerdictDoesNotOpen, Kind: ReasonSignature, Bank: s.bank, PCRs: s.pcrs, Err: err})
	}
	count := 0
	for _, sig := range c.state.Signatures {
		if sig.Bank == s.bank && slices.Equal(sig.PCRs, s.pcrs) && sig.Fingerprint == fingerprint && sig.Ref == s.ref {
			count++
		}
	}
	if count == 0 {
		refuse(fmt.Errorf("%w: none of %d signatures is by the key %x for %s PCRs %v%s", ErrNoSignature, len(c.state.Signatures), fingerprint[:8], pcrbank.Name(s.bank), s.pcrs, named(s.ref)))
		return
	}
	values, unknown := c.known(s.bank, s.pcrs)
	for _, n := range unknown {
		c.unknownPCR(s.bank, n)
	}
	if len(unknown) > 0 {
		return
	}
	if want.Digest, err = policy.PolicyPCR(policy.Digest{}, s.bank, values); err != nil {
		refuse(prefix.Bare(err))
		return
	}
	found, ok := c.state.Signatures.Find(want)
	if !ok {
		refuse(fmt.Errorf("%w: %s, and the key %x has signed for %d others%s", ErrNoSignature, valuesText(s.bank, values), fingerprint[:8], count, named(s.ref)))
		return
	}
	if err := found.Verify(s.key); err != nil {
		refuse(prefix.Bare(err))
	}
}

func named(ref string) string {
	if ref == "" {
		return ""
	}
	return fmt.Sprintf(" with the policy reference %q", ref)
}

// valuesText is "sha256 PCR 11 is 1234…".
func valuesText(bank crypto.Hash, values map[int][]byte) string {
	var b strings.Builder
	for i, n := range pcrbank.PCRs(values) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s PCR %d is %x", pcrbank.Name(bank), n, values[n])
	}
	return b.String()
}

// locked judges PCRs that a policy of systemd-pcrlock allows values of.
func (c *checker) locked(l lockedBy) {
	if l.lock == nil {
		c.unknown(ReasonPCRLock, "the policy of systemd-pcrlock, its pcrlock.json")
		return
	}
	if _, err := l.lock.Digest(); err != nil { // none or too many values
		c.no(ReasonPCRLock, prefix.Bare(err))
		return
	}
	if c.state.Banks != nil && !slices.Contains(c.state.Banks, l.lock.Bank) {
		c.no(ReasonBank, &BankError{Bank: l.lock.Bank, State: BankStateAbsent})
	}
	if l.index != nil && uint32(l.index.handle) != l.lock.NVIndex {
		c.unknown(ReasonPCRLock, "the content of the token's NV index 0x%08x, because pcrlock.json is for 0x%08x", uint32(l.index.handle), l.lock.NVIndex)
	}
	pcrs := pcrbank.PCRs(l.lock.Values)
	values, unknown := c.known(l.lock.Bank, pcrs)
	for _, n := range pcrs {
		switch {
		case slices.Contains(unknown, n):
			c.unknownPCR(l.lock.Bank, n)
		case !slices.ContainsFunc(l.lock.Values[n], func(v []byte) bool { return bytes.Equal(v, values[n]) }):
			c.wrongPCR(l.lock.Bank, n, values[n], l.lock.Values[n]...)
		}
	}
}

// fromFile has the NV index of pcrlock.json where the token does not name one, as those of systemd
// 255 and 256. The file has it as it was defined; since it holds a policy, it is written.
func (l lockedBy) fromFile() lockedBy {
	if l.index != nil || l.lock == nil {
		return l
	}
	r := tpmwire.NewReader("nvPublic", l.lock.NVPublic)
	area := r.Sized("public area")
	if r.End() != nil {
		return l
	}
	public, err := policy.ParseNVPublic(area)
	if err != nil || public.Index != l.lock.NVIndex {
		return l
	}
	public.Attributes |= policy.NVWritten
	if area, err = public.AppendBinary(nil); err != nil {
		return l
	}
	if index, err := newNVIndex(area); err == nil {
		l.index = index
	}
	return l
}

// counter judges a counter that must not have been raised.
func (c *checker) counter(n notAbove) {
	index := uint32(n.index.handle)
	switch now, known := c.state.Counters[index]; {
	case !known:
		c.unknown(ReasonCounter, "counter 0x%08x, which must be %d or less", index, n.most)
	case now > n.most:
		c.no(ReasonCounter, fmt.Errorf("%w: counter 0x%08x is %d, want %d or less", ErrFloor, index, now, n.most))
	}
}

// assume lists what no values of PCRs show.
func (c *checker) assume() {
	t, a := c.token, &c.answer
	if srk, err := parseSRK(t.SRK); t.SRK != nil && err == nil {
		a.Assumes = append(a.Assumes, fmt.Sprintf("the TPM has the key 0x%08x with the name %x", uint32(srk.handle), srk.name))
	} else {
		a.Assumes = append(a.Assumes, "the TPM was not cleared since the secret was sealed")
	}
	if t.PIN && c.state.PIN {
		a.Assumes = append(a.Assumes, "the PIN is the right one, and the TPM is not locked out")
	}
	if lock := c.state.PCRLock; t.PCRLock && lock != nil {
		index := lock.NVIndex
		if nv, err := parseNV("tpm2_pcrlock_nv", t.PCRLockNV); t.PCRLockNV != nil && err == nil {
			index = uint32(nv.handle)
		}
		a.Assumes = append(a.Assumes, fmt.Sprintf("NV index 0x%08x holds the policy of pcrlock.json", index))
	}
}
