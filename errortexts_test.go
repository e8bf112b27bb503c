package osmith_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An errorText is what a person reads of an error, a finding or a verdict, with its verbs and with
// an ellipsis for what is put in otherwise.
type errorText struct {
	file, text string
	line       int
}

// errorTexts returns the texts of all files, in the order of the source: of every call of
// errors.New, fmt.Errorf and functions that take a format as they do, of every Error method, and of
// the fields of error types and verdicts.
func errorTexts(t *testing.T) []errorText {
	t.Helper()
	files := slices.DeleteFunc(sourceFiles(t), func(f *sourceFile) bool {
		return testSupport.MatchString(f.name) || strings.HasPrefix(f.name, "e2e/")
	})
	formatters := map[string]int{} // directory and name of a function: which argument is the format
	constants := map[string]string{}
	for _, f := range files {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if at := formatArgument(d); at >= 0 {
					formatters[f.dir()+"."+d.Name.Name] = at
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok && d.Tok == token.CONST && len(v.Values) == 1 {
						if text, ok := spelled(v.Values[0], nil); ok {
							constants[f.dir()+"."+v.Names[0].Name] = text
						}
					}
				}
			}
		}
	}
	var all []errorText
	for _, f := range files {
		known := func(name string) string { return constants[f.dir()+"."+name] }
		start := len(all)
		add := func(e ast.Expr) {
			if text, ok := spelled(e, known); ok && regexp.MustCompile(`[a-z]`).MatchString(text) {
				all = append(all, errorText{f.name, text, f.fset.Position(e.Pos()).Line})
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv != nil && n.Name.Name == "Error" && n.Body != nil {
					ast.Inspect(n.Body, func(n ast.Node) bool {
						e, ok := n.(ast.Expr)
						if text, isText := spelled0(e, ok, known); isText {
							if strings.Contains(text, " ") {
								add(e)
							}
							return false
						}
						return true
					})
					return false
				}
			case *ast.CallExpr:
				name, at := "", -1
				switch fun := n.Fun.(type) {
				case *ast.SelectorExpr:
					name = fun.Sel.Name
					if x, ok := fun.X.(*ast.Ident); ok && (x.Name == "errors" && name == "New" || x.Name == "fmt" && name == "Errorf" || x.Name == "cli" && name == "Usagef") {
						at = 0
					}
				case *ast.Ident:
					name = fun.Name
				}
				if i, ok := formatters[f.dir()+"."+name]; ok {
					at = i
				}
				if at >= 0 && at < len(n.Args) {
					add(n.Args[at])
				}
			case *ast.CompositeLit:
				typ, _ := n.Type.(*ast.Ident)
				for _, e := range n.Elts {
					field := ""
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						key, _ := kv.Key.(*ast.Ident)
						if key != nil {
							field = key.Name
						}
						e = kv.Value
					}
					sentence := field == "Reason" || field == "Remedy" || field == "Why"
					if text, ok := spelled(e, known); ok && strings.Contains(text, " ") && (sentence || field == "" && typ != nil && strings.HasSuffix(typ.Name, "Error")) {
						add(e)
					}
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					s, ok := l.(*ast.SelectorExpr)
					if ok && len(n.Rhs) == len(n.Lhs) && (s.Sel.Name == "Reason" || s.Sel.Name == "Remedy" || s.Sel.Name == "Why") {
						if text, ok := spelled(n.Rhs[i], known); ok && strings.Contains(text, " ") {
							add(n.Rhs[i])
						}
					}
				}
			}
			return true
		})
		slices.SortStableFunc(all[start:], func(a, b errorText) int { return a.line - b.line })
	}
	return all
}

// formatArgument says which parameter of a function is the format of its last, variadic one; -1 if
// none is.
func formatArgument(f *ast.FuncDecl) int {
	var names []string
	variadic := false
	for _, p := range f.Type.Params.List {
		_, dots := p.Type.(*ast.Ellipsis)
		variadic = variadic || dots
		for _, n := range p.Names {
			names = append(names, n.Name)
		}
	}
	if at := slices.Index(names, "format"); variadic && at == len(names)-2 {
		return at
	}
	return -1
}

func spelled0(e ast.Expr, ok bool, known func(string) string) (string, bool) {
	if !ok {
		return "", false
	}
	return spelled(e, known)
}

// spelled returns the text of an expression that has a literal in it: of a literal, of a sum, and
// of what fmt.Sprintf puts together.
func spelled(e ast.Expr, known func(string) string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		if known != nil && known(e.Name) != "" {
			return known(e.Name), true
		}
	case *ast.ParenExpr:
		return spelled(e.X, known)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			x, ok := spelled(e.X, known)
			y, also := spelled(e.Y, known)
			if !ok {
				x = "…"
			}
			if !also {
				y = "…"
			}
			return x + y, ok || also
		}
	case *ast.CallExpr:
		if s, ok := e.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Sprintf" && len(e.Args) > 0 {
			return spelled(e.Args[0], known)
		}
	}
	return "", false
}

var (
	verb = regexp.MustCompile(`%[-+# 0-9.\[\]*]*[a-zA-Z]|…`)
	// What stands around the text of another error, and is read with it.
	around = regexp.MustCompile(`^([^:]+): %[wv]$`)
)

// errorList is the file in which all texts can be read through.
const errorList = "docs/errors.txt"

// TestErrorTexts compares the texts of the errors of all packages with docs/errors.txt, so that a
// new one is read by a reviewer, and keeps the rules for them.
func TestErrorTexts(t *testing.T) {
	all := errorTexts(t)
	require.Greater(t, len(all), 1500)
	report(t, brokenRules(all))

	var b strings.Builder
	b.WriteString("Every error text of the packages, for reading through. Made by errortexts_test.go (OSMITH_UPDATE=1 go test -run TestErrorTexts .).\n" +
		"A line is one text, as the source has it. Lines that begin with \"in:\" name what stands before the text of an error within.\n")
	// One package after the other; what is internal at the end.
	slices.SortStableFunc(all, func(a, b errorText) int {
		a.file, b.file = path.Dir(a.file), path.Dir(b.file)
		if in := strings.HasPrefix(a.file, "internal"); in != strings.HasPrefix(b.file, "internal") {
			return map[bool]int{false: -1, true: 1}[in]
		}
		return strings.Compare(a.file, b.file)
	})
	dir, file := "", ""
	said := map[string]bool{} // in a package
	var wraps []string
	flush := func() {
		if len(wraps) > 0 {
			fmt.Fprintf(&b, "in: %s\n", strings.Join(wraps, " · "))
		}
		wraps = nil
	}
	for _, e := range all {
		if strings.HasPrefix(e.file, "examples/") || said[path.Dir(e.file)+e.text] || !regexp.MustCompile(`[a-z]`).MatchString(verb.ReplaceAllString(e.text, "")) {
			continue
		}
		said[path.Dir(e.file)+e.text] = true
		if e.file != file {
			flush()
			if d := path.Dir(e.file); d != dir {
				fmt.Fprintf(&b, "\n%s\n%s\n", d, strings.Repeat("=", len(d)))
				dir = d
			}
			fmt.Fprintf(&b, "\n# %s\n", path.Base(e.file))
			file = e.file
		}
		if m := around.FindStringSubmatch(e.text); m != nil && len(strings.Fields(m[1])) <= 4 {
			wraps = append(wraps, m[1])
			continue
		}
		fmt.Fprintf(&b, "%s\n", strings.ReplaceAll(e.text, "\n", `\n`))
	}
	flush()
	if os.Getenv("OSMITH_UPDATE") == "1" {
		require.NoError(t, os.WriteFile(errorList, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(errorList)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String(), "the list differs: read the new texts, then OSMITH_UPDATE=1 go test -run TestErrorTexts .")
}

// errorRules are patterns that no error text has, each with what is to be done instead.
var errorRules = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`\b(nobody|anybody|somebody|whoever)\b`), "name the program or person"},
	{regexp.MustCompile(`\b(is|are) another\b|\banother one\b`), "say that something changed, or which of two is meant"},
	{regexp.MustCompile(`\b(stands?|is|are|comes?) (there )?twice\b`), "something is \"listed twice\", \"given twice\" or \"set twice\""},
	{regexp.MustCompile(`\bstands? (there|in|on|before|behind)\b`), "use \"is in\", \"comes before\", \"comes after\""},
	{regexp.MustCompile(`useless`), "name the consequence"},
	{regexp.MustCompile(`\b[Ii]t cannot be (told|said)\b|\b[Ii]t is not known (what|which|whether|if|that)\b`), "make what is unknown the subject: \"whether X is unknown\""},
	{regexp.MustCompile(`^(\w+: )?(it|they|he|she|those|these) (is|are|was|were|has|have|had|does|do|ends|begins|carries|names)\b`), "name the subject in place of the pronoun"},
	{regexp.MustCompile(`\b(is|are) no (file|directory|number|assignment|section|specifier|absolute|regular|UTF-\d+|multiple|JSON|PEM|device|verity|label|block)\b`), "write \"is not a\""},
	{regexp.MustCompile(`\b(not|cannot)\b[^:;,()]*\b(nothing|nobody|never)\b`), "say it without the second negation"},
	{regexp.MustCompile(`\b(none|nothing|no one) [^:;,()]*\bnot\b`), "say it without the second negation"},
	{regexp.MustCompile(`\bput(s)? right\b`), "\"repair\""},
	{regexp.MustCompile(`[^.][.!?] *$`), "no punctuation at the end"},
	{regexp.MustCompile(`^(\w+): (\w+): `), ""}, // compared below: a prefix that is there once more
}

// capital is a word that begins an error text as a sentence begins.
var capital = regexp.MustCompile(`^(\w+: )?(A|An|The|No|Not|This|It|Cannot|Could|Failed|Invalid|Unknown|Missing|Unable)\b`)

// brokenRules returns what is wrong with texts by their form alone.
func brokenRules(all []errorText) []string {
	var found []string
	for _, e := range all {
		if strings.HasPrefix(e.file, "examples/lifecycle/") {
			continue // its story is no error
		}
		at := fmt.Sprintf("%s:%d: %q", e.file, e.line, e.text)
		for _, r := range errorRules {
			if m := r.pattern.FindStringSubmatch(e.text); m != nil {
				switch {
				case r.why != "":
					found = append(found, at+": "+r.why)
				case m[1] == m[2]:
					found = append(found, at+": one prefix is enough")
				}
			}
		}
		if capital.MatchString(e.text) && !strings.HasPrefix(e.file, "examples/") {
			found = append(found, at+": begin with a small letter, or with a name")
		}
		if !strings.HasPrefix(e.file, "examples/") && strings.Contains(strings.TrimPrefix(e.text, "\n"), "\n") {
			found = append(found, at+": one line")
		}
	}
	return found
}
