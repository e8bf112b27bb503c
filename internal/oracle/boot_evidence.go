package oracle

// Releases of systemd-boot from which on a rule holds. 257 and 262 were tried; which release
// between them was the first is what systemd's NEWS and manual pages say.
const (
	sinceUKIKeys = 258 // uki and uki-url

	// Of what 257 does and 262 does not, it is not known which release was the first without.
	after257          = 258
	sinceRestart      = 258 // a program that cannot be loaded may start the machine again
	sinceProfileKey   = 259
	sincePreferred    = 260
	sinceFirstProfile = 261 // only the first profile of a UKI starts by itself
)

// LoaderEvidence says what each rule about systemd-boot stands on: names of cases of
// testdata/loaderanswers.json, which systemd-boot 257 and 262 were started with, and documents.
func LoaderEvidence() []Evidence {
	return []Evidence{
		{"firmware starts \\EFI\\BOOT\\BOOTX64.EFI of the ESP", "UEFI 2.11, section 3.5.1.1; all cases"},
		{"entries are the .efi files of EFI/Linux and the .conf files of loader/entries, of the ESP and of an extended boot loader partition on its disk, in the order of the directories; names that begin with a dot or auto- are left out", "UAPI.1; names that are left out, confs that are left out, xbootldr, the same on both"},
		{"loader.conf is that of the ESP", "loader.conf(5); loader.conf of xbootldr is not read"},
		{"a UKI needs a section .osrel with PRETTY_NAME, IMAGE_ID, NAME or ID, and no kernel", "no os-release, fields of os-release, os-release without kernel"},
		{"each .profile section is an entry; its sections come before those in front of all profiles", "UAPI.1; profiles, profile with its own os-release"},
		{"a Type #1 entry starts one thing, which is there, for this architecture, and is not the loader itself", "UAPI.1; two things to start, no such kernel, architecture, efi is the loader itself, paths"},
		{"uki and uki-url are read since 258", "NEWS of 258; uki key, uki-url, counted uki key"},
		{"lines end with CR or LF, the text with NUL; values lose a pair of quotes, and bytes that are not UTF-8", "quotes, line ends, not UTF-8, keys, spaces in os-release"},
		{"the order: bad ones last, with sort-key first, sort-key and machine-id by code units, version downwards, profile, file name downwards as a version, more tries left, fewer done", "UAPI.1; sort keys, machine id, versions *, same entry, more tries first, random *"},
		{"versions are compared by UAPI.10, except that digits are newer than none", "UAPI.10; versions *; systemd-analyze compare-versions"},
		{"ids are in lower case, except for UKIs that are counted (in 257, all that is counted), which therefore no pattern with capitals matches", "capital letters, default of a counted name with capitals, counted conf with capitals"},
		{"in 257 all profiles of a counted UKI have the id of the first, and the second one comes before the first", "profiles, random 3, random 40, random 77"},
		{"in 257 an assignment without a value is none, the last of several things to start holds, and efi entries are counted", "empty sort key, fields of os-release, two things to start, counted efi is not counted"},
		{"the choice: one-shot, preferred (variable, loader.conf), default (variable, loader.conf), first; preferred passes over bad ones, the others do not", "Boot Loader Interface; one-shot *, preferred *, default *"},
		{"preferred is read since 260", "NEWS of 260; preferred"},
		{"a profile other than the first does not start by itself since 261, unless there is nothing else", "NEWS of 261; profile with its own os-release, only a profile"},
		{"patterns: ? * [...] with ranges and \\, in either case; ! and ^ in a set are characters", "pattern *"},
		{"LoaderEntryOneShot is deleted, whether it matches or not", "one-shot, one-shot that matches nothing"},
		{"LoaderEntryLastBooted is written if the default is @saved, unless the one-shot variable is the entry's id, and else deleted", "@saved *, last booted alone, random 7"},
		{"the counter of UKIs, linux and uki entries goes down before the start, without leading zeros, and the new name is the last of its directory", "three tries, leading zeros, counted efi is not counted, counted and not, renamed *"},
		{"where a file cannot be renamed, the entry starts as it is, and again at each start", "rename onto a name that is there"},
		{"where a program cannot be loaded nothing else is started: the loader waits at its menu, or since 258 starts the machine again, if the entry had tries left or reboot-on-error says so", "NEWS of 258; default is cut off, counted default is cut off, bad default is cut off, cut off, last try, kernel of the default is no program"},
	}
}
