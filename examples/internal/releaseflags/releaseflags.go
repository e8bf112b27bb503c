// Package releaseflags are the flags by which programs are told which release is meant, and who
// must have signed it.
package releaseflags

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// maxText bounds policies and keys, in bytes.
const maxText = 1 << 20

// Split takes LAYOUT:REF apart, where LAYOUT may have colons and REF be a digest. A directory of
// the whole name has no REF.
func Split(name string) (dir, ref string) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return name, ""
	}
	colon := strings.LastIndex(name, ":sha256:")
	if colon < 0 {
		colon = strings.LastIndexByte(name, ':')
	}
	if colon < 0 || strings.ContainsAny(name[colon:], `/\`) {
		return name, ""
	}
	return name[:colon], name[colon+1:]
}

// Trust are the values of -policy, -repository and -key.
type Trust struct {
	File       string // with a policy, JSON
	Repository string // by which the policy's rule is found
	Keys       cli.List
}

// Policy makes the policy that flags tell; authorities must be valid at that time. What is wrong
// with it is not an answer about a release, so types of errors are not kept.
func (t *Trust) Policy(at time.Time) (cosign.Policy, error) {
	if t.File == "" {
		keys, err := publicKeys(t.Keys)
		return cosign.Policy{Keys: keys}, err
	}
	text, err := cli.ReadFile(t.File, maxText)
	if err != nil {
		return cosign.Policy{}, err
	}
	rules, err := cosign.ParseRules(text, os.DirFS(filepath.Dir(t.File)))
	if err != nil {
		return cosign.Policy{}, fmt.Errorf("-policy %s: %v", t.File, err)
	}
	policy, err := rules.For(t.Repository)
	if err != nil {
		return policy, fmt.Errorf("-policy %s: %w (see -repository)", t.File, err)
	}
	policy.At = at
	return policy, nil
}

func publicKeys(names []string) (keys []crypto.PublicKey, err error) {
	for _, name := range names {
		text, err := cli.ReadFile(name, maxText)
		if err != nil {
			return nil, err
		}
		found, err := cosign.ParseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("-key %s: %v", name, err)
		}
		keys = append(keys, found...)
	}
	return keys, nil
}
