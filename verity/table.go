package verity

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// A Table is one line of a device-mapper table for the kernel's verity target
// (https://docs.kernel.org/admin-guide/device-mapper/verity.html), without the
// start and length in front of it: those are 0 and Sectors. See Target for them.
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

// TableOptions are the optional arguments of the verity target. The zero value
// asks for none: a damaged block is an I/O error.
type TableOptions struct {
	Corruption         Reaction // to a block that does not match; the zero value fails the read
	IOError            IOError  // to a block that cannot be read; the zero value fails the read (Linux 6.12)
	IgnoreZeroBlocks   bool     // do not read blocks that must be zero
	CheckAtMostOnce    bool     // verify a block only when it is first read: weaker, for slow machines
	TryVerifyInTasklet bool     // verify in the interrupt when the hash is at hand

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
	Blocks int64  // fec_blocks: the data blocks, the hash blocks and what else is covered
	Roots  int    // fec_roots: parity bytes of a codeword, 2 to 24
}

// A Reaction is what the kernel does about a damaged block.
type Reaction int

// The reactions, as the kernel spells them.
const (
	ReturnError         Reaction = iota // no argument
	IgnoreCorruption                    // ignore_corruption: log it and return the data
	RestartOnCorruption                 // restart_on_corruption
	PanicOnCorruption                   // panic_on_corruption
)

var reactions = [...]string{"", "ignore_corruption", "restart_on_corruption", "panic_on_corruption"}

func (r Reaction) argument() string {
	if r < 0 || int(r) >= len(reactions) {
		return ""
	}
	return reactions[r]
}

// An IOError is what the kernel does when it cannot read a block.
type IOError int

// The reactions, as the kernel spells them.
const (
	FailOnError    IOError = iota // no argument
	RestartOnError                // restart_on_error
	PanicOnError                  // panic_on_error
)

var ioErrors = [...]string{"", "restart_on_error", "panic_on_error"}

func (e IOError) argument() string {
	if e < 0 || int(e) >= len(ioErrors) {
		return ""
	}
	return ioErrors[e]
}

// arguments returns the optional arguments in the order of the kernel's own
// listing (dmsetup table).
func (o TableOptions) arguments() []string {
	var args []string
	if a := o.Corruption.argument(); a != "" {
		args = append(args, a)
	}
	if a := o.IOError.argument(); a != "" {
		args = append(args, a)
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

// Table returns the table for a hash device that starts with this superblock.
func (sb *Superblock) Table(dataDevice, hashDevice string, root []byte) Table {
	return Table{
		HashType:      sb.HashType,
		DataDevice:    dataDevice,
		HashDevice:    hashDevice,
		DataBlockSize: sb.DataBlockSize,
		HashBlockSize: sb.HashBlockSize,
		DataBlocks:    sb.DataBlocks,
		HashStart:     1, // the superblock is never larger than a hash block
		Algorithm:     sb.Algorithm,
		RootHash:      root,
		Salt:          sb.Salt,
	}
}

// String returns the parameters of the target, as in
//
//	1 /dev/sda2 /dev/sda3 4096 4096 300 1 sha256 855dbba5... 01020304
//
// It says nothing about values that the kernel would refuse: see Check.
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

// A Target is one whole line of a device-mapper table, of any type, as dmsetup
// prints it: "0 2400 verity 1 /dev/sda2 ...".
type Target struct {
	Start   uint64 // sectors of 512 bytes
	Sectors uint64 // length in sectors of 512 bytes
	Type    string // such as "verity"
	Params  string // as the type understands them
}

// String returns the line.
func (t Target) String() string {
	return strconv.FormatUint(t.Start, 10) + " " + strconv.FormatUint(t.Sectors, 10) + " " + t.Type + " " + t.Params
}

// escape quotes what would end a word or start a quotation in dm_split_args of the
// kernel (drivers/md/dm-table.c): white space and the backslash.
func escape(word string) string {
	var b strings.Builder
	for i := range len(word) {
		if isSpace(word[i]) || word[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(word[i])
	}
	return b.String()
}

// isSpace is isspace of the kernel (lib/ctype.c), which reads Latin-1: 0xa0, the
// no-break space there, is the second byte of an à in UTF-8.
func isSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r' || c == 0xa0
}
