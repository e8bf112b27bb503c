//go:build linux

package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "service" {
		console, err := os.OpenFile(serial, os.O_WRONLY, 0)
		if err == nil {
			os.Stdout = console
			err = runService()
		}
		if err != nil {
			fail(err)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the init of a test machine; it runs as process 1, or as a service of one")
		os.Exit(2)
	}
	var err error
	switch os.Args[0] {
	case "/sbin/init":
		err = runRoot()
	default:
		err = runInitrd()
	}
	// Both end the machine themselves when all went well.
	fail(err)
}
