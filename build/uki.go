package build

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/verity/dm"
)

// UKIParts are what a unified kernel image is made of. Stub and Linux are needed; all else may be
// left out.
type UKIParts struct {
	// Image has the parts one by one. Its PCRSignature and the room for that are filled in, and so
	// is PCRPublicKey, unless it is given or there are several PCR keys, as by ukify.
	Image uki.Image

	// RootHash is that of the file system that the system runs from: it comes first on the command
	// line, and on that of each profile that has one of its own, as roothash=, or usrhash= with
	// Usr. Nil: command lines are as they are given.
	RootHash []byte
	Usr      bool

	// Banks are the PCR banks whose values are signed for. None: all that systemd knows,
	// [tpm.Banks].
	Banks []crypto.Hash

	// Progress is called after each piece that was written, with bytes of the image without its
	// signature.
	Progress func(done, total int64)
}

// UKIImage is an image that was written.
type UKIImage struct {
	Size   int64 // bytes of the file
	Signed bool  // for Secure Boot

	// Digests are Authenticode digests, which firmware measures into PCR 4 and looks up in db and
	// dbx: SHA-256 and those of the banks that firmware has them in.
	Digests map[crypto.Hash][]byte

	// Variants are what the stub measures into PCR 11: one, or one for each profile and each piece
	// of hardware that decides. None: what this stub measures is not known, and there are no PCR
	// keys.
	Variants []uki.VariantMeasurements

	// ToSign are the policies that wait for keys elsewhere. They are to be signed and put into
	// .pcrsig ([uki.File]) before the image is signed: it is not, then.
	ToSign policy.PCRPolicies

	// FreeSections is how many more sections the headers have room for.
	FreeSections int
}

// UKI writes a unified kernel image to w, from offset 0 on, in one pass over its parts: it is
// assembled as by ukify, measured for all banks, gets the signed policies for what it will itself
// leave in PCR 11, and a Secure Boot signature over all of that. The same parts and RSA keys give
// the same bytes.
//
// Faults of the parts are found before the first byte is written ([*uki.PartError]). After any
// other error w has a part of the image.
func UKI(ctx context.Context, w io.WriterAt, p UKIParts, k Keys) (made *UKIImage, err error) {
	defer prefix.Add("build", &err)
	b := &ukiBuilder{parts: p, keys: k, image: p.Image}
	if err := b.prepare(); err != nil {
		return nil, err
	}
	assembled, err := b.image.Assemble()
	if err != nil {
		return nil, prefix.Bare(err)
	}
	return b.write(ctx, w, assembled)
}

// ukiBuilder makes one image.
type ukiBuilder struct {
	parts    UKIParts
	keys     Keys
	image    uki.Image
	policies *pcrPolicies // nil: there are no keys
	waiting  bool         // for keys that are elsewhere
}

// prepare completes the parts.
func (b *ukiBuilder) prepare() error {
	if err := checkPair("Secure Boot", b.keys.SecureBoot); err != nil {
		return err
	}
	b.image.Profiles = slices.Clone(b.image.Profiles)
	if err := b.cmdline(); err != nil {
		return err
	}
	keys, err := b.keys.pcrKeys()
	if err != nil || len(keys) == 0 {
		return prefix.Bare(err)
	}
	if b.image.PCRSignature != nil {
		return errors.New("UKI: both Image.PCRSignature and PCR keys are given: want one of them")
	}
	b.policies = &pcrPolicies{keys: keys, banks: b.parts.Banks}
	if len(b.policies.banks) == 0 {
		b.policies.banks = tpm.Banks()
	}
	for _, key := range keys {
		b.waiting = b.waiting || key.Signer == nil
	}
	if b.waiting && b.keys.SecureBoot.Key != nil {
		return errors.New("UKI: a PCR key has no Signer, so its policies are signed later: leave out Keys.SecureBoot, and sign the image when the policies are in it")
	}
	if len(b.image.PCRPublicKey) == 0 && len(keys) == 1 {
		if b.image.PCRPublicKey, err = policy.MarshalPublicKey(keys[0].Public); err != nil {
			return prefix.Bare(err)
		}
	}
	return prefix.Bare(b.policies.reserve(&b.image))
}

// cmdline puts the root hash in front.
func (b *ukiBuilder) cmdline() error {
	if len(b.parts.RootHash) == 0 {
		if b.parts.Usr {
			return errors.New("UKI: Usr without a RootHash")
		}
		return nil
	}
	volume := dm.Volume{RootHash: b.parts.RootHash}
	c := dm.Cmdline{Root: volume}
	if b.parts.Usr {
		c = dm.Cmdline{Usr: volume}
	}
	text, err := c.Encode()
	if err != nil {
		return prefix.Bare(err)
	}
	if b.image.Cmdline, err = join(text, b.image.Cmdline); err != nil {
		return err
	}
	for i := range b.image.Profiles {
		p := &b.image.Profiles[i]
		if p.Cmdline == "" {
			continue // it has that of the image
		}
		if p.Cmdline, err = join(text, p.Cmdline); err != nil {
			return fmt.Errorf("profile %d: %w", i+1, err)
		}
	}
	return nil
}

// join puts the root hash in front of a command line, which must not name another file system: the
// last roothash= would win.
func join(rootHash, cmdline string) (string, error) {
	given, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return "", prefix.Bare(err)
	}
	if len(given.Root.RootHash) > 0 || len(given.Usr.RootHash) > 0 {
		return "", fmt.Errorf("UKI: both the command line %q and RootHash give a root hash: want one of them", cmdline)
	}
	return strings.TrimRight(rootHash+" "+cmdline, " "), nil
}

// write makes the file.
func (b *ukiBuilder) write(ctx context.Context, w io.WriterAt, assembled *uki.Assembled) (*UKIImage, error) {
	made := &UKIImage{FreeSections: assembled.FreeSections(), Signed: b.keys.SecureBoot.Key != nil}
	o := uki.WriteOptions{Progress: b.parts.Progress}
	if b.policies != nil {
		o.Hashes, o.Sign = b.policies.banks, b.policies.sign
	}
	image := func(to io.Writer) (err error) {
		to = &interruptible{ctx, to}
		made.Variants, err = assembled.WriteStream(to, o)
		if b.policies == nil && errors.Is(err, uki.ErrUnknownStub) {
			// before a byte was written, and nothing is to be signed by it
			_, err = assembled.WriteTo(to)
		}
		return prefix.Bare(err)
	}
	var err error
	if made.Digests, made.Size, err = writeSigned(w, b.keys, image, assembled.Size()); err != nil {
		return nil, err
	}
	if b.waiting {
		if made.ToSign, err = b.policies.of(made.Variants); err != nil {
			return nil, prefix.Bare(err)
		}
	}
	return made, nil
}

// digestHashes are those that firmware has Authenticode digests in: signatures, and the banks of
// PCR 4.
func digestHashes() []crypto.Hash { return []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} }

// writeSigned signs what image writes on its way to w, or only digests it without a key. size is
// that of the image.
func writeSigned(w io.WriterAt, k Keys, image func(io.Writer) error, size int64) (sums map[crypto.Hash][]byte, n int64, err error) {
	end := &extent{w: w}
	if k.SecureBoot.Key == nil {
		d, err := authenticode.NewDigester(digestHashes()...)
		if err != nil {
			return nil, 0, prefix.Bare(err)
		}
		if err := image(io.MultiWriter(io.NewOffsetWriter(end, 0), d)); err != nil {
			return nil, 0, err
		}
		sums, err = d.SumsAsSigned()
		return sums, size, prefix.Bare(err)
	}
	s, err := authenticode.NewStreamSigner(end, k.SecureBoot.Key, k.SecureBoot.Cert, k.SignOptions, digestHashes()...)
	if err != nil {
		return nil, 0, prefix.Bare(err)
	}
	if err := image(s); err != nil {
		return nil, 0, err
	}
	if err := s.Close(); err != nil {
		return nil, 0, prefix.Bare(err)
	}
	sums, err = s.Sums()
	return sums, end.n, prefix.Bare(err)
}

// extent knows how far was written.
type extent struct {
	w io.WriterAt
	n int64
}

func (e *extent) WriteAt(b []byte, off int64) (int, error) {
	n, err := e.w.WriteAt(b, off)
	e.n = max(e.n, off+int64(n))
	return n, err
}

// interruptible ends a write when its context does.
type interruptible struct {
	ctx context.Context
	w   io.Writer
}

func (i *interruptible) Write(b []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.w.Write(b)
}
