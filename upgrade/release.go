package upgrade

import (
	"encoding/hex"
	"errors"

	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// RootHashError says that a root hash has the wrong length, or that the root hash of a part of the
// set differs from that of the release.
type RootHashError struct {
	Where     string
	Want, Got []byte
}

func (e *RootHashError) Error() string {
	return (*osset.RootHashError)(e).Error()
}

func hash(b []byte) string {
	if len(b) == 0 {
		return "absent"
	}
	return hex.EncodeToString(b)
}

// identity is what the parts of a set say about themselves.
type identity struct {
	osset.Product
	file *uki.File
}

// label is the GPT name of the set's partitions and the stem of its entry.
func (i identity) label() string { return i.ID + "_" + i.Version }

// identify reads the UKI's own names. They decide about the label of the slot and the name of the
// entry.
func identify(r *release.Release) (*identity, error) {
	set := osset.Set{UKI: r.UKI, Root: r.Root, Tree: r.Tree, RootHash: r.RootHash, ID: r.ID, Version: r.Version, Variant: r.Variant, Architecture: r.Architecture}
	for _, a := range r.Addons {
		set.Addons = append(set.Addons, uki.CompanionFile{Name: a.Name, Content: a.Content})
	}
	own, f, err := set.Identify()
	if err != nil {
		return nil, rootHashError(err)
	}
	return &identity{Product: own, file: f}, nil
}

// rootHashError gives an error of the judge of sets the type of this package.
func rootHashError(err error) error {
	if e, ok := errors.AsType[*osset.RootHashError](err); ok {
		return (*RootHashError)(e)
	}
	return err
}

// dataSize is how much of the root file system's image the tree covers: an image that was cut out
// of a partition ends with what belongs to nothing.
func (p *Plan) dataSize() int64 {
	sb, err := verity.ReadSuperblock(p.release.Tree, 0)
	if err != nil || sb.DataSize() > p.release.Root.Size() {
		return p.release.Root.Size() // which the boots verdict says
	}
	return sb.DataSize()
}
