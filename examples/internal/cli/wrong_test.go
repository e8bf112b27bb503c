package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// What is wrong comes last, behind what is like it and not behind everything.
func TestWrongFlag(t *testing.T) {
	p := Program{Name: "box", Verbs: []Verb{{Name: "open", Usage: "BOX", Example: "box open b", Most: 1, Flags: func(set *flag.FlagSet) func(*Call, []string) error {
		for _, name := range []string{"width", "widths", "height", "depth", "colour", "wide-open"} {
			set.Int(name, 0, "`number` of "+name)
		}
		return func(*Call, []string) error { return nil }
	}}, {Name: "close", Usage: "BOX", Example: "box close b"}, {Name: "lid", Usage: "BOX", Example: "box lid b"}}}
	for args, want := range map[string]struct {
		last  string
		shown []string
	}{
		"open -widht 3":     {"box: no flag -widht; box open -h lists all flags", []string{"width", "widths"}},
		"open --widht=3":    {"box: no flag -widht; box open -h lists all flags", []string{"width", "widths"}},
		"open -wid 3":       {"box: no flag -wid; box open -h lists all flags", []string{"width", "widths"}},
		"open -qqqqqqqqqqq": {"box: no flag -qqqqqqqqqqq; box open -h lists all flags", nil},
		"open -depth x":     {`box: invalid value "x" for flag -depth: parse error; box open -h lists all flags`, []string{"depth"}},
		"open -depth":       {"box: flag needs an argument: -depth; box open -h lists all flags", []string{"depth"}},
		"opne":              {`box: no verb "opne"; box -h lists all`, nil},
		"":                  {"box: no verb: want one of these", nil},
		"open a b":          {`box: unexpected argument "b"`, nil},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 2, p.Run(t.Context(), strings.Fields(args), &stdout, &stderr), args)
		require.Empty(t, stdout.String())
		lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
		require.Equal(t, want.last, lines[len(lines)-1], args)
		require.LessOrEqual(t, len(lines), 8)
		for _, name := range want.shown {
			require.Contains(t, stderr.String(), "  -"+name+" number\n", args)
		}
		if want.shown != nil {
			require.NotContains(t, stderr.String(), "  -colour", args)
		}
	}
}

func TestFoldErrors(t *testing.T) {
	type inner struct {
		Error string `json:"error"`
		Text  string `json:"text"`
	}
	b, err := json.Marshal(map[string]any{"error": "one\ntwo\n", "backupError": `a \n "b"` + "\nc", "text": "x\ny", "list": []inner{{"p\n\nq", "p\nq"}}, "problems": []string{"m\nn", "o"}, "z": 1})
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(foldErrors(b), &got), "%s", foldErrors(b))
	require.Equal(t, map[string]any{"error": "one; two", "backupError": `a \n "b"; c`, "text": "x\ny", "list": []any{map[string]any{"error": "p; q", "text": "p\nq"}},
		"problems": []any{"m; n", "o"}, "z": 1.0}, got)
}

// The end of work is shown when it is known to be one.
func TestEndOfProgress(t *testing.T) {
	run := func(ctx context.Context, do func(*Call) error) (int, string) {
		p := Program{Name: "box", Verbs: []Verb{{Usage: "", Example: "box", Do: func(c *Call, _ []string) error { return do(c) }}}}
		var stdout, stderr bytes.Buffer
		return p.Run(ctx, []string{"-progress", "json"}, &stdout, &stderr), stderr.String()
	}
	const end = `"done":8,"total":8`
	watched := func(err error) func(*Call) error {
		return func(c *Call) error {
			c.Watch(8, func() int64 { return 8 })()
			return err
		}
	}
	status, text := run(t.Context(), watched(nil))
	require.Zero(t, status)
	require.Contains(t, text, end)
	status, text = run(t.Context(), watched(errors.New("broken")))
	require.Equal(t, 2, status)
	require.NotContains(t, text, end)
	status, _ = run(t.Context(), watched(&osmith.FormatError{Err: errors.New("no box")}))
	require.Equal(t, 1, status, "not that format")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, do := range []func(*Call) error{
		watched(No{context.Canceled}),
		func(c *Call) error { c.Progress()(8, 8); return c.Err() },
		func(c *Call) error {
			c.Watch(8, func() int64 { return 8 })()
			return errors.Join(c.Answer(nil, ""), c.Err())
		},
	} {
		status, text = run(ctx, do)
		require.Equal(t, 2, status)
		require.Equal(t, "box: cancelled: context canceled\n", text)
	}
}
