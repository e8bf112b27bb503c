package luks

import (
	"crypto/pbkdf2"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/argon2"
)

// KDFType is a key derivation function, by its name in the header.
type KDFType string

// The key derivation functions.
const (
	Argon2id KDFType = "argon2id"
	Argon2i  KDFType = "argon2i" // of older volumes; not written
	PBKDF2   KDFType = "pbkdf2"
)

// KDF is the key derivation function of a slot and its cost: how much work it is to try a
// passphrase. The zero value, for a new slot, is [DefaultKDF].
type KDF struct {
	Type       KDFType // "": Argon2id
	Hash       string  // of PBKDF2: "sha256" (also "") or "sha512"
	Iterations int64   // of PBKDF2; passes over the memory of Argon2
	Memory     int64   // of Argon2, in bytes, a multiple of 1024
	Threads    int     // of Argon2, 1 to 4 for new slots
}

var (
	// DefaultKDF is for passphrases that people remember: Argon2id with 256 MiB, 4 passes and 4
	// threads, which a machine with 512 MiB of memory can still do at boot. [MeasureArgon2id] finds
	// what this machine can do.
	DefaultKDF = KDF{Type: Argon2id, Iterations: 4, Memory: 256 << 20, Threads: 4}
	// PassphrasePBKDF2 is for passphrases that people remember, if Argon2 is not available.
	PassphrasePBKDF2 = KDF{Type: PBKDF2, Hash: "sha512", Iterations: 600_000}
	// RandomKeyKDF is for keys of 16 random bytes or more, which cannot be guessed: the choice of
	// systemd for its own keys.
	RandomKeyKDF = KDF{Type: PBKDF2, Hash: "sha512", Iterations: 1000}
)

// The limits of cryptsetup for a new slot.
const (
	minIterations = 1000
	minPasses     = 4
	minMemory     = 32 << 10
	maxMemory     = 4 << 30
	maxThreads    = 4
)

// Limits bound the work of a key slot. A header is not authenticated, so an attacker could make it
// demand any amount of work.
type Limits struct {
	// Memory is the most that Argon2 may take, in bytes. 0: 4 GiB, the most that cryptsetup writes.
	Memory int64
	// Iterations is the most of PBKDF2. 0: 2^27, which is a minute or so.
	Iterations int64
	// Work is the most of Argon2: passes times bytes of memory. 0: 128 GiB, which is a minute or
	// so.
	Work int64
}

func (l Limits) withDefaults() Limits {
	if l.Memory == 0 {
		l.Memory = maxMemory
	}
	if l.Iterations == 0 {
		l.Iterations = 1 << 27
	}
	if l.Work == 0 {
		l.Work = 128 << 30
	}
	return l
}

func (l Limits) check(k KDF) error {
	l = l.withDefaults()
	switch {
	case k.Type == PBKDF2 && k.Iterations > l.Iterations:
		return &LimitError{"PBKDF2 iterations", k.Iterations, l.Iterations}
	case k.Type == PBKDF2:
		return nil
	case k.Memory > l.Memory:
		return &LimitError{"Argon2 memory", k.Memory, l.Memory}
	case k.Memory > math.MaxInt/2: // of 32-bit systems
		return &LimitError{"Argon2 memory", k.Memory, math.MaxInt / 2}
	case k.Iterations > l.Work/k.Memory:
		return &LimitError{"Argon2 passes", k.Iterations, l.Work / k.Memory}
	}
	return nil
}

// forNew are the values of a new slot.
func (k KDF) forNew() (KDF, error) {
	if k == (KDF{}) {
		return DefaultKDF, nil
	}
	if k.Type == "" {
		k.Type = Argon2id
	}
	if k.Type == PBKDF2 && k.Hash == "" {
		k.Hash = "sha256"
	}
	fail := func(format string, args ...any) (KDF, error) {
		return k, fmt.Errorf("KDF %s: %s", k.Type, fmt.Sprintf(format, args...))
	}
	switch k.Type {
	case PBKDF2:
		switch {
		case !writtenHash(k.Hash):
			return fail("hash %q: want sha256 or sha512", k.Hash)
		case k.Iterations < minIterations || k.Iterations > math.MaxUint32:
			return fail("%d iterations: want %d to %d", k.Iterations, minIterations, int64(math.MaxUint32))
		case k.Memory != 0 || k.Threads != 0:
			return fail("has no memory or threads")
		}
	case Argon2id:
		switch {
		case k.Hash != "":
			return fail("has no hash")
		case k.Iterations < minPasses || k.Iterations > math.MaxUint32:
			return fail("%d passes: want %d or more", k.Iterations, minPasses)
		case k.Memory < minMemory || k.Memory > maxMemory || k.Memory%1024 != 0:
			return fail("%d bytes of memory: want %d to %d, a multiple of 1024", k.Memory, minMemory, int64(maxMemory))
		case k.Threads < 1 || k.Threads > maxThreads:
			return fail("%d threads: want 1 to %d", k.Threads, maxThreads)
		}
	default:
		return fail("not supported for writing")
	}
	return k, nil
}

// kdfMembers are all that a kdf has: other programs drop further members, so they are not reliable.
var kdfMembers = map[KDFType][]string{
	PBKDF2:   {"type", "hash", "iterations", "salt"},
	Argon2i:  {"type", "time", "memory", "cpus", "salt"},
	Argon2id: {"type", "time", "memory", "cpus", "salt"},
}

func parseKDF(n node) (k KDF, salt []byte, err error) {
	o, err := n.object()
	if err != nil {
		return k, nil, err
	}
	typ, err := o.need(n, "type")
	if err != nil {
		return k, nil, err
	}
	name, err := typ.text()
	if err != nil {
		return k, nil, err
	}
	k.Type = KDFType(name)
	members, known := kdfMembers[k.Type]
	if !known {
		return k, nil, typ.fail("%.40q is unknown", name)
	}
	at := map[string]node{}
	for _, key := range members {
		if at[key], err = o.need(n, key); err != nil {
			return k, nil, err
		}
	}
	if len(o) != len(members) {
		return k, nil, n.fail("%d members, want %v", len(o), members)
	}
	if salt, err = at["salt"].base64(); err != nil {
		return k, nil, err
	}
	if len(salt) != saltSize {
		return k, nil, at["salt"].fail("%d bytes, want %d", len(salt), saltSize)
	}
	if k.Type == PBKDF2 {
		if k.Hash, err = at["hash"].text(); err == nil {
			k.Iterations, err = at["iterations"].integer(1, maxUint32)
		}
		return k, salt, err
	}
	if k.Iterations, err = at["time"].integer(1, maxUint32); err != nil {
		return k, nil, err
	}
	// Argon2 has 24 bits of threads, its implementation here 8; it takes 8 KiB for each, and other
	// numbers as if they were these.
	threads, err := at["cpus"].integer(1, math.MaxUint8)
	if err != nil {
		return k, nil, err
	}
	k.Threads = int(threads)
	kib, err := at["memory"].integer(8*threads, maxUint32)
	k.Memory = kib * 1024
	return k, salt, err
}

// derive makes a key of size bytes. The limits were checked before.
func (k KDF) derive(passphrase, salt []byte, size int) ([]byte, error) {
	switch k.Type {
	case Argon2id:
		return argon2.IDKey(passphrase, salt, uint32(k.Iterations), uint32(k.Memory/1024), uint8(k.Threads), uint32(size)), nil
	case Argon2i:
		return argon2.Key(passphrase, salt, uint32(k.Iterations), uint32(k.Memory/1024), uint8(k.Threads), uint32(size)), nil
	}
	return stretch(k.Hash, passphrase, salt, k.Iterations, size)
}

// stretch is PBKDF2 (RFC 8018, section 5.2).
func stretch(hash string, passphrase, salt []byte, iterations int64, size int) ([]byte, error) {
	if iterations > math.MaxInt {
		return nil, &LimitError{"PBKDF2 iterations", iterations, math.MaxInt}
	}
	return pbkdf2.Key(hashFunc(hash), string(passphrase), salt, int(iterations), size)
}

// MeasureArgon2id measures how much this machine can do in the given time, and returns parameters
// for a new slot: 4 passes over as much memory as possible, at most maxMemory bytes, and more
// passes once that limit is reached. It takes several times as long as the given time. It is the
// only function here that uses a clock, so its result varies.
func MeasureArgon2id(target time.Duration, maxMemory int64, threads int) (KDF, error) {
	k := KDF{Type: Argon2id, Iterations: minPasses, Memory: maxMemory / 1024 * 1024, Threads: threads}
	if _, err := k.forNew(); err != nil {
		return KDF{}, fmt.Errorf("luks: %w", err)
	}
	if target <= 0 {
		return KDF{}, errors.New("luks: measuring time: want more than zero")
	}
	most := k.Memory
	k.Memory = min(most, 8<<20)
	salt := make([]byte, saltSize)
	for {
		start := time.Now()
		if _, err := k.derive([]byte("passphrase"), salt, 64); err != nil {
			return KDF{}, err
		}
		took := max(time.Since(start), time.Microsecond)
		ratio := float64(target) / float64(took)
		// What takes a fraction of the time is measured again with more, so that the caches do not
		// count.
		if k.Memory < most && ratio > 1.5 {
			k.Memory = min(most, max(minMemory, int64(float64(k.Memory)*min(ratio, 4))/1024*1024))
			continue
		}
		if k.Memory < most || ratio < 1 {
			k.Memory = min(most, max(minMemory, int64(float64(k.Memory)*ratio)/1024*1024))
			return k, nil
		}
		k.Iterations = min(max(minPasses, int64(float64(k.Iterations)*ratio)), 1<<20)
		return k, nil
	}
}
