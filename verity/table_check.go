package verity

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Limits of the kernel (drivers/md/dm-verity-fec.h, include/linux/crypto.h).
const (
	minFECRoots      = 2
	maxFECRoots      = 24
	maxAlgorithmName = 127
)

// Check says what the kernel would refuse about a table without looking at the
// devices. Whether the kernel has the hash, and whether its pages are as large as
// the data blocks, only that kernel knows.
func (t Table) Check() error {
	if field, err := t.check(); err != nil {
		return fmt.Errorf("verity: table: %s: %w", field, err)
	}
	return nil
}

// check returns the name of the first field that is wrong, with what is wrong.
func (t Table) check() (string, error) {
	if t.HashType > 1 {
		return "version", fmt.Errorf("unknown hash format %d, want 0 or 1", t.HashType)
	}
	if err := checkDevice(t.DataDevice); err != nil {
		return "data device", err
	}
	if err := checkDevice(t.HashDevice); err != nil {
		return "hash device", err
	}
	if err := checkPowerOfTwo(t.DataBlockSize); err != nil {
		return "data block size", err
	}
	if err := checkPowerOfTwo(t.HashBlockSize); err != nil {
		return "hash block size", err
	}
	if t.DataBlocks < 1 || t.DataBlocks > math.MaxInt64/int64(t.DataBlockSize) {
		return "number of data blocks", fmt.Errorf("%d blocks, want 1 to %d", t.DataBlocks, math.MaxInt64/int64(t.DataBlockSize))
	}
	if t.HashStart < 0 || t.HashStart > math.MaxInt64/int64(t.HashBlockSize) {
		return "hash start block", fmt.Errorf("%d, want 0 to %d", t.HashStart, math.MaxInt64/int64(t.HashBlockSize))
	}
	if err := checkAlgorithm(t.Algorithm); err != nil {
		return "algorithm", err
	}
	if err := checkRootHash(t.RootHash); err != nil {
		return "root digest", err
	}
	if want, known := digestSizes[t.Algorithm]; known && len(t.RootHash) != want {
		return "root digest", fmt.Errorf("%d bytes, a %s has %d", len(t.RootHash), t.Algorithm, want)
	}
	if t.HashBlockSize/len(t.RootHash) < 2 {
		return "hash block size", fmt.Errorf("%d bytes have no room for two digests of %d", t.HashBlockSize, len(t.RootHash))
	}
	if len(t.Salt) > MaxSaltSize {
		return "salt", fmt.Errorf("%d bytes, at most %d are allowed", len(t.Salt), MaxSaltSize)
	}
	return t.checkOptions()
}

// digestSizes has the hashes that veritysetup is built to know.
var digestSizes = map[string]int{"sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}

func (t Table) checkOptions() (string, error) {
	o := t.Options
	if o.Corruption != ReturnError && o.Corruption.argument() == "" {
		return "corruption mode", fmt.Errorf("unknown reaction %d", o.Corruption)
	}
	if o.IOError != FailOnError && o.IOError.argument() == "" {
		return "error mode", fmt.Errorf("unknown reaction %d", o.IOError)
	}
	if strings.ContainsRune(o.RootHashSigKeyDesc, 0) {
		return "root_hash_sig_key_desc", errors.New("it contains a NUL")
	}
	f := o.FEC
	if f.Device == "" {
		if f != (TableFEC{}) {
			return "use_fec_from_device", errors.New("values for error correction, but no device")
		}
		return "", nil
	}
	if err := checkDevice(f.Device); err != nil {
		return "use_fec_from_device", err
	}
	if t.DataBlockSize != t.HashBlockSize {
		return "use_fec_from_device", fmt.Errorf("error correction needs blocks of one size, not %d and %d", t.DataBlockSize, t.HashBlockSize)
	}
	if f.Start < 0 || f.Start > math.MaxInt64/int64(t.DataBlockSize) {
		return "fec_start", fmt.Errorf("%d, want 0 to %d", f.Start, math.MaxInt64/int64(t.DataBlockSize))
	}
	if f.Roots < minFECRoots || f.Roots > maxFECRoots {
		return "fec_roots", fmt.Errorf("%d, want %d to %d", f.Roots, minFECRoots, maxFECRoots)
	}
	if need := t.DataBlocks + t.hashBlocks(); f.Blocks < need {
		return "fec_blocks", fmt.Errorf("%d, data and tree have %d", f.Blocks, need)
	}
	return "", nil
}

// hashBlocks is how many blocks the tree has. Every hash block holds the largest
// power of two of digests for which there is room.
func (t Table) hashBlocks() int64 {
	per := int64(1)
	for per*2 <= int64(t.HashBlockSize/len(t.RootHash)) {
		per *= 2
	}
	var sum int64
	for n := t.DataBlocks; n > 1; {
		n = (n-1)/per + 1
		sum += n
	}
	return sum
}

func checkDevice(name string) error {
	switch {
	case name == "":
		return errors.New("no name")
	case strings.ContainsRune(name, 0):
		return errors.New("its name contains a NUL")
	}
	return nil
}

func checkPowerOfTwo(n int) error {
	if n < 512 || n > 512<<10 || n&(n-1) != 0 {
		return fmt.Errorf("%d bytes, want a power of two from 512 to %d", n, 512<<10)
	}
	return nil
}

// checkAlgorithm allows names of the kernel's crypto API, drivers and templates included: "sha256-avx2", "hmac(sha256)".
func checkAlgorithm(name string) error {
	if name == "" || len(name) > maxAlgorithmName {
		return fmt.Errorf("a name of %d bytes, want 1 to %d", len(name), maxAlgorithmName)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return fmt.Errorf("%q is not the name of a hash", name)
		}
	}
	return nil
}
