package main

import (
	"encoding/json"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

const schema = "osmith.disk/1"

// head is what every object of -json begins with.
type head struct {
	cli.Header
	Image string `json:"image"`
}

func header(c *cli.Call, image string) head { return head{c.Header(), image} }

// planJSON is what build and plan print.
type planJSON struct {
	head
	Fits bool            `json:"fits"` // always true: what does not fit is an error
	Plan json.RawMessage `json:"plan"` // schema osmith.diskplan/1, of package partition

	Warnings []string `json:"warnings"` // about definition files: FILE:LINE: TEXT
}

// texts are never null.
func texts(all []string) []string { return append([]string{}, all...) }

// inspectJSON is what inspect prints.
type inspectJSON struct {
	head
	DiskID       osmith.GUID     `json:"diskId"`
	Size         int64           `json:"size"`
	SectorSize   int             `json:"sectorSize"`
	Whole        bool            `json:"whole"` // both copies of the table are good
	Findings     []findingJSON   `json:"findings"`
	UsedBackup   bool            `json:"usedBackup"`
	PrimaryError string          `json:"primaryError,omitempty"`
	BackupError  string          `json:"backupError,omitempty"`
	HybridMBR    bool            `json:"hybridMbr"`
	Partitions   []partitionJSON `json:"partitions"`
	BadEntries   []badEntryJSON  `json:"badEntries"`
	Slots        []slotJSON      `json:"slots"`
}

// findingJSON is what firmware, kernels or tools take in another way (package partition,
// Table.Findings).
type findingJSON struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// badEntryJSON is an entry in use whose sectors make no partition.
type badEntryJSON struct {
	Number   int         `json:"number"`
	Type     osmith.GUID `json:"type"`
	ID       osmith.GUID `json:"id"`
	Name     string      `json:"name"`
	FirstLBA uint64      `json:"firstLba"`
	LastLBA  uint64      `json:"lastLba"`
	Error    string      `json:"error"`
}

type partitionJSON struct {
	Number     int         `json:"number"`
	Type       osmith.GUID `json:"type"`
	TypeName   string      `json:"typeName"`
	ID         osmith.GUID `json:"id"`
	Name       string      `json:"name"`
	Offset     int64       `json:"offset"`
	Size       int64       `json:"size"`
	Attributes []string    `json:"attributes"`
}

// slotJSON is one slot of an A/B system; the numbers are those of partitions, 0 for none.
type slotJSON struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Label     string `json:"label"`
	Version   string `json:"version"`
	RootHash  string `json:"rootHash,omitempty"`
	Data      int    `json:"data"`
	Tree      int    `json:"tree"`
	Signature int    `json:"signature"`
}

// repairJSON is what repair prints.
type repairJSON struct {
	head
	Changed bool   `json:"changed"`
	Summary string `json:"summary"`
}

// listJSON is what ls and esp ls print.
type listJSON struct {
	head
	FileSystem string      `json:"fileSystem"`
	Path       string      `json:"path"`
	Entries    []entryJSON `json:"entries"`
}

type entryJSON struct {
	Name string `json:"name"`
	Dir  bool   `json:"dir"`
	Size int64  `json:"size"`
	// ByAlias: the name is the 8.3 alias, because the long name cannot be that of a path.
	ByAlias bool `json:"byAlias,omitempty"`
}

// volumeJSON is what esp inspect prints.
type volumeJSON struct {
	head
	Kind        int       `json:"kind"` // 12, 16 or 32
	Label       string    `json:"label"`
	VolumeID    string    `json:"volumeId"` // as Linux shows it: XXXX-XXXX
	ClusterSize int64     `json:"clusterSize"`
	Free        int64     `json:"free"`
	Clean       bool      `json:"clean"`
	InUse       bool      `json:"inUse"`    // a dirty bit: a driver did not finish
	IOErrors    bool      `json:"ioErrors"` // the other dirty bit: a driver met errors of the disk
	FATs        []fatJSON `json:"fats"`
	FATsError   string    `json:"fatsError,omitempty"` // why the volume cannot be written
	Lost        int64     `json:"lostClusters"`
	Problems    []string  `json:"problems"`
}

// menuJSON is what esp menu prints.
type menuJSON struct {
	head
	// version of systemd-boot; "": it does not tell
	Loader       string            `json:"loader"`
	Rules        string            `json:"rules"`    // the version whose rules were followed
	Evidence     string            `json:"evidence"` // for them: none, source, booted
	Architecture string            `json:"architecture"`
	Entries      []bootEntryJSON   `json:"entries"` // best first
	Reason       string            `json:"reason"`  // of the default
	Findings     []bootFindingJSON `json:"findings"`
	Broken       []string          `json:"broken"` // ids of entries that cannot boot
}

type bootEntryJSON struct {
	ID       string `json:"id"`
	Path     string `json:"path"`
	XBOOTLDR bool   `json:"xbootldr"`
	Type     string `json:"type"`
	Title    string `json:"title"`
	Version  string `json:"version"`
	Profile  int    `json:"profile"`
	Bad      bool   `json:"bad"`               // no tries left
	Default  bool   `json:"default"`           // it boots
	Renamed  string `json:"renamed,omitempty"` // path when it has been started
	Damage   string `json:"damage,omitempty"`  // why it cannot boot
}

type bootFindingJSON struct {
	Path     string `json:"path"`
	XBOOTLDR bool   `json:"xbootldr"`
	Text     string `json:"text"`
}

// fatJSON is one copy of the FAT, the one that is read first.
type fatJSON struct {
	Number  int  `json:"number"`
	Head    bool `json:"head"`    // it begins with the media byte
	Differs int  `json:"differs"` // sectors in which it differs from the first in the list
	Damaged int  `json:"damaged"` // chains of files that it contradicts
}

// fileJSON is what esp cat, put, rm and mv print. Cat does not print the file with -json, but its
// size and SHA-256.
type fileJSON struct {
	head
	Path   string `json:"path"`
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Free   int64  `json:"free,omitempty"` // bytes that are free afterwards
}
