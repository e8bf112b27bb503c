//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "agent: it keeps a Linux machine up to date; build it with GOOS=linux")
	os.Exit(2)
}
