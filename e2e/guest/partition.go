//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// settle is how long a partition may take to appear after its driver loaded.
const settle = 20 * time.Second

// findPartition waits for the partition with a PARTUUID and returns the name
// of its node in /dev.
func findPartition(id string) (string, error) {
	id = strings.ToLower(id)
	for deadline := time.Now().Add(settle); ; time.Sleep(50 * time.Millisecond) {
		files, err := filepath.Glob("/sys/class/block/*/uevent")
		if err != nil {
			return "", err
		}
		var seen []string
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				continue // the device went away
			}
			env := make(map[string]string)
			for _, l := range strings.Split(string(b), "\n") {
				key, value, _ := strings.Cut(l, "=")
				env[key] = value
			}
			if env["PARTUUID"] == "" {
				continue
			}
			if strings.ToLower(env["PARTUUID"]) == id {
				return env["DEVNAME"], nil
			}
			seen = append(seen, env["DEVNAME"]+"="+env["PARTUUID"])
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no partition has PARTUUID %s; there are %v", id, seen)
		}
	}
}
