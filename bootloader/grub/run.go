package grub

import (
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// Environment is the environment in which GRUB runs.
type Environment struct {
	Version string // of GRUB, one of [Versions]; [Version] reads it

	// Config is the configuration in GRUB's prefix, by GRUB's name:
	// "(hd0,gpt1)/EFI/debian/grub.cfg".
	Config string

	// Open opens a file by its whole name, "(hd0,gpt1)/vmlinuz". If the file does not exist, it
	// returns an [fs.ErrNotExist].
	Open func(name string) (osmith.Source, error)

	// Devices are the devices of file systems by their UUIDs, as GRUB writes those: "B007-1AB0" is
	// "hd0,gpt1". A search for any other UUID finds nothing.
	Devices map[string]string

	// Variables are those that the machine or its build of GRUB sets besides the usual ones:
	// "lockdown", "cmdpath". They override the usual ones. A command that reads a variable which
	// GRUB sets, but which is not given here, is an [*UnsupportedError].
	Variables map[string]string

	// FirmwareSetup says whether firmware can be asked to start its setup menu at the next boot:
	// `fwsetup --is-supported`. Nil: unknown.
	FirmwareSetup *bool

	// Entry is the menu entry that is booted, by its number, title or id. "": the entry in the
	// variable default.
	Entry string
}

// A Boot is what GRUB does up to the start of a kernel or EFI program.
type Boot struct {
	// before the kernel or program is loaded, which shim or firmware measures into PCR 4
	Before []osmith.GRUBEvent
	After  []osmith.GRUBEvent // after the kernel or program is loaded

	Kernel    string // file that linux loaded, by the name given to GRUB; "" if none
	Chainload string // file that chainloader loaded; "" if none

	// command line that the kernel receives and measures: UTF-16LE; with GRUB 2.14 followed by a
	// NUL
	LoadOptions []byte
	Initrds     []string // in their order
	// digests of all initrds, each but the last padded to four bytes, as the kernel receives them;
	// nil without an initrd
	Initrd map[crypto.Hash][]byte
}

// Bounds of a run, far above those of real configurations.
const (
	maxSteps  = 100_000
	maxConfig = 4 << 20
	maxCalls  = 32
)

// usual are variables that GRUB sets on UEFI (grub_platform), and features that its scripts ask
// for.
var usual = map[string]string{
	"grub_platform": "efi", "feature_menuentry_id": "y", "feature_all_video_module": "y", "feature_timeout_style": "y",
	"feature_default_font_path": "y", "feature_platform_search_hint": "y", "feature_ntldr": "y", "feature_chainloader_bpb": "y", "feature_nativedisk_cmd": "y", "feature_200_final": "y",
}

// dependent are variables that GRUB sets to what is not known here.
var dependent = []string{"grub_cpu", "lockdown", "shim_lock", "check_signatures", "cmdpath", "package_version", "locale_dir", "pager", "debug", "gfxmode", "random", "superusers", "chosen"}

// Run follows a configuration. hashes are the banks that digests are for. An error that is not
// about a file is an [*UnsupportedError].
func Run(env Environment, hashes ...crypto.Hash) (*Boot, error) {
	device, dir, ok := splitName(path.Dir(env.Config))
	if !ok {
		return nil, fmt.Errorf("grub: configuration %q: want a name like (hd0,gpt1)/EFI/debian/grub.cfg", env.Config)
	}
	if len(hashes) == 0 || env.Open == nil {
		return nil, errors.New("grub: no hashes were given, or no function that opens files")
	}
	if err := pcrbank.CheckAll(hashes); err != nil {
		return nil, fmt.Errorf("grub: %w", err)
	}
	release, err := findRelease(env.Version)
	if err != nil {
		return nil, fmt.Errorf("grub: %w", err)
	}
	r := &runner{env: env, release: release, hashes: hashes, boot: &Boot{}, functions: map[string]statement{}, variables: maps.Clone(usual)}
	r.variables["root"], r.variables["prefix"] = device, "("+device+")"+dir
	maps.Copy(r.variables, env.Variables)
	err = r.config(env.Config, 2) // measured twice, for a reason that is not known
	var done *started
	switch {
	case errors.As(err, &done):
		return r.boot, nil
	case err != nil:
		return nil, err
	}
	return nil, r.unsupported("the configuration starts nothing: GRUB would wait for input")
}

// started ends a run: something was started.
type started struct{}

func (*started) Error() string { return "started" }

// errReturn ends a function, or a configuration file.
var errReturn = errors.New("return")

type runner struct {
	env       Environment
	release   release
	hashes    []crypto.Hash
	boot      *Boot
	functions map[string]statement
	variables map[string]string
	arguments []string // $0, $1 and so on
	entries   []entry
	status    int // of the last command: statusUnknown where it is not known
	file      string
	line      int
	steps     int
	calls     int
	loaded    bool
}

const statusUnknown = -1

type entry struct {
	title, id string
	arguments []string
	body      script
	submenu   bool
	file      string
}

func (r *runner) unsupported(format string, args ...any) error {
	return &UnsupportedError{File: r.file, Line: r.line, What: fmt.Sprintf(format, args...)}
}

// splitName takes "(hd0,gpt1)/a" apart.
func splitName(name string) (device, file string, ok bool) {
	rest, ok := strings.CutPrefix(name, "(")
	device, file, found := strings.Cut(rest, ")")
	return device, file, ok && found && device != "" && strings.HasPrefix(file, "/")
}

// whole is the whole name of a file: one without a device is on root.
func (r *runner) whole(name string) (string, error) {
	if _, _, ok := splitName(name); ok {
		return name, nil
	}
	if !strings.HasPrefix(name, "/") || r.variables["root"] == "" {
		return "", r.unsupported("file %q: want a path with a device, or an absolute path on the device that the variable root names", name)
	}
	return "(" + r.variables["root"] + ")" + name, nil
}

// open opens a file by the name that GRUB was given. ok is false if it does not exist.
func (r *runner) open(name string) (src osmith.Source, ok bool, err error) {
	all, err := r.whole(name)
	if err != nil {
		return nil, false, err
	}
	src, err = r.env.Open(all)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("grub: %s: %w", all, err)
	}
	return src, true, nil
}

// needed is open for a file that has to exist: without it the boot stops, or goes on in a way that
// depends on a person.
func (r *runner) needed(name string) (osmith.Source, error) {
	src, ok, err := r.open(name)
	if err == nil && !ok {
		err = r.unsupported("file %s does not exist: GRUB would stop", name)
	}
	return src, err
}

func (r *runner) add(e osmith.GRUBEvent) {
	if r.loaded {
		r.boot.After = append(r.boot.After, e)
	} else {
		r.boot.Before = append(r.boot.Before, e)
	}
}

// say measures a text into PCR 8.
func (r *runner) say(prefix, text string) {
	e := osmith.GRUBEvent{PCR: 8, Data: append([]byte(prefix+": "+text), 0), Digests: map[crypto.Hash][]byte{}}
	for _, h := range r.hashes {
		e.Digests[h] = pcrbank.Sum(h, []byte(text))
	}
	r.add(e)
}

// digests reads files, one behind the other, each but the last padded to a multiple of four bytes.
func (r *runner) digests(sources ...osmith.Source) (map[crypto.Hash][]byte, error) {
	all := map[crypto.Hash]hash.Hash{}
	var to []io.Writer
	for _, h := range r.hashes {
		all[h] = h.New()
		to = append(to, all[h])
	}
	w := io.MultiWriter(to...)
	for i, src := range sources {
		if _, err := io.Copy(w, io.NewSectionReader(src, 0, src.Size())); err != nil {
			return nil, fmt.Errorf("grub: %w", err)
		}
		if pad := (4 - src.Size()%4) % 4; i < len(sources)-1 && pad > 0 {
			w.Write(make([]byte, pad)) // a hash returns no error
		}
	}
	out := map[crypto.Hash][]byte{}
	for h, w := range all {
		out[h] = w.Sum(nil)
	}
	return out, nil
}

// read measures a file into PCR 9.
func (r *runner) read(name string, src osmith.Source) error {
	sums, err := r.digests(src)
	if err != nil {
		return err
	}
	r.add(osmith.GRUBEvent{PCR: 9, Data: append([]byte(name), 0), Digests: sums})
	return nil
}

// load reads and parses a configuration, measured so many times.
func (r *runner) load(name string, times int) (script, error) {
	src, err := r.needed(name)
	if err != nil {
		return nil, err
	}
	if src.Size() > maxConfig {
		return nil, r.unsupported("%s has %d bytes, more than %d", name, src.Size(), maxConfig)
	}
	text, err := io.ReadAll(io.NewSectionReader(src, 0, src.Size()))
	if err != nil {
		return nil, fmt.Errorf("grub: %s: %w", name, err)
	}
	for range times {
		if err := r.read(name, src); err != nil {
			return nil, err
		}
	}
	return parse(name, string(text))
}

// inFile runs a script of another file.
func (r *runner) inFile(name string, s script) error {
	if r.calls++; r.calls > maxCalls {
		return r.unsupported("files and functions are nested deeper than %d levels", maxCalls)
	}
	defer func(file string, line int) {
		r.file, r.line = file, line
		r.calls--
	}(r.file, r.line)
	r.file = name
	err := r.script(s)
	if errors.Is(err, errReturn) {
		return nil
	}
	return err
}

// config runs a configuration and, if it makes a menu, the entry of it that is booted.
func (r *runner) config(name string, times int) error {
	s, err := r.load(name, times)
	if err != nil {
		return err
	}
	outer := r.entries
	r.entries = nil
	r.variables["config_file"], r.variables["config_directory"] = name, path.Dir(name)
	if err := r.inFile(name, s); err != nil {
		return err
	}
	if len(r.entries) == 0 {
		r.entries = outer
		return nil
	}
	return r.menu()
}

// menu boots an entry.
func (r *runner) menu() error {
	want := r.env.Entry
	if want == "" {
		want = r.variables["default"]
	}
	if want == "" {
		want = "0"
	}
	i := slices.IndexFunc(r.entries, func(e entry) bool { return e.title == want || e.id == want && e.id != "" })
	if n, err := strconv.Atoi(want); err == nil {
		i = n
	}
	if i < 0 || i >= len(r.entries) {
		return r.unsupported("the menu has %d entries, but not %q", len(r.entries), want)
	}
	e := r.entries[i]
	if e.submenu {
		return r.unsupported("menu entry %q is a submenu", e.title)
	}
	r.say("grub_cmd", strings.Join(append([]string{"setparams"}, e.arguments...), " "))
	if err := r.call(e.arguments, func() error { return r.inFile(e.file, e.body) }); err != nil {
		return err
	}
	return r.start()
}

// start is the end: what was loaded runs.
func (r *runner) start() error {
	if r.boot.Kernel == "" && r.boot.Chainload == "" {
		return r.unsupported("boot: no program was loaded")
	}
	return &started{}
}

// call runs something with arguments of its own.
func (r *runner) call(arguments []string, run func() error) error {
	defer func(old []string) { r.arguments = old }(r.arguments)
	r.arguments = append([]string{""}, arguments...)
	return run()
}

func (r *runner) script(s script) error {
	for _, x := range s {
		if r.steps++; r.steps > maxSteps {
			return r.unsupported("more than %d commands", maxSteps)
		}
		r.line = x.line
		if err := r.statement(x); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) statement(x statement) error {
	switch x.kind {
	case function:
		r.functions[x.name] = x
		return nil
	case forIn:
		words, err := r.expand(x.words)
		if err != nil {
			return err
		}
		for _, w := range words {
			r.variables[x.name] = w
			if err := r.script(x.body); err != nil {
				return err
			}
		}
		return nil
	case ifElse:
		for _, b := range x.branches {
			if b.condition != nil {
				if err := r.script(b.condition); err != nil {
					return err
				}
				if r.status == statusUnknown {
					return r.unsupported("whether the command in the condition succeeds is unknown")
				}
			}
			if b.condition == nil || r.status == 0 {
				return r.script(b.body)
			}
		}
		r.status = 0
		return nil
	}
	words, err := r.expand(x.words)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return r.unsupported("the command is empty after its variables are expanded")
	}
	text := strings.Join(words, " ")
	if x.block != "" {
		text += " " + x.block
	}
	r.say("grub_cmd", text)
	return r.command(x, words)
}

// expand puts variables into words. Out of quotes an empty one leaves no word.
func (r *runner) expand(words []word) (out []string, err error) {
	for _, w := range words {
		text := ""
		for _, p := range w.parts {
			if !p.variable {
				text += p.text
				continue
			}
			value, err := r.value(p.text)
			if err != nil {
				return nil, err
			}
			if !p.quoted && strings.ContainsAny(value, " \t\n") {
				return nil, r.unsupported("$%s is %q, which splits into several words outside quotes", p.text, value)
			}
			text += value
		}
		if text != "" || w.quoted {
			out = append(out, text)
		}
	}
	return out, nil
}

func (r *runner) value(name string) (string, error) {
	if name == "?" {
		if r.status == statusUnknown {
			return "", r.unsupported("$? of a command whose result is unknown")
		}
		return strconv.Itoa(r.status), nil
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n > 0 && n < len(r.arguments) {
			return r.arguments[n], nil
		}
		return "", nil
	}
	value, ok := r.variables[name]
	if !ok && (slices.Contains(dependent, name) || strings.HasPrefix(name, "net_")) {
		return "", r.unsupported("the value that GRUB gives to $%s is unknown: set it in Environment.Variables", name)
	}
	return value, nil
}
