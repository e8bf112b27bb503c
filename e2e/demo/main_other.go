//go:build !linux

// This program boots virtual machines and runs on Linux; elsewhere, see examples/lifecycle.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "demo: it boots virtual machines and runs on Linux only; go run ./examples/lifecycle runs anywhere")
	os.Exit(2)
}
