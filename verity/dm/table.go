package dm

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity"
)

// A Table is one line of a device-mapper table for the kernel's verity target
// (https://docs.kernel.org/admin-guide/device-mapper/verity.html), without the start and length in
// front of it, which are 0 and Sectors: see Target.
type Table struct {
	HashType      uint32 // hash format, 1 or 0
	DataDevice    string // path, or major:minor, or PARTUUID=... for dm-mod.create=
	HashDevice    string
	DataBlockSize int    // bytes
	HashBlockSize int    // bytes
	DataBlocks    int64  // number of data blocks
	HashStart     int64  // where the tree starts on the hash device, in hash blocks
	Algorithm     string // the kernel's name of the hash
	RootHash      []byte
	Salt          []byte
	Options       TableOptions
}

// TableOptions are the optional arguments of the verity target. The zero value has none: a damaged
// block is an I/O error.
type TableOptions struct {
	Corruption       Corruption // what to do about a block that does not match
	IOError          IOError    // what to do about a block that cannot be read (Linux 6.12)
	IgnoreZeroBlocks bool       // do not read blocks that must be zero
	// verify a block only when it is first read: weaker, for slow machines
	CheckAtMostOnce    bool
	TryVerifyInTasklet bool // verify in the interrupt when the hash is at hand

	FEC TableFEC // forward error correction; none if there is no device

	// RootHashSigKeyDesc is the description of the key of type "user" that holds
	// the PKCS#7 signature of the root hash.
	RootHashSigKeyDesc string
}

// TableFEC says where the parity of forward error correction is. Data and hash
// blocks must be of the same size for it.
type TableFEC struct {
	Device string // use_fec_from_device: a device as in Table; "" for none
	Start  int64  // fec_start: where the parity starts on the device, in blocks
	// fec_blocks: the number of covered blocks: data blocks, hash blocks and any others
	Blocks int64
	Roots  int // fec_roots: parity bytes of a codeword, 2 to 24
}

// Corruption is the kernel's reaction to a block that does not match its digest. The zero value
// fails the read.
type Corruption int

// The reactions to corruption, with the argument of the kernel's table.
const (
	CorruptionFail    Corruption = iota // no argument: the read fails
	CorruptionIgnore                    // ignore_corruption: log it and return the data, unverified
	CorruptionRestart                   // restart_on_corruption
	CorruptionPanic                     // panic_on_corruption
)

var corruptionArguments = []string{"", "ignore_corruption", "restart_on_corruption", "panic_on_corruption"}

func (c Corruption) valid() bool { return c >= 0 && int(c) < len(corruptionArguments) }

// IOError is the kernel's reaction to a block that it cannot read. The zero value fails the read.
type IOError int

// The reactions to an I/O error, with the argument of the kernel's table.
const (
	IOErrorFail    IOError = iota // no argument: the read fails
	IOErrorRestart                // restart_on_error
	IOErrorPanic                  // panic_on_error
)

var ioErrorArguments = []string{"", "restart_on_error", "panic_on_error"}

func (e IOError) valid() bool { return e >= 0 && int(e) < len(ioErrorArguments) }

// arguments returns the optional arguments in the order of the kernel's own
// listing (dmsetup table).
func (o TableOptions) arguments() []string {
	var args []string
	if o.Corruption != CorruptionFail && o.Corruption.valid() {
		args = append(args, corruptionArguments[o.Corruption])
	}
	if o.IOError != IOErrorFail && o.IOError.valid() {
		args = append(args, ioErrorArguments[o.IOError])
	}
	if o.IgnoreZeroBlocks {
		args = append(args, "ignore_zero_blocks")
	}
	if o.CheckAtMostOnce {
		args = append(args, "check_at_most_once")
	}
	if o.TryVerifyInTasklet {
		args = append(args, "try_verify_in_tasklet")
	}
	if f := o.FEC; f.Device != "" {
		args = append(args, "use_fec_from_device", escape(f.Device),
			"fec_blocks", strconv.FormatInt(f.Blocks, 10),
			"fec_start", strconv.FormatInt(f.Start, 10),
			"fec_roots", strconv.Itoa(f.Roots))
	}
	if o.RootHashSigKeyDesc != "" {
		args = append(args, "root_hash_sig_key_desc", escape(o.RootHashSigKeyDesc))
	}
	return args
}

// NewTable returns the table for a tree that verity.Format made with these parameters over data of
// the given size, with or without a superblock and at any offset. For an image with a superblock,
// [verity.Superblock.Params] has the parameters; a hash that package verity does not compute is
// left to the kernel.
func NewTable(p verity.Params, dataDevice, hashDevice string, dataSize int64, root []byte) (t Table, err error) {
	defer prefix.Add("dm", &err)
	algorithm := p.Hash
	p.Hash = "" // where the tree starts does not depend on it
	if _, err := verity.TreeSize(dataSize, p); err != nil {
		return Table{}, prefix.Bare(err)
	}
	start, err := verity.TreeStart(p)
	if err != nil {
		return Table{}, prefix.Bare(err)
	}
	t = Table{
		HashType:      1,
		DataDevice:    dataDevice,
		HashDevice:    hashDevice,
		DataBlockSize: cmp.Or(p.DataBlockSize, 4096),
		HashBlockSize: cmp.Or(p.HashBlockSize, 4096),
		Algorithm:     cmp.Or(algorithm, "sha256"),
		RootHash:      root,
		Salt:          p.Salt,
	}
	if p.ChromeOS {
		t.HashType = 0
	}
	t.DataBlocks = dataSize / int64(t.DataBlockSize)
	t.HashStart = start / int64(t.HashBlockSize)
	if err := t.checkTable(); err != nil {
		return Table{}, err
	}
	return t, nil
}

// String returns the parameters of the target, as in
//
//	1 /dev/sda2 /dev/sda3 4096 4096 300 1 sha256 855dbba5... 01020304
//
// It does not check for values that the kernel would refuse: see Check.
func (t Table) String() string {
	salt := "-"
	if len(t.Salt) > 0 {
		salt = hex.EncodeToString(t.Salt)
	}
	fields := []string{
		strconv.FormatUint(uint64(t.HashType), 10),
		escape(t.DataDevice),
		escape(t.HashDevice),
		strconv.Itoa(t.DataBlockSize),
		strconv.Itoa(t.HashBlockSize),
		strconv.FormatInt(t.DataBlocks, 10),
		strconv.FormatInt(t.HashStart, 10),
		t.Algorithm,
		hex.EncodeToString(t.RootHash),
		salt,
	}
	if args := t.Options.arguments(); len(args) > 0 {
		fields = append(fields, strconv.Itoa(len(args)))
		fields = append(fields, args...)
	}
	return strings.Join(fields, " ")
}

// Sectors returns the length of the target in sectors of 512 bytes.
func (t Table) Sectors() uint64 {
	return uint64(t.DataBlocks) * uint64(t.DataBlockSize) / 512
}

// Target returns the table with the start and the length that complete its line.
func (t Table) Target() Target {
	return Target{Sectors: t.Sectors(), Type: "verity", Params: t.String()}
}

// Limits of the kernel (drivers/md/dm-verity-fec.h, include/linux/crypto.h).
const (
	minFECRoots      = 2
	maxFECRoots      = 24
	maxAlgorithmName = 127
	maxDigest        = 64 // of SHA-512
	minBlockSize     = 512
	maxBlockSize     = 512 << 10
)

// Check returns an error for a table that the kernel would refuse without looking at the devices.
// Only the kernel itself knows whether it has the hash, and whether its pages are as large as the
// data blocks.
func (t Table) Check() error {
	return prefix.Error("dm", t.checkTable())
}

func (t Table) checkTable() error {
	if field, err := t.check(); err != nil {
		return fmt.Errorf("table: %s: %w", field, err)
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
	if n := len(t.RootHash); n == 0 || n > maxDigest {
		return "root digest", fmt.Errorf("%d bytes, want 1 to %d", n, maxDigest)
	}
	if want, known := digestSizes[t.Algorithm]; known && len(t.RootHash) != want {
		return "root digest", fmt.Errorf("%d bytes, a %s has %d", len(t.RootHash), t.Algorithm, want)
	}
	if t.HashBlockSize/len(t.RootHash) < 2 {
		return "hash block size", fmt.Errorf("a hash block of %d bytes cannot hold two digests of %d bytes", t.HashBlockSize, len(t.RootHash))
	}
	if len(t.Salt) > verity.MaxSaltSize {
		return "salt", fmt.Errorf("%d bytes, at most %d are allowed", len(t.Salt), verity.MaxSaltSize)
	}
	return t.checkOptions()
}

// digestSizes has the hashes that veritysetup is built to know.
var digestSizes = map[string]int{"sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}

func (t Table) checkOptions() (string, error) {
	o := t.Options
	if !o.Corruption.valid() {
		return "corruption mode", fmt.Errorf("unknown reaction %d", o.Corruption)
	}
	if !o.IOError.valid() {
		return "error mode", fmt.Errorf("unknown reaction %d", o.IOError)
	}
	if strings.ContainsRune(o.RootHashSigKeyDesc, 0) {
		return "root_hash_sig_key_desc", errors.New("it contains a NUL")
	}
	f := o.FEC
	if f.Device == "" {
		if f != (TableFEC{}) {
			return "use_fec_from_device", errors.New("error correction parameters are given without a FEC device")
		}
		return "", nil
	}
	if err := checkDevice(f.Device); err != nil {
		return "use_fec_from_device", err
	}
	if t.DataBlockSize != t.HashBlockSize {
		return "use_fec_from_device", fmt.Errorf("error correction needs equal block sizes, got %d and %d", t.DataBlockSize, t.HashBlockSize)
	}
	if f.Start < 0 || f.Start > math.MaxInt64/int64(t.DataBlockSize) {
		return "fec_start", fmt.Errorf("%d, want 0 to %d", f.Start, math.MaxInt64/int64(t.DataBlockSize))
	}
	if err := checkFECRoots(f.Roots); err != nil {
		return "fec_roots", err
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
	if n < minBlockSize || n > maxBlockSize || n&(n-1) != 0 {
		return fmt.Errorf("%d bytes, want a power of two from %d to %d", n, minBlockSize, maxBlockSize)
	}
	return nil
}

func checkFECRoots(n int) error {
	if n < minFECRoots || n > maxFECRoots {
		return fmt.Errorf("%d, want %d to %d", n, minFECRoots, maxFECRoots)
	}
	return nil
}

// checkAlgorithm allows names of the kernel's crypto API, drivers and templates included:
// "sha256-avx2", "hmac(sha256)".
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

// ParseTable reads the parameters of a verity target: the output of String, the text after the word
// verity in the output of dmsetup table, and all that the kernel accepts, except that a number, a
// hash or an option has only one spelling (the kernel checks a signature over the root hash as it
// is spelt, which must be lower-case). Optional arguments may come in any order, each once. A table
// that parses passes Check. The error is an *osmith.FormatError.
func ParseTable(params string) (Table, error) {
	t, err := parseTable(params)
	return t, prefix.Error("dm", err)
}

func parseTable(params string) (Table, error) {
	r := newTableReader(params)
	var t Table
	version := r.small("version")
	if version > 1 {
		r.fail(fmt.Errorf("unknown hash format %d, want 0 or 1", version))
	}
	t.HashType = uint32(version)
	t.DataDevice = r.next("data device")
	t.HashDevice = r.next("hash device")
	t.DataBlockSize = r.small("data block size")
	t.HashBlockSize = r.small("hash block size")
	t.DataBlocks = r.number("number of data blocks")
	t.HashStart = r.number("hash start block")
	t.Algorithm = r.next("algorithm")
	t.RootHash = r.hex("root digest")
	if salt := r.next("salt"); salt != "-" {
		var err error
		if t.Salt, err = parseHex(salt); err != nil {
			r.fail(err)
		}
	}
	if r.err == nil && len(r.words) > 0 {
		t.Options = r.options()
	}
	if r.err != nil {
		return Table{}, r.err
	}
	if field, err := t.check(); err != nil {
		return Table{}, &osmith.FormatError{Offset: int64(r.seen[field]), Field: "table: " + field, Err: err}
	}
	return t, nil
}

// options reads the count and the optional arguments that it announces.
func (r *tableReader) options() (o TableOptions) {
	count := r.number("number of optional arguments")
	if r.err == nil && count != int64(len(r.words)) {
		r.fail(fmt.Errorf("%d, but there are %d", count, len(r.words)))
	}
	seen := map[string]bool{}
	for r.err == nil && len(r.words) > 0 {
		name := r.next("optional argument")
		key := name
		for _, kind := range [][]string{corruptionArguments[1:], ioErrorArguments[1:]} {
			if slices.Contains(kind, name) {
				key = kind[0] // one of each kind
			}
		}
		if seen[key] {
			r.fail(fmt.Errorf("%s is given twice, or with a conflicting parameter", name))
		}
		seen[key] = true
		r.option(&o, name)
	}
	if r.err == nil && (seen["fec_blocks"] || seen["fec_start"] || seen["fec_roots"] || seen["use_fec_from_device"]) {
		for _, name := range []string{"use_fec_from_device", "fec_blocks", "fec_start", "fec_roots"} {
			if !seen[name] {
				r.at, r.field = r.end, name
				r.fail(errors.New("missing"))
			}
		}
	}
	return o
}

func (r *tableReader) option(o *TableOptions, name string) {
	switch name {
	case "ignore_corruption", "restart_on_corruption", "panic_on_corruption":
		o.Corruption = Corruption(slices.Index(corruptionArguments, name))
	case "restart_on_error", "panic_on_error":
		o.IOError = IOError(slices.Index(ioErrorArguments, name))
	case "ignore_zero_blocks":
		o.IgnoreZeroBlocks = true
	case "check_at_most_once":
		o.CheckAtMostOnce = true
	case "try_verify_in_tasklet":
		o.TryVerifyInTasklet = true
	case "use_fec_from_device":
		o.FEC.Device = r.next(name)
	case "fec_blocks":
		o.FEC.Blocks = r.number(name)
	case "fec_start":
		o.FEC.Start = r.number(name)
	case "fec_roots":
		o.FEC.Roots = r.small(name)
	case "root_hash_sig_key_desc":
		o.RootHashSigKeyDesc = r.next(name)
	default:
		r.fail(fmt.Errorf("%q is unknown", name))
	}
}
