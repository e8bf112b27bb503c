// The guest is the whole user space of the machines that the end-to-end tests
// boot. As /init of the initrd it sets up dm-verity from roothash= and switches
// into the root; as /sbin/init there it reads the root, reports over the serial
// console what it found (package report), blesses the boot and powers off. What
// goes wrong is said behind a marker and ends in a reboot, so that the boot
// loader's counter does its work.
//
// Kernel command line: roothash= (hexadecimal), osmith.bless=0 (leave the boot
// counted), osmith.report=initrd (report without a root file system, as the
// version of osmith.version=), osmith.append=FILE (append FILE on the ESP, such
// as keys/dbx.auth, to the Secure Boot variable of its name), osmith.signatures=DIR
// (set up the root once more with each signature DIR/*.p7s on the ESP, and put
// DIR/keyring.der into the keyring of dm-verity meanwhile). Where
// systemd.verity_root_options= asks for the signature of the root hash, a root
// without one that the kernel accepts is not mounted. With panic=-1 a damaged init
// reboots too.
//
// With the argument "service" it is one service of another system, whose manager
// is process 1: it runs the programs that the second disk has for the version that
// runs, and reports.
//
// It is built static for linux and runs in a test machine and nowhere else.
package main
