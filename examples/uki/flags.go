package main

import (
	"crypto"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
)

// A text is the value of a flag TEXT|@FILE.
type text struct {
	value string
	given bool
}

func (t *text) String() string { return t.value }

// Set is the flag's.
func (t *text) Set(value string) error {
	if value == "@" {
		return errors.New("no file name behind the @")
	}
	t.value, t.given = value, true
	return nil
}

func (t *text) fromFile() bool { return strings.HasPrefix(t.value, "@") }

// bytes are the text itself or the content of the file.
func (t *text) bytes() ([]byte, error) {
	if t.fromFile() {
		return os.ReadFile(t.value[1:])
	}
	return []byte(t.value), nil
}

// words are the text with single spaces between its words, or the content of the file as it is. It
// is what ukify makes of a command line: an argument is often broken over lines in a script, a file
// holds what is meant.
func (t *text) words() (string, error) {
	if t.fromFile() {
		b, err := os.ReadFile(t.value[1:])
		return string(b), err
	}
	return strings.Join(strings.Fields(t.value), " "), nil
}

// parsePhases reads phase paths such as "enter-initrd:leave-initrd", separated by commas or spaces.
// Without any it is nil, which stands for the default ones.
func parsePhases(s string) (paths [][]string, err error) {
	for _, path := range splitList(s) {
		words := strings.Split(path, ":")
		for _, word := range words {
			if word == "" {
				return nil, cli.Usagef("-phases %q: an empty phase in path %q", s, path)
			}
		}
		paths = append(paths, words)
	}
	if s != "" && paths == nil {
		return nil, cli.Usagef("-phases %q: no path", s)
	}
	return paths, nil
}

// parseBanks reads names of PCR banks. Without any it is all of them.
func parseBanks(s string) (banks []crypto.Hash, err error) {
	if s == "" {
		return tpm.Banks(), nil
	}
	for _, name := range splitList(s) {
		h, err := tpm.BankByName(name)
		if err != nil {
			return nil, cli.Usagef("-pcr-banks: %v", err)
		}
		if !slices.Contains(banks, h) {
			banks = append(banks, h)
		}
	}
	if banks == nil {
		return nil, cli.Usagef("-pcr-banks %q: no bank", s)
	}
	return banks, nil
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}
