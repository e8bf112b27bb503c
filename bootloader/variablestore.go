package bootloader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Attributes of variables (UEFI Specification 2.10, section 8.2.1).
const (
	VariableNonVolatile uint32 = 1 // kept when the machine is off
	VariableBootService uint32 = 2 // for programs that firmware starts
	VariableRuntime     uint32 = 4 // for the operating system, too; requires VariableBootService

	// VariableKept are the attributes of a variable that an operating system writes for the next
	// start.
	VariableKept = VariableNonVolatile | VariableBootService | VariableRuntime
)

// EFIVariable is a variable of firmware.
type EFIVariable struct {
	Name       string // "BootOrder"
	Vendor     osmith.GUID
	Attributes uint32
	Data       []byte
}

func (v EFIVariable) equal(w EFIVariable) bool {
	return v.Name == w.Name && v.Vendor == w.Vendor && v.Attributes == w.Attributes && bytes.Equal(v.Data, w.Data)
}

// fileName is the name of the variable's file in efivarfs.
func fileName(name string, vendor osmith.GUID) string { return name + "-" + vendor.String() }

// VariableStore is where EFI variables are kept: [EFIVarFS] is that of the running machine,
// [VariableImage] that of a virtual machine that is off, [MemoryVariables] is for planning and for
// tests. As a file system it has the form of efivarfs, so that [ReadVariables] and [ReadVariable]
// read it, and package signing/secureboot does.
//
// If firmware refuses a write, the error is a [*VariableError] with [ErrVariableRefused], and the
// variable is unchanged.
type VariableStore interface {
	fs.FS

	// Set writes a variable, attributes and content at once, so that a power cut leaves the old one
	// or the new one. Nothing is written if it has this very content and these attributes already:
	// the flash that firmware keeps variables in wears out.
	Set(v EFIVariable) error

	// Delete removes a variable. One that is not there is an [fs.ErrNotExist].
	Delete(name string, vendor osmith.GUID) error
}

// How firmware refuses a write. The installed system still boots: the loader is also the fallback
// of its ESP (EFI/BOOT).
var (
	// ErrVariableRefused: firmware, or the kernel, refused the write, and the variable is
	// unchanged. The two errors below are cases of it.
	ErrVariableRefused = errors.New("refused by the firmware")

	// ErrNoSpace: there is no room for the variable, or the kernel reserves the rest for firmware.
	ErrNoSpace = fmt.Errorf("%w: not enough room in the variable store", ErrVariableRefused)

	// ErrVariableReadOnly: all variables are read-only (on some machines by a setting of the
	// firmware, or because the file system is mounted read-only), or this one is, since it must be
	// written with a signature.
	ErrVariableReadOnly = fmt.Errorf("%w: read-only", ErrVariableRefused)
)

// VariableMismatchError says that a variable differs from its expected value, or from what was
// written. A missing variable is nil.
type VariableMismatchError struct {
	Want, Got *EFIVariable
}

func (e *VariableMismatchError) Error() string {
	text := func(v *EFIVariable) string {
		if v == nil {
			return "none"
		}
		return fmt.Sprintf("attributes 0x%x with the %d bytes %x", v.Attributes, len(v.Data), v.Data[:min(len(v.Data), 64)])
	}
	return fmt.Sprintf("got %s, want %s", text(e.Got), text(e.Want))
}

// ReadVariable reads a variable from a store, or from a directory as [ReadVariables] does. If the
// variable does not exist, the error is an [fs.ErrNotExist]; errors are of type [*VariableError].
func ReadVariable(efivars fs.FS, name string, vendor osmith.GUID) (v EFIVariable, err error) {
	defer prefix.Add("bootloader", &err)
	return readVariable(efivars, name, vendor)
}

func readVariable(efivars fs.FS, name string, vendor osmith.GUID) (EFIVariable, error) {
	b, err := efi.ReadVariableFile(efivars, name, vendor)
	switch {
	case err == nil && len(b) == 0:
		err = fmt.Errorf("%w: the file is empty: in efivarfs, the first write is not finished", fs.ErrNotExist)
	case err == nil && len(b) < 4:
		err = errNoAttributes(b)
	}
	if err != nil {
		return EFIVariable{}, &VariableError{name, err}
	}
	return EFIVariable{name, vendor, attributesOf(b), b[4:]}, nil
}

// errNoAttributes is about the file of a variable.
func errNoAttributes(b []byte) error {
	return fmt.Errorf("%d bytes, want at least 4 bytes of attributes", len(b))
}

func attributesOf(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// fileContent is what efivarfs has in the variable's file.
func fileContent(v EFIVariable) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, v.Attributes), v.Data...)
}

// isSet reports whether the store has this very variable. That it cannot be read is an error: what
// is not known is not written over.
func isSet(store fs.FS, v EFIVariable) (bool, error) {
	have, err := readVariable(store, v.Name, v.Vendor)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && have.equal(v), err
}

// checkVariable refuses what no store takes.
func checkVariable(v EFIVariable) error {
	bad := func(format string, args ...any) error { return &VariableError{v.Name, fmt.Errorf(format, args...)} }
	switch {
	case v.Name == "" || !utf8.ValidString(v.Name) || strings.ContainsAny(v.Name, "/\x00") || !fs.ValidPath(fileName(v.Name, v.Vendor)):
		return bad("name %q: want the name of a variable", v.Name)
	case v.Attributes&^VariableKept != 0:
		return bad("attributes 0x%x: want no others than non-volatile, boot service and runtime: what is written with a signature, signing/secureboot makes", v.Attributes)
	case v.Attributes&VariableBootService == 0:
		return bad("attributes 0x%x: want boot service among them, firmware takes no other", v.Attributes)
	case len(v.Data) == 0:
		return bad("no content: for firmware that is a deletion, for which there is Delete")
	case len(v.Data) > efi.MaxVariable-4:
		return bad("%d bytes, which no firmware stores", len(v.Data))
	}
	return nil
}

// MemoryVariables are variables in memory. The zero value is ready to use, and has none. It is not
// safe for several goroutines at once.
type MemoryVariables struct {
	// Quota is how many bytes names, in UTF-16 with their NUL, and contents may take together; 0:
	// unlimited. If a variable does not fit, the error is [ErrNoSpace].
	Quota int64

	// Writes counts the writes and deletions that were made. A variable that already has its value
	// is neither written nor counted.
	Writes int

	variables variableFiles
}

// CopyVariables copies all variables of a store or of a directory, to try changes on the copy. If a
// file cannot be read, CopyVariables fails.
func CopyVariables(efivars fs.FS) (m *MemoryVariables, err error) {
	defer prefix.Add("bootloader", &err)
	entries, err := fs.ReadDir(efivars, ".")
	if err != nil {
		return nil, err
	}
	m = &MemoryVariables{}
	for _, e := range entries {
		name, vendor, ok := splitFileName(e.Name())
		if !ok {
			continue
		}
		v, err := readVariable(efivars, name, vendor)
		if err != nil {
			return nil, err
		}
		m.variables = append(m.variables, v)
	}
	return m, nil
}

// splitFileName is the opposite of fileName.
func splitFileName(file string) (name string, vendor osmith.GUID, ok bool) {
	at := len(file) - len(osmith.GUID{}.String())
	if at < 2 || file[at-1] != '-' {
		return "", vendor, false
	}
	vendor, err := osmith.ParseGUID(file[at:])
	return file[:at-1], vendor, err == nil && fileName(file[:at-1], vendor) == file
}

// Open has the form of efivarfs.
func (m *MemoryVariables) Open(name string) (fs.File, error) { return m.variables.Open(name) }

// Set is documented with [VariableStore]. A write that changes the attributes of a variable is
// refused, as by firmware.
func (m *MemoryVariables) Set(v EFIVariable) (err error) {
	defer prefix.Add("bootloader", &err)
	if err := checkVariable(v); err != nil {
		return err
	}
	v.Data = bytes.Clone(v.Data)
	i := m.variables.index(v.Name, v.Vendor)
	size := variableSize(v)
	for j, o := range m.variables {
		if j != i {
			size += variableSize(o)
		}
	}
	same, err := isSet(m, v)
	switch {
	case err != nil || same:
		return err
	case i >= 0 && m.variables[i].Attributes != v.Attributes:
		return otherAttributes(v, m.variables[i].Attributes)
	case m.Quota > 0 && size > m.Quota:
		return &VariableError{v.Name, fmt.Errorf("%w: %d bytes in all, the limit is %d", ErrNoSpace, size, m.Quota)}
	case i >= 0:
		m.variables[i] = v
	default:
		m.variables = append(m.variables, v)
	}
	m.Writes++
	return nil
}

func otherAttributes(v EFIVariable, have uint32) error {
	return &VariableError{v.Name, fmt.Errorf("%w: a write cannot change its attributes from 0x%x to 0x%x", ErrVariableRefused, have, v.Attributes)}
}

// variableSize is what MemoryVariables counts.
func variableSize(v EFIVariable) int64 { return int64(2*efi.UTF16Len(v.Name) + 2 + len(v.Data)) }

// Delete is documented with [VariableStore].
func (m *MemoryVariables) Delete(name string, vendor osmith.GUID) (err error) {
	defer prefix.Add("bootloader", &err)
	i := m.variables.index(name, vendor)
	if i < 0 {
		return &VariableError{name, fs.ErrNotExist}
	}
	m.variables = slices.Delete(m.variables, i, i+1)
	m.Writes++
	return nil
}

// variableFiles are variables as a directory of files.
type variableFiles []EFIVariable

func (f variableFiles) index(name string, vendor osmith.GUID) int {
	return slices.IndexFunc(f, func(v EFIVariable) bool { return v.Name == name && v.Vendor == vendor })
}

func (f variableFiles) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		dir := &variableDir{}
		for _, v := range f {
			dir.rest = append(dir.rest, fs.FileInfoToDirEntry(infoOf(v)))
		}
		slices.SortFunc(dir.rest, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		return dir, nil
	}
	for _, v := range f {
		if fileName(v.Name, v.Vendor) == name {
			return &variableFile{bytes.NewReader(fileContent(v)), infoOf(v)}, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// A variableFile is an open file of efivarfs, a variableDir its directory.
type (
	variableFile struct {
		*bytes.Reader
		info variableInfo
	}
	variableDir  struct{ rest []fs.DirEntry }
	variableInfo struct {
		name string
		size int64
		mode fs.FileMode
	}
)

func infoOf(v EFIVariable) variableInfo {
	return variableInfo{fileName(v.Name, v.Vendor), int64(4 + len(v.Data)), 0o644}
}

func (f *variableFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *variableFile) Close() error               { return nil }

func (d *variableDir) Stat() (fs.FileInfo, error) {
	return variableInfo{".", 0, fs.ModeDir | 0o755}, nil
}
func (d *variableDir) Close() error { return nil }

func (d *variableDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: ".", Err: errors.New("is a directory")}
}

func (d *variableDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.rest)
	} else if len(d.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.rest))
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out, nil
}

func (i variableInfo) Name() string       { return i.name }
func (i variableInfo) Size() int64        { return i.size }
func (i variableInfo) Mode() fs.FileMode  { return i.mode }
func (i variableInfo) ModTime() time.Time { return time.Time{} }
func (i variableInfo) IsDir() bool        { return i.mode.IsDir() }
func (i variableInfo) Sys() any           { return nil }
