// log-explain says why PCRs differ between two boots: which part of the boot changed. It is
// what tpm2_eventlog and diff leave to the reader. The logs are copies of
// /sys/kernel/security/tpm0/binary_bios_measurements.
//
//	log-explain EXPECTED-LOG LOG
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/tpm"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: log-explain EXPECTED-LOG LOG")
		os.Exit(2)
	}
	if err := explain(os.Args[1], os.Args[2]); err != nil {
		log.Fatal("log-explain: ", err)
	}
}

func explain(expected, got string) error {
	var logs [2]*tpm.Log
	for i, name := range []string{expected, got} {
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if logs[i], err = tpm.ParseLog(raw); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	comparison, err := tpm.Compare(logs[0], logs[1])
	if err != nil {
		return err
	}
	// Another kernel image changes a dozen events. The causes are the few that explain the rest.
	causes := comparison.Causes()
	fmt.Printf("%d events differ, for %d causes\n", len(comparison.Differences), len(causes))
	for _, c := range causes {
		fmt.Println(c)
		for _, part := range c.Parts {
			// of another kernel image, the sections that are not the same
			fmt.Println("  ", part)
		}
	}
	for _, n := range comparison.NotCompared {
		fmt.Println("not compared:", n)
	}
	return nil
}
