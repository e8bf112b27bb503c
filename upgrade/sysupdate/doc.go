// Package sysupdate reads and writes what systemd-sysupdate 262 works with, so that a machine can
// go from systemd-sysupdate to package upgrade and back without being installed anew
// (sysupdate.d(5), sysupdate.features(5) and systemd-sysupdate(8),
// https://www.freedesktop.org/software/systemd/man/latest/sysupdate.d.html; where they say nothing,
// as the program does it).
//
// Read the definitions of a machine, and which versions systemd-sysupdate finds there:
//
//	d, err := sysupdate.ReadDefinitions(os.DirFS("/"), sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': "1.2", 'M': "acme"}})
//	if err != nil {
//		return err
//	}
//	for _, f := range d.Findings { // what systemd-sysupdate passes over
//		fmt.Println(f)
//	}
//	state, err := sysupdate.ReadState(d, sysupdate.Places{Disk: disk})
//
// What "systemd-sysupdate cleanup" would remove, before it does:
//
//	records, _, err := sysupdate.ReadRecords(os.DirFS(sysupdate.InstallDatabase), "")
//	c, err := sysupdate.FindOrphans(d, records, sysupdate.Places{Root: os.DirFS("/"), ESP: esp, ESPMount: "/efi", Disk: disk})
//
// A release as files of a web server that systemd-sysupdate updates from, and the definitions for
// that:
//
//	x, err := sysupdate.Export(rel, sysupdate.ExportOptions{Source: "https://updates.example/acme"})
//	if err != nil {
//		return err
//	}
//	manifest := &sysupdate.Manifest{}
//	for _, f := range x.Files {
//		sum := sha256.New()
//		if _, err := io.Copy(sum, io.NewSectionReader(f.Content, 0, f.Content.Size())); err != nil { // and to a file of that name
//			return err
//		}
//		if err := manifest.Set(f.Name, [32]byte(sum.Sum(nil))); err != nil {
//			return err
//		}
//	}
//	_, err = manifest.WriteTo(w) // SHA256SUMS
//
// docs/sysupdate.md shows both migrations. This package never writes to a disk; package upgrade and
// systemd-sysupdate do.
//
// # Limits
//
// Definitions with escapes in patterns, or quotes in names of features, are an error. A target on
// another disk, or on a file system that is not given, is reported as unknown. Make the OpenPGP
// signature of a manifest with a program such as gpg.
package sysupdate
