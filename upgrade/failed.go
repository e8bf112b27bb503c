package upgrade

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/osmith-dev/osmith/internal/strictjson"
)

// FailedSchema names the form of EFI/osmith/failed.json: a list of releases that have used up their
// tries on this machine and were overwritten since.
const FailedSchema = "osmith.failed/1"

// failedPath is where that is remembered, on the ESP.
const failedPath = "EFI/osmith/failed.json"

const (
	maxFailed      = 32      // releases that are remembered, the latest
	maxFailedBytes = 1 << 16 // of the file
)

// FailedRelease is a release that has used up its tries.
type FailedRelease struct {
	Product string `json:"product"`
	Version string `json:"version"`
	UKI     string `json:"uki"` // SHA-256 of the UKI file, hexadecimal
}

type failedFile struct {
	Schema   string          `json:"schema"`
	Releases []FailedRelease `json:"releases"`
}

// FailedError is a reason of the follows verdict: the release has failed on this machine already.
type FailedError struct {
	Release FailedRelease
	// path on the ESP of the evidence: the entry that has used up its tries, or
	// EFI/osmith/failed.json
	Where string
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("version %s has used up its tries on this machine, as %s says", e.Release.Version, e.Where)
}

// errMemory is behind what keeps failed.json from being read.
var errMemory = errors.New("which releases have failed on this machine is unknown")

// readFailed reads what is remembered. A file that does not exist remembers nothing.
func readFailed(esp fs.FS) ([]FailedRelease, error) {
	b, err := fs.ReadFile(esp, failedPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMemory, err)
	}
	if len(b) > maxFailedBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, more than %d", errMemory, failedPath, len(b), maxFailedBytes)
	}
	var f failedFile
	if err := strictjson.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errMemory, failedPath, err)
	}
	if f.Schema != FailedSchema {
		return nil, fmt.Errorf("%w: %s has schema %q, want %q", errMemory, failedPath, f.Schema, FailedSchema)
	}
	return f.Releases, nil
}

// remember is the list with one more release; the same one is there once.
func remember(list []FailedRelease, r FailedRelease) []FailedRelease {
	list = append(forget(list, r.UKI), r)
	return list[max(len(list)-maxFailed, 0):]
}

func forget(list []FailedRelease, uki string) []FailedRelease {
	return slices.DeleteFunc(slices.Clone(list), func(f FailedRelease) bool { return f.UKI == uki })
}

// marshalFailed is the file.
func marshalFailed(list []FailedRelease) ([]byte, error) {
	if list == nil {
		list = []FailedRelease{}
	}
	b, err := json.MarshalIndent(failedFile{FailedSchema, list}, "", "  ")
	return append(b, '\n'), err
}

// failedOf is the record of a set on the ESP.
func (s *State) failedOf(e *Entry) (r FailedRelease, err error) {
	src, err := openFile(s.esp, e.Loader)
	if err != nil {
		return r, err
	}
	sum, err := digest(src)
	if err != nil {
		return r, err
	}
	r.UKI = hex.EncodeToString(sum[:])
	if own, err := s.productOfEntry(e); err == nil {
		r.Product, r.Version = own.ID, own.Version
	}
	return r, nil
}

// failedBefore looks for the release among entries that have used up their tries, and in what is
// remembered of earlier ones. A spent entry is the memory itself until its slot is used again.
func (p *Plan) failedBefore() (*FailedError, error) {
	own := hex.EncodeToString(p.digests.uki[:])
	for _, e := range p.state.Entries {
		if !e.Bad() || e.Profile != 0 {
			continue
		}
		if r, err := p.state.failedOf(e); err != nil {
			return nil, err
		} else if r.UKI == own {
			return &FailedError{r, e.Path}, nil
		}
	}
	list, err := readFailed(p.state.esp)
	for _, r := range list {
		if r.UKI == own {
			return &FailedError{r, failedPath}, nil
		}
	}
	return nil, err
}

// rememberObsolete are the contents of failed.json with every entry that the plan removes and that
// has used up its tries; nil if that changes nothing.
func (p *Plan) rememberObsolete() ([]byte, error) {
	list, err := readFailed(p.state.esp)
	if err != nil {
		list = nil // what cannot be read is written anew
	}
	changed := false
	for _, e := range p.state.Entries {
		if !e.Bad() || e.Profile != 0 || !slices.ContainsFunc(p.obsolete, func(f espFile) bool { return f.path == e.Path }) {
			continue
		}
		r, err := p.state.failedOf(e)
		if err != nil {
			return nil, err
		}
		list, changed = remember(list, r), true
	}
	if !changed {
		return nil, nil
	}
	return marshalFailed(list)
}

// forgetFailed takes a release that was found good out of what is remembered.
func (s *State) forgetFailed(e *Entry) error {
	list, err := readFailed(s.esp)
	if err != nil || len(list) == 0 {
		return nil // nothing that is known says that it has failed
	}
	r, err := s.failedOf(e)
	if err != nil {
		return err
	}
	rest := forget(list, r.UKI)
	if len(rest) == len(list) {
		return nil
	}
	b, err := marshalFailed(rest)
	if err != nil {
		return err
	}
	return writeWhole(s.esp, failedPath, b)
}

// writeWhole gives a small file new contents: a power cut leaves the old ones or the new ones. What
// is written is read back.
func writeWhole(esp *bootFS, name string, b []byte) error {
	staged := name + stagedSuffix
	_, err := esp.Stat(name)
	switch {
	case err == nil:
		err = esp.ReplaceFile(name, bytes.NewReader(b))
	case errors.Is(err, fs.ErrNotExist):
		if err = esp.MkdirAll(path.Dir(name)); err != nil {
			return err
		}
		if err = esp.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err = esp.WriteFile(staged, bytes.NewReader(b)); err == nil {
			err = esp.Rename(staged, name)
		}
	}
	if err != nil {
		return err
	}
	got, err := esp.ReadFile(name)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return &ReadBackError{Path: name, Want: sha256.Sum256(b)}
	}
	return nil
}
