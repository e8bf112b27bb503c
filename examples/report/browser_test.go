package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
)

// measured is what a browser says of a page in a frame of some width.
type measured struct {
	Width, ScrollWidth int
	Ground             string // colour behind the text
	Scripts            int
	Sheets             int // style sheets that count
}

// ruler is a page that measures another one, which has no script of its own, in frames of several
// widths.
const ruler = `<!DOCTYPE html><body><pre></pre><script>
const query = new URLSearchParams(location.search), frames = [];
for (const width of query.get("widths").split(",")) {
  const f = document.createElement("iframe");
  f.style = "border:0;height:800px;width:" + width + "px";
  f.src = query.get("page");
  document.body.append(f);
  frames.push(f);
}
onload = () => {
  document.querySelector("pre").textContent = JSON.stringify(frames.map(f => {
    const d = f.contentDocument, e = d.documentElement;
    return {Width: e.clientWidth, ScrollWidth: e.scrollWidth, Ground: d.defaultView.getComputedStyle(d.body).backgroundColor,
      Scripts: d.scripts.length, Sheets: d.styleSheets.length};
  }));
};
</script></body>`

// A browser shows pages of a directory.
type browser struct {
	t   *testing.T
	url string
}

const (
	darkScheme  = 0 // as Blink counts
	lightScheme = 1
)

// newBrowser serves a directory, and rulers for its pages.
func newBrowser(t *testing.T, dir string) *browser {
	t.Helper()
	if os.Getenv("OSMITH_LONG") != "1" {
		t.Skip("a browser takes a while: hack/test -long")
	}
	testtools.Require(t, "chromium")
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	mux.HandleFunc("/ruler", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, ruler) // a browser that has gone away is seen by the test
	})
	mux.HandleFunc("/favicon.ico", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return &browser{t, server.URL}
}

// run starts the browser, and returns what it printed and what the console of the page got.
func (b *browser) run(scheme int, page string, args ...string) (out string, console []string) {
	b.t.Helper()
	args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + b.t.TempDir(),
		fmt.Sprintf("--blink-settings=preferredColorScheme=%d", scheme)}, args...)
	out = testtools.Run(b.t, "chromium", append(args, b.url+page)...)
	for line := range strings.Lines(out) {
		if strings.Contains(line, ":CONSOLE") {
			console = append(console, line)
		}
	}
	return out, console
}

var answered = regexp.MustCompile(`<pre>(\[.*\])</pre>`)

// measure asks for the size of a page in frames of some widths.
func (b *browser) measure(scheme int, page, widths string) (m []measured, console []string) {
	b.t.Helper()
	out, console := b.run(scheme, fmt.Sprintf("/ruler?page=/%s&widths=%s", page, widths), "--window-size=1400,900", "--virtual-time-budget=5000", "--dump-dom")
	found := answered.FindStringSubmatch(out)
	require.NotNil(b.t, found, out)
	require.NoError(b.t, json.Unmarshal([]byte(html.UnescapeString(found[1])), &m))
	return m, console
}

// shoot takes a picture.
func (b *browser) shoot(scheme, width, height int, page string) image.Image {
	b.t.Helper()
	name := filepath.Join(b.t.TempDir(), "shot.png")
	_, console := b.run(scheme, "/"+page, fmt.Sprintf("--window-size=%d,%d", width, height), "--screenshot="+name)
	require.Empty(b.t, console)
	f, err := os.Open(name)
	require.NoError(b.t, err)
	defer f.Close()
	im, err := png.Decode(f)
	require.NoError(b.t, err)
	return im
}

// product makes two versions of some size, and the page about them.
func (b *kit) product() {
	b.t.Helper()
	pad := func(n int) []byte { return bytes.Repeat([]byte{0}, n) }
	b.parts.Linux = bytes.NewReader(append(petest.Kernel("6.18.2-acme"), pad(11<<20)...))
	b.parts.Initrd = osmith.Source(bytes.NewReader(append([]byte("initrd"), pad(18<<20)...)))
	profiles := []uki.Profile{{Profile: []byte("ID=factory-reset\nTITLE=Factory reset\n"), Cmdline: "quiet systemd.factory_reset=1"}}
	data := slices.Repeat([]byte("data of every version "), 1<<18)
	b.disk(b.build(recipe{version: "41.1", cmdline: "quiet", data: data, profiles: profiles}))
	b.build(recipe{version: "41.2", cmdline: "quiet lockdown=integrity", data: append([]byte("new "), data...), profiles: profiles, until: "2031-12-31", fixes: []string{"CVE-2026-1234", "CVE-2026-1301"}})
	b.token("state.json", &b.keys.PCR.PublicKey)
	status, _, stderr := b.call("@layout:41.1 @layout:41.2 -disk @disk.img -key @release.pub -vars @vars -pcr-key @pcr.pub -no-shim -token @state.json -date 2026-06-01 -o @page.html")
	require.Zero(b.t, status, stderr)
}

// TestDrawings keeps the drawings in docs as the programs draw them. OSMITH_UPDATE=1 writes them.
func TestDrawings(t *testing.T) {
	if testing.Short() {
		t.Skip("images of some size take a while")
	}
	k := newKit(t)
	k.product()
	c := &cli.Call{Context: t.Context()}
	defer c.Close()
	r, err := (&options{disk: k.path("disk.img"), arch: "amd64"}).gather(c, []string{k.path("layout:41.2")}, &machine{Machine: upgrade.Machine{Offline: true}, day: when})
	require.NoError(t, err)
	for name, svg := range map[string]string{"uki": r.Releases[0].UKI.drawing.SVG(), "upgrade": r.Disk.drawing.SVG()} {
		file := filepath.Join("..", "..", "docs", name+".svg")
		if os.Getenv("OSMITH_UPDATE") == "1" {
			require.NoError(t, os.WriteFile(file, []byte(svg), 0o644))
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, strings.ReplaceAll(string(text), "\r", ""), svg, "OSMITH_UPDATE=1 writes it")
	}
}

// TestBrowser looks at the page as people do: on a phone, on a screen, light and dark, and printed.
// OSMITH_UPDATE=1 writes the picture in docs.
func TestBrowser(t *testing.T) {
	k := newKit(t)
	b := newBrowser(t, k.dir)
	k.product()
	k.file("wide.html", `<!DOCTYPE html><body style="background:#fff"><div style="width:700px">wide</div><script>console.error("seen")</script>`)
	m, console := b.measure(lightScheme, "wide.html", "360") // what is wrong is seen
	require.Greater(t, m[0].ScrollWidth, m[0].Width)
	require.NotEmpty(t, console)

	grounds := map[string]bool{}
	for _, scheme := range []int{lightScheme, darkScheme} {
		found, console := b.measure(scheme, "page.html", "320,360,768,1280")
		require.Empty(t, console)
		require.Len(t, found, 4)
		for i, m := range found {
			require.Equal(t, []int{320, 360, 768, 1280}[i], m.Width)
			require.LessOrEqual(t, m.ScrollWidth, m.Width)
			require.Zero(t, m.Scripts)
			require.Equal(t, 1, m.Sheets)
			grounds[fmt.Sprint(scheme, m.Ground)] = true
		}
	}
	require.Equal(t, map[string]bool{"0rgb(13, 17, 23)": true, "1rgb(255, 255, 255)": true}, grounds)

	printed := k.path("page.pdf")
	_, console = b.run(darkScheme, "/page.html", "--print-to-pdf="+printed)
	require.Empty(t, console)
	pdf := k.read("page.pdf")
	require.True(t, strings.HasPrefix(pdf, "%PDF-"))
	pages := len(regexp.MustCompile(`/Type\s*/Page\b`).FindAllString(pdf, -1))
	require.True(t, pages > 2 && pages < 16, "%d pages", pages)

	picture := image.NewRGBA(image.Rect(0, 0, 1400, 1300))
	draw.Draw(picture, picture.Bounds(), image.NewUniform(color.RGBA{0xe9, 0xec, 0xef, 0xff}), image.Point{}, draw.Src)
	desktop, phone := b.shoot(lightScheme, 960, 1240, "page.html"), b.shoot(darkScheme, 360, 1240, "page.html")
	draw.Draw(picture, image.Rect(30, 30, 990, 1270), desktop, image.Point{}, draw.Src)
	draw.Draw(picture, image.Rect(1020, 30, 1380, 1270), phone, image.Point{}, draw.Src)
	var out bytes.Buffer
	require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, picture))
	require.Less(t, out.Len(), 300<<10)
	if os.Getenv("OSMITH_UPDATE") == "1" {
		require.NoError(t, os.WriteFile(filepath.Join("..", "..", "docs", "report.png"), out.Bytes(), 0o644))
	}
}
