package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// guestPackage is the program that is both /init and /sbin/init.
const guestPackage = "github.com/osmith-dev/osmith/e2e/guest"

// BuildGuest compiles the guest to file: static, for linux and an architecture in
// Go's words, the same bytes wherever the checkout lies.
func BuildGuest(ctx context.Context, file, goarch string) error {
	return buildProgram(ctx, file, goarch, guestPackage)
}

// buildProgram compiles a program for a guest as [BuildGuest] does the guest.
func buildProgram(ctx context.Context, file, goarch, program string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid=", "-o", file, program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOAMD64=v1", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("e2e: build %s: %w\n%s", program, err, out)
	}
	return nil
}
