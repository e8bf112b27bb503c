package firmwaregrid

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// An Answer is what a build of firmware did: it started an image, or took an update.
type Answer bool

// The answers.
const (
	Ran     Answer = true
	Refused Answer = false
)

func (a Answer) String() string {
	if a {
		return "ran"
	}
	return "refused"
}

// Builds are the builds of firmware that were asked, in the order of the columns of
// testdata/answers.txt and updates.txt.
var Builds = []string{"edk2-2026.08", "edk2-2022.11"}

//go:embed testdata/answers.txt
var recordedImages string

//go:embed testdata/updates.txt
var recordedUpdates string

//go:embed testdata/shim.txt
var recordedShim string

// A record is a line: a question, and what was done.
type record struct {
	name, digest string
	answers      []Answer
}

// records reads lines of name, digest, and as many answers as there are columns.
func records(file, text string, columns int) (all []record, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2+columns {
			return nil, fmt.Errorf("%s: %q has %d columns, want %d", file, line, len(f), 2+columns)
		}
		r := record{name: f[0], digest: f[1]}
		for _, word := range f[2:] {
			if !slices.Contains([]string{"ran", "taken", "refused"}, word) {
				return nil, fmt.Errorf("%s: %q is not an answer", file, word)
			}
			r.answers = append(r.answers, word != "refused")
		}
		all = append(all, r)
	}
	return all, nil
}

// digests names the questions by their bytes.
func digests(cases []Case) map[string]string {
	out := map[string]string{}
	for _, c := range cases {
		out[c.Name] = c.Digest()
	}
	return out
}

// Answers are the recorded ones: of each build, by name. An answer to a question that has changed
// since is not there.
func (g *Grid) Answers() (map[string]map[string]Answer, error) {
	all, err := records("answers.txt", recordedImages, len(Builds))
	if err != nil {
		return nil, err
	}
	out, now := map[string]map[string]Answer{}, digests(g.Cases)
	for i, b := range Builds {
		out[b] = map[string]Answer{}
		for _, r := range all {
			if now[r.name] == r.digest {
				out[b][r.name] = r.answers[i]
			}
		}
	}
	return out, nil
}

// Answers are the recorded ones, of each build in the order of the writes. They end at the first
// write that has changed since.
func (u *Updates) Answers() (map[string][]Answer, error) {
	all, err := records("updates.txt", recordedUpdates, len(Builds))
	if err != nil {
		return nil, err
	}
	out := map[string][]Answer{}
	for i, r := range all {
		if i == len(u.Writes) || r.digest != u.Digest(i) {
			break
		}
		for k, b := range Builds {
			out[b] = append(out[b], r.answers[k])
		}
	}
	return out, nil
}

// Answers are the recorded ones, by name. There are none if the variables have changed since, nor
// one about an image that has: the first line names the variables.
func (g *ShimGrid) Answers() (map[string]Answer, error) {
	first, text, _ := strings.Cut(recordedShim, "\n")
	if first != "state "+g.State() {
		return nil, nil
	}
	all, err := records("shim.txt", text, 1)
	if err != nil {
		return nil, err
	}
	out, now := map[string]Answer{}, digests(g.Cases)
	for _, r := range all {
		if now[r.name] == r.digest {
			out[r.name] = r.answers[0]
		}
	}
	return out, nil
}
