// Package smbios splits an SMBIOS structure table (DMTF DSP0134 3.7.0, section 6.1), the content of
// /sys/firmware/dmi/tables/DMI, into its structures.
package smbios
