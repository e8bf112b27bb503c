package uki

import (
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/kernelargs"
)

// An ArgumentRule says which arguments of a kernel command line an add-on for one machine should
// not bring, and why. Names are compared as kernel and systemd do: "-" and "_" are the same.
type ArgumentRule struct {
	Name   string // name of one argument; with "*" at the end, of all arguments that begin so
	Reason string

	unless []string // values with which it is harmless
	only   []string // values with which alone it is not; nil: with all
	kernel bool     // the kernel alone reads it, and nothing behind "--"
}

// Reasons that several arguments have.
const (
	otherRoot   = "can put a file system in place of the verified one"
	otherFirst  = "replaces the system's first program, which runs with all rights"
	opensShell  = "can give a person at the console a root shell"
	extraUnits  = "changes which units run, with all rights, and can leave out those that measure and verify"
	extraParts  = "adds to what the kernel unpacks as its initrd, from a file that is not signed"
	lessGuarded = "switches off a security module that the system may rely on, lockdown among them"
	anyMemory   = "lets a device or a debugger write into all memory, what was verified included"
)

// argumentRules is the list. What is left out on purpose: arguments that at worst keep the system
// from starting (module_blacklist=, systemd.unit-less ip=, rootwait), that harden it further
// (lockdown=integrity, ima_policy=tcb), and that trade a side channel for speed inside a running
// system (mitigations=off), which touch neither what was measured nor who runs first.
var argumentRules = []ArgumentRule{
	{Name: "roothash*", Reason: otherRoot}, {Name: "usrhash*", Reason: otherRoot},
	{Name: "systemd.verity*", Reason: otherRoot},
	{Name: "systemd.image_policy*", Reason: "decides which file systems are accepted without verification"},
	{Name: "root", Reason: otherRoot}, {Name: "rootfstype", Reason: otherRoot}, {Name: "rootflags", Reason: otherRoot}, {Name: "nfsroot", Reason: otherRoot},
	{Name: "mount.*", Reason: otherRoot}, {Name: "systemd.mount_extra", Reason: otherRoot}, {Name: "systemd.volatile", Reason: otherRoot},
	{Name: "dm_mod.create", Reason: otherRoot, kernel: true},
	{Name: "dm_verity.require_signatures", Reason: "lets the kernel take root hashes that are not signed", unless: []string{"1", "y", "Y"}, kernel: true},
	{Name: "resume", Reason: "restores memory from a partition that is not verified"},

	{Name: "rd.*", Reason: "configures the initrd, which runs before the root file system is verified"},
	{Name: "init", Reason: otherFirst}, {Name: "rdinit", Reason: otherFirst, kernel: true},
	{Name: "noinitrd", Reason: "leaves out the initrd, which verifies the root file system", kernel: true},
	{Name: "initrd", Reason: extraParts, kernel: true}, {Name: "initrdmem", Reason: extraParts, kernel: true},
	{Name: "bootconfig", Reason: "makes the kernel read further arguments after the initrd, which are not shown here", kernel: true},
	{Name: "dtb", Reason: "loads a device tree from a file that is not signed", kernel: true},

	{Name: "systemd.unit", Reason: extraUnits}, {Name: "systemd.wants", Reason: extraUnits}, {Name: "systemd.mask", Reason: extraUnits},
	{Name: "systemd.run*", Reason: "runs a command with all rights"},
	{Name: "systemd.set_credential*", Reason: "credentials set passwords and bring units that run with all rights"},
	{Name: "systemd.import_credentials", Reason: "credentials set passwords and bring units that run with all rights"},
	{Name: "systemd.pull", Reason: "downloads an image to run"},
	{Name: "systemd.setenv", Reason: "variables of the environment change what all services load and start"},
	{Name: "ld_*", Reason: "variables of the environment change what all services load and start"},
	{Name: "path", Reason: "variables of the environment change what all services load and start"},
	{Name: "systemd_sulogin_force", Reason: opensShell},
	{Name: "systemd.debug_shell", Reason: opensShell}, {Name: "systemd.break", Reason: opensShell}, {Name: "systemd.crash_shell", Reason: opensShell},
	{Name: "emergency", Reason: opensShell}, {Name: "rescue", Reason: opensShell}, {Name: "single", Reason: opensShell},
	{Name: "s", Reason: opensShell}, {Name: "1", Reason: opensShell}, {Name: "_b", Reason: opensShell},
	{Name: "sysctl.kernel.core_pattern", Reason: "names a program that the kernel runs with all rights"},
	{Name: "sysctl.kernel.modprobe", Reason: "names a program that the kernel runs with all rights"},

	{Name: "lsm", Reason: lessGuarded, kernel: true}, {Name: "security", Reason: lessGuarded, kernel: true},
	{Name: "selinux", Reason: lessGuarded, only: []string{"0"}}, {Name: "enforcing", Reason: lessGuarded, only: []string{"0"}},
	{Name: "apparmor", Reason: lessGuarded, only: []string{"0"}},
	{Name: "lockdown", Reason: lessGuarded, unless: []string{"integrity", "confidentiality"}, kernel: true},
	{Name: "initcall_blacklist", Reason: lessGuarded, kernel: true},
	{Name: "ima_appraise", Reason: "lets the kernel run files whose integrity is not right", unless: []string{"enforce"}, kernel: true},
	{Name: "evm", Reason: "lets the kernel run files whose integrity is not right", kernel: true},
	{Name: "kgdboc", Reason: anyMemory, kernel: true}, {Name: "kgdbwait", Reason: anyMemory, kernel: true},
	{Name: "iommu", Reason: anyMemory, only: []string{"off"}, kernel: true},
	{Name: "intel_iommu", Reason: anyMemory, only: []string{"off"}, kernel: true},
	{Name: "amd_iommu", Reason: anyMemory, only: []string{"off"}, kernel: true},
}

// ArgumentRules is the list that [RefusedArguments] uses.
func ArgumentRules() []ArgumentRule { return slices.Clone(argumentRules) }

// A RefusedArgument is an argument that an add-on for one machine should not bring.
type RefusedArgument struct {
	Name   string // name as it is compared: with "_" for "-", and in lower case
	Text   string // text as it is written
	Reason string
}

// RefusedArguments returns the arguments of an add-on's command line that are on the list
// ([ArgumentRules]). before is the command line to which it is appended: an open quotation mark in
// either changes the meaning of both. An argument counts if the kernel or systemd reads it as one.
// The kernel knows only double quotes, and reads no kernel parameters after "--"; systemd and the
// programs of an initrd read all arguments.
func RefusedArguments(before, addon string) []RefusedArgument {
	found := refusedArguments(addon)
	had := refusedArguments(before)
	for _, r := range refusedArguments(before + " " + addon) {
		if !slices.Contains(had, r) && !slices.ContainsFunc(found, func(f RefusedArgument) bool { return f.Name == r.Name }) {
			found = append(found, r)
		}
	}
	if quotes(addon) {
		found = append(found, RefusedArgument{`"`, addon, "a quotation in it does not end, so that it swallows or splits what other parts of the command line say"})
	}
	return found
}

// quotes reports whether a quotation that begins in a text goes on behind it, to kernel or systemd.
func quotes(text string) bool {
	if strings.Count(text, `"`)%2 == 1 {
		return true
	}
	open := byte(0)
	for i := range len(text) {
		switch c := text[i]; {
		case open == 0 && (c == '"' || c == '\''):
			open = c
		case c == open:
			open = 0
		}
	}
	return open != 0
}

func refusedArguments(line string) (found []RefusedArgument) {
	add := func(name, value, text string, byKernel bool) {
		folded := foldArgument(name)
		for _, rule := range argumentRules {
			if rule.matches(folded, value) && (byKernel || !rule.kernel) && !slices.ContainsFunc(found, func(f RefusedArgument) bool { return f.Name == folded }) {
				found = append(found, RefusedArgument{folded, text, rule.Reason})
			}
		}
	}
	for _, p := range kernelargs.Kernel(line) {
		add(p.Key, p.Value, p.Text, true)
	}
	kernelargs.Systemd(line, func(word string, _ int) {
		name, value, _ := strings.Cut(word, "=")
		add(name, value, word, false)
	})
	return found
}

// foldArgument is a name as it is compared here. Kernel and systemd tell letter cases apart, and
// nothing harmless is named like a refused argument in another case.
func foldArgument(name string) string { return strings.ToLower(strings.ReplaceAll(name, "-", "_")) }

func (r *ArgumentRule) matches(folded, value string) bool {
	if begin, ok := strings.CutSuffix(r.Name, "*"); ok {
		if !strings.HasPrefix(folded, begin) {
			return false
		}
	} else if folded != r.Name {
		return false
	}
	return !slices.Contains(r.unless, value) && (r.only == nil || slices.Contains(r.only, value))
}

// SameArgument reports whether two names of arguments are the same to kernel and systemd, as the
// list compares them.
func SameArgument(a, b string) bool { return foldArgument(a) == foldArgument(b) }
