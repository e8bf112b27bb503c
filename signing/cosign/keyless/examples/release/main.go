// This program demonstrates package keyless: it verifies releases as examples/release does, by policies that name identities, too.
//
//	release verify LAYOUT REF -policy P.json -trusted-root F [-without-log-entry] [-without-certificate-timestamps]
//	        [-repository NAME] [-at TIME] [-json]
//
// LAYOUT is an OCI image layout: a directory, a tar archive, or the http or https address of a directory that a web server serves.
// The trusted root is the file trusted_root.json of a Sigstore instance, such as the one "cosign trusted-root create" makes; it is
// never fetched. The two -without flags do without proofs that a private Sigstore cannot give. Identities of a policy ("osmith.policy/1") are as package cosign describes them.
//
// With -json one object is printed on stdout: "schema": "osmith.release-report/1", "verb", and what package releasecli calls a
// Verification.
//
// Exit status: 0 yes; 1 no: not verified; 2 usage or I/O.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/cosign/keyless"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `usage: release verify LAYOUT REF -policy P.json -trusted-root F [-repository NAME] [-at TIME] [-json]
example: release verify https://updates.example/acme 2 -policy policy.json -trusted-root trusted_root.json
`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] != "verify" {
		fmt.Fprint(stderr, usage)
		if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
			return 0
		}
		return 2
	}
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	trust := releasecli.AddTrust(flags)
	root := flags.String("trusted-root", "", "`file` trusted_root.json of the Sigstore instance")
	var o keyless.VerifierOptions
	flags.BoolVar(&o.WithoutLogEntry, "without-log-entry", false, "accept signatures that no transparency log has recorded")
	flags.BoolVar(&o.WithoutCertificateTimestamps, "without-certificate-timestamps", false, "accept certificates that no transparency log has recorded")
	asJSON := flags.Bool("json", false, "print one JSON object on stdout")
	operands, err := parse(flags, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2 // the flag package has said why
	}
	v, err := verify(ctx, operands, trust, *root, o)
	if v != nil {
		text := v.String()
		if *asJSON {
			b, e := json.Marshal(struct {
				Schema string `json:"schema"`
				Verb   string `json:"verb"`
				*releasecli.Verification
			}{releasecli.Schema, "verify", v})
			text, err = string(b)+"\n", errors.Join(err, e)
		}
		if err == nil || *asJSON {
			if _, e := io.WriteString(stdout, text); e != nil {
				fmt.Fprintf(stderr, "release: %v\n", e)
				return 2
			}
		}
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "release: %v\n", err)
	var misused releasecli.UsageError
	switch {
	case releasecli.IsRefusal(err):
		return 1
	case errors.As(err, &misused):
		fmt.Fprint(stderr, usage)
	}
	return 2
}

// parse lets flags follow operands, which package flag does not.
func parse(flags *flag.FlagSet, args []string) (operands []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if len(rest) == 0 {
			return operands, nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

// verify returns what is to be reported, with the error if it is a refusal.
func verify(ctx context.Context, operands []string, trust *releasecli.Trust, root string, o keyless.VerifierOptions) (*releasecli.Verification, error) {
	if len(operands) != 2 {
		return nil, releasecli.UsageError{Text: fmt.Sprintf("%d operands, want LAYOUT REF", len(operands))}
	}
	if root == "" {
		return nil, releasecli.UsageError{Text: "-trusted-root is missing"}
	}
	text, err := releasecli.ReadFile(root)
	if err != nil {
		return nil, err
	}
	identities, err := keyless.New(text, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	src, artifact, repository, closer, err := find(ctx, operands[0], operands[1])
	if err != nil {
		return nil, err
	}
	defer closer()
	policy, err := trust.Load(repository, identities)
	if err != nil {
		return nil, err
	}
	result, refused := cosign.Verify(ctx, src, artifact, policy)
	v, err := releasecli.NewVerification(artifact.Digest, result, refused)
	if err != nil {
		return nil, err
	}
	return v, refused
}

// find opens a layout and what it has under a name.
func find(ctx context.Context, name, ref string) (src cosign.ArtifactSource, d ocispec.Descriptor, repository string, closer func(), err error) {
	closer = func() {}
	if scheme, rest, ok := strings.Cut(name, "://"); ok && (scheme == "http" || scheme == "https") {
		web, err := weblayout.Open(name, weblayout.OpenOptions{Client: http.DefaultClient})
		if err != nil {
			return nil, d, "", nil, err
		}
		d, err = web.Resolve(ctx, ref)
		return web, d, strings.TrimSuffix(rest, "/"), closer, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, d, "", nil, err
	}
	var layout *cosign.Layout
	if info.IsDir() {
		layout, err = cosign.OpenLayout(os.DirFS(name))
	} else {
		f, openErr := os.Open(name)
		if openErr != nil {
			return nil, d, "", nil, openErr
		}
		closer = func() { _ = f.Close() } // it was only read
		layout, err = cosign.OpenTar(f, info.Size())
	}
	if err == nil {
		d, err = layout.Resolve(ref)
	}
	if err != nil {
		closer()
		return nil, d, "", nil, fmt.Errorf("%s: %w", name, err)
	}
	return layout, d, "", closer, nil
}
