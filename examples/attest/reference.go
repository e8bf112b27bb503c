package main

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
)

// A reference says what is trusted.
type reference struct {
	bank  crypto.Hash
	pcrs  []int
	boots []boot
	keys  map[string]bool // SHA-256 of endorsement keys; nil: any
}

type boot struct {
	name   string
	log    *tpm.Log
	values map[int][]byte // of the PCRs that count
}

func readReference(name string) (*reference, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r, err := parseReference(text, filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func parseReference(text []byte, dir string) (*reference, error) {
	var file struct {
		Schema            string   `json:"schema"`
		Logs              []string `json:"logs"`
		PCRs              []int    `json:"pcrs"`
		Bank              string   `json:"bank"`
		EndorsementKeys   []string `json:"endorsementKeys"`
		AnyEndorsementKey bool     `json:"anyEndorsementKey"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, cli.No{Err: err}
	}
	switch {
	case file.Schema != referenceSchema:
		return nil, fmt.Errorf("schema %q: want %q", file.Schema, referenceSchema)
	case len(file.Logs) == 0 || len(file.PCRs) == 0:
		return nil, errors.New("no logs or no pcrs: every boot would be trusted, or none")
	case file.AnyEndorsementKey == (len(file.EndorsementKeys) > 0):
		return nil, errors.New("want either endorsementKeys or anyEndorsementKey")
	}
	if file.Bank == "" {
		file.Bank = "sha256"
	}
	r := &reference{pcrs: file.PCRs}
	var err error
	if r.bank, err = tpm.BankByName(file.Bank); err != nil {
		return nil, err
	}
	if !file.AnyEndorsementKey {
		r.keys = map[string]bool{}
		for _, k := range file.EndorsementKeys {
			r.keys[k] = true
		}
	}
	for _, log := range file.Logs {
		b, err := r.readBoot(log, dir)
		if err != nil {
			return nil, err
		}
		r.boots = append(r.boots, b)
	}
	return r, nil
}

func (r *reference) readBoot(name, dir string) (boot, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return boot{}, err
	}
	b := boot{name: name, values: map[int][]byte{}}
	if b.log, err = tpm.ParseExpected(data); err != nil {
		return boot{}, fmt.Errorf("%s: %w", name, err)
	}
	values, err := b.log.Values(r.bank)
	if err != nil {
		return boot{}, fmt.Errorf("%s: %w", name, err)
	}
	for _, n := range r.pcrs {
		v, ok := values[n]
		if !ok {
			return boot{}, fmt.Errorf("%s: it says nothing about PCR %d", name, n)
		}
		b.values[n] = v
	}
	return b, nil
}
