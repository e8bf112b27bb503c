// Package tokens reads what is known of a machine's secrets: tokens, and the signed policies that
// open them.
package tokens

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/strictjson"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/uki"
)

// Skipped is a token of another type.
type Skipped struct {
	ID   int    `json:"id"`
	Type string `json:"type"`
}

// Numbered is a token and its number in a LUKS2 header, -1 for one in a file of its own.
type Numbered struct {
	ID    int
	Token *sealing.Token
}

// Read reads a token, or those of a LUKS2 header in JSON, as cryptsetup luksDump
// --dump-json-metadata prints it. Tokens of other types are skipped.
func Read(name string) (tokens []Numbered, skipped []Skipped, err error) {
	text, err := ReadJSON(name)
	if err != nil {
		return nil, nil, err
	}
	var header struct {
		Tokens map[string]json.RawMessage `json:"tokens"`
	}
	members, err := strictjson.Object(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if !slices.ContainsFunc(members, func(m strictjson.Member) bool { return m.Key == "tokens" }) {
		token, err := sealing.ParseToken(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		return []Numbered{{-1, token}}, nil, nil
	}
	if err := strictjson.Unmarshal(text, &header); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	skipped = []Skipped{}
	for key, raw := range header.Tokens {
		id, err := strconv.Atoi(key)
		if err != nil || strconv.Itoa(id) != key || id < 0 {
			return nil, nil, fmt.Errorf("%s: token %q: not a number", name, key)
		}
		var any struct {
			Type string `json:"type"`
		}
		if err := strictjson.Unmarshal(raw, &any); err != nil {
			return nil, nil, fmt.Errorf("%s: token %d: %w", name, id, err)
		}
		if any.Type != sealing.TokenType && any.Type != sealing.OwnTokenType {
			skipped = append(skipped, Skipped{id, any.Type})
			continue
		}
		token, err := sealing.ParseToken(raw)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: token %d: %w", name, id, err)
		}
		tokens = append(tokens, Numbered{id, token})
	}
	if len(tokens) == 0 {
		return nil, nil, cli.No{Err: fmt.Errorf("%s: no token of type %s or %s", name, sealing.TokenType, sealing.OwnTokenType)}
	}
	slices.SortFunc(tokens, func(a, b Numbered) int { return a.ID - b.ID })
	slices.SortFunc(skipped, func(a, b Skipped) int { return a.ID - b.ID })
	return tokens, skipped, nil
}

// maxJSON bounds a token, the metadata of a LUKS2 header, and values of PCRs, in bytes.
const maxJSON = 16 << 20

// ReadJSON reads a file of at most 16 MiB.
func ReadJSON(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	switch {
	case err != nil:
		return nil, err
	case bytes.HasPrefix(text, []byte("LUKS\xba\xbe")):
		return nil, fmt.Errorf("%s: a LUKS volume: want what cryptsetup luksDump --dump-json-metadata prints of it", name)
	case len(text) > maxJSON:
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxJSON)
	}
	return text, nil
}

// ReadSignatures reads a .pcrsig, or those of all profiles of a UKI.
func ReadSignatures(c *cli.Call, name string) (policy.Signatures, error) {
	src, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	magic := make([]byte, 2)
	if _, err := src.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, []byte("MZ")) {
		text, err := readAll(src)
		if err != nil {
			return nil, err
		}
		return policy.ParseSignatures(text)
	}
	file, err := uki.Open(src)
	if err != nil {
		return nil, err
	}
	all := policy.Signatures{}
	for i := range max(1, len(file.Profiles())) {
		section, ok := file.ProfileSection(i, ".pcrsig")
		if !ok {
			continue
		}
		text, err := readAll(section)
		if err != nil {
			return nil, err
		}
		signatures, err := policy.ParseSignatures(text)
		if err != nil {
			return nil, err
		}
		all = all.Merge(signatures...)
	}
	return all, nil
}

func readAll(src osmith.Source) ([]byte, error) {
	if src.Size() > maxSection {
		return nil, fmt.Errorf("%d bytes: want at most %d", src.Size(), maxSection)
	}
	return io.ReadAll(io.NewSectionReader(src, 0, src.Size()))
}

// maxSection bounds a .pcrsig that is read from a UKI, in bytes.
const maxSection = 16 << 20
