package tpm

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// bootVector is a real boot of testdata/boot: what went into it, and what came out.
type bootVector struct {
	name   string
	log    []byte
	pcrs   map[int][]byte // sha256, at the start of the initrd
	pcrsig []byte
	boot   Boot // as far as the inputs tell; never made from the log
	// phase path to PCR 11, as ukify printed it when it built the UKI, for profile 0
	phases map[string]string
	first  []osmith.Measurement // of profile 0
}

type vectorPE struct {
	File         string `json:"file"`
	Size         int64  `json:"size"`
	Authenticode string `json:"authenticode_sha256"`
	Sections     []struct {
		Name        string `json:"name"`
		VirtualSize int64  `json:"virtual_size"`
		SHA256      string `json:"sha256"`
	} `json:"sections"`
}

// measurements picks the sections of one profile.
func (p *vectorPE) measurements(t *testing.T, profile int) []osmith.Measurement {
	t.Helper()
	chosen := make(map[string]osmith.Measurement)
	current := -1
	for _, s := range p.Sections {
		if s.Name == ".profile" {
			current++
		}
		if current < 0 || current == profile {
			chosen[s.Name] = osmith.Measurement{Section: s.Name, Size: s.VirtualSize, Digests: map[crypto.Hash][]byte{crypto.SHA256: unhex(t, s.SHA256)}}
		}
	}
	var ms []osmith.Measurement
	for _, s := range sdstub.Sections() {
		if m, ok := chosen[s.Name]; ok {
			ms = append(ms, m)
		}
	}
	return ms
}

func (p *vectorPE) application(t *testing.T, path string) Application {
	t.Helper()
	return Application{Path: path, Size: p.Size, Digests: map[crypto.Hash][]byte{crypto.SHA256: unhex(t, p.Authenticode)}}
}

// bootVectors loads all five boots.
func bootVectors(t *testing.T) []bootVector {
	t.Helper()
	dirs, err := filepath.Glob("testdata/boot/*-*")
	require.NoError(t, err)
	require.Len(t, dirs, 5, "the boots of testdata/boot")
	owner, err := osmith.ParseGUID(string(read(t, "testdata/boot/certs/owner.guid"))[:36])
	require.NoError(t, err)
	authority := append(efi.AppendGUID(nil, owner), read(t, "testdata/boot/certs/db.der")...)
	var out []bootVector
	for _, dir := range dirs {
		var in struct {
			UKI     vectorPE  `json:"uki"`
			Loader  *vectorPE `json:"systemd_boot"`
			Measure struct {
				SHA256 []struct{ Phase, Hash string } `json:"sha256"`
			} `json:"ukify_measure"`
		}
		require.NoError(t, json.Unmarshal(read(t, dir, "inputs.json"), &in))
		var pcrs map[string]map[string]string
		require.NoError(t, json.Unmarshal(read(t, dir, "pcrs-initrd.json"), &pcrs))
		v := bootVector{
			name: filepath.Base(dir), log: read(t, dir, "binary_bios_measurements"), pcrsig: read(t, dir, "tpm2-pcr-signature.json"),
			pcrs: make(map[int][]byte), phases: make(map[string]string),
		}
		for n, value := range pcrs["sha256"] {
			i, err := strconv.Atoi(n)
			require.NoError(t, err)
			v.pcrs[i] = unhex(t, value)
		}
		require.Len(t, v.pcrs, PCRCount)
		for _, m := range in.Measure.SHA256 {
			v.phases[m.Phase] = m.Hash
		}
		v.boot = Boot{Variables: sigdb(t, dir), Stub: "262"}
		v.boot.UKI = in.UKI.application(t, `\EFI\Linux\`+in.UKI.File)
		if in.Loader != nil {
			loader := in.Loader.application(t, `\EFI\BOOT\BOOTX64.EFI`)
			v.boot.Chain = []Program{&SystemdBoot{Application: loader}}
		}
		v.boot.authorize(authority)
		profile := 0
		switch v.name {
		case "o-systemd-257":
			v.boot.Stub = "257"
		case "f-profile1-262":
			profile = 1
			v.boot.handOver(profileEvent("1")).Passed = "@1"
		}
		v.first = in.UKI.measurements(t, 0)
		v.boot.Sections = in.UKI.measurements(t, profile)
		out = append(out, v)
	}
	return out
}

// sigdb reads the Secure Boot variables of a boot, of which setup mode lacks most.
func sigdb(t *testing.T, dir string) *osmith.FirmwareVariables {
	t.Helper()
	variable := func(name, vendor string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, "sigdb", name+"-"+vendor))
		if os.IsNotExist(err) {
			return nil
		}
		require.NoError(t, err)
		require.Greater(t, len(b), 4)
		return b[4:]
	}
	global, security := globalVariable.String(), imageSecurityDatabase.String()
	return &osmith.FirmwareVariables{
		SecureBoot: variable("SecureBoot", global), PK: variable("PK", global), KEK: variable("KEK", global),
		DB: variable("db", security), DBX: variable("dbx", security), DBT: variable("dbt", security),
	}
}

// vectorKey is the key that signed the policies of the boots.
func vectorKey(t *testing.T) *rsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode(read(t, "testdata/boot/certs/pcr.pub"))
	require.NotNil(t, block)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	return key.(*rsa.PublicKey)
}

func read(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	require.NotEmpty(t, b)
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}
