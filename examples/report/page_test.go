package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/uki"
)

// A document is a page as a strict reader of XML sees it: every element is closed, every attribute
// quoted, and nothing is left open by what a stranger wrote.
type document struct {
	source   string
	elements []xml.StartElement
	text     string // of the body
	headings []string
}

func parse(t *testing.T, source string) *document {
	t.Helper()
	require.True(t, strings.HasPrefix(source, "<!DOCTYPE html>\n"), source[:min(len(source), 200)])
	d := xml.NewDecoder(strings.NewReader(source))
	d.Entity = xml.HTMLEntity
	doc := &document{source: source}
	var path []string
	var text strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch x := token.(type) {
		case xml.StartElement:
			doc.elements = append(doc.elements, x.Copy())
			if path = append(path, x.Name.Local); regexp.MustCompile(`^h[1-6]$`).MatchString(x.Name.Local) {
				doc.headings = append(doc.headings, x.Name.Local)
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			if len(path) > 1 && path[1] == "body" {
				text.Write(x)
				text.WriteByte(' ')
			}
		}
	}
	doc.text = strings.Join(strings.Fields(text.String()), " ")
	doc.harmless(t)
	return doc
}

// attribute is a value; "" if the element has none of that name.
func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// harmless holds whatever a page shows: nothing runs, nothing is loaded, nothing leads elsewhere,
// and the only style sheet is the one that the policy names.
func (d *document) harmless(t *testing.T) {
	t.Helper()
	known := map[string]bool{}
	for _, name := range strings.Fields("html head meta title style body header footer main section h1 h2 h3 h4 p ul ol li dl dt dd div span strong code a table thead tbody tr th td svg desc rect text line") {
		known[name] = true
	}
	ids := map[string]bool{}
	for _, e := range d.elements {
		require.True(t, known[e.Name.Local], "<%s>", e.Name.Local)
		if id := attribute(e, "id"); id != "" {
			require.False(t, ids[id], "%s is there twice", id)
			ids[id] = true
		}
	}
	policy, style := "", ""
	for _, e := range d.elements {
		for _, a := range e.Attr {
			require.False(t, strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "style" || a.Name.Local == "src", "%v", e)
			if a.Name.Local == "href" {
				require.True(t, strings.HasPrefix(a.Value, "#") && ids[a.Value[1:]], "%v", e)
			}
			if a.Name.Local == "http-equiv" {
				require.Equal(t, "Content-Security-Policy", a.Value)
				policy = attribute(e, "content")
			}
		}
	}
	require.Equal(t, 1, strings.Count(d.source, "<style>"))
	_, rest, _ := strings.Cut(d.source, "<style>")
	style, _, _ = strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	require.Equal(t, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; base-uri 'none'; form-action 'none'", policy)
	require.NotRegexp(t, `url\(|@import|expression`, style)
	for _, want := range []string{"@media print", "prefers-color-scheme:dark", "max-width:40rem", ".dg"} {
		require.Contains(t, style, want)
	}
}

// TestPage is about the form of the page.
func TestPage(t *testing.T) {
	b := newKit(t)
	b.two()
	d := b.page(0, whole)
	var roles []string
	cells := map[string]int{}
	for _, e := range d.elements {
		switch e.Name.Local {
		case "html":
			require.Equal(t, "en", attribute(e, "lang"))
		case "th":
			cells[attribute(e, "scope")]++
		case "svg":
			require.Equal(t, "img", attribute(e, "role"))
			roles = append(roles, "svg")
		case "div":
			if attribute(e, "class") == "figure" { // which scrolls, and so must be reached by keys
				require.Equal(t, "0", attribute(e, "tabindex"))
				require.NotEmpty(t, attribute(e, "aria-label"))
			}
		case "meta":
			if attribute(e, "name") == "viewport" {
				require.Equal(t, "width=device-width, initial-scale=1", attribute(e, "content"))
				roles = append(roles, "viewport")
			}
		}
	}
	require.Equal(t, []string{"viewport", "svg", "svg", "svg"}, roles)
	require.Zero(t, cells[""])
	require.Greater(t, cells["row"], 40)
	require.Greater(t, cells["col"], 15)

	// Headings begin with the only h1, and none is skipped.
	require.Equal(t, "h1", d.headings[0])
	for i, h := range d.headings[1:] {
		require.NotEqual(t, "h1", h)
		require.LessOrEqual(t, h[1], d.headings[i][1]+1, "%v", d.headings)
	}
	for _, want := range []string{
		"Acme OS 1 → 2", "Replaceable ✓ yes", "Measurable ? unknown", "Rollback-safe ? unknown", "Missing the tokens: -token", "IMAGE_VERSION=2", "console=ttyS0",
		"PCR 4: the UKI", "CN=Acme OS Signature Database Key", "before: ", "measured into PCR 11", "add-entry", "acme.spdx.json SPDX 3", "acme.cdx.json CycloneDX 1",
		"EFI/Linux/acme_1.efi boots; slot B is incomplete and marked so", "Valid 2026-01-01 to ",
	} {
		require.Contains(t, d.text, want)
	}

	// The same call gives the same bytes.
	require.Equal(t, d.source, b.page(0, whole).source)
	status, stdout, _ := b.call(whole + " -o @page.html")
	require.Zero(t, status)
	require.Empty(t, stdout)
	require.Equal(t, d.source, b.read("page.html"))
}

// What a release says of itself is a stranger's text.
func TestHostileRelease(t *testing.T) {
	const nasty = `<script>alert(1)</script><img src=x onerror=alert(2)>"'&]]>--></style></svg>`
	b := newKit(t)
	b.build(recipe{version: "1", bare: true, cmdline: nasty + " javascript:alert(3) " + strings.Repeat("a", 900<<10) + " end",
		osRelease: "NAME='" + strings.ReplaceAll(nasty, "'", "") + "'\nID=acme\nIMAGE_ID=acme\nIMAGE_VERSION=1\nPRETTY_NAME=\"\u202ejavascript:alert(4)\"\n",
		profiles:  []uki.Profile{{Profile: []byte("ID=" + strings.ReplaceAll(nasty, "'", "") + "\nTITLE=\x1b[2J" + nasty + "\n"), Cmdline: nasty}}})
	b.build(recipe{version: "2", bare: true, cmdline: strings.Repeat(nasty+" ", 5000)})
	for _, call := range []string{"@layout:1", "@layout:2", "@layout:1 @layout:2", "@layout:2 @layout:1"} {
		d := b.page(1, call)
		require.Less(t, len(d.source), 400<<10, call)
		for _, bad := range []string{"<script", "<img", "\x1b"} {
			require.NotContains(t, d.source, bad)
		}
	}
	d := b.page(1, "@layout:1")
	require.Contains(t, d.text, "<script>alert(1)</script>")
	require.Regexp(t, `\(\d+ more bytes are not shown\)`, d.text)
	require.Less(t, strings.Count(d.text, "aaaaaaaaaa"), 1000)
}

func TestBounded(t *testing.T) {
	require.Equal(t, "abc", bounded("abc", 3))
	require.Equal(t, "ab… (2 more bytes are not shown)", bounded("abcd", 2))
	require.Equal(t, "a… (2 more bytes are not shown)", bounded("aé", 2)) // no half of a character
	require.Equal(t, "\ufffda\nb\ufffd\ufffd", bounded("\xffa\nb\x1b\u202e", 99))
	long := texts(make([]string, 1000))
	require.Len(t, long, maxList+1)
	require.Equal(t, "… and 744 more", long[maxList])
}
