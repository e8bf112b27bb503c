package osmith_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// report fails a test for every finding.
func report(t *testing.T, found []string) {
	t.Helper()
	slices.Sort(found)
	for _, f := range slices.Compact(found) {
		t.Errorf("%s", f)
	}
}

// A sourceFile is a Go file of any module here that is not a test.
type sourceFile struct {
	name string // with slashes, from the root
	text []byte
	fset *token.FileSet
	ast  *ast.File
}

func (f *sourceFile) dir() string { return path.Dir(f.name) }

// testSupport has what only tests import, and what judges without sharing code with what it judges.
var testSupport = regexp.MustCompile(`^internal/(petest|faultio|swtpm|testtools|oracle|vfat)/|^hack/`)

// sourceFiles parses every Go file that is not a test, in all modules but the one of the tools.
func sourceFiles(t *testing.T) []*sourceFile {
	t.Helper()
	var all []*sourceFile
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		name = filepath.ToSlash(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || name == "hack/tools" || name != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f := &sourceFile{name: name, fset: token.NewFileSet()}
		if f.text, err = os.ReadFile(name); err != nil {
			return err
		}
		f.ast, err = parser.ParseFile(f.fset, name, f.text, parser.ParseComments)
		all = append(all, f)
		return err
	})
	require.NoError(t, err)
	require.Greater(t, len(all), 200)
	return all
}

// programFile is the name of an EFI program that depends on the architecture, or what it begins
// with.
var programFile = regexp.MustCompile(`(?i)^([a-z/\\]*[/\\])?(boot|systemd-boot|linux|addon)(x64|ia32|aa64|arm|riscv64|loongarch64)\.efi(\.stub)?$|^\.efi\.stub$`)

var sectionNames = []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".pcrsig"}

// TestOnePlace finds a second place for what must have one: types that pass between packages, and
// facts about systemd.
func TestOnePlace(t *testing.T) {
	places := map[string][]string{} // of a fact, where it is
	for _, f := range sourceFiles(t) {
		if testSupport.MatchString(f.name) {
			continue
		}
		add := func(fact, detail string) {
			places[fact] = append(places[fact], f.dir()+": "+detail)
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				if n.Name.Name == "Source" || n.Name.Name == "FormatError" {
					add("type "+n.Name.Name, "type "+n.Name.Name)
				}
			case *ast.FuncDecl:
				if regexp.MustCompile(`(?i)^mangle`).MatchString(n.Name.Name) {
					add("mangle", "func "+n.Name.Name)
				}
				if regexp.MustCompile(`(?i)(release|version)(number)?$`).MatchString(n.Name.Name) && calls(n, "strconv") {
					add("parser of release numbers", "func "+n.Name.Name)
				}
			case *ast.CompositeLit:
				if names := literals(n); len(names) >= 5 {
					add("table of sections", fmt.Sprintf("%d names in one literal", len(names)))
					return false
				}
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && programFile.MatchString(s) {
					add("file names by architecture", s)
				}
				if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && reads(f.ast, n) &&
					regexp.MustCompile(`^(rd\.)?(root|usr)hash=?$`).MatchString(s) {
					add("parser of roothash=", "reads "+s)
				}
			}
			return true
		})
	}
	home := map[string]string{"type Source": ".", "type FormatError": ".", "mangle": "internal/sdstub", "parser of release numbers": ".",
		"table of sections": "internal/sdstub", "parser of roothash=": "verity/dm", "file names by architecture": "internal/arch"}
	var found []string
	for fact, dir := range home {
		at := 0
		for _, p := range places[fact] {
			if strings.HasPrefix(p, dir+": ") {
				at++
			} else {
				found = append(found, fmt.Sprintf("%s is in %s, want it in %s only", fact, p, dir))
			}
		}
		if at == 0 || at > 1 && fact != "parser of roothash=" && fact != "mangle" && fact != "file names by architecture" {
			found = append(found, fmt.Sprintf("%s is in %s %d times, want 1", fact, dir, at))
		}
	}
	report(t, found)
}

// calls reports whether a function calls one of a package's functions.
func calls(f *ast.FuncDecl, pkg string) bool {
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			id, ok := s.X.(*ast.Ident)
			found = found || ok && id.Name == pkg
		}
		return !found
	})
	return found
}

// literals has the names of sections in a composite literal.
func literals(lit *ast.CompositeLit) []string {
	var names []string
	ast.Inspect(lit, func(n ast.Node) bool {
		if b, ok := n.(*ast.BasicLit); ok {
			if s, err := strconv.Unquote(b.Value); err == nil && slices.Contains(sectionNames, s) && !slices.Contains(names, s) {
				names = append(names, s)
			}
		}
		return true
	})
	return names
}

// reads reports whether a string is looked for, in a text or as a key, rather than written.
func reads(f *ast.File, lit *ast.BasicLit) bool {
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil || lit.Pos() < n.Pos() || lit.End() > n.End() {
			return false
		}
		switch n := n.(type) {
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok {
				id, ok := s.X.(*ast.Ident)
				found = found || ok && (id.Name == "strings" || id.Name == "bytes")
			}
		case *ast.CaseClause, *ast.IndexExpr, *ast.CompositeLit:
			found = true
		case *ast.BinaryExpr:
			found = found || n.Op == token.EQL || n.Op == token.NEQ
		}
		return true
	})
	return found
}

// TestNoInternalAliases finds exported names for types of internal packages, of which go doc shows
// nothing.
func TestNoInternalAliases(t *testing.T) {
	var found []string
	for _, f := range sourceFiles(t) {
		if strings.Contains("/"+f.dir()+"/", "/internal/") || f.ast.Name.Name == "main" {
			continue
		}
		internal := map[string]bool{}
		for _, i := range f.ast.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			require.NoError(t, err)
			if !strings.Contains(p, "/internal/") {
				continue
			}
			internal[path.Base(p)] = true
			if i.Name != nil {
				internal[i.Name.Name] = true
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.TypeSpec)
			if !ok || !s.Assign.IsValid() || !s.Name.IsExported() {
				return true
			}
			switch typ := s.Type.(type) {
			case *ast.SelectorExpr:
				if id, ok := typ.X.(*ast.Ident); ok && internal[id.Name] {
					found = append(found, fmt.Sprintf("%s: %s is an alias of the internal %s.%s", f.dir(), s.Name, id.Name, typ.Sel))
				}
			case *ast.Ident:
				found = append(found, fmt.Sprintf("%s: %s is a second name of %s", f.dir(), s.Name, typ.Name))
			}
			return true
		})
	}
	report(t, found)
}

// TestHandedOut asks of everything exported that its types are exported by a public package, so
// that go doc shows their methods.
func TestHandedOut(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the go command about every package")
	}
	imp, all := exportData(t, "./...", module+"/signing/cosign/keyless", module+"/upgrade/release/registry")
	var found []string
	packages := 0
	for _, p := range all {
		name, ours := strings.CutPrefix(p, module)
		name = strings.TrimPrefix(name, "/")
		if !ours || strings.Contains("/"+name+"/", "/internal/") || slices.ContainsFunc(composers, func(c string) bool { return strings.HasPrefix(name, c) }) {
			continue
		}
		pkg, err := imp.Import(p)
		require.NoError(t, err)
		packages++
		for _, id := range pkg.Scope().Names() {
			if obj := pkg.Scope().Lookup(id); obj.Exported() {
				found = append(found, hidden(obj)...)
			}
		}
	}
	require.Greater(t, packages, 15)
	report(t, found)
}

// hidden names the types of this project that an exported object mentions and that no public
// package exports.
func hidden(obj types.Object) []string {
	var found []string
	of := func(what string, typ types.Type) {
		for _, named := range mentioned(typ) {
			p := named.Pkg()
			if p == nil || !strings.HasPrefix(p.Path(), module) {
				continue
			}
			if strings.Contains(p.Path()+"/", "/internal/") || !named.Exported() {
				found = append(found, fmt.Sprintf("%s: %s has the type %s.%s, which go doc does not show", strings.TrimPrefix(obj.Pkg().Path(), module+"/"), what,
					strings.TrimPrefix(p.Path(), module+"/"), named.Name()))
			}
		}
	}
	name, isType := obj.(*types.TypeName)
	if !isType {
		of(obj.Name(), obj.Type())
		return found
	}
	if named, ok := obj.Type().(*types.Named); ok && !name.IsAlias() {
		for m := range named.Methods() {
			if m.Exported() {
				of(obj.Name()+"."+m.Name(), m.Type())
			}
		}
	}
	switch under := obj.Type().Underlying().(type) {
	case *types.Struct:
		for f := range under.Fields() {
			if f.Exported() || f.Embedded() {
				of(obj.Name()+"."+f.Name(), f.Type())
			}
		}
	default:
		of(obj.Name(), under)
	}
	return found
}

// mentioned has the names of the types that a type is made of, not looking behind a name.
func mentioned(typ types.Type) []*types.TypeName {
	switch typ := typ.(type) {
	case *types.Alias:
		return append([]*types.TypeName{typ.Obj()}, mentioned(typ.Rhs())...)
	case *types.Named:
		names := []*types.TypeName{typ.Obj()}
		for arg := range typ.TypeArgs().Types() {
			names = append(names, mentioned(arg)...)
		}
		return names
	case *types.Pointer:
		return mentioned(typ.Elem())
	case *types.Slice:
		return mentioned(typ.Elem())
	case *types.Array:
		return mentioned(typ.Elem())
	case *types.Chan:
		return mentioned(typ.Elem())
	case *types.Map:
		return append(mentioned(typ.Key()), mentioned(typ.Elem())...)
	case *types.Signature:
		var names []*types.TypeName
		for _, tuple := range []*types.Tuple{typ.Params(), typ.Results()} {
			for v := range tuple.Variables() {
				names = append(names, mentioned(v.Type())...)
			}
		}
		return names
	case *types.Struct:
		var names []*types.TypeName
		for f := range typ.Fields() {
			if f.Exported() || f.Embedded() {
				names = append(names, mentioned(f.Type())...)
			}
		}
		return names
	case *types.Interface:
		var names []*types.TypeName
		for m := range typ.Methods() {
			names = append(names, mentioned(m.Type())...)
		}
		return names
	}
	return nil
}

// exportData returns an importer for the packages that match and all that they need, and the paths
// of those that match.
func exportData(t *testing.T, patterns ...string) (types.Importer, []string) {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Export,DepOnly"}, patterns...)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("go list: %s", exit.Stderr)
	}
	require.NoError(t, err)
	files := map[string]string{}
	var matching []string
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Export string
			DepOnly            bool
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
		files[p.ImportPath] = p.Export
		if !p.DepOnly {
			matching = append(matching, p.ImportPath)
		}
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(p string) (io.ReadCloser, error) {
		if files[p] == "" {
			return nil, fmt.Errorf("no export data of %s", p)
		}
		return os.Open(files[p])
	}), matching
}

// TestSettings asks CONTRIBUTING.md for every environment variable of ours that a person may set.
func TestSettings(t *testing.T) {
	contributing, err := os.ReadFile("CONTRIBUTING.md")
	require.NoError(t, err)
	// from one script to the next
	between := []string{"OSMITH_STEP", "OSMITH_STEPS", "OSMITH_RECIPE"}
	seen := 0
	err = filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git"):
			return filepath.SkipDir
		case !d.Type().IsRegular() || path.Ext(name) != ".go" && path.Ext(name) != ".sh" && path.Ext(name) != "":
			return nil
		}
		b, err := os.ReadFile(name)
		for _, setting := range regexp.MustCompile(`\bOSMITH_[A-Z0-9_]+\b`).FindAllString(string(b), -1) {
			seen++
			if !slices.Contains(between, setting) && !strings.Contains(string(contributing), "`"+setting) {
				t.Errorf("%s: %s is not in CONTRIBUTING.md", filepath.ToSlash(name), setting)
			}
		}
		return err
	})
	require.NoError(t, err)
	require.Greater(t, seen, 20)
}
