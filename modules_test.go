package osmith_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// command runs a program in a directory, with more environment, and returns what it prints.
func command(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := try(dir, env, name, args...)
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return out
}

func try(dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// moduleDirs are the directories with a go.mod.
func moduleDirs(t *testing.T) (dirs []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.Name() == "go.mod":
			dirs = append(dirs, filepath.ToSlash(filepath.Dir(name)))
		}
		return nil
	}))
	return dirs
}

// TestWorkspace: go.work lists every module that has packages of ours, so that they are developed
// together.
func TestWorkspace(t *testing.T) {
	b, err := os.ReadFile("go.work")
	require.NoError(t, err)
	var used []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+)$`).FindAllStringSubmatch(string(b), -1) {
		used = append(used, path.Clean(m[1]))
	}
	require.ElementsMatch(t, slices.DeleteFunc(moduleDirs(t), func(dir string) bool { return dir == "hack/tools" }), used)
}

// block returns the lines of the first shell block below a heading of a document, without comments.
func block(t *testing.T, file, heading string) (lines []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(b), "\n"+heading+"\n")
	require.True(t, ok, "%s has no section %q", file, heading)
	_, section, ok = strings.Cut(section, "\n```sh\n")
	require.True(t, ok, "%s, %q: no commands", file, heading)
	section, _, _ = strings.Cut(section, "\n```")
	for line := range strings.Lines(section) {
		line, _, _ = strings.Cut(line, "#")
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// TestConsumers follows the release procedure of CONTRIBUTING.md in a copy of the checkout, serves
// what was pushed as a module proxy would, and follows each go get line of the README in a user's
// module.
func TestConsumers(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs with all that they link")
	}
	if runtime.GOOS == "windows" {
		t.Skip("hack/release is a shell script")
	}
	// one that no module cache has
	work, version := t.TempDir(), fmt.Sprintf("v0.0.%d", time.Now().UnixNano())
	checkout, origin, proxy := filepath.Join(work, "checkout"), filepath.Join(work, "origin"), filepath.Join(work, "proxy")
	copyCheckout(t, checkout)
	command(t, work, gitEnv(origin, ""), "git", "init", "-q", "--bare")
	git := gitEnv(filepath.Join(checkout, ".git"), checkout)
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-qm", "checkout"}, {"remote", "add", "origin", origin}} {
		command(t, checkout, git, "git", args...)
	}

	procedure := block(t, "CONTRIBUTING.md", "## A release")
	require.Equal(t, "hack/release v0.1.0", procedure[0])
	for _, line := range procedure {
		command(t, checkout, git, "sh", "-ec", strings.ReplaceAll(line, "v0.1.0", version))
	}
	for _, dir := range moduleDirs(t) {
		if dir != "hack/tools" && dir != "." {
			out, err := try(filepath.Join(checkout, dir), []string{"GOWORK=off", "GOFLAGS=-mod=readonly"}, "go", "list", "-m", "all")
			assert.NoError(t, err, "the checkout after a release: %s: %s", dir, out)
		}
	}

	published := publish(t, origin, proxy, version)
	require.Equal(t, []string{module, module + "/signing/cosign/keyless", module + "/upgrade/release/registry"}, slices.Sorted(maps.Keys(published)))
	cache := strings.TrimSpace(command(t, ".", nil, "go", "env", "GOMODCACHE"))
	t.Cleanup(func() { forget(t, cache, slices.Sorted(maps.Keys(published)), version) })

	gets := block(t, "README.md", "## Use it")
	require.Len(t, gets, len(published))
	for _, line := range gets {
		t.Run(path.Base(line), func(t *testing.T) {
			query, ok := strings.CutPrefix(line, "go get ")
			require.True(t, ok, line)
			name, ok := strings.CutSuffix(query, "@latest")
			require.True(t, ok, line)
			packages := published[name]
			require.NotEmpty(t, packages, "%s: no such module was pushed", name)
			consumer := t.TempDir()
			source := "package main\n\nimport (\n"
			for _, p := range packages {
				source += fmt.Sprintf("\t_ %q\n", p)
			}
			require.NoError(t, os.WriteFile(filepath.Join(consumer, "main.go"), []byte(source+")\n\nfunc main() {}\n"), 0o644))
			command(t, consumer, []string{"GOWORK=off"}, "go", "mod", "init", "consumer.example")
			// What the cache has is not asked for elsewhere.
			local := "file://" + filepath.ToSlash(proxy) + ",file://" + filepath.ToSlash(cache) + "/cache/download"
			env := []string{"GOWORK=off", "GOSUMDB=off", "GOFLAGS=-mod=mod -modcacherw -trimpath", "GOPROXY=" + local}
			if _, err := try(consumer, env, "go", "get", query); err != nil {
				env[3] += "," + strings.TrimSpace(command(t, ".", nil, "go", "env", "GOPROXY"))
				command(t, consumer, env, "go", "get", query)
			}
			command(t, consumer, env, "go", "build", "-o", filepath.Join(consumer, "program"), ".")
			list := command(t, consumer, env, "go", "list", "-m", "-f", "{{.Version}} {{.Replace}}", name, module)
			require.Equal(t, strings.Repeat(version+" <nil>\n", 2), list)
		})
	}
}

// gitEnv keeps git in one repository, whichever it would find from where it runs.
func gitEnv(repository, workTree string) []string {
	env := []string{"GIT_DIR=" + repository, "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_SYSTEM=" + os.DevNull,
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@osmith.example", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@osmith.example"}
	if workTree != "" {
		env = append(env, "GIT_WORK_TREE="+workTree)
	}
	return env
}

// copyCheckout copies what the go command and hack/release need of the files here.
func copyCheckout(t *testing.T, to string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || name == "out" || name != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case strings.HasPrefix(d.Name(), ".") && name != ".":
			// .git can be a file, which names the repository of this checkout
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), b, info.Mode().Perm())
	}))
}

// publish does what the module proxies do with the tags of a repository: it makes a directory that
// GOPROXY can name (https://go.dev/ref/mod#goproxy-protocol). It returns the packages of each
// module, by the module's path.
func publish(t *testing.T, origin, proxy, version string) map[string][]string {
	t.Helper()
	git := gitEnv(origin, "")
	published := map[string][]string{}
	tags := strings.Fields(command(t, origin, git, "git", "tag"))
	for _, tag := range tags {
		require.Equal(t, version, path.Base(tag))
		dir := path.Dir(tag)
		name := path.Join(module, dir)
		files := map[string][]byte{}
		var nested []string
		for r := tar.NewReader(strings.NewReader(command(t, origin, git, "git", "archive", tag+":"+strings.TrimPrefix(dir, ".")))); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			if h.Typeflag != tar.TypeReg {
				continue
			}
			files[h.Name], err = io.ReadAll(r)
			require.NoError(t, err)
			if path.Base(h.Name) == "go.mod" && h.Name != "go.mod" {
				nested = append(nested, path.Dir(h.Name)+"/")
			}
		}
		mod := string(files["go.mod"])
		require.Contains(t, mod, "module "+name+"\n")
		packages := map[string]bool{}
		var archive bytes.Buffer
		w := zip.NewWriter(&archive)
		for _, inside := range slices.Sorted(maps.Keys(files)) {
			if slices.ContainsFunc(nested, func(n string) bool { return strings.HasPrefix(inside, n) }) {
				continue
			}
			f, err := w.Create(name + "@" + version + "/" + inside)
			require.NoError(t, err)
			_, err = f.Write(files[inside])
			require.NoError(t, err)
			pkg := path.Dir(inside)
			public := !regexp.MustCompile(`(^|/)(internal|examples|e2e|hack)(/|$)`).MatchString(pkg)
			if public && path.Ext(inside) == ".go" && !strings.HasSuffix(inside, "_test.go") {
				packages[path.Join(name, pkg)] = true
			}
		}
		require.NoError(t, w.Close())
		to := filepath.Join(proxy, filepath.FromSlash(name), "@v")
		require.NoError(t, os.MkdirAll(to, 0o755))
		for file, content := range map[string]string{"list": version + "\n", version + ".info": fmt.Sprintf(`{"Version":%q}`, version),
			version + ".mod": mod, version + ".zip": archive.String()} {
			require.NoError(t, os.WriteFile(filepath.Join(to, file), []byte(content), 0o644))
		}
		published[name] = slices.Sorted(maps.Keys(packages))
	}
	return published
}

// forget removes a version of some modules from the module cache.
func forget(t *testing.T, cache string, modules []string, version string) {
	for _, name := range modules {
		assert.NoError(t, os.RemoveAll(filepath.Join(cache, filepath.FromSlash(name)+"@"+version)))
		found, err := filepath.Glob(filepath.Join(cache, "cache", "download", filepath.FromSlash(name), "@v", version+".*"))
		assert.NoError(t, err)
		for _, file := range found {
			assert.NoError(t, os.Remove(file))
		}
	}
}
