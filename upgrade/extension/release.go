package extension

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/uki"
)

// Release is the extension-release file of an image: with which OS it goes (os-release(5),
// systemd-sysext(8)).
type Release struct {
	Kind         Kind
	ID           string // "_any": every OS
	VersionID    string
	Level        string // SYSEXT_LEVEL or CONFEXT_LEVEL
	Architecture string // as systemd names it, "x86-64"; "" and "_any": every one

	// Scope are the environments that it is for: "system", "initrd", "portable". Nil: not said,
	// which is "system" and "portable". Empty and not nil: none.
	Scope []string
}

// anything is the value that matches all.
const anything = "_any"

// maxRelease bounds an extension-release file.
const maxRelease = 64 << 10

// ParseRelease reads the text of an extension-release file, which is that of an os-release file.
// Keys that systemd does not match by are passed over.
func ParseRelease(kind Kind, text []byte) (r *Release, err error) {
	r, err = parseRelease(kind, text)
	return r, prefix.Error("extension", err)
}

func parseRelease(kind Kind, text []byte) (*Release, error) {
	if len(text) > maxRelease {
		return nil, &osmith.FormatError{Offset: maxRelease, Field: "extension-release", Err: fmt.Errorf("%d bytes, want at most %d", len(text), maxRelease)}
	}
	fields, err := uki.ParseOSRelease(text)
	if err != nil {
		return nil, prefix.Bare(err)
	}
	key := strings.ToUpper(string(kind))
	r := &Release{Kind: kind, ID: fields["ID"], VersionID: fields["VERSION_ID"], Level: fields[key+"_LEVEL"], Architecture: fields["ARCHITECTURE"]}
	if scope, ok := fields[key+"_SCOPE"]; ok {
		r.Scope = append([]string{}, strings.Fields(scope)...)
	}
	return r, nil
}

// ReadRelease reads the extension-release file of an extension from its file system. usr says that
// the file system is that of /usr itself.
func ReadRelease(fsys fs.FS, kind Kind, name string, usr bool) (r *Release, err error) {
	r, err = readRelease(fsys, kind, name, usr)
	return r, prefix.Error("extension", err)
}

// ReleasePath is where an extension's file system has the extension-release file, without a slash
// in front (systemd-sysext(8)). name is that of the extension, "tools"; usr says that the file
// system is that of /usr itself.
func ReleasePath(kind Kind, name string, usr bool) string {
	dir := "usr/lib"
	switch {
	case kind == KindConfext:
		dir = "etc"
	case usr:
		dir = "lib"
	}
	return path.Join(dir, "extension-release.d", "extension-release."+name)
}

func readRelease(fsys fs.FS, kind Kind, name string, usr bool) (*Release, error) {
	// systemd takes another name only where the file says so in an extended attribute, which a
	// signature of the image does not make more usual.
	file := ReleasePath(kind, name, usr)
	f, err := fsys.Open(file)
	if err != nil {
		return nil, fmt.Errorf("extension-release: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRelease+1))
	if err != nil {
		return nil, fmt.Errorf("extension-release: %s: %w", file, err)
	}
	return parseRelease(kind, text)
}

// For reports whether the extension is for an environment: "system", "initrd" or "portable".
func (r *Release) For(scope string) bool {
	if r.Scope == nil {
		return scope == "system" || scope == "portable"
	}
	return slices.Contains(r.Scope, scope)
}

// MismatchError says that an extension does not go with an OS: systemd passes it over.
type MismatchError struct {
	// "ID", "VERSION_ID", "SYSEXT_LEVEL", "CONFEXT_LEVEL", "ARCHITECTURE", or what else differs
	Field     string
	Want, Got string // of the OS and of the extension; empty: not said
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the extension is not for this OS: %s: want %s, got %s", e.Field, said(e.Want), said(e.Got))
}

func said(s string) string {
	if s == "" {
		return "none"
	}
	return fmt.Sprintf("%q", s)
}

// Matches asks whether the extension goes with an OS by the rules of systemd-sysext 262, which was
// tried: the architecture, ID (or the extension's is in the OS's ID_LIKE), then the level if both
// say one, else VERSION_ID, which an OS without one does not ask for. What is not said and asked
// for does not match. The error is a [*MismatchError].
func (r *Release) Matches(os OS) error { return prefix.Error("extension", r.matches(os)) }

func (r *Release) matches(os OS) error {
	if r.Architecture != "" && r.Architecture != anything {
		name := ""
		if a, ok := arch.ByGo(os.Architecture); ok {
			name = a.Name
		}
		if r.Architecture != name {
			return &MismatchError{"ARCHITECTURE", name, r.Architecture}
		}
	}
	id := os.Release["ID"]
	switch {
	case r.ID == anything:
		return nil
	case id == "" || r.ID != id && !slices.Contains(strings.Fields(os.Release["ID_LIKE"]), r.ID):
		return &MismatchError{"ID", id, r.ID}
	}
	key := strings.ToUpper(string(r.Kind)) + "_LEVEL"
	level, version := os.Release[key], os.Release["VERSION_ID"]
	switch {
	case level != "" && r.Level != "":
		if level != r.Level {
			return &MismatchError{key, level, r.Level}
		}
	case version != "" && r.VersionID != version:
		return &MismatchError{"VERSION_ID", version, r.VersionID}
	}
	return nil
}
