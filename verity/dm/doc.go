// Package dm sets up verity devices on a running system: the table that Linux's device-mapper
// takes, the kernel command line that names the root hash, and activation.
//
// [NewTable] makes the table for an image that package verity formatted, [ParseTable] reads what
// dmsetup prints, and [Activate] hands a table to the kernel without a tool. They follow
// https://docs.kernel.org/admin-guide/device-mapper/verity.html.
//
// # The kernel command line
//
// [ParseCmdline] is the one reader of roothash= in this module. It reads as systemd's veritysetup
// generator does in an initrd
// (https://www.freedesktop.org/software/systemd/man/latest/systemd-veritysetup-generator.html), of
// which releases 257 and 262 are compared with it:
//
//	roothash=, usrhash=                  root hash of root, of /usr, in hexadecimal of either case; each makes one device
//	systemd.verity_root_data=, _hash=    devices (and systemd.verity_usr_...): a path, PARTUUID=, PARTLABEL=, UUID=, LABEL=;
//	                                     if not given, the partitions whose PARTUUIDs are the two ends of the root hash
//	systemd.verity_root_options=         options as in /etc/veritytab, for systemd-veritysetup
//	systemd.verity=0                     no device, whatever else is said; a value that is no boolean changes nothing
//	rd. in front of a name               the same parameter
//	given twice                          the last one counts, also behind "--"; without "=" it is passed over
//	- and _ in a name                    the same; upper and lower case are not
//	"..." and '...'                      quotes, anywhere in a word; a backslash protects nothing
//	x="y roothash=..."                   the value of x, and no root hash
//
// [Cmdline.Verified] says whether a system boots verified: the command line may also switch verity
// off, or ignore damage. Outside of Secure Boot systemd also reads the EFI variable SystemdOptions,
// as if it stood in front of the command line.
//
// The kernel's own parameters, dm-mod.create= and dm-mod.waitfor=, are read as the kernel reads
// them, which has different white space and quotes. [Cmdline.Encode] writes what both read alike.
package dm
