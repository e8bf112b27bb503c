//go:build linux

package main

import (
	"bufio"
	"os"
	"strings"
)

// readCmdline returns the kernel command line as a text and by key. Of a key
// that is given twice the last one counts.
func readCmdline() (string, map[string]string, error) {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", nil, err
	}
	line := strings.TrimSuffix(string(b), "\n")
	args := make(map[string]string)
	for _, f := range strings.Fields(line) {
		key, value, _ := strings.Cut(f, "=")
		args[key] = value
	}
	return line, args, nil
}

// imageVersion returns IMAGE_VERSION of an os-release file.
func imageVersion(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var version string
	s := bufio.NewScanner(f)
	for s.Scan() {
		if v, ok := strings.CutPrefix(s.Text(), "IMAGE_VERSION="); ok {
			version = strings.Trim(v, `"'`)
		}
	}
	return version, s.Err()
}
