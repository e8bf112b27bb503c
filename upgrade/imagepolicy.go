package upgrade

import (
	"bytes"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity/dm"
)

// imagePolicies are the values of systemd.image_policy= on a command line.
// systemd-gpt-auto-generator 262, which was tried, reads it in the initrd and in the system, takes
// dashes for underscores, and has no variant with rd. in front. One without a value makes it fail
// an assertion.
func imagePolicies(cmdline string) (list []string) {
	for _, f := range strings.Fields(cmdline) {
		parameter, value, _ := strings.Cut(strings.Trim(f, `"`), "=")
		if strings.ReplaceAll(parameter, "-", "_") == "systemd.image_policy" {
			list = append(list, strings.Trim(value, `"`))
		}
	}
	return list
}

// judgeImagePolicy says of an image policy on the command line when it does not demand the
// signature that it seems to demand. The root hash on the command line protects the file system in
// any case, so that it is a restriction and no failure.
func (p *Plan) judgeImagePolicy(j *Verdict, cmdline string) {
	const name = "systemd.image_policy"
	policies := imagePolicies(cmdline)
	if len(policies) > 1 {
		j.warn("%s is on the command line %d times: each one is checked", name, len(policies))
	}
	designator := p.designator(cmdline)
	for _, text := range policies {
		policy, err := partition.ParseImagePolicy(text)
		switch {
		case text == "":
			j.warn("%s= on the command line has no value: systemd-gpt-auto-generator fails, and nothing is demanded", name)
			continue
		case err != nil:
			j.warn("%s=%s on the command line demands nothing: systemd cannot read it: %v", name, text, prefix.Bare(err))
			continue
		}
		demand := policy.Signature(designator)
		switch {
		case demand == partition.SignatureUnused:
			j.pass("%s=%s uses no %s partition that systemd finds by itself", name, text, designator)
		case demand == partition.SignatureNotDemanded:
			j.warn("%s=%s on the command line does not demand a signature for %s: %s is accepted, too; %s=signed demands one", name, text, designator, otherUses(policy.Effective(designator)), designator)
		case p.signature == nil && !p.alone():
			j.warn("%s=%s demands a signature for %s, and the release has none", name, text, designator)
		default:
			j.pass("%s=%s demands a signature for %s", name, text, designator)
		}
	}
}

// otherUses are the ways besides with a signature in which a partition may be used.
func otherUses(f partition.PolicyFlags) string {
	return (f & (partition.PolicyOpen &^ (partition.PolicyIgnore | partition.PolicySigned))).String()
}

// designator is what a policy calls the release's file system.
func (p *Plan) designator(cmdline string) string {
	c, err := dm.ParseCmdline(cmdline)
	if err == nil && len(c.Usr.RootHash) > 0 && (p.alone() || bytes.Equal(c.Usr.RootHash, p.release.RootHash)) {
		return "usr"
	}
	return "root"
}
