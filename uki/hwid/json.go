package hwid

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

const maxFile = 1 << 20 // bytes of one JSON file; real ones have 1 KiB

// Read reads a directory tree of ukify's hardware descriptions, such as
// /usr/lib/systemd/boot/hwids/aa64: JSON objects with "type" ("devicetree" or "uefi-fw"), "name",
// "hwids" and "compatible" or "fwid", in files *.json. The records come in the order in which ukify
// 262 writes them: devices in order of their first file (sorted by path), each with its ids in
// ascending order and once. A device without ids leaves no record (ukify keeps its strings, which
// nothing refers to). A tree without such files is an error.
func Read(tree fs.FS) (records []Record, err error) {
	defer prefix.Add("hwid", &err)
	var devices []Record // without CHID, in order
	chids := make(map[Record][]osmith.GUID)
	files := 0
	err = fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".json") {
			return err
		}
		files++
		b, err := readFile(tree, path)
		if err != nil {
			return err
		}
		device, ids, err := parseFile(b)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if _, ok := chids[device]; !ok {
			devices = append(devices, device)
		}
		chids[device] = append(chids[device], ids...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if files == 0 {
		return nil, fmt.Errorf("no file *.json: %w", ErrMissing)
	}
	out := []Record{}
	for _, device := range devices {
		ids := chids[device]
		sort.Slice(ids, func(a, b int) bool { return bytes.Compare(ids[a][:], ids[b][:]) < 0 })
		for i, id := range ids {
			if i == 0 || id != ids[i-1] {
				device.CHID = id
				out = append(out, device)
			}
		}
	}
	return out, nil
}

// readFile reads a description.
func readFile(tree fs.FS, path string) (b []byte, err error) {
	f, err := tree.Open(path)
	if err == nil {
		defer f.Close()
		b, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	}
	if len(b) > maxFile {
		err = fmt.Errorf("%s: want %d bytes or fewer", path, maxFile)
	}
	return b, err
}

// parseFile reads one description. Fields are looked up by their exact names: encoding/json alone
// would take "Name" for "name".
func parseFile(b []byte) (Record, []osmith.GUID, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return Record{}, nil, err
	}
	text := func(key string) (string, error) {
		var s *string
		raw, ok := fields[key]
		if !ok {
			return "", fmt.Errorf("field %q: %w", key, ErrMissing)
		}
		if err := json.Unmarshal(raw, &s); err != nil || s == nil {
			return "", fmt.Errorf("field %q: %s is not a string", key, firstRunes(string(raw), 40))
		}
		return *s, nil
	}
	kind, err := text("type")
	if err != nil {
		return Record{}, nil, err
	}
	var d Record
	match, other := "compatible", "fwid"
	switch kind {
	case "devicetree":
		d.Type = TypeDeviceTree
	case "uefi-fw":
		d.Type = TypeFirmware
		match, other = other, match
	default:
		return Record{}, nil, fmt.Errorf(`field "type": %q is neither "devicetree" nor "uefi-fw"`, kind)
	}
	if _, ok := fields[other]; ok {
		return Record{}, nil, fmt.Errorf("field %q is not allowed with type %q", other, kind)
	}
	if d.Name, err = text("name"); err != nil {
		return Record{}, nil, err
	}
	if d.Match, err = text(match); err != nil {
		return Record{}, nil, err
	}
	ids, err := parseIDs(fields["hwids"])
	return d, ids, err
}

func parseIDs(raw json.RawMessage) ([]osmith.GUID, error) {
	if raw == nil {
		return nil, fmt.Errorf(`field "hwids": %w`, ErrMissing)
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf(`field "hwids": %w`, err)
	}
	ids := make([]osmith.GUID, 0, len(list))
	for _, s := range list {
		g, err := looseGUID(s)
		if err != nil {
			return nil, fmt.Errorf(`field "hwids": %w`, err)
		}
		ids = append(ids, g)
	}
	return ids, nil
}

// looseGUID reads a GUID in the forms that ukify takes: with or without hyphens, in braces, as
// urn:uuid:.
func looseGUID(s string) (osmith.GUID, error) {
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "urn:"), "uuid:")
	digits = strings.ReplaceAll(strings.Trim(digits, "{}"), "-", "")
	b, err := hex.DecodeString(digits)
	if err = cmp.Or(err, lengthError(len(b), len(osmith.GUID{}))); err != nil {
		return osmith.GUID{}, fmt.Errorf("%q is not a GUID: %w", firstRunes(s, 60), err)
	}
	return osmith.GUID(b), nil
}

func lengthError(have, want int) error {
	if have == want {
		return nil
	}
	return fmt.Errorf("%d bytes, want %d", have, want)
}
