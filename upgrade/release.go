package upgrade

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// rootHashSize is the size of SHA-256 digests, the only ones whose halves are partition IDs of 16 bytes each.
const rootHashSize = 32

// RootHashError says that a root hash has the wrong length, or that a part of the set has another root hash than the release.
type RootHashError struct {
	Where     string
	Want, Got []byte
}

func (e *RootHashError) Error() string {
	if len(e.Got) != rootHashSize && e.Want == nil {
		return fmt.Sprintf("root hash of %s: %d bytes, want %d", e.Where, len(e.Got), rootHashSize)
	}
	return fmt.Sprintf("root hash of %s is %s, the release's is %s", e.Where, hash(e.Got), hash(e.Want))
}

func hash(b []byte) string {
	if len(b) == 0 {
		return "absent"
	}
	return hex.EncodeToString(b)
}

// identity is what the parts of a set say about themselves.
type identity struct {
	product
	file *uki.File
}

// label is the GPT name of the set's partitions and the stem of its entry.
func (i identity) label() string { return i.id + "_" + i.version }

// identify reads the UKI's own names. They decide about the label of the slot and the name of the entry.
func identify(r *release.Release) (*identity, error) {
	alone := r.Root == nil && r.Tree == nil && len(r.RootHash) == 0
	if r.UKI == nil || !alone && (r.Root == nil || r.Tree == nil) {
		return nil, errors.New("a release needs a UKI, and a root file system with its hash tree unless the UKI is all of it")
	}
	if !alone && len(r.RootHash) != rootHashSize {
		return nil, &RootHashError{Where: "the release", Got: r.RootHash}
	}
	f, err := uki.Open(r.UKI)
	if err != nil {
		return nil, err
	}
	id := identity{file: f}
	if id.product, err = productOf(f); err != nil {
		return nil, err
	}
	if id.id == "" || id.version == "" {
		return nil, errors.New("the UKI's os-release names no IMAGE_ID or no IMAGE_VERSION")
	}
	for _, s := range []string{id.id, id.version} {
		if strings.ContainsAny(s, "/\\+:*?\"<>|") {
			return nil, fmt.Errorf("%q of the UKI's os-release cannot be part of a file name", s)
		}
	}
	a, known := arch.ByMachine(f.Machine())
	for _, c := range []struct{ what, says, own string }{
		{"version", r.Version, id.version},
		{"product", r.ID, id.id},
		{"architecture", r.Architecture, goName(a, known)},
	} {
		if c.says != "" && c.says != c.own {
			return nil, fmt.Errorf("the release is %s %q, its UKI says %q", c.what, c.says, c.own)
		}
	}
	for _, a := range r.Addons {
		if !isAddon(a.Name) || strings.Contains(a.Name, "/") {
			return nil, fmt.Errorf("add-on %q: the stub takes files whose names end with %s", a.Name, addonSuffix)
		}
	}
	return &id, nil
}

func goName(a *arch.Architecture, known bool) string {
	if !known {
		return "unknown"
	}
	return a.Go
}

func first(m map[string]string, keys ...string) string {
	for _, k := range keys {
		if v := m[k]; v != "" {
			return v
		}
	}
	return ""
}

// boundRootHash returns the root hash that binds what boots with a command line to one root file system: it boots verified, by
// this root hash alone, and from the partitions that the root hash names.
func boundRootHash(cmdline string) ([]byte, error) {
	c, err := dm.ParseCmdline(cmdline)
	if err != nil {
		return nil, err
	}
	volumes, err := c.Verified()
	if err != nil {
		return nil, err
	}
	root := volumes[0].RootHash
	for _, v := range volumes {
		if !bytes.Equal(v.RootHash, root) {
			return nil, fmt.Errorf("the command line names two root hashes, roothash=%x and usrhash=%x: a release has one", root, v.RootHash)
		}
		data, tree := v.Devices()
		if wantData, wantTree := (dm.Volume{RootHash: root}).Devices(); data != wantData || tree != wantTree {
			return nil, fmt.Errorf("the command line takes the file system from %s and %s, not from the partitions that the root hash names, %s and %s",
				data, tree, wantData, wantTree)
		}
	}
	return root, nil
}

// dataSize is how much of the root file system's image the tree covers: an image that was cut out of a partition ends with what belongs to nothing.
func (p *Plan) dataSize() int64 {
	sb, err := verity.ReadSuperblock(p.release.Tree, 0)
	if err != nil || sb.DataSize() > p.release.Root.Size() {
		return p.release.Root.Size() // which the boots verdict says
	}
	return sb.DataSize()
}
