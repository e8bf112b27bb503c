//go:build linux

package main

import (
	"fmt"
	"os"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the init of a test machine; it runs as process 1 only")
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
