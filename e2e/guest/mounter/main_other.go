//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "mounter: it runs on a Linux test machine; build it with GOOS=linux")
	os.Exit(2)
}
