// Package slots reads and writes the places where systems with several slots record which slot
// starts next and which slot is good, for boot loaders other than systemd-boot (package
// bootloader): bits of GPT entries, variables of firmware, environments of boot loaders, small
// files. It takes bytes and returns bytes, and opens no files or devices.
//
//	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, copy1, copy2)
//	store, err := slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
//	fmt.Println(slots.Predict(store).Starts[0]) // the next start
//
//	// B was written, and is to be tried three times before A comes back:
//	change, err := store.Mark(slots.Mark{Slot: "B", As: slots.AsTrying, Tries: 3, Fallback: "A"})
//	for _, w := range change.Writes {
//		fmt.Println(w.Object, w.Offset, len(w.After)) // write w, and flush
//	}
//
// A [Reader] says which slots there are, which is started next and, with [Predict], which starts
// follow if each start fails. A [Store] also computes the writes of a [Mark]. The four marks are
// the operations of an upgrade: a slot is marked [AsBad] before it is written to, [AsTrying] when
// it is staged, [AsGood] when the system that it started commits, and [AsCancelled] or AsBad when
// an upgrade is cancelled or rolled back. The caller, who knows what runs, names the slot to return
// to; a mark after which the machine would not return to that slot is an error.
//
// # The stores
//
// [Properties] says what each store can express: who counts tries, whether it falls back by itself,
// whether a good slot differs from one being tried, and what an interrupted write leaves. "Depends"
// in this table is [AnswerUnknown] there.
//
//	store                       type         tries  counted by       good told   a torn write leaves            evidence  who uses it
//	gptprio                     GPTPrio      1-15   firmware, GRUB   yes         old or new, if the table does  tool      ChromeOS, Flatcar, Bottlerocket
//	UEFI BootNext, BootOrder    BootOrder    1      firmware         no          depends on firmware            tool      Azure Linux (Trident)
//	RAUC, U-Boot, two copies    RAUCUBoot    1-9    the boot script  no          old or new                     tool      boards with RAUC
//	RAUC, U-Boot, one copy      RAUCUBoot    1-9    the boot script  no          U-Boot's built-in environment  tool      boards with RAUC
//	RAUC, GRUB                  RAUCGRUB     1      grub.cfg         no          old or new, by sectors         tool      PCs with RAUC
//	boot assessment, GRUB       KairosGRUB   1      grub.cfg         no          old or new, by sectors         tool      Kairos, Elemental
//	misc                        AndroidMisc  -      depends          yes         a wrong checksum               source    Android
//	bootconf                    SteamOS      -      depends          no          depends                        source    SteamOS
//	FWU metadata                FWU          -      depends          yes         the other copy                 source    firmware of Arm machines
//	autoboot.txt                Autoboot     -      firmware         no          depends                        source    Raspberry Pi
//
// A store with a dash for its tries is read-only: it is a [Reader] and not a [Store]. These stores
// are written by vendors' programs that distributions do not ship, so the bytes could only be
// compared with published documents ([EvidenceSource]). With [EvidenceTool], cgpt, efibootmgr,
// grub-editenv, fw_setenv, mkenvimage or rauc has read what this package writes, and this package
// what they write (except copies of the scheme [UBootActive], which fw_printenv reads and no tested
// tool writes). Boot rules are those of published documents and sources for all stores; those of
// the two with GRUB were also run by GRUB itself (grub-emu 2.06).
//
// [RAUCStatus] is RAUC's own record of what was installed. It does not affect what starts.
//
// # Power cuts
//
// The writes of a change are in an order in which, after any number of them, the machine starts a
// valid slot: a good one, or the one to be tried and then the one to return to. [Change].Needs says
// what each single write must guarantee for that: nothing if there are two copies with checksums
// (the older one is written); that a sector is not torn, if all changes are in one sector;
// otherwise that the object changes as a whole. For a file, write a new one beside it and rename
// that; for firmware variables and partition tables, the writer has to ensure it.
//
// # What is kept
//
// Everything that is not changed is written back byte for byte: variables, bits, comments and
// padding of other programs, and unknown keys. A variable that an environment lists twice is not
// changed: setting it is an error. Boot options, GRUB's other variables and partitions of other
// types are not touched.
package slots
