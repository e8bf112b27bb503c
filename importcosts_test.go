package osmith_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// heavy are the packages of the standard library that people ask about before they import another:
// they are large, or let a library do what it should leave to its caller.
var heavy = []string{"net", "net/http", "os/exec", "plugin", "text/template"}

// TestImportCosts keeps the table in docs/imports.md. OSMITH_UPDATE=1 writes it.
func TestImportCosts(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the go command about every package")
	}
	t.Setenv("GOOS", "linux")
	t.Setenv("GOARCH", "amd64")
	t.Setenv("CGO_ENABLED", "0")
	var table strings.Builder
	table.WriteString("| package | osmith's, public | osmith's, internal | of others | modules of others | net, net/http, os/exec |\n|---|---|---|---|---|---|\n")
	for _, dir := range []string{".", "signing/cosign/keyless", "upgrade/release/registry"} {
		t.Run(dir, func(t *testing.T) { costsOf(t, dir, &table) })
	}
	const file = "docs/imports.md"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), "| package |")
	require.True(t, found, "%s has no table", file)
	end := strings.Index(rest, "\n\n")
	require.Positive(t, end, "%s: the table has no end", file)
	got := "| package |" + rest[:end+1]
	if os.Getenv("OSMITH_UPDATE") == "1" {
		require.NoError(t, os.WriteFile(file, []byte(before+table.String()+rest[end+1:]), 0o644))
		return
	}
	require.Equal(t, table.String(), got, "OSMITH_UPDATE=1 writes the table")
}

// costsOf writes the rows of the public packages of a module.
func costsOf(t *testing.T, dir string, table *strings.Builder) {
	t.Helper()
	packages := map[string]listed{}
	t.Chdir(dir)
	if dir != "." {
		t.Setenv("GOWORK", "off") // its own requirements alone
	}
	for _, p := range goList(t, "-deps", "./...") {
		packages[p.ImportPath] = p
	}
	out, err := exec.Command("go", "list", "./...").Output()
	require.NoError(t, err)
	for _, path := range strings.Fields(string(out)) {
		name := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
		if internal(name) || slices.ContainsFunc(composers, func(c string) bool { return strings.HasPrefix(name, c) }) {
			continue
		}
		public, private, others := 0, 0, 0
		modules, weights := map[string]bool{}, []string{}
		for _, dep := range packages[path].Deps {
			d := packages[dep]
			own, ours := strings.CutPrefix(dep, module)
			switch {
			case d.Standard:
				if slices.Contains(heavy, dep) {
					weights = append(weights, dep)
				}
			case ours && internal(strings.TrimPrefix(own, "/")):
				private++
			case ours:
				public++
			default:
				others++
				modules[d.Module.Path] = true
			}
		}
		names := make([]string, 0, len(modules))
		for m := range modules {
			names = append(names, m)
		}
		slices.Sort(names)
		slices.Sort(weights)
		list := strings.Join(names, ", ")
		if len(names) > 6 {
			list = fmt.Sprintf("%d: %s, …", len(names), strings.Join(names[:3], ", "))
		}
		label := name
		if label == "" {
			label = "(root)"
		}
		fmt.Fprintf(table, "| `%s` | %d | %d | %d | %s | %s |\n", label, public, private, others, list, strings.Join(weights, ", "))
	}
}
