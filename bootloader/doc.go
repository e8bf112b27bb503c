// Package bootloader predicts what systemd-boot will do with an EFI system partition: which entries
// it lists and in which order, which one it boots, and what it renames before that. It also plans
// how to install systemd-boot, its configuration and new boot entries, and marks a booted system
// good or bad.
//
// It follows UAPI.1, the Boot Loader Specification
// (https://uapi-group.org/specifications/specs/boot_loader_specification/), UAPI.10, the Version
// Format Specification (https://uapi-group.org/specifications/specs/version_format_specification/),
// loader.conf(5) and, where these differ from what boots, the code of systemd-boot 252 to 262. How
// releases differ is one table, [Releases], with the evidence for each row; [MenuOptions] has the
// version of the loader, which [LoaderVersion] reads from its file. Without a version, the rules of
// 262 apply.
//
// [Menu].Findings say what is wrong with the files: entries that the loader leaves out, lines that
// it does not read, and files that are named but missing, which keep an entry from booting
// ([EntryError], [Entry].Damage).
//
//	menu, err := bootloader.ReadMenu(os.DirFS("/efi"), bootloader.MenuOptions{})
//	entry, reason := menu.Default(bootloader.Variables{})
//	fmt.Println(entry.ID, reason)
//	from, to := entry.Boot() // what the loader renames when it boots the entry
//
//	// In the booted system, with the content of the EFI variable LoaderBootCountPath:
//	from, to, err = bootloader.Bless(os.DirFS("/efi"), path, bootloader.StatusGood)
//	err = os.Rename(filepath.Join("/efi", from), filepath.Join("/efi", to))
//
// [PlanInstallation] plans the installation or update of systemd-boot on an ESP. The order of its
// changes survives a power cut anywhere; it downgrades only on request and never overwrites a file
// that is not systemd-boot's. [PlanRemoval] removes systemd-boot. [EditConfig] changes settings of
// loader.conf and leaves everything else in it as it is.
//
//	plan, err := bootloader.PlanInstallation(esp, &bootloader.Installation{Loader: loader}, bootloader.InstallationOptions{})
//	for _, c := range plan.Changes {
//		fmt.Println(c.Kind, c.Path, c.Reason) // and carry it out, before the next one
//	}
//
// The package writes to no file system: it reads through [io/fs], and returns the files to write
// and the renames to make as values.
//
// # EFI variables
//
// A [VariableStore] is where EFI variables are kept: the variables of the running machine
// (EFIVarFS, on Linux), of a virtual machine that is off ([VariableImage]), or in memory
// ([MemoryVariables]). Each is a file system in the form of efivarfs, which [ReadVariables] reads.
// [SetLoaderVariable] and [SetSystemToken] write the settings of an operating system for
// systemd-boot, and [PlanBootOption] computes which boot option and which BootOrder make firmware
// start the loader, on a new machine and on one whose firmware has lost them:
//
//	have, err := bootloader.ReadVariables(store)
//	plan, err := bootloader.PlanBootOption(have, loader, bootloader.BootPlanOptions{})
//	results, err := plan.Apply(store)
//	if errors.Is(err, bootloader.ErrVariableRefused) {
//		// Firmware refused the change. The machine starts the loader as the fallback of the ESP.
//	}
//
// After a power cut at any write, the machine starts what it started before or what the plan wants.
// A variable that already has its value is not written.
//
// # Limits
//
// Entries that systemd-boot finds outside its two directories (Windows, macOS, an EFI shell,
// firmware setup, SMBIOS) are not listed, and systemd-boot never boots one of those by default.
// Boot secrets are not handled. Package signing/secureboot handles the variables of Secure Boot,
// which are written with a signature. Plans do not check signatures: whether firmware starts a
// loader, and whether keys that are enrolled verify the loaders that stay, is judged by package
// upgrade.
package bootloader
