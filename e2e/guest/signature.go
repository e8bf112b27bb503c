//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/dm"
)

// signatureBeside finds the signature of a root hash as root-hash-signature=auto has systemd find
// it: in whichever partition for signatures of the same disk holds one of that hash.
func signatureBeside(data string, root []byte) (signature []byte, err error) {
	disk, table, err := diskOf(filepath.Base(data))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	var others []error
	for i, p := range table.Partitions {
		if p.Type != partition.RootX8664VeritySig {
			continue
		}
		s, err := verity.ReadSignature(table.Section(disk, i))
		if err == nil && bytes.Equal(s.RootHash, root) {
			return s.PKCS7, nil
		}
		others = append(others, fmt.Errorf("partition %d: %w", p.Number, errors.Join(err, errors.New("not of this root hash"))))
	}
	return nil, fmt.Errorf("verity: no signature of root hash %x: %w", root, errors.Join(others...))
}

// giveKernel puts a signature where the kernel looks for it by its description: into the keyring of
// this thread, which has to stay.
func giveKernel(description string, signature []byte) (string, error) {
	runtime.LockOSThread()
	if _, err := unix.AddKey("user", description, signature, unix.KEY_SPEC_THREAD_KEYRING); err != nil {
		return "", fmt.Errorf("verity: add key %s: %w", description, err)
	}
	return description, nil
}

// trySignatures sets up the root a second time with each of the signatures in a directory of the
// ESP: as things are, by systemd's program in the directory veritysetup, with a certificate added
// to the keyring of dm-verity, and with that keyring sealed.
func trySignatures(r *report.Report, dir string) error {
	c, err := dm.ParseCmdline(r.Cmdline)
	if err != nil {
		return err
	}
	table, err := tableOfRoot(c.Root.RootHash)
	if err != nil {
		return err
	}
	// and their descriptions, by name
	signatures, keys := map[string][]byte{"": nil}, map[string]string{"": ""}
	var certificate []byte
	if err := withESP(r, func(esp string) error {
		files, err := filepath.Glob(path.Join(esp, dir, "*.p7s"))
		if err != nil {
			return err
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			name := strings.TrimSuffix(filepath.Base(file), ".p7s")
			signatures[name] = b
			if keys[name], err = giveKernel("osmith:"+name, b); err != nil {
				return err
			}
		}
		if err := os.CopyFS(veritysetup, os.DirFS(path.Join(esp, "veritysetup"))); err != nil {
			return err
		}
		certificate, err = os.ReadFile(path.Join(esp, dir, "keyring.der"))
		return err
	}); err != nil {
		return fmt.Errorf("osmith.signatures=%s: %w", dir, err)
	}
	s := new(report.Signatures)
	r.Signatures = s
	try := func(when string) error {
		for name, description := range keys {
			table.Options.RootHashSigKeyDesc = description
			t := report.SignatureTry{When: when, Name: name}
			if _, err := dm.Activate("try", "", table); err != nil {
				t.Error = err.Error()
			} else if err := dm.Deactivate("try"); err != nil {
				return err
			}
			s.Tries = append(s.Tries, t)
		}
		return nil
	}
	rings, err := keyrings()
	if err != nil {
		return err
	}
	if s.Keyrings, err = contents(rings); err != nil {
		return err
	}
	if err := try(report.AtFirst); err != nil {
		return err
	}
	systemd, err := tryVeritysetup(table, signatures)
	if err != nil {
		return fmt.Errorf("systemd-veritysetup: %w", err)
	}
	s.Tries = append(s.Tries, systemd...)
	own, ok := rings[".dm-verity"]
	if !ok {
		s.AddKey = "no such keyring"
		return nil
	}
	if _, err := unix.AddKey("asymmetric", "", certificate, own); err != nil {
		s.AddKey = err.Error()
		return nil
	}
	if err := try(report.KeyAdded); err != nil {
		return err
	}
	// Neither a type of keys nor a restriction: no key at all.
	if _, err := unix.KeyctlInt(unix.KEYCTL_RESTRICT_KEYRING, own, 0, 0, 0); err != nil {
		s.Seal = err.Error()
	}
	return try(report.Sealed)
}

// keyringRE matches a keyring of the kernel in /proc/keys (proc_keys(5)): its id and its name.
var keyringRE = regexp.MustCompile(`(?m)^([0-9a-f]+) .* keyring +(\.[\w-]+): `)

// keyrings are the ids of the kernel's own keyrings.
func keyrings() (map[string]int, error) {
	b, err := os.ReadFile("/proc/keys")
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, m := range keyringRE.FindAllStringSubmatch(string(b), -1) {
		id, err := strconv.ParseInt(m[1], 16, 32)
		if err != nil {
			return nil, fmt.Errorf("/proc/keys: %w", err)
		}
		out[m[2]] = int(id)
	}
	return out, nil
}

// contents are the descriptions of the keys in the keyrings by which the kernel may judge a
// signature.
func contents(rings map[string]int) (map[string][]string, error) {
	out := map[string][]string{}
	for _, name := range []string{".builtin_trusted_keys", ".secondary_trusted_keys", ".machine", ".platform", ".dm-verity", ".blacklist"} {
		ring, ok := rings[name]
		if !ok {
			continue
		}
		ids := make([]byte, 4<<10)
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, ring, ids, 0)
		if err != nil {
			return nil, fmt.Errorf("keyring %s: %w", name, err)
		}
		out[name] = []string{}
		for ; n >= 4; n, ids = n-4, ids[4:] {
			key, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, int(int32(binary.NativeEndian.Uint32(ids))))
			if err != nil {
				key = err.Error()
			}
			out[name] = append(out[name], key)
		}
	}
	return out, nil
}
