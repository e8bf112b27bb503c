package grub

import (
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// command runs a simple command, which was measured.
func (r *runner) command(x statement, words []string) error {
	name, args := words[0], words[1:]
	if f, ok := r.functions[name]; ok {
		err := r.call(args, func() error { return r.inFile(r.file, f.body) })
		return err
	}
	if variable, value, ok := strings.Cut(name, "="); ok && isName(variable) && len(args) == 0 {
		r.variables[variable], r.status = value, 0
		return nil
	}
	r.status = 0
	switch name {
	case "true", "export", "echo", "sleep", "clear", "terminal_input", "terminal_output", "serial", "setparams":
		return nil
	case "insmod": // what is not built in may not be there, or not be allowed
		r.status = statusUnknown
		return nil
	case "false":
		r.status = 1
		return nil
	case "return":
		if len(args) > 0 {
			return r.unsupported("return with a value")
		}
		return errReturn
	case "set":
		return r.set(args)
	case "unset":
		for _, a := range args {
			delete(r.variables, a)
		}
		return nil
	case "[", "test":
		return r.test(name, args)
	case "search":
		return r.search(args)
	case "search.fs_uuid":
		if len(args) != 2 {
			return r.unsupported("search.fs_uuid: want a UUID and a variable name")
		}
		return r.find(args[0], args[1])
	case "source", ".", "configfile":
		return r.another(name, args)
	case "menuentry", "submenu":
		return r.entry(x, name, args)
	case "loadfont", "background_image":
		return r.absent(args)
	case "fwsetup":
		return r.setup(args)
	case "linux", "linuxefi":
		return r.linux(args)
	case "initrd", "initrdefi":
		return r.initrd(args)
	case "chainloader":
		return r.chainloader(args)
	case "boot":
		return r.start()
	}
	return r.unsupported("command %s is not modelled", name)
}

func (r *runner) set(args []string) error {
	if len(args) != 1 {
		return r.unsupported("set: want NAME=VALUE")
	}
	name, value, ok := strings.Cut(args[0], "=")
	if !ok || name == "" {
		return r.unsupported("set %s: want NAME=VALUE", args[0])
	}
	r.variables[name] = value
	return nil
}

// another runs a file: in the same menu, or as a configuration with its own.
func (r *runner) another(name string, args []string) error {
	if len(args) != 1 {
		return r.unsupported("%s: want one file", name)
	}
	if name == "configfile" {
		if r.calls++; r.calls > maxCalls {
			return r.unsupported("files and functions are nested deeper than %d levels", maxCalls)
		}
		defer func() { r.calls-- }()
		return r.config(args[0], 1)
	}
	s, err := r.load(args[0], 1)
	if err != nil {
		return err
	}
	return r.inFile(args[0], s)
}

func (r *runner) entry(x statement, name string, args []string) error {
	e := entry{body: x.body, submenu: name == "submenu", file: r.file}
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		option, value, joined := strings.Cut(a, "=")
		switch option {
		case "--class", "--users", "--hotkey", "--id":
			if !joined {
				if len(args) == 0 {
					return r.unsupported("%s: %s has no value", name, option)
				}
				value, args = args[0], args[1:]
			}
			if option == "--id" {
				e.id = value
			}
		case "--unrestricted":
		default:
			if strings.HasPrefix(a, "--") {
				return r.unsupported("%s: option %s is not modelled", name, a)
			}
			e.arguments = append(e.arguments, a)
		}
	}
	if len(e.arguments) == 0 {
		return r.unsupported("%s: no title", name)
	}
	e.title = e.arguments[0]
	r.entries = append(r.entries, e)
	return nil
}

// search finds the device of a file system by its UUID.
func (r *runner) search(args []string) error {
	variable, uuid, what := "root", "", ""
	for _, a := range args {
		option, value, joined := strings.Cut(a, "=")
		switch {
		case a == "--no-floppy", strings.HasPrefix(option, "--hint") && joined:
		case a == "--fs-uuid", a == "-u":
			what = "uuid"
		case option == "--set":
			if joined {
				variable = value
			}
		case strings.HasPrefix(a, "-") || uuid != "":
			return r.unsupported("search: %s is not modelled", a)
		default:
			uuid = a
		}
	}
	if what != "uuid" || uuid == "" {
		return r.unsupported("search: want --fs-uuid and a UUID")
	}
	return r.find(uuid, variable)
}

func (r *runner) find(uuid, variable string) error {
	device, ok := r.env.Devices[uuid]
	if !ok {
		return r.unsupported("the file system %s is not in Environment.Devices: GRUB would go on without it", uuid)
	}
	r.variables[variable] = device
	return nil
}

// absent is a command that reads a file for the screen: only what it does without that was seen.
func (r *runner) absent(args []string) error {
	if len(args) != 1 || !strings.ContainsAny(args[0], "/(") {
		return r.unsupported("want one file path")
	}
	_, exists, err := r.open(args[0])
	if err != nil {
		return err
	}
	if exists {
		return r.unsupported("file %s exists, and GRUB may measure its content when it is shown: not modelled", args[0])
	}
	r.status = 1
	return nil
}

func (r *runner) setup(args []string) error {
	if !slices.Equal(args, []string{"--is-supported"}) {
		return r.unsupported("fwsetup leaves GRUB: nothing after it is measured")
	}
	if r.env.FirmwareSetup == nil {
		return r.unsupported("whether firmware has a setup menu is unknown")
	}
	if !*r.env.FirmwareSetup {
		r.status = 1
	}
	return nil
}

// kernelCommandLine is the line that GRUB makes of arguments.
func kernelCommandLine(args []string) string {
	var out []string
	for _, a := range args {
		a = strings.NewReplacer(`\`, `\\`, `'`, `\'`, `"`, `\"`).Replace(a)
		if strings.Contains(a, " ") {
			a = `"` + a + `"`
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}

func (r *runner) linux(args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return r.unsupported("linux: want a file and then arguments")
	}
	if err := r.loadProgram(args[0]); err != nil {
		return err
	}
	r.boot.Kernel = args[0]
	line := kernelCommandLine(args)
	r.boot.LoadOptions = efi.AppendUTF16(nil, "BOOT_IMAGE="+line)
	if r.release.nul {
		r.boot.LoadOptions = append(r.boot.LoadOptions, 0, 0)
	}
	r.say("kernel_cmdline", line)
	return nil
}

// loadProgram reads the file of the program that is to be started.
func (r *runner) loadProgram(name string) error {
	if r.loaded {
		return r.unsupported("a second program is loaded: want one")
	}
	src, err := r.needed(name)
	if err != nil {
		return err
	}
	if err := r.read(name, src); err != nil {
		return err
	}
	r.loaded = true
	return nil
}

func (r *runner) initrd(args []string) error {
	if r.boot.Kernel == "" || len(r.boot.Initrds) > 0 || len(args) == 0 {
		return r.unsupported("initrd: want one initrd command after linux, with files")
	}
	var all []osmith.Source
	for _, name := range args {
		if strings.HasPrefix(name, "newc:") || strings.HasPrefix(name, "-") {
			return r.unsupported("initrd: %s is not modelled", name)
		}
		src, err := r.needed(name)
		if err != nil {
			return err
		}
		if err := r.read(name, src); err != nil {
			return err
		}
		all = append(all, src)
	}
	if last := all[len(all)-1]; r.release.whole && last.Size()%4 != 0 {
		return r.unsupported("initrd: the last file has %d bytes, and whether GRUB %s pads it to a multiple of four is unknown", last.Size(), r.release.version)
	}
	var err error
	r.boot.Initrds = args
	r.boot.Initrd, err = r.digests(all...)
	return err
}

func (r *runner) chainloader(args []string) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") || strings.HasPrefix(args[0], "+") {
		return r.unsupported("chainloader: want one file")
	}
	if err := r.loadProgram(args[0]); err != nil {
		return err
	}
	r.boot.Chainload = args[0]
	return nil
}

// test is [ and test.
func (r *runner) test(name string, args []string) error {
	if name == "[" {
		if len(args) == 0 || args[len(args)-1] != "]" {
			return r.unsupported("[ without ]")
		}
		args = args[:len(args)-1]
	}
	yes, err := r.either(args)
	if err != nil {
		return err
	}
	r.status = 1
	if yes {
		r.status = 0
	}
	return nil
}

// either is an expression with -o, which binds less than -a.
func (r *runner) either(args []string) (bool, error) {
	for _, operator := range []string{"-o", "-a"} {
		i := slices.Index(args, operator)
		if i < 0 {
			continue
		}
		left, err := r.either(args[:i])
		if err != nil {
			return false, err
		}
		right, err := r.either(args[i+1:])
		if err != nil {
			return false, err
		}
		return left && right || operator == "-o" && (left || right), nil
	}
	if len(args) > 0 && args[0] == "!" {
		yes, err := r.either(args[1:])
		return !yes, err
	}
	return r.single(args)
}

func (r *runner) single(args []string) (bool, error) {
	switch len(args) {
	case 0:
		return false, nil
	case 1:
		return args[0] != "", nil
	case 2:
		switch args[0] {
		case "-n":
			return args[1] != "", nil
		case "-z":
			return args[1] == "", nil
		case "-e", "-f", "-s":
			return r.exists(args[0], args[1])
		}
	case 3:
		switch args[1] {
		case "=", "==":
			return args[0] == args[2], nil
		case "!=":
			return args[0] != args[2], nil
		}
	}
	return false, r.unsupported("test %q is not modelled", strings.Join(args, " "))
}

// exists asks for a file. -s opens it, and what that measures is not known if it is there.
func (r *runner) exists(operator, name string) (bool, error) {
	_, exists, err := r.open(name)
	if err == nil && exists && operator == "-s" {
		err = r.unsupported("file %s exists, and whether -s measures it is unknown", name)
	}
	return exists, err
}
