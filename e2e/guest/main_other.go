//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "guest: this is the init of a Linux test machine; build it with GOOS=linux")
	os.Exit(2)
}
