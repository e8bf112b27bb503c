//go:build linux

package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
)

const (
	pcrGlob  = "/sys/class/tpm/tpm0/pcr-*"
	pcrCount = 24
)

// algorithm is one PCR bank: TCG Algorithm Registry, table 3.
type algorithm struct {
	id  uint16
	sum func([]byte) []byte
}

var algorithms = map[string]algorithm{
	"sha1":   {0x0004, func(b []byte) []byte { s := sha1.Sum(b); return s[:] }},
	"sha256": {0x000b, func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }},
	"sha384": {0x000c, func(b []byte) []byte { s := sha512.Sum384(b); return s[:] }},
	"sha512": {0x000d, func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }},
}

// readPCRs returns every bank the kernel shows. Without a TPM there is none.
func readPCRs() (report.PCRs, error) {
	dirs, err := filepath.Glob(pcrGlob)
	if err != nil {
		return nil, err
	}
	pcrs := make(report.PCRs)
	for _, dir := range dirs {
		_, bank, _ := strings.Cut(filepath.Base(dir), "-")
		for i := range pcrCount {
			b, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
			if err != nil {
				return nil, fmt.Errorf("tpm: PCR %d of %s: %w", i, bank, err)
			}
			v, err := hex.DecodeString(strings.TrimSpace(string(b)))
			if err != nil {
				return nil, fmt.Errorf("tpm: PCR %d of %s: %w", i, bank, err)
			}
			pcrs[bank] = append(pcrs[bank], v)
		}
	}
	return pcrs, nil
}

// extendPCR measures a text into a PCR of all the given banks, with the raw
// command (TPM 2.0 Library part 3, TPM2_PCR_Extend), since nothing in the
// initrd speaks TPM. No banks: no TPM, nothing to do.
func extendPCR(pcr uint32, text string, banks report.PCRs) error {
	if len(banks) == 0 {
		return nil
	}
	var names []string
	for name := range banks {
		if _, ok := algorithms[name]; !ok {
			return fmt.Errorf("tpm: bank %s is active and unknown here", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)

	be := binary.BigEndian
	cmd := be.AppendUint16(nil, 0x8002)    // TPM_ST_SESSIONS
	cmd = be.AppendUint32(cmd, 0)          // size, set below
	cmd = be.AppendUint32(cmd, 0x0182)     // TPM_CC_PCR_Extend
	cmd = be.AppendUint32(cmd, pcr)        // pcrHandle
	cmd = be.AppendUint32(cmd, 9)          // size of the authorization area
	cmd = be.AppendUint32(cmd, 0x40000009) // TPM_RS_PW
	cmd = be.AppendUint16(cmd, 0)          // no nonce
	cmd = append(cmd, 0)                   // no attributes
	cmd = be.AppendUint16(cmd, 0)          // empty password
	cmd = be.AppendUint32(cmd, uint32(len(names)))
	for _, name := range names {
		a := algorithms[name]
		cmd = be.AppendUint16(cmd, a.id)
		cmd = append(cmd, a.sum([]byte(text))...)
	}
	be.PutUint32(cmd[2:], uint32(len(cmd)))

	// Not by package os: it would open the device without blocking, and then the kernel runs the
	// command in the background and has nothing to read until it is done.
	fd, err := unix.Open("/dev/tpm0", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("tpm: /dev/tpm0: %w", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, cmd); err != nil {
		return fmt.Errorf("tpm: extend PCR %d: %w", pcr, err)
	}
	answer := make([]byte, 4096)
	n, err := unix.Read(fd, answer)
	if err != nil {
		return fmt.Errorf("tpm: extend PCR %d: %w", pcr, err)
	}
	if n < 10 {
		return fmt.Errorf("tpm: extend PCR %d: answer of %d bytes", pcr, n)
	}
	if rc := be.Uint32(answer[6:]); rc != 0 {
		return fmt.Errorf("tpm: extend PCR %d: response code 0x%x", pcr, rc)
	}
	return nil
}
