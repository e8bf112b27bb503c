package main

import (
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
)

const schema = "osmith.verity/1"

// formatResult is the object of format. Sizes are bytes, binary values are lower-case hexadecimal.
type formatResult struct {
	cli.Header
	RootHash      string `json:"rootHash"`
	Salt          string `json:"salt"`
	UUID          string `json:"uuid,omitempty"` // absent without a superblock
	Hash          string `json:"hash"`
	Format        int    `json:"format"`
	DataBlockSize int    `json:"dataBlockSize"`
	HashBlockSize int    `json:"hashBlockSize"`
	DataBlocks    int64  `json:"dataBlocks"`
	HashBlocks    int64  `json:"hashBlocks"`
	HashOffset    int64  `json:"hashOffset"`
	Superblock    bool   `json:"superblock"`
	TreeSize      int64  `json:"treeSize"` // superblock and tree
	FECRoots      int    `json:"fecRoots,omitempty"`
	FECSize       int64  `json:"fecSize,omitempty"`
	FECOffset     int64  `json:"fecOffset,omitempty"` // in the file with the parity
}

// blocks is a run of blocks: level 0 is data, 1 and up are levels of the tree.
type blocks struct {
	Level int   `json:"level"`
	First int64 `json:"first"`
	Count int64 `json:"count"`
}

func ranges(rs []verity.Range) []blocks {
	out := make([]blocks, len(rs))
	for i, r := range rs {
		out[i] = blocks{r.Level, r.First, r.Count}
	}
	return out
}

// verifyResult is the object of verify.
type verifyResult struct {
	cli.Header
	Verified bool `json:"verified"`
	// of "rootHash", "tree", "data", "fec", "superblock", "size", "spare"
	Findings   []string `json:"findings"`
	Ranges     []blocks `json:"ranges"`     // damaged blocks, at most 64 runs for each level
	DataBlocks int64    `json:"dataBlocks"` // damaged data blocks
	TreeBlocks int64    `json:"treeBlocks"` // damaged hash blocks
	Error      string   `json:"error,omitempty"`
}

// repairResult is the object of repair.
type repairResult struct {
	cli.Header
	Intact   bool     `json:"intact"`   // nothing that was asked for is damaged (any more)
	Repaired []blocks `json:"repaired"` // at most 64 runs for each level, as all lists here
	// damage of the tree that -o does not write; format makes the tree anew
	TreeLeft         []blocks `json:"treeLeft"`
	Unrepaired       []blocks `json:"unrepaired"`
	UnrepairedBlocks int64    `json:"unrepairedBlocks"` // all of them
	Error            string   `json:"error,omitempty"`
}

// diffResult is the object of diff. Totals are blocks by origin; from is a block of the old image,
// for same and moved.
type diffResult struct {
	cli.Header
	BlockSize int              `json:"blockSize"`
	Blocks    int64            `json:"blocks"`
	Totals    map[string]int64 `json:"totals"`
	Spans     []span           `json:"spans"`
}

type span struct {
	Origin string `json:"origin"`
	First  int64  `json:"first"`
	Count  int64  `json:"count"`
	From   *int64 `json:"from,omitempty"`
}

// signResult is the object of sign.
type signResult struct {
	cli.Header
	RootHash               string `json:"rootHash"`
	CertificateFingerprint string `json:"certificateFingerprint"` // SHA-256
	Size                   int64  `json:"size"`                   // bytes written
}
