package osmith_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A snippet is Go code in a document or a doc comment. What it takes from around itself it need not
// declare: an unknown variable has the type that its first use as an argument, in a field or in an
// assignment asks for. Where there is none, the snippet says "var plan *upgrade.Plan // from
// NewPlan". Unused variables are no mistake in a snippet.
type snippet struct {
	file string
	line int // of the first line of text
	text string
}

// goish tells code from commands, tables and files in the indented blocks of doc comments.
var goish = regexp.MustCompile(`(?m):= |^(func|type|import|package) |^\s*(err = |return )|\b[a-z]\w*\.[A-Z]\w*\(`)

// markdownSnippets has the blocks that are marked as Go.
func markdownSnippets(file string, text string) []snippet {
	var found []snippet
	in, fence := false, ""
	n := 0
	for line := range strings.Lines(text) {
		n++
		trimmed := strings.TrimSpace(line)
		switch {
		case in && trimmed == fence:
			in, fence = false, ""
		case in:
			found[len(found)-1].text += line
		case fence != "":
			if trimmed == fence {
				fence = ""
			}
		case strings.HasPrefix(trimmed, "```"):
			fence = "```"
			if trimmed == "```go" {
				in = true
				found = append(found, snippet{file: file, line: n + 1})
			}
		}
	}
	return found
}

// commentSnippets has the indented blocks of a file's comments that are Go.
func commentSnippets(f *sourceFile) []snippet {
	var found []snippet
	for _, group := range f.ast.Comments {
		var block *snippet
		flush := func() {
			if block != nil && goish.MatchString(block.text) {
				found = append(found, *block)
			}
			block = nil
		}
		for _, c := range group.List {
			text, indented := strings.CutPrefix(c.Text, "//\t")
			switch line := f.fset.Position(c.Pos()).Line; {
			case indented && block == nil:
				block = &snippet{f.name, line, text + "\n"}
			case indented:
				block.text += text + "\n"
			case c.Text == "//" && block != nil:
				block.text += "\n"
			default:
				flush()
			}
		}
		flush()
	}
	return found
}

// notMendedYet has the files whose code does not compile. It is empty when the house is built.
var notMendedYet = []string{}

// TestDocs compiles the code in the documents and in the doc comments of the public packages.
func TestDocs(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the go command about every package")
	}
	var all []snippet
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case !d.IsDir() && path.Ext(name) == ".md":
			b, err := os.ReadFile(name)
			all = append(all, markdownSnippets(filepath.ToSlash(name), string(b))...)
			return err
		}
		return nil
	})
	require.NoError(t, err)
	for _, f := range sourceFiles(t) {
		if f.ast.Name.Name != "main" && !strings.HasPrefix(f.name, "hack/") && !strings.Contains("/"+f.name, "/internal/") {
			all = append(all, commentSnippets(f)...)
		}
	}
	require.Greater(t, len(all), 12)
	c := newSnippetChecker(t)
	for _, s := range all {
		for _, problem := range c.check(s) {
			if !slices.Contains(notMendedYet, s.file) {
				t.Error(problem)
			}
		}
	}
}

type snippetChecker struct {
	imports types.Importer
	paths   map[string]string // of packages, by their name
}

// newSnippetChecker knows the public packages of all modules, the standard library and what the
// snippets use of others.
func newSnippetChecker(t *testing.T) *snippetChecker {
	t.Helper()
	std, err := exec.Command("go", "list", "std").Output()
	require.NoError(t, err)
	patterns := []string{"./...", module + "/signing/cosign/keyless", module + "/upgrade/release/registry"}
	c := &snippetChecker{paths: map[string]string{}}
	for _, p := range strings.Fields(string(std)) {
		name := path.Base(p)
		if strings.Contains(p, "internal") || strings.HasPrefix(p, "vendor/") || name == "v2" {
			continue
		}
		patterns = append(patterns, p)
		// Where two have the same name, the snippets mean these.
		if c.paths[name] == "" || slices.Contains([]string{"crypto/rand", "crypto/ecdsa", "testing", "text/template"}, p) {
			c.paths[name] = p
		}
	}
	imp, matching := exportData(t, patterns...)
	c.imports = imp
	for _, p := range matching {
		if strings.HasPrefix(p, module) && !strings.Contains(p, "/examples") && !strings.Contains(p, "/e2e") && !strings.Contains(p, "/hack") {
			c.paths[path.Base(p)] = p
		}
	}
	return c
}

// maxInputs bounds the variables that a snippet may leave undeclared.
const maxInputs = 40

// check compiles a snippet and returns what is wrong, by file and line.
func (c *snippetChecker) check(s snippet) []string {
	inputs := map[string]string{} // types of undeclared variables
	imported := map[string]string{}
	for {
		fset := token.NewFileSet()
		src := s.wrap(inputs, imported)
		file, err := parser.ParseFile(fset, "", src, parser.SkipObjectResolution)
		if err != nil {
			return []string{fmt.Sprintf("%s:%d: %v", s.file, s.line, err)}
		}
		var problems []string
		unknown := map[string]bool{}
		info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
		conf := types.Config{Importer: c.imports, Error: func(err error) {
			e := err.(types.Error)
			if name, undefined := strings.CutPrefix(e.Msg, "undefined: "); undefined && !strings.Contains(name, ".") {
				unknown[name] = true
			}
			if !strings.HasPrefix(e.Msg, "declared and not used") && !strings.HasPrefix(e.Msg, "missing return") {
				at := fset.Position(e.Pos)
				problems = append(problems, fmt.Sprintf("%s:%d: %s", at.Filename, at.Line, e.Msg))
			}
		}}
		// its error is among the problems
		pkg, _ := conf.Check("snippet", fset, []*ast.File{file}, info)
		if len(problems) == 0 {
			return nil
		}
		more := false
		for name := range unknown {
			if p := c.paths[name]; p != "" && imported[p] == "" && selects(file, name) {
				imported[p] = name
				more = true
			} else if typ := c.wanted(file, info, pkg, name, imported); typ != "" && inputs[name] == "" {
				inputs[name] = typ
				more = true
			}
		}
		if !more || len(inputs) > maxInputs {
			return problems
		}
	}
}

// wrap makes a file of a snippet, whose lines keep their numbers.
func (s snippet) wrap(inputs, imported map[string]string) string {
	var b strings.Builder
	line := fmt.Sprintf("//line %s:%d\n", s.file, s.line)
	if strings.HasPrefix(s.text, "package ") || strings.Contains(s.text, "\npackage ") {
		return line + s.text
	}
	b.WriteString("package snippet\n")
	for p, name := range imported {
		fmt.Fprintf(&b, "import %s %q\n", name, p)
	}
	for name, typ := range inputs {
		fmt.Fprintf(&b, "var %s %s\n", name, typ)
	}
	if regexp.MustCompile(`^(func|type|import|//|var \w+ = )`).MatchString(s.text) {
		if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+s.text, 0); err == nil {
			return b.String() + line + s.text
		}
	}
	if e, err := parser.ParseExpr(s.text); err == nil {
		if _, ok := e.(*ast.FuncLit); ok {
			return b.String() + "var _ =\n" + line + s.text
		}
	}
	results := ""
	if m := regexp.MustCompile(`(?m)^\s*return (.*)$`).FindStringSubmatch(s.text); m != nil {
		returned, _, _ := strings.Cut(m[1], "//")
		results = "(" + strings.Repeat("any, ", strings.Count(returned, ",")) + "error)"
	}
	return b.String() + "func _() " + results + " {\n" + line + s.text + "\n}\n"
}

// selects reports whether something is selected from a name, as from a package: rand.Reader.
func selects(file *ast.File, name string) bool {
	found := false
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			id, ok := s.X.(*ast.Ident)
			found = found || ok && id.Name == name && s.Sel.IsExported()
		}
		return !found
	})
	return found
}

// wanted returns the type that the uses of an undeclared variable ask for, or "".
func (c *snippetChecker) wanted(file *ast.File, info *types.Info, pkg *types.Package, name string, imported map[string]string) string {
	is := func(e ast.Expr) bool {
		id, ok := e.(*ast.Ident)
		return ok && id.Name == name
	}
	var wants []types.Type
	text := ""
	take := func(e ast.Expr, want types.Type) {
		if want == nil || want == types.Typ[types.Invalid] {
			return
		}
		if is(e) {
			wants = append(wants, want)
		} else if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.AND && is(u.X) {
			if p, ok := want.Underlying().(*types.Pointer); ok {
				wants = append(wants, p.Elem())
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if is(n.Fun) && text == "" {
				text = "func(...any) any" // a function of the reader
			}
			tv := info.Types[n.Fun]
			if tv.IsType() && len(n.Args) == 1 {
				take(n.Args[0], tv.Type)
			}
			sig, ok := tv.Type.(*types.Signature)
			for i, arg := range n.Args {
				if !ok {
					break
				}
				params := sig.Params()
				switch {
				case sig.Variadic() && i >= params.Len()-1 && !n.Ellipsis.IsValid():
					take(arg, params.At(params.Len()-1).Type().(*types.Slice).Elem())
				case i < params.Len():
					take(arg, params.At(i).Type())
				}
			}
		case *ast.CompositeLit:
			tv, ok := info.Types[n]
			if !ok {
				break
			}
			for i, e := range n.Elts {
				kv, keyed := e.(*ast.KeyValueExpr)
				switch under := deref(tv.Type).Underlying().(type) {
				case *types.Struct:
					for j := range under.NumFields() {
						if keyed {
							if id, ok := kv.Key.(*ast.Ident); ok && id.Name == under.Field(j).Name() {
								take(kv.Value, under.Field(j).Type())
							}
						} else if i == j {
							take(e, under.Field(j).Type())
						}
					}
				case *types.Slice:
					take(e, under.Elem())
				case *types.Map:
					if keyed {
						take(kv.Key, under.Key())
						take(kv.Value, under.Elem())
					}
				}
			}
		case *ast.AssignStmt:
			for i, e := range n.Rhs {
				if len(n.Lhs) == len(n.Rhs) && n.Tok == token.ASSIGN {
					take(e, info.Types[n.Lhs[i]].Type)
					id, ok := n.Lhs[i].(*ast.Ident)
					if call, isCall := e.(*ast.CallExpr); ok && isCall && is(call.Fun) && id.Name == "err" {
						text = "func(...any) error"
					}
				}
			}
			for _, e := range n.Lhs {
				if n.Tok == token.ASSIGN && is(e) && name == "err" {
					text = "error"
				}
			}
		case *ast.ValueSpec:
			for _, e := range n.Values {
				if n.Type != nil {
					take(e, info.Types[n.Type].Type)
				}
			}
		case *ast.BinaryExpr:
			take(n.X, info.Types[n.Y].Type)
			take(n.Y, info.Types[n.X].Type)
		}
		return true
	})
	qualifier := func(p *types.Package) string {
		if p == pkg {
			return ""
		}
		if imported[p.Path()] == "" {
			imported[p.Path()] = "imported" + strconv.Itoa(len(imported))
		}
		return imported[p.Path()]
	}
	// A type of its own satisfies the interfaces; several interfaces are satisfied by one that has
	// them all.
	var interfaces []string
	for _, w := range wants {
		if basic, ok := w.(*types.Basic); ok && basic.Info()&types.IsUntyped != 0 {
			w = types.Default(w)
		}
		if !types.IsInterface(w) {
			return types.TypeString(w, qualifier)
		}
		if i := types.TypeString(w, qualifier); !slices.Contains(interfaces, i) {
			interfaces = append(interfaces, i)
		}
	}
	switch len(interfaces) {
	case 0:
		return text
	case 1:
		return interfaces[0]
	}
	return "interface{" + strings.Join(interfaces, ";") + "}"
}

func deref(t types.Type) types.Type {
	if p, ok := t.(*types.Pointer); ok {
		return p.Elem()
	}
	return t
}

func TestSnippets(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the go command about every package")
	}
	c := newSnippetChecker(t)
	for _, s := range []struct{ text, problem string }{
		{"g, err := osmith.ParseGUID(text)\nif err != nil {\n\treturn err\n}\nfmt.Println(g)", ""},
		{"f, err := os.Open(name)\nunused := 1\nerr = use(f, more)", ""},
		{"err = fmt.Errorf(format, b...)", ""},
		{"err = copyBoth(r)\nvar a io.ReaderAt = r\n_, err = io.Copy(w, r)", ""},
		{"g, err := osmith.ParseGUIDs(text)", "x.md:7: undefined: osmith.ParseGUIDs"},
		{"g, err := osmith.ParseGUID(text, text)", "x.md:7: too many arguments"},
		{"g, err := osmith.ParseGUID(7)", "x.md:7: cannot use 7"},
		{"ok := 1\nvar m osmith.Measurement\nm.Name = text", "x.md:9: m.Name undefined"},
		{"m := osmith.Measurement{Section: section, Digest: d}", "x.md:7: unknown field Digest"},
		{"plan.Apply()", "x.md:7: undefined: plan"},
		{"a := 1\n...", "x.md:7"},
		{"package x\n\nimport \"fmt\"\n\nfunc F() { fmt.Println() }", ""},
		{"func F() string { return strings.ToUpper(\"a\") }", ""},
	} {
		problems := c.check(snippet{"x.md", 7, s.text})
		if s.problem == "" {
			assert.Empty(t, problems, s.text)
		} else {
			assert.Contains(t, strings.Join(problems, "\n"), s.problem, s.text)
		}
	}
	assert.Equal(t, []snippet{{"x.md", 3, "a\n"}}, markdownSnippets("x.md", "text\n```go\na\n```\n```\nb\n```\n"))
}

// docs/live.md has the agent of examples/agent, which CI compiles and a virtual machine runs, and
// that is as short as it says.
func TestLiveAgent(t *testing.T) {
	text, err := os.ReadFile("docs/live.md")
	require.NoError(t, err)
	agent, err := os.ReadFile("examples/agent/main_linux.go")
	require.NoError(t, err)
	snippets := markdownSnippets("docs/live.md", string(text))
	require.Len(t, snippets, 1)
	require.Equal(t, string(agent), snippets[0].text)
	require.LessOrEqual(t, strings.Count(string(agent), "\n"), 80)
}
