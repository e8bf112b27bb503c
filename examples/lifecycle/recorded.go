package main

import (
	"crypto"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
)

//go:embed testdata/recorded
var recordedFiles embed.FS

// recordedOrigin says what was recorded: the boots of the story itself are simulated.
const recordedOrigin = "a boot of another system: QEMU with OVMF 2026.08 and swtpm, Secure Boot on, systemd-boot and stub 262 of Debian"

// recordedResult is a real boot beside its prediction, which is made of the boot's inputs alone.
type recordedResult struct {
	Origin string        `json:"origin"`
	PCRs   []recordedPCR `json:"pcrs"` // SHA-256 bank, at the start of the initrd
}

type recordedPCR struct {
	PCR       int    `json:"pcr"`
	Predicted string `json:"predicted"`
	Recorded  string `json:"recorded"` // by the TPM
}

// recordedProgram is what the build host knew of a program.
type recordedProgram struct {
	File         string `json:"file"`
	Size         int64  `json:"size"`
	Authenticode string `json:"authenticode_sha256"`
	Sections     []struct {
		Name   string `json:"name"`
		Size   int64  `json:"virtual_size"`
		SHA256 string `json:"sha256"`
	} `json:"sections"`
}

// application is the program as firmware starts it.
func (p *recordedProgram) application(path string, authority []byte) (tpm.Application, error) {
	sum, err := hex.DecodeString(p.Authenticode)
	return tpm.Application{Path: path, Size: p.Size, Digests: map[crypto.Hash][]byte{crypto.SHA256: sum}, Authority: authority}, err
}

// measurements are the sections in the order in which the stub measures them.
func (p *recordedProgram) measurements() (all []osmith.Measurement, err error) {
	for _, known := range sdstub.Sections() {
		for _, s := range p.Sections {
			if s.Name != known.Name || !known.Measured {
				continue
			}
			sum, err := hex.DecodeString(s.SHA256)
			if err != nil {
				return nil, err
			}
			all = append(all, osmith.Measurement{Section: s.Name, Size: s.Size, Digests: map[crypto.Hash][]byte{crypto.SHA256: sum}})
		}
	}
	return all, nil
}

// recorded predicts the boot that was recorded, and reads what the TPM held.
func recorded() (*recordedResult, error) {
	dir, err := fs.Sub(recordedFiles, "testdata/recorded")
	if err != nil {
		return nil, err
	}
	boot, err := recordedBoot(dir)
	if err != nil {
		return nil, err
	}
	log, err := tpm.Predict(boot)
	if err != nil {
		return nil, err
	}
	banks, err := log.Replay(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	text, err := fs.ReadFile(dir, "pcrs-initrd.json")
	if err != nil {
		return nil, err
	}
	var values map[string]map[int]string
	if err := json.Unmarshal(text, &values); err != nil {
		return nil, err
	}
	r := &recordedResult{Origin: recordedOrigin}
	for _, c := range log.Coverage {
		value, there := values["sha256"][c.PCR]
		if c.Prediction == tpm.PredictionNone || !there || strings.Trim(value, "0") == "" {
			continue // the firmware's, of which no earlier boot is given, and what nothing extended
		}
		r.PCRs = append(r.PCRs, recordedPCR{c.PCR, hex.EncodeToString(banks[crypto.SHA256].PCR(c.PCR)), value})
	}
	return r, nil
}

// recordedBoot is the boot by what was known before it.
func recordedBoot(dir fs.FS) (b tpm.Boot, err error) {
	var in struct {
		UKI    recordedProgram `json:"uki"`
		Loader recordedProgram `json:"systemd_boot"`
	}
	files := map[string][]byte{}
	for _, name := range []string{"inputs.json", "loader.conf", "gpt-header.bin", "gpt-entries.bin"} {
		if files[name], err = fs.ReadFile(dir, name); err != nil {
			return b, err
		}
	}
	if err := json.Unmarshal(files["inputs.json"], &in); err != nil {
		return b, err
	}
	sigdb, err := fs.Sub(dir, "sigdb")
	if err != nil {
		return b, err
	}
	variables, err := secureboot.ReadVariables(sigdb)
	if err != nil {
		return b, err
	}
	authority, err := onlyEntry(variables.DB)
	if err != nil {
		return b, err
	}
	loader, err := in.Loader.application(strings.ReplaceAll("/"+arch.X8664.Loader(), "/", `\`), authority)
	if err != nil {
		return b, err
	}
	b = tpm.Boot{Variables: &variables, GPT: &tpm.PartitionTable{Header: files["gpt-header.bin"], Entries: files["gpt-entries.bin"]}, Stub: "262",
		ExitBoot: tpm.ExitBootRetried, // as OVMF 2026.08 has it done
		Chain:    []tpm.Program{&tpm.SystemdBoot{Application: loader, Version: "262", Conf: files["loader.conf"]}}}
	if b.UKI, err = in.UKI.application(`\EFI\Linux\`+in.UKI.File, authority); err != nil {
		return b, err
	}
	b.Sections, err = in.UKI.measurements()
	return b, err
}

// onlyEntry is what firmware measures of a db with one certificate when that lets a program start.
func onlyEntry(db []byte) ([]byte, error) {
	lists, err := secureboot.ParseSignatureLists(db)
	if err != nil {
		return nil, err
	}
	if len(lists) != 1 || len(lists[0].Signatures) != 1 {
		return nil, errors.New("the recorded db has more than one entry")
	}
	return secureboot.Verdict{Authority: &lists[0].Signatures[0], AuthorityVariable: "db"}.AuthorityEvent()
}

// compareRecorded sets the two side by side.
func (s *story) compareRecorded() error {
	s.chapter("A real boot beside its prediction: recorded, not simulated")
	r, err := recorded()
	if err != nil {
		return fmt.Errorf("the recorded boot: %w", err)
	}
	s.say("%s", r.Origin)
	for _, p := range r.PCRs {
		if p.Predicted != p.Recorded {
			return &brokenPromise{fmt.Sprintf("PCR %d was predicted as %s, and the TPM had %s", p.PCR, p.Predicted, p.Recorded)}
		}
		s.say("PCR %-2d  predicted %s\n        recorded  %s  the same", p.PCR, p.Predicted, p.Recorded)
	}
	s.result.Recorded = r
	return nil
}
